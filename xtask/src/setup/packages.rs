//! The one list of Debian packages that development needs, and which of them are missing.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};

/// Package, and what it is for.
pub(super) const NEEDED: &[(&str, &str)] = &[
    // Names of Debian 12 and 13 alike.
    ("build-essential", "linker and C compiler of the crates that bring C code (ring, zstd, sqlite)"),
    ("ca-certificates", "certificates for cargo and apt"),
    ("cpio", "oracle: reads the initramfs we write"),
    ("debian-archive-keyring", "verifies the Debian packages of payload and images"),
    ("dnsmasq-base", "oracle: a foreign DHCP and TFTP server beside ours"),
    ("dosfstools", "oracle: checks the FAT file systems we write"),
    ("e2fsprogs", "ext4 for tests; debugfs and e2fsck as oracles"),
    ("gdisk", "oracle: sgdisk reads the partition tables we write"),
    ("git", "names the files tidy checks"),
    ("iproute2", "network namespaces, bridges and taps of the lab"),
    ("ipxe-qemu", "boot ROMs of QEMU's network cards, for BIOS machines"),
    ("kmod", "oracle: reads the module lists of the payload"),
    ("mmdebstrap", "builds Debian images"),
    ("mtools", "oracle: reads and writes FAT without the kernel"),
    ("ntfs-3g", "oracle: its tools check and read the NTFS volumes we write"),
    ("ovmf", "UEFI firmware of the virtual machines"),
    ("p7zip-full", "oracle: reads the WIMs we write"),
    ("procps", "lists processes in the lab"),
    ("qemu-system-x86", "the virtual machines"),
    ("qemu-utils", "qemu-img: disks of the virtual machines"),
    ("seabios", "BIOS firmware of the virtual machines"),
    ("tcpdump", "shows tests what goes over the lab's network"),
    ("tftp-hpa", "oracle: a foreign TFTP client"),
    ("time", "measures processor time and memory for `bench`"),
    ("util-linux", "setpriv, unshare, sfdisk"),
    ("wimtools", "oracle: wimlib-imagex reads what we write and writes what we read"),
    ("xz-utils", "unpacks kernel modules"),
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
    fn the_list_is_sorted_and_every_entry_says_why() {
        assert!(NEEDED.is_sorted_by_key(|(name, _)| *name));
        assert!(NEEDED.iter().all(|(_, why)| why.len() > 10));
    }
}
