//! What a site says about single machines and kinds of machines at boot: rules tried in order, and menu entries of its own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use gravure_model::identity::{Mac, MachineIdentity};
use gravure_netboot::dhcp::{Network, Platform};
use serde::{Deserialize, Serialize};

/// Names that are choices and so cannot be names of entries.
const CHOICES: [&str; 5] = ["ignore", "local", "register", "quarantine", "menu"];
/// Where the files of entries are served.
pub(crate) const EXTRA: &str = "extra";

/// `[[rule]]`: conditions, all of which must hold, and what happens then.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Shown in journals and logs.
    pub name: String,
    /// MAC addresses, or their beginnings with a star: `52:54:00:*`.
    #[serde(default)]
    pub mac: Vec<String>,
    /// SMBIOS UUIDs.
    #[serde(default)]
    pub uuid: Vec<String>,
    /// SMBIOS serial numbers or their beginnings with a star. Only machines that have registered have one: at boot
    /// firmware does not tell.
    #[serde(default)]
    pub serial: Vec<String>,
    /// Kinds of firmware.
    #[serde(default)]
    pub firmware: Vec<FirmwareKind>,
    /// Processor architectures, as firmware names them.
    #[serde(default)]
    pub arch: Vec<ArchKind>,
    /// Networks the machine's address, or its relay, is in: `10.1.0.0/16`.
    #[serde(default)]
    pub subnet: Vec<String>,
    /// Whether the server knows the machine.
    pub known: Option<bool>,
    /// `ignore`, `local`, `register`, `quarantine`, `menu`, or the name of an entry.
    pub boot: String,
}

/// Firmware, as rules name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    /// PC BIOS.
    Bios,
    /// UEFI of any width.
    Uefi,
}

/// Architectures, as rules name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchKind {
    /// A PC whose firmware is a BIOS.
    Bios,
    /// 32-bit x86 UEFI.
    Ia32,
    /// 64-bit x86 UEFI.
    X64,
    /// 64-bit Arm UEFI.
    Arm64,
}

impl ArchKind {
    /// As DHCP tells it.
    pub(crate) fn of(platform: Platform) -> Option<Self> {
        match platform {
            Platform::Bios => Some(Self::Bios),
            Platform::EfiIa32 => Some(Self::Ia32),
            Platform::EfiX64 => Some(Self::X64),
            Platform::EfiArm64 => Some(Self::Arm64),
            _ => None,
        }
    }

    /// As GRUB calls its own platform, and the query of its configuration file; iPXE's script is asked for with the same words.
    pub(crate) fn of_grub(name: &str) -> Option<Self> {
        [Self::Bios, Self::Ia32, Self::X64, Self::Arm64].into_iter().find(|kind| kind.in_grub() == name)
    }

    /// The same the other way.
    pub(crate) fn in_grub(self) -> &'static str {
        match self {
            Self::Bios => "i386-pc",
            Self::Ia32 => "i386-efi",
            Self::X64 => "x86_64-efi",
            Self::Arm64 => "arm64-efi",
        }
    }
}

/// `[[entry]]`: something of the site's own to boot.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Letters, digits, dashes; rules and operators choose it by this.
    pub name: String,
    /// Shown in menus.
    pub title: String,
    /// What it is; Linux when it is left out.
    #[serde(default)]
    pub kind: EntryKind,
    /// The program, below the site's `extra` directory: a Linux kernel, an EFI program, wimboot, or a disc image.
    pub file: String,
    /// For a disc image: the Linux kernel inside it that GRUB starts. Without one the disc is started as a whole, by iPXE or by
    /// firmware that boots by HTTP.
    pub kernel: Option<String>,
    /// For Linux: initial file systems. For a disc image with a kernel: those inside it. For wimboot: `NAME=FILE`, such as
    /// `boot.wim=winpe/boot.wim`.
    #[serde(default)]
    pub initrd: Vec<String>,
    /// For Linux, also inside a disc image: its command line.
    #[serde(default)]
    pub arguments: String,
}

/// Kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A Linux kernel, or anything that starts like one (memtest86+).
    #[default]
    Linux,
    /// An EFI program, started by GRUB; signed, where Secure Boot is on.
    Efi,
    /// wimboot with the files of WinPE, started by iPXE.
    Wimboot,
    /// An image of a disc.
    Iso,
}

impl Entry {
    /// Whether GRUB starts it by itself.
    pub(crate) fn is_for_grub(&self) -> bool {
        match self.kind {
            EntryKind::Linux | EntryKind::Efi => true,
            EntryKind::Wimboot => false,
            EntryKind::Iso => self.kernel.is_some(),
        }
    }

    /// Whether iPXE starts it.
    pub(crate) fn is_for_ipxe(&self) -> bool {
        match self.kind {
            EntryKind::Linux | EntryKind::Wimboot => true,
            EntryKind::Efi => false,
            // iPXE reads no file out of a disc.
            EntryKind::Iso => self.kernel.is_none(),
        }
    }
}

/// What was decided about a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// No boot file at all.
    Ignore,
    /// The local disk, at once.
    Local,
    /// The payload, at once.
    Register,
    /// The payload, at once, if the machine is not known; it is then held back until an operator lets it go.
    Quarantine,
    /// The menu waits, then takes what it would without a rule.
    Menu,
    /// An entry, at once.
    Entry(String),
}

impl Choice {
    /// Reads a choice; entries are not looked for.
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "ignore" => Self::Ignore,
            "local" => Self::Local,
            "register" => Self::Register,
            "quarantine" => Self::Quarantine,
            "menu" => Self::Menu,
            name => Self::Entry(name.to_owned()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignore => "ignore",
            Self::Local => "local",
            Self::Register => "register",
            Self::Quarantine => "quarantine",
            Self::Menu => "menu",
            Self::Entry(name) => name,
        })
    }
}

/// What is known of a machine when a rule is tried. What is not known fits no condition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts<'a> {
    pub(crate) identity: Option<&'a MachineIdentity>,
    pub(crate) firmware: Option<FirmwareKind>,
    pub(crate) arch: Option<ArchKind>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) known: Option<bool>,
}

/// The rules and entries of a site, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    rules: Vec<Checked>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Checked {
    rule: Rule,
    networks: Vec<Network>,
    choice: Choice,
}

impl Rules {
    /// Refuses what cannot be meant, naming the rule or entry.
    pub(crate) fn check(rules: &[Rule], entries: &[Entry]) -> Result<Self, String> {
        for (number, entry) in entries.iter().enumerate() {
            check_entry(entry).map_err(|why| format!("[[entry]] {:?}: {why}", entry.name))?;
            if entries.iter().take(number).any(|other| other.name == entry.name) {
                return Err(format!("[[entry]] {:?}: there are two of this name", entry.name));
            }
        }
        let check =
            |rule: &Rule| check_rule(rule, entries).map_err(|why| format!("[[rule]] {:?}: {why}", rule.name));
        let rules = rules.iter().map(check).collect::<Result<_, _>>()?;
        Ok(Self { rules, entries: entries.to_vec() })
    }

    /// The entry of this name.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The entries, in their order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether an operator may choose this.
    pub(crate) fn allows(&self, choice: &Choice) -> bool {
        match choice {
            Choice::Entry(name) => self.entries.iter().any(|entry| entry.name == *name),
            _ => true,
        }
    }

    /// The first rule that fits: its name and what it chooses.
    pub(crate) fn choose(&self, facts: &Facts<'_>) -> Option<(&str, &Choice)> {
        let fitting = self.rules.iter().find(|checked| checked.fits(facts))?;
        Some((&fitting.rule.name, &fitting.choice))
    }
}

impl Checked {
    fn fits(&self, facts: &Facts<'_>) -> bool {
        let rule = &self.rule;
        let macs = facts.identity.map(|identity| identity.macs.as_slice()).unwrap_or_default();
        let uuid = facts.identity.and_then(|identity| identity.uuid.as_deref());
        let serial = facts.identity.and_then(|identity| identity.serial.as_deref());
        let mac_fits = |pattern: &String| macs.iter().any(|mac| matches(pattern, &mac.to_string()));
        let any = |patterns: &[String], value: Option<&str>| {
            patterns.is_empty()
                || value.is_some_and(|value| patterns.iter().any(|pattern| matches(pattern, value)))
        };
        (rule.mac.is_empty() || rule.mac.iter().any(mac_fits))
            && any(&rule.uuid, uuid)
            && any(&rule.serial, serial)
            && (rule.firmware.is_empty() || facts.firmware.is_some_and(|kind| rule.firmware.contains(&kind)))
            && (rule.arch.is_empty() || facts.arch.is_some_and(|kind| rule.arch.contains(&kind)))
            && (self.networks.is_empty()
                || facts.address.is_some_and(|at| self.networks.iter().any(|network| network.contains(at))))
            && rule.known.is_none_or(|known| facts.known == Some(known))
    }
}

/// Compares without regard to case; a star at the end stands for any rest.
pub(super) fn matches(pattern: &str, value: &str) -> bool {
    let (pattern, value) = (pattern.to_ascii_lowercase(), value.to_ascii_lowercase());
    match pattern.strip_suffix('*') {
        Some(start) => value.starts_with(start),
        None => value == pattern,
    }
}

fn check_rule(rule: &Rule, entries: &[Entry]) -> Result<Checked, String> {
    let choice = Choice::of(&rule.boot);
    if let Choice::Entry(name) = &choice
        && !entries.iter().any(|entry| entry.name == *name)
    {
        let names: Vec<&str> =
            CHOICES.into_iter().chain(entries.iter().map(|entry| entry.name.as_str())).collect();
        return Err(format!(
            "boot = {name:?} is neither a choice nor an entry; there are {}",
            names.join(", ")
        ));
    }
    for mac in &rule.mac {
        mac_pattern(mac)?;
    }
    let networks = networks(&rule.subnet)?;
    if choice == Choice::Ignore && (!rule.serial.is_empty() || rule.known.is_some()) {
        return Err("boot = \"ignore\" is decided when firmware asks for an address, and then neither serial nor known is \
                    seen; use mac, uuid, firmware, arch or subnet, or boot = \"local\""
            .to_owned());
    }
    Ok(Checked { rule: rule.clone(), networks, choice })
}

/// Refuses what is neither a MAC address nor the beginning of one.
pub(super) fn mac_pattern(mac: &str) -> Result<(), String> {
    let well_formed = mac.parse::<Mac>().is_ok()
        || mac.strip_suffix('*').is_some_and(|start| {
            start.len() < 17 && start.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        });
    if well_formed {
        return Ok(());
    }
    Err(format!("{mac:?} is no MAC address like 52:54:00:12:34:56, nor a beginning like 52:54:00:*"))
}

pub(super) fn networks(subnets: &[String]) -> Result<Vec<Network>, String> {
    subnets.iter().map(|text| text.parse::<Network>().map_err(|error| error.to_string())).collect()
}

fn check_entry(entry: &Entry) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if entry.name.is_empty() || entry.name.len() > 40 || !entry.name.bytes().all(plain) {
        return Err("a name has 1 to 40 letters, digits and dashes".to_owned());
    }
    if CHOICES.contains(&entry.name.as_str()) || entry.name == "deploy" {
        return Err("this name means something already".to_owned());
    }
    let files = entry.initrd.iter().map(|text| match entry.kind {
        EntryKind::Wimboot => text.split_once('=').map_or("", |(_, file)| file),
        _ => text,
    });
    if entry.kernel.is_some() && entry.kind != EntryKind::Iso {
        return Err("kernel is a file inside a disc image, and means nothing for other kinds".to_owned());
    }
    if entry.kind == EntryKind::Iso
        && entry.kernel.is_none()
        && !(entry.initrd.is_empty() && entry.arguments.is_empty())
    {
        return Err("initrd and arguments of a disc image go with a kernel inside it, and kernel is not set"
            .to_owned());
    }
    if matches!(entry.kind, EntryKind::Efi) && !(entry.initrd.is_empty() && entry.arguments.is_empty()) {
        return Err("an EFI program is started alone: initrd and arguments mean nothing for it".to_owned());
    }
    if entry.kind == EntryKind::Wimboot && !entry.arguments.is_empty() {
        return Err("wimboot takes no arguments here".to_owned());
    }
    for file in std::iter::once(entry.file.as_str()).chain(entry.kernel.as_deref()).chain(files) {
        // They end up in GRUB's and iPXE's scripts.
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./+".contains(&byte);
        if file.is_empty() || file.starts_with('/') || file.contains("..") || !file.bytes().all(safe) {
            return Err(format!(
                "{file:?} is no file below `extra`: letters, digits and -_.+ between slashes"
            ));
        }
    }
    let names = entry.initrd.iter().filter_map(|text| text.split_once('='));
    if names
        .into_iter()
        .any(|(name, _)| name.is_empty() || !name.bytes().all(|b| plain(b) || b"._".contains(&b)))
    {
        return Err("names of files for wimboot have letters, digits and -._".to_owned());
    }
    if entry.arguments.chars().any(|sign| sign.is_control() || "\"'`$;{}|&\\".contains(sign)) {
        return Err("arguments may not hold quotes, $ or other signs that mean something to GRUB".to_owned());
    }
    Ok(())
}

/// The IPv4 address in a peer's.
pub(crate) fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, boot: &str) -> Rule {
        Rule { name: name.into(), boot: boot.into(), ..Rule::default() }
    }

    fn entry(name: &str) -> Entry {
        Entry { name: name.into(), title: "x".into(), file: "memtest/memtest.bin".into(), ..Entry::default() }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = [
            Rule {
                mac: vec!["00:11:22:*".into()],
                firmware: vec![FirmwareKind::Uefi],
                ..rule("labs", "menu")
            },
            Rule { serial: vec!["ABC*".into()], ..rule("old ones", "local") },
            Rule { subnet: vec!["10.1.0.0/16".into()], known: Some(false), ..rule("new ones", "memtest") },
        ];
        let rules = Rules::check(&rules, &[entry("memtest")]).unwrap();
        let identity = |mac: &str, serial| MachineIdentity::new(None, serial, mac.parse::<Mac>());
        type Case<'a> = (&'a str, Option<&'a str>, FirmwareKind, &'a str, bool, Option<&'a str>);
        let cases: [Case<'_>; 6] = [
            ("00:11:22:33:44:55", None, FirmwareKind::Uefi, "10.9.0.1", true, Some("menu")),
            ("00:11:22:33:44:55", None, FirmwareKind::Bios, "10.9.0.1", true, None),
            ("00:11:22:33:44:55", Some("abc7"), FirmwareKind::Bios, "10.9.0.1", true, Some("local")),
            ("02:00:00:00:00:01", None, FirmwareKind::Bios, "10.1.2.3", false, Some("memtest")),
            ("02:00:00:00:00:01", None, FirmwareKind::Bios, "10.1.2.3", true, None),
            ("02:00:00:00:00:01", Some("XABC"), FirmwareKind::Uefi, "10.2.2.3", false, None),
        ];
        for (mac, serial, firmware, address, known, expected) in cases {
            let identity = identity(mac, serial);
            let facts = Facts {
                identity: Some(&identity),
                firmware: Some(firmware),
                address: Some(address.parse().unwrap()),
                known: Some(known),
                ..Facts::default()
            };
            let choice = rules.choose(&facts).map(|(_, choice)| choice.to_string());
            assert_eq!(choice.as_deref(), expected, "{mac} {serial:?}");
        }
        // What is not known fits no condition.
        assert!(rules.choose(&Facts::default()).is_none());
    }

    #[test]
    fn rules_can_name_an_architecture() {
        let arms: Rule = toml::from_str("name = 'arms'\narch = ['arm64', 'ia32']\nboot = 'local'").unwrap();
        let rules = Rules::check(&[arms], &[]).unwrap();
        let cases = [
            (Some("arm64-efi"), true),
            (Some("i386-efi"), true),
            (Some("x86_64-efi"), false),
            (Some("i386-pc"), false),
            (Some("mips-arc"), false),
            (None, false),
        ];
        for (name, fits) in cases {
            let facts = Facts { arch: name.and_then(ArchKind::of_grub), ..Facts::default() };
            assert_eq!(rules.choose(&facts).is_some(), fits, "{name:?}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_meant_and_names_it() {
        let rules: [(Rule, &str); 4] = [
            (
                rule("r", "nothing"),
                "[[rule]] \"r\": boot = \"nothing\" is neither a choice nor an entry; there are ignore, local, register, quarantine, menu, memtest",
            ),
            (Rule { mac: vec!["printer".into()], ..rule("r", "local") }, "is no MAC address"),
            (Rule { subnet: vec!["10.0.0.0/40".into()], ..rule("r", "local") }, "[[rule]] \"r\":"),
            (Rule { known: Some(true), ..rule("r", "ignore") }, "neither serial nor known is seen"),
        ];
        for (rule, expected) in rules {
            let error = Rules::check(&[rule], &[entry("memtest")]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let entries: [(Entry, &str); 10] = [
            (Entry { kernel: Some("vmlinuz".into()), ..entry("a") }, "inside a disc image"),
            (Entry { kind: EntryKind::Iso, initrd: vec!["x".into()], ..entry("a") }, "kernel is not set"),
            (Entry { kind: EntryKind::Efi, arguments: "x".into(), ..entry("a") }, "is started alone"),
            (
                Entry { kind: EntryKind::Iso, kernel: Some("../vmlinuz".into()), ..entry("a") },
                "no file below `extra`",
            ),
            (entry("local"), "means something already"),
            (entry("a b"), "letters, digits and dashes"),
            (Entry { file: "../keys/plan.key".into(), ..entry("a") }, "no file below `extra`"),
            (Entry { file: "a b".into(), ..entry("a") }, "no file below `extra`"),
            (Entry { arguments: "x $(reboot)".into(), ..entry("a") }, "signs that mean something to GRUB"),
            (
                Entry { kind: EntryKind::Wimboot, initrd: vec!["boot.wim".into()], ..entry("a") },
                "no file below `extra`",
            ),
        ];
        for (entry, expected) in entries {
            let error = Rules::check(&[], &[entry]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Rules::check(&[], &[entry("a"), entry("a")]).unwrap_err().contains("two of this name"));
    }
}
