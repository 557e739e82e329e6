//! Ed25519 keys in the text form they have in files: 64 hexadecimal digits.

use std::fmt;

use ed25519_dalek::Signer;

use crate::Error;

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(what: &'static str, text: &str) -> Result<[u8; 32], Error> {
    let digest: Result<gravure_model::descriptor::Digest, _> = text.trim().parse();
    let expected = "64 hexadecimal digits";
    digest.map(|digest| digest.0).map_err(|_| Error::Malformed { what, expected, found: shorten(text) })
}

fn shorten(text: &str) -> String {
    text.chars().take(16).collect()
}

/// A key that signs. Has no `Debug` that shows it; zeroised on drop by the library.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new random key.
    pub fn generate() -> Result<Self, Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Error::Random(error.to_string()))?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        // The text of a private key must not reach a message, so nothing of it is shown.
        let seed = from_hex("private key", text).map_err(|_| Error::Malformed {
            what: "private key",
            expected: "64 hexadecimal digits",
            found: format!("{} characters", text.len()),
        })?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// 64 hexadecimal digits, for a file only its owner can read.
    pub fn to_text(&self) -> String {
        to_hex(self.0.as_bytes())
    }

    /// The key that checks.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public().id())
    }
}

/// A key that checks.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// Reads 64 hexadecimal digits.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let bytes = from_hex("public key", text)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes);
        key.map(Self).map_err(|_| Error::Malformed {
            what: "public key",
            expected: "a point of Ed25519",
            found: shorten(text),
        })
    }

    /// 64 hexadecimal digits.
    pub fn to_text(&self) -> String {
        to_hex(self.0.as_bytes())
    }

    /// First 16 hexadecimal digits of BLAKE3 of the key: its name in envelopes and messages.
    pub fn id(&self) -> String {
        blake3::hash(self.0.as_bytes()).to_hex().chars().take(16).collect()
    }

    pub(crate) fn accepts(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(bytes, &signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}
