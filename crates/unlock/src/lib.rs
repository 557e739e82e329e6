//! Encrypted volumes read with their key: LUKS 1 and 2, BitLocker. Nothing is ever written, and neither root nor a kernel driver is
//! needed: what is inside is one more thing to read from.
//!
//! Derived keys are wiped from memory when what they open is dropped. Headers come from outside: sizes, counts and the work they ask
//! for are bounded ([`Limits`]).
#![forbid(unsafe_code)]

mod bitlocker;
mod cipher;
mod elephant;
mod error;
pub mod fuzz;
mod hash;
mod kdf;
mod luks;
mod luks1;
mod luks2;

use std::fmt;
use std::sync::Arc;

use gravure_io::ReadAt;
use zeroize::Zeroizing;

pub use bitlocker::BitLocker;
pub use error::{Error, ErrorKind};
pub use luks::Luks;

/// What opens a volume: a passphrase, the content of a key file, or BitLocker's recovery password.
#[derive(Clone)]
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// Of these bytes: for LUKS as they are, for BitLocker a text in UTF-8.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// What a key file may mean: all of it, and where it ends with a line feed, as editors leave it, first what stands before that.
    pub fn of_file(bytes: &[u8]) -> Vec<Self> {
        let line = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        line.into_iter().chain([bytes]).map(Self::new).collect()
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok().map(|text| text.trim_end_matches(['\r', '\n']))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a header may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Iterations of PBKDF2. Real volumes have some millions: two seconds of a processor.
    pub iterations: u32,
    /// Memory of Argon2, KiB. Real volumes have 1 GiB at most unless somebody asked for more; the format ends at 4 GiB.
    pub memory_kib: u32,
    /// Passes of Argon2 over that memory.
    pub passes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { iterations: 100_000_000, memory_kib: 4 << 20, passes: 1000 }
    }
}

/// Opens a volume of either kind.
pub fn unlock(source: Arc<dyn ReadAt>, key: &Key, limits: &Limits) -> Result<Arc<dyn ReadAt>, Error> {
    let mut head = [0; 512];
    let len = usize::try_from(source.size().min(512)).unwrap_or(0);
    let (part, _) = head.split_at_mut(len);
    source.read_exact_at(0, part).map_err(Error::read("volume", 0))?;
    if head.starts_with(luks::MAGIC) {
        return Ok(Arc::new(Luks::open(source, key, limits)?));
    }
    if [bitlocker::SIGNATURE, bitlocker::TO_GO].iter().any(|name| head.get(3..11) == Some(*name)) {
        return Ok(Arc::new(BitLocker::open(source, key, limits)?));
    }
    Err(Error::corrupt("volume", 0, "a header of LUKS or BitLocker", "another"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_at_the_end_of_a_key_file_may_be_an_editors() {
        let cases: [(&[u8], &[&[u8]]); 5] = [
            (b"1234", &[b"1234"]),
            (b"1234\n", &[b"1234", b"1234\n"]),
            (b"1234\r\n", &[b"1234", b"1234\r\n"]),
            (b"\xff\n\n", &[b"\xff\n", b"\xff\n\n"]),
            (b"", &[b""]),
        ];
        for (file, expected) in cases {
            let keys = Key::of_file(file);
            assert_eq!(keys.iter().map(Key::bytes).collect::<Vec<_>>(), expected);
        }
    }
}
