//! `gravure doctor` on a new site: its checks by name, as text and as JSON, and the lines for other DHCP servers.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn gravure(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gravure")).args(args).output().unwrap()
}

/// A new site on the loopback, without boot files.
fn new_site(dir: &Path) -> PathBuf {
    let site = dir.join("site");
    let made = gravure(&["init", "--dir", site.to_str().unwrap(), "--listen", "127.0.0.1"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    site
}

fn checks(site: &Path) -> (Option<i32>, Value) {
    let said = gravure(&["doctor", "--site", site.to_str().unwrap(), "--wait", "1", "--format", "json"]);
    let document = serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    (said.status.code(), document)
}

fn find<'a>(document: &'a Value, name: &str) -> &'a Value {
    let checks = document["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {document:#}"))
}

#[test]
fn every_check_has_its_name_in_both_forms() {
    let dir = tempfile::tempdir().unwrap();
    let site = new_site(dir.path());
    let (code, document) = checks(&site);
    // Without boot files nothing boots.
    assert_eq!((code, document["worst"].as_str()), (Some(1), Some("problem")));
    let names = [
        "configuration",
        "boot files",
        "secure boot",
        "keys",
        "certificate",
        "root key",
        "space for images",
        "space for the database",
        "clock",
        "receive buffers",
        "windows identities",
        "relay",
        "interface",
        "ports",
        "ipv6",
        "server",
    ];
    for name in names {
        let check = find(&document, name);
        let verdict = check["verdict"].as_str().unwrap();
        assert!(["ok", "note", "warning", "problem"].contains(&verdict), "{check}");
        let found = check["found"].as_str().unwrap();
        assert!(!found.is_empty(), "{check}");
        // Whatever keeps machines from booting says what to do about it.
        assert!(!["problem", "warning"].contains(&verdict) || check["cure"].is_string(), "{check}");
    }
    assert!(
        find(&document, "certificate")["found"]
            .as_str()
            .unwrap()
            .contains("holds until Jan  1 00:00:00 2060 GMT")
    );
    assert_eq!(find(&document, "boot files")["found"], "vmlinuz is missing: no machine gets a kernel");

    let said = gravure(&["doctor", "--site", site.to_str().unwrap(), "--wait", "1"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(1));
    for name in names {
        assert!(
            text.lines().any(|line| line.get(9..).is_some_and(|rest| rest.starts_with(&format!("{name}: ")))),
            "{name}: {text}"
        );
    }
    assert!(
        text.contains(
            "PROBLEM  boot files: vmlinuz is missing: no machine gets a kernel\n         -> build them"
        ),
        "{text}"
    );
    let count = |verdict: &str| {
        let checks = document["checks"].as_array().unwrap().iter();
        checks.filter(|check| check["verdict"] == verdict).count()
    };
    let last = format!("{} problems, {} warnings\n", count("problem"), count("warning"));
    assert!(text.ends_with(&last), "{last}: {text}");
}

#[test]
fn a_site_that_is_none_is_told_by_one_check() {
    let dir = tempfile::tempdir().unwrap();
    let (code, document) = checks(dir.path());
    assert_eq!((code, document["checks"].as_array().unwrap().len()), (Some(1), 1));
    assert_eq!(document["checks"][0]["name"], "configuration");
}

#[test]
fn the_chain_of_the_site_decides_what_is_missing_and_what_other_servers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let site = new_site(dir.path());
    let config = site.join("gravure.toml");
    let old = std::fs::read_to_string(&config).unwrap();
    let chain = |chain: &str| {
        let text = old.replace("chain = \"grub\"", &format!("chain = {chain:?}"));
        assert!(chain == "grub" || text != old);
        std::fs::write(&config, text).unwrap();
    };
    let lines = |kind: &str| {
        let said = gravure(&["doctor", "--site", site.to_str().unwrap(), "--dhcp-config", kind]);
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    for kind in ["dnsmasq", "kea", "isc", "windows", "mikrotik", "pfsense"] {
        chain("grub");
        let grub = lines(kind);
        assert!(grub.contains("http://127.0.0.1/shimx64.efi") && !grub.contains("/uki/"), "{grub}");
        chain("uki");
        let uki = lines(kind);
        assert!(uki.contains("http://127.0.0.1/uki/gravure.efi") && !uki.contains("shimx64"), "{uki}");
    }
    let (_, document) = checks(&site);
    let check = find(&document, "signed image");
    assert_eq!(check["verdict"], "problem");
    assert!(check["cure"].as_str().unwrap().contains("gravure init --uki"), "{check}");
    // What that chain has no use for is not missed.
    let missing: Vec<&str> =
        document["checks"].as_array().unwrap().iter().filter_map(|check| check["found"].as_str()).collect();
    assert!(
        !missing
            .iter()
            .any(|found| found.starts_with("pxe/grubx64.efi") || found.starts_with("pxe/shimx64.efi")),
        "{missing:?}"
    );
    let said = gravure(&["doctor", "--site", site.to_str().unwrap(), "--dhcp-config", "other"]);
    assert_eq!(said.status.code(), Some(2));
}
