//! `gravure split`: an image file cut into parts.

use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::{ErrorKind, split};
use serde::Serialize;

use super::rewrite::Writing;
use crate::exit::{Failure, done_or_partial};
use crate::output::{self, bytes};
use crate::progress::Reporter;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// Split an image file into parts of a given size
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Resources are never cut: a part that holds a larger one is larger than wanted, which is told before anything is
written and ends with exit code 10. FAT32 holds files of up to 4095 MiB.

Examples:
  gravure split install.wim /media/usb/sources/install.swm 3800
  gravure split install.wim disc.swm 650 --check"
)]
pub(crate) struct Options {
    /// Image file
    source: ImageName,
    /// First part; the others get a number before the extension: x.swm, x2.swm, x3.swm
    output: PathBuf,
    /// Largest size of a part, MiB, tables included; fractions such as 0.5 are allowed
    size: PartSize,
    #[command(flatten)]
    writing: Writing,
}

/// A size in MiB, as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PartSize(u64);

impl std::str::FromStr for PartSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no size in MiB");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let millionths: u64 = format!("{fraction:0<6}").parse().map_err(|_| wrong())?;
        let bytes = whole.checked_mul(MIB).and_then(|bytes| bytes.checked_add(millionths * MIB / 1_000_000));
        bytes.filter(|bytes| *bytes > 0).map(Self).ok_or_else(wrong)
    }
}

#[derive(Debug, Serialize)]
struct SplitDone {
    parts: Vec<PartLine>,
    milliseconds: u64,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PartLine {
    file: PathBuf,
    bytes: u64,
    too_large: bool,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let source = options.source.open_file(&[], &ctl)?;
    let rewrite = options.writing.options("split");
    let report =
        split(&source, &options.output, options.size.0, &rewrite, &ctl, &reporter).map_err(|error| {
            let unsupported = error.kind() == ErrorKind::Unsupported;
            let failure = Failure::from(error);
            match unsupported {
                true => {
                    failure.with_cure("`gravure export FILE:all OTHER.wim --compress=lzx`, then split that")
                }
                false => failure,
            }
        })?;
    let parts = (1u16..).zip(report.parts).map(|(number, (file, bytes))| PartLine {
        file,
        bytes,
        too_large: report.too_large.contains(&number),
    });
    let done =
        SplitDone { parts: parts.collect(), milliseconds: report.milliseconds, warnings: report.warnings };
    output::document(common.format, &done, |done| {
        let line = |part: &PartLine| {
            let mark = if part.too_large { "  larger than wanted" } else { "" };
            format!("{}: {}{mark}", part.file.display(), bytes(part.bytes))
        };
        done.parts.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(done_or_partial(report.skipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_mebibytes_and_fractions_of_them() {
        for (text, expected) in [
            ("1", Some(MIB)),
            ("0.5", Some(MIB / 2)),
            ("3800", Some(3800 * MIB)),
            ("1.25", Some(MIB + MIB / 4)),
        ] {
            assert_eq!(text.parse().ok(), expected.map(PartSize), "{text}");
        }
        for text in ["", "0", "-1", "1.x", "1.0000001", "99999999999999999", "."] {
            assert!(text.parse::<PartSize>().is_err(), "{text}");
        }
    }
}
