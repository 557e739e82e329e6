//! Certificates (RFC 5280), as far as a chain needs them: who, by whom, with which key, and whether the signature fits.

use rsa::RsaPublicKey;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::DecodePublicKey as _;

use super::der::{self, BIT_STRING, Element, INTEGER, OBJECT_ID, SEQUENCE, SET, context};
use super::{HashKind, SignatureError};

const WHAT: &str = "certificate";
/// `id-at-commonName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `id-at-organizationName`, for certificates without a common name.
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 0x04, 0x0b];
/// `rsaEncryption`: the algorithm of a key, and of signatures that leave the hash to others.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `...WithRSAEncryption` without its last number.
const WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];

/// A certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    pub(super) whole: &'a [u8],
    /// What its issuer signed: all of it but the signature.
    pub(super) signed: &'a [u8],
    pub(super) serial: &'a [u8],
    pub(super) issuer: Element<'a>,
    pub(super) subject: Element<'a>,
    key: Element<'a>,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, SignatureError> {
        let outer = Element::parse(bytes, WHAT)?;
        outer.expect(SEQUENCE, WHAT)?;
        let mut fields = outer.reader(WHAT);
        let signed = fields.expect(SEQUENCE)?;
        let algorithm = fields.expect(SEQUENCE)?.reader(WHAT).expect(OBJECT_ID)?.value;
        let signature = bits(fields.expect(BIT_STRING)?)?;
        let mut inner = signed.reader(WHAT);
        inner.optional(context(0))?;
        let serial = inner.expect(INTEGER)?.value;
        inner.expect(SEQUENCE)?;
        let issuer = inner.expect(SEQUENCE)?;
        inner.expect(SEQUENCE)?;
        let subject = inner.expect(SEQUENCE)?;
        let key = inner.expect(SEQUENCE)?;
        Ok(Self {
            whole: outer.whole,
            signed: signed.whole,
            serial,
            issuer,
            subject,
            key,
            algorithm,
            signature,
        })
    }

    /// Name for people.
    pub(super) fn name(&self) -> String {
        name_of(self.subject)
    }

    /// Name for people of who made it; its own for a root.
    pub(super) fn issuer_name(&self) -> String {
        name_of(self.issuer)
    }

    pub(super) fn is_self_signed(&self) -> bool {
        self.issuer.whole == self.subject.whole
    }

    /// Whether `issuer` signed this one.
    pub(super) fn is_signed_by(&self, issuer: &Certificate<'_>) -> Result<bool, SignatureError> {
        if self.issuer.whole != issuer.subject.whole {
            return Ok(false);
        }
        let hash = HashKind::of_rsa_signature(self.algorithm)?;
        issuer.verify(hash, &hash.digest(self.signed), self.signature)
    }

    /// Whether `signature` is of the hash by this certificate's key.
    pub(super) fn verify(
        &self,
        kind: HashKind,
        hash: &[u8],
        signature: &[u8],
    ) -> Result<bool, SignatureError> {
        let algorithm = self.key.reader(WHAT).expect(SEQUENCE)?.reader(WHAT).expect(OBJECT_ID)?.value;
        if algorithm != RSA {
            return Err(SignatureError::new("key of a certificate", "RSA".to_owned(), hex_of(algorithm)));
        }
        let key = RsaPublicKey::from_public_key_der(self.key.whole).map_err(|error| {
            SignatureError::new("key of a certificate", "an RSA key".to_owned(), error.to_string())
        })?;
        let prefix = kind.prefix();
        let scheme = Pkcs1v15Sign { hash_len: Some(kind.len()), prefix: prefix.into() };
        Ok(key.verify(scheme, hash, signature).is_ok())
    }
}

impl HashKind {
    /// Bytes of a hash.
    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// What stands before the hash in a signature (RFC 8017, 9.2).
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Sha1 => b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
            Self::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
            Self::Sha384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
            Self::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
        }
    }

    /// From `sha256WithRSAEncryption` and its siblings.
    fn of_rsa_signature(algorithm: &[u8]) -> Result<Self, SignatureError> {
        match algorithm.strip_prefix(WITH_RSA) {
            Some([5]) => Ok(Self::Sha1),
            Some([11]) => Ok(Self::Sha256),
            Some([12]) => Ok(Self::Sha384),
            Some([13]) => Ok(Self::Sha512),
            _ => {
                let expected = "RSA with SHA-1 or SHA-2".to_owned();
                Err(SignatureError::new("signature of a certificate", expected, hex_of(algorithm)))
            }
        }
    }
}

fn hex_of(bytes: &[u8]) -> String {
    format!("object {}", crate::journal::hex(bytes))
}

/// Whole bytes of a bit string.
fn bits(element: Element<'_>) -> Result<&[u8], SignatureError> {
    match element.value {
        [0, bytes @ ..] => Ok(bytes),
        _ => Err(SignatureError::new(WHAT, "a bit string of whole bytes".to_owned(), "another".to_owned())),
    }
}

/// Common name of a distinguished name; what else it has without one.
fn name_of(name: Element<'_>) -> String {
    let mut found: [Option<String>; 3] = [None, None, None];
    let mut sets = name.reader(WHAT);
    while let Ok(set) = sets.expect(SET) {
        let mut pairs = set.reader(WHAT);
        while let Ok(pair) = pairs.expect(SEQUENCE) {
            let mut pair = pair.reader(WHAT);
            let (Ok(kind), Ok(value)) = (pair.expect(OBJECT_ID), pair.next()) else { continue };
            let places = [COMMON_NAME, ORGANIZATIONAL_UNIT, ORGANIZATION];
            for (place, wanted) in found.iter_mut().zip(places) {
                if kind.value == wanted {
                    *place = der::text(value);
                }
            }
        }
    }
    found.into_iter().flatten().next().unwrap_or_else(|| "without a name".to_owned())
}
