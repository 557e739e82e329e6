//! Which boot file a client gets: the question asked of the engine, and a rule table that answers it.

use core::fmt;
use core::net::Ipv4Addr;

use super::arch::Platform;
use super::client::{BootClient, ClientClass, Loader};
use super::config::ProxyStyle;
use super::message::HardwareAddress;

/// Decides what a client boots.
pub trait BootPolicy {
    /// The decision for `client`. Called for every message that may carry a boot file, so it must be quick.
    fn boot_for(&self, client: &BootClient) -> BootDecision;
}

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootDecision {
    /// No boot file. Full DHCP still gives an address; a proxy stays silent.
    Ignore {
        /// The rule that decided, by its name.
        rule: String,
        /// Why, for the journal.
        why: String,
    },
    /// This file.
    Boot(BootOffer),
}

/// A boot file and how to hand it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOffer {
    /// The rule that decided, by its name.
    pub rule: String,
    /// Whom the file is for. An offer for firmware never reaches iPXE and the reverse: the loop guard.
    pub stage: Stage,
    /// A name on the boot server, or a URL (`http://`, `https://`; `tftp://` for iPXE).
    pub file: String,
    /// Server for plain names; ours when `None`.
    pub next_server: Option<Ipv4Addr>,
    /// Deviations some firmware needs.
    pub quirks: Quirks,
}

/// Which program a boot file is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A loader the firmware starts: shim, a network bootstrap program, an iPXE binary.
    Firmware,
    /// Something a running iPXE fetches: a script, or a program that is not iPXE's own chain.
    Ipxe,
}

/// Deviations for firmware that needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quirks {
    /// Where the name stands.
    pub file_in: FileIn,
    /// Instead of the configured style.
    pub proxy_style: Option<ProxyStyle>,
}

/// Where the boot file name stands in the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileIn {
    /// In the `file` field and in option 67.
    #[default]
    Both,
    /// Only in the `file` field, for ROMs that choke on option 67.
    Field,
}

/// Rules tried in order; the first that matches decides.
///
/// In file names the table fills in `{mac}` (colon form) and `{uuid}` (dmidecode's form, empty when unknown). A rule
/// without a loader that boots something is for firmware; one that ignores is for the machine whatever it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootTable {
    /// The rules.
    pub rules: Vec<BootRule>,
}

/// One rule of a [`BootTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRule {
    /// Name shown in the journal.
    pub name: String,
    /// Which clients it is for.
    pub when: When,
    /// What they get.
    pub then: Then,
}

/// Conditions; those not set match every client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct When {
    /// This machine.
    pub hardware: Option<HardwareAddress>,
    /// This kind of program.
    pub platform: Option<Platform>,
    /// PXE, HTTP boot or neither.
    pub class: Option<ClientClass>,
    /// Firmware or iPXE.
    pub loader: Option<Loader>,
}

/// Outcome of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// No boot file, with the reason.
    Ignore(String),
    /// This file, for the program the client runs (`{mac}` and `{uuid}` are filled in).
    Boot {
        /// Name or URL.
        file: String,
        /// Deviations.
        quirks: Quirks,
    },
}

impl When {
    fn matches(&self, client: &BootClient) -> bool {
        self.hardware.is_none_or(|hardware| hardware == client.hardware)
            && self.platform.is_none_or(|platform| platform == client.platform())
            && self.class.is_none_or(|class| class == client.class)
            // A file named for no loader in particular is for firmware: iPXE gets only what is meant for it.
            && self.loader.unwrap_or(Loader::Firmware) == client.loader
    }
}

impl BootPolicy for BootTable {
    fn boot_for(&self, client: &BootClient) -> BootDecision {
        let matching = self.rules.iter().find(|rule| match rule.then {
            Then::Boot { .. } => rule.when.matches(client),
            // To be left alone is meant for the machine, whatever it runs.
            Then::Ignore(_) => {
                When { loader: rule.when.loader.or(Some(client.loader)), ..rule.when }.matches(client)
            }
        });
        let Some(rule) = matching else {
            return BootDecision::Ignore { rule: "none".into(), why: "no rule matches this client".into() };
        };
        match &rule.then {
            Then::Ignore(why) => BootDecision::Ignore { rule: rule.name.clone(), why: why.clone() },
            Then::Boot { file, quirks } => BootDecision::Boot(BootOffer {
                rule: rule.name.clone(),
                stage: Stage::of(client.loader),
                file: expand(file, client),
                next_server: None,
                quirks: *quirks,
            }),
        }
    }
}

impl Stage {
    /// The stage whose files `loader` may get.
    #[must_use]
    pub fn of(loader: Loader) -> Self {
        match loader {
            Loader::Firmware => Self::Firmware,
            Loader::Ipxe => Self::Ipxe,
        }
    }
}

fn expand(file: &str, client: &BootClient) -> String {
    let uuid = client.uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
    file.replace("{mac}", &client.hardware.to_string()).replace("{uuid}", &uuid)
}

impl fmt::Display for BootOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by rule \"{}\"", self.file, self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::super::arch::ArchCode;
    use super::super::client::MachineUuid;
    use super::*;

    fn client(arch: u16, loader: Loader) -> BootClient {
        let wire =
            [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        BootClient {
            hardware: HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]),
            uuid: MachineUuid::from_wire(wire),
            architectures: vec![ArchCode(arch)],
            class: if arch == 16 { ClientClass::Http } else { ClientClass::Pxe },
            loader,
            host_name: None,
            vendor_class: None,
            relay: None,
            address: None,
        }
    }

    fn rule(name: &str, when: When, then: Then) -> BootRule {
        BootRule { name: name.into(), when, then }
    }

    fn boot(file: &str) -> Then {
        Then::Boot { file: file.into(), quirks: Quirks::default() }
    }

    #[test]
    fn first_matching_rule_decides_and_ipxe_gets_only_its_own() {
        let when = When::default();
        let excluded = HardwareAddress::ethernet([2, 0, 0, 0, 0, 9]);
        let table = BootTable {
            rules: vec![
                rule("kiosk", When { hardware: Some(excluded), ..when }, Then::Ignore("local disk".into())),
                rule("x64 http", When { class: Some(ClientClass::Http), ..when }, boot("http://s/shim.efi")),
                rule("x64", When { platform: Some(Platform::EfiX64), ..when }, boot("shimx64.efi")),
                rule(
                    "script",
                    When { loader: Some(Loader::Ipxe), ..when },
                    boot("http://s/b?mac={mac}&u={uuid}"),
                ),
            ],
        };
        let script =
            "http://s/b?mac=02:00:00:00:00:07&u=00112233-4455-6677-8899-aabbccddeeff by rule \"script\"";
        let cases = [
            (7, Loader::Firmware, "shimx64.efi by rule \"x64\""),
            (9, Loader::Firmware, "shimx64.efi by rule \"x64\""),
            (16, Loader::Firmware, "http://s/shim.efi by rule \"x64 http\""),
            (7, Loader::Ipxe, script),
            (0, Loader::Ipxe, script),
        ];
        for (arch, loader, expected) in cases {
            let BootDecision::Boot(offer) = table.boot_for(&client(arch, loader)) else { panic!("{arch}") };
            assert_eq!(offer.to_string(), expected);
            assert_eq!(offer.stage, Stage::of(loader));
        }
        let none = table.boot_for(&client(0, Loader::Firmware));
        assert_eq!(
            none,
            BootDecision::Ignore { rule: "none".into(), why: "no rule matches this client".into() }
        );
        for loader in [Loader::Firmware, Loader::Ipxe] {
            let kiosk = BootClient { hardware: excluded, ..client(7, loader) };
            let expected = BootDecision::Ignore { rule: "kiosk".into(), why: "local disk".into() };
            assert_eq!(table.boot_for(&kiosk), expected);
        }
    }
}
