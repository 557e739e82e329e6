//! The site's certificate authority and the server certificate it issues.
//!
//! The server certificate lives in memory only: it is made at each start for the addresses the server then has, and
//! again long before it ends, so that a server that runs for years never presents an expired one.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::Error;

/// First day of validity. Early on purpose: machines start with clocks that are years behind, and what a certificate
/// was made on protects nobody.
const NOT_BEFORE: (i32, u8, u8) = (2020, 1, 1);
/// Last day of the authority. It is pinned, never renewed by itself.
const AUTHORITY_NOT_AFTER: (i32, u8, u8) = (2060, 1, 1);
/// A server certificate holds for so long.
const LEAF_LIFETIME: Duration = Duration::from_secs(400 * 86_400);
/// It is made anew this long before it ends.
const RENEW_BEFORE: Duration = Duration::from_secs(100 * 86_400);

fn tls(error: impl fmt::Display) -> Error {
    Error::Tls(error.to_string())
}

/// The site's certificate authority.
pub(crate) struct Authority {
    key: KeyPair,
    certificate_pem: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", common_name(&self.key))
    }
}

/// Derived from the key, so that the issuer's name needs no file of its own.
fn common_name(key: &KeyPair) -> String {
    let id: String = blake3::hash(key.der_bytes()).to_hex().chars().take(16).collect();
    format!("Gravure site authority {id}")
}

fn authority_params(key: &KeyPair) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new()).map_err(tls)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name(key));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(NOT_BEFORE.0, NOT_BEFORE.1, NOT_BEFORE.2);
    let (year, month, day) = AUTHORITY_NOT_AFTER;
    params.not_after = date_time_ymd(year, month, day);
    Ok(params)
}

impl Authority {
    /// A new authority.
    pub(crate) fn create() -> Result<Self, Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(tls)?;
        let certificate_pem = authority_params(&key)?.self_signed(&key).map_err(tls)?.pem();
        Ok(Self { key, certificate_pem })
    }

    /// One that was made before.
    pub(crate) fn load(key_pem: &str, certificate_pem: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key_pem).map_err(tls)?;
        CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(tls)?;
        Ok(Self { key, certificate_pem: certificate_pem.to_owned() })
    }

    /// Its private key, for a file only its owner can read.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Its certificate, which clients pin.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    fn issue(&self, names: &[String], now: SystemTime) -> Result<Issued, Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(tls)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(tls)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Gravure server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(NOT_BEFORE.0, NOT_BEFORE.1, NOT_BEFORE.2);
        let ends = now + LEAF_LIFETIME;
        params.not_after = ends.into();
        let issuer = Issuer::new(authority_params(&self.key)?, &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(tls)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(tls)?;
        let signing = rustls::crypto::ring::sign::any_ecdsa_type(&private).map_err(tls)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], signing);
        Ok(Issued { certified: Arc::new(certified), renew: ends - RENEW_BEFORE })
    }
}

struct Issued {
    certified: Arc<CertifiedKey>,
    renew: SystemTime,
}

/// The server's certificate, renewed under way.
pub(crate) struct ServerCertificate {
    authority: Authority,
    names: Vec<String>,
    issued: RwLock<Issued>,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerCertificate({})", self.names.join(" "))
    }
}

impl ServerCertificate {
    /// A certificate for these host names and addresses.
    pub(crate) fn new(authority: Authority, names: Vec<String>) -> Result<Self, Error> {
        let issued = RwLock::new(authority.issue(&names, SystemTime::now())?);
        Ok(Self { authority, names, issued })
    }

    /// Makes a new one if that is due at `now`; whether it did.
    pub(crate) fn renew_if_due(&self, now: SystemTime) -> Result<bool, Error> {
        if now < self.issued.read().unwrap_or_else(PoisonError::into_inner).renew {
            return Ok(false);
        }
        let issued = self.authority.issue(&self.names, now)?;
        *self.issued.write().unwrap_or_else(PoisonError::into_inner) = issued;
        Ok(true)
    }

    /// The certificate clients check it by.
    pub(crate) fn authority_pem(&self) -> &str {
        self.authority.certificate_pem()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.issued.read().unwrap_or_else(PoisonError::into_inner).certified))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reloaded_authority_issues_under_the_same_name() {
        let made = Authority::create().unwrap();
        let loaded = Authority::load(&made.key_pem(), made.certificate_pem()).unwrap();
        assert_eq!(format!("{made:?}"), format!("{loaded:?}"));
        let other = Authority::create().unwrap();
        assert_ne!(format!("{made:?}"), format!("{other:?}"));
    }

    #[test]
    fn the_certificate_is_renewed_when_due_and_not_before() {
        let certificate =
            ServerCertificate::new(Authority::create().unwrap(), vec!["10.0.0.1".into()]).unwrap();
        let of =
            |certificate: &ServerCertificate| certificate.issued.read().unwrap().certified.cert[0].clone();
        let first = of(&certificate);
        let now = SystemTime::now();
        assert!(!certificate.renew_if_due(now + Duration::from_secs(299 * 86_400)).unwrap());
        assert_eq!(of(&certificate), first);
        assert!(certificate.renew_if_due(now + Duration::from_secs(301 * 86_400)).unwrap());
        assert_ne!(of(&certificate), first);
    }
}
