//! Which boot file each kind of firmware gets (specs/netboot.md, 3.2).

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use gravure_model::identity::{Mac, MachineIdentity};
use gravure_netboot::dhcp::{
    BootClient, BootDecision, BootPolicy, BootRule, BootTable, ClientClass, Loader, Platform,
    Quirks as Deviations, Then, When,
};

use super::library::UKI;
use super::quirks::Quirks;
use super::rules::{ArchKind, Choice, Facts, FirmwareKind, Rules};
use super::straight::straight;
use crate::config::Chain;

/// For machines that could load the signed image twice over TFTP, and would trust what they get in between.
const ONLY_HTTP: &str = "this site starts UEFI machines by an image that its own key signed, over HTTP only: switch the firmware \
    from PXE to HTTP boot";
/// The signed image has one kernel in it.
const ONLY_X64: &str = "this site starts UEFI machines by an image that its own key signed, and that is for 64-bit x86 UEFI alone";
const NO_IA32: &str = "no loaders for 32-bit UEFI are served: put shimia32.efi and grubia32.efi (2.12 or newer) into `pxe` of the \
    boot directory and start the server again";
const NO_ARM64: &str = "nothing for 64-bit Arm is served: put shimaa64.efi and grubaa64.efi (2.12 or newer) into `pxe` of the boot \
    directory, vmlinuz and initramfs.cpio.zst for it into `arm64`, and start the server again";
const NO_SUCH: &str = "there is nothing to start on this kind of processor";

/// For which architectures besides 64-bit x86 a site has what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Loaders {
    /// shim and GRUB for 32-bit UEFI; the kernel is the one of 64-bit machines, whose processors these have.
    pub(crate) ia32: bool,
    /// shim, GRUB, kernel and initramfs.
    pub(crate) arm64: bool,
}

impl Loaders {
    /// Looks into the boot directory.
    pub(crate) fn find(boot: &Path) -> Self {
        let all = |names: &[&str]| names.iter().all(|name| boot.join(name).is_file());
        Self {
            ia32: all(&["pxe/shimia32.efi", "pxe/grubia32.efi"]),
            arm64: all(&[
                "pxe/shimaa64.efi",
                "pxe/grubaa64.efi",
                "arm64/vmlinuz",
                "arm64/initramfs.cpio.zst",
            ]),
        }
    }
}

/// The rules for machines that reach us at `content` (`http://address:port`); firmware fetches the signed image from
/// `firmware`, which may be `https://`.
pub(crate) fn boot_table(content: &str, firmware: &str, chain: Chain, loaders: Loaders) -> BootTable {
    let boot = |name: &str, when: When, file: &str| BootRule {
        name: name.into(),
        when,
        then: Then::Boot { file: file.into(), quirks: Deviations::default() },
    };
    let none = |name: &str, when: When, why: &str| BootRule {
        name: name.into(),
        when,
        then: Then::Ignore(why.into()),
    };
    let firmware_of = |platform, class| When {
        platform: Some(platform),
        class: Some(class),
        loader: Some(Loader::Firmware),
        ..When::default()
    };
    let mut rules = scripts(content, loaders);
    let classes = [("HTTP boot", ClientClass::Http), ("PXE", ClientClass::Pxe)];
    let signed = |file: &str| format!("{firmware}/{UKI}/{file}");
    // Name, platform, suffix of its loaders, and why there are none.
    let kinds = [
        ("UEFI", Platform::EfiX64, "x64", None),
        ("UEFI ia32", Platform::EfiIa32, "ia32", Some(NO_IA32).filter(|_| !loaders.ia32)),
        ("UEFI arm64", Platform::EfiArm64, "aa64", Some(NO_ARM64).filter(|_| !loaders.arm64)),
    ];
    for (kind, platform, suffix, missing) in kinds {
        for (way, class) in classes {
            let (name, when) = (format!("{kind} {way}"), firmware_of(platform, class));
            let shim = match class {
                ClientClass::Http => format!("{content}/shim{suffix}.efi"),
                _ => format!("shim{suffix}.efi"),
            };
            rules.push(match (chain, missing, class) {
                (Chain::Grub, None, _) => boot(&name, when, &shim),
                (Chain::Grub, Some(why), _) => none(&name, when, why),
                _ if platform != Platform::EfiX64 => none(&name, when, ONLY_X64),
                (Chain::ShimUki, _, ClientClass::Http) => {
                    boot("signed image behind shim", when, &signed("shimx64.efi"))
                }
                (Chain::Uki, _, ClientClass::Http) => {
                    boot("signed image", when, &signed(crate::secure_boot::IMAGE))
                }
                _ => none(&name, when, ONLY_HTTP),
            });
        }
    }
    rules.push(boot("BIOS PXE", firmware_of(Platform::Bios, ClientClass::Pxe), "undionly.kpxe"));
    BootTable { rules }
}

/// A running iPXE is told what it runs on, in GRUB's words, which GRUB's own queries have too.
fn scripts(content: &str, loaders: Loaders) -> Vec<BootRule> {
    let script = format!("{content}/boot.ipxe?mac={{mac}}&uuid={{uuid}}");
    let rule = |platform, then| BootRule {
        name: "iPXE script".into(),
        when: When { loader: Some(Loader::Ipxe), platform, ..When::default() },
        then,
    };
    let boot = |file: String| Then::Boot { file, quirks: Deviations::default() };
    let kinds = [
        (Platform::Bios, ArchKind::Bios),
        (Platform::EfiX64, ArchKind::X64),
        (Platform::EfiIa32, ArchKind::Ia32),
        (Platform::EfiArm64, ArchKind::Arm64),
    ];
    let mut rules: Vec<BootRule> = kinds
        .into_iter()
        .map(|(platform, arch)| match arch {
            ArchKind::Arm64 if !loaders.arm64 => rule(Some(platform), Then::Ignore(NO_ARM64.into())),
            arch => rule(Some(platform), boot(format!("{script}&arch={}", arch.in_grub()))),
        })
        .collect();
    for platform in [Platform::EfiArm32, Platform::EfiRiscv64, Platform::EfiLoong64] {
        rules.push(rule(Some(platform), Then::Ignore(NO_SUCH.into())));
    }
    // It said nothing of its processor; the script asks it.
    rules.push(rule(None, boot(script)));
    rules
}

/// The boot table of an interface, behind the site's rules.
#[derive(Debug)]
pub(crate) struct SitePolicy {
    pub(crate) table: BootTable,
    pub(crate) rules: Arc<Rules>,
    pub(crate) quirks: Arc<Quirks>,
    /// Our own address on the interface: machines that have none yet and came through no relay are in its network.
    pub(crate) here: Option<Ipv4Addr>,
    /// `http://address:port` of files.
    pub(crate) content: String,
    /// An iPXE for UEFI machines, if the site has one: it starts what GRUB cannot. Nobody signed it.
    pub(crate) ipxe: Option<&'static str>,
}

impl BootPolicy for SitePolicy {
    fn boot_for(&self, client: &BootClient) -> BootDecision {
        let uuid = client.uuid.map(|uuid| uuid.to_string());
        let identity = MachineIdentity::new(uuid.as_deref(), None, client.hardware.mac().map(Mac));
        let address = client.relay.map(|relay| relay.address).or(client.address).or(self.here);
        let platform = client.platform();
        let facts = Facts {
            identity: Some(&identity),
            firmware: firmware_of(client),
            arch: ArchKind::of(platform),
            address,
            known: None,
        };
        let straight = match self.rules.choose(&facts) {
            Some((rule, Choice::Ignore)) => {
                let why = "this site leaves the machine alone".to_owned();
                return BootDecision::Ignore { rule: rule.to_owned(), why };
            }
            Some((rule, Choice::Entry(name))) => self
                .rules
                .entry(name)
                .and_then(|entry| straight(rule, entry, client, &self.content, self.ipxe)),
            _ => None,
        };
        let mut decision = straight.unwrap_or_else(|| self.table.boot_for(client));
        // A running iPXE has none of the faults of the firmware it came from.
        if let BootDecision::Boot(offer) = &mut decision
            && client.loader == Loader::Firmware
        {
            offer.quirks = self.quirks.for_firmware(client, address);
        }
        decision
    }
}

fn firmware_of(client: &BootClient) -> Option<FirmwareKind> {
    match client.platform() {
        Platform::Bios => Some(FirmwareKind::Bios),
        Platform::Other => None,
        _ if client.class == ClientClass::Ordinary => None,
        _ => Some(FirmwareKind::Uefi),
    }
}

#[cfg(test)]
mod tests {
    use gravure_netboot::dhcp::{ArchCode, FileIn, HardwareAddress, Relay};

    use super::super::quirks::{FilePlace, Quirk};
    use super::super::rules::{Entry, EntryKind, Rule};
    use super::*;

    fn client(arch: u16, loader: Loader) -> BootClient {
        BootClient {
            hardware: HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]),
            uuid: None,
            architectures: vec![ArchCode(arch)],
            class: if matches!(arch, 15 | 16 | 19) { ClientClass::Http } else { ClientClass::Pxe },
            loader,
            host_name: None,
            vendor_class: None,
            relay: None,
            address: None,
        }
    }

    fn file(decision: BootDecision) -> String {
        match decision {
            BootDecision::Boot(offer) => offer.file,
            BootDecision::Ignore { why, .. } => why,
        }
    }

    #[test]
    fn every_architecture_gets_its_loaders_or_a_reason() {
        let (all, no) = (Loaders { ia32: true, arm64: true }, Loaders::default());
        let script = |arch: &str| format!("http://s/boot.ipxe?mac=02:00:00:00:00:07&uuid=&arch={arch}");
        use Loader::{Firmware, Ipxe};
        let cases = [
            (Chain::Grub, all, 0, Firmware, "undionly.kpxe".to_owned()),
            (Chain::Grub, all, 7, Firmware, "shimx64.efi".to_owned()),
            (Chain::Grub, all, 16, Firmware, "http://s/shimx64.efi".to_owned()),
            (Chain::Grub, all, 6, Firmware, "shimia32.efi".to_owned()),
            (Chain::Grub, all, 15, Firmware, "http://s/shimia32.efi".to_owned()),
            (Chain::Grub, all, 11, Firmware, "shimaa64.efi".to_owned()),
            (Chain::Grub, all, 19, Firmware, "http://s/shimaa64.efi".to_owned()),
            (Chain::Grub, no, 6, Firmware, NO_IA32.to_owned()),
            (Chain::Grub, no, 19, Firmware, NO_ARM64.to_owned()),
            (Chain::Grub, no, 7, Firmware, "shimx64.efi".to_owned()),
            (Chain::ShimUki, all, 16, Firmware, "https://s/uki/shimx64.efi".to_owned()),
            (Chain::ShimUki, all, 7, Firmware, ONLY_HTTP.to_owned()),
            (Chain::ShimUki, all, 6, Firmware, ONLY_X64.to_owned()),
            (Chain::Uki, all, 16, Firmware, format!("https://s/uki/{}", crate::secure_boot::IMAGE)),
            (Chain::Uki, no, 19, Firmware, ONLY_X64.to_owned()),
            (Chain::Grub, no, 0, Ipxe, script("i386-pc")),
            (Chain::Grub, no, 7, Ipxe, script("x86_64-efi")),
            (Chain::Grub, no, 6, Ipxe, script("i386-efi")),
            (Chain::Grub, all, 11, Ipxe, script("arm64-efi")),
            (Chain::Grub, no, 11, Ipxe, NO_ARM64.to_owned()),
            (Chain::Grub, all, 27, Ipxe, NO_SUCH.to_owned()),
            (Chain::Grub, all, 999, Ipxe, "http://s/boot.ipxe?mac=02:00:00:00:00:07&uuid=".to_owned()),
            (Chain::Grub, all, 27, Firmware, "no rule matches this client".to_owned()),
        ];
        for (chain, loaders, arch, loader, expected) in cases {
            let table = boot_table("http://s", "https://s", chain, loaders);
            assert_eq!(file(table.boot_for(&client(arch, loader))), expected, "{chain:?} {arch} {loader:?}");
        }
    }

    #[test]
    fn loaders_count_when_all_of_them_are_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["pxe", "arm64"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut found = Vec::new();
        for name in [
            "pxe/shimia32.efi",
            "pxe/grubia32.efi",
            "pxe/shimaa64.efi",
            "pxe/grubaa64.efi",
            "arm64/vmlinuz",
            "arm64/initramfs.cpio.zst",
        ] {
            std::fs::write(dir.path().join(name), "x").unwrap();
            let Loaders { ia32, arm64 } = Loaders::find(dir.path());
            found.push((ia32, arm64));
        }
        let expected =
            [(false, false), (true, false), (true, false), (true, false), (true, false), (true, true)];
        assert_eq!(found, expected);
    }

    #[test]
    fn rules_and_quirks_know_the_network_of_machines_without_an_address() {
        let rule = Rule {
            name: "elsewhere".into(),
            boot: "ignore".into(),
            subnet: vec!["10.88.0.0/24".into()],
            ..Rule::default()
        };
        let quirk = Quirk {
            name: "here".into(),
            subnet: vec!["10.77.0.0/24".into()],
            file_in: Some(FilePlace::Field),
            ..Quirk::default()
        };
        let policy = SitePolicy {
            table: boot_table("http://s", "http://s", Chain::Grub, Loaders::default()),
            rules: Arc::new(Rules::check(&[rule], &[]).unwrap()),
            quirks: Arc::new(Quirks::check(&[quirk]).unwrap()),
            here: Some([10, 77, 0, 1].into()),
            content: "http://s".into(),
            ipxe: None,
        };
        let near = client(7, Loader::Firmware);
        let BootDecision::Boot(offer) = policy.boot_for(&near) else { panic!("nothing offered") };
        assert_eq!((offer.file.as_str(), offer.quirks.file_in), ("shimx64.efi", FileIn::Field));
        let far = BootClient { relay: Some(Relay { address: [10, 88, 0, 1].into() }), ..near.clone() };
        assert_eq!(file(policy.boot_for(&far)), "this site leaves the machine alone");
        // iPXE is no old ROM.
        let BootDecision::Boot(offer) = policy.boot_for(&client(7, Loader::Ipxe)) else {
            panic!("nothing offered")
        };
        assert_eq!(offer.quirks.file_in, FileIn::Both);
    }

    #[test]
    fn a_rule_for_what_grub_cannot_start_gives_firmware_what_can() {
        let entry = |name: &str| Entry {
            name: name.into(),
            title: "x".into(),
            file: "memtest/memtest.bin".into(),
            ..Entry::default()
        };
        let entries = [
            Entry { kind: EntryKind::Wimboot, ..entry("winpe") },
            Entry { kind: EntryKind::Iso, file: "tools.iso".into(), ..entry("tools") },
            Entry {
                kind: EntryKind::Iso,
                file: "live.iso".into(),
                kernel: Some("vmlinuz".into()),
                ..entry("live")
            },
            entry("memtest"),
        ];
        let file = |choice: &str, ipxe, arch| {
            let rule = Rule { name: "r".into(), boot: choice.into(), ..Rule::default() };
            let rules = Arc::new(Rules::check(&[rule], &entries).unwrap());
            let table = BootTable::default();
            let content = "http://10.0.0.1".to_owned();
            let policy = SitePolicy { table, rules, quirks: Arc::default(), here: None, content, ipxe };
            match policy.boot_for(&client(arch, Loader::Firmware)) {
                BootDecision::Boot(offer) => Some(offer.file),
                BootDecision::Ignore { .. } => None,
            }
        };
        type Case<'a> = (&'a str, Option<&'static str>, u16, Option<&'a str>);
        let cases: [Case<'_>; 10] = [
            ("winpe", Some("ipxe.efi"), 7, Some("ipxe.efi")),
            ("winpe", Some("ipxe.efi"), 16, Some("http://10.0.0.1/ipxe.efi")),
            ("winpe", None, 7, None),
            ("winpe", Some("ipxe.efi"), 0, None),
            ("tools", None, 16, Some("http://10.0.0.1/extra/tools.iso")),
            ("tools", Some("ipxe.efi"), 7, Some("ipxe.efi")),
            ("tools", None, 7, None),
            ("live", Some("ipxe.efi"), 16, None),
            ("memtest", Some("ipxe.efi"), 7, None),
            ("menu", Some("ipxe.efi"), 7, None),
        ];
        for (choice, ipxe, arch, expected) in cases {
            assert_eq!(file(choice, ipxe, arch).as_deref(), expected, "{choice} {ipxe:?} {arch}");
        }
    }
}
