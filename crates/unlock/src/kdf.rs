//! From a passphrase to a key, and from many stripes to one: what LUKS makes slow and what it makes fragile on purpose.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::hash::Hash;
use crate::{Error, Limits};

/// Bytes of a volume key: two keys of AES-256 at most.
pub(crate) const MAX_KEY_BYTES: usize = 64;
/// Stripes of the splitter; `cryptsetup` always makes 4000.
pub(crate) const MAX_STRIPES: usize = 8000;
/// Lanes of Argon2; `cryptsetup` makes 4 at most.
const MAX_LANES: u32 = 64;

/// How a passphrase becomes a key.
#[derive(Debug, Clone)]
pub(crate) enum Kdf {
    Pbkdf2 { hash: Hash, iterations: u32, salt: Vec<u8> },
    Argon2 { algorithm: Algorithm, passes: u32, memory_kib: u32, lanes: u32, salt: Vec<u8> },
}

impl Kdf {
    /// The key of `len` bytes.
    pub(crate) fn derive(
        &self,
        passphrase: &[u8],
        len: usize,
        limits: &Limits,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut out = Zeroizing::new(vec![0; len]);
        let too_much = |what: &'static str, value: u32| Error::unsupported(what, value.to_string());
        match self {
            Self::Pbkdf2 { hash, iterations, salt } => {
                if *iterations == 0 || *iterations > limits.iterations {
                    return Err(too_much("count of PBKDF2's iterations", *iterations));
                }
                hash.pbkdf2(passphrase, salt, *iterations, &mut out);
            }
            Self::Argon2 { algorithm, passes, memory_kib, lanes, salt } => {
                if *memory_kib > limits.memory_kib {
                    return Err(too_much("memory of Argon2 in KiB", *memory_kib));
                }
                if *passes > limits.passes {
                    return Err(too_much("count of Argon2's passes", *passes));
                }
                if *lanes > MAX_LANES {
                    return Err(too_much("count of Argon2's lanes", *lanes));
                }
                let refused = |error: argon2::Error| {
                    Error::unsupported("set of Argon2's parameters", error.to_string())
                };
                let params = Params::new(*memory_kib, *passes, *lanes, Some(len)).map_err(refused)?;
                let argon = Argon2::new(*algorithm, Version::V0x13, params);
                argon.hash_password_into(passphrase, salt, &mut out).map_err(refused)?;
            }
        }
        Ok(out)
    }
}

/// Merges stripes of `key_bytes` each: all are needed, so that wiping any of them wipes the key.
pub(crate) fn merge(stripes: &[u8], key_bytes: usize, hash: Hash) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; key_bytes]);
    let mut left = stripes.chunks_exact(key_bytes.max(1)).peekable();
    while let Some(stripe) = left.next() {
        key.iter_mut().zip(stripe).for_each(|(byte, other)| *byte ^= other);
        if left.peek().is_some() {
            diffuse(&mut key, hash);
        }
    }
    key
}

/// Each piece as long as a hash becomes the hash of its number and itself.
fn diffuse(block: &mut [u8], hash: Hash) {
    let step = hash.of(&[]).len();
    for (number, piece) in (0_u32..).zip(block.chunks_mut(step)) {
        let digest = Zeroizing::new(hash.of(&[&number.to_be_bytes(), piece]));
        piece.copy_from_slice(&digest[..piece.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_split_is_merged() {
        for (hash, key_bytes) in [(Hash::Sha1, 32), (Hash::Sha256, 64), (Hash::Sha512, 16)] {
            let key: Vec<u8> = (0..key_bytes).map(|at| at as u8 * 3 + 1).collect();
            // Split as the format says: all stripes but the last are random.
            let stripes = 50;
            let mut split: Vec<u8> =
                (0..key_bytes * stripes).map(|at| (at * 131 % 253) as u8 ^ at as u8).collect();
            let mut mixed = vec![0; key_bytes];
            for stripe in split.chunks_exact(key_bytes).take(stripes - 1) {
                mixed.iter_mut().zip(stripe).for_each(|(byte, other)| *byte ^= other);
                diffuse(&mut mixed, hash);
            }
            let last = key_bytes * (stripes - 1);
            for at in 0..key_bytes {
                split[last + at] = mixed[at] ^ key[at];
            }
            assert_eq!(*merge(&split, key_bytes, hash), key);
            split[5] ^= 1;
            assert_ne!(*merge(&split, key_bytes, hash), key);
        }
    }

    #[test]
    fn limits_hold() {
        let limits = Limits { iterations: 10, memory_kib: 64, passes: 2 };
        let pbkdf2 = |iterations| Kdf::Pbkdf2 { hash: Hash::Sha256, iterations, salt: vec![1; 32] };
        assert!(pbkdf2(10).derive(b"x", 64, &limits).is_ok());
        for iterations in [0, 11] {
            assert!(
                pbkdf2(iterations).derive(b"x", 64, &limits).unwrap_err().to_string().contains("iterations")
            );
        }
        let argon = |passes, memory_kib, lanes| Kdf::Argon2 {
            algorithm: Algorithm::Argon2id,
            passes,
            memory_kib,
            lanes,
            salt: vec![1; 32],
        };
        assert!(argon(2, 64, 4).derive(b"x", 64, &limits).is_ok());
        for (passes, memory, lanes) in [(3, 64, 4), (2, 65, 4), (2, 64, 65), (0, 64, 1), (1, 1, 4)] {
            assert!(argon(passes, memory, lanes).derive(b"x", 64, &limits).is_err());
        }
    }
}
