//! The fuzz bodies as plain tests: seeds cut at every byte, damaged, and random bytes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use gravure_testkit::Random;
use gravure_testkit::signing::{Authority, program};
use gravure_windows::fuzz;

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
