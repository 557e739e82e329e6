//! Signed driver packages for tests: an authority, a signer, catalogues, programs with and without a signature of their own. The
//! keys are always the same.

mod keys;

use std::sync::OnceLock;

use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::EncodePublicKey as _;
use rsa::{BigUint, RsaPrivateKey};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const TRUST_LIST: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0a, 0x01];
const CATALOG_LIST: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0c, 0x01, 0x01];
const CATALOG_MEMBER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0c, 0x01, 0x02];
const NAME_VALUE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0c, 0x02, 0x01];
const INDIRECT_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
const PROGRAM_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0f];

/// Makes certificates.
pub struct Authority {
    name: String,
    key: RsaPrivateKey,
    certificate: Vec<u8>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority of that name.
    pub fn new(name: &str) -> Self {
        let key = key(0).clone();
        let certificate = certificate(name, name, &key, &key, true);
        Self { name: name.to_owned(), key, certificate }
    }

    /// Its own certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Somebody whom it has given a certificate.
    pub fn signer(&self, name: &str) -> Signer {
        let key = key(1).clone();
        let certificate = certificate(&self.name, name, &self.key, &key, false);
        Signer { issuer: self.name.clone(), key, certificate }
    }
}

/// Signs catalogues and programs.
pub struct Signer {
    issuer: String,
    key: RsaPrivateKey,
    certificate: Vec<u8>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Signer {
    /// A catalogue of the first version, which names SHA-1 hashes: what most packages before 2016 have.
    pub fn catalog_sha1(&self, members: &[&[u8]]) -> Vec<u8> {
        self.catalog_of(members, SHA1, |bytes| {
            let hash = program_hash::<Sha1>(bytes);
            let text = hash.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
            (utf16(&text), hash)
        })
    }

    /// A catalogue of the second version, which names SHA-256 hashes.
    pub fn catalog(&self, members: &[&[u8]]) -> Vec<u8> {
        self.catalog_of(members, SHA256, |bytes| {
            let hash = program_hash::<Sha256>(bytes);
            (hash.clone(), hash)
        })
    }

    fn catalog_of(
        &self,
        members: &[&[u8]],
        algorithm: &[u8],
        name_and_hash: impl Fn(&[u8]) -> (Vec<u8>, Vec<u8>),
    ) -> Vec<u8> {
        let member = |bytes: &&[u8]| {
            let (name, hash) = name_and_hash(bytes);
            let digest = seq(&[&seq(&[&oid(algorithm), &null()]), &octets(&hash)]);
            let data = seq(&[&seq(&[&oid(PROGRAM_DATA), &program_data()]), &digest]);
            let attribute = seq(&[&oid(INDIRECT_DATA), &tlv(0x31, &data)]);
            seq(&[&octets(&name), &tlv(0x31, &attribute)])
        };
        let members: Vec<u8> = members.iter().flat_map(member).collect();
        let tag: Vec<u8> = "Submission ID".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let value = seq(&[&tlv(0x1e, &tag), &tlv(2, &[1, 0, 1]), &octets(&utf16("12345_67890"))]);
        let extension = seq(&[&oid(NAME_VALUE), &octets(&value)]);
        let list = seq(&[
            &seq(&[&oid(CATALOG_LIST)]),
            &octets(&[7; 16]),
            &tlv(0x17, b"240102030405Z"),
            &seq(&[&oid(CATALOG_MEMBER), &null()]),
            &seq(&[&members]),
            &tlv(0xa0, &seq(&[&extension])),
        ]);
        self.sign(TRUST_LIST, &list)
    }

    /// The program with a signature of its own.
    pub fn sign_program(&self, plain: &[u8]) -> Vec<u8> {
        let mut out = plain.to_vec();
        out.resize(out.len().next_multiple_of(8), 0);
        let digest = seq(&[&seq(&[&oid(SHA256), &null()]), &octets(&program_hash::<Sha256>(&out))]);
        let data = seq(&[&seq(&[&oid(PROGRAM_DATA), &program_data()]), &digest]);
        let mut signature = self.sign(INDIRECT_DATA, &data);
        signature.resize(signature.len().next_multiple_of(8), 0);
        let len = u32::try_from(signature.len() + 8).unwrap_or(u32::MAX);
        let at = u32::try_from(out.len()).unwrap_or(u32::MAX);
        out[SECURITY_DIRECTORY..SECURITY_DIRECTORY + 4].copy_from_slice(&at.to_le_bytes());
        out[SECURITY_DIRECTORY + 4..SECURITY_DIRECTORY + 8].copy_from_slice(&len.to_le_bytes());
        out.extend(len.to_le_bytes());
        out.extend([0, 2, 2, 0]);
        out.extend(signature);
        out
    }

    /// A signed message of one element.
    fn sign(&self, kind: &[u8], content: &[u8]) -> Vec<u8> {
        // Signed is what is in the element.
        let inside = content.get(header_len(content)..).unwrap_or_default();
        let attributes = [
            seq(&[&oid(CONTENT_TYPE), &tlv(0x31, &oid(kind))]),
            seq(&[&oid(MESSAGE_DIGEST), &tlv(0x31, &octets(&Sha256::digest(inside)))]),
        ]
        .concat();
        let signature = sign(&self.key, &tlv(0x31, &attributes));
        let algorithm = seq(&[&oid(SHA256), &null()]);
        let signer = seq(&[
            &tlv(2, &[1]),
            &seq(&[&distinguished(&self.issuer), &tlv(2, &[SIGNER_SERIAL])]),
            &algorithm,
            &tlv(0xa0, &attributes),
            &seq(&[&oid(RSA), &null()]),
            &octets(&signature),
        ]);
        let body = seq(&[
            &tlv(2, &[1]),
            &tlv(0x31, &algorithm),
            &seq(&[&oid(kind), &tlv(0xa0, content)]),
            &tlv(0xa0, &self.certificate),
            &tlv(0x31, &signer),
        ]);
        seq(&[&oid(SIGNED_DATA), &tlv(0xa0, &body)])
    }
}

/// A certificate of that name, DER.
pub fn certificate_named(name: &str) -> Vec<u8> {
    certificate(name, name, key(0), key(0), true)
}

/// Where the place of signatures stands in [`program`].
const SECURITY_DIRECTORY: usize = 0x40 + 24 + 112 + 4 * 8;
const HEADER_BYTES: usize = 0x200;

/// A 64-bit driver that does nothing: a header and one section that holds `body`.
pub fn program(body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let raw = u32::try_from(body.len().next_multiple_of(0x200)).unwrap_or(u32::MAX);
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664u16.to_le_bytes());
    put(0x46, &1u16.to_le_bytes());
    put(0x54, &240u16.to_le_bytes());
    put(0x56, &0x22u16.to_le_bytes());
    let optional = 0x40 + 24;
    put(optional, &0x20bu16.to_le_bytes());
    put(optional + 16, &0x1000u32.to_le_bytes());
    put(optional + 24, &0x1_4000_0000u64.to_le_bytes());
    put(optional + 32, &0x1000u32.to_le_bytes());
    put(optional + 36, &0x200u32.to_le_bytes());
    put(optional + 40, &10u16.to_le_bytes());
    put(optional + 48, &10u16.to_le_bytes());
    put(optional + 56, &0x2000u32.to_le_bytes());
    put(optional + 60, &0x200u32.to_le_bytes());
    // A native program.
    put(optional + 68, &1u16.to_le_bytes());
    put(optional + 108, &16u32.to_le_bytes());
    let section = optional + 240;
    put(section, b".text");
    put(section + 8, &raw.to_le_bytes());
    put(section + 12, &0x1000u32.to_le_bytes());
    put(section + 16, &raw.to_le_bytes());
    put(section + 20, &u32::try_from(HEADER_BYTES).unwrap_or(0).to_le_bytes());
    put(section + 36, &0x6000_0020u32.to_le_bytes());
    out.extend_from_slice(body);
    out.resize(HEADER_BYTES + body.len().next_multiple_of(0x200), 0);
    out
}

/// Hash of a program of [`program`] without checksum and signatures, and of all of anything else.
fn program_hash<D: sha2::Digest>(bytes: &[u8]) -> Vec<u8> {
    if !bytes.starts_with(b"MZ") || bytes.len() < HEADER_BYTES {
        return D::digest(bytes).to_vec();
    }
    let checksum = 0x40 + 24 + 64;
    D::new()
        .chain_update(&bytes[..checksum])
        .chain_update(&bytes[checksum + 4..SECURITY_DIRECTORY])
        .chain_update(&bytes[SECURITY_DIRECTORY + 8..])
        .finalize()
        .to_vec()
}

/// `SpcPeImageData` without anything to say.
fn program_data() -> Vec<u8> {
    let link = tlv(0xa2, &tlv(0x80, &[]));
    seq(&[&tlv(3, &[0]), &tlv(0xa0, &link)])
}

const SIGNER_SERIAL: u8 = 7;

fn certificate(
    issuer: &str,
    subject: &str,
    by: &RsaPrivateKey,
    of: &RsaPrivateKey,
    is_authority: bool,
) -> Vec<u8> {
    let algorithm = seq(&[&oid(SHA256_WITH_RSA), &null()]);
    let key = of.to_public_key().to_public_key_der().map(|der| der.as_bytes().to_vec()).unwrap_or_default();
    // Basic constraints for authorities, "code signing" for signers.
    let extension = if is_authority {
        seq(&[&oid(&[0x55, 0x1d, 0x13]), &tlv(1, &[0xff]), &octets(&seq(&[&tlv(1, &[0xff])]))])
    } else {
        let code_signing = oid(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03]);
        seq(&[&oid(&[0x55, 0x1d, 0x25]), &octets(&seq(&[&code_signing]))])
    };
    let serial = if is_authority { 1 } else { SIGNER_SERIAL };
    let signed = seq(&[
        &tlv(0xa0, &tlv(2, &[2])),
        &tlv(2, &[serial]),
        &algorithm,
        &distinguished(issuer),
        &seq(&[&tlv(0x17, b"200101000000Z"), &tlv(0x17, b"491231235959Z")]),
        &distinguished(subject),
        &key,
        &tlv(0xa3, &seq(&[&extension])),
    ]);
    let signature = [&[0][..], &sign(by, &signed)].concat();
    seq(&[&signed, &algorithm, &tlv(3, &signature)])
}

fn sign(key: &RsaPrivateKey, bytes: &[u8]) -> Vec<u8> {
    // What stands before a SHA-256 hash in a signature (RFC 8017, 9.2).
    let prefix = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
    let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: prefix.as_slice().into() };
    key.sign(scheme, &Sha256::digest(bytes)).expect("a hash of the right length")
}

fn key(number: usize) -> &'static RsaPrivateKey {
    static KEYS: [OnceLock<RsaPrivateKey>; 2] = [const { OnceLock::new() }; 2];
    KEYS[number].get_or_init(|| {
        let prime = |text: &str| BigUint::parse_bytes(text.as_bytes(), 16).expect("a number");
        let [p, q] = keys::PRIMES[number];
        RsaPrivateKey::from_p_q(prime(p), prime(q), BigUint::from(65_537u32)).expect("two primes")
    })
}

fn distinguished(name: &str) -> Vec<u8> {
    seq(&[&tlv(0x31, &seq(&[&oid(&[0x55, 0x04, 0x03]), &tlv(0x0c, name.as_bytes())]))])
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn oid(bytes: &[u8]) -> Vec<u8> {
    tlv(6, bytes)
}

fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(4, bytes)
}

fn null() -> Vec<u8> {
    tlv(5, &[])
}

fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(value.len()) {
        Ok(len) if len < 0x80 => out.push(len),
        _ => {
            let digits: Vec<u8> =
                value.len().to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend(digits);
        }
    }
    out.extend_from_slice(value);
    out
}

/// Bytes before the value of an element.
fn header_len(element: &[u8]) -> usize {
    match element.get(1) {
        Some(len) if *len >= 0x80 => 2 + usize::from(len & 0x7f),
        _ => 2,
    }
}
