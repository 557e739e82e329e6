//! LUKS 1 as QEMU writes it, LUKS 2 as cryptsetup does.

use std::path::{Path, PathBuf};

use gravure_testkit::oracle;
use gravure_unlock::ErrorKind;

use super::{content, open, read_odd};

const BYTES: usize = 3 << 20;
const PASSPHRASE: &str = "opens 1t";

/// A LUKS 1 volume that QEMU made; `None` where it is not installed.
fn luks1(dir: &Path, options: &str) -> Option<PathBuf> {
    let mut command = oracle("qemu-img")?;
    let (plain, locked) = (dir.join("plain"), dir.join("locked"));
    std::fs::write(&plain, content(BYTES)).unwrap();
    let secret = format!("secret,id=s,data={PASSPHRASE}");
    let options = format!("key-secret=s,iter-time=10,{options}");
    command.args(["convert", "-f", "raw", "-O", "luks", "--object", &secret, "-o", &options]);
    let output = gravure_testkit::patient_output(command.arg(&plain).arg(&locked));
    assert!(output.status.success(), "{options}: {}", String::from_utf8_lossy(&output.stderr));
    Some(locked)
}

#[test]
fn luks_1_in_every_way_that_qemu_writes() {
    for options in [
        "cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha256",
        "cipher-alg=aes-128,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha1",
        "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha512",
        "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain,hash-alg=sha256",
        "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain64,hash-alg=sha384",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = luks1(dir.path(), options) else { return };
        let opened = open(&path, PASSPHRASE).unwrap();
        assert!(read_odd(&*opened)[..BYTES] == content(BYTES), "{options}");
        assert!(opened.read_vec_at(opened.size() - 1, 2).is_err());
        let error = open(&path, "another").map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKey, "{error}");
    }
}

#[test]
fn luks_1_that_needs_more_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let options = "cipher-alg=serpent-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha256";
    let Some(path) = luks1(dir.path(), options) else { return };
    let error = open(&path, PASSPHRASE).map(drop).unwrap_err();
    assert!(error.to_string().contains("serpent-xts-plain64"), "{error}");
}

/// A LUKS 2 volume that cryptsetup made of plain content, offline; `None` where it cannot.
fn luks2(dir: &Path, options: &[&str]) -> Option<PathBuf> {
    let mut command = oracle("cryptsetup")?;
    let path = dir.join("volume");
    let mut bytes = content(BYTES);
    // The header is put in front, so that the end is lost.
    bytes.resize(BYTES + (32 << 20), 0);
    std::fs::write(&path, bytes).unwrap();
    let key = dir.join("key");
    std::fs::write(&key, PASSPHRASE).unwrap();
    command.args(["reencrypt", "--encrypt", "--type", "luks2", "--reduce-device-size", "32M", "-q"]);
    command.args(options).arg("--key-file").arg(&key).arg(&path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(path)
}

#[test]
fn luks_2_with_every_kind_of_key_derivation() {
    let argon = ["--pbkdf-memory", "65536", "--pbkdf-parallel", "2", "--pbkdf-force-iterations", "4"];
    for options in [
        [&["--pbkdf", "argon2id"][..], &argon].concat(),
        [&["--pbkdf", "argon2i", "--sector-size", "4096"][..], &argon].concat(),
        vec![
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            "--hash",
            "sha512",
            "--sector-size",
            "512",
        ],
        vec![
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            "--cipher",
            "aes-cbc-essiv:sha256",
            "-s",
            "256",
        ],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = luks2(dir.path(), &options) else { return };
        let opened = open(&path, PASSPHRASE).unwrap();
        assert!(read_odd(&*opened)[..BYTES] == content(BYTES), "{options:?}");
        assert_eq!(open(&path, "another").map(drop).unwrap_err().kind(), ErrorKind::WrongKey);

        // A damaged header is read from its copy; with both damaged it is told.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[5000] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(open(&path, PASSPHRASE).is_ok());
        bytes[0x4000 + 5000] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = open(&path, PASSPHRASE).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}
