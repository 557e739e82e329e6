//! `cargo xtask demo`: the main job, end to end, with real parts.
//!
//! A blank virtual machine boots over the network from `gravure serve`, is partitioned, gets the image, is verified,
//! restarts into the deployed system and reports. Firmware, boot files, kernel and the Debian system are real; server
//! and machine live in a network namespace, so nothing outside can be disturbed.

mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use gravure_model::api::{MachineReport, MachineState};
use gravure_testkit::{
    BootOrder, Bus, Disk, Firmware, Lab, Site, SiteDhcp, SiteSetup, Vm, VmOptions, accelerator,
};

use crate::console::{self, Remedy, Step};
use crate::{image, payload, process, setup, workspace};
use report::Summary;

const EXAMPLES: &str = "Examples:
  cargo xtask demo                    a UEFI machine, from nothing to a confirmed system
  cargo xtask demo --firmware bios    a BIOS machine
  cargo xtask demo --secure-boot      a UEFI machine with Secure Boot on and only Microsoft's keys enrolled, as PCs come
  cargo xtask demo --fresh            build the image again too

Everything it makes lies below `demo/` in the target directory: image, site, disk, logs and a screenshot.
The last line is `state: confirmed`.";

/// The recipe of the image that is deployed.
const RECIPE: &str = "images/debian-minimal.toml";
/// Size of the machine's blank disk; sparse on this side.
const DISK_BYTES: u64 = 8 << 30;
/// From power-on to the payload's first word, emulated and under load.
const BOOT_PATIENCE: Duration = Duration::from_secs(900);
/// For the whole deployment.
const DEPLOY_PATIENCE: Duration = Duration::from_secs(1200);
/// From restart to the deployed system's report.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(600);

/// Options of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// What the machine starts with
    #[arg(long, value_enum, default_value_t = Start::Uefi)]
    firmware: Start,
    /// Secure Boot on, nothing enrolled but what PCs come with; in the deployed system too
    #[arg(long)]
    secure_boot: bool,
    /// Build the image again although the recipe did not change
    #[arg(long)]
    fresh: bool,
}

/// Firmware by the names of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Start {
    /// UEFI, through shim and GRUB
    Uefi,
    /// BIOS, through iPXE
    Bios,
}

impl Options {
    fn firmware(&self) -> Result<Firmware> {
        match (self.firmware, self.secure_boot) {
            (Start::Uefi, false) => Ok(Firmware::Uefi),
            (Start::Uefi, true) => Ok(Firmware::UefiSecureBoot),
            (Start::Bios, false) => Ok(Firmware::Bios),
            (Start::Bios, true) => {
                Err(Remedy::new("BIOS machines have no Secure Boot", "leave out --firmware bios").into())
            }
        }
    }
}

/// Runs the demo.
pub(crate) fn run(options: &Options) -> Result<()> {
    let firmware = options.firmware()?;
    let mut summary = Summary::default();
    summary.timed("set-up", setup::ensure)?;
    let program = summary.timed("build of gravure", build_program)?;
    let payload = summary.timed("payload", || payload::run(&payload::Options::default()))?;
    let dir = workspace::target().join("demo");
    let image = summary.timed("image", || image::build(&program, RECIPE, options.fresh))?;

    // A site and a disk of an earlier run would not be a blank start.
    let run_dir = dir.join("run");
    if run_dir.exists() {
        std::fs::remove_dir_all(&run_dir).with_context(|| format!("cannot empty {}", run_dir.display()))?;
    }
    let site = summary.timed("site and server", || start_site(&program, &payload.dir, &run_dir, &image))?;
    let machine = machine(firmware, &run_dir)?;
    let step = Step::start(format!("plan for the machine {}", machine.mac));
    site.plan(&machine.mac, "pc-{serial}")?;
    step.done("signed and armed");

    deploy(&site, &machine, &run_dir, &dir.join("screenshot.png"), &mut summary)?;
    let machine = site.machine(&machine.mac)?;
    summary.print(&machine);
    if machine.state != MachineState::Confirmed {
        bail!(
            "the machine is {}, expected confirmed; logs are in {}",
            machine.state.as_str(),
            run_dir.display()
        );
    }
    if firmware == Firmware::UefiSecureBoot && !enforced(&machine) {
        bail!(
            "Secure Boot was not enforced, in the payload or in the deployed system; logs are in {}",
            run_dir.display()
        );
    }
    Ok(())
}

/// Whether the firmware said so in the payload and in the deployed system.
fn enforced(machine: &MachineReport) -> bool {
    let payload = machine.inventory.as_ref().and_then(|inventory| inventory.firmware.secure_boot);
    let deployed = machine.plan.as_ref().and_then(|plan| plan.first_boot.as_ref()?.secure_boot);
    payload == Some(true) && deployed == Some(true)
}

fn build_program() -> Result<PathBuf> {
    let step = Step::start("gravure (release build)");
    process::run(workspace::cargo().args(["build", "--release", "--package", "gravure-cli"]))?;
    let path = workspace::target().join("release/gravure");
    if !path.is_file() {
        bail!("the build left no program at {}", path.display());
    }
    step.done("built");
    Ok(path)
}

fn start_site(program: &Path, payload: &Path, run_dir: &Path, image: &Path) -> Result<Site> {
    std::fs::create_dir_all(run_dir).with_context(|| format!("cannot create {}", run_dir.display()))?;
    let step = Step::start("site keys and server, in a network namespace");
    let lab = Lab::new().map_err(|error| {
        Remedy::new(
            format!("no network namespace: {error:#}"),
            "run as root on a kernel with network namespaces, bridges and /dev/net/tun (in a container: with \
             CAP_NET_ADMIN and that device)",
        )
    })?;
    let dir = run_dir.join("site");
    let setup = SiteSetup { program, payload, dir: &dir, image: Some(image), dhcp: SiteDhcp::Full };
    let site = Site::start(lab, &setup)?;
    step.done(format!("`gravure serve` is up, its log is in {}", site.dir().display()));
    Ok(site)
}

fn machine(firmware: Firmware, run_dir: &Path) -> Result<VmOptions> {
    let mut options = VmOptions::new("pc", firmware);
    options.disk = Some(Disk::blank(&run_dir.join("disk.img"), DISK_BYTES, Bus::Virtio)?);
    options.boot = BootOrder::NetworkFirst;
    options.serial = "DEMO1".to_owned();
    options.screen = true;
    Ok(options)
}

/// Switches the machine on and follows it to its report.
fn deploy(site: &Site, options: &VmOptions, dir: &Path, picture: &Path, summary: &mut Summary) -> Result<()> {
    let step = Step::start(format!(
        "virtual machine, {:?}, blank disk ({})",
        options.firmware,
        accelerator().name()
    ));
    let start = Instant::now();
    let mut vm = site.lab().start_vm(options, dir)?;
    let told = |what: &str, vm: &Vm| format!("{what}; serial log: {}", vm.serial_log().display());

    vm.wait_for("Deploying ", BOOT_PATIENCE)
        .with_context(|| told("the payload did not get its plan", &vm))?;
    summary.add("power-on to plan", start.elapsed());
    console::note(format!("the payload has its plan after {}", console::seconds(start.elapsed())));
    vm.wait_for("Apply image: ", DEPLOY_PATIENCE)
        .with_context(|| told("the payload did not get to its image", &vm))?;
    vm.screenshot(picture)?;
    console::note(format!("screenshot of the payload at work: {}", picture.display()));

    let start_deploy = Instant::now();
    site.wait_for_state(MachineState::Verified, DEPLOY_PATIENCE)
        .with_context(|| told("the deployment did not end well", &vm))?;
    summary.add("plan to verified", start_deploy.elapsed());
    console::note(format!("verified after {}", console::seconds(start.elapsed())));

    let restart = Instant::now();
    site.wait_for_state(MachineState::Confirmed, CONFIRM_PATIENCE)
        .with_context(|| told("the deployed system did not report", &vm))?;
    summary.add("verified to confirmed", restart.elapsed());
    step.done("the deployed system reported");
    vm.kill()
}
