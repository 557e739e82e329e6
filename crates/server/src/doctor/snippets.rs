//! Lines for a site's own DHCP server, so that it names our boot files itself. Templates in `pxe/dhcp/`.

use std::net::Ipv4Addr;

use minijinja::{Environment, UndefinedBehavior, context};

use crate::Error;

/// Kinds of DHCP servers there are lines for, with their template.
const KINDS: [(&str, &str); 6] = [
    ("dnsmasq", include_str!("../../../../pxe/dhcp/dnsmasq.conf")),
    ("kea", include_str!("../../../../pxe/dhcp/kea.json")),
    ("isc", include_str!("../../../../pxe/dhcp/isc.conf")),
    ("windows", include_str!("../../../../pxe/dhcp/windows.ps1")),
    ("mikrotik", include_str!("../../../../pxe/dhcp/mikrotik.rsc")),
    ("pfsense", include_str!("../../../../pxe/dhcp/pfsense.txt")),
];

/// Names of the kinds.
pub fn dhcp_kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

/// The lines for a server of `kind`; machines reach us at `server` and get files by HTTP from `content`
/// (`http://address:port`).
pub fn dhcp_lines(kind: &str, server: Ipv4Addr, content: &str) -> Result<String, Error> {
    let known = KINDS.iter().find(|(name, _)| *name == kind);
    let (_, template) = known.ok_or_else(|| {
        let kinds: Vec<&str> = dhcp_kinds().collect();
        Error::Interface(format!("no lines for a DHCP server {kind:?}; there are {}", kinds.join(", ")))
    })?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    Ok(environment.render_str(template, context! { server => server.to_string(), content })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    const CONTENT: &str = "http://10.77.0.1:8080";

    #[test]
    fn every_kind_names_every_file() {
        for kind in dhcp_kinds() {
            let text = dhcp_lines(kind, SERVER, CONTENT).unwrap();
            let wanted = [
                "undionly.kpxe",
                "http://10.77.0.1:8080/shimx64.efi",
                "http://10.77.0.1:8080/boot.ipxe",
                "10.77.0.1",
            ];
            for wanted in wanted {
                assert!(text.contains(wanted), "{kind}: {wanted}: {text}");
            }
            assert!(!text.contains("{{"), "{kind}");
        }
        let error = dhcp_lines("other", SERVER, CONTENT).unwrap_err().to_string();
        assert!(error.contains("dnsmasq, kea, isc, windows, mikrotik, pfsense"), "{error}");
    }

    #[test]
    fn dnsmasq_takes_its_lines() {
        let Some(mut dnsmasq) = gravure_testkit::oracle("dnsmasq") else { return };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), dhcp_lines("dnsmasq", SERVER, CONTENT).unwrap()).unwrap();
        let output =
            dnsmasq.arg("--test").arg(format!("--conf-file={}", file.path().display())).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn keas_lines_are_json_below_their_comment() {
        let text = dhcp_lines("kea", SERVER, CONTENT).unwrap();
        let json: String = text.lines().filter(|line| !line.starts_with("//")).collect();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["client-classes"].as_array().map(Vec::len), Some(4));
    }
}
