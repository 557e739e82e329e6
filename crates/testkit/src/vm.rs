//! Virtual machines: QEMU with firmware, a disk and a network card, watched through the serial port.
//!
//! specs/netboot.md, section 5.1 has the recipes and why each part is as it is.

mod disk;
mod qmp;
mod variables;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Console, Lab, Random, Running, accelerator};

pub use disk::{Bus, Disk};
pub use qmp::{Qmp, QmpListener};
pub use variables::Variable;

/// Where Debian keeps the UEFI firmware.
const OVMF_DIR: &str = "/usr/share/OVMF";
/// Memory that firmware, GRUB, kernel and payload are comfortable with, MiB.
const DEFAULT_MEMORY_MIB: u32 = 1024;

/// What the machine starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// UEFI without Secure Boot.
    Uefi,
    /// UEFI with Secure Boot on and Microsoft's keys enrolled, as PCs come.
    UefiSecureBoot,
    /// BIOS; the network card's own iPXE boots from the network.
    Bios,
}

/// In which order the firmware tries things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootOrder {
    /// The network, then the disk: how managed machines are set.
    NetworkFirst,
    /// The disk, then the network.
    DiskFirst,
    /// The disk alone.
    DiskOnly,
    /// What the firmware does by itself and its variables say.
    Firmware,
}

/// How UEFI firmware boots from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkBoot {
    /// PXE over IPv4.
    Pxe,
    /// HTTP over IPv4.
    Http,
    /// PXE over IPv6.
    Pxe6,
}

/// A machine to be started.
#[derive(Debug, Clone)]
pub struct VmOptions {
    /// Name of its files.
    pub name: String,
    /// What it starts with.
    pub firmware: Firmware,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Processors.
    pub processors: u32,
    /// Its disk.
    pub disk: Option<Disk>,
    /// A stick in one of its ports, which then starts before anything else.
    pub medium: Option<Disk>,
    /// Address of its network card. Fresh for each run, because GRUB reuses its ports (specs/netboot.md, finding 3).
    pub mac: String,
    /// What it tries to boot.
    pub boot: BootOrder,
    /// How UEFI firmware does that over the network; BIOS machines know one way.
    pub network: NetworkBoot,
    /// Serial number in its SMBIOS table.
    pub serial: String,
    /// Variables that its UEFI firmware has besides its own when it starts first.
    pub variables: Vec<Variable>,
    /// A signature list of authorities that its firmware trusts for HTTPS.
    pub https_authorities: Option<PathBuf>,
    /// Whether a reboot ends it.
    pub end_on_reboot: bool,
    /// Whether it has a screen, for screenshots.
    pub screen: bool,
}

impl VmOptions {
    /// A machine with a network card and no disk that boots from the network.
    pub fn new(name: &str, firmware: Firmware) -> Self {
        Self {
            name: name.to_owned(),
            firmware,
            memory_mib: DEFAULT_MEMORY_MIB,
            processors: 2,
            disk: None,
            medium: None,
            mac: fresh_mac(),
            boot: BootOrder::NetworkFirst,
            network: NetworkBoot::Pxe,
            serial: format!("GRV-{name}"),
            variables: Vec::new(),
            https_authorities: None,
            end_on_reboot: false,
            screen: false,
        }
    }
}

/// A network address nobody else has: QEMU's prefix and three random bytes.
pub fn fresh_mac() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // The standard library seeds each RandomState from the system.
    let mut bytes = [0; 3];
    Random::new(RandomState::new().build_hasher().finish()).fill(&mut bytes);
    format!("52:54:00:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2])
}

/// A running machine; ended when dropped.
#[derive(Debug)]
pub struct Vm {
    running: Running,
    qmp: Qmp,
    /// Its network card's address.
    pub mac: String,
    serial_log: PathBuf,
}

impl Vm {
    /// Starts the machine inside `lab` on `tap`; use [`Lab::start_vm`].
    pub(crate) fn start(lab: &Lab, tap: &str, options: &VmOptions, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        if crate::oracle::find("qemu-system-x86_64").is_none() {
            bail!("qemu-system-x86_64 is not installed; `cargo xtask setup` installs it");
        }
        let mut command = lab.command("qemu-system-x86_64");
        command.args(["-name", &options.name, "-nodefaults", "-display", "none"]);
        command.args([
            "-accel",
            accelerator().argument(),
            "-cpu",
            "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand",
        ]);
        command.args(["-m", &options.memory_mib.to_string(), "-smp", &options.processors.to_string()]);
        command.args(["-rtc", "base=utc", "-device", "virtio-rng-pci", "-serial", "stdio"]);
        command
            .args(["-smbios", &format!("type=1,manufacturer=Gravure,product=Lab,serial={}", options.serial)]);
        command.args(firmware_args(options, dir)?);
        let (net_index, disk_index) = match &options.medium {
            Some(medium) => {
                command.args(medium.arguments("m0", ",bootindex=0"));
                (String::new(), ",bootindex=1".to_owned())
            }
            None => boot_indices(options.boot),
        };
        command.args(["-netdev", &format!("tap,id=n0,ifname={tap},script=no,downscript=no")]);
        // Without its ROM the card is left to OVMF's own drivers; iPXE in the ROM would come first and cost ten
        // seconds. BIOS machines boot through that ROM.
        let rom = if options.firmware == Firmware::Bios { "" } else { ",romfile=" };
        command.args(["-device", &format!("virtio-net-pci,netdev=n0,mac={}{rom}{net_index}", options.mac)]);
        if let Some(disk) = &options.disk {
            command.args(disk.arguments("d0", &disk_index));
        }
        if options.screen {
            command.args(["-device", "VGA"]);
        }
        if options.end_on_reboot {
            command.arg("-no-reboot");
        }
        let listener = QmpListener::bind(&dir.join(format!("{}.qmp", options.name)))?;
        command.args(["-chardev", &listener.argument(), "-mon", "chardev=qmp,mode=control"]);
        let serial_log = dir.join(format!("{}.serial.log", options.name));
        let running = Running::start(&mut command, Some(&serial_log))?;
        let qmp = match listener.accept(running.console()) {
            Ok(qmp) => qmp,
            Err(error) => bail!("QEMU did not start: {error:#}; it said:\n{}", running.console().text()),
        };
        Ok(Self { running, qmp, mac: options.mac.clone(), serial_log })
    }

    /// The serial port.
    pub fn console(&self) -> &Console {
        self.running.console()
    }

    /// Waits for `pattern` on the serial port; see [`Console::wait_for`].
    pub fn wait_for(&self, pattern: &str, timeout: Duration) -> Result<String> {
        self.console().wait_for(pattern, timeout)
    }

    /// The file that keeps what came over the serial port.
    pub fn serial_log(&self) -> &Path {
        &self.serial_log
    }

    /// The monitor.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Writes a picture of the screen to `path` (PNG). The machine needs a screen.
    pub fn screenshot(&mut self, path: &Path) -> Result<()> {
        self.qmp.screenshot(path)
    }

    /// Waits for the machine to end by itself: power off, or a reboot with `end_on_reboot`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.running.wait(timeout)
    }

    /// Pulls the plug.
    pub fn kill(&mut self) -> Result<()> {
        self.running.kill()
    }
}

/// `bootindex` properties for the network card and the disk.
fn boot_indices(order: BootOrder) -> (String, String) {
    let index = |number: u8| format!(",bootindex={number}");
    match order {
        BootOrder::NetworkFirst => (index(0), index(1)),
        BootOrder::DiskFirst => (index(1), index(0)),
        BootOrder::DiskOnly => (String::new(), index(0)),
        BootOrder::Firmware => (String::new(), String::new()),
    }
}

/// Machine type, firmware and a private copy of its variables, which survive a second start with the same `dir`.
fn firmware_args(options: &VmOptions, dir: &Path) -> Result<Vec<String>> {
    let (code, variables, machine) = match options.firmware {
        // SeaBIOS talks on the serial port when the machine is declared to have no screen.
        Firmware::Bios => return Ok(vec!["-machine".into(), "q35,graphics=off".into()]),
        Firmware::Uefi => ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd", "q35"),
        Firmware::UefiSecureBoot => ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd", "q35,smm=on"),
    };
    let own = dir.join(format!("{}.vars.fd", options.name));
    if !own.exists() {
        let from = Path::new(OVMF_DIR).join(variables);
        let copied = std::fs::copy(&from, &own);
        copied.with_context(|| format!("cannot copy {}; `cargo xtask setup` installs it", from.display()))?;
        variables::enrol(&own, &options.variables)?;
    }
    let mut args = vec!["-machine".to_owned(), machine.to_owned()];
    args.extend(["-drive".into(), format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF_DIR}/{code}")]);
    args.extend(["-drive".into(), format!("if=pflash,format=raw,unit=1,file={}", own.display())]);
    if options.firmware == Firmware::UefiSecureBoot {
        args.extend(["-global".into(), "driver=cfi.pflash01,property=secure,value=on".into()]);
    }
    // A try that nobody answers would cost a minute before the next entry. HTTP comes after both kinds of PXE.
    let without: &[&str] = match options.network {
        NetworkBoot::Pxe => &["IPv6PXESupport"],
        NetworkBoot::Http => &["IPv4PXESupport", "IPv6PXESupport"],
        NetworkBoot::Pxe6 => &["IPv4PXESupport"],
    };
    for name in without {
        args.extend(["-fw_cfg".into(), format!("name=opt/org.tianocore/{name},string=no")]);
    }
    if let Some(list) = &options.https_authorities {
        args.extend(["-fw_cfg".into(), format!("name=etc/edk2/https/cacerts,file={}", list.display())]);
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_fresh_and_local_to_qemu() {
        let (one, two) = (fresh_mac(), fresh_mac());
        assert!(one.starts_with("52:54:00:") && one.len() == 17, "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn firmware_variables_are_private_and_kept() {
        if !Path::new(OVMF_DIR).is_dir() {
            crate::skipped("no OVMF");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let options = VmOptions::new("m", Firmware::UefiSecureBoot);
        let args = firmware_args(&options, dir.path()).unwrap().join(" ");
        assert!(args.contains("q35,smm=on") && args.contains("secboot"), "{args}");
        let own = dir.path().join("m.vars.fd");
        std::fs::write(&own, b"changed by the machine").unwrap();
        firmware_args(&options, dir.path()).unwrap();
        assert_eq!(std::fs::read(&own).unwrap(), b"changed by the machine");
    }
}
