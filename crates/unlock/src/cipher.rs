//! AES over the sectors of a volume: XTS, and CBC with the kinds of initialisation vectors that dm-crypt has.

use std::fmt;

use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use aes::{Aes128, Aes256};
use xts_mode::Xts128;

use crate::Error;
use crate::hash::Hash;

/// Bytes that numbers in initialisation vectors count, whatever the sectors' size.
pub(crate) const UNIT_BYTES: u64 = 512;
const BLOCK_BYTES: usize = 16;

/// How sectors are encrypted.
pub(crate) enum SectorCipher {
    Xts128(Box<Xts128<Aes128>>),
    Xts256(Box<Xts128<Aes256>>),
    Cbc(Aes, Iv),
}

/// AES with either length of keys.
pub(crate) enum Aes {
    Short(Box<Aes128>),
    Long(Box<Aes256>),
}

/// The initialisation vector of a sector, from its number.
pub(crate) enum Iv {
    /// 32 bits of it.
    Plain,
    /// 64 bits of it.
    Plain64,
    /// Those encrypted with the hash of the key.
    Essiv(Aes),
}

impl fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xts128(_) => "aes-128-xts",
            Self::Xts256(_) => "aes-256-xts",
            Self::Cbc(..) => "aes-cbc",
        })
    }
}

impl Aes {
    pub(crate) fn new(key: &[u8]) -> Result<Self, Error> {
        match key.len() {
            16 => Ok(Self::Short(Box::new(Aes128::new(GenericArray::from_slice(key))))),
            32 => Ok(Self::Long(Box::new(Aes256::new(GenericArray::from_slice(key))))),
            len => Err(Error::unsupported("AES key of bytes:", len.to_string())),
        }
    }

    pub(crate) fn encrypt(&self, block: &mut [u8; BLOCK_BYTES]) {
        let block = GenericArray::from_mut_slice(block);
        match self {
            Self::Short(aes) => aes.encrypt_block(block),
            Self::Long(aes) => aes.encrypt_block(block),
        }
    }

    fn decrypt(&self, block: &mut [u8; BLOCK_BYTES]) {
        let block = GenericArray::from_mut_slice(block);
        match self {
            Self::Short(aes) => aes.decrypt_block(block),
            Self::Long(aes) => aes.decrypt_block(block),
        }
    }

    /// Decrypts whole blocks chained from `iv` on.
    pub(crate) fn decrypt_chain(&self, iv: [u8; BLOCK_BYTES], data: &mut [u8]) {
        let mut before = iv;
        let (blocks, _) = data.as_chunks_mut::<BLOCK_BYTES>();
        for block in blocks {
            let stored = *block;
            self.decrypt(block);
            block.iter_mut().zip(before).for_each(|(byte, other)| *byte ^= other);
            before = stored;
        }
    }
}

impl SectorCipher {
    /// By a specification as dm-crypt takes it, e.g. `aes-xts-plain64`.
    pub(crate) fn new(spec: &str, key: &[u8]) -> Result<Self, Error> {
        let unsupported =
            || Error::unsupported("cipher", format!("{spec} with a key of {} bits", key.len() * 8));
        let mut parts = spec.splitn(3, '-');
        let (name, mode, iv) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        if name != Some("aes") {
            return Err(unsupported());
        }
        match (mode, iv) {
            (Some("xts"), "plain64" | "plain") => Self::xts(key).map_err(|_| unsupported()),
            (Some("cbc"), _) => {
                let aes = Aes::new(key).map_err(|_| unsupported())?;
                let iv = match iv.split_once(':').map_or((iv, ""), |(kind, hash)| (kind, hash)) {
                    ("plain", "") => Iv::Plain,
                    ("plain64", "") => Iv::Plain64,
                    ("essiv", hash) => {
                        Iv::Essiv(Aes::new(&Hash::named(hash)?.of(&[key])).map_err(|_| unsupported())?)
                    }
                    _ => return Err(unsupported()),
                };
                Ok(Self::Cbc(aes, iv))
            }
            _ => Err(unsupported()),
        }
    }

    /// XTS with the two halves of `key`.
    pub(crate) fn xts(key: &[u8]) -> Result<Self, Error> {
        let (data, tweak) = key.split_at(key.len() / 2);
        match key.len() {
            32 => {
                let aes = |key| Aes128::new(GenericArray::from_slice(key));
                Ok(Self::Xts128(Box::new(Xts128::new(aes(data), aes(tweak)))))
            }
            64 => {
                let aes = |key| Aes256::new(GenericArray::from_slice(key));
                Ok(Self::Xts256(Box::new(Xts128::new(aes(data), aes(tweak)))))
            }
            len => Err(Error::unsupported("XTS key of bytes:", len.to_string())),
        }
    }

    /// Decrypts one sector, whose number for the vector is `number`.
    pub(crate) fn decrypt(&self, number: u64, sector: &mut [u8]) {
        let tweak = u128::from(number).to_le_bytes();
        match self {
            Self::Xts128(xts) => xts.decrypt_sector(sector, tweak),
            Self::Xts256(xts) => xts.decrypt_sector(sector, tweak),
            Self::Cbc(aes, iv) => {
                let mut vector = tweak;
                match iv {
                    Iv::Plain => vector[4..].fill(0),
                    Iv::Plain64 => {}
                    Iv::Essiv(aes) => aes.encrypt(&mut vector),
                }
                aes.decrypt_chain(vector, sector);
            }
        }
    }

    /// Decrypts sectors of `sector_bytes` each, of which the first has the number `first` in units of 512 bytes.
    pub(crate) fn decrypt_all(&self, first: u64, sector_bytes: usize, data: &mut [u8]) {
        let step = sector_bytes as u64 / UNIT_BYTES; // lossless
        for (index, sector) in (0_u64..).zip(data.chunks_exact_mut(sector_bytes.max(BLOCK_BYTES))) {
            self.decrypt(first.wrapping_add(index.wrapping_mul(step)), sector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xts_of_ieee_1619() {
        // Vector 2 of annex B: AES-128, data unit 0x3333333333.
        let key: Vec<u8> = [[0x11; 16], [0x22; 16]].concat();
        let mut data = [
            0xc4, 0x54, 0x18, 0x5e, 0x6a, 0x16, 0x93, 0x6e, 0x39, 0x33, 0x40, 0x38, 0xac, 0xef, 0x83, 0x8b,
            0xfb, 0x18, 0x6f, 0xff, 0x74, 0x80, 0xad, 0xc4, 0x28, 0x93, 0x82, 0xec, 0xd6, 0xd3, 0x94, 0xf0,
        ];
        SectorCipher::new("aes-xts-plain64", &key).unwrap().decrypt(0x33_3333_3333, &mut data);
        assert_eq!(data, [0x44; 32]);
    }

    #[test]
    fn cbc_of_sp_800_38a() {
        // F.2.1: AES-128, the vector 000102...0f; its first block, then the second chained to it.
        let key =
            [0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c];
        let mut data = [
            0x76, 0x49, 0xab, 0xac, 0x81, 0x19, 0xb2, 0x46, 0xce, 0xe9, 0x8e, 0x9b, 0x12, 0xe9, 0x19, 0x7d,
            0x50, 0x86, 0xcb, 0x9b, 0x50, 0x72, 0x19, 0xee, 0x95, 0xdb, 0x11, 0x3a, 0x91, 0x76, 0x78, 0xb2,
        ];
        let iv: [u8; 16] = std::array::from_fn(|at| at as u8);
        Aes::new(&key).unwrap().decrypt_chain(iv, &mut data);
        assert_eq!(data[..4], [0x6b, 0xc1, 0xbe, 0xe2]);
        assert_eq!(data[16..20], [0xae, 0x2d, 0x8a, 0x57]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (spec, len) in [
            ("serpent-xts-plain64", 64),
            ("aes-xts-plain64", 48),
            ("aes-cbc-essiv:whirlpool", 32),
            ("aes-cbc-essiv:sha512", 32),
            ("aes-lrw-benbi", 32),
            ("aes-xts-random", 64),
            ("aes", 32),
            ("", 0),
        ] {
            let error = SectorCipher::new(spec, &vec![0; len]).unwrap_err();
            assert!(error.to_string().ends_with("is not supported"), "{error}");
        }
    }
}
