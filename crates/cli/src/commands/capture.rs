//! `gravure capture`: a directory becomes an image.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use gravure_codec::Level;
use gravure_imaging::{
    AppendOptions, Boot, CaptureOptions, CaptureReport, Earlier, ErrorKind, Exclusions, Integrity,
    IntegrityChange, Mounts, RewriteOptions, ScanOptions, Unfinished, Which, append_directory,
    capture_directory,
};
use gravure_wim::{Compression, Method};
use serde::Serialize;

use super::image::epoch;
use super::rewrite::unfinished;
use crate::exit::{Failure, done_or_partial};
use crate::output::{self, bytes, rate};
use crate::progress::Reporter;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Capture a directory into an image file
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Owners, modes, devices, hard links, symbolic links and extended attributes are kept. With SOURCE_DATE_EPOCH set,
equal directories give equal bytes.

Examples:
  gravure capture /srv/reference reference.wim
  gravure capture /srv/reference reference.wim \"Reference 24.1\" --compress=lzx --check
  gravure capture / root.wim --exclude '/proc/*' --exclude '/sys/*'
  gravure capture data data.wim --compress=xpress:best --progress jsonl
  gravure capture /srv/reference all.wim \"Monday\" --append           one more image in a file that is there
  gravure capture / all.wim \"Tuesday\" --append --update-of all.wim:Monday   unchanged files are not read
  gravure capture / delta.wim --delta-from base.wim                    only what base.wim has not"
)]
pub(crate) struct Options {
    /// Directory to capture
    source: PathBuf,
    /// Image file to write; one of that name is replaced when the new one is complete
    image: PathBuf,
    /// Name of the image [default: name of the directory]
    name: Option<String>,
    /// Description of the image
    #[arg(long)]
    description: Option<String>,
    /// Add the image to a file that has images already; compression is that of the file
    #[arg(long)]
    append: bool,
    /// Do not read files whose path, size and time are those in this earlier image: FILE:N, or N of a file appended to
    #[arg(long, value_name = "IMAGE")]
    update_of: Option<String>,
    /// Do not store what this file holds: the image needs it from then on
    #[arg(long, value_name = "FILE", visible_alias = "ref")]
    delta_from: Vec<PathBuf>,
    /// Make the image the bootable one
    #[arg(long)]
    boot: bool,
    /// none, xpress or lzx, with :fast or :best [default: lzx]
    #[arg(long)]
    compress: Option<Compress>,
    /// Size of a chunk, bytes: a power of two; 32768 is what every Windows reads [default: 32768]
    #[arg(long, value_name = "BYTES", conflicts_with = "append")]
    chunk_size: Option<u32>,
    /// Put a file back that another writer left unfinished, before appending to it
    #[arg(long, requires = "append")]
    recover: bool,
    /// Add an integrity table
    #[arg(long)]
    check: bool,
    /// Leave these paths out (from the root of the directory, with *)
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Capture what is mounted below the directory too
    #[arg(long)]
    follow_mounts: bool,
    /// Threads; one for each processor by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// What every Windows reads.
const DEFAULT_CHUNK_BYTES: u32 = 32768;

/// A method with a level, as in `lzx:best`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compress {
    method: Option<Method>,
    level: Level,
}

impl FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, level) = text.split_once(':').unwrap_or((text, "fast"));
        let method = match method.to_ascii_lowercase().as_str() {
            "none" => None,
            "xpress" | "fast" => Some(Method::Xpress),
            "lzx" | "maximum" => Some(Method::Lzx),
            "lzms" | "recovery" => return Err("LZMS cannot be written yet; use lzx".to_owned()),
            other => return Err(format!("{other:?} is not one of none, xpress, lzx")),
        };
        // Numbers as wimlib's users write them: 50 is its default, above it tries harder.
        let level = match level {
            "fast" => Level::Fast,
            "best" => Level::NearOptimal,
            number => match number.parse::<u32>() {
                Ok(number) if number < 50 => Level::Fast,
                Ok(_) => Level::NearOptimal,
                Err(_) => return Err(format!("level {number:?} is not one of fast, best or a number")),
            },
        };
        Ok(Self { method, level })
    }
}

impl Default for Compress {
    fn default() -> Self {
        Self { method: Some(Method::Lzx), level: Level::Fast }
    }
}

impl Compress {
    /// With the chunks that every Windows reads.
    pub(super) fn compression(self, chunk_size: Option<u32>) -> Result<Option<Compression>, Failure> {
        self.with_chunks(chunk_size.unwrap_or(DEFAULT_CHUNK_BYTES))
    }

    /// With chunks of `chunk_size` bytes.
    fn with_chunks(self, chunk_size: u32) -> Result<Option<Compression>, Failure> {
        let made = self.method.map(|method| Compression::new(method, chunk_size)).transpose();
        made.map_err(|error| {
            Failure::new(ErrorKind::Usage, error.to_string())
                .with_cure("xpress takes 4096 to 65536, lzx 32768 to 2097152; Windows reads 32768 everywhere")
        })
    }

    pub(super) fn level(self) -> Level {
        self.level
    }
}

#[derive(Debug, Serialize)]
struct Captured {
    image: PathBuf,
    files: u64,
    directories: u64,
    content_bytes: u64,
    blobs: u64,
    unread_files: u64,
    file_bytes: u64,
    milliseconds: u64,
    warnings: Vec<String>,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let name = options.name.clone().unwrap_or_else(|| default_name(&options.source));
    let compress = options.compress.unwrap_or_default();
    let capture = CaptureOptions {
        threads: options.threads,
        compression: compress.compression(options.chunk_size)?,
        level: compress.level(),
        name,
        description: options.description.clone(),
        integrity: if options.check { Integrity::Table } else { Integrity::Without },
        scan: ScanOptions {
            mounts: if options.follow_mounts { Mounts::Follow } else { Mounts::Skip },
            exclude: Exclusions::new(options.exclude.clone())?,
            ..ScanOptions::default()
        },
        source_date_epoch: epoch()?,
        delta_from: options.delta_from.clone(),
        boot: if options.boot { Boot::Set } else { Boot::Leave },
        update_of: options.update_of.as_deref().map(|image| earlier(image, options)).transpose()?,
        ..CaptureOptions::default()
    };
    let report = if options.append {
        let rewrite = RewriteOptions {
            integrity: if options.check { IntegrityChange::Make } else { IntegrityChange::Keep },
            unfinished: if options.recover { Unfinished::Recover } else { Unfinished::Refuse },
            ..RewriteOptions::default()
        };
        let append = AppendOptions { capture, rewrite };
        append_directory(&options.source, &options.image, &append, &ctl, &reporter)
            .map_err(|error| unfinished(error, "--recover"))?
    } else {
        capture_directory(&options.source, &options.image, &capture, &ctl, &reporter)?
    };
    print(&options.image, &report, common)?;
    Ok(done_or_partial(report.skipped))
}

/// The image that `--update-of` names: of another file, or by number or name of the one that is appended to.
fn earlier(image: &str, options: &Options) -> Result<Earlier, Failure> {
    let Ok(name) = image.parse::<ImageName>();
    let file = Path::new(&name.file);
    if file.exists() {
        return Ok(Earlier { file: file.to_owned(), which: name.which });
    }
    if !options.append {
        let message = format!("--update-of: {} not found", file.display());
        return Err(Failure::new(ErrorKind::NotFound, message).with_cure("name it as FILE:NUMBER"));
    }
    let which = image.parse().map_or_else(|_| Which::Name(image.to_owned()), Which::Number);
    Ok(Earlier { file: options.image.clone(), which })
}

/// Captures a system that was built from a recipe: everything that differs from build to build is left out.
pub(super) fn capture_system(
    dir: &Path,
    output: &Path,
    options: CaptureOptions,
    compress: Compress,
    reporter: &Reporter,
    ctl: &gravure_model::Ctl,
) -> Result<CaptureReport, Failure> {
    let compression = compress.compression(None)?;
    let options = CaptureOptions { compression, level: compress.level(), ..options };
    Ok(capture_directory(dir, output, &options, ctl, reporter)?)
}

pub(super) fn print(image: &Path, report: &CaptureReport, common: &Common) -> Result<(), Failure> {
    let captured = Captured {
        image: image.to_owned(),
        files: report.files,
        directories: report.directories,
        content_bytes: report.content_bytes,
        blobs: report.blobs,
        unread_files: report.unread_files,
        file_bytes: report.file_bytes,
        milliseconds: report.milliseconds,
        warnings: report.warnings.clone(),
    };
    output::document(common.format, &captured, |captured| {
        let (content, size) = (bytes(captured.content_bytes), bytes(captured.file_bytes));
        let speed = rate(captured.content_bytes, captured.milliseconds);
        let (files, directories) = (captured.files, captured.directories);
        format!(
            "{}: {files} files in {directories} directories, {content} in {size}, {speed}",
            captured.image.display()
        )
    })
}

/// The last name of the directory, as `capture .` should say it too.
fn default_name(source: &Path) -> String {
    let whole = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    whole.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_levels_as_people_write_them() {
        let of = |method, level| Ok(Compress { method, level });
        assert_eq!("none".parse(), of(None, Level::Fast));
        assert_eq!("XPRESS".parse(), of(Some(Method::Xpress), Level::Fast));
        assert_eq!("lzx:best".parse(), of(Some(Method::Lzx), Level::NearOptimal));
        assert_eq!("LZX:20".parse(), of(Some(Method::Lzx), Level::Fast));
        assert_eq!("LZX:100".parse(), of(Some(Method::Lzx), Level::NearOptimal));
        assert!("zip".parse::<Compress>().is_err());
        assert!("lzx:slow".parse::<Compress>().is_err());
    }
}
