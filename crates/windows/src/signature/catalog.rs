//! Catalogues (`.cat`): signed lists of hashes (certificate trust lists, MS-CAESO; two versions, told apart by the length of the
//! members' names: 20 bytes and text in the first, the hash itself in the second).

use std::collections::BTreeSet;

use sha1::Sha1;
use sha2::Sha256;

use super::der::{self, Element, OBJECT_ID, OCTET_STRING, SEQUENCE, SET, context};
use super::pe::Program;
use super::signed_data::SignedData;
use super::{HashKind, SignatureError, Signed};

const WHAT: &str = "catalogue";
/// Largest catalogue read; those of large graphics drivers have 500 KB.
pub(crate) const MAX_CATALOG_BYTES: u64 = 64 << 20;
/// `szOID_CTL`.
const TRUST_LIST: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0a, 0x01];
/// `SPC_INDIRECT_DATA`: the hash of a member.
const INDIRECT_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
/// `CAT_NAMEVALUE`: an attribute with a name.
const NAME_VALUE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0c, 0x02, 0x01];
/// Most members; the catalogues of Windows itself have 30,000.
const MAX_MEMBERS: usize = 1_000_000;

/// A catalogue.
#[derive(Debug, Clone)]
pub(crate) struct Catalog<'a> {
    message: SignedData<'a>,
    /// Hashes of the members, SHA-1 and SHA-256.
    hashes: BTreeSet<Vec<u8>>,
    /// `Submission ID`, which Windows keeps with a published package.
    submission: Option<String>,
}

impl<'a> Catalog<'a> {
    /// Reads a catalogue. Its signature is not checked yet.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, SignatureError> {
        let message = SignedData::parse(bytes)?;
        if message.content_type != TRUST_LIST {
            return Err(SignatureError::new(
                WHAT,
                "a list of hashes".to_owned(),
                "something else".to_owned(),
            ));
        }
        message.content.expect(SEQUENCE, WHAT)?;
        let mut fields = message.content.reader(WHAT);
        let (mut hashes, mut submission) = (BTreeSet::new(), None);
        // Usage, identifier, times and algorithm come before the members, which are the only sequence of sequences that start
        // with bytes.
        while !fields.is_empty() {
            let field = fields.next()?;
            if field.tag == context(0) {
                submission = submission_in(field)?.or(submission);
            } else if field.tag == SEQUENCE && is_members(field) {
                let mut members = field.reader(WHAT);
                while !members.is_empty() {
                    member(members.expect(SEQUENCE)?, &mut hashes)?;
                    if hashes.len() > MAX_MEMBERS {
                        let expected = format!("at most {MAX_MEMBERS} members");
                        return Err(SignatureError::new(WHAT, expected, "more".to_owned()));
                    }
                }
            }
        }
        Ok(Self { message, hashes, submission })
    }

    /// Checks the signature; says whose it is.
    pub(crate) fn verify(&self) -> Result<Signed, SignatureError> {
        self.message.verify()
    }

    /// Whether a file is a member: a program by its hash without signatures, anything else by that of all its bytes.
    pub(crate) fn contains(&self, bytes: &[u8]) -> bool {
        let has = |hash: Vec<u8>| self.hashes.contains(&hash);
        if let Some(program) = Program::parse(bytes) {
            let by_program = has(program.hash::<Sha256>())
                || has(program.hash::<Sha1>())
                || has(program.padded_hash::<Sha256>())
                || has(program.padded_hash::<Sha1>());
            if by_program {
                return true;
            }
        }
        has(HashKind::Sha256.digest(bytes)) || has(HashKind::Sha1.digest(bytes))
    }

    /// How many hashes are in it.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The number under which it was signed.
    pub(crate) fn submission(&self) -> Option<&str> {
        self.submission.as_deref()
    }
}

fn is_members(field: Element<'_>) -> bool {
    let first = field.reader(WHAT).next();
    first.is_ok_and(|first| first.tag == SEQUENCE && first.reader(WHAT).peek() == Some(OCTET_STRING))
}

fn member(element: Element<'_>, hashes: &mut BTreeSet<Vec<u8>>) -> Result<(), SignatureError> {
    let mut fields = element.reader(WHAT);
    let name = fields.expect(OCTET_STRING)?.value;
    if matches!(name.len(), 20 | 32) {
        hashes.insert(name.to_vec());
    }
    let Some(attributes) = fields.optional(SET)? else { return Ok(()) };
    let mut attributes = attributes.reader(WHAT);
    while !attributes.is_empty() {
        let mut attribute = attributes.expect(SEQUENCE)?.reader(WHAT);
        if attribute.expect(OBJECT_ID)?.value != INDIRECT_DATA {
            continue;
        }
        // What it is of, then the hash with its algorithm.
        let mut data = attribute.expect(SET)?.reader(WHAT).expect(SEQUENCE)?.reader(WHAT);
        data.expect(SEQUENCE)?;
        let mut digest = data.expect(SEQUENCE)?.reader(WHAT);
        digest.expect(SEQUENCE)?;
        hashes.insert(digest.expect(OCTET_STRING)?.value.to_vec());
    }
    Ok(())
}

/// `Submission ID` among the attributes of the whole list.
fn submission_in(field: Element<'_>) -> Result<Option<String>, SignatureError> {
    let mut extensions = field.reader(WHAT).expect(SEQUENCE)?.reader(WHAT);
    while !extensions.is_empty() {
        let mut extension = extensions.expect(SEQUENCE)?.reader(WHAT);
        if extension.expect(OBJECT_ID)?.value != NAME_VALUE {
            continue;
        }
        let value = extension.expect(OCTET_STRING)?;
        let mut pair = Element::parse(value.value, WHAT)?.reader(WHAT);
        let name = der::text(pair.next()?);
        pair.next()?;
        let value = pair.expect(OCTET_STRING)?.value;
        if name.as_deref() == Some("Submission ID") {
            let (units, _) = value.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            return Ok(Some(String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned()));
        }
    }
    Ok(None)
}
