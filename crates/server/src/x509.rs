//! Certificates with RSA keys, for firmware: it checks programs and HTTPS servers by RSA alone, which rcgen with ring cannot
//! make. Everything else of a site has keys on curves (`tls::authority`).

use std::net::IpAddr;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef, X509Ref};

/// What all firmware takes.
const KEY_BITS: u32 = 2048;
/// First day of validity; early on purpose, since machines start with clocks that are years behind.
const NOT_BEFORE: &str = "20200101000000Z";
/// Last day of what is enrolled in firmware, which nobody renews.
const ENROLLED_NOT_AFTER: &str = "20600101000000Z";
const SERIAL_BITS: i32 = 127;

/// A new RSA key.
pub(crate) fn new_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_rsa(Rsa::generate(KEY_BITS)?)
}

/// A certificate for an authority of HTTPS servers, by its own key.
pub(crate) fn authority(name: &str, key: &PKeyRef<Private>) -> Result<X509, ErrorStack> {
    let name = common_name(name)?;
    let mut builder = start(&name, &name, key, &Asn1Time::from_str(ENROLLED_NOT_AFTER)?)?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

/// A certificate that programs are signed by, by its own key.
pub(crate) fn code_signer(name: &str, key: &PKeyRef<Private>) -> Result<X509, ErrorStack> {
    let name = common_name(name)?;
    let mut builder = start(&name, &name, key, &Asn1Time::from_str(ENROLLED_NOT_AFTER)?)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().code_signing().build()?)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

/// A server's certificate for these host names and addresses, issued by `authority`.
pub(crate) fn server(
    names: &[String],
    key: &PKeyRef<Private>,
    authority: &X509Ref,
    authority_key: &PKeyRef<Private>,
    days: u32,
) -> Result<X509, ErrorStack> {
    let subject = common_name("Gravure server")?;
    let mut builder = start(&subject, authority.subject_name(), key, &Asn1Time::days_from_now(days)?)?;
    let mut alternatives = SubjectAlternativeName::new();
    for name in names {
        match name.parse::<IpAddr>() {
            Ok(_) => alternatives.ip(name),
            Err(_) => alternatives.dns(name),
        };
    }
    let alternatives = alternatives.build(&builder.x509v3_context(Some(authority), None))?;
    builder.append_extension(alternatives)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().key_encipherment().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    builder.sign(authority_key, MessageDigest::sha256())?;
    Ok(builder.build())
}

fn start(
    subject: &X509NameRef,
    issuer: &X509NameRef,
    key: &PKeyRef<Private>,
    not_after: &Asn1Time,
) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509::builder()?;
    // The number that means version 3.
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(SERIAL_BITS, MsbOption::MAYBE_ZERO, false)?;
    let serial = Asn1Integer::from_bn(&serial)?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    let not_before = Asn1Time::from_str(NOT_BEFORE)?;
    builder.set_not_before(&not_before)?;
    builder.set_not_after(not_after)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    // RFC 5280, ub-common-name.
    let short: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    let mut builder = X509Name::builder()?;
    builder.append_entry_by_text("CN", &short)?;
    Ok(builder.build())
}
