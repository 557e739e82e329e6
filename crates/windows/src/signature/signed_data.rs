//! Signed messages (PKCS #7, RFC 5652) of catalogues and programs: one signer, whose certificate is in the message.

use super::certificate::Certificate;
use super::der::{Element, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE, SET, context};
use super::{HashKind, SignatureError, Signed};

const WHAT: &str = "signed message";
/// `signedData`.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// `messageDigest`.
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// Longest chain followed, and most certificates looked at; real messages have up to ten.
const MAX_CHAIN: usize = 16;
const MAX_CERTIFICATES: usize = 64;

/// A signed message whose parts were found.
#[derive(Debug, Clone)]
pub(super) struct SignedData<'a> {
    /// What the content is.
    pub(super) content_type: &'a [u8],
    /// The content, one element.
    pub(super) content: Element<'a>,
    certificates: Vec<Certificate<'a>>,
    signer: Signer<'a>,
}

#[derive(Debug, Clone)]
struct Signer<'a> {
    issuer: Element<'a>,
    serial: &'a [u8],
    hash: HashKind,
    /// Tag and all; signed as a set.
    attributes: Option<Element<'a>>,
    signature: &'a [u8],
}

impl<'a> SignedData<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, SignatureError> {
        let outer = Element::parse(bytes, WHAT)?;
        outer.expect(SEQUENCE, WHAT)?;
        let mut fields = outer.reader(WHAT);
        if fields.expect(OBJECT_ID)?.value != SIGNED_DATA {
            return Err(SignatureError::new(WHAT, "signed data".to_owned(), "something else".to_owned()));
        }
        let body = fields.expect(context(0))?.reader(WHAT).expect(SEQUENCE)?;
        let mut fields = body.reader(WHAT);
        fields.expect(INTEGER)?;
        fields.expect(SET)?;
        let mut content = fields.expect(SEQUENCE)?.reader(WHAT);
        let content_type = content.expect(OBJECT_ID)?.value;
        let content = content.expect(context(0))?.reader(WHAT).next()?;
        let mut certificates = Vec::new();
        if let Some(bag) = fields.optional(context(0))? {
            let mut bag = bag.reader(WHAT);
            while !bag.is_empty() {
                let item = bag.next()?;
                if item.tag == SEQUENCE && certificates.len() < MAX_CERTIFICATES {
                    certificates.push(Certificate::parse(item.whole)?);
                }
            }
        }
        fields.optional(context(1))?;
        let signer = Signer::parse(fields.expect(SET)?.reader(WHAT).expect(SEQUENCE)?)?;
        Ok(Self { content_type, content, certificates, signer })
    }

    /// Checks the signature of the content and the chain of certificates that are in the message; says who signed.
    pub(super) fn verify(&self) -> Result<Signed, SignatureError> {
        let broken = |expected: &str, found: &str| {
            SignatureError::new("signature", expected.to_owned(), found.to_owned())
        };
        let Signer { issuer, serial, hash, attributes, signature } = &self.signer;
        let found = hash.digest(self.content.value);
        let signed_hash = match attributes {
            None => found,
            Some(attributes) => {
                let stated = message_digest(*attributes)?;
                if stated != found {
                    return Err(broken("the content that was signed", "another content"));
                }
                // Signed is the set itself, not the tag that it has in the message.
                let mut set = attributes.whole.to_vec();
                if let Some(tag) = set.first_mut() {
                    *tag = SET;
                }
                hash.digest(&set)
            }
        };
        let is_signer = |c: &&Certificate<'_>| c.issuer.whole == issuer.whole && c.serial == *serial;
        let signer = self.certificates.iter().find(is_signer);
        let signer = signer.ok_or_else(|| broken("the certificate of the signer", "none in the message"))?;
        if !signer.verify(*hash, &signed_hash, signature)? {
            return Err(broken("one by the key of the certificate", "another"));
        }
        let mut chain = vec![*signer];
        let mut top = *signer;
        while !top.is_self_signed() && chain.len() < MAX_CHAIN {
            let issuer = self.certificates.iter().find(|c| c.subject.whole == top.issuer.whole);
            // Roots are usually left out: the system has them.
            let Some(issuer) = issuer else { break };
            if !top.is_signed_by(issuer)? {
                return Err(broken("a certificate signed by its issuer", "one that is not"));
            }
            chain.push(*issuer);
            top = *issuer;
        }
        let root = top.issuer_name();
        Ok(Signed {
            signer: signer.name(),
            root,
            certificates: chain.iter().map(|c| c.whole.to_vec()).collect(),
        })
    }
}

impl<'a> Signer<'a> {
    fn parse(element: Element<'a>) -> Result<Self, SignatureError> {
        let mut fields = element.reader(WHAT);
        fields.expect(INTEGER)?;
        let mut id = fields.expect(SEQUENCE)?.reader(WHAT);
        let (issuer, serial) = (id.expect(SEQUENCE)?, id.expect(INTEGER)?.value);
        let hash = HashKind::of_algorithm(fields.expect(SEQUENCE)?)?;
        let attributes = fields.optional(context(0))?;
        fields.expect(SEQUENCE)?;
        let signature = fields.expect(OCTET_STRING)?.value;
        Ok(Self { issuer, serial, hash, attributes, signature })
    }
}

fn message_digest(attributes: Element<'_>) -> Result<Vec<u8>, SignatureError> {
    let mut attributes = attributes.reader(WHAT);
    while !attributes.is_empty() {
        let mut attribute = attributes.expect(SEQUENCE)?.reader(WHAT);
        if attribute.expect(OBJECT_ID)?.value == MESSAGE_DIGEST {
            return Ok(attribute.expect(SET)?.reader(WHAT).expect(OCTET_STRING)?.value.to_vec());
        }
    }
    Err(SignatureError::new(WHAT, "a hash of the content".to_owned(), "none".to_owned()))
}
