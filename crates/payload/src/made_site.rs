//! For tests: a server of a made-up site with real keys and real TLS 1.3, and answers the test decides on. Integration
//! tests take this file in by its path.
#![allow(
    clippy::unwrap_used,
    reason = "for tests only, but not inside a test module when taken in by its path"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use gravure_model::Timestamp;
use gravure_model::api::{Hello, ServerTime, Welcome};
use gravure_model::site::{SITE_VERSION, SiteServer, SiteSettings};
use gravure_trust::{PlanSigner, SigningKey};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme, StreamOwned};

/// What the server's certificate is for: the loopback, and what a guest of QEMU's user network sees of it.
const NAMES: [&str; 2] = ["127.0.0.1", "10.0.2.2"];

/// What the server does with a request.
pub(crate) enum Answer {
    /// Status and JSON.
    Json(u16, Vec<u8>),
    /// The connection breaks without an answer.
    Break,
}

impl Answer {
    pub(crate) fn ok(value: &impl serde::Serialize) -> Self {
        Self::Json(200, serde_json::to_vec(value).unwrap())
    }
}

/// Keys of a site.
pub(crate) struct Site {
    root: SigningKey,
    pub(crate) signer: PlanSigner,
    ca: Issuer<'static, KeyPair>,
    pub(crate) ca_pem: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        let (root, plan_key) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let (from, to) = (Timestamp::now().plus_seconds(-60), Timestamp::now().plus_seconds(3600));
        let statement = PlanSigner::certify(&root, &plan_key.public(), from, to).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self { root, signer: PlanSigner::new(plan_key, statement), ca: Issuer::new(params, key), ca_pem }
    }

    /// Settings of a payload of this site for a server at `api`.
    pub(crate) fn settings(&self, api: &str) -> SiteSettings {
        SiteSettings {
            version: SITE_VERSION,
            name: "test".into(),
            root_key: self.root.public().to_text(),
            ca_pem: self.ca_pem.clone(),
            servers: vec![SiteServer { api: api.to_owned(), content: "http://127.0.0.1".into() }],
            made: Timestamp(0),
        }
    }

    pub(crate) fn welcome(&self, hello: &Hello) -> Welcome {
        let time = ServerTime { nonce: hello.nonce.clone(), now: Timestamp::now() };
        Welcome {
            machine: "m1".into(),
            assurance: gravure_model::Assurance::Token,
            token_refused: None,
            approval_code: "123456".into(),
            time: self.signer.time(&time).unwrap(),
            plan_key: self.signer.statement().clone(),
        }
    }

    /// Serves on a free port of the loopback; gives its URL.
    pub(crate) fn serve(&self, handler: impl Fn(&str, &[u8]) -> Answer + Send + Sync + 'static) -> String {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(NAMES.map(str::to_owned).to_vec()).unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyClient))
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let (config, handler) = (Arc::new(config), Arc::new(handler));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, handler) = (Arc::clone(&config), Arc::clone(&handler));
                std::thread::spawn(move || connection(stream, config, &*handler));
            }
        });
        url
    }
}

/// Answers requests until the client goes or the handler breaks the connection.
fn connection(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    handler: &dyn Fn(&str, &[u8]) -> Answer,
) -> Option<()> {
    let tls = rustls::ServerConnection::new(config).ok()?;
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).ok()?;
            if header.trim().is_empty() {
                break;
            }
            let (name, value) = header.split_once(':')?;
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        match handler(&path, &body) {
            Answer::Break => return None,
            Answer::Json(status, json) => {
                let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", json.len());
                let out = stream.get_mut();
                out.write_all(head.as_bytes()).ok()?;
                out.write_all(&json).ok()?;
                out.flush().ok()?;
            }
        }
    }
}

/// Takes any certificate or none, as the real server does: the key is the session.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
