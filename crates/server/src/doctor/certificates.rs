//! The certificates of a site: when its authorities end, and whether a running server shows what its clients check.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::{X509, X509Ref};

use super::Check;
use crate::config::Config;
use crate::keys::KeyFiles;
use crate::network::Served;
use crate::serve;

const NAME: &str = "certificate";
/// How long a handshake may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What ends sooner is worth a warning: machines and media carry it, and all of them need the new one.
const SOON_DAYS: i32 = 366;

/// The authorities on disk.
pub(super) fn authorities(config: &Config) -> Vec<Check> {
    let files = KeyFiles::in_dir(&config.paths.keys);
    let mut checks = vec![authority(&files.authority(), "the API's authority")];
    if config.boot.https {
        let path = files.https_authority();
        checks.push(if path.is_file() {
            authority(&path, "the authority of HTTPS boot")
        } else {
            Check::note(
                NAME,
                format!("{} is not there yet: the server makes it when it starts", path.display()),
            )
        });
    }
    checks
}

fn authority(path: &Path, what: &str) -> Check {
    let read = || -> Result<(String, i32), String> {
        let pem = std::fs::read(path).map_err(|error| error.to_string())?;
        let certificate = X509::from_pem(&pem).map_err(|error| error.to_string())?;
        days_left(certificate.not_after()).map_err(|error| error.to_string())
    };
    let at = path.display();
    match read() {
        Err(error) => Check::problem(
            NAME,
            format!("{what} ({at}) cannot be read: {error}"),
            "run as the user the server runs as; a lost authority needs a new site, since machines and media trust the old one",
        ),
        Ok((end, ..=0)) => Check::problem(
            NAME,
            format!("{what} ({at}) ended on {end}"),
            "set the clock if it is wrong; otherwise make a new site, and new media from it",
        ),
        Ok((end, days @ ..=SOON_DAYS)) => Check::warning(
            NAME,
            format!("{what} ({at}) ends on {end}, in {days} days"),
            "plan a new site before that day: machines and media trust this one alone",
        ),
        Ok((end, _)) => Check::ok(NAME, format!("{what} holds until {end}")),
    }
}

/// The end as it is written, and the days until then; negative when it has passed.
fn days_left(end: &Asn1TimeRef) -> Result<(String, i32), ErrorStack> {
    let left = Asn1Time::days_from_now(0)?.diff(end)?;
    Ok((end.to_string(), left.days))
}

/// What the running server shows at `served`, checked as payloads and firmware check it.
pub(super) fn shown(config: &Config, served: &Served) -> Vec<Check> {
    let files = KeyFiles::in_dir(&config.paths.keys);
    let address = served.interface.address;
    let mut listeners = vec![(files.authority(), config.ports.api)];
    if config.boot.https {
        listeners.push((files.https_authority(), config.ports.https));
    }
    let expected: Vec<String> = serve::names_of(config, std::slice::from_ref(served)).unwrap_or_default();
    let look = |(authority, port): (PathBuf, u16)| {
        let at = SocketAddr::from((address, port));
        match peer(at, &authority) {
            Err(error) => Check::problem(
                NAME,
                format!("{at} shows one that clients refuse: {error}"),
                "restart the server: it makes its certificate for the addresses it finds when it starts; keys in another \
                 directory than it started with need a restart too",
            ),
            Ok(certificate) => names(at, &certificate, &expected),
        }
    };
    listeners.into_iter().map(look).collect()
}

/// The certificate that is shown at `at`, if it holds there by `authority`.
fn peer(at: SocketAddr, authority: &Path) -> Result<X509, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect_timeout(&at, ANSWER_WITHIN).map_err(|error| words(&error))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(|error| words(&error))?;
    let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(|error| words(&error))?;
    connector.set_ca_file(authority).map_err(|error| words(&error))?;
    let stream = connector.build().connect(&at.ip().to_string(), stream).map_err(|error| words(&error))?;
    stream.ssl().peer_certificate().ok_or_else(|| "none".to_owned())
}

fn names(at: SocketAddr, certificate: &X509Ref, expected: &[String]) -> Check {
    let mut has: Vec<String> = Vec::new();
    for name in certificate.subject_alt_names().into_iter().flatten() {
        has.extend(name.dnsname().map(str::to_owned));
        let bytes = name.ipaddress();
        let address = bytes.and_then(|bytes| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        });
        has.extend(address.map(|address| address.to_string()));
    }
    let missing: Vec<&str> =
        expected.iter().map(String::as_str).filter(|name| !has.iter().any(|has| has == name)).collect();
    if !missing.is_empty() {
        return Check::warning(
            NAME,
            format!("that of {at} does not name {}", missing.join(", ")),
            "restart the server: it has other names and addresses now than when it started",
        );
    }
    let end = certificate.not_after();
    Check::ok(NAME, format!("that of {at} names {} and holds until {end}", has.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::x509;

    #[test]
    fn the_end_of_an_authority_is_told_while_there_is_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let key = x509::new_key().unwrap();
        let root = x509::authority("root", &key).unwrap();
        let cases = [(10_000, Verdict::Ok), (300, Verdict::Warning), (0, Verdict::Problem)];
        for (days, expected) in cases {
            let certificate = x509::server(&["10.0.0.1".into()], &key, &root, &key, days).unwrap();
            std::fs::write(&path, certificate.to_pem().unwrap()).unwrap();
            let check = authority(&path, "it");
            assert_eq!((check.name, check.verdict), ("certificate", expected), "{check:?}");
        }
        std::fs::write(&path, "no certificate").unwrap();
        assert_eq!(authority(&path, "it").verdict, Verdict::Problem);
    }

    #[test]
    fn a_name_that_the_server_got_later_is_missed() {
        let key = x509::new_key().unwrap();
        let root = x509::authority("root", &key).unwrap();
        let has = ["10.0.0.1".to_owned(), "fd77::1".to_owned(), "boot.example".to_owned()];
        let certificate = x509::server(&has, &key, &root, &key, 100).unwrap();
        let at = "10.0.0.1:8443".parse().unwrap();
        assert_eq!(names(at, &certificate, &has).verdict, Verdict::Ok);
        let check = names(at, &certificate, &["10.0.0.2".to_owned(), has[2].clone()]);
        assert_eq!(check.verdict, Verdict::Warning);
        assert!(check.found.ends_with("does not name 10.0.0.2"), "{check:?}");
    }
}
