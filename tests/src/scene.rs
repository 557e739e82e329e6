//! A site and a machine with a blank disk, ready for a test to switch on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gravure_disk::Table;
use gravure_io::FileAt;
use gravure_model::api::{MachineReport, MachineState};
use gravure_testkit::{
    Bus, Disk, Firmware, Lab, Site, SiteDhcp, SiteSetup, Vm, VmOptions, can_make_labs, gravure_program,
    oracle, payload_dir, test_image,
};

/// From power-on to the payload's plan, emulated on a loaded machine.
pub const BOOT_PATIENCE: Duration = Duration::from_secs(900);
/// For each later part of a deployment.
pub const APPLY_PATIENCE: Duration = Duration::from_secs(600);

/// Size of the blank disk; sparse.
const DISK_BYTES: u64 = 4 << 30;
/// Its sector size, bytes.
const SECTOR_BYTES: u32 = 512;

/// A running site with a copy of the image that a test may damage, and a machine that is switched off.
#[derive(Debug)]
pub struct Scene {
    /// The server and its lab.
    pub site: Site,
    /// The machine; its firmware variables live from start to start.
    pub machine: VmOptions,
    dir: PathBuf,
}

impl Scene {
    /// Starts a site in `dir`; `None` after a loud skip when something it needs is missing.
    pub fn new(firmware: Firmware, dir: &Path) -> Result<Option<Self>> {
        let Some(image) = test_image() else { return Ok(None) };
        Self::with_image(firmware, dir, &image, DISK_BYTES)
    }

    /// The same with an image and a size of the blank disk of one's own.
    pub fn with_image(firmware: Firmware, dir: &Path, image: &Path, disk_bytes: u64) -> Result<Option<Self>> {
        let (Some(program), Some(payload)) = (gravure_program(), payload_dir()) else { return Ok(None) };
        let tools =
            ["qemu-system-x86_64", "sgdisk", "debugfs", "e2fsck"].iter().all(|tool| oracle(tool).is_some());
        if !tools || !can_make_labs() {
            return Ok(None);
        }
        let mut machine = VmOptions::new("pc", firmware);
        machine.disk = Some(Disk::blank(&dir.join("disk.img"), disk_bytes, Bus::Virtio)?);
        "E2E-1".clone_into(&mut machine.serial);
        let setup = SiteSetup {
            program: &program,
            payload: &payload,
            dir: &dir.join("site"),
            image: Some(image),
            dhcp: SiteDhcp::Full,
        };
        let site = Site::start(Lab::new()?, &setup)?;
        Ok(Some(Self { site, machine, dir: dir.to_owned() }))
    }

    /// Plans the image for the machine.
    pub fn order(&self) -> Result<()> {
        self.site.plan(&self.machine.mac, "pc-{serial}").map(drop)
    }

    /// The same with what else the command takes.
    pub fn order_with(&self, more: &[&str]) -> Result<()> {
        let image = self.site.image()?.file_name().and_then(|name| name.to_str());
        let image = image.context("the image's name is not Unicode")?;
        let (mac, name) = (&self.machine.mac, "pc-{serial}");
        let args = ["plan", "create", "--machine", mac, "--image", image, "--name", name];
        self.site.run(&[&args[..], more].concat()).map(drop)
    }

    /// Puts a layer into the site's layer directory.
    pub fn add_layer(&self, name: &str, text: &str) -> Result<()> {
        let dir = self.dir.join("site/layers").join(name);
        std::fs::create_dir_all(&dir).context("cannot make the directory of a layer")?;
        std::fs::write(dir.join("layer.toml"), text).context("cannot write a layer")
    }

    /// Switches the machine on.
    pub fn switch_on(&self) -> Result<Vm> {
        self.site.lab().start_vm(&self.machine, &self.dir)
    }

    /// Waits until the machine gets to `state` and returns what the server knows then.
    pub fn expect(&self, vm: &Vm, state: MachineState) -> Result<MachineReport> {
        let waited = self.site.wait_for_state(state, APPLY_PATIENCE);
        waited.with_context(|| format!("the machine's screen said:\n{}", vm.console().last_lines()))?;
        self.site.machine(&self.machine.mac)
    }

    /// Waits for the deployed system's report.
    pub fn expect_confirmed(&self, vm: &Vm) -> Result<MachineReport> {
        self.expect(vm, MachineState::Verified)?;
        self.expect(vm, MachineState::Confirmed)
    }

    /// Puts a blank disk into the machine in the place of the one it has; the file is new, the old one stays.
    pub fn set_blank_disk(&mut self, name: &str, bytes: u64) -> Result<()> {
        self.machine.disk = Some(Disk::blank(&self.dir.join(name), bytes, Bus::Virtio)?);
        Ok(())
    }

    /// Makes the machine's disk larger, as if it had been copied onto another one: the partitions stay what they are.
    pub fn widen_disk(&self, bytes: u64) -> Result<()> {
        let disk = File::options().write(true).open(self.disk()).context("cannot open the machine's disk")?;
        disk.set_len(bytes).context("cannot make the machine's disk larger")?;
        let moved = Command::new("sgdisk").arg("--move-second-header").arg(self.disk()).output();
        let moved = moved.context("cannot start sgdisk")?;
        ensure!(moved.status.success(), "sgdisk: {}", String::from_utf8_lossy(&moved.stderr));
        Ok(())
    }

    /// Has the machine captured as `image` when it starts, and waits for that.
    pub fn capture(&self, image: &str) -> Result<MachineReport> {
        // Switched off afterwards, so that its system changes nothing before the disk is looked at.
        self.site.run(&["machine", "capture", &self.machine.mac, image, "--power-off"])?;
        let mut vm = self.switch_on()?;
        let report = self.expect(&vm, MachineState::Captured)?;
        vm.wait(APPLY_PATIENCE)?;
        Ok(report)
    }

    /// Plans an image of the store for the machine, with what else the command takes; what is on its disk may be destroyed.
    pub fn order_image(&self, image: &str, more: &[&str]) -> Result<()> {
        let mac = &self.machine.mac;
        let args = ["plan", "create", "--machine", mac, "--image", image, "--name", "pc-{serial}", "--wipe"];
        self.site.run(&[&args[..], more].concat()).map(drop)
    }

    /// The image file of the machine's disk.
    pub fn disk(&self) -> PathBuf {
        self.machine.disk.as_ref().map_or_else(|| self.dir.join("disk.img"), |disk| disk.path.clone())
    }

    /// The partition table on the disk, as our own reader sees it.
    pub fn table(&self) -> Result<Table> {
        let disk = FileAt::open(&self.disk()).context("cannot open the machine's disk")?;
        Table::read(&disk, SECTOR_BYTES).context("cannot read the machine's partition table")
    }
}
