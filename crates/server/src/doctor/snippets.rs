//! Lines for a site's own DHCP server, so that it names our boot files itself. Templates in `pxe/dhcp/`.

use std::net::Ipv4Addr;
use std::path::Path;

use gravure_netboot::dhcp::Platform;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use crate::Error;
use crate::boot::UKI;
use crate::config::{Chain, Config};
use crate::{network, serve};

/// Kinds of DHCP servers there are lines for, with their template.
const KINDS: [(&str, &str); 6] = [
    ("dnsmasq", include_str!("../../../../pxe/dhcp/dnsmasq.conf")),
    ("kea", include_str!("../../../../pxe/dhcp/kea.json")),
    ("isc", include_str!("../../../../pxe/dhcp/isc.conf")),
    ("windows", include_str!("../../../../pxe/dhcp/windows.ps1")),
    ("mikrotik", include_str!("../../../../pxe/dhcp/mikrotik.rsc")),
    ("pfsense", include_str!("../../../../pxe/dhcp/pfsense.txt")),
];
/// Column of the values in pfSense's list.
const COLUMN: usize = 32;

/// Names of the kinds.
pub fn dhcp_kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

/// The lines for a server of `kind`, by the chain and the loaders of this site.
pub fn dhcp_lines(config: &Config, kind: &str) -> Result<String, Error> {
    let (server, content) = network::first_content_url(config)?;
    let firmware = serve::firmware_url_at(config, server);
    render(
        kind,
        &Site {
            server,
            content,
            firmware,
            chain: config.boot.chain,
            platforms: platforms(&config.paths.boot),
        },
    )
}

/// What the lines are made of.
struct Site {
    /// Where machines reach us.
    server: Ipv4Addr,
    /// `http://address:port` of files.
    content: String,
    /// Where firmware fetches a signed image; may be `https://`.
    firmware: String,
    chain: Chain,
    /// Kinds of UEFI machines there are loaders for, with the file that their firmware starts.
    platforms: Vec<(Platform, &'static str)>,
}

/// The kinds of UEFI machines that have loaders below `boot`; x64 always.
fn platforms(boot: &Path) -> Vec<(Platform, &'static str)> {
    let more = [
        (Platform::EfiIa32, "shimia32.efi", "grubia32.efi"),
        (Platform::EfiArm64, "shimaa64.efi", "grubaa64.efi"),
    ];
    let there = |name: &str| boot.join("pxe").join(name).is_file();
    let more = more.into_iter().filter(|(_, shim, grub)| there(shim) && there(grub));
    let more = more.map(|(platform, shim, _)| (platform, shim));
    std::iter::once((Platform::EfiX64, "shimx64.efi")).chain(more).collect()
}

/// Numbers of option 93 for machines with UEFI, by PXE and by HTTP boot (specs/netboot.md, 3.2).
fn numbers(platform: Platform) -> (&'static str, &'static str, &'static [u16], u16) {
    match platform {
        Platform::EfiIa32 => ("ia32", "32 bit", &[6], 15),
        Platform::EfiArm64 => ("arm64", "ARM 64 bit", &[11], 19),
        _ => ("x64", "64 bit", &[7, 9], 16),
    }
}

impl Site {
    /// The kinds of UEFI machines, as the templates see them.
    fn uefi(&self) -> Vec<Value> {
        let kind = |(platform, file): &(Platform, &'static str)| {
            let (name, label, pxe, http) = numbers(*platform);
            let (file, url) = match self.chain {
                Chain::Grub => (Some(*file), format!("{}/{file}", self.content)),
                Chain::ShimUki => (None, format!("{}/{UKI}/{file}", self.firmware)),
                Chain::Uki => (None, format!("{}/{UKI}/{}", self.firmware, crate::secure_boot::IMAGE)),
            };
            let pxe = if file.is_some() { pxe } else { &[] };
            let gap = |title: String| " ".repeat(COLUMN.saturating_sub(title.len()).max(1));
            context! {
                name, label, file, url, pxe, http,
                pxe_hex => pxe.iter().map(|number| format!("0x{number:04x}")).collect::<Vec<_>>(),
                pxe_digits => pxe.iter().map(|number| format!("{number:05}")).collect::<Vec<_>>(),
                http_hex => format!("0x{http:04x}"),
                http_digits => format!("{http:05}"),
                file_gap => gap(format!("  UEFI {label} File Name:")),
                url_gap => gap(format!("  UEFI {label} HTTPBoot URL:")),
            }
        };
        // The signed image is one program for one kind of machine.
        let fits = |(platform, _): &&(Platform, &'static str)| {
            self.chain == Chain::Grub || *platform == Platform::EfiX64
        };
        self.platforms.iter().filter(fits).map(kind).collect()
    }
}

fn render(kind: &str, site: &Site) -> Result<String, Error> {
    let known = KINDS.iter().find(|(name, _)| *name == kind);
    let (_, template) = known.ok_or_else(|| {
        let kinds: Vec<&str> = dhcp_kinds().collect();
        Error::Interface(format!("no lines for a DHCP server {kind:?}; there are {}", kinds.join(", ")))
    })?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    // iPXE expands its settings in the name that DHCP gives it (usr/autoboot.c); without them nobody knows whose menu is asked for.
    let script = format!(
        "{}/boot.ipxe?mac=${{netX/mac}}&uuid=${{uuid}}&arch=${{buildarch}}-${{platform}}",
        site.content
    );
    let values = context! {
        server => site.server.to_string(),
        script,
        bios => "undionly.kpxe",
        only_http => site.chain != Chain::Grub,
        uefi => site.uefi(),
    };
    Ok(environment.render_str(template, values)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAINS: [Chain; 3] = [Chain::Grub, Chain::ShimUki, Chain::Uki];

    fn site(chain: Chain, more: &[&str]) -> Site {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pxe")).unwrap();
        for name in more {
            std::fs::write(dir.path().join("pxe").join(name), "x").unwrap();
        }
        Site {
            server: Ipv4Addr::new(10, 77, 0, 1),
            content: "http://10.77.0.1:8080".into(),
            firmware: "https://10.77.0.1".into(),
            chain,
            platforms: platforms(dir.path()),
        }
    }

    const ALL: [&str; 4] = ["shimia32.efi", "grubia32.efi", "shimaa64.efi", "grubaa64.efi"];

    /// Every text that is printed, with what it is for.
    fn texts() -> Vec<(String, Site, String)> {
        let mut texts = Vec::new();
        for kind in dhcp_kinds() {
            for chain in CHAINS {
                for more in [&[][..], &ALL] {
                    let site = site(chain, more);
                    let text = render(kind, &site).unwrap();
                    texts.push((kind.to_owned(), site, text));
                }
            }
        }
        texts
    }

    #[test]
    fn every_kind_names_the_files_of_its_chain_and_no_others() {
        for (kind, site, text) in texts() {
            let at = format!("{kind}, {:?}: {text}", site.chain);
            for wanted in [
                "undionly.kpxe",
                "http://10.77.0.1:8080/boot.ipxe",
                "{netX/mac}&uuid=",
                "{buildarch}-",
                "10.77.0.1",
            ] {
                assert!(text.contains(wanted), "{wanted}: {at}");
            }
            let pxe = ["'shimx64.efi'", "\"shimx64.efi\"", ",shimx64.efi,", " shimx64.efi\n"];
            let names_pxe = pxe.iter().any(|file| text.contains(file));
            let url = match site.chain {
                Chain::Grub => "http://10.77.0.1:8080/shimx64.efi",
                Chain::ShimUki => "https://10.77.0.1/uki/shimx64.efi",
                Chain::Uki => "https://10.77.0.1/uki/gravure.efi",
            };
            assert!(text.contains(url), "{url}: {at}");
            assert_eq!(names_pxe, site.chain == Chain::Grub, "{at}");
            let others = ["http://10.77.0.1:8080/shimx64.efi", "/uki/shimx64.efi", "/uki/gravure.efi"];
            let foreign: Vec<&str> =
                others.into_iter().filter(|other| text.contains(other) && !url.ends_with(other)).collect();
            assert!(foreign.is_empty(), "{foreign:?}: {at}");
            let all = site.platforms.len() > 1;
            let more = all && site.chain == Chain::Grub;
            for file in ["shimia32.efi", "shimaa64.efi"] {
                assert_eq!(text.contains(file), more, "{file}: {at}");
            }
            assert!(!text.contains("{{") && !text.contains("{%") && !text.contains("\n\n\n"), "{at}");
        }
        let error = render("other", &site(Chain::Grub, &[])).unwrap_err().to_string();
        assert!(error.contains("dnsmasq, kea, isc, windows, mikrotik, pfsense"), "{error}");
    }

    /// Packages of DHCP servers start one where they are installed, so `cargo xtask setup` asks for none but dnsmasq's program.
    #[expect(clippy::print_stderr, reason = "tests tell loudly why they were skipped")]
    fn checker(program: &str) -> Option<std::process::Command> {
        if program == "dnsmasq" {
            return gravure_testkit::oracle(program);
        }
        let path = std::path::Path::new("/usr/sbin").join(program);
        if !path.is_file() {
            eprintln!("SKIPPED: {program} is not installed");
            return None;
        }
        Some(std::process::Command::new(path))
    }

    /// The programs' own checkers on what is printed for them.
    fn judged(
        kind: &str,
        program: &str,
        arguments: impl Fn(&str) -> Vec<String>,
        whole: impl Fn(&str) -> String,
    ) {
        for (_, site, text) in texts().into_iter().filter(|(of, _, _)| of == kind) {
            let Some(mut checker) = checker(program) else { return };
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), whole(&text)).unwrap();
            let output = checker.args(arguments(&file.path().display().to_string())).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(output.status.success(), "{kind}, {:?}: {said}\n{text}", site.chain);
        }
    }

    #[test]
    fn dnsmasq_takes_its_lines() {
        judged(
            "dnsmasq",
            "dnsmasq",
            |path| vec!["--test".into(), format!("--conf-file={path}")],
            str::to_owned,
        );
    }

    #[test]
    fn kea_takes_its_classes() {
        let whole = |text: &str| {
            let json: String = text.lines().filter(|line| !line.starts_with("//")).collect();
            let classes: serde_json::Value = serde_json::from_str(&json).unwrap();
            let subnet = serde_json::json!([{ "subnet": "10.77.0.0/24", "pools": [{ "pool": "10.77.0.10-10.77.0.20" }] }]);
            let lease = serde_json::json!({ "type": "memfile", "persist": false });
            serde_json::json!({ "Dhcp4": {
                "interfaces-config": { "interfaces": [] },
                "lease-database": lease,
                "subnet4": subnet,
                "client-classes": classes["client-classes"],
            }})
            .to_string()
        };
        judged("kea", "kea-dhcp4", |path| vec!["-t".into(), path.into()], whole);
    }

    #[test]
    fn isc_takes_its_lines() {
        let whole = |text: &str| {
            format!("{text}\nsubnet 10.77.0.0 netmask 255.255.255.0 {{ range 10.77.0.10 10.77.0.20; }}\n")
        };
        judged("isc", "dhcpd", |path| ["-t", "-4", "-cf", path].map(str::to_owned).to_vec(), whole);
    }

    /// What has no program here to judge it: names that are used are made, each once, and quotes are whole.
    #[test]
    fn mikrotik_and_windows_use_what_they_make() {
        for (kind, site, text) in texts() {
            let at = format!("{kind}, {:?}: {text}", site.chain);
            match kind.as_str() {
                "mikrotik" => {
                    let mut section = "";
                    let mut made: Vec<(&str, &str)> = Vec::new();
                    for line in text.lines().filter(|line| !line.starts_with('#')) {
                        if let Some(path) = line.strip_prefix("/ip dhcp-server ") {
                            section = path;
                            continue;
                        }
                        let field = |name: &str| {
                            let start = format!("{name}=");
                            line.split(' ').find_map(|word| word.strip_prefix(start.as_str()))
                        };
                        assert!(line.starts_with("add name="), "{line}: {at}");
                        let name = field("name").unwrap();
                        assert!(!made.contains(&(section, name)), "{name} twice: {at}");
                        made.push((section, name));
                        for option in
                            field("options").unwrap_or_default().split(',').filter(|name| !name.is_empty())
                        {
                            assert!(made.contains(&("option", option)), "{option}: {at}");
                        }
                        if let Some(set) = field("option-set") {
                            assert!(made.contains(&("option sets", set)), "{set}: {at}");
                        }
                        // Both mean something to RouterOS inside double quotes.
                        assert!(!line.contains(['$', '?']), "{line}: {at}");
                        assert_eq!(line.matches('"').count() % 2, 0, "{line}: {at}");
                    }
                    assert!(made.len() > 8, "{at}");
                }
                "windows" => {
                    let quoted = |line: &str, after: &str| -> Option<String> {
                        let (_, rest) = line.split_once(&format!("{after}'"))?;
                        rest.split('\'').next().map(str::to_owned)
                    };
                    let mut classes = Vec::new();
                    let mut policies = Vec::new();
                    for line in text.lines().filter(|line| !line.starts_with('#')) {
                        // PowerShell fills in what follows a dollar, but not between single quotes.
                        assert!(!line.contains('"') && line.matches('\'').count() % 2 == 0, "{line}: {at}");
                        if line.starts_with("Add-DhcpServerv4Class") {
                            classes.push(quoted(line, "-Name ").unwrap());
                        } else if line.starts_with("Add-DhcpServerv4Policy") {
                            let class = quoted(line, "EQ,").unwrap();
                            assert!(
                                classes.iter().any(|made| made == class.trim_end_matches('*')),
                                "{line}: {at}"
                            );
                            policies.push(quoted(line, "-Name ").unwrap());
                        } else {
                            let policy = quoted(line, "Set-DhcpServerv4OptionValue -PolicyName ").unwrap();
                            assert!(policies.contains(&policy), "{line}: {at}");
                        }
                    }
                    policies.sort();
                    policies.dedup();
                    assert_eq!(policies.len(), classes.len(), "one policy for each class: {at}");
                }
                _ => {}
            }
        }
    }
}
