//! `gravure driver rank`: INF files against the IDs of one device, as Windows ranks them.

use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::ErrorKind;
use gravure_inf::{DeviceIds, Signer};
use serde::Serialize;

use crate::Common;
use crate::commands::inf::{Windows, read_all};
use crate::exit::Failure;
use crate::output::{self, Row};

/// Rank INF files for a device: the first of the list is what Windows would take
#[derive(Debug, clap::Args)]
#[command(
    after_help = "IDs are given in Windows' order, most specific first, with commas or bars between them; `gravure inventory show` prints
those of this machine. Lower ranks are better; of two alike, the newer date wins, then the higher version.
Exit code 3 when no file fits.

Examples:
  gravure driver rank --hwids 'PCI\\VEN_8086&DEV_9A0B' --inf iaStorVD.inf --os 10.0.22631
  gravure driver rank --hwids 'PCI\\VEN_10EC&DEV_8168&REV_15,PCI\\VEN_10EC&DEV_8168' --cids 'PCI\\CC_0200' --inf drivers/ \\
    --os 10.0.19045 --arch amd64 --format json"
)]
pub(crate) struct Options {
    /// Hardware IDs of the device
    #[arg(long, value_name = "IDS", required_unless_present = "cids")]
    hwids: Vec<String>,
    /// Compatible IDs of the device
    #[arg(long, value_name = "IDS")]
    cids: Vec<String>,
    /// INF files, or directories with such
    #[arg(long = "inf", required = true, value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    windows: Windows,
    /// Rank as unsigned
    #[arg(long)]
    unsigned: bool,
}

/// A driver that fits.
#[derive(Debug, Serialize)]
struct Ranked {
    rank: String,
    matching_id: String,
    inf: String,
    section: Option<String>,
    description: String,
    provider: Option<String>,
    class: Option<String>,
    date: Option<String>,
    version: Option<String>,
    feature_score: u8,
    boot_critical: bool,
    service: Option<String>,
}

impl Row for Ranked {
    fn columns() -> &'static [&'static str] {
        &[
            "rank",
            "matching_id",
            "inf",
            "section",
            "description",
            "provider",
            "date",
            "version",
            "boot_critical",
        ]
    }

    fn cells(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            self.rank.clone(),
            self.matching_id.clone(),
            self.inf.clone(),
            text(&self.section),
            self.description.clone(),
            text(&self.provider),
            text(&self.date),
            text(&self.version),
            self.boot_critical.to_string(),
        ]
    }
}

/// IDs of all arguments in order.
fn ids(arguments: &[String]) -> Vec<String> {
    let parts = arguments.iter().flat_map(|argument| argument.split([',', '|']));
    parts.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()).collect()
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let device = DeviceIds { hardware: ids(&options.hwids), compatible: ids(&options.cids) };
    let target = options.windows.target();
    let signer = if options.unsigned { Signer::Untrusted } else { Signer::Trusted };
    let mut found = Vec::new();
    let mut skipped = 0u64;
    for read in read_all(&options.files)? {
        let inf = match read.inf {
            Ok(inf) => inf,
            Err(error) => {
                eprintln!("warning: {}: {error}", read.path.display());
                skipped = skipped.saturating_add(1);
                continue;
            }
        };
        let version = inf.version();
        for matched in inf.matches(&device, &target, signer) {
            let install = inf.install(&matched.model, &target);
            // Windows takes the lower rank, then the newer date, then the higher version.
            let order = (matched.rank, std::cmp::Reverse((version.date, version.version)));
            let ranked = Ranked {
                rank: matched.rank.to_string(),
                matching_id: matched.id,
                inf: read.path.display().to_string(),
                section: install.as_ref().map(|install| install.section.clone()),
                description: matched.model.description.clone(),
                provider: version.provider.clone(),
                class: version.class.clone(),
                date: version.date.map(|date| date.to_string()),
                version: version.version.map(|version| version.to_string()),
                feature_score: inf.feature_score(&matched.model, &target),
                boot_critical: install.as_ref().is_some_and(gravure_inf::Install::is_boot_critical),
                service: install
                    .as_ref()
                    .and_then(|i| i.function_driver())
                    .map(|service| service.name.clone()),
            };
            found.push((order, ranked));
        }
    }
    found.sort_by_key(|(order, _)| *order);
    let none = found.is_empty();
    output::listing(common.format, found.into_iter().map(|(_, ranked)| ranked), |r| {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        format!(
            "{}  {} {}  {}  {}  {}",
            r.rank,
            text(&r.date),
            text(&r.version),
            r.inf,
            r.matching_id,
            r.description
        )
    })?;
    if none {
        return Err(Failure::new(ErrorKind::NotFound, "no driver there fits the device on this Windows"));
    }
    Ok(crate::exit::done_or_partial(skipped))
}
