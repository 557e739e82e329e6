//! Which kernel modules go into the payload: those that PCs and virtual machines need for network, storage, file
//! systems, keyboards, with all they depend on. Everything is loaded by modalias; there is no list of machines.
//!
//! Modules are unpacked here, so that the kernel need not do it at every boot and the initramfs compresses as a
//! whole. Signatures stand at the end of the unpacked file and stay valid.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::debian::Kernel;
use crate::process;

/// Directories below `kernel/` that are taken whole, and why.
const DIRECTORIES: &[(&str, &str)] = &[
    ("drivers/ata", "SATA and old IDE controllers"),
    ("drivers/hid/usbhid", "USB keyboards"),
    ("drivers/hv", "Hyper-V's bus"),
    ("drivers/message/fusion", "the SAS controller VMware emulates"),
    ("drivers/mmc/core", "eMMC disks and card readers"),
    ("drivers/mmc/host", "their controllers"),
    ("drivers/net/ethernet", "wired network cards"),
    ("drivers/net/hyperv", "Hyper-V's network card"),
    ("drivers/net/mdio", "buses of network chips"),
    ("drivers/net/pcs", "parts of network chips"),
    ("drivers/net/phy", "transceivers, loaded by their own alias"),
    ("drivers/net/usb", "network adapters and docks on USB"),
    ("drivers/net/vmxnet3", "VMware's network card"),
    ("drivers/nvme/host", "NVMe disks"),
    ("drivers/scsi/aacraid", "server RAID controllers"),
    ("drivers/scsi/isci", "Intel's SAS chipset"),
    ("drivers/scsi/megaraid", "server RAID controllers"),
    ("drivers/scsi/mpi3mr", "server RAID controllers"),
    ("drivers/scsi/mpt3sas", "server SAS controllers"),
    ("drivers/scsi/smartpqi", "server RAID controllers"),
    ("drivers/usb/host", "USB itself"),
    ("drivers/usb/storage", "USB disks"),
    ("drivers/virtio", "virtual machines"),
    ("fs/exfat", "volumes"),
    ("fs/ext4", "volumes"),
    ("fs/fat", "the EFI system partition"),
    ("fs/ntfs3", "Windows volumes"),
    ("fs/btrfs", "volumes"),
    ("fs/xfs", "volumes"),
];

/// Single modules, by name.
const SINGLE: &[&str] = &[
    "8021q",
    "crc32c_generic",
    "crc32c_intel",
    "efivarfs",
    "fuse",
    "hid_generic",
    "hid_hyperv",
    "hpsa",
    "hv_storvsc",
    "hyperv_keyboard",
    "isofs",
    "loop",
    "mii",
    "net_failover",
    "nls_ascii",
    "nls_cp437",
    "nls_cp850",
    "nls_iso8859_1",
    "nls_iso8859_15",
    "nls_utf8",
    "overlay",
    "pci_hyperv",
    "qemu_fw_cfg",
    "sd_mod",
    "sg",
    "squashfs",
    "sr_mod",
    "thunderbolt",
    "thunderbolt_net",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_scsi",
    "vmd",
    "vmw_pvscsi",
    "xen_blkfront",
    "xen_netfront",
];

/// Parts of those directories that no PC has: switch chips, and adapters that do nothing without firmware files.
const LEFT_OUT: &[&str] = &[
    "drivers/net/ethernet/brocade",
    "drivers/net/ethernet/cavium/liquidio",
    "drivers/net/ethernet/chelsio",
    "drivers/net/ethernet/mellanox/mlxsw",
    "drivers/net/ethernet/netronome",
    "drivers/net/ethernet/pensando",
    "drivers/net/ethernet/qlogic",
    "drivers/net/ethernet/sfc",
    "drivers/nvme/host/nvme-rdma",
    "drivers/nvme/host/nvme-fc",
];

/// The chosen modules with the lists that loading by alias needs.
#[derive(Debug)]
pub(super) struct Modules {
    /// Path from the root (`lib/modules/...`) and content, sorted.
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Modules {
    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }
}

/// Chooses, unpacks and lists the modules of `kernel`.
pub(super) fn select(kernel: &Kernel) -> Result<Modules> {
    let lists = Lists::read(&kernel.modules)?;
    let chosen = lists.closure(lists.roots()?);
    let base = format!("lib/modules/{}", kernel.release);
    let mut files = BTreeMap::new();
    for (name, text) in lists.filtered(&chosen) {
        files.insert(format!("{base}/{name}"), text.into_bytes());
    }
    for name in ["modules.builtin", "modules.builtin.modinfo"] {
        let path = kernel.modules.join(name);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.insert(format!("{base}/{name}"), bytes);
    }
    for path in &chosen {
        let bytes = unpack(&kernel.modules.join(path))?;
        ensure!(bytes.ends_with(b"~Module signature appended~\n"), "{path} carries no signature");
        files.insert(format!("{base}/{}", plain(path)), bytes);
    }
    Ok(Modules { files })
}

/// The module's path without the ending of its compression.
fn plain(path: &str) -> &str {
    path.strip_suffix(".xz").unwrap_or(path)
}

/// The module's content, unpacked by `xz` when it is compressed.
fn unpack(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|e| e != "xz") {
        return std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut xz: Command = process::tool("xz")?;
    process::output(xz.args(["--decompress", "--stdout"]).arg(path).stdin(Stdio::null()))
}

/// What depmod wrote, in the kernel's own names (`_` for `-`).
#[derive(Debug, Default)]
struct Lists {
    /// Path of every module with the paths it depends on.
    depends: BTreeMap<String, Vec<String>>,
    /// Path by name.
    paths: BTreeMap<String, String>,
    /// Alias and name, in the order of the file.
    aliases: Vec<(String, String)>,
    /// Name with the names or aliases that should be there too.
    soft: Vec<(String, Vec<String>)>,
    dep_lines: Vec<String>,
    alias_lines: Vec<String>,
    soft_lines: Vec<String>,
    order_lines: Vec<String>,
}

impl Lists {
    fn read(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let lists = Self::parse(
            &read("modules.dep")?,
            &read("modules.alias")?,
            &read("modules.softdep")?,
            &read("modules.order")?,
        );
        ensure!(!lists.depends.is_empty(), "modules.dep in {} names no module", dir.display());
        Ok(lists)
    }

    fn parse(dep: &str, alias: &str, soft: &str, order: &str) -> Self {
        let own =
            |text: &str| text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        let mut lists = Self {
            dep_lines: own(dep),
            alias_lines: own(alias),
            soft_lines: own(soft),
            order_lines: own(order),
            ..Self::default()
        };
        for line in &lists.dep_lines {
            let Some((path, needs)) = line.split_once(':') else { continue };
            lists.paths.insert(module_name(path), path.to_owned());
            lists.depends.insert(path.to_owned(), needs.split_whitespace().map(str::to_owned).collect());
        }
        for line in &lists.alias_lines {
            if let ["alias", alias, name] = line.split_whitespace().collect::<Vec<_>>()[..] {
                lists.aliases.push((alias.to_owned(), name.to_owned()));
            }
        }
        for line in &lists.soft_lines {
            // `softdep NAME pre: A B post: C`
            let mut words = line.split_whitespace().skip(1);
            let Some(name) = words.next() else { continue };
            let others = words.filter(|word| !word.ends_with(':')).map(str::to_owned).collect();
            lists.soft.push((name.to_owned(), others));
        }
        lists
    }

    /// Paths of the modules that are asked for by directory or name.
    fn roots(&self) -> Result<Vec<String>> {
        let inside = |path: &str, dir: &str| {
            let rest = path.strip_prefix("kernel/").and_then(|p| p.strip_prefix(dir));
            rest.is_some_and(|rest| rest.starts_with(['/', '.']))
        };
        let mut roots = Vec::new();
        for (dir, _) in DIRECTORIES {
            let before = roots.len();
            let all = self.depends.keys().filter(|path| inside(path, dir));
            roots.extend(all.filter(|path| !LEFT_OUT.iter().any(|out| inside(path, out))).cloned());
            ensure!(roots.len() > before, "this kernel has no modules in {dir}");
        }
        // A module that is gone from the list is built into the kernel, which serves as well.
        roots.extend(SINGLE.iter().filter_map(|name| self.paths.get(*name)).cloned());
        Ok(roots)
    }

    /// The modules with everything they depend on, firmly or softly.
    fn closure(&self, roots: Vec<String>) -> BTreeSet<String> {
        let mut chosen = BTreeSet::new();
        let mut queue = roots;
        while let Some(path) = queue.pop() {
            if !chosen.insert(path.clone()) {
                continue;
            }
            queue.extend(self.depends.get(&path).into_iter().flatten().cloned());
            let name = module_name(&path);
            for wanted in self.soft.iter().filter(|(n, _)| *n == name).flat_map(|(_, others)| others) {
                queue.extend(self.named(wanted));
            }
        }
        chosen
    }

    /// Paths of the modules a name or an exact alias stands for.
    fn named(&self, wanted: &str) -> Vec<String> {
        let name = wanted.replace('-', "_");
        if let Some(path) = self.paths.get(&name) {
            return vec![path.clone()];
        }
        let by_alias =
            self.aliases.iter().filter(|(alias, _)| alias == wanted || alias.replace('-', "_") == name);
        by_alias.filter_map(|(_, module)| self.paths.get(module)).cloned().collect()
    }

    /// The lists with only the lines that concern the chosen modules, under the files' unpacked names.
    fn filtered(&self, chosen: &BTreeSet<String>) -> Vec<(&'static str, String)> {
        let names: BTreeSet<String> = chosen.iter().map(|path| module_name(path)).collect();
        let packed = |path: &str| chosen.contains(path) || chosen.contains(&format!("{path}.xz"));
        let join = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect::<String>();
        let dep = self.dep_lines.iter().filter(|line| packed(line.split(':').next().unwrap_or_default()));
        let alias = self
            .alias_lines
            .iter()
            .filter(|line| line.split_whitespace().last().is_some_and(|n| names.contains(n)));
        let soft = self
            .soft_lines
            .iter()
            .filter(|line| line.split_whitespace().nth(1).is_some_and(|n| names.contains(n)));
        let order = self.order_lines.iter().filter(|line| packed(line));
        vec![
            ("modules.dep", join(dep.map(|line| line.replace(".ko.xz", ".ko")).collect())),
            ("modules.alias", join(alias.cloned().collect())),
            ("modules.softdep", join(soft.cloned().collect())),
            ("modules.order", join(order.map(|line| plain(line).to_owned()).collect())),
        ]
    }
}

/// `kernel/drivers/usb/host/xhci-hcd.ko.xz` is module `xhci_hcd`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz\n\
        kernel/fs/jbd2/jbd2.ko.xz:\nkernel/fs/mbcache.ko.xz:\nkernel/lib/libcrc32c.ko.xz:\n\
        kernel/crypto/crc32c_generic.ko.xz:\nkernel/arch/x86/crypto/crc32c-intel.ko.xz:\n\
        kernel/drivers/net/ethernet/intel/e1000/e1000.ko.xz:\n\
        kernel/drivers/net/ethernet/netronome/nfp/nfp.ko.xz:\nkernel/fs/ext4x/other.ko.xz:\n";
    const ALIAS: &str = "# Aliases\nalias crypto-crc32c crc32c_generic\nalias crypto-crc32c crc32c_intel\n\
        alias fs-ext4 ext4\nalias pci:v00008086d* e1000\n";
    const SOFT: &str = "# Soft\nsoftdep ext4 pre: crypto-crc32c\nsoftdep other pre: e1000\n";
    const ORDER: &str = "kernel/fs/jbd2/jbd2.ko\nkernel/fs/ext4/ext4.ko\nkernel/fs/ext4x/other.ko\n";

    fn lists() -> Lists {
        Lists::parse(DEP, ALIAS, SOFT, ORDER)
    }

    #[test]
    fn firm_and_soft_dependencies_are_followed_through_aliases() {
        let chosen = lists().closure(vec!["kernel/fs/ext4/ext4.ko.xz".into()]);
        let names: Vec<String> = chosen.iter().map(|path| module_name(path)).collect();
        assert_eq!(names, ["crc32c_intel", "crc32c_generic", "ext4", "jbd2", "mbcache"]);
    }

    #[test]
    fn the_lists_name_the_chosen_modules_only_and_as_unpacked_files() {
        let lists = lists();
        let chosen = lists.closure(vec!["kernel/fs/ext4/ext4.ko.xz".into()]);
        let filtered: BTreeMap<_, _> = lists.filtered(&chosen).into_iter().collect();
        assert!(
            filtered["modules.dep"]
                .contains("kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko\n")
        );
        assert!(!filtered["modules.dep"].contains("e1000") && !filtered["modules.dep"].contains(".xz"));
        let aliases =
            "alias crypto-crc32c crc32c_generic\nalias crypto-crc32c crc32c_intel\nalias fs-ext4 ext4\n";
        assert_eq!(filtered["modules.alias"], aliases);
        assert_eq!(filtered["modules.softdep"], "softdep ext4 pre: crypto-crc32c\n");
        assert_eq!(filtered["modules.order"], "kernel/fs/jbd2/jbd2.ko\nkernel/fs/ext4/ext4.ko\n");
    }

    #[test]
    fn a_directory_that_is_gone_is_told_rather_than_missed_at_boot() {
        let error = lists().roots().unwrap_err().to_string();
        assert_eq!(error, "this kernel has no modules in drivers/ata");
    }

    /// What file systems of images are made smaller through, and what gives volumes inside of others a device.
    #[test]
    fn what_restores_of_disks_need_is_there() {
        for name in ["fuse", "loop"] {
            assert!(SINGLE.contains(&name), "{name}");
        }
        for dir in ["fs/btrfs", "fs/ext4", "fs/ntfs3", "fs/xfs"] {
            assert!(DIRECTORIES.iter().any(|(known, _)| *known == dir), "{dir}");
        }
    }

    #[test]
    fn tables_are_sorted_or_grouped_without_doubles() {
        let mut names = SINGLE.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, SINGLE);
        let dirs: BTreeSet<_> = DIRECTORIES.iter().map(|(dir, _)| dir).collect();
        assert_eq!(dirs.len(), DIRECTORIES.len());
    }
}
