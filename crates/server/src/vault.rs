//! Secrets at rest: what jobs carry (passwords, product keys, join blobs) stands in the database encrypted, with a key that is not in
//! it. Who gets at a copy of the database alone, in a backup say, learns none of them.
//!
//! ChaCha20-Poly1305 with a random nonce for each secret; what a secret is of goes into the check, so that none can be put in the place of
//! another. Stored as [`MARK`] and base64 of nonce, ciphertext and tag.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gravure_model::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{Zeroize as _, Zeroizing};

use crate::Error;
use crate::keys::{KeyFiles, write_private};
use crate::secret::{hex, random};

/// What sealed texts begin with. No settings in TOML do.
pub(crate) const MARK: &str = "sealed:1:";
const KEY_BYTES: usize = 32;

/// Seals secrets and opens them again.
pub(crate) struct Vault {
    key: LessSafeKey,
    path: PathBuf,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A sealed text that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secrets of {of} cannot be read: {why} ({})", .key.display())]
pub struct VaultError {
    /// What the secret is of.
    of: String,
    why: &'static str,
    /// File of the key.
    key: PathBuf,
}

impl Vault {
    /// Makes the key of a new site.
    pub(crate) fn create(files: &KeyFiles) -> Result<(), Error> {
        let mut bytes = random::<KEY_BYTES>()?;
        let text = Zeroizing::new(hex(&bytes) + "\n");
        bytes.zeroize();
        write_private(&files.secrets(), &text)
    }

    /// Reads the key.
    pub(crate) fn open(files: &KeyFiles) -> Result<Self, Error> {
        let path = files.secrets();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (of, why) = ("jobs in the database".to_owned(), "their key is not there");
                return Err(Error::Vault(VaultError { of, why, key: path }));
            }
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let config = |message: &str| Error::Config { path: path.clone(), message: message.to_owned() };
        let bad = || config("expected a key of 64 hexadecimal digits");
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * KEY_BYTES {
            return Err(bad());
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).map_err(|_| bad())?;
        Ok(Self { key: LessSafeKey::new(key), path })
    }

    /// The secret as it may be stored. `of` says what it is of and must be the same when it is opened.
    pub(crate) fn seal(&self, of: &str, secret: &Secret) -> Result<String, Error> {
        let nonce = random::<NONCE_LEN>()?;
        // Encrypted in place, so that nothing of the text stays in this buffer.
        let mut text = secret.reveal().as_bytes().to_vec();
        let sealed = self.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(of.as_bytes()),
            &mut text,
        );
        if sealed.is_err() {
            text.zeroize();
            return Err(Error::Vault(self.error(of, "they are too long to be encrypted")));
        }
        Ok(format!("{MARK}{}", STANDARD.encode([nonce.as_slice(), &text].concat())))
    }

    /// The other direction.
    pub(crate) fn unseal(&self, of: &str, stored: &str) -> Result<Secret, VaultError> {
        let error = |why| self.error(of, why);
        let sealed = stored.strip_prefix(MARK).ok_or_else(|| error("they are not sealed"))?;
        let mut bytes = STANDARD.decode(sealed).map_err(|_| error("they are not base64"))?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN).ok_or_else(|| error("they are cut off"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| error("they are cut off"))?;
        let opened = self.key.open_in_place(nonce, Aad::from(of.as_bytes()), text);
        let opened = opened.map_err(|_| error("another key sealed them, or they were changed"))?;
        let secret = std::str::from_utf8(opened).map(Secret::new).map_err(|_| error("they are no text"));
        bytes.zeroize();
        secret
    }

    fn error(&self, of: &str, why: &'static str) -> VaultError {
        VaultError { of: of.to_owned(), why, key: self.path.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(dir: &std::path::Path) -> Vault {
        let files = KeyFiles::in_dir(dir);
        Vault::create(&files).unwrap();
        Vault::open(&files).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_as_what_it_was_and_by_nobody_else() {
        let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (vault, other) = (vault(here.path()), vault(elsewhere.path()));
        for text in ["", "administrator-password = \"hunter2\"\n", &"é".repeat(100_000)] {
            let sealed = vault.seal("job 1", &Secret::new(text)).unwrap();
            assert!(sealed.starts_with(MARK) && !sealed.contains("hunter2"), "{sealed}");
            assert_ne!(sealed, vault.seal("job 1", &Secret::new(text)).unwrap(), "never twice the same");
            assert_eq!(vault.unseal("job 1", &sealed).unwrap().reveal(), text);
            let moved = vault.unseal("job 2", &sealed).unwrap_err().to_string();
            assert!(moved.starts_with("the secrets of job 2 cannot be read: another key sealed"), "{moved}");
            assert!(other.unseal("job 1", &sealed).is_err());
        }
    }

    #[test]
    fn every_changed_or_cut_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let sealed = vault.seal("job", &Secret::new("x = 1")).unwrap();
        for len in 0..sealed.len() {
            assert!(vault.unseal("job", &sealed[..len]).is_err(), "{len}");
        }
        let bytes = STANDARD.decode(&sealed[MARK.len()..]).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(vault.unseal("job", &format!("{MARK}{}", STANDARD.encode(changed))).is_err(), "{at}");
        }
    }

    #[test]
    fn the_key_is_its_owners_alone_and_never_made_twice() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let files = KeyFiles::in_dir(dir.path());
        assert!(matches!(Vault::open(&files), Err(Error::Vault(_))));
        Vault::create(&files).unwrap();
        let mode = std::fs::metadata(files.secrets()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Vault::create(&files), Err(Error::Exists { .. })));
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63)] {
            std::fs::write(files.secrets(), bad).unwrap();
            assert!(matches!(Vault::open(&files), Err(Error::Config { .. })), "{bad:?}");
        }
    }
}
