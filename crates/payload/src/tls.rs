//! The one way to the server: HTTPS by TLS 1.3, the site CA as the only root, a client certificate made for this boot.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a whole answer: a descriptor of a large image has tens of megabytes.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The site part holds no certificate.
    #[error("the site CA is no PEM certificate: {0}")]
    BadCa(String),
    /// The client certificate cannot be made or read.
    #[error("the client certificate: {0}")]
    BadIdentity(String),
}

/// A key and the certificate on it, PEM.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct ClientIdentity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientIdentity(..)")
    }
}

impl ClientIdentity {
    /// A new ECDSA P-256 key with a certificate signed by itself: the server knows the session by the key alone.
    pub(crate) fn generate() -> Result<Self, TlsError> {
        let bad = |error: rcgen::Error| TlsError::BadIdentity(error.to_string());
        let key = rcgen::KeyPair::generate().map_err(bad)?;
        let params =
            rcgen::CertificateParams::new(vec!["payload.gravure.invalid".to_owned()]).map_err(bad)?;
        let certificate = params.self_signed(&key).map_err(bad)?;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

/// A client that believes `ca_pem` and nobody else.
pub(crate) fn client(ca_pem: &str, identity: Option<&ClientIdentity>) -> Result<Agent, TlsError> {
    let mut roots = Vec::new();
    for item in parse_pem(ca_pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| TlsError::BadCa(error.to_string()))? {
            roots.push(certificate);
        }
    }
    if roots.is_empty() {
        return Err(TlsError::BadCa("there is none".to_owned()));
    }
    let identity = identity.map(client_certificate).transpose()?;
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(newest_only()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .client_cert(identity)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(CALL_TIMEOUT))
        .user_agent(format!("gravure-payload/{}", crate::VERSION));
    Ok(config.build().new_agent())
}

fn client_certificate(identity: &ClientIdentity) -> Result<ClientCert, TlsError> {
    let bad = |error: ureq::Error| TlsError::BadIdentity(error.to_string());
    let certificate = Certificate::from_pem(identity.certificate_pem.as_bytes()).map_err(bad)?;
    let key = PrivateKey::from_pem(identity.key_pem.as_bytes()).map_err(bad)?;
    Ok(ClientCert::new_with_certs(&[certificate], key))
}

/// The ring provider without the suites of TLS 1.2: with none to offer, the older version cannot be spoken.
fn newest_only() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_make_a_client() {
        let identity = ClientIdentity::generate().unwrap();
        assert!(client(&identity.certificate_pem, Some(&identity)).is_ok());
        assert!(matches!(client("", None), Err(TlsError::BadCa(_))));
        assert!(matches!(client(&identity.key_pem, None), Err(TlsError::BadCa(_))));
        let broken = ClientIdentity { key_pem: "none".into(), ..identity.clone() };
        assert!(matches!(client(&identity.certificate_pem, Some(&broken)), Err(TlsError::BadIdentity(_))));
        assert!(newest_only().cipher_suites.iter().all(|suite| suite.tls13().is_some()));
    }
}
