//! The disks of the machine as `/sys/block` shows them, and who uses them.
//!
//! Everything takes the root of sysfs and proc as data (`Roots`), so that the rules are tested on made-up trees.

use std::path::{Path, PathBuf};

use crate::partition::{KnownPartition, known_below};
use crate::{DeviceNumber, Error, mount, sysfs};

/// Deepest stack of holders followed (partition, RAID, crypt, LVM, ...). The kernel forbids loops; this bounds a lie.
const MAX_HOLDER_DEPTH: u32 = 16;
/// Largest `/proc/swaps` read.
const MAX_SWAPS_BYTES: u64 = 1 << 20;

/// Where the kernel's views are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Kernel name, e.g. `nvme0n1`.
    pub name: String,
    /// Device node.
    pub device: PathBuf,
    /// Device number.
    pub number: DeviceNumber,
    /// Size in bytes; 0 for a drive without a medium.
    pub size_bytes: u64,
    /// Unit of addressing, bytes.
    pub logical_sector_bytes: u32,
    /// Unit in which the medium writes without reading first, bytes.
    pub physical_sector_bytes: u32,
    /// The medium can be taken out.
    pub removable: bool,
    /// Writing is forbidden.
    pub read_only: bool,
    /// It turns (or the driver does not know better).
    pub rotational: bool,
    /// Maker and model as the device states them.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World-wide or otherwise unique identifier, e.g. `eui.…`, `naa.…`, `t10.…`.
    pub wwid: Option<String>,
    /// What it hangs on.
    pub transport: Transport,
    /// Its directory in sysfs with all links resolved: stable for one slot of one machine.
    pub sys_path: PathBuf,
    /// Partitions the kernel knows, by number.
    pub partitions: Vec<KnownPartition>,
}

/// What a disk hangs on, told by the directories above it in sysfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// NVM Express over PCI.
    Nvme,
    /// SATA or parallel ATA.
    Ata,
    /// Virtio block or SCSI.
    Virtio,
    /// USB mass storage.
    Usb,
    /// SD card or eMMC.
    Mmc,
    /// SCSI or SAS by another controller.
    Scsi,
    /// Not a device of its own: loop, RAM disk, device mapper, software RAID, network block device.
    Virtual,
    /// Something else.
    Other,
}

/// A reason why a disk or partition must not be overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// Mounted.
    Mounted {
        /// Kernel name of the disk, partition or holder that is mounted.
        device: String,
        /// Where.
        target: PathBuf,
    },
    /// Used as swap space.
    Swap {
        /// Kernel name.
        device: String,
    },
    /// Another block driver holds it (RAID, LVM, crypt) without being mounted itself.
    Held {
        /// Kernel name of what is held.
        device: String,
        /// Kernel name of the holder.
        holder: String,
    },
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mounted { device, target } => write!(f, "{device} is mounted on {}", target.display()),
            Self::Swap { device } => write!(f, "{device} is swap space"),
            Self::Held { device, holder } => write!(f, "{device} is held by {holder}"),
        }
    }
}

/// All disks, sorted by name. Loop and RAM disks that stand for nothing (size 0) are left out.
pub fn disks(roots: &Roots) -> Result<Vec<Disk>, Error> {
    let block = roots.sys.join("block");
    let mut out = Vec::new();
    for name in sysfs::names(&block)? {
        // A disk that was pulled while we looked has no number any more.
        let Some(disk) = read_disk(roots, &block.join(&name), &name)? else { continue };
        if disk.size_bytes > 0 || disk.transport != Transport::Virtual {
            out.push(disk);
        }
    }
    Ok(out)
}

/// The disk with the kernel name `name`, e.g. `sda`; `None` when there is none.
pub fn disk(roots: &Roots, name: &str) -> Result<Option<Disk>, Error> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Error::Unsupported { what: "disk name", value: name.to_owned() });
    }
    read_disk(roots, &roots.sys.join("block").join(name), name)
}

/// Kernel name of the disk that the device `number` is, or is a partition of; `None` for all else, such as volumes that others are joined to.
pub fn disk_of(roots: &Roots, number: DeviceNumber) -> Option<String> {
    let is_it = |name: &str| {
        let dev = sysfs::bytes(&roots.sys.join("class/block").join(name).join("dev"));
        dev.and_then(|word| mount::parse_device(&word)) == Some(number)
    };
    let is_part = |disk: &Disk| disk.partitions.iter().any(|partition| is_it(&partition.name));
    let found = disks(roots).ok()?.into_iter().find(|disk| disk.number == number || is_part(disk))?;
    Some(found.name)
}

fn read_disk(roots: &Roots, dir: &Path, name: &str) -> Result<Option<Disk>, Error> {
    let Some(number) = sysfs::bytes(&dir.join("dev")).and_then(|word| mount::parse_device(&word)) else {
        return Ok(None);
    };
    let sys_path = sysfs::resolved(dir).unwrap_or_else(|| dir.to_owned());
    let sector = |leaf| sysfs::number(&dir.join(leaf)).and_then(|n| u32::try_from(n).ok());
    let logical_sector_bytes = sector("queue/logical_block_size").unwrap_or(512);
    Ok(Some(Disk {
        name: name.to_owned(),
        // sysfs writes `cciss!c0d0` for `cciss/c0d0`.
        device: roots.dev.join(name.replace('!', "/")),
        number,
        size_bytes: sysfs::number(&dir.join("size")).unwrap_or(0).saturating_mul(512),
        logical_sector_bytes,
        physical_sector_bytes: sector("queue/physical_block_size").unwrap_or(logical_sector_bytes),
        removable: sysfs::flag(&dir.join("removable")).unwrap_or(false),
        read_only: sysfs::flag(&dir.join("ro")).unwrap_or(false),
        rotational: sysfs::flag(&dir.join("queue/rotational")).unwrap_or(true),
        model: model(dir),
        serial: serial(dir, &sys_path),
        wwid: sysfs::text(&dir.join("wwid")).or_else(|| sysfs::text(&dir.join("device/wwid"))),
        transport: transport(&sys_path),
        partitions: known_below(dir)?,
        sys_path,
    }))
}

/// `device/model`, with the maker before it when it says more than a bus name; `device/name` of SD cards.
fn model(dir: &Path) -> Option<String> {
    let model = sysfs::text(&dir.join("device/model")).or_else(|| sysfs::text(&dir.join("device/name")))?;
    match sysfs::text(&dir.join("device/vendor")) {
        // libata writes "ATA" for every maker, virtio-blk a PCI number.
        Some(vendor) if vendor != "ATA" && !vendor.starts_with("0x") => Some(format!("{vendor} {model}")),
        _ => Some(model),
    }
}

fn serial(dir: &Path, sys_path: &Path) -> Option<String> {
    ["serial", "device/serial"]
        .iter()
        .find_map(|leaf| sysfs::text(&dir.join(leaf)))
        .or_else(|| sysfs::bytes(&dir.join("device/vpd_pg80")).and_then(|page| unit_serial(&page)))
        // USB: the serial number is that of the device some directories up.
        .or_else(|| {
            sys_path.ancestors().take_while(|up| up.parent().is_some()).find_map(|up| {
                up.join("idVendor").exists().then(|| sysfs::text(&up.join("serial"))).flatten()
            })
        })
}

/// SCSI vital product data page 0x80 (SPC, "Unit Serial Number"): four bytes of header, then text.
fn unit_serial(page: &[u8]) -> Option<String> {
    let header = page.get(..4)?;
    let len = usize::from(u16::from_be_bytes([*header.get(2)?, *header.get(3)?]));
    let text = page.get(4..)?;
    let text = String::from_utf8_lossy(text.get(..len.min(text.len()))?);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (header.get(1) == Some(&0x80) && !text.is_empty()).then(|| text.to_owned())
}

fn transport(sys_path: &Path) -> Transport {
    let parts: Vec<&str> = sys_path.iter().filter_map(|part| part.to_str()).collect();
    let any = |test: fn(&str) -> bool| parts.iter().any(|part| test(part));
    // Order matters: NVMe with several paths lies below `virtual`, a USB disk hangs on a SCSI host, virtio on PCI.
    if any(|part| part.starts_with("nvme")) {
        Transport::Nvme
    } else if any(|part| part == "virtual") {
        Transport::Virtual
    } else if any(|part| part.starts_with("usb")) {
        Transport::Usb
    } else if any(|part| part.starts_with("virtio")) {
        Transport::Virtio
    } else if any(|part| part.starts_with("mmc_host")) {
        Transport::Mmc
    } else if any(|part| part.starts_with("ata") && part.len() > 3) {
        Transport::Ata
    } else if any(|part| part.starts_with("host") && part.len() > 4) {
        Transport::Scsi
    } else {
        Transport::Other
    }
}

/// Who uses `disk`, its partitions or anything built on them. Empty means that it may be overwritten, as far as this
/// mount namespace shows; `BlockDevice::open_exclusive` asks the kernel itself and sees other namespaces too.
pub fn uses(roots: &Roots, disk: &Disk) -> Result<Vec<Use>, Error> {
    let mounts = if roots.proc == Path::new("/proc") {
        mount::mounts()?
    } else {
        mount::mounts_of(&roots.proc.join("self/mountinfo"))?
    };
    let swaps = swaps(&roots.proc.join("swaps"))?;
    let mut out = Vec::new();
    let mut open: Vec<(String, u32)> = vec![(disk.name.clone(), 0)];
    open.extend(disk.partitions.iter().map(|partition| (partition.name.clone(), 0)));
    while let Some((name, depth)) = open.pop() {
        let before = out.len();
        let class = roots.sys.join("class/block").join(&name);
        let number = sysfs::bytes(&class.join("dev")).and_then(|word| mount::parse_device(&word));
        let node = roots.dev.join(name.replace('!', "/"));
        for mount in &mounts {
            // Btrfs and others show an anonymous device number, so the source's name counts as well.
            if Some(mount.device) == number || Path::new(&mount.source) == node {
                out.push(Use::Mounted { device: name.clone(), target: mount.target.clone() });
            }
        }
        if swaps.contains(&node) {
            out.push(Use::Swap { device: name.clone() });
        }
        for holder in sysfs::names(&class.join("holders"))? {
            if depth >= MAX_HOLDER_DEPTH {
                return Err(Error::Unsupported {
                    what: "stack of block devices",
                    value: format!("deeper than {MAX_HOLDER_DEPTH} above {}", disk.name),
                });
            }
            out.push(Use::Held { device: name.clone(), holder: holder.clone() });
            open.push((holder, depth.saturating_add(1)));
        }
        if out.len() > before {
            out[before..].sort_by_key(|entry| matches!(entry, Use::Held { .. }));
        }
    }
    Ok(out)
}

/// The device nodes and files of `/proc/swaps`.
fn swaps(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.exists() {
        return Ok(Vec::new()); // a kernel without swap support
    }
    let text = sysfs::read_bounded(path, MAX_SWAPS_BYTES)?;
    let lines = text.split(|&b| b == b'\n').skip(1).filter(|line| !line.is_empty());
    Ok(lines
        .filter_map(|line| line.split(|&b| b == b' ' || b == b'\t').next())
        .map(|word| PathBuf::from(mount::unescape(word)))
        .collect())
}

#[cfg(test)]
mod tests;
