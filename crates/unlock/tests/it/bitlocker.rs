//! Images that Windows made, with what they hold when opened: those of cryptsetup's own tests (`tests/bitlk-images.tar.xz` in its sources,
//! unpacked), which are not ours to give on. `GRAVURE_BITLOCKER_IMAGES` says where they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_io::{FileAt, ReadAt};
use gravure_testkit::skipped;
use gravure_unlock::{ErrorKind, Key, Limits, unlock};
use sha2::{Digest, Sha256};

/// Names and values of each section of `images.conf`.
fn sections(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut out: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            out.push((name.to_owned(), BTreeMap::new()));
        } else if let (Some((name, value)), Some((_, section))) = (line.split_once('='), out.last_mut()) {
            section.insert(name.to_owned(), value.to_owned());
        }
    }
    out
}

/// Whether it holds what is said; of images whose makers cannot open them nothing is, but that there is a file system.
fn is_right(source: &dyn ReadAt, expected: &str) -> bool {
    match expected {
        "" => source.read_vec_at(3, 8).is_ok_and(|name| name == b"NTFS    "),
        expected => hash(source) == expected,
    }
}

fn hash(source: &dyn ReadAt) -> String {
    let mut hasher = Sha256::new();
    let mut offset = 0;
    while offset < source.size() {
        let len = (source.size() - offset).min(1 << 20);
        hasher.update(source.read_vec_at(offset, usize::try_from(len).unwrap()).unwrap());
        offset += len;
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open(path: &Path, key: &[u8]) -> Result<Arc<dyn ReadAt>, gravure_unlock::Error> {
    unlock(Arc::new(FileAt::open(path).unwrap()), &Key::new(key), &Limits::default())
}

/// One that is made here, so that this is tested everywhere; what reads it was tried on Windows' own.
#[test]
fn a_volume_that_is_made_as_windows_makes_it() {
    let mut plain = crate::content(1 << 20);
    plain.resize(2 << 20, 0);
    plain.extend(crate::content(12_288));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("locked");
    std::fs::write(&path, gravure_testkit::bitlocker::locked(&plain, "Geheim 1")).unwrap();
    let found = open(&path, b"Geheim 1").unwrap();
    assert!(crate::read_odd(&*found) == plain);
    assert_eq!(open(&path, b"Geheim 2").err().unwrap().kind(), ErrorKind::WrongKey);
    let Some(mut cryptsetup) = gravure_testkit::oracle("cryptsetup") else { return };
    let key = dir.path().join("key");
    std::fs::write(&key, "Geheim 1").unwrap();
    let said = cryptsetup
        .args(["bitlkDump", "--batch-mode", "--dump-volume-key", "--key-file"])
        .arg(&key)
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(text.contains("xts-plain64") && text.contains("01 08 0f 16 1d 24"), "{text}");
}

#[test]
fn volumes_that_windows_encrypted() {
    let Some(dir) = std::env::var_os("GRAVURE_BITLOCKER_IMAGES").map(PathBuf::from) else {
        return skipped("no images of BitLocker: GRAVURE_BITLOCKER_IMAGES is not set");
    };
    let text = std::fs::read_to_string(dir.join("images.conf")).unwrap();
    let mut opened = 0;
    for (name, facts) in sections(&text) {
        let path = dir.join(format!("{name}.img"));
        let Some(expected) = facts.get("SHA256SUM") else { continue };
        let texts = ["PW", "RP", "RP2"].iter().filter_map(|name| facts.get(*name));
        let texts = texts.filter(|key| !key.is_empty()).map(|key| key.as_bytes().to_vec());
        let files = facts.get("SK_VMK_GUID").into_iter();
        let files = files.filter_map(|id| std::fs::read(dir.join(format!("{}.BEK", id.to_uppercase()))).ok());
        // While protection is suspended, and at the beginning of a conversion, the key lies open.
        let is_open = match open(&path, b"another") {
            Ok(found) => is_right(&*found, expected),
            // Nobody says what is in it, and it says why it stays closed.
            Err(error) if error.kind() == ErrorKind::Unsupported && expected.is_empty() => continue,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WrongKey, "{name}: {error}");
                false
            }
        };
        let keys: Vec<Vec<u8>> = texts.chain(files).collect();
        assert!(is_open || !keys.is_empty(), "{name}");
        for key in keys {
            let found = open(&path, &key).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(is_right(&*found, expected), "{name} with {}", String::from_utf8_lossy(&key));
            opened += 1;
        }
    }
    assert!(opened > 20, "{opened}");
}
