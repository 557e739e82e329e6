//! `gravure plan`: what machines are to get.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use gravure_model::api::JobReport;
use gravure_model::identity::MachineSelector;
use gravure_model::job::{
    Afterwards, CaptureRequest, DiskRule, DriverRule, JobRequest, RestoreRequest, WindowsRequest,
};
use gravure_model::{Assurance, Secret, Timestamp};
use serde::Serialize;

use super::disk::read_boot_code;
use super::site::{SiteOptions, parse_span, print_table, time};
use crate::Common;
use crate::exit::Failure;
use crate::output::{self, Row};

/// Plan deployments: which machine gets which image when it next starts from the network
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Box<Create>),
    List(List),
    Show(One),
    Cancel(Cancel),
}

/// Arm a machine: its next network start deploys the image
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure plan create --machine 52:54:00:12:34:56 --image debian.wim --name 'pc-{serial}'
  gravure plan create --machine 52:54:00:12:34:56 --image debian.wim --name lab-1 --disk serial=S4EVNX0 --wipe
  gravure plan create --machine 52:54:00:12:34:56 --image golden.gim --name 'pc-{serial}' --wipe
  gravure plan create --machine 52:54:00:12:34:56 --image old-pc.gim --name pc-1 --wipe --keep-ids   gives back what the machine had
  gravure plan create --machine 52:54:00:12:34:56 --image windows.gim --name 'pc-{serial:-8}' --wipe --layer school --set ROOM=B7
  gravure plan create --machine any --image debian.wim --name 'room7-{n}' --expires 2h --max-machines 24

  gravure plan create --machine 52:54:00:12:34:56 --image install.wim:6 --name 'pc-{serial:-8}' --settings school.toml
  gravure plan create --machine 52:54:00:12:34:56 --image install.wim --name b7-1 --layer school --set ROOM=B7
  gravure plan create --machine 52:54:00:12:34:56 --image win10.wim --name '{room}-{n:03}' --boot-code bios.boot

Windows images: drivers that fit the machine come from the server's repository (gravure driver add), layers from its layer
directory; ${COMPUTER_NAME}, ${SERIAL}, ${UUID}, ${MAC}, ${MANUFACTURER}, ${MODEL}, ${SKU} and ${ASSET} in them are the machine's. Settings with
passwords, keys or a join need an approved machine and are forgotten when the job is done.
Images of disks (.gim): disk and partitions get identifiers of their own, boot stores and tables of file systems name them, the largest file
system fills the disk; the system gets the name, SSH host keys and machine id are made anew. A Windows on it gets what a Windows image
gets: drivers that fit the machine, settings where its setup goes on, layers. Before the disk is overwritten it is tried on the Windows in the
image: a machine with another storage controller is refused unless image or repository have its driver, or --any-hardware is given.
A target disk that holds data is refused unless --wipe is given; removable disks are never taken unless named.")]
struct Create {
    /// MAC address, SMBIOS UUID, or `any` (which needs --expires and --max-machines)
    #[arg(long, value_name = "MAC|UUID|any")]
    machine: MachineSelector,
    /// Image file in the server's image directory, image in its store (NAME.gim), or a path to a file to be put there; :N for its Nth image
    #[arg(long, value_name = "FILE[:N]", value_parser = parse_image)]
    image: (String, u32),
    /// Host name; {serial}, {uuid}, {mac}, {model}, {asset} and {n} are filled in, {serial:-8} with its last eight characters, {n:03} with zeros (a number that no other machine has with the rest of the name: '{room}-{n:03}' counts each room); columns of the site's names.csv too: {name}, {room}
    #[arg(long, value_name = "TEMPLATE")]
    name: String,
    /// Target disk: only, smallest, largest, serial=NUMBER or name=vda
    #[arg(long, value_name = "RULE", default_value = "only", value_parser = parse_disk)]
    disk: DiskRule,
    /// What the machine must have proven: claimed, token or approved
    #[arg(long, value_name = "LEVEL", default_value = "token")]
    assurance: Assurance,
    /// When the job ends, from now: 30m, 2h, 1d
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires: Option<i64>,
    /// How many machines at most
    #[arg(long, value_name = "N")]
    max_machines: Option<u32>,
    /// Data on the target disk may be destroyed
    #[arg(long)]
    wipe: bool,
    /// Switch off instead of starting the deployed system
    #[arg(long)]
    power_off: bool,
    #[command(flatten)]
    restore: RestoreOptions,
    #[command(flatten)]
    windows: WindowsOptions,
    #[command(flatten)]
    site: SiteOptions,
}

/// How an image of a disk is restored
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Images of disks")]
pub(super) struct RestoreOptions {
    /// Disk and partitions keep the identifiers that they have in the image, the same on every machine
    #[arg(long)]
    keep_ids: bool,
    /// File systems keep their size on a larger disk
    #[arg(long)]
    no_grow: bool,
    /// Restore onto a machine that is unlike the source in ways that keep most systems from starting; another storage controller is none
    /// when the Windows on the disk has a driver for it or gets one
    #[arg(long)]
    any_hardware: bool,
}

impl RestoreOptions {
    /// `None` when nothing was said, as for images of files.
    pub(super) fn request(&self) -> Option<RestoreRequest> {
        let request =
            RestoreRequest { new_ids: !self.keep_ids, grow: !self.no_grow, any_hardware: self.any_hardware };
        (request != RestoreRequest::default()).then_some(request)
    }
}

/// What goes into a system, in an image of files or on an image of a disk
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Windows")]
struct WindowsOptions {
    /// Settings for the answer file (TOML), as for `gravure image service`; the name comes from --name
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Layer in the server's layer directory, for Windows or Linux as the image has it; several in their order. One with rules that the
    /// system does not know is refused, at the latest when a machine asks for its plan
    #[arg(long, value_name = "NAME", help_heading = "Layers")]
    layer: Vec<String>,
    /// What ${NAME} stands for in layers
    #[arg(long, value_name = "NAME=VALUE", requires = "layer", value_parser = parse_fact, help_heading = "Layers")]
    set: Vec<(String, String)>,
    /// Take no drivers out of the server's repository
    #[arg(long)]
    no_drivers: bool,
    /// Give each machine all packages out of the driver pack of its model, too, whether a device needs them now or not (`gravure driver add
    /// --model`, `--pack`); a machine of whose model there is none is refused
    #[arg(long, conflicts_with = "no_drivers")]
    model_drivers: bool,
    /// Publish simple packages in driver store and driver database, as DISM does
    #[arg(long, conflicts_with = "no_drivers")]
    publish_drivers: bool,
    /// Let unsigned drivers start the machine, for machines with test signing
    #[arg(long, conflicts_with = "no_drivers")]
    allow_unsigned: bool,
    /// Deploy an image of a system in use, which was not generalised, for a machine that gets back what it had; images of disks are deployed
    /// without it, and the report warns of it
    #[arg(long)]
    accept_in_use: bool,
    /// Deploy even when nothing drives what the machine starts from
    #[arg(long)]
    accept_missing_drivers: bool,
    /// Boot code that `gravure disk boot-code` took from a disk: machines that start by BIOS need it, as images of files have none
    #[arg(long, value_name = "FILE")]
    boot_code: Option<PathBuf>,
}

impl WindowsOptions {
    /// `None` when nothing was said, as for Linux images.
    fn request(&self) -> Result<Option<WindowsRequest>, Failure> {
        let settings = self.settings.as_deref().map(|path| {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
            Ok::<_, Failure>(Secret::new(text))
        });
        let request = WindowsRequest {
            drivers: match (self.no_drivers, self.model_drivers) {
                (true, _) => DriverRule::None,
                (false, true) => DriverRule::MatchAndModel,
                (false, false) => DriverRule::Match,
            },
            publish_drivers: self.publish_drivers,
            allow_unsigned: self.allow_unsigned,
            layers: self.layer.clone(),
            facts: self.set.iter().cloned().collect(),
            settings: settings.transpose()?,
            accept_in_use: self.accept_in_use,
            accept_missing_drivers: self.accept_missing_drivers,
            boot_code: self
                .boot_code
                .as_deref()
                .map(|path| Ok::<_, Failure>(read_boot_code(path)?.to_text()))
                .transpose()?,
        };
        Ok((request != WindowsRequest::default()).then_some(request))
    }
}

fn parse_fact(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// List jobs, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure plan list --site /srv/gravure
  gravure plan list --format json")]
struct List {
    #[command(flatten)]
    site: SiteOptions,
}

/// Show one job
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure plan show 5f0c --site /srv/gravure")]
struct One {
    /// Job id, or the start of one
    id: String,
    #[command(flatten)]
    site: SiteOptions,
}

/// Cancel a job: no further machine gets it; one that has begun goes on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure plan cancel 5f0c --site /srv/gravure")]
struct Cancel {
    /// Job id, or the start of one
    id: String,
    #[command(flatten)]
    site: SiteOptions,
}

/// `FILE` or `FILE:N`, N counted from 1 as everywhere on the command line.
pub(crate) fn parse_image(text: &str) -> Result<(String, u32), String> {
    let Some((file, number)) = text.rsplit_once(':') else { return Ok((text.to_owned(), 0)) };
    let number: u32 = number.parse().map_err(|_| format!("{number:?} is no image number"))?;
    let index = number.checked_sub(1).ok_or("image numbers count from 1")?;
    Ok((file.to_owned(), index))
}

pub(crate) fn parse_disk(text: &str) -> Result<DiskRule, String> {
    match text.split_once('=') {
        None if text == "only" => Ok(DiskRule::Only),
        None if text == "smallest" => Ok(DiskRule::Smallest),
        None if text == "largest" => Ok(DiskRule::Largest),
        Some(("serial", serial)) if !serial.is_empty() => Ok(DiskRule::Serial { serial: serial.to_owned() }),
        Some(("name", name)) if !name.is_empty() => {
            let name = name.strip_prefix("/dev/").unwrap_or(name);
            Ok(DiskRule::Name { name: name.to_owned() })
        }
        _ => Err("expected only, smallest, largest, serial=NUMBER or name=vda".to_owned()),
    }
}

impl Create {
    fn request(&self) -> Result<JobRequest, Failure> {
        Ok(JobRequest {
            machine: self.machine.clone(),
            image: self.image.0.clone(),
            image_index: self.image.1,
            name: self.name.clone(),
            disk: self.disk.clone(),
            assurance: self.assurance,
            expires: self.expires.map(|seconds| Timestamp::now().plus_seconds(seconds)),
            max_machines: self.max_machines,
            then: if self.power_off { Afterwards::PowerOff } else { Afterwards::Reboot },
            wipe: self.wipe,
            windows: self.windows.request()?,
            capture: None,
            restore: self.restore.request(),
        })
    }
}

/// A job as a row; programs get the whole report.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct JobRow(JobReport);

impl Row for JobRow {
    fn columns() -> &'static [&'static str] {
        &["job", "machine", "image", "name", "state", "machines", "created", "expires"]
    }

    fn cells(&self) -> Vec<String> {
        let JobReport { job, plans, closed } = &self.0;
        let request = &job.request;
        let most = request.max_machines.map(|most| format!(" of {most}")).unwrap_or_default();
        vec![
            job.id.chars().take(8).collect(),
            request.machine.to_string(),
            format!("{}:{}", request.image, u64::from(request.image_index) + 1),
            if request.capture.is_some() { "(makes the image)".to_owned() } else { request.name.clone() },
            if *closed { "closed" } else { "open" }.to_owned(),
            format!("{}{most}", plans.len()),
            time(job.created),
            request.expires.map_or_else(|| "never".to_owned(), time),
        ]
    }
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Create(create) => {
            let client = create.site.client()?;
            let image = create.site.image(&create.image.0)?;
            let report = client.create_job(&JobRequest { image, ..create.request()? })?;
            print(common, &report)?;
        }
        Command::List(list) => {
            let jobs = list.site.client()?.jobs()?;
            let rows = jobs.into_iter().map(JobRow).collect();
            print_table(common.format, rows, "No jobs. `gravure plan create` makes one.")?;
        }
        Command::Show(one) => print(common, &one.site.client()?.job(&one.id)?)?,
        Command::Cancel(one) => print(common, &one.site.client()?.cancel_job(&one.id)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn print(common: &Common, report: &JobReport) -> Result<(), Failure> {
    output::document(common.format, report, |report| {
        let request = &report.job.request;
        let disk = match &request.disk {
            DiskRule::Only => "the only one".to_owned(),
            DiskRule::Serial { serial } => format!("serial {serial}"),
            DiskRule::Name { name } => name.clone(),
            DiskRule::Smallest => "the smallest".to_owned(),
            DiskRule::Largest => "the largest".to_owned(),
        };
        if let Some(capture) = &request.capture {
            return capture_text(report, capture, &disk);
        }
        let mut text = format!(
            "job:       {}\nstate:     {}\nmachine:   {}\nimage:     {}:{}\nname:      {}\ndisk:      {disk}{}\nassurance: {}\ncreated:   {}\n",
            report.job.id,
            if report.closed { "closed" } else { "open" },
            request.machine,
            request.image,
            u64::from(request.image_index) + 1,
            request.name,
            if request.wipe { ", data on it may be destroyed" } else { "" },
            request.assurance,
            time(report.job.created),
        );
        if let Some(expires) = request.expires {
            text.push_str(&format!("expires:   {}\n", time(expires)));
        }
        if let Some(windows) = request.windows.as_ref().filter(|windows| !windows.layers.is_empty()) {
            text.push_str(&format!("layers:    {}\n", windows.layers.join(", ")));
        }
        if let Some(restore) = &request.restore {
            text.push_str(&format!("restore:   {}\n", restore_text(restore)));
        }
        for plan in &report.plans {
            text.push_str(&format!("plan:      {plan}\n"));
        }
        text
    })
}

fn restore_text(restore: &RestoreRequest) -> String {
    let words = [
        (!restore.new_ids).then_some("identifiers of the image"),
        (!restore.grow).then_some("file systems keep their size"),
        restore.any_hardware.then_some("onto any hardware"),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A job that makes an image.
fn capture_text(report: &JobReport, capture: &CaptureRequest, disk: &str) -> String {
    let request = &report.job.request;
    let mut text = format!(
        "job:       {}\nstate:     {}\nmachine:   {}\nmakes:     {}{}\nof disk:   {disk}{}\nassurance: {}\ncreated:   {}\n",
        report.job.id,
        if report.closed { "closed" } else { "open" },
        request.machine,
        request.image,
        if capture.replace { ", replacing one of this name" } else { "" },
        if capture.raw { ", every byte of it" } else { "" },
        request.assurance,
        time(report.job.created),
    );
    report.plans.iter().for_each(|plan| text.push_str(&format!("plan:      {plan}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_is_as_usual_unless_something_is_said() {
        let said =
            |keep_ids, no_grow, any_hardware| RestoreOptions { keep_ids, no_grow, any_hardware }.request();
        assert_eq!(said(false, false, false), None);
        let all = said(true, true, true).unwrap();
        assert_eq!(all, RestoreRequest { new_ids: false, grow: false, any_hardware: true });
        let text = "identifiers of the image, file systems keep their size, onto any hardware";
        assert_eq!(restore_text(&all), text);
        let one = said(false, false, true).unwrap();
        assert_eq!(one, RestoreRequest { any_hardware: true, ..RestoreRequest::default() });
    }

    #[test]
    fn disk_rules_and_images() {
        assert_eq!(parse_disk("serial=S 1"), Ok(DiskRule::Serial { serial: "S 1".into() }));
        assert_eq!(parse_disk("name=/dev/vda"), Ok(DiskRule::Name { name: "vda".into() }));
        for text in ["", "serial=", "biggest", "size=3"] {
            assert!(parse_disk(text).is_err(), "{text}");
        }
        assert_eq!(parse_image("a.wim"), Ok(("a.wim".into(), 0)));
        assert_eq!(parse_image("a.wim:2"), Ok(("a.wim".into(), 1)));
        assert!(parse_image("a.wim:0").is_err() && parse_image("a.wim:x").is_err());
    }
}
