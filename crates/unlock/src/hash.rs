//! The hashes that headers name.

use hmac::Hmac;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use crate::Error;

/// A hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// By the name that LUKS and the kernel have for it.
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        match name {
            "sha1" => Ok(Self::Sha1),
            "sha224" => Ok(Self::Sha224),
            "sha256" => Ok(Self::Sha256),
            "sha384" => Ok(Self::Sha384),
            "sha512" => Ok(Self::Sha512),
            other => Err(Error::unsupported("hash", other)),
        }
    }

    /// Of the parts, one after the other.
    pub(crate) fn of(self, parts: &[&[u8]]) -> Vec<u8> {
        fn hash<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut hasher = D::new();
            parts.iter().for_each(|part| hasher.update(part));
            hasher.finalize().to_vec()
        }
        match self {
            Self::Sha1 => hash::<Sha1>(parts),
            Self::Sha224 => hash::<Sha224>(parts),
            Self::Sha256 => hash::<Sha256>(parts),
            Self::Sha384 => hash::<Sha384>(parts),
            Self::Sha512 => hash::<Sha512>(parts),
        }
    }

    /// PBKDF2 with HMAC of this hash (RFC 8018).
    pub(crate) fn pbkdf2(self, key: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
        // HMAC takes keys of any length, so this cannot fail.
        let _ = match self {
            Self::Sha1 => pbkdf2::pbkdf2::<Hmac<Sha1>>(key, salt, iterations, out),
            Self::Sha224 => pbkdf2::pbkdf2::<Hmac<Sha224>>(key, salt, iterations, out),
            Self::Sha256 => pbkdf2::pbkdf2::<Hmac<Sha256>>(key, salt, iterations, out),
            Self::Sha384 => pbkdf2::pbkdf2::<Hmac<Sha384>>(key, salt, iterations, out),
            Self::Sha512 => pbkdf2::pbkdf2::<Hmac<Sha512>>(key, salt, iterations, out),
        };
    }
}
