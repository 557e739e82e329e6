//! `gravure machine`: the machines a site knows, and what became of their plans.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use gravure_imaging::ErrorKind;
use gravure_model::api::{JournalLine, MachineReport, PlanReport};
use gravure_model::identity::MachineSelector;
use gravure_model::inventory::Firmware;
use gravure_model::job::{Afterwards, CaptureRequest, DiskRule, JobRequest};
use gravure_model::{Assurance, Timestamp};
use gravure_server::Client;
use serde::Serialize;

use super::site::{SiteOptions, print_table, table, time};
use crate::exit::Failure;
use crate::output::{self, Format, Row, bytes};
use crate::{Common, keys};

/// Look at the machines a site knows, and vouch for them
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Show(Show),
    Journal(Journal),
    Boot(Boot),
    Quarantine(Quarantine),
    Capture(Capture),
    Approve(Approve),
}

/// List machines, last seen first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure machine list --site /srv/gravure
  gravure machine list --format csv")]
struct List {
    #[command(flatten)]
    site: SiteOptions,
}

/// Show one machine: state, image digest, times, bytes and MB/s per stage
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure machine show 52:54:00:12:34:56 --site /srv/gravure
  gravure machine show 3fa8 --format json            the inventory too")]
struct Show {
    /// Id or the start of one, MAC address, or UUID
    machine: String,
    #[command(flatten)]
    site: SiteOptions,
}

/// Show what machines asked for at boot, what they got, and what is missing with its likely cause
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure machine journal --site /srv/gravure                    all machines, also those that never got as far as registering
  gravure machine journal 52:54:00:12:34:56 --lines 50
  gravure machine journal 3fa8 --format jsonl

A machine that shows nothing at all here never reached the server: look at cable, VLAN and DHCP relay.")]
struct Journal {
    /// Id or the start of one, MAC address, or UUID [default: all machines]
    machine: Option<String>,
    /// The last so many lines
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    lines: u32,
    #[command(flatten)]
    site: SiteOptions,
}

/// Choose what a machine boots the next time, and only then
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure machine boot 52:54:00:12:34:56 memtest --site /srv/gravure      an [[entry]] of gravure.toml
  gravure machine boot 3fa8 register                                      the payload, to take its inventory anew
  gravure machine boot 3fa8 none                                          take that back

The boot after that is again what rules and orders say; a known machine without an order starts from its disk.")]
struct Boot {
    /// Id or the start of one, MAC address, or UUID
    machine: String,
    /// local, register, menu, the name of an entry, or none
    choice: String,
    #[command(flatten)]
    site: SiteOptions,
}

/// Hold a machine back: it gets no plan and starts from its disk until it is let go
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure machine quarantine 52:54:00:12:34:56 --reason 'found on the loading dock' --site /srv/gravure
  gravure machine quarantine 3fa8 --release

A [[rule]] with boot = \"quarantine\" in gravure.toml does the same to machines when they register.")]
struct Quarantine {
    /// Id or the start of one, MAC address, or UUID
    machine: String,
    /// Why; shown on the machine's screen and here
    #[arg(long, default_value = "by an operator", conflicts_with = "release")]
    reason: String,
    /// Let it go
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    site: SiteOptions,
}

/// Arm a machine: its next network start makes an image of its disk, in the site's store
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure machine capture 52:54:00:12:34:56 golden --site /srv/gravure
  gravure machine capture 3fa8 golden --replace --description 'with the patches of May'
  gravure machine capture 52:54:00:12:34:56 lab-7 --disk serial=S4EVNX0 --raw
  gravure machine capture 3fa8 golden --key-file recovery.txt      what BitLocker or LUKS keeps closed
  gravure plan create --machine 52:54:00:aa:bb:cc --image golden.gim --name 'pc-{serial}'      deploys it

The disk is only read. What file systems use is kept, swap and page files are left out; a file system that was not shut down
cleanly and whose journal does not say how to go on is refused unless --raw. Only what the store lacks travels: a capture that
was cut off goes on where it was when the machine starts again.

Encrypted volumes are refused, unless --raw, or --key-file opens them: then what is inside is imaged, plain. Keys are kept encrypted until
the job is closed, go to this machine alone, once it was approved with the code on its screen, and are shown nowhere.")]
struct Capture {
    /// Id or the start of one, MAC address, or UUID; a MAC address or UUID may be of a machine that was never seen
    machine: String,
    /// Name of the image: letters, digits, dots, dashes and underscores; .gim is added
    image: String,
    /// Which disk: only, smallest, largest, serial=NUMBER or name=vda
    #[arg(long, value_name = "RULE", default_value = "only", value_parser = super::plan::parse_disk)]
    disk: DiskRule,
    /// What the image says of itself
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Keep every byte, whatever stands there
    #[arg(long)]
    raw: bool,
    /// Open encrypted volumes (LUKS, BitLocker) with what this file holds: passphrase, recovery password, key file; may be given several
    /// times
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    key_file: Vec<PathBuf>,
    /// Replace an image of this name
    #[arg(long)]
    replace: bool,
    /// What the machine must have proven: claimed, token or approved
    #[arg(long, value_name = "LEVEL", default_value = "token")]
    assurance: Assurance,
    /// Switch off instead of starting the machine's own system
    #[arg(long)]
    power_off: bool,
    #[command(flatten)]
    site: SiteOptions,
}

impl Capture {
    /// The machine as a job names it.
    fn selector(&self, client: &Client) -> Result<MachineSelector, Failure> {
        match self.machine.parse() {
            Ok(MachineSelector::Any) => {
                let message = "an image is made of one machine's disk";
                return Err(Failure::new(ErrorKind::Usage, message).with_cure("name the machine"));
            }
            Ok(selector) => return Ok(selector),
            Err(_) => {}
        }
        let identity = client.machine(&self.machine)?.identity;
        let uuid = identity.uuid.map(MachineSelector::Uuid);
        let named = uuid.or_else(|| identity.macs.first().copied().map(MachineSelector::Mac));
        named.ok_or_else(|| {
            let message = format!("machine {} has neither UUID nor network address", self.machine);
            Failure::new(ErrorKind::NotFound, message)
        })
    }

    fn request(&self, machine: MachineSelector) -> Result<JobRequest, Failure> {
        let name = self.image.strip_suffix(".gim").unwrap_or(&self.image);
        Ok(JobRequest {
            machine,
            image: format!("{name}.gim"),
            image_index: 0,
            name: String::new(),
            disk: self.disk.clone(),
            assurance: self.assurance,
            expires: None,
            max_machines: None,
            then: if self.power_off { Afterwards::PowerOff } else { Afterwards::Reboot },
            wipe: false,
            windows: None,
            capture: Some(CaptureRequest {
                description: self.description.clone(),
                raw: self.raw,
                replace: self.replace,
                keys: keys::sent(&self.key_file)?,
            }),
            restore: None,
        })
    }
}

/// Approve a machine whose screen shows this code
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure machine approve 52:54:00:12:34:56 480192 --site /srv/gravure

The code is on the machine's screen only. Standing before the machine and comparing it is what the approval is worth.")]
struct Approve {
    /// Id or the start of one, MAC address, or UUID
    machine: String,
    /// Six digits on its screen
    code: String,
    #[command(flatten)]
    site: SiteOptions,
}

/// A machine as a row; programs get the whole report.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct MachineRow(MachineReport);

impl Row for MachineRow {
    fn columns() -> &'static [&'static str] {
        &["id", "state", "host_name", "serial", "mac", "image", "assurance", "last_seen"]
    }

    fn cells(&self) -> Vec<String> {
        let report = &self.0;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            report.id.chars().take(8).collect(),
            report.state.as_str().to_owned(),
            or_dash(report.host_name.clone()),
            or_dash(report.identity.serial.clone()),
            or_dash(report.identity.macs.first().map(ToString::to_string)),
            or_dash(report.plan.as_ref().map(|plan| plan.image.clone())),
            report.assurance.to_string(),
            time(report.last_seen),
        ]
    }
}

/// A line of the journal.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct JournalRow(JournalLine);

impl Row for JournalRow {
    fn columns() -> &'static [&'static str] {
        &["at", "mac", "kind", "text", "advice"]
    }

    fn cells(&self) -> Vec<String> {
        let line = &self.0;
        vec![
            time(line.at),
            line.mac.to_string(),
            line.kind.clone(),
            line.text.clone(),
            line.advice.clone().unwrap_or_default(),
        ]
    }
}

/// The journal as text: sentences are too long for a table.
fn journal_text(lines: &[JournalLine], now: Timestamp) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("{}  {}  {}\n", time(line.at), line.mac, line.text));
        if let Some(advice) = &line.advice {
            text.push_str(&format!("    -> {advice}\n"));
        }
    }
    if let Some(last) = lines.last() {
        let silent = now.seconds().saturating_sub(last.at.seconds());
        text.push_str(&format!("silent since {silent} s\n"));
    }
    text
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::List(list) => {
            let machines = list.site.client()?.machines()?;
            for (sid, names) in same_sids(&machines) {
                eprintln!(
                    "warning: {} have the same Windows SID {sid}: copies of a system that was not generalised",
                    names.join(", ")
                );
            }
            let rows = machines.into_iter().map(MachineRow).collect();
            print_table(common.format, rows, "No machines yet: start one from the network.")?;
        }
        Command::Show(show) => {
            let report = show.site.client()?.machine(&show.machine)?;
            output::document(common.format, &report, describe)?;
        }
        Command::Journal(journal) => {
            let lines = journal.site.client()?.journal(journal.machine.as_deref(), journal.lines)?;
            if common.format == Format::Text && !lines.is_empty() {
                output::text(&journal_text(&lines, Timestamp::now()))?;
            } else {
                let rows = lines.into_iter().map(JournalRow).collect();
                print_table(common.format, rows, "Nothing yet: no machine asked for a boot file.")?;
            }
        }
        Command::Boot(boot) => {
            let choice = (boot.choice != "none").then_some(boot.choice.as_str());
            let report = boot.site.client()?.boot_once(&boot.machine, choice)?;
            output::document(common.format, &report, describe)?;
        }
        Command::Quarantine(quarantine) => {
            let reason = (!quarantine.release).then_some(quarantine.reason.as_str());
            let report = quarantine.site.client()?.quarantine(&quarantine.machine, reason)?;
            output::document(common.format, &report, describe)?;
        }
        Command::Capture(capture) => {
            let client = capture.site.client()?;
            let request = capture.request(capture.selector(&client)?)?;
            super::plan::print(common, &client.create_job(&request)?)?;
        }
        Command::Approve(approve) => {
            let report = approve.site.client()?.approve(&approve.machine, &approve.code)?;
            output::document(common.format, &report, describe)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// SIDs that several machines have, with the names of these machines.
fn same_sids(machines: &[MachineReport]) -> BTreeMap<&str, Vec<String>> {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for machine in machines {
        let mac = machine.identity.macs.first().map(ToString::to_string);
        let name = machine.host_name.clone().or_else(|| machine.identity.serial.clone()).or(mac);
        let name = name.unwrap_or_else(|| machine.id.clone());
        machine.windows_sids.iter().for_each(|sid| all.entry(sid).or_default().push(name.clone()));
    }
    all.retain(|_, names| names.len() > 1);
    all
}

fn describe(report: &MachineReport) -> String {
    let identity = &report.identity;
    let macs: Vec<String> = identity.macs.iter().map(ToString::to_string).collect();
    let mut lines = vec![("machine", report.id.clone())];
    lines.extend(identity.uuid.clone().map(|uuid| ("uuid", uuid)));
    lines.extend(identity.serial.clone().map(|serial| ("serial", serial)));
    lines.push(("adapters", macs.join(" ")));
    lines.extend(report.host_name.clone().map(|name| ("host name", name)));
    lines.push(("assurance", report.assurance.to_string()));
    lines.extend(report.quarantine.clone().map(|reason| ("quarantine", reason)));
    if !report.windows_sids.is_empty() {
        lines.push(("windows", report.windows_sids.join(" ")));
    }
    if !report.same_sid.is_empty() {
        lines.push(("same SID as", report.same_sid.join(", ")));
    }
    lines.push(("first seen", time(report.first_seen)));
    lines.push(("last seen", time(report.last_seen)));
    if let Some(inventory) = &report.inventory {
        let system = &inventory.smbios.system;
        let model =
            [&system.manufacturer, &system.product].into_iter().flatten().cloned().collect::<Vec<_>>();
        lines.push(("model", model.join(" ")));
        lines.push(("firmware", firmware(&inventory.firmware)));
        lines.push(("memory", bytes(inventory.memory.usable_bytes)));
        for disk in &inventory.disks {
            let name = disk.model.clone().unwrap_or_default();
            lines.push(("disk", format!("{} {name} {}", disk.name, bytes(disk.size_bytes))));
        }
    }
    let mut text = String::new();
    let mut put = |name: &str, value: &str| text.push_str(&format!("{:<12}{value}\n", format!("{name}:")));
    for (name, value) in &lines {
        put(name, value.trim());
    }
    if let Some(plan) = &report.plan {
        describe_plan(plan, &mut put);
    }
    let stages = report.plan.as_ref().map(stage_table).unwrap_or_default();
    format!("{text}{stages}state: {}\n", report.state.as_str())
}

fn firmware(firmware: &Firmware) -> String {
    format!("{}{}", firmware.mode.as_str(), secure_boot(firmware.secure_boot))
}

fn secure_boot(enforced: Option<bool>) -> &'static str {
    match enforced {
        Some(true) => ", Secure Boot on",
        Some(false) => ", Secure Boot off",
        None => "",
    }
}

fn describe_plan(plan: &PlanReport, put: &mut impl FnMut(&str, &str)) {
    put("plan", &plan.id);
    put("job", &plan.job);
    put("image", &plan.image);
    put("digest", &plan.image_digest.to_string());
    put("started", &time(plan.started));
    if let Some(ended) = plan.ended {
        let milliseconds = ended.0.saturating_sub(plan.started.0) / 1000;
        put(
            "ended",
            &format!("{} after {}.{} s", time(ended), milliseconds / 1000, milliseconds % 1000 / 100),
        );
    }
    if let Some(confirmed) = plan.confirmed {
        put("confirmed", &time(confirmed));
    }
    if let Some(first_boot) = &plan.first_boot {
        put("runs", &format!("kernel {}{}", first_boot.kernel, secure_boot(first_boot.secure_boot)));
    }
    if let Some(failure) = &plan.failure {
        put("failed in", &failure.stage);
        put("because", &failure.message);
        if let Some(cure) = &failure.cure {
            put("what to do", cure);
        }
    }
    for transfer in &plan.transfers {
        let (network, written) = (bytes(transfer.network_bytes), bytes(transfer.written_bytes));
        let kept = bytes(transfer.kept_bytes);
        put(
            "moved",
            &format!("{}: {network} over the network, {written} written, {kept} were there", transfer.stage),
        );
    }
    for warning in &plan.warnings {
        put("warning", warning);
    }
}

fn stage_table(plan: &PlanReport) -> String {
    if plan.stages.is_empty() {
        return String::new();
    }
    let row = |stage: &gravure_model::api::StageReport| {
        vec![
            stage.stage.clone(),
            bytes(stage.bytes),
            format!("{}.{} s", stage.milliseconds / 1000, stage.milliseconds % 1000 / 100),
            stage.megabytes_per_second().map_or_else(|| "-".to_owned(), |rate| rate.to_string()),
        ]
    };
    let rows: Vec<Vec<String>> = plan.stages.iter().map(row).collect();
    format!("\n{}\n", table(&["stage", "bytes", "time", "MB/s"], &rows))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        capture: Capture,
    }

    #[test]
    fn a_capture_is_named_with_or_without_its_ending() {
        let machine = MachineSelector::Uuid("u".to_owned());
        for image in ["golden", "golden.gim"] {
            let arguments = ["capture", "3fa8", image, "--replace", "--power-off", "--disk", "smallest"];
            let only = Only::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"));
            let request = only.capture.request(machine.clone()).unwrap();
            assert_eq!((request.image.as_str(), request.name.as_str()), ("golden.gim", ""));
            assert_eq!((request.disk, request.then), (DiskRule::Smallest, Afterwards::PowerOff));
            let wanted = CaptureRequest { replace: true, ..CaptureRequest::default() };
            assert_eq!(request.capture, Some(wanted));
        }
    }

    #[test]
    fn keys_of_a_capture_are_read_from_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "111111-222222\n").unwrap();
        let path = path.to_str().unwrap();
        let parse = |more: &[&str]| {
            let arguments = [&["capture", "3fa8", "golden", "--key-file", path][..], more].concat();
            Only::try_parse_from(arguments)
        };
        let request = parse(&[]).unwrap().capture.request(MachineSelector::Uuid("u".to_owned())).unwrap();
        let keys = request.capture.unwrap().keys;
        assert_eq!(
            keys.iter().map(|key| key.bytes().unwrap().to_vec()).collect::<Vec<_>>(),
            [b"111111-222222\n"]
        );
        assert!(parse(&["--raw"]).is_err(), "nothing is opened then");
    }
}
