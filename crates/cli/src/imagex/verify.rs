//! `wim verify`: is every byte what it should be?

use std::process::ExitCode;

use gravure_imaging::{ErrorKind, IntegrityTables, VerifyFileOptions, verify_file};

use super::files::{self, REF, REFS};
use super::options::{Given, flag};
use super::{Command, Console, check_count};
use crate::exit::{Failure, chain};

const USAGE: &str = "  verify WIMFILE [--ref=\"GLOB\"] [--nocheck]";

pub(super) const COMMAND: Command =
    Command { name: "verify", usage: USAGE, run, options: &[&[REF, REFS, flag("nocheck")]] };

fn run(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 1, 1, USAGE)?;
    let file = files::open(&given.arguments[0], given, console)?;
    let tables = if given.has("nocheck") { IntegrityTables::Skip } else { IntegrityTables::Check };
    let options = VerifyFileOptions { tables, ..VerifyFileOptions::default() };
    let report = verify_file(&file, &options, &console.ctl, &console.reporter)?;
    for damage in &report.damage {
        eprintln!("damaged: {}", chain(&damage.error));
    }
    for line in &report.missing {
        eprintln!("missing: {line}");
    }
    if !report.damage.is_empty() || !report.missing.is_empty() {
        let message = format!("{} did not pass", file.name());
        return Err(Failure::new(ErrorKind::Integrity, message));
    }
    console.say(&format!("{:?} was successfully verified.", file.name()))?;
    Ok(ExitCode::SUCCESS)
}
