//! What captures say of the Windows in a tree, from directories and volumes, compared with what wimlib says of the same.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use crate::common::{capture, open, run};
use crate::windows::{Builder, options, volume};
use gravure_hive::Data;
use gravure_imaging::{
    AppendOptions, CaptureForm, CaptureOptions, Compact, EditOptions, ImageFile, Overlay, ScanOptions,
    TreeChange, VolumeApplyOptions, Which, append_directory, apply_to_volume, describe, edit,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{hive, oracle, shared_dir, skipped};

use crate::disk::Disk;

fn software() -> Vec<u8> {
    let current = "Microsoft\\Windows NT\\CurrentVersion";
    hive(&[
        (current, "CurrentMajorVersionNumber", Data::dword(10)),
        (current, "CurrentMinorVersionNumber", Data::dword(0)),
        (current, "CurrentVersion", Data::sz("6.3")),
        (current, "CurrentBuild", Data::sz("22631")),
        (current, "ProductName", Data::sz("Windows 10 Pro")),
        (current, "EditionID", Data::sz("Professional")),
        (current, "InstallationType", Data::sz("Client")),
        (
            "Microsoft\\Windows\\CurrentVersion\\Setup\\State",
            "ImageState",
            Data::sz("IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"),
        ),
    ])
}

fn system() -> Vec<u8> {
    let control = |key: &str| format!("ControlSet001\\Control\\{key}");
    let (windows, products) = (control("Windows"), control("ProductOptions"));
    let computer = control("Class\\{4d36e966-e325-11ce-bfc1-08002be10318}\\0000");
    let (german, french) = (control("MUI\\UILanguages\\de-DE"), control("MUI\\UILanguages\\fr-FR"));
    hive(&[
        ("Select", "Default", Data::dword(1)),
        (&computer, "MatchingDeviceId", Data::sz("acpiapic")),
        (&windows, "CSDBuildNumber", Data::dword(1742)),
        (&windows, "CSDVersion", Data::dword(0x200)),
        (&products, "ProductType", Data::sz("WinNT")),
        (&products, "ProductSuite", Data::multi_sz(["Terminal Server"])),
        (&german, "LCID", Data::dword(0x407)),
        (&french, "LCID", Data::dword(0x40c)),
        (&control("Nls\\Language"), "InstallLanguage", Data::sz("0407")),
    ])
}

/// What starts as a program for `machine` does.
fn program(machine: u16) -> Vec<u8> {
    let mut bytes = vec![0; 40_000];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
    bytes
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("Windows/System32/kernel32.dll", program(0x8664)),
        ("Windows/System32/config/SOFTWARE", software()),
        ("Windows/System32/config/SYSTEM", system()),
        ("Windows/System32/text.dll", b"a line that is said again and again, ".repeat(9000)),
    ]
}

fn directory(dir: &Path, files: &[(&str, Vec<u8>)]) -> std::path::PathBuf {
    let source = dir.join("source");
    for (path, content) in files {
        let path = source.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    source
}

/// The lines of the first image that say what it holds.
const FIELDS: [(&str, &str); 22] = [
    ("WINDOWS/ARCH", "9"),
    ("WINDOWS/PRODUCTNAME", "Windows 10 Pro"),
    ("WINDOWS/EDITIONID", "Professional"),
    ("WINDOWS/INSTALLATIONTYPE", "Client"),
    ("WINDOWS/SERVICINGDATA/IMAGESTATE", "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"),
    ("WINDOWS/HAL", "acpiapic"),
    ("WINDOWS/PRODUCTTYPE", "WinNT"),
    ("WINDOWS/PRODUCTSUITE", "Terminal Server"),
    ("WINDOWS/LANGUAGES/LANGUAGE", "de-DE"),
    ("WINDOWS/LANGUAGES/LANGUAGE[2]", "fr-FR"),
    ("WINDOWS/LANGUAGES/DEFAULT", "de-DE"),
    ("WINDOWS/VERSION/MAJOR", "10"),
    ("WINDOWS/VERSION/MINOR", "0"),
    ("WINDOWS/VERSION/BUILD", "22631"),
    ("WINDOWS/VERSION/SPBUILD", "1742"),
    ("WINDOWS/VERSION/SPLEVEL", "2"),
    ("WINDOWS/SYSTEMROOT", "WINDOWS"),
    ("FLAGS", "Professional"),
    ("DISPLAYNAME", "Windows 10 Pro"),
    ("DISPLAYDESCRIPTION", "Windows 10 Pro"),
    ("NAME", "Some Windows"),
    ("DESCRIPTION", "Somebody's"),
];

fn said(image: &Path, number: usize) -> Vec<(&'static str, String)> {
    let file = ImageFile::open_path(image).unwrap();
    let info = file.wim().info().image(number - 1).unwrap();
    FIELDS.iter().map(|(path, _)| (*path, info.text(path).unwrap_or_default())).collect()
}

fn expected() -> Vec<(&'static str, String)> {
    FIELDS.iter().map(|(path, value)| (*path, (*value).to_owned())).collect()
}

fn named() -> CaptureOptions {
    CaptureOptions {
        name: "Some Windows".to_owned(),
        description: Some("Somebody's".to_owned()),
        level: gravure_imaging::Level::Fast,
        ..CaptureOptions::default()
    }
}

#[test]
fn captures_say_what_windows_a_directory_or_volume_holds() {
    let dir = tempfile::tempdir().unwrap();
    let source = directory(dir.path(), &files());
    let image = dir.path().join("x.wim");
    let solid = CaptureForm::Solid(gravure_imaging::Compression::LZX_32K);
    for form in [CaptureForm::Normal, solid, CaptureForm::Pipable] {
        let report = capture(&source, &image, &CaptureOptions { form, ..named() });
        assert_eq!(report.warnings, Vec::<String>::new());
        assert_eq!(said(&image, 1), expected(), "{form:?}");
    }

    // The names of a volume in another case.
    let mut b = Builder::new(3);
    let root = b.tree.root();
    let windows = b.directory(root, "WINDOWS");
    let system32 = b.directory(windows, "system32");
    let config = b.directory(system32, "Config");
    b.file(system32, "KERNEL32.DLL", &program(0x8664));
    b.file(config, "Software", &software());
    b.file(config, "system", &system());
    let path = dir.path().join("source.ntfs");
    std::fs::write(&path, volume(&b.tree, &options(16 << 20)).0).unwrap();
    capture(&path, &image, &named());
    assert_eq!(said(&image, 1), expected());

    // What is said of an image already is not said otherwise.
    let properties = vec![
        ("WINDOWS/VERSION/BUILD".to_owned(), "7".to_owned()),
        ("FLAGS".to_owned(), "Core".to_owned()),
        ("DISPLAYNAME".to_owned(), "Mine".to_owned()),
    ];
    capture(&source, &image, &CaptureOptions { properties, ..named() });
    let mut with_own = expected();
    for (path, value) in &mut with_own {
        match *path {
            "WINDOWS/VERSION/BUILD" => *value = "7".to_owned(),
            "FLAGS" => *value = "Core".to_owned(),
            "DISPLAYNAME" => *value = "Mine".to_owned(),
            _ => {}
        }
    }
    assert_eq!(said(&image, 1), with_own);
}

#[test]
fn appended_and_changed_images_say_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let (ctl, image) = (Ctl::default(), dir.path().join("x.wim"));
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    capture(&empty, &image, &CaptureOptions { name: "first".to_owned(), ..CaptureOptions::default() });
    let file = ImageFile::open_path(&image).unwrap();
    assert!(file.wim().info().image(0).unwrap().element().child("WINDOWS").is_none());
    drop(file);
    let source = directory(dir.path(), &files());
    let options = AppendOptions { capture: named(), ..AppendOptions::default() };
    append_directory(&source, &image, &options, &ctl, &Silent).unwrap();
    assert_eq!(said(&image, 2), expected());

    let add = TreeChange::Add {
        source: source.join("Windows"),
        to: "Windows".to_owned(),
        scan: ScanOptions::default(),
        overlay: Overlay::Replace,
    };
    let options = EditOptions { tree: vec![add], ..EditOptions::default() };
    edit(&image, &Which::Number(1), &options, &ctl, &Silent).unwrap();
    let mut changed = expected();
    changed[20].1 = "first".to_owned();
    changed[21].1 = String::new();
    assert_eq!(said(&image, 1), changed);
}

#[test]
fn what_is_damaged_or_missing_is_left_unsaid_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("x.wim");
    let mut files = files();
    files.remove(0);
    files[0].1.truncate(5000);
    let source = directory(dir.path(), &files);
    let report = capture(&source, &image, &named());
    assert_eq!(report.skipped, 0);
    assert!(
        report.warnings.len() == 1 && report.warnings[0].contains("Windows/System32/config/SOFTWARE"),
        "{report:?}"
    );
    let said: Vec<_> = said(&image, 1).into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let says = |path: &str| said.iter().any(|(found, _)| *found == path);
    assert!(
        says("WINDOWS/PRODUCTTYPE") && !says("WINDOWS/ARCH") && !says("WINDOWS/VERSION/MAJOR"),
        "{said:?}"
    );
}

#[test]
fn a_captured_windows_is_applied_compressed_and_described() {
    let dir = tempfile::tempdir().unwrap();
    let source = directory(dir.path(), &files());
    let path = dir.path().join("x.wim");
    capture(&source, &path, &named());
    let disk = Disk::used(32 << 20);
    let options = VolumeApplyOptions {
        compact: Compact::Auto,
        existing: gravure_imaging::ExistingData::Destroy,
        ..VolumeApplyOptions::default()
    };
    let report = apply_to_volume(&open(&path), &disk, &options, &Ctl::default(), &Silent).unwrap();
    assert_eq!((report.compact.files > 0, report.compact.why_not), (true, None));
    let descriptor = describe(&path, &Ctl::default(), &Silent).unwrap();
    let windows = descriptor.images[0].windows.clone().unwrap();
    assert_eq!(
        (windows.version.as_str(), windows.arch.as_str(), windows.server),
        ("10.0.22631", "amd64", false)
    );
}

/// The lines of `wimlib-imagex info` about Windows.
fn lines(image: &Path) -> Option<Vec<String>> {
    let text = run(oracle("wimlib-imagex")?.arg("info").arg(image).arg("1"));
    let others = ["Directory Count", "File Count", "Total Bytes", "Hard Link", "Creation", "Last Mod"];
    let lines =
        text.lines().filter(|line| line.contains(':') && !others.iter().any(|other| line.starts_with(other)));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    Some(lines)
}

#[test]
fn wimlib_says_the_same_of_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut cases = vec![files(), files()[1..].to_vec(), files()[..1].to_vec(), files()[..2].to_vec()];
    match shared_dir().map(|shared| shared.join("corpus/hives/regipy/SYSTEM_WIN_10_1709.xz")) {
        Some(path) if path.exists() => {
            // A hive of a used system.
            let output = std::process::Command::new("xz").args(["-dc"]).arg(&path).output().unwrap();
            let mut real = files();
            real[2].1 = output.stdout;
            cases.push(real);
        }
        _ => skipped("no corpus of hives"),
    }
    for (number, case) in cases.iter().enumerate() {
        let place = at(&format!("case {number}"));
        let source = directory(&place, case);
        let (ours, theirs) = (place.join("ours.wim"), place.join("theirs.wim"));
        capture(&source, &ours, &CaptureOptions { name: "x".to_owned(), description: None, ..named() });
        let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
        run(wimlib.arg("capture").arg(&source).arg(&theirs).args(["x", "--compress=none"]));
        assert_eq!(lines(&ours), lines(&theirs), "case {number}");
    }
}
