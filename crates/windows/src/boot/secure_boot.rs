//! Keys of a machine's firmware (UEFI 2.10, 32.4.1): which of Windows' authorities it trusts and which it has revoked.

use crate::Error;
use crate::signature::common_name;

/// `EFI_CERT_X509_GUID` as it lies in the variable.
const X509: [u8; 16] =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
/// Type, size of the list, size of its header, size of an entry.
const LIST_HEADER_BYTES: usize = 28;
/// Who put an entry in.
const OWNER_BYTES: usize = 16;
/// Largest variable taken; firmware has 64 KiB to 256 KiB for all of them.
const MAX_BYTES: usize = 4 << 20;
const WINDOWS_2011: &str = "Microsoft Windows Production PCA 2011";
const WINDOWS_2023: &str = "Windows UEFI CA 2023";

/// Keys of a machine, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SecureBoot {
    /// What `db` has; `None` when it is not known.
    pub db: Option<Authorities>,
    /// What `dbx` has.
    pub dbx: Option<Authorities>,
    /// Secure Boot is on.
    pub is_enforced: bool,
}

/// Windows' authorities in a list of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Authorities {
    /// Microsoft Windows Production PCA 2011.
    pub has_windows_2011: bool,
    /// Windows UEFI CA 2023.
    pub has_windows_2023: bool,
}

impl Authorities {
    /// Reads the data of the variable `db` or `dbx`, without the attributes in front.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |at: usize, expected: &str, found: String| Error::Corrupt {
            path: format!("signature list at {at:#x} of a firmware variable"),
            expected: expected.to_owned(),
            found,
        };
        if bytes.len() > MAX_BYTES {
            return Err(corrupt(0, "at most 4 MiB", format!("{} bytes", bytes.len())));
        }
        let mut out = Self::default();
        let mut at = 0usize;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            let word = |pos: usize| {
                let word =
                    rest.get(pos..pos + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
                word.and_then(|word| usize::try_from(word).ok())
            };
            let (Some(len), Some(header), Some(entry)) = (word(16), word(20), word(24)) else {
                return Err(corrupt(at, "28 bytes", rest.len().to_string()));
            };
            let body = LIST_HEADER_BYTES.checked_add(header).filter(|start| *start <= len);
            let (Some(list), Some(body)) = (rest.get(..len), body) else {
                let expected = format!("at most {} bytes", rest.len());
                return Err(corrupt(at, &expected, format!("{len}, header {header}")));
            };
            if entry < OWNER_BYTES {
                return Err(corrupt(at, "entries of at least 16 bytes", entry.to_string()));
            }
            if list.starts_with(&X509) {
                for entry in list.get(body..).unwrap_or_default().chunks_exact(entry) {
                    let name = entry.get(OWNER_BYTES..).and_then(common_name);
                    out.has_windows_2011 |= name.as_deref() == Some(WINDOWS_2011);
                    out.has_windows_2023 |= name.as_deref() == Some(WINDOWS_2023);
                }
            }
            at = at.saturating_add(len);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kind: [u8; 16], entries: &[Vec<u8>]) -> Vec<u8> {
        let entry = OWNER_BYTES + entries.first().map_or(0, Vec::len);
        let len = LIST_HEADER_BYTES + entries.len() * entry;
        let mut out = kind.to_vec();
        for word in [len, 0, entry] {
            out.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        for bytes in entries {
            out.extend([7; OWNER_BYTES]);
            out.extend(bytes);
        }
        out
    }

    #[test]
    fn authorities_are_found_by_their_certificates_and_cuts_are_refused() {
        let certificate = |name: &str| gravure_testkit::signing::certificate_named(name);
        let lists = [
            list([0x26; 16], &[vec![1; 32], vec![2; 32]]),
            list(X509, &[certificate("Microsoft Windows Production PCA 2011")]),
            list(X509, &[certificate("Somebody Else")]),
        ];
        let bytes = lists.concat();
        let old = Authorities { has_windows_2011: true, has_windows_2023: false };
        assert_eq!(Authorities::parse(&bytes).unwrap(), old);
        let both = [bytes.clone(), list(X509, &[certificate("Windows UEFI CA 2023")])].concat();
        let all = Authorities { has_windows_2011: true, has_windows_2023: true };
        assert_eq!(Authorities::parse(&both).unwrap(), all);
        let (first, second) = (lists[0].len(), lists[0].len() + lists[1].len());
        for len in 0..bytes.len() {
            let is_between = [0, first, second].contains(&len);
            assert_eq!(Authorities::parse(&bytes[..len]).is_ok(), is_between, "{len}");
        }
        let mut endless = bytes;
        endless[16..20].fill(0);
        assert!(Authorities::parse(&endless).is_err());
    }
}
