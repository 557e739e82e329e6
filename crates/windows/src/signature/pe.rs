//! Programs (PE files) as signatures see them (Microsoft, "Windows Authenticode Portable Executable Signature Format"): which
//! bytes are hashed, and where the embedded signature stands. Nothing else of the format is read.

use sha1::Digest;

/// Offset of the offset of the PE header.
const NEW_HEADER_OFFSET: usize = 0x3c;
/// From the PE signature on: COFF header.
const COFF_BYTES: usize = 24;
/// In the optional header.
const CHECKSUM_POS: usize = 64;
const MAGIC_32: u16 = 0x10b;
const MAGIC_64: u16 = 0x20b;
/// Where the data directories start, by magic.
const DIRECTORIES_POS_32: usize = 96;
const DIRECTORIES_POS_64: usize = 112;
/// Index of the directory of signatures.
const SECURITY_DIRECTORY: usize = 4;
/// Header of an entry in the table of signatures: length, revision, type.
const ENTRY_HEADER_BYTES: usize = 8;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const PKCS7: u16 = 2;

/// A program whose header was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program<'a> {
    bytes: &'a [u8],
    checksum: usize,
    directory: usize,
    /// Table of signatures: offset and length.
    table: Option<(usize, usize)>,
}

impl<'a> Program<'a> {
    /// `None` for what is no program.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(b"MZ") {
            return None;
        }
        let header = usize::try_from(u32_at(bytes, NEW_HEADER_OFFSET)?).ok()?;
        if bytes.get(header..header.checked_add(4)?)? != b"PE\0\0" {
            return None;
        }
        let optional = header.checked_add(COFF_BYTES)?;
        let directories = match u16_at(bytes, optional)? {
            MAGIC_32 => DIRECTORIES_POS_32,
            MAGIC_64 => DIRECTORIES_POS_64,
            _ => return None,
        };
        let count_at = optional.checked_add(directories)?.checked_sub(4)?;
        let count = usize::try_from(u32_at(bytes, count_at)?).ok()?;
        if count <= SECURITY_DIRECTORY {
            return None;
        }
        let directory = optional.checked_add(directories)?.checked_add(SECURITY_DIRECTORY * 8)?;
        // In this one directory the address is an offset in the file.
        let offset = usize::try_from(u32_at(bytes, directory)?).ok()?;
        let len = usize::try_from(u32_at(bytes, directory.checked_add(4)?)?).ok()?;
        let end = offset.checked_add(len)?;
        let after_header = directory.checked_add(8)?;
        let table = match (offset, len) {
            (_, 0) => None,
            _ if offset >= after_header && end <= bytes.len() => Some((offset, len)),
            _ => return None,
        };
        Some(Self { bytes, checksum: optional.checked_add(CHECKSUM_POS)?, directory, table })
    }

    /// Hash of everything but the checksum, the place of the signatures, and these themselves.
    pub(crate) fn hash<D: Digest>(&self) -> Vec<u8> {
        self.hash_with::<D>(0)
    }

    /// The same as some signers make it: filled up with zeros to a multiple of 8.
    pub(crate) fn padded_hash<D: Digest>(&self) -> Vec<u8> {
        let end = self.table.map_or(self.bytes.len(), |(offset, _)| offset);
        self.hash_with::<D>(end.next_multiple_of(8).saturating_sub(end))
    }

    fn hash_with<D: Digest>(&self, zeros: usize) -> Vec<u8> {
        let len = self.bytes.len();
        let (table, table_len) = self.table.unwrap_or((len, 0));
        let after_checksum = self.checksum.saturating_add(4);
        let after_directory = self.directory.saturating_add(8);
        let after_table = table.saturating_add(table_len).min(len);
        let mut hash = D::new();
        for (from, to) in [
            (0, self.checksum),
            (after_checksum, self.directory),
            (after_directory, table),
            (after_table, len),
        ] {
            hash.update(self.bytes.get(from..to).unwrap_or_default());
        }
        hash.update(vec![0; zeros.min(8)]);
        hash.finalize().to_vec()
    }

    /// The embedded signature (PKCS #7), if there is one.
    pub(crate) fn signature(&self) -> Option<&'a [u8]> {
        let (offset, len) = self.table?;
        let table = self.bytes.get(offset..offset.checked_add(len)?)?;
        let entry = usize::try_from(u32_at(table, 0)?).ok()?;
        if u16_at(table, 6)? != PKCS7 {
            return None;
        }
        table.get(ENTRY_HEADER_BYTES..entry)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use sha1::Sha1;

    use super::*;

    /// A 64-bit program of headers and a body, with a table of signatures when `signature` is given.
    fn program(body: &[u8], signature: Option<&[u8]>) -> Vec<u8> {
        let mut out = vec![0; 0x40 + COFF_BYTES + DIRECTORIES_POS_64 + 16 * 8];
        out[..2].copy_from_slice(b"MZ");
        out[0x3c] = 0x40;
        out[0x40..0x44].copy_from_slice(b"PE\0\0");
        let optional = 0x40 + COFF_BYTES;
        out[optional..optional + 2].copy_from_slice(&MAGIC_64.to_le_bytes());
        out[optional + DIRECTORIES_POS_64 - 4] = 16;
        out.extend_from_slice(body);
        if let Some(signature) = signature {
            let at = out.len();
            let len = ENTRY_HEADER_BYTES + signature.len();
            out.extend_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
            out.extend_from_slice(&[0, 2, 2, 0]);
            out.extend_from_slice(signature);
            let directory = optional + DIRECTORIES_POS_64 + SECURITY_DIRECTORY * 8;
            out[directory..directory + 4].copy_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
            out[directory + 4..directory + 8].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
        }
        out
    }

    #[test]
    fn a_signature_does_not_change_the_hash_and_anything_else_does() {
        let plain = program(b"body of it", None);
        let mut signed = program(b"body of it", Some(b"signature"));
        let of = |bytes: &[u8]| Program::parse(bytes).unwrap().hash::<Sha1>();
        assert_eq!(of(&plain), of(&signed));
        assert_eq!(Program::parse(&signed).unwrap().signature(), Some(&b"signature"[..]));
        assert_eq!(Program::parse(&plain).unwrap().signature(), None);
        signed[0x40 + COFF_BYTES + CHECKSUM_POS] = 7;
        assert_eq!(of(&plain), of(&signed));
        signed[0x50] ^= 1;
        assert_ne!(of(&plain), of(&signed));
        assert_ne!(of(&program(b"body of iT", None)), of(&plain));
        let odd = Program::parse(&plain).unwrap();
        let mut filled = plain.clone();
        filled.resize(plain.len().next_multiple_of(8), 0);
        assert_eq!(odd.padded_hash::<Sha1>(), of(&filled));
    }

    #[test]
    fn any_cut_and_any_place_of_the_table_is_survived() {
        let signed = program(b"body", Some(b"signature"));
        for len in 0..signed.len() {
            // A table that ends behind the file is none that can be trusted.
            assert_eq!(Program::parse(&signed[..len]), None, "{len}");
        }
        for at in 0..signed.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = signed.clone();
                bytes[at] = value;
                if let Some(program) = Program::parse(&bytes) {
                    program.hash::<Sha1>();
                    program.padded_hash::<Sha1>();
                    program.signature();
                }
            }
        }
    }
}
