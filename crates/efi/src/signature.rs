//! Signed messages (PKCS #7, RFC 2315) as firmware checks them, and programs that carry one (Authenticode).
//!
//! SHA-256 with RSA, PKCS #1 v1.5: the one pair that all firmware with Secure Boot knows (UEFI 2.10, 32.5).

use sha2::{Digest, Sha256};

use crate::der::{
    CONTEXT_0, SEQUENCE, SET, element, integer, issuer_and_serial, null, octets, oid, sequence,
};
use crate::uki::put;
use crate::{Error, Program};

const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// `SPC_INDIRECT_DATA`.
const INDIRECT_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
/// `SPC_PE_IMAGE_DATA`.
const PROGRAM_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0f];

/// Entries of the certificate table begin at multiples of this.
const ENTRY_ALIGNMENT: usize = 8;
/// Length, revision 2.0, `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const ENTRY_HEADER_BYTES: usize = 8;
const REVISION_AND_KIND: [u8; 4] = [0, 2, 2, 0];

/// Why a key did not sign.
pub type SignError = Box<dyn std::error::Error + Send + Sync>;

/// Holds an RSA key and its certificate.
pub trait Signer {
    /// The certificate, DER.
    fn certificate(&self) -> &[u8];

    /// Signs `bytes`: SHA-256, RSA with PKCS #1 v1.5.
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// The program with a signature; one that it had goes.
pub fn sign(program: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, Error> {
    let parsed = Program::parse(program)?;
    if parsed.is_signed() {
        return Err(Error::Unsupported { what: "program", value: "it is signed already".into() });
    }
    let directory = parsed.directory_at();
    let mut out = program.to_vec();
    // Covered by the signature, as the entry behind it must begin there.
    out.resize(out.len().next_multiple_of(ENTRY_ALIGNMENT), 0);
    let digest = Program::parse(&out)?.digest()?;
    let mut message = program_signature(&digest, signer)?;
    message.resize(message.len().next_multiple_of(ENTRY_ALIGNMENT), 0);
    let size = |len: usize| {
        u32::try_from(len)
            .map_err(|_| Error::Unsupported { what: "program of so many bytes", value: len.to_string() })
    };
    let len = size(message.len().saturating_add(ENTRY_HEADER_BYTES))?;
    let offset = size(out.len())?;
    put(&mut out, directory, &[offset.to_le_bytes(), len.to_le_bytes()].concat());
    out.extend(len.to_le_bytes());
    out.extend(REVISION_AND_KIND);
    out.extend(message);
    Ok(out)
}

/// The message that vouches for a program of this hash.
fn program_signature(digest: &[u8; 32], signer: &dyn Signer) -> Result<Vec<u8>, Error> {
    let algorithm = sequence(&[&oid(SHA256), &null()]);
    // `SpcPeImageData`: no flags, and an empty file name where page hashes could be.
    let link = element(CONTEXT_0, &element(0xa2, &element(0x80, &[])));
    let program_data = sequence(&[&element(3, &[0]), &link]);
    let inside =
        [sequence(&[&oid(PROGRAM_DATA), &program_data]), sequence(&[&algorithm, &octets(digest)])].concat();
    let attributes = [
        // In the order of their encodings, as a set is signed.
        sequence(&[&oid(CONTENT_TYPE), &element(SET, &oid(INDIRECT_DATA))]),
        sequence(&[&oid(MESSAGE_DIGEST), &element(SET, &octets(&Sha256::digest(&inside)))]),
    ]
    .concat();
    let signature = signer.sign(&element(SET, &attributes)).map_err(Error::Signing)?;
    let content = sequence(&[&oid(INDIRECT_DATA), &element(CONTEXT_0, &element(SEQUENCE, &inside))]);
    let signed = message(&content, &element(CONTEXT_0, &attributes), &signature, signer)?;
    Ok(sequence(&[&oid(SIGNED_DATA), &element(CONTEXT_0, &signed)]))
}

/// A signature of `bytes` that stand elsewhere; `SignedData` alone, as variables of firmware want it (UEFI 2.10, 8.2.2).
pub(crate) fn detached(bytes: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, Error> {
    let signature = signer.sign(bytes).map_err(Error::Signing)?;
    message(&sequence(&[&oid(DATA)]), &[], &signature, signer)
}

/// `SignedData` with one signer. `attributes` are what was signed in place of the content, or nothing.
fn message(
    content: &[u8],
    attributes: &[u8],
    signature: &[u8],
    signer: &dyn Signer,
) -> Result<Vec<u8>, Error> {
    let algorithm = sequence(&[&oid(SHA256), &null()]);
    let signed = sequence(&[
        &integer(1),
        &issuer_and_serial(signer.certificate())?,
        &algorithm,
        attributes,
        &sequence(&[&oid(RSA), &null()]),
        &octets(signature),
    ]);
    Ok(sequence(&[
        &integer(1),
        &element(SET, &algorithm),
        content,
        &element(CONTEXT_0, signer.certificate()),
        &element(SET, &signed),
    ]))
}
