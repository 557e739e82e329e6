//! `gravure doctor`: why machines may not boot from here.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use gravure_server::doctor::{Check, DoctorOptions, Verdict, dhcp_kinds, dhcp_lines, examine, worst};
use gravure_server::{CONFIG_NAME, Config};
use serde::Serialize;

use crate::Common;
use crate::exit::Failure;
use crate::output;

/// Find out why machines do not boot from this server: ports, other DHCP servers, relays, IPv6, boot files, certificates, clock, space,
/// the store with its copies and cache
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure doctor --site /srv/gravure
  gravure doctor --site /srv/gravure --format json
  gravure doctor --site /srv/gravure --dhcp-config dnsmasq > /etc/dnsmasq.d/gravure.conf

Run it as root on the server, while the server runs: only then it sees who holds which port, asks the network for other DHCP
servers and IPv6 routers, tries its own file services, and looks at the certificate it shows. The lines of --dhcp-config follow
the chain of the site and the loaders it has. It changes nothing. Exit code 1 when something keeps machines from booting.
What single machines did is in `gravure machine journal`.")]
pub(crate) struct Options {
    /// Directory of the site
    #[arg(long, value_name = "DIR", env = "GRAVURE_SITE", default_value = ".")]
    site: PathBuf,
    /// Print the lines that make this DHCP server name our boot files, instead of looking
    #[arg(long, value_name = "SERVER", value_parser = clap::builder::PossibleValuesParser::new(dhcp_kinds()))]
    dhcp_config: Option<String>,
    /// Seconds to wait for offers of DHCP servers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    wait: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    worst: Verdict,
    checks: Vec<Check>,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    if let Some(kind) = &options.dhcp_config {
        return print_lines(options, kind);
    }
    let wanted =
        DoctorOptions { site: options.site.clone(), offers_within: Duration::from_secs(options.wait) };
    let checks = examine(&wanted);
    let report = Report { worst: worst(&checks), checks };
    output::document(common.format, &report, describe)?;
    Ok(if report.worst == Verdict::Problem { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn print_lines(options: &Options, kind: &str) -> Result<ExitCode, Failure> {
    let config = Config::load(&options.site.join(CONFIG_NAME))?;
    output::text(&dhcp_lines(&config, kind)?)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let mark = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Warning => "WARNING",
            Verdict::Problem => "PROBLEM",
        };
        text.push_str(&format!("{mark:<8} {}: {}\n", check.name, check.found));
        if let Some(cure) = &check.cure {
            text.push_str(&format!("         -> {cure}\n"));
        }
    }
    let count = |verdict| report.checks.iter().filter(|check| check.verdict == verdict).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    text.push_str(&format!("{problems} problems, {warnings} warnings\n"));
    text
}
