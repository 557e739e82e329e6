//! sbverify, objcopy, openssl and efitools on what this crate makes.

use std::path::Path;
use std::process::Command;

use gravure_efi::keys::{APPEND, ATTRIBUTES, Change, EfiTime, SECURITY_DATABASE, certificates, list};
use gravure_efi::{Part, Program, assemble, sign};
use gravure_nttypes::Guid;
use gravure_testkit::oracle;

use crate::key_holder::{OpenSsl, run};

/// systemd's stub, of Debian's package systemd-boot-efi.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

#[test]
fn a_unified_image_is_what_objcopy_and_sbverify_take_it_for() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(key), Some(mut verify), Some(mut objcopy)) =
        (OpenSsl::new(dir.path()), oracle("sbverify"), oracle("objcopy"))
    else {
        return;
    };
    let Ok(stub) = std::fs::read(STUB) else { return gravure_testkit::skipped("no systemd-boot-efi") };
    let initrd: Vec<u8> = (0..100_003u32).map(|n| n.to_le_bytes()[0]).collect();
    let parts = [
        Part { name: ".osrel", content: b"NAME=Gravure\n" },
        Part { name: ".cmdline", content: b"console=ttyS0 quiet" },
        Part { name: ".initrd", content: &initrd },
        Part { name: ".linux", content: &stub },
    ];
    let made = assemble(&stub, &parts).unwrap();
    let program = Program::parse(&made).unwrap();
    for part in &parts {
        assert_eq!(program.section(part.name), Some(part.content), "{}", part.name);
    }
    // Loaded one behind the other, none over another.
    let mut end = 0;
    for section in program.sections() {
        assert!(section.address >= end, "{section:?}");
        end = section.address + section.size;
    }
    let image = dir.path().join("uki.efi");
    std::fs::write(&image, sign(&made, &key).unwrap()).unwrap();
    let out = dir.path().join("initrd");
    let dump = format!(".initrd={}", out.display());
    run(objcopy.args(["-O", "binary", "--dump-section", &dump]).arg(&image).arg(dir.path().join("rest")));
    assert!(std::fs::read(&out).unwrap()[..initrd.len()] == initrd);
    let said = run(verify.arg("--cert").arg(dir.path().join("cert.pem")).arg(&image));
    assert!(said.contains("Signature verification OK"), "{said}");
    // One bit of the command line, and it is not what was signed.
    let mut changed = std::fs::read(&image).unwrap();
    let at = changed.windows(7).position(|window| window == b"console").unwrap();
    changed[at] ^= 1;
    std::fs::write(&image, changed).unwrap();
    let said =
        Command::new("sbverify").arg("--cert").arg(dir.path().join("cert.pem")).arg(&image).output().unwrap();
    assert!(!said.status.success(), "{said:?}");
}

#[test]
fn a_signature_of_sbsign_covers_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(key), Some(mut sbsign)) = (OpenSsl::new(dir.path()), oracle("sbsign")) else { return };
    let Ok(stub) = std::fs::read(STUB) else { return gravure_testkit::skipped("no systemd-boot-efi") };
    let mut plain = stub;
    plain.resize(plain.len().next_multiple_of(8), 0);
    std::fs::write(dir.path().join("plain.efi"), &plain).unwrap();
    run(sbsign
        .args(["--key", "key.pem", "--cert", "cert.pem", "--output", "theirs.efi", "plain.efi"])
        .current_dir(dir.path()));
    let theirs = std::fs::read(dir.path().join("theirs.efi")).unwrap();
    let digest = Program::parse(&theirs).unwrap().digest().unwrap();
    assert_eq!(Program::parse(&plain).unwrap().digest().unwrap(), digest);
    let ours = sign(&plain, &key).unwrap();
    assert_eq!(Program::parse(&ours).unwrap().digest().unwrap(), digest);
    assert!(theirs.windows(32).any(|window| window == digest), "sbsign signed another hash");
}

#[test]
fn openssl_and_efitools_take_a_signed_change_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(key), Some(mut to_certificates)) = (OpenSsl::new(dir.path()), oracle("sig-list-to-certs"))
    else {
        return;
    };
    let owner = Guid([7; 16]);
    let certificate = std::fs::read(dir.path().join("cert.der")).unwrap();
    let lists = list(owner, &certificate);
    assert_eq!(certificates(&lists).unwrap(), [&certificate[..]]);
    std::fs::write(dir.path().join("db.esl"), &lists).unwrap();
    run(to_certificates.args(["db.esl", "out"]).current_dir(dir.path()));
    assert!(std::fs::read(dir.path().join("out-0.der")).unwrap() == certificate);
    let change = Change {
        name: "db",
        vendor: SECURITY_DATABASE,
        attributes: ATTRIBUTES | APPEND,
        time: EfiTime { year: 2026, rest: [11, 28, 20, 30, 0] },
        lists: &lists,
    };
    let message = gravure_efi::keys::Change::message(&change, &key).unwrap();
    assert!(message.ends_with(&lists));
    let len = u32::from_le_bytes(message[16..20].try_into().unwrap()) as usize;
    let signature = &message[16 + 24..16 + len];
    // openssl wants what firmware does not: the name of what follows.
    let whole = [&wrapped_header(signature.len())[..], signature].concat();
    check(dir.path(), &whole, &change.signed_bytes(), true);
    check(dir.path(), &whole, b"something else", false);
}

/// `ContentInfo` around signed data of `len` bytes, which has more than 255 and less than 65,000.
fn wrapped_header(len: usize) -> Vec<u8> {
    let long = |tag: u8, len: usize| [&[tag, 0x82][..], &u16::try_from(len).unwrap().to_be_bytes()].concat();
    let oid = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
    [long(0x30, len + 4 + oid.len()), oid.to_vec(), long(0xa0, len)].concat()
}

fn check(dir: &Path, message: &[u8], content: &[u8], good: bool) {
    std::fs::write(dir.join("message"), message).unwrap();
    std::fs::write(dir.join("content"), content).unwrap();
    let args = ["smime", "-verify", "-binary", "-inform", "DER", "-in", "message", "-content", "content"];
    let output =
        Command::new("openssl").args(args).args(["-noverify", "-out", "/dev/null"]).current_dir(dir).output();
    let output = output.unwrap();
    assert_eq!(output.status.success(), good, "{output:?}");
}
