//! PID 1: mounts, clock, consoles, drivers, the agent's keeper, orphans, the end of the machine.
//!
//! **Invariant:** nothing here returns or panics out: the kernel would stop. What fails is told on the consoles and
//! kept in the log ring, and the machine stays on for somebody to look at.

mod clock;
mod commands;
mod console;
mod drivers;
mod ending;
mod keeper;
mod kernel_log;
mod mounts;
mod ring;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gravure_linux::kernel::{self, End};
use gravure_linux::machine::Uevents;
use gravure_linux::process::{self, Signal, Signals};
use gravure_linux::sysfs;
use gravure_model::messages::{Language, Message};

use console::Consoles;
use drivers::Drivers;
use keeper::{Keeper, Verdict};

/// Kernel messages below this level reach the consoles: errors, not chatter.
const CONSOLE_LEVEL: u8 = 4;
const ALL_LEVELS: u8 = 8;
/// How long devices may keep coming before the agent starts; it looks again itself.
const SETTLE: Duration = Duration::from_millis(1500);

/// Runs as PID 1. Comes back only when the kernel refuses to end the machine.
pub fn run() -> ExitCode {
    let outcome = catch_unwind(AssertUnwindSafe(boot));
    if outcome.is_err() {
        eprintln!(
            "gravure: init failed; the machine stays on. Ctrl-Alt-Del or the power switch restarts it."
        );
    }
    // An init that ends stops the kernel, so orphans are still collected.
    loop {
        let _ = process::reap();
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Serves the kernel's requests for modules: loads what each name or alias stands for.
pub fn modprobe(names: &[String]) -> u8 {
    match Drivers::open() {
        Ok(drivers) => u8::from(!names.iter().all(|name| drivers.load_for(name).is_ok())),
        Err(_) => 1,
    }
}

fn boot() {
    let mount_problems = mounts::mount_all();
    // Before any thread is made, so that no signal ends one of them.
    let signals = Signals::take(&[
        Signal::Child,
        Signal::Terminate,
        Signal::Interrupt,
        Signal::User1,
        Signal::User2,
        Signal::Power,
    ]);
    let consoles = Arc::new(Consoles::open());
    consoles.say(&Message::Welcome { version: crate::VERSION.to_owned() }.text(Language::English));
    for problem in mount_problems {
        consoles.say(&problem);
    }
    report(&consoles, kernel::set_console_level(console_level()));
    report(&consoles, kernel::catch_ctrl_alt_del());
    if let Some(line) = clock::set_to_no_less_than_build_time() {
        consoles.say(&line);
    }
    process::clear_umask();
    load_drivers(&consoles);
    commands::listen(&consoles);
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            consoles.say(&format!("signals cannot be taken: {error}"));
            return;
        }
    };
    supervise(&consoles, &signals);
}

/// Which kernel messages people see; `gravure.debug` on the kernel's command line shows them all.
fn console_level() -> u8 {
    let command_line = sysfs::text(Path::new("/proc/cmdline")).unwrap_or_default();
    if command_line.split_whitespace().any(|word| word == "gravure.debug") {
        ALL_LEVELS
    } else {
        CONSOLE_LEVEL
    }
}

fn report(consoles: &Consoles, result: Result<(), gravure_linux::Error>) {
    if let Err(error) = result {
        consoles.say(&crate::files::chain(&error));
    }
}

/// Loads drivers for what is there, then keeps a thread loading for what comes later.
fn load_drivers(consoles: &Arc<Consoles>) {
    consoles.say(&Message::LoadingDrivers.text(Language::English));
    let drivers = match Drivers::open() {
        Ok(drivers) => drivers,
        Err(why) => {
            consoles.say(&format!("no kernel modules: {why}"));
            return;
        }
    };
    drivers.serve_kernel_requests();
    // Listen first: what appears between the walk and the listening would be missed.
    let news = Uevents::open();
    drivers.cold_plug(SETTLE);
    consoles.note(&drivers.summary());
    let consoles = Arc::clone(consoles);
    match news {
        Ok(news) => {
            std::thread::spawn(move || drivers.follow(&news, &consoles));
        }
        Err(error) => consoles.say(&format!("devices plugged in later are not seen: {error}")),
    }
}

/// Keeps the agent running and acts on signals until the machine ends.
fn supervise(consoles: &Arc<Consoles>, signals: &Signals) {
    let mut keeper = Keeper::new(Arc::clone(consoles));
    keeper.start();
    loop {
        let wanted = match signals.next(keeper.next_wait()) {
            Ok(Some((Signal::Child, _))) | Ok(None) => None,
            Ok(Some((Signal::Interrupt | Signal::Terminate, _))) => Some(End::Restart),
            Ok(Some((Signal::User2 | Signal::Power, _))) => Some(End::PowerOff),
            Ok(Some((Signal::User1, _))) => Some(End::Halt),
            Ok(Some(_)) => None,
            Err(error) => {
                consoles.say(&error.to_string());
                std::thread::sleep(Duration::from_secs(1));
                None
            }
        };
        // Several children may have ended behind one signal.
        let mut verdict = None;
        while let Ok(Some((pid, exit))) = process::reap() {
            verdict = verdict.or(keeper.ended(pid, exit));
        }
        let wanted = wanted.or(match verdict {
            Some(Verdict::End(how)) => Some(how),
            _ => None,
        });
        if let Some(how) = wanted.or(commands::taken()) {
            ending::end(consoles, how);
        }
        keeper.tick();
    }
}
