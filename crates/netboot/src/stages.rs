//! Where a boot stopped: the steps from loader to payload, how long each may take, and what it means when the next one does not come.
//!
//! A machine that boots fetches its files one after the other, and each is made by the program before: that GRUB asked for its
//! configuration shows that shim started it. So what came last says what failed, without anybody reading the machine's screen.
//! Times run from the last byte of one file to the question for the next: how long a file takes says nothing.
//! Only what this server sees counts; offers that nobody took are [`crate::dhcp::OfferWatch`]'s.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use crate::Millis;

/// Machines remembered; beyond that the one that was quiet longest is forgotten.
const MAX_MACHINES: usize = 4096;
/// From one small file to the next: a second on every machine seen, and firmware that asks three times waits 16 s in between.
const NEXT_FILE: Duration = Duration::from_secs(30);
/// iPXE gets its address once more before it asks for its script; spanning tree can take 30 s of that.
const NEXT_FILE_OF_IPXE: Duration = Duration::from_secs(60);
/// For kernel and initramfs, 100 MB at 1 MB/s included.
const PAYLOAD_FILES: Duration = Duration::from_secs(180);
/// From the last file to the payload's first word: the kernel's start, drivers, an address, TLS.
const HELLO: Duration = Duration::from_secs(180);

/// Made for each machine.
const MENUS: [&str; 3] = ["boot/grub.cfg", "boot.ipxe", "autoexec.ipxe"];

/// How far a boot has come, by what was fetched last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// DHCPv6 gave an address and a boot file; nothing was fetched yet.
    Address,
    /// shim was sent.
    Shim,
    /// The network boot program of BIOS machines, an iPXE, was sent.
    Ipxe,
    /// GRUB was sent.
    Grub,
    /// shim asked for MokManager: it refused what it should have started.
    MokManager,
    /// GRUB's first configuration was sent.
    FirstMenu,
    /// The machine's own menu or script was sent, and it starts the payload.
    Menu,
    /// The kernel was sent.
    Kernel,
    /// All of the payload was sent, or the signed image that holds it.
    Payload,
}

/// The next step did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// How far it came.
    pub after: Stage,
    /// Seconds that were waited, or `None` when the machine started anew before.
    pub waited: Option<u64>,
}

impl Stage {
    /// The stage a file stands for; `None` for files that say nothing of the way.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        let name = name.trim_start_matches('/').to_ascii_lowercase();
        let last = name.rsplit('/').next().unwrap_or_default();
        match last {
            _ if name == "boot/vmlinuz" || name == "boot/arm64/vmlinuz" => Some(Self::Kernel),
            "initramfs.cpio.zst" if name.starts_with("boot/") => Some(Self::Payload),
            // Also by the names that say which machine it is for.
            _ if name == "grub/grub.cfg" || name.starts_with("grub/grub.cfg-") => Some(Self::FirstMenu),
            "mmx64.efi" | "mmia32.efi" | "mmaa64.efi" => Some(Self::MokManager),
            // Behind shim, under the name that shim asks for, or started by firmware.
            _ if name == "uki/grubx64.efi" || name == "uki/gravure.efi" => Some(Self::Payload),
            "grubx64.efi" | "grubia32.efi" | "grubaa64.efi" => Some(Self::Grub),
            "undionly.kpxe" | "ipxe.efi" | "snponly.efi" => Some(Self::Ipxe),
            _ if last.starts_with("shim") && last.ends_with(".efi") && !last.starts_with("shim_") => {
                Some(Self::Shim)
            }
            _ => None,
        }
    }

    /// How long the step after it may take; `None` where what comes next is not ours to see.
    fn next_within(self) -> Option<Duration> {
        match self {
            Self::Address | Self::Shim | Self::Grub | Self::FirstMenu => Some(NEXT_FILE),
            Self::Ipxe => Some(NEXT_FILE_OF_IPXE),
            // Told at once; a person stands before the screen from then on.
            Self::MokManager => None,
            Self::Menu | Self::Kernel => Some(PAYLOAD_FILES),
            Self::Payload => Some(HELLO),
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, missing) = match self.after {
            Stage::Address => {
                ("an address and a boot file were given by DHCPv6", "the machine did not ask for the file")
            }
            Stage::Shim => ("shim was sent", "shim did not ask for what comes behind it"),
            Stage::Ipxe => ("iPXE was sent", "it did not ask for its script"),
            Stage::Grub => ("GRUB was sent", "it did not ask for its configuration"),
            Stage::MokManager => {
                return write!(f, "shim refused the program behind it and asked for MokManager");
            }
            Stage::FirstMenu => {
                ("GRUB's first configuration was sent", "GRUB did not ask for the machine's own")
            }
            Stage::Menu => ("the boot menu was sent", "the kernel was not fetched"),
            Stage::Kernel => ("the kernel was sent", "the initramfs was not fetched"),
            Stage::Payload => ("the payload was sent", "it never reported in"),
        };
        match self.waited {
            Some(seconds) => write!(f, "{sent}, and {missing} within {seconds} s"),
            None => write!(f, "{sent}, and the machine started anew: {missing}"),
        }
    }
}

impl Stopped {
    /// The likely cause and what to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.after {
            Stage::Address => {
                "the machine cannot reach this server's files over IPv6: a firewall on UDP port 69 or TCP port 80, or a router on \
                 its network that advertises another prefix; `gravure doctor` looks for one"
            }
            Stage::Shim => {
                "firmware with Secure Boot refused shim (\"Access Denied\", then the next boot entry): its list of authorities lacks \
                 the one that signed it, which `gravure doctor` names; add \"Microsoft UEFI CA\" in the firmware's menu, or put a shim with \
                 the other signature beside it (pxe/shimx64-2023.efi)"
            }
            Stage::Ipxe => {
                "iPXE got no address or cannot reach this server: a switch port that forwards late (turn on its fast start), a second \
                 DHCP server that answers iPXE only, or a firewall on TCP port 80; the machine's screen shows which"
            }
            Stage::Grub => {
                "shim refused GRUB (\"Security Violation\" on the screen): it is of an older generation than shim asks for, or was \
                 changed; `gravure doctor` compares them, `cargo xtask payload` makes a pair that fits"
            }
            Stage::MokManager => {
                "Secure Boot: the program is not signed by a key that shim or firmware trusts. With chain = \"shim-uki\" enrol the site's \
                 key on the screen that is shown now (keys/secureboot/site.cer); with GRUB take shim and GRUB of one Debian release"
            }
            Stage::FirstMenu => {
                "GRUB reached the server by TFTP and not by HTTP: a firewall on TCP port 80, a GRUB older than 2.12 that has no HTTP, or \
                 another port under [ports] than the one that is open"
            }
            Stage::Menu => {
                "somebody chose another entry, or the loader cannot fetch by HTTP; the machine's screen says which file it failed at"
            }
            Stage::Kernel => {
                "with Secure Boot GRUB refuses a kernel that is not Debian's (\"bad shim signature\"); otherwise the transfer broke off: \
                 look for a line about it above, and at memory (1 GiB is needed)"
            }
            Stage::Payload => {
                "the kernel did not start, has no driver for the network adapter, got no address, or cannot reach the API: look at the \
                 machine's screen, which says how far it is, then at TCP port 8443 in firewalls and at `gravure doctor`"
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Booting {
    stage: Stage,
    /// When the next step should have come, and how long that is after this one.
    due: Option<(Millis, Duration)>,
    last: Millis,
}

/// Follows machines from their first file to the payload's first word.
#[derive(Debug, Default)]
pub struct StageWatch {
    machines: BTreeMap<[u8; 6], Booting>,
}

impl StageWatch {
    /// The machine asks for a file. If it is one of the way, the wait for it is over; how long it takes is a matter of the network, and
    /// a transfer that breaks off is told of by itself.
    pub fn asked(&mut self, mac: [u8; 6], name: &str) {
        if Stage::of_file(name).is_some() {
            self.machines.remove(&mac);
        }
    }

    /// The machine got a file.
    pub fn fetched(&mut self, mac: [u8; 6], name: &str, now: Millis) -> Option<Stopped> {
        let stage = match Stage::of_file(name) {
            Some(stage) => stage,
            // A site's own entry: what follows is not ours.
            None if name.trim_start_matches('/').starts_with("extra/") => {
                self.machines.remove(&mac);
                return None;
            }
            // Whoever makes menus says which of them start the payload, with `reached`. Of others nothing is to be expected.
            None if MENUS.contains(&name.trim_start_matches('/')) => {
                if self.machines.get(&mac).is_some_and(|entry| entry.stage != Stage::Menu) {
                    self.machines.remove(&mac);
                }
                return None;
            }
            None => return None,
        };
        self.reached(mac, stage, now);
        (stage == Stage::MokManager).then_some(Stopped { after: stage, waited: Some(0) })
    }

    /// The machine has come this far.
    pub fn reached(&mut self, mac: [u8; 6], stage: Stage, now: Millis) {
        if self.machines.len() >= MAX_MACHINES && !self.machines.contains_key(&mac) {
            let quietest = self.machines.iter().min_by_key(|(_, entry)| entry.last).map(|(mac, _)| *mac);
            quietest.and_then(|mac| self.machines.remove(&mac));
        }
        let due = stage.next_within().map(|within| (now.after(within), within));
        self.machines.insert(mac, Booting { stage, due, last: now });
    }

    /// Nothing of ours follows: the payload reported in, or the machine's menu starts something else.
    pub fn done(&mut self, mac: [u8; 6]) {
        self.machines.remove(&mac);
    }

    /// The machine asks for an address to boot with. That is a new boot if the payload had been sent, and something went wrong
    /// with the last one; earlier it may be iPXE's own question, or the next of firmware's boot entries.
    pub fn restarted(&mut self, mac: [u8; 6]) -> Option<Stopped> {
        let stage = self.machines.get(&mac)?.stage;
        if !matches!(stage, Stage::Kernel | Stage::Payload) {
            return None;
        }
        self.machines.remove(&mac);
        Some(Stopped { after: stage, waited: None })
    }

    /// What should have happened by now and did not, each told once. Call it every few seconds.
    pub fn due(&mut self, now: Millis) -> Vec<([u8; 6], Stopped)> {
        let mut found = Vec::new();
        for (mac, entry) in &mut self.machines {
            if let Some((_, waited)) = entry.due.filter(|(due, _)| *due <= now) {
                entry.due = None;
                found.push((*mac, Stopped { after: entry.stage, waited: Some(waited.as_secs()) }));
            }
        }
        self.machines.retain(|_, entry| entry.due.is_some());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn at(seconds: u64) -> Millis {
        Millis(seconds * 1000)
    }

    /// What is said when a boot stops after these files, a second after one another.
    fn stops_after(files: &[&str]) -> Vec<Stopped> {
        let mut watch = StageWatch::default();
        let mut found = Vec::new();
        for (second, name) in (0..).zip(files) {
            found.extend(watch.fetched(MAC, name, at(second)));
        }
        for second in 0..600 {
            found.extend(watch.due(at(second)).into_iter().map(|(_, stopped)| stopped));
        }
        found
    }

    #[test]
    fn each_place_where_a_boot_stops_is_told_once_with_its_own_cause() {
        let shim: [&str; 1] = ["shimx64.efi"];
        let grub = [&shim[..], &["revocations_sbat.efi", "shim_certificate_0.efi", "grubx64.efi"]].concat();
        let start = [&grub[..], &["grub/x86_64-efi/command.lst", "grub/grub.cfg"]].concat();
        let kernel = [&start[..], &["boot/vmlinuz"]].concat();
        let all = [&kernel[..], &["boot/site.cpio", "boot/initramfs.cpio.zst"]].concat();
        type Case<'a> = (Vec<&'a str>, Stage, &'a str, &'a str);
        let cases: [Case<'_>; 8] = [
            (shim.to_vec(), Stage::Shim, "shim was sent, and shim did not ask", "Access Denied"),
            (grub.clone(), Stage::Grub, "GRUB was sent, and it did not ask", "Security Violation"),
            (start, Stage::FirstMenu, "GRUB did not ask for the machine's own within 30 s", "TCP port 80"),
            (kernel, Stage::Kernel, "the initramfs was not fetched within 180 s", "bad shim signature"),
            (all, Stage::Payload, "the payload was sent, and it never reported in within 180 s", "8443"),
            (vec!["undionly.kpxe"], Stage::Ipxe, "it did not ask for its script within 60 s", "switch port"),
            (vec!["uki/shimx64.efi", "/uki/grubx64.efi"], Stage::Payload, "it never reported in", "driver"),
            (vec!["uki/gravure.efi"], Stage::Payload, "it never reported in", "driver"),
        ];
        for (files, stage, text, advice) in cases {
            let found = stops_after(&files);
            assert_eq!(found.len(), 1, "{files:?}: {found:?}");
            assert_eq!(found[0].after, stage, "{files:?}");
            assert!(found[0].to_string().contains(text), "{files:?}: {}", found[0]);
            assert!(found[0].advice().contains(advice), "{files:?}: {}", found[0].advice());
        }
    }

    /// Seen: GRUB by TFTP took 35 s on a machine under load, and shim had asked for it at once.
    #[test]
    fn a_slow_transfer_is_no_stop() {
        let mut watch = StageWatch::default();
        watch.fetched(MAC, "shimx64.efi", at(0));
        watch.asked(MAC, "shim_certificate_0.efi");
        watch.asked(MAC, "grubx64.efi");
        assert_eq!(watch.due(at(300)), []);
        watch.fetched(MAC, "grubx64.efi", at(301));
        assert_eq!(watch.due(at(330)), []);
        let stopped = watch.due(at(331)).remove(0).1;
        assert_eq!(
            stopped.to_string(),
            "GRUB was sent, and it did not ask for its configuration within 30 s"
        );
        // What is not of the way ends no wait.
        watch.fetched(MAC, "boot/vmlinuz", at(400));
        watch.asked(MAC, "boot/site.cpio");
        assert_eq!(watch.due(at(580)).len(), 1);
    }

    #[test]
    fn mokmanager_is_told_at_once_and_not_again() {
        for files in [
            &["shimx64.efi", "grubx64.efi", "mmx64.efi"][..],
            &["uki/shimx64.efi", "uki/grubx64.efi", "uki/mmx64.efi"],
        ] {
            let found = stops_after(files);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].to_string(), "shim refused the program behind it and asked for MokManager");
            assert!(found[0].advice().contains("keys/secureboot/site.cer"));
        }
    }

    #[test]
    fn a_boot_that_goes_on_is_not_told_of() {
        // The menu starts the disk, a site's own entry was fetched, or the payload reported.
        let mut watch = StageWatch::default();
        watch.fetched(MAC, "grub/grub.cfg", at(0));
        watch.done(MAC);
        watch.reached([8; 6], Stage::FirstMenu, at(0));
        watch.fetched([8; 6], "boot/grub.cfg", at(0));
        watch.fetched([4; 6], "boot/vmlinuz", at(0));
        watch.fetched([4; 6], "extra/memtest/mt.bin", at(1));
        watch.fetched([6; 6], "boot/initramfs.cpio.zst", at(0));
        watch.done([6; 6]);
        assert_eq!(watch.due(at(10_000)), []);
        // A menu that starts the payload is waited for.
        watch.reached([8; 6], Stage::Menu, at(10_000));
        watch.fetched([8; 6], "boot/grub.cfg", at(10_000));
        let stopped = watch.due(at(10_180)).remove(0).1;
        assert_eq!(
            stopped.to_string(),
            "the boot menu was sent, and the kernel was not fetched within 180 s"
        );
        // Each step moves the time of the next: slow machines are not reported while they go on.
        for (second, name) in
            [(0, "shimx64.efi"), (29, "grubx64.efi"), (58, "grub/grub.cfg"), (80, "images/x.wim")]
        {
            assert_eq!(watch.due(at(second)), []);
            watch.fetched(MAC, name, at(second));
        }
        assert_eq!(watch.due(at(87)), []);
        assert_eq!(watch.due(at(88)).len(), 1);
    }

    #[test]
    fn a_restart_is_told_of_when_the_payload_had_been_sent() {
        let mut watch = StageWatch::default();
        watch.fetched(MAC, "undionly.kpxe", at(0));
        assert_eq!(watch.restarted(MAC), None, "iPXE's own question");
        assert_eq!(watch.due(at(60)).len(), 1, "is waited for as before");
        watch.fetched(MAC, "boot/initramfs.cpio.zst", at(0));
        let stopped = watch.restarted(MAC).unwrap();
        assert_eq!(
            stopped.to_string(),
            "the payload was sent, and the machine started anew: it never reported in"
        );
        assert_eq!(watch.restarted(MAC), None);
        watch.reached(MAC, Stage::Address, at(0));
        let stopped = watch.due(at(30)).remove(0).1;
        assert!(
            stopped.to_string().starts_with("an address and a boot file were given by DHCPv6"),
            "{stopped}"
        );
    }

    #[test]
    fn the_table_is_bounded() {
        let mut watch = StageWatch::default();
        for number in 0..5000_u32 {
            let [a, b, c, d] = number.to_be_bytes();
            watch.fetched([2, 0, a, b, c, d], "shimx64.efi", Millis(u64::from(number)));
        }
        assert_eq!(watch.machines.len(), MAX_MACHINES);
        assert!(!watch.machines.contains_key(&[2, 0, 0, 0, 0, 0]));
    }
}
