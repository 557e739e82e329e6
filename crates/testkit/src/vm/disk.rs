//! Disks of machines.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a disk is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// `/dev/vda`.
    Virtio,
    /// `/dev/nvme0n1`.
    Nvme,
    /// `/dev/sda` on an AHCI controller.
    Sata,
    /// `/dev/sda`, removable, on USB.
    Usb,
    /// A disc in a drive.
    Disc,
}

/// A disk image and how the machine sees it.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The image file.
    pub path: PathBuf,
    /// `raw` or `qcow2`.
    pub format: &'static str,
    /// What it is attached to.
    pub bus: Bus,
    /// Serial number the machine reads.
    pub serial: String,
}

impl Disk {
    /// Makes a blank sparse raw disk at `path`.
    pub fn blank(path: &Path, bytes: u64, bus: Bus) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        file.set_len(bytes).with_context(|| format!("cannot size {}", path.display()))?;
        Ok(Self { path: path.to_owned(), format: "raw", bus, serial: "GRVDISK0".to_owned() })
    }

    /// A disk that exists. Media have another serial number than disks: a machine that finds one twice deploys to neither.
    pub fn existing(path: &Path, bus: Bus) -> Self {
        let serial = if matches!(bus, Bus::Usb | Bus::Disc) { "GRVMEDIUM0" } else { "GRVDISK0" };
        Self { path: path.to_owned(), format: "raw", bus, serial: serial.to_owned() }
    }

    /// QEMU's arguments for the drive `id`; `index` is the `bootindex` property or empty.
    pub(super) fn arguments(&self, id: &str, index: &str) -> Vec<String> {
        // The host's cache outlives a killed QEMU, so flushes add nothing but time.
        let options = format!("if=none,id={id},cache=unsafe,discard=unmap,detect-zeroes=unmap");
        // A comma in a path is doubled for QEMU's option parser.
        let path = self.path.display().to_string().replace(',', ",,");
        let media = if self.bus == Bus::Disc { ",media=cdrom,readonly=on" } else { "" };
        let drive = format!("{options},format={},file={path}{media}", self.format);
        let serial = &self.serial;
        let devices = match self.bus {
            Bus::Virtio => vec![format!("virtio-blk-pci,drive={id},serial={serial}{index}")],
            Bus::Nvme => vec![format!("nvme,drive={id},serial={serial}{index}")],
            // q35 has an AHCI controller; `ide.0` is its first port.
            Bus::Sata => vec![format!("ide-hd,drive={id},bus=ide.0,serial={serial}{index}")],
            Bus::Disc => vec![format!("ide-cd,drive={id},bus=ide.0{index}")],
            Bus::Usb => vec![
                "qemu-xhci,id=xhci".to_owned(),
                format!("usb-storage,bus=xhci.0,drive={id},removable=on,serial={serial}{index}"),
            ],
        };
        let mut args = vec!["-drive".to_owned(), drive];
        args.extend(devices.into_iter().flat_map(|device| ["-device".to_owned(), device]));
        args
    }
}
