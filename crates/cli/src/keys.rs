//! Key files of encrypted volumes (LUKS, BitLocker): passphrase, recovery password, key file.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use gravure_imaging::ErrorKind;
use gravure_model::Secret;
use gravure_unlock::Key;

use crate::exit::Failure;

/// Longest key file; those of BitLocker have 156 bytes, `cryptsetup` takes 8 MiB at most.
const MAX_KEY_FILE_BYTES: u64 = 8 << 20;
/// Longest one that goes to a server, as that has it.
const MAX_SENT_BYTES: u64 = 64 << 10;

/// Files and pipes: what keeps passwords for people writes into those.
fn read(path: &Path, most: u64) -> Result<Secret, Failure> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    let len = read.map_err(|error| Failure::io("read", path, &error))?;
    match len as u64 {
        0 => Err(Failure::new(ErrorKind::Usage, format!("{}: the key file is empty", path.display()))),
        len if len > most => {
            let why = format!("{}: expected a key file of at most {most} bytes, found more", path.display());
            Err(Failure::new(ErrorKind::Usage, why))
        }
        _ => Ok(Secret::of_bytes(&bytes)),
    }
}

/// What key files hold, for volumes that are opened here.
pub(crate) fn keys(files: &[PathBuf]) -> Result<Vec<Key>, Failure> {
    let mut keys = Vec::new();
    for path in files {
        let content = read(path, MAX_KEY_FILE_BYTES)?;
        keys.extend(Key::of_file(&content.bytes().unwrap_or_default()));
    }
    Ok(keys)
}

/// The same, for a machine that opens them.
pub(crate) fn sent(files: &[PathBuf]) -> Result<Vec<Secret>, Failure> {
    files.iter().map(|path| read(path, MAX_SENT_BYTES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_taken_as_they_are_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let (line, bytes) = (file("line", b"1234\n"), file("bytes", &[0, 255]));
        let (empty, long) = (file("empty", b""), file("long", &[1; (64 << 10) + 1]));
        let keys_of = |files: &[PathBuf]| keys(files).map(|keys| keys.len());
        assert_eq!(
            keys_of(&[line.clone(), bytes.clone(), long.clone()]).unwrap(),
            4,
            "a line is tried both ways"
        );
        let contents: Vec<_> =
            sent(&[line, bytes]).unwrap().iter().map(|key| key.bytes().unwrap().to_vec()).collect();
        assert_eq!(contents, [b"1234\n".to_vec(), vec![0, 255]]);
        for (path, expected) in [
            (empty, "the key file is empty"),
            (long, "expected a key file of at most 65536 bytes"),
            (dir.path().join("none"), "No such file"),
        ] {
            let failure = sent(std::slice::from_ref(&path)).unwrap_err();
            assert!(failure.message.contains(expected), "{}", failure.message);
        }
    }
}
