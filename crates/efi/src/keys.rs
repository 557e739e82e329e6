//! Keys that firmware trusts (UEFI 2.10, 32.4.1 and 8.2.2): signature lists, as `db` and shim's `MokList` hold them, and the
//! signed messages by which such variables are changed.

use gravure_nttypes::Guid;

use crate::signature::detached;
use crate::{Error, Signer};

/// `EFI_CERT_X509_GUID`.
pub const X509: Guid = from_printed(0xa5c059a1_94e4_4aa7_87b5_ab155c2bf072);
/// `EFI_GLOBAL_VARIABLE`: vendor of `PK` and `KEK`.
pub const GLOBAL: Guid = from_printed(0x8be4df61_93ca_11d2_aa0d_00e098032b8c);
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`: vendor of `db` and `dbx`.
pub const SECURITY_DATABASE: Guid = from_printed(0xd719b2cb_3d3a_4596_a3bc_dad00e67656f);
/// `SHIM_LOCK_GUID`: vendor of `MokList`.
pub const SHIM_LOCK: Guid = from_printed(0x605dab50_e046_4300_abb6_3dd810dd8b23);
/// `EFI_CERT_TYPE_PKCS7_GUID`.
const PKCS7: Guid = from_printed(0x4aafd29d_68df_49ee_8aa9_347d375665a7);

/// The number whose digits are the GUID as it is printed.
const fn from_printed(number: u128) -> Guid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = number.to_be_bytes();
    Guid([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
}

/// Non-volatile, seen by boot services and by the running system, changed by signed messages with a time.
pub const ATTRIBUTES: u32 = 0x27;
/// Added to what is there instead of replacing it.
pub const APPEND: u32 = 0x40;

/// Bytes before the entries of a list: type, size of the list, of its header, of an entry.
const LIST_HEADER_BYTES: usize = 28;
const GUID_BYTES: usize = 16;
/// Lists looked at; firmware has a few dozen certificates and some hundred hashes.
const MAX_LISTS: usize = 4096;

/// A list with one certificate, owned by `owner`.
pub fn list(owner: Guid, certificate: &[u8]) -> Vec<u8> {
    let entry = certificate.len().saturating_add(GUID_BYTES);
    let size = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    [
        &X509.0[..],
        &size(entry.saturating_add(LIST_HEADER_BYTES)),
        &[0; 4],
        &size(entry),
        &owner.0,
        certificate,
    ]
    .concat()
}

/// The certificates in a variable of lists, in order. Lists of other kinds (hashes) are passed over.
pub fn certificates(lists: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut found = Vec::new();
    let mut at = 0usize;
    for _ in 0..MAX_LISTS {
        let rest = lists.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(found);
        }
        let corrupt = |expected, value: String| Error::corrupt("signature list", at, expected, value);
        let number = |pos: usize| {
            let raw = rest
                .get(pos..pos.saturating_add(4))
                .and_then(|raw| raw.try_into().ok())
                .map(u32::from_le_bytes);
            usize::try_from(raw.unwrap_or(u32::MAX)).unwrap_or(usize::MAX)
        };
        let (size, header, entry) = (number(16), number(20), number(24));
        let body = rest.get(LIST_HEADER_BYTES.saturating_add(header)..size);
        let body = body.ok_or_else(|| corrupt("a list inside the variable", format!("{size} bytes")))?;
        if entry < GUID_BYTES || !body.len().is_multiple_of(entry) {
            return Err(corrupt("whole entries", format!("{} bytes in entries of {entry}", body.len())));
        }
        if rest.starts_with(&X509.0) {
            found.extend(body.chunks_exact(entry).filter_map(|entry| entry.get(GUID_BYTES..)));
        }
        at = at.saturating_add(size);
    }
    Err(Error::Unsupported { what: "signature lists", value: format!("more than {MAX_LISTS}") })
}

/// Microsoft's authorities for loaders that are not Microsoft's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Microsoft {
    /// Microsoft Corporation UEFI CA 2011.
    pub of_2011: bool,
    /// Microsoft UEFI CA 2023.
    pub of_2023: bool,
}

impl Microsoft {
    /// Those whose names stand in `bytes`: in a certificate, or in the signatures of a program, which name their issuers.
    pub fn named_in(bytes: &[u8]) -> Self {
        let has = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
        Self { of_2011: has("Microsoft Corporation UEFI CA 2011"), of_2023: has("Microsoft UEFI CA 2023") }
    }
}

/// Which of them a variable of lists (`db`) trusts. Names are strings of one byte a character in all these certificates.
pub fn microsoft(lists: &[u8]) -> Result<Microsoft, Error> {
    let found = certificates(lists)?.into_iter().map(Microsoft::named_in);
    Ok(found.fold(Microsoft::default(), |all, one| Microsoft {
        of_2011: all.of_2011 || one.of_2011,
        of_2023: all.of_2023 || one.of_2023,
    }))
}

/// A moment as firmware writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EfiTime {
    /// Year, e.g. 2026.
    pub year: u16,
    /// Month, day, hour, minute, second.
    pub rest: [u8; 5],
}

impl EfiTime {
    fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        let [low, high] = self.year.to_le_bytes();
        for (to, from) in out.iter_mut().zip([low, high].into_iter().chain(self.rest)) {
            *to = from;
        }
        out
    }
}

/// A variable to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// Its name: `PK`, `KEK`, `db`.
    pub name: &'a str,
    /// Its vendor.
    pub vendor: Guid,
    /// [`ATTRIBUTES`], with [`APPEND`] or without.
    pub attributes: u32,
    /// Must be later than that of the last change, unless something is appended.
    pub time: EfiTime,
    /// The new value, or what is added.
    pub lists: &'a [u8],
}

impl Change<'_> {
    /// What is signed.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let name: Vec<u8> = self.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let vendor = self.vendor.0;
        [&name, &vendor[..], &self.attributes.to_le_bytes(), &self.time.to_bytes(), self.lists].concat()
    }

    /// The message firmware takes (an `.auth` file): time, signature, value.
    pub fn message(&self, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
        let signature = detached(&self.signed_bytes(), signer)?;
        let len = u32::try_from(signature.len().saturating_add(8 + GUID_BYTES)).unwrap_or(u32::MAX);
        // Revision 2.0, WIN_CERT_TYPE_EFI_GUID.
        let kind = [0x00, 0x02, 0xf1, 0x0e];
        let time = self.time.to_bytes();
        Ok([&time[..], &len.to_le_bytes(), &kind, &PKCS7.0, &signature, self.lists].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_come_out_of_lists_as_they_went_in() {
        let owner = Guid([4; 16]);
        let mut variable = list(owner, b"one");
        // A list of hashes in between.
        let hashes =
            [&[7u8; 16][..], &(28u32 + 96).to_le_bytes(), &[0; 4], &48u32.to_le_bytes(), &[1; 96]].concat();
        variable.extend(&hashes);
        variable.extend(list(owner, b"another"));
        assert_eq!(certificates(&variable).unwrap(), [&b"one"[..], b"another"]);
        let ends = [0, 47, 47 + hashes.len(), variable.len()];
        for cut in 0..=variable.len() {
            assert_eq!(certificates(&variable[..cut]).is_ok(), ends.contains(&cut), "cut at {cut}");
        }
    }
}
