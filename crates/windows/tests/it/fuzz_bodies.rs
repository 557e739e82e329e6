//! The fuzz bodies as plain tests: seeds cut at every byte, damaged, and random bytes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use gravure_testkit::Random;
use gravure_testkit::signing::{Authority, program};
use gravure_windows::drivers::VendorCatalogue;
use gravure_windows::layers::Layer;
use gravure_windows::{WindowsImage, fuzz};

use crate::support::{NOW, hive, nothing_outside, software_values, system_values, tree, windows};

const ANSWERS: &str = r#"<?xml version="1.0"?><unattend xmlns="urn:schemas-microsoft-com:unattend"><!-- c -->
<settings pass="specialize"><component name="Microsoft-Windows-Deployment" processorArchitecture="amd64"><RunSynchronous>
<RunSynchronousCommand><Order>1</Order><Path>a &amp; b</Path></RunSynchronousCommand></RunSynchronous></component></settings></unattend>"#;

const LAYER: &str = "[layer]\nid='x'\nversion=1\n[[file]]\nto='C:\\x'\ntext='${A}$$'\n[[registry]]\nkey='HKLM\\SOFTWARE\\x'\n\
                     value='v'\ntype='binary'\ndata='00ff'\n[[ini]]\nfile='x'\nsection='s'\naction='delete'\n";

fn run(seed: &[u8], body: fn(&[u8]), rounds: u64) {
    for len in (0..seed.len()).step_by(1 + seed.len() / 150) {
        body(&seed[..len]);
    }
    body(seed);
    let mut random = Random::new(gravure_testkit::seed());
    for _ in 0..rounds {
        let mut bytes = seed.to_vec();
        for _ in 0..=random.below(6) {
            let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            match random.below(3) {
                0 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
            }
        }
        body(&bytes);
    }
}

#[test]
fn answers_settings_and_layers() {
    run(ANSWERS.as_bytes(), fuzz::answer, 300);
    run(LAYER.as_bytes(), fuzz::toml, 300);
}

#[test]
fn catalogues_programs_and_keys() {
    let signer = Authority::new("Root").signer("Signer");
    run(&signer.catalog(&[b"a"]), fuzz::signature, 40);
    run(&signer.sign_program(&program(b"body")), fuzz::signature, 40);
    let certificate = gravure_testkit::signing::certificate_named("Windows UEFI CA 2023");
    let mut list =
        vec![0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
    for word in [28 + 16 + certificate.len(), 0, 16 + certificate.len()] {
        list.extend(u32::try_from(word).unwrap().to_le_bytes());
    }
    list.extend([0; 16]);
    list.extend(certificate);
    run(&list, fuzz::secure_boot, 300);
}

/// What no seed of ours is: the vendors' own files are tens of megabytes, their shapes are these.
const VENDORS: [&str; 4] = [
    r#"<DriverPackManifest baseLocation="d.com"><DriverPackage type="win" path="a.cab" releaseID="1"><Name><Display>x</Display></Name>
<SupportedSystems><Brand><Model systemID="0A1B" name="Y"/></Brand></SupportedSystems><SupportedOperatingSystems><OperatingSystem
osCode="Windows11" osArch="x64"/></SupportedOperatingSystems><Cryptography><Hash algorithm="SHA256">00</Hash></Cryptography></DriverPackage>
</DriverPackManifest>"#,
    r#"<NewDataSet><HPClientDriverPackCatalog><SoftPaqList><SoftPaq><Id>sp1</Id><Url>u</Url><SHA256>00</SHA256></SoftPaq></SoftPaqList>
<ProductOSDriverPackList><ProductOSDriverPack><SystemId>83B2,83B3</SystemId><SystemName>X</SystemName><OSName>Windows 11 64-bit, 24H2</OSName>
<SoftPaqId>sp1</SoftPaqId></ProductOSDriverPack></ProductOSDriverPackList></HPClientDriverPackCatalog></NewDataSet>"#,
    r#"<ModelList><Model name="T"><Types><Type>20XX</Type></Types><SCCM os="win11" version="24H2" crc="00" md5="00">u</SCCM></Model></ModelList>"#,
    r#"[{"ReleaseDate":"2024-01-01","Model":"Surface Pro 9","SystemId":"Surface_Pro_9","Url":"u","OperatingSystem":"Windows 11","HashMD5":"00"}]"#,
];

#[test]
fn archives() {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in FILES {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, content).unwrap();
    }
    run(&zip.finish().unwrap().into_inner(), fuzz::archive, 300);
    for compression in [cab::CompressionType::None, cab::CompressionType::MsZip] {
        let mut builder = cab::CabinetBuilder::new();
        for (name, _) in FILES {
            builder.add_folder(compression).add_file(name);
        }
        builder.add_folder(compression).add_file("b.sys").set_is_exec(true);
        let mut writer = builder.build(std::io::Cursor::new(Vec::new())).unwrap();
        while let Some(mut file) = writer.next_file().unwrap() {
            std::io::Write::write_all(&mut file, &[b'x'; 40_000]).unwrap();
        }
        let cabinet = writer.finish().unwrap().into_inner();
        run(&cabinet, fuzz::archive, 300);
        // The tables at its start are what leads anywhere.
        let mut random = Random::new(gravure_testkit::seed());
        for _ in 0..2000 {
            let mut bytes = cabinet.clone();
            for _ in 0..=random.below(3) {
                let at = usize::try_from(random.below(200)).unwrap();
                bytes[at] = u8::try_from(random.below(256)).unwrap();
            }
            fuzz::archive(&bytes);
        }
    }
}

const FILES: [(&str, &[u8]); 2] = [("a.inf", b"[Version]\nSignature=x"), ("x64\\a.sys", b"MZ")];

#[test]
fn vendors_catalogues() {
    for seed in VENDORS {
        VendorCatalogue::parse(seed.as_bytes(), "seed").unwrap();
        run(seed.as_bytes(), fuzz::vendor, 300);
    }
}

/// A shortcut and a record as we make them, from an image that a layer changed.
#[test]
fn shortcuts_and_records() {
    let layer = "[layer]\nid='x'\nversion=1\n[[shortcut]]\npath='C:\\a.lnk'\ntarget='C:\\School\\start.exe'\narguments='--x'\n\
                 description='d'\nicon='C:\\i.dll'\n[[file]]\nto='Windows\\INF\\OEM2.inf'\naction='delete'\n[[registry]]\n\
                 key='HKLM\\SYSTEM\\Setup'\nvalue='SetupType'\naction='delete'\n";
    let mut changed = windows();
    let mut image = WindowsImage::open(&mut changed, &nothing_outside, NOW).unwrap();
    let system = image.system().unwrap();
    let layer = Layer::parse(layer, std::path::Path::new("/"), &std::collections::BTreeMap::new()).unwrap();
    layer.apply(&mut image, &system).unwrap();
    let shortcut = image.read_file("a.lnk", 1 << 20).unwrap().unwrap();
    image.finish("layer").unwrap();
    run(&shortcut, fuzz::shortcut, 2000);

    let image = WindowsImage::open(&mut changed, &nothing_outside, NOW).unwrap();
    let path = "Windows\\Gravure\\changes\\0001.json";
    let record = image.read_file(path, 1 << 20).unwrap().unwrap();
    run(&record, fuzz::record, 1000);
    // And undone, whatever it says.
    let mut random = Random::new(gravure_testkit::seed());
    for _ in 0..60 {
        let mut bytes = record.clone();
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        bytes[at] = b"\\0A9\" "[usize::try_from(random.below(6)).unwrap()];
        let mut damaged = tree(&[
            ("Windows\\System32\\config\\SYSTEM", hive(&system_values())),
            ("Windows\\System32\\config\\SOFTWARE", hive(&software_values())),
            (path, bytes),
        ]);
        let mut image = WindowsImage::open(&mut damaged, &nothing_outside, NOW).unwrap();
        let _ = image.undo_last();
    }
}
