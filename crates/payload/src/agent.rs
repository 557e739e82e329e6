//! The agent: network, inventory, plan, execution, report.

mod api;
mod clock;
mod discovery;
mod engine;
mod network;
mod offline;
mod outbox;
mod screen;
mod session;
mod settings;
mod talk;
mod upload;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gravure_linux::BlockDevice;
use gravure_linux::disks::{self, Roots};
use gravure_linux::machine::{self, Collected};
use gravure_model::event::{Known, Observer as _};
use gravure_model::inventory::InstalledWindows;
use gravure_model::messages::Message;

use crate::files::{ABORT_FILE, RUN_DIR};
use engine::Engine;
use outbox::Outbox;
use screen::Screen;
use session::Session;
use settings::Settings;

/// Longest wait for disks to appear; SAS controllers spin theirs up one by one.
const DISK_PATIENCE: Duration = Duration::from_secs(15);
/// Time between two looks at the disks; two equal ones count as settled.
const DISK_INTERVAL: Duration = Duration::from_millis(700);

/// How the agent wants the machine to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Start again through the firmware.
    Restart,
    /// Switch off.
    PowerOff,
}

impl Leave {
    /// Tells init; outside what shells, panics and Rust use.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Restart => 80,
            Self::PowerOff => 81,
        }
    }

    /// The other direction.
    pub fn from_exit_code(code: u8) -> Option<Self> {
        [Self::Restart, Self::PowerOff].into_iter().find(|leave| leave.exit_code() == code)
    }
}

/// Runs the agent; the result is the exit code that init reads.
pub fn run() -> u8 {
    let screen = Arc::new(Screen::new(std::io::stdout()));
    match work(&screen) {
        Ok(leave) => leave.exit_code(),
        Err(why) => {
            screen.line(&format!("The agent cannot work: {why}"));
            screen.line("What to do: check how the server made this boot, then type restart.");
            // Starting again would change nothing; the machine stays on and says so.
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
}

fn work(screen: &Arc<Screen>) -> Result<Leave, String> {
    let settings = Settings::load(Path::new("/"))?;
    if let Some(part) = offline::part(Path::new("/"))? {
        let collected = collect_settled();
        for warning in &collected.warnings {
            screen.line(&format!("Warning: {warning}"));
        }
        let engine = Engine::new(&settings.site.ca_pem);
        return Ok(offline::run(&part, &settings, &collected.inventory, &engine, screen));
    }
    wait_for_randomness()?;
    let dir = Path::new(RUN_DIR);
    let session = Session::resume_or_begin(dir)?;
    let outbox = Arc::new(Outbox::open(dir)?);
    let aborted = outbox.running_plan();
    if let Ok(report) = std::fs::read_to_string(ABORT_FILE) {
        report_abort(&outbox, aborted.as_ref(), &report);
    }
    screen.say(&Message::BringingUpNetwork);
    let network = network::start(Arc::clone(screen));
    let mut collected = collect_settled();
    collected.inventory.windows = Some(installed_windows(&mut collected.warnings));
    for warning in &collected.warnings {
        outbox.event(Known::Warning { stage: None, message: warning.clone() }.into());
    }
    network.wait_for_address(screen);
    let engine = Engine::new(&settings.site.ca_pem);
    let talk = talk::Talk {
        settings,
        session,
        outbox,
        screen: Arc::clone(screen),
        network: Some(network),
        deploy: &engine,
        ended_plans: aborted.into_iter().map(|(plan, _)| plan).collect(),
        dir: dir.to_owned(),
        waits: talk::Waits::default(),
    };
    Ok(talk.run(&collected.inventory))
}

/// Has the kernel gather randomness until it has enough for keys. Reading makes it work for it; merely waiting, which is
/// what libraries do in a static program, would take for ever on a machine without devices that stir.
fn wait_for_randomness() -> Result<(), String> {
    let mut bytes = [0; 32];
    let mut read = std::fs::File::open("/dev/random").map_err(|error| format!("/dev/random: {error}"))?;
    read.read_exact(&mut bytes).map_err(|error| format!("/dev/random: {error}"))
}

/// What init wrote about the agent before this one. A plan it was working on has failed with it.
fn report_abort(outbox: &Outbox, aborted: Option<&(String, String)>, report: &str) {
    let message = report.trim().to_owned();
    match aborted {
        Some((_, stage)) => {
            let stage = stage.clone();
            let cure =
                Some("arm the machine again; if it happens again, report it with these lines".to_owned());
            outbox.event(Known::Failed { stage, code: 1, message, cure }.into());
        }
        None => outbox.event(Known::Warning { stage: None, message }.into()),
    }
    // Told once: it is in the spool now.
    let _ = std::fs::remove_file(ABORT_FILE);
}

/// What Windows is on the disks, for the server to see machines that are copies of one another. Only looks, and what cannot be read
/// (encrypted, damaged) is no reason to hold the machine up.
fn installed_windows(warnings: &mut Vec<String>) -> Vec<InstalledWindows> {
    let all = disks::disks(&Roots::default()).unwrap_or_default();
    let mut found = Vec::new();
    for partition in all.iter().filter(|disk| !disk.removable).flat_map(|disk| &disk.partitions) {
        let Ok(device) = BlockDevice::open_read(&partition.device()) else { continue };
        match gravure_windows::installed_on(&device, &partition.name) {
            Ok(windows) => found.extend(windows),
            Err(error) => warnings.push(crate::files::chain(&error)),
        }
    }
    found
}

/// The inventory once the disks no longer change.
fn collect_settled() -> Collected {
    let start = Instant::now();
    let mut last = machine::collect(&Roots::default());
    loop {
        std::thread::sleep(DISK_INTERVAL);
        let now = machine::collect(&Roots::default());
        let names = |collected: &Collected| -> Vec<String> {
            collected.inventory.disks.iter().map(|disk| disk.name.clone()).collect()
        };
        let settled = names(&now) == names(&last) && !now.inventory.disks.is_empty();
        if settled || start.elapsed() >= DISK_PATIENCE {
            return now;
        }
        last = now;
    }
}
