//! Signatures of drivers: hashes of programs as signatures hold them, catalogues, and who signed.
//!
//! What is proven: that a catalogue or program is as its signer left it, and that the certificates in it sign one another. That
//! one of them is to be trusted is for Microsoft's own to say, which are known by their hashes (`microsoft`), or a site's (`Roots`).

mod catalog;
mod certificate;
mod der;
mod microsoft;
mod pe;
mod signed_data;

#[cfg(test)]
mod tests;

pub(crate) use catalog::{Catalog, MAX_CATALOG_BYTES};
pub(crate) use microsoft::{Vouched, vouched};
pub(crate) use pe::Program;

use certificate::Certificate;
use der::{Element, OBJECT_ID, OCTET_STRING, SEQUENCE};
use sha1::Digest;
use signed_data::SignedData;

/// Why a signature is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: expected {expected}, found {found}")]
pub(crate) struct SignatureError {
    what: &'static str,
    expected: String,
    found: String,
}

impl SignatureError {
    fn new(what: &'static str, expected: String, found: String) -> Self {
        Self { what, expected, found }
    }
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Name of the certificate that signed.
    pub(crate) signer: String,
    /// Name at the end of the chain.
    pub(crate) root: String,
    /// The chain, from the signer on.
    pub(crate) certificates: Vec<Vec<u8>>,
}

/// Certificates that are trusted, as roots or on the way to one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots(Vec<Vec<u8>>);

impl Roots {
    /// Adds a certificate in DER, or in PEM.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), crate::Error> {
        let corrupt = |found: String| crate::Error::Corrupt {
            path: "trusted certificate".to_owned(),
            expected: "a certificate in DER or PEM".to_owned(),
            found,
        };
        let der =
            match std::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN CERTIFICATE-----"))
            {
                None => bytes.to_vec(),
                Some(text) => {
                    use base64::Engine as _;
                    let body = text.split("-----BEGIN CERTIFICATE-----").nth(1).unwrap_or_default();
                    let body: String =
                        body.split("-----END").next().unwrap_or_default().split_whitespace().collect();
                    base64::engine::general_purpose::STANDARD
                        .decode(body)
                        .map_err(|error| corrupt(error.to_string()))?
                }
            };
        Certificate::parse(&der).map_err(|error| corrupt(error.to_string()))?;
        self.0.push(der);
        Ok(())
    }

    /// Whether a chain leads to one of them.
    pub(crate) fn trust(&self, signed: &Signed) -> Result<bool, SignatureError> {
        for certificate in &signed.certificates {
            let certificate = Certificate::parse(certificate)?;
            for root in &self.0 {
                if certificate.whole == root.as_slice()
                    || certificate.is_signed_by(&Certificate::parse(root)?)?
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Hashes that signatures use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HashKind {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl HashKind {
    fn of_algorithm(algorithm: Element<'_>) -> Result<Self, SignatureError> {
        let id = algorithm.reader("hash algorithm").expect(OBJECT_ID)?.value;
        match id {
            [0x2b, 0x0e, 0x03, 0x02, 0x1a] => Ok(Self::Sha1),
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01] => Ok(Self::Sha256),
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02] => Ok(Self::Sha384),
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03] => Ok(Self::Sha512),
            other => {
                let found = format!("object {}", crate::journal::hex(other));
                Err(SignatureError::new("hash algorithm", "SHA-1 or SHA-2".to_owned(), found))
            }
        }
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => sha1::Sha1::digest(bytes).to_vec(),
            Self::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
            Self::Sha384 => sha2::Sha384::digest(bytes).to_vec(),
            Self::Sha512 => sha2::Sha512::digest(bytes).to_vec(),
        }
    }
}

/// Common name of a certificate in DER.
pub(crate) fn common_name(certificate: &[u8]) -> Option<String> {
    Certificate::parse(certificate).ok().map(|certificate| certificate.name())
}

/// Who signed a program, when it carries a signature of its own that is of it.
pub(crate) fn embedded_signer(bytes: &[u8]) -> Result<Option<Signed>, SignatureError> {
    const WHAT: &str = "signature of a program";
    let Some(program) = Program::parse(bytes) else { return Ok(None) };
    let Some(signature) = program.signature() else { return Ok(None) };
    let message = SignedData::parse(signature)?;
    message.content.expect(SEQUENCE, WHAT)?;
    let mut data = message.content.reader(WHAT);
    data.expect(SEQUENCE)?;
    let mut digest = data.expect(SEQUENCE)?.reader(WHAT);
    let kind = HashKind::of_algorithm(digest.expect(SEQUENCE)?)?;
    let stated = digest.expect(OCTET_STRING)?.value;
    let found = match kind {
        HashKind::Sha1 => program.hash::<sha1::Sha1>(),
        HashKind::Sha256 => program.hash::<sha2::Sha256>(),
        HashKind::Sha384 => program.hash::<sha2::Sha384>(),
        HashKind::Sha512 => program.hash::<sha2::Sha512>(),
    };
    if stated != found {
        return Err(SignatureError::new(
            WHAT,
            "the program that was signed".to_owned(),
            "another".to_owned(),
        ));
    }
    message.verify().map(Some)
}

/// Bodies for fuzzing: nothing may panic.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(catalog) = Catalog::parse(bytes) {
        let _ = catalog.verify();
        catalog.contains(bytes);
    }
    let _ = embedded_signer(bytes);
    let _ = common_name(bytes);
    let _ = SignedData::parse(bytes).and_then(|message| message.verify());
}
