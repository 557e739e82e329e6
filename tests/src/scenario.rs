//! A site and a machine, ready for a test to switch on.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use gravure_model::api::{MachineReport, MachineState};
use gravure_testkit::{
    Bus, Disk, Firmware, Lab, Site, Vm, VmOptions, can_make_labs, gravure_program, oracle, payload_dir,
    test_image,
};

/// From power-on to the payload's plan, emulated on a loaded machine.
pub const BOOT_PATIENCE: Duration = Duration::from_secs(300);
/// For each later part of a deployment.
pub const APPLY_PATIENCE: Duration = Duration::from_secs(600);

/// Size of the blank disk; sparse.
const DISK_BYTES: u64 = 4 << 30;

/// A running site, its image, and the directory that holds everything and goes away at the end.
#[derive(Debug)]
pub struct Scenario {
    /// The server and its lab.
    pub site: Site,
    /// A private copy of the image, so that a test may damage it.
    pub image: PathBuf,
    dir: tempfile::TempDir,
}

impl Scenario {
    /// Starts a site; `None` after a loud skip when something it needs is missing.
    pub fn start() -> Result<Option<Self>> {
        let (Some(program), Some(payload), Some(image)) = (gravure_program(), payload_dir(), test_image())
        else {
            return Ok(None);
        };
        let tools = ["qemu-system-x86_64", "sgdisk", "debugfs"].iter().all(|tool| oracle(tool).is_some());
        if !tools || !can_make_labs() {
            return Ok(None);
        }
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let own = dir.path().join("image.wim");
        std::fs::copy(&image, &own).with_context(|| format!("cannot copy {}", image.display()))?;
        let site = Site::start(Lab::new()?, &program, &payload, &dir.path().join("site"))?;
        Ok(Some(Self { site, image: own, dir }))
    }

    /// A machine with a blank disk, not switched on yet.
    pub fn machine(&self, firmware: Firmware) -> Result<VmOptions> {
        let mut options = VmOptions::new("pc", firmware);
        options.disk = Some(Disk::blank(&self.disk(), DISK_BYTES, Bus::Virtio)?);
        "E2E7".clone_into(&mut options.serial);
        Ok(options)
    }

    /// The image file of the machine's disk.
    pub fn disk(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    /// Plans the image for the machine.
    pub fn plan(&self, machine: &VmOptions) -> Result<()> {
        self.site.plan(&machine.mac, &self.image, "pc-{serial}").map(drop)
    }

    /// Switches the machine on. The same machine keeps its firmware variables from start to start.
    pub fn switch_on(&self, machine: &VmOptions) -> Result<Vm> {
        self.site.lab().start_vm(machine, self.dir.path())
    }

    /// Waits for a state and returns what the server knows then.
    pub fn wait_for(&self, machine: &VmOptions, state: MachineState) -> Result<MachineReport> {
        self.site.wait_for_state(state, APPLY_PATIENCE)?;
        self.site.machine(&machine.mac)
    }
}
