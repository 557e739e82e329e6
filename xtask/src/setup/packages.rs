//! The one list of Debian packages that development needs, and which of them are missing.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};

/// Package, and what it is for.
pub(super) const NEEDED: &[(&str, &str)] = &[
    // Names of Debian 12 and 13 alike.
    ("attr", "oracle: sets and reads extended attributes of files that are restored"),
    ("bind9-dnsutils", "oracle: dig, a foreign resolver"),
    ("btrfs-progs", "oracle: makes the file systems we recognise"),
    ("build-essential", "linker and C compiler of the crates that bring C code (ring, zstd, sqlite)"),
    ("busybox", "programs of a virtual machine that tries the kernel's NTFS driver"),
    ("bzip2", "oracle: wraps the images of partclone we import"),
    ("ca-certificates", "certificates for cargo and apt"),
    ("cpio", "oracle: reads the initramfs we write"),
    ("cryptsetup-bin", "oracle: makes the encrypted volumes we open"),
    ("debian-archive-keyring", "verifies the Debian packages of payload and images"),
    ("dnsmasq-base", "oracle: a foreign DHCP and TFTP server beside ours"),
    ("dosfstools", "oracle: checks the FAT file systems we write"),
    ("e2fsprogs", "ext4 for tests; debugfs and e2fsck as oracles"),
    ("efitools", "oracle: takes the lists of keys we write apart"),
    ("exfat-fuse", "oracle: fills the exFAT volumes we map"),
    ("exfatprogs", "oracle: makes the file systems we recognise"),
    ("fdisk", "oracle: sfdisk reads the partition tables we write"),
    ("fuse3", "mounts images for other users than root; FUSE for tests"),
    ("gdisk", "oracle: sgdisk reads the partition tables we write"),
    ("git", "names the files tidy checks"),
    ("grub-common", "oracle: grub-script-check parses the boot menus we write"),
    ("grub-efi-amd64-bin", "oracle: GRUB for UEFI, as grub-mkimage makes it"),
    ("grub-pc-bin", "oracle: GRUB's boot code for BIOS, as grub-mkimage makes it"),
    ("iproute2", "network namespaces, bridges and taps of the lab"),
    ("ipxe-qemu", "boot ROMs of QEMU's network cards, for BIOS machines"),
    ("kmod", "oracle: reads the module lists of the payload"),
    ("liblnk-utils", "oracle: lnkinfo reads the shortcuts we write"),
    ("libnbd-bin", "oracle: nbdinfo and nbdcopy read what `gravure nbd` serves"),
    ("libssl-dev", "OpenSSL, for the listener of HTTPS boot"),
    ("libwin-hivex-perl", "oracle: hivexregedit merges the .reg texts we write"),
    ("lvm2", "oracle: pvck reads the physical volumes we map"),
    ("lz4", "oracle: wraps the images of partclone we import"),
    ("mmdebstrap", "builds Debian images"),
    ("mtools", "oracle: reads and writes FAT without the kernel"),
    ("ntfs-3g", "oracle: its tools check and read the NTFS volumes we write"),
    ("osslsigncode", "oracle: checks the catalogues and signed drivers of our tests"),
    ("ovmf", "UEFI firmware of the virtual machines"),
    ("p7zip-full", "oracle: reads the WIMs we write"),
    ("partclone", "oracle: counts the used blocks we count"),
    ("procps", "lists processes in the lab"),
    ("python3-hivex", "oracle: reads the registry hives we write"),
    ("python3-libfsntfs", "oracle: reads compressed files of the NTFS volumes we write"),
    ("python3-libregf", "oracle: reads the registry hives we write"),
    (
        "python3-pip",
        "installs oracles that no Debian package has; downloads Windows wheels, the input of `bench wim`",
    ),
    ("qemu-system-x86", "the virtual machines"),
    ("qemu-utils", "qemu-img: disks of the virtual machines"),
    ("sbsigntool", "oracle: sbverify checks the programs we sign"),
    ("seabios", "BIOS firmware of the virtual machines"),
    ("systemd-boot-efi", "the stub of unified kernel images, input of tests"),
    ("tcpdump", "shows tests what goes over the lab's network"),
    ("tftp-hpa", "oracle: a foreign TFTP client"),
    ("time", "measures processor time and memory for `bench`"),
    ("udhcpc", "oracle: a foreign DHCP client"),
    ("util-linux", "setpriv, unshare"),
    ("wimtools", "oracle: wimlib-imagex reads what we write and writes what we read"),
    ("xfsprogs", "oracle: makes the file systems we recognise"),
    ("xz-utils", "unpacks kernel modules; oracle: wraps the images of partclone we import"),
    ("zstd", "oracle: reads the initramfs we write"),
];

/// The packages of [`NEEDED`] that dpkg does not list as installed.
pub(super) fn missing() -> Result<Vec<&'static str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package}\\t${db:Status-Status}\\n"])
        .args(NEEDED.iter().map(|(name, _)| name))
        .output()
        .context("cannot start dpkg-query")?;
    // Exit code 1 only says that some name is unknown, which is what we want to find out.
    Ok(not_installed(&String::from_utf8_lossy(&output.stdout)))
}

/// A package of [`NEEDED`] that is installed in a version no configured source offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Orphan {
    name: String,
    installed: String,
    offered: String,
}

impl Orphan {
    /// What to tell apt: the package in the version it can get.
    pub(super) fn pin(&self) -> String {
        format!("{}={}", self.name, self.offered)
    }
}

impl std::fmt::Display for Orphan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} -> {}", self.name, self.installed, self.offered)
    }
}

/// The packages of [`NEEDED`] whose installed version comes from nowhere while another version is to be had.
pub(super) fn orphans() -> Result<Vec<Orphan>> {
    let output = Command::new("apt-cache")
        .arg("policy")
        .args(NEEDED.iter().map(|(name, _)| name))
        .env("LC_ALL", "C.UTF-8")
        .output()
        .context("cannot start apt-cache")?;
    Ok(orphans_in(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads `apt-cache policy`: a version line (`*** ` marks the installed one) is followed by one line for each source
/// that has it, and dpkg's own status file is no source.
fn orphans_in(policy: &str) -> Vec<Orphan> {
    let mut found = Vec::new();
    for block in packages(policy) {
        let Some((name, lines)) = block.split_first() else { continue };
        let mut versions: Vec<(&str, bool, bool)> = Vec::new();
        let table = lines.iter().skip_while(|line| line.trim() != "Version table:").skip(1);
        for line in table {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match (fields.as_slice(), versions.last_mut()) {
                (["***", version, ..], _) => versions.push((version, true, false)),
                // Sources are indented deeper than versions.
                ([_, source, ..], Some(last)) if line.starts_with("        ") => {
                    last.2 |= !source.starts_with("/var/lib/dpkg/");
                }
                ([version, ..], _) => versions.push((version, false, false)),
                ([], _) => {}
            }
        }
        let installed = versions.iter().find(|(_, installed, offered)| *installed && !offered);
        let offered = versions.iter().find(|(.., offered)| *offered);
        if let (Some((installed, ..)), Some((offered, ..))) = (installed, offered) {
            found.push(Orphan {
                name: name.trim_end_matches(':').to_owned(),
                installed: (*installed).to_owned(),
                offered: (*offered).to_owned(),
            });
        }
    }
    found
}

/// The lines of each package: the name stands at the margin, the rest is indented.
fn packages(policy: &str) -> Vec<Vec<&str>> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in policy.lines() {
        match blocks.last_mut() {
            Some(block) if line.starts_with(' ') => block.push(line),
            _ => blocks.push(vec![line]),
        }
    }
    blocks
}

fn not_installed(listing: &str) -> Vec<&'static str> {
    let installed: BTreeSet<&str> = listing
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(_, status)| *status == "installed")
        .map(|(name, _)| name)
        .collect();
    NEEDED.iter().map(|(name, _)| *name).filter(|name| !installed.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fully_installed_packages_count() {
        let all: String = NEEDED.iter().map(|(name, _)| format!("{name}\tinstalled\n")).collect();
        assert_eq!(not_installed(&all), [""; 0]);
        let removed = all.replace("ovmf\tinstalled", "ovmf\tconfig-files");
        assert_eq!(not_installed(&removed), ["ovmf"]);
        assert_eq!(not_installed("").len(), NEEDED.len());
    }

    #[test]
    fn packages_from_a_source_that_is_gone_are_found_with_the_version_to_be_had() {
        let policy = "git:
  Installed: 1:2.39
  Candidate: 1:2.39
  Version table:
 *** 1:2.39 500
        500 http://deb.example/debian bookworm/main amd64 Packages
        100 /var/lib/dpkg/status
qemu-utils:
  Installed: 1:10.0.2~bpo12+1
  Candidate: 1:10.0.2~bpo12+1
  Version table:
 *** 1:10.0.2~bpo12+1 100
        100 /var/lib/dpkg/status
     1:7.2+deb12u18 500
        500 http://deb.example/debian bookworm/main amd64 Packages
     1:7.2+deb12u15 500
        500 http://deb.example/debian-security bookworm-security/main amd64 Packages
local-only:
  Installed: 1
  Candidate: 1
  Version table:
 *** 1 100
        100 /var/lib/dpkg/status
ovmf:
  Installed: (none)
  Candidate: 2022.11-6
  Version table:
     2022.11-6 500
        500 http://deb.example/debian bookworm/main amd64 Packages
";
        let found = orphans_in(policy);
        let pins: Vec<String> = found.iter().map(Orphan::pin).collect();
        assert_eq!(pins, ["qemu-utils=1:7.2+deb12u18"]);
        assert_eq!(found[0].to_string(), "qemu-utils 1:10.0.2~bpo12+1 -> 1:7.2+deb12u18");
    }

    #[test]
    fn the_list_is_sorted_and_every_entry_says_why() {
        assert!(NEEDED.is_sorted_by_key(|(name, _)| *name));
        assert!(NEEDED.iter().all(|(_, why)| why.len() > 10));
    }
}
