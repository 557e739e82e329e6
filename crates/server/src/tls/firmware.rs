//! HTTPS as firmware speaks it: TLS 1.2 with DHE-RSA and RSA suites and no curves (OVMF 2022.11 and 2025.02;
//! specs/netboot.md, 3.5), which rustls does not have. OpenSSL, for this listener alone, with an authority of its own: firmware
//! without curves cannot check that of the API.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use gravure_bootd::http::{Cover, Covered};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslAcceptor, SslMethod, SslOptions, SslVersion};
use openssl::x509::X509;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::keys::{KeyFiles, write_private, write_public};
use crate::{Error, x509};

/// Forward secrecy first, then what old firmware has besides (009f 009e 006b 0067 0039 0033, 009d 009c 003d 003c 0035 002f).
const SUITES: &str = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:\
    DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-SHA256:DHE-RSA-AES128-SHA256:\
    DHE-RSA-AES256-SHA:DHE-RSA-AES128-SHA:AES256-GCM-SHA384:AES128-GCM-SHA256:AES256-SHA256:AES128-SHA256:\
    AES256-SHA:AES128-SHA";
/// A server certificate holds for so many days.
const LEAF_DAYS: u32 = 400;
/// It is made anew after so long.
const RENEW_AFTER: Duration = Duration::from_secs(300 * 86_400);
/// Owner of the entry in the list that firmware takes (random, ours).
const OWNER: &str = "5ae4c3a5-7c3b-4f0e-9d52-61b1e1f0a7d4";

/// The HTTPS listener's side of TLS, whose certificate is renewed under way.
pub(crate) struct FirmwareTls {
    authority: X509,
    authority_key: PKey<Private>,
    names: Vec<String>,
    current: RwLock<Current>,
}

struct Current {
    acceptor: SslAcceptor,
    renew: SystemTime,
}

impl std::fmt::Debug for FirmwareTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FirmwareTls({})", self.names.join(" "))
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tls(error.to_string())
}

/// Makes the authority of HTTPS boot where there is none yet: key, certificate, and the certificate as firmware takes it.
pub(crate) fn ensure_authority(files: &KeyFiles, site: &str) -> Result<(), Error> {
    if files.https_authority().is_file() {
        return Ok(());
    }
    let key = x509::new_key().map_err(failed)?;
    let certificate = x509::authority(&format!("Gravure HTTPS boot: {site}"), &key).map_err(failed)?;
    let text = |pem: Result<Vec<u8>, ErrorStack>| -> Result<String, Error> {
        String::from_utf8(pem.map_err(failed)?).map_err(failed)
    };
    let der = certificate.to_der().map_err(failed)?;
    let owner = OWNER.parse().map_err(failed)?;
    let list = files.https_list();
    write_private(&files.https_key(), &text(key.private_key_to_pem_pkcs8())?)?;
    std::fs::write(&list, gravure_efi::keys::list(owner, &der))
        .map_err(|source| Error::io("write", &list, source))?;
    write_public(&files.https_authority(), &text(certificate.to_pem())?)
}

impl FirmwareTls {
    /// Reads the authority and issues a certificate for these host names and addresses.
    pub(crate) fn new(files: &KeyFiles, names: Vec<String>) -> Result<Self, Error> {
        let read = |path: PathBuf| std::fs::read(&path).map_err(|source| Error::io("read", &path, source));
        let authority = X509::from_pem(&read(files.https_authority())?).map_err(failed)?;
        let authority_key = PKey::private_key_from_pem(&read(files.https_key())?).map_err(failed)?;
        let current = issue(&names, &authority, &authority_key, SystemTime::now()).map_err(failed)?;
        Ok(Self { authority, authority_key, names, current: RwLock::new(current) })
    }

    /// Makes a new certificate if that is due at `now`; whether it did.
    pub(crate) fn renew_if_due(&self, now: SystemTime) -> Result<bool, Error> {
        if now < self.current.read().unwrap_or_else(PoisonError::into_inner).renew {
            return Ok(false);
        }
        let issued = issue(&self.names, &self.authority, &self.authority_key, now).map_err(failed)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = issued;
        Ok(true)
    }

    fn ssl(&self) -> Result<Ssl, ErrorStack> {
        Ssl::new(self.current.read().unwrap_or_else(PoisonError::into_inner).acceptor.context())
    }
}

fn issue(
    names: &[String],
    authority: &X509,
    authority_key: &PKey<Private>,
    now: SystemTime,
) -> Result<Current, ErrorStack> {
    let key = x509::new_key()?;
    let certificate = x509::server(names, &key, authority, authority_key, LEAF_DAYS)?;
    // Mozilla's profile brings DH parameters (ffdhe2048, RFC 7919), without which DHE suites are refused.
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cipher_list(SUITES)?;
    builder.set_options(
        SslOptions::CIPHER_SERVER_PREFERENCE | SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET,
    );
    builder.set_certificate(&certificate)?;
    builder.set_private_key(&key)?;
    builder.check_private_key()?;
    Ok(Current { acceptor: builder.build(), renew: now + RENEW_AFTER })
}

impl Cover for FirmwareTls {
    fn cover(&self, stream: TcpStream) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Covered>>> + Send>> {
        let ssl = self.ssl();
        Box::pin(async move {
            let mut stream = SslStream::new(ssl?, stream)?;
            Pin::new(&mut stream).accept().await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn Covered>)
        })
    }
}
