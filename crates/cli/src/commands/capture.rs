//! `gravure capture`: a directory or an NTFS volume becomes an image.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use gravure_codec::Level;
use gravure_imaging::{
    AppendOptions, Boot, CaptureConfig, CaptureForm, CaptureOptions, CaptureReport, CaptureSource, Earlier,
    ErrorKind, Exclusions, ImageFile, Integrity, IntegrityChange, Keep, Mounts, NameCase, RewriteOptions,
    ScanOptions, SecurityMetadata, Symlinks, UncleanVolumes, Unfinished, UnixMetadata, Which, append,
    capture, capture_directory, capture_sources_to_pipe, read_text, read_text_file,
};
use gravure_model::Ctl;
use gravure_wim::{Compression, Method};
use serde::Serialize;

use super::block;
use super::image::epoch;
use super::layout::{Layout, Wanted, is_esd};
use super::rewrite::unfinished;
use crate::exit::{Failure, done_or_partial};
use crate::imagex::parse_source_list;
use crate::output::{self, bytes, rate};
use crate::progress::Reporter;
use crate::stored::{is_address, is_block_name};
use crate::target::{ImageName, open};
use crate::{Common, interrupt, keys, limits};

/// Capture a directory or an NTFS volume into an image file
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Owners, modes, devices, hard links, symbolic links and extended attributes are kept. With SOURCE_DATE_EPOCH set,
equal directories give equal bytes.

A partition or a file with an NTFS volume is read without mounting it, with security descriptors, short names, streams, links,
reparse points, object ids and extended attributes; compressed files come out plain. Page files, hibernation files and
System Volume Information are left out, as Windows' own tools do.

Of a disk, or a file with the bytes of one (raw, qcow2, VHD, VHDX), FILE:NUMBER is a partition.

What the image holds of Windows is noted in it: version, edition, processor, languages, as other tools show them and as
`gravure apply --compact=auto` asks for them.

A partition, disk or file captured into a name that ends in .gim becomes a block image: the bytes its file systems use, in chunks
that other images share. With a slash at the end the name is a store, which keeps every chunk once.

Examples:
  gravure capture /srv/reference reference.wim
  gravure capture /dev/sda disk.gim                       a whole disk, used blocks only
  gravure capture /dev/sda3 images.gim/ golden            a partition into a store, as its image golden
  gravure capture /dev/sda - --block | ssh server 'cat > disk.gim'
  gravure capture /srv/reference reference.wim \"Reference 24.1\" --compress=lzx --check
  gravure capture /dev/sda3 windows.wim \"Windows 11\"
  gravure capture machine.vhdx:3 windows.wim              the third partition of a virtual disk
  gravure capture / root.wim --exclude '/proc/*' --exclude '/sys/*'
  gravure capture list.txt all.wim --source-list          several directories, a line each: PATH and where it goes
  gravure capture data data.wim --compress=xpress:best --progress jsonl
  gravure capture data data.wim --solid --solid-compress=lzx     all files compressed together: smaller
  gravure capture data - --pipable | ssh server 'cat > data.wim'
  gravure capture / - --pipable --exclude '/proc/*' | gravure apply - /mnt/copy
  gravure capture /srv/reference all.wim \"Monday\" --append           one more image in a file that is there
  gravure capture / all.wim \"Tuesday\" --append --update-of all.wim:Monday   unchanged files are not read
  gravure capture / delta.wim --delta-from base.wim                    only what base.wim has not"
)]
pub(crate) struct Options {
    /// Directory, partition, or file with an NTFS volume; with :NUMBER a partition of a disk or disk file
    source: PathBuf,
    /// Image file to write; one of that name is replaced when the new one is complete. With --pipable, - is standard output
    image: PathBuf,
    /// Name of the image [default: name of the directory]
    name: Option<String>,
    /// Description of the image
    #[arg(long)]
    description: Option<String>,
    /// none, xpress, lzx or lzms, with :fast, :balanced (the default) or :best [default: lzx; lzms with solid lzms]
    #[arg(long)]
    compress: Option<Compress>,
    /// Size of a chunk, bytes or with K, M, G: a power of two [default: 32K, which every Windows reads; lzms: 128K]
    #[arg(long, value_name = "SIZE", value_parser = chunk_size)]
    chunk_size: Option<u32>,
    #[command(flatten)]
    layout: Layout,
    /// Add the image to a file that has images already; compression is that of the file
    #[arg(long, conflicts_with_all = ["solid", "pipable", "chunk_size"])]
    append: bool,
    /// Do not read files whose path, size and time are those in this earlier image: FILE:N, or N of a file appended to
    #[arg(long, value_name = "IMAGE")]
    update_of: Option<String>,
    /// Do not store what this file holds: the image needs it from then on
    #[arg(long, value_name = "FILE", visible_alias = "ref")]
    delta_from: Vec<String>,
    /// Make the image the bootable one
    #[arg(long)]
    boot: bool,
    /// Put a file back that another writer left unfinished, before appending to it
    #[arg(long, requires = "append")]
    recover: bool,
    /// Add an integrity table
    #[arg(long)]
    check: bool,
    /// Leave these paths out (from the root of the directory, with *)
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Capture configuration: what its [ExclusionList] names is left out, what its [ExclusionException] names is not
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// SOURCE is a text file, or - for standard input: each line a path and, behind a space, its place in the image
    #[arg(long, conflicts_with_all = ["update_of", "raw", "block"])]
    source_list: bool,
    /// What symbolic links lead to takes their place
    #[arg(long)]
    dereference: bool,
    /// Make absolute links that lead into the directory start at its root, so that they are right wherever the image is applied
    #[arg(long, conflicts_with = "dereference", overrides_with = "norpfix")]
    rpfix: bool,
    /// Keep links as they are, which is the default
    #[arg(long, overrides_with = "rpfix")]
    norpfix: bool,
    /// Keep owners, modes, devices and extended attributes, which is the default
    #[arg(long, overrides_with = "no_unix_data")]
    unix_data: bool,
    /// Take only what Windows knows: no owners, modes, extended attributes; no devices, pipes and sockets
    #[arg(long, overrides_with = "unix_data")]
    no_unix_data: bool,
    /// Volumes: leave security descriptors out
    #[arg(long, conflicts_with = "strict_acls")]
    no_acls: bool,
    /// Volumes: end when a security descriptor cannot be read
    #[arg(long)]
    strict_acls: bool,
    /// Edition that Windows Setup goes by [default: as the Windows that is captured says]
    #[arg(long, value_name = "EDITION")]
    flags: Option<String>,
    /// Capture what is mounted below the directory too
    #[arg(long)]
    follow_mounts: bool,
    /// Read an NTFS volume that is marked dirty, has a log to be replayed, or on which Windows sleeps
    #[arg(long)]
    force_dirty: bool,
    /// Make a block image: for standard output, where no name ending in .gim says so
    #[arg(long)]
    block: bool,
    /// Block images: keep every byte, whatever its file system uses; an encrypted or unclean one can only be kept so
    #[arg(long)]
    raw: bool,
    /// Block images: open encrypted volumes (LUKS, BitLocker) with what this file holds: passphrase, recovery password, key file; may
    /// be given several times. What is inside is imaged, not encrypted
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    key_file: Vec<PathBuf>,
    /// Block images: level of zstd, 1 to 19, or below 0 for more speed
    #[arg(long, value_name = "N", default_value_t = 1, allow_hyphen_values = true)]
    zstd: i32,
    /// Block images in a store: take the place of the image of this name
    #[arg(long)]
    replace: bool,
    /// Block images: image that this one is made after [default: the one whose place it takes]
    #[arg(long, value_name = "IMAGE")]
    parent: Option<ImageName>,
    /// Block images: inventory (JSON) of the machine that the source belongs to [default: this one, when the source is a device]
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,
    /// Threads; one for each processor by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// A method with a level, as in `lzx:best`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compress {
    method: Option<Method>,
    level: Level,
}

impl FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, level) = text.split_once(':').unwrap_or((text, "balanced"));
        let method = match method.to_ascii_lowercase().as_str() {
            "none" => None,
            "xpress" | "fast" => Some(Method::Xpress),
            "lzx" | "maximum" => Some(Method::Lzx),
            "lzms" | "recovery" => Some(Method::Lzms),
            other => return Err(format!("{other:?} is not one of none, xpress, lzx, lzms")),
        };
        // Numbers as wimlib's users write them: 50 is its default, above it tries harder.
        let level = match level {
            "fast" => Level::Fast,
            "balanced" => Level::Balanced,
            "best" => Level::NearOptimal,
            number => match number.parse::<u32>() {
                Ok(number) if number < 50 => Level::Fast,
                Ok(50) => Level::Balanced,
                Ok(_) => Level::NearOptimal,
                Err(_) => {
                    return Err(format!("level {number:?} is not one of fast, balanced, best or a number"));
                }
            },
        };
        Ok(Self { method, level })
    }
}

/// What is written when nothing else is asked for.
impl Default for Compress {
    fn default() -> Self {
        Self { method: Some(Method::Lzx), level: Level::default() }
    }
}

impl Compress {
    /// What goes with solid images of Windows.
    pub(super) const LZMS: Self = Self { method: Some(Method::Lzms), level: Level::Balanced };

    /// With chunks of `chunk_size` bytes, or of the size that Windows uses for the method.
    pub(super) fn with_chunks(self, chunk_size: Option<u32>) -> Result<Option<Compression>, Failure> {
        let of = |method| {
            let size = chunk_size.unwrap_or(if method == Method::Lzms { LZMS_CHUNK } else { CHUNK });
            compression(method, size)
        };
        self.method.map(of).transpose()
    }

    /// With chunks for a solid image.
    pub(super) fn solid(self, chunk_size: Option<u32>) -> Result<Compression, Failure> {
        let method = self.method.ok_or_else(|| {
            let message = "--solid-compress=none: without compression a solid image has no use";
            Failure::new(ErrorKind::Usage, message).with_cure("leave out --solid")
        })?;
        let (_, most) = Compression::chunk_range(method);
        let size = chunk_size.unwrap_or(most.min(MAX_SOLID_CHUNK));
        compression(method, size)
    }

    pub(super) fn level(self) -> Level {
        self.level
    }
}

/// Chunks that every Windows reads, those of LZMS, and the largest of solid images.
const CHUNK: u32 = 32 << 10;
const LZMS_CHUNK: u32 = 128 << 10;
const MAX_SOLID_CHUNK: u32 = 64 << 20;

fn compression(method: Method, chunk_size: u32) -> Result<Compression, Failure> {
    let made = Compression::new(method, chunk_size).map_err(|error| error.to_string());
    let made = made.map_err(|message| {
        Failure::new(ErrorKind::Usage, message).with_cure(
            "xpress takes 4K to 64K, lzx 32K to 2M, lzms 32K to 64M; Windows reads xpress and lzx with 32K everywhere",
        )
    })?;
    limits::grant_chunk(made.chunk_size())?;
    Ok(made)
}

/// A number of bytes, or of KiB, MiB or GiB.
pub(super) fn chunk_size(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.to_ascii_uppercase().as_str() {
        upper if upper.ends_with('K') => (&text[..text.len() - 1], 1 << 10),
        upper if upper.ends_with('M') => (&text[..text.len() - 1], 1 << 20),
        upper if upper.ends_with('G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1u32),
    };
    let bytes = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("{text:?} is no size, such as 32768, 32K or 64M"))
}

impl Options {
    /// How contents are laid out and compressed: form, compression of the file, level of the contents.
    fn form(&self) -> Result<(CaptureForm, Option<Compression>, Level), Failure> {
        match self.layout.wanted(is_esd(&self.image))? {
            Wanted::Solid { compression, level, beside } => {
                let compress = self.compress.or(beside).unwrap_or_default();
                Ok((CaptureForm::Solid(compression), compress.with_chunks(self.chunk_size)?, level))
            }
            wanted => {
                let compress = self.compress.unwrap_or_default();
                let form = if wanted == Wanted::Pipable { CaptureForm::Pipable } else { CaptureForm::Normal };
                Ok((form, compress.with_chunks(self.chunk_size)?, compress.level()))
            }
        }
    }
}

impl Options {
    /// What is captured: one directory, volume or partition, or what a list names.
    fn sources(&self) -> Result<Vec<CaptureSource>, Failure> {
        if self.source_list {
            let text = match self.source.to_str() {
                Some("-") => read_text(io::stdin().lock(), "standard input")?,
                _ => read_text_file(&self.source)?,
            };
            let list = parse_source_list(&text);
            return list
                .map_err(|why| Failure::new(ErrorKind::Usage, format!("{}: {why}", self.source.display())));
        }
        if self.source.exists() {
            return Ok(vec![CaptureSource::root(&self.source)]);
        }
        // What follows the last colon is a partition, when what stands before it is there.
        let named = self.source.to_str().and_then(|text| text.rsplit_once(':'));
        let named = named.filter(|(disk, _)| Path::new(disk).exists());
        match named.and_then(|(disk, number)| Some((disk, number.parse().ok()?))) {
            Some((disk, number)) => Ok(vec![CaptureSource::partition(Path::new(disk), number)]),
            None => Ok(vec![CaptureSource::root(&self.source)]),
        }
    }

    /// How it is read.
    fn scan(&self) -> Result<ScanOptions, Failure> {
        let mut exclude = Exclusions::new(self.exclude.clone())?;
        if let Some(path) = &self.config {
            let config = CaptureConfig::read(path, NameCase::Ignore)?;
            config.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
            exclude = exclude.with_config(config);
        }
        let symlinks = match (self.dereference, self.rpfix && !self.norpfix) {
            (true, _) => Symlinks::Follow,
            (false, true) => Symlinks::Rebase,
            (false, false) => Symlinks::Keep,
        };
        let security = match (self.no_acls, self.strict_acls) {
            (true, _) => SecurityMetadata::Leave,
            (false, true) => SecurityMetadata::Require,
            (false, false) => SecurityMetadata::Keep,
        };
        Ok(ScanOptions {
            mounts: if self.follow_mounts { Mounts::Follow } else { Mounts::Skip },
            symlinks,
            unix: if self.no_unix_data && !self.unix_data { UnixMetadata::Leave } else { UnixMetadata::Keep },
            exclude,
            unclean: if self.force_dirty { UncleanVolumes::Read } else { UncleanVolumes::Refuse },
            security,
            ..ScanOptions::default()
        })
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
    let name = options.name.clone().unwrap_or_else(|| default_name(&options.source));
    if options.block || is_block_name(&options.image.to_string_lossy()) {
        let wanted = block::Capture {
            source: &options.source,
            image: &options.image,
            name,
            description: options.description.clone(),
            keep: if options.raw { Keep::Everything } else { Keep::Used },
            level: options.zstd,
            keys: keys::keys(&options.key_file)?,
            replace: options.replace,
            threads: options.threads,
            created_unix_seconds: epoch()?,
            parent: options.parent.as_ref(),
            machine: options.machine.as_deref(),
        };
        return block::capture(&wanted, common);
    }
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let (form, compression, level) = options.form()?;
    let sources = options.sources()?;
    let how = CaptureOptions {
        threads: options.threads,
        compression,
        form,
        level,
        name,
        description: options.description.clone(),
        integrity: if options.check { Integrity::Table } else { Integrity::Without },
        properties: options.flags.iter().map(|flags| ("FLAGS".to_owned(), flags.clone())).collect(),
        scan: options.scan()?,
        source_date_epoch: epoch()?,
        delta_from: options.delta_from.iter().map(|base| open(base, &ctl)).collect::<Result<_, _>>()?,
        boot: if options.boot { Boot::Set } else { Boot::Leave },
        update_of: options.update_of.as_deref().map(|image| earlier(image, options, &ctl)).transpose()?,
        ..CaptureOptions::default()
    };
    if options.image == Path::new("-") {
        if form != CaptureForm::Pipable {
            let message = "standard output takes pipable images only";
            return Err(Failure::new(ErrorKind::Usage, message).with_cure("add --pipable, or name a file"));
        }
        // The image is the result; what is said about it goes to standard error.
        let mut out = io::stdout().lock();
        let report = capture_sources_to_pipe(&sources, &mut out, "standard output", &how, &ctl, &reporter)
            .map_err(unclean)?;
        reporter.say(&line(&options.image, &report));
        return Ok(done_or_partial(report.skipped));
    }
    let report = if options.append {
        let rewrite = RewriteOptions {
            integrity: if options.check { IntegrityChange::Make } else { IntegrityChange::Keep },
            unfinished: if options.recover { Unfinished::Recover } else { Unfinished::Refuse },
            limits: limits::current(),
            ..RewriteOptions::default()
        };
        let how = AppendOptions { capture: how, rewrite };
        append(&sources, &options.image, &how, &ctl, &reporter)
            .map_err(|error| unfinished(error, "--recover"))?
    } else {
        capture(&sources, &options.image, &how, &ctl, &reporter).map_err(unclean)?
    };
    print(&options.image, &report, common)?;
    Ok(done_or_partial(report.skipped))
}

/// A volume that is not read as it stands has a cure of its own.
pub(super) fn unclean(error: gravure_imaging::Error) -> Failure {
    let is_unclean = matches!(error, gravure_imaging::Error::Refused { .. });
    let failure = Failure::from(error);
    match is_unclean {
        true => failure.with_cure(
            "start its Windows and shut it down with `shutdown /s /t 0`, or read it all the same with --force-dirty",
        ),
        false => failure,
    }
}

/// The image that `--update-of` names: of another file, or by number or name of the one that is appended to.
fn earlier(image: &str, options: &Options, ctl: &Ctl) -> Result<Earlier, Failure> {
    let Ok(name) = image.parse::<ImageName>();
    if is_address(&name.file) || Path::new(&name.file).exists() {
        return Ok(Earlier { file: open(&name.file, ctl)?, which: name.which });
    }
    if !options.append {
        let message = format!("--update-of: {} not found", name.file);
        return Err(Failure::new(ErrorKind::NotFound, message).with_cure("name it as FILE:NUMBER"));
    }
    let which = image.parse().map_or_else(|_| Which::Name(image.to_owned()), Which::Number);
    Ok(Earlier { file: ImageFile::open_path_within(&options.image, &limits::current())?, which })
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
    let compression = compress.with_chunks(None)?;
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
    output::document(common.format, &captured, |_| line(image, report))
}

fn line(image: &Path, report: &CaptureReport) -> String {
    let (content, size) = (bytes(report.content_bytes), bytes(report.file_bytes));
    let speed = rate(report.content_bytes, report.milliseconds);
    let (files, directories) = (report.files, report.directories);
    format!("{}: {files} files in {directories} directories, {content} in {size}, {speed}", image.display())
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
        assert_eq!("none".parse(), of(None, Level::Balanced));
        assert_eq!("XPRESS:fast".parse(), of(Some(Method::Xpress), Level::Fast));
        assert_eq!("lzx:best".parse(), of(Some(Method::Lzx), Level::NearOptimal));
        assert_eq!("LZMS:50".parse(), of(Some(Method::Lzms), Level::Balanced));
        assert_eq!("LZX:20".parse(), of(Some(Method::Lzx), Level::Fast));
        assert_eq!("LZX:100".parse(), of(Some(Method::Lzx), Level::NearOptimal));
        assert_eq!("LZMS".parse(), of(Some(Method::Lzms), Level::Balanced));
        assert!("zip".parse::<Compress>().is_err());
        assert!("lzx:slow".parse::<Compress>().is_err());
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, expected) in [("32768", 32768), ("32K", 32768), ("64m", 64 << 20), ("1G", 1 << 30)] {
            assert_eq!(chunk_size(text), Ok(expected), "{text}");
        }
        for text in ["", "K", "4G", "-1", "1.5M", "32KB"] {
            assert!(chunk_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_and_options_decide_the_form() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            options: Options,
        }
        let form = |arguments: &[&str]| {
            let all = ["capture", "dir"].iter().chain(arguments);
            Only::try_parse_from(all).map_err(|_| 2)?.options.form().map_err(|failure| failure.code)
        };
        let lzx = |size| Compression::new(Method::Lzx, size).unwrap();
        let normal = (CaptureForm::Normal, Some(Compression::LZX_32K), Level::Balanced);
        assert_eq!(form(&["x.wim"]), Ok(normal));
        let solid = (CaptureForm::Solid(lzx(2 << 20)), Some(Compression::LZX_32K), Level::NearOptimal);
        assert_eq!(form(&["x.esd", "--solid-compress=lzx:best"]), Ok(solid));
        let small = (CaptureForm::Solid(lzx(1 << 16)), None, Level::Balanced);
        let arguments = ["x.wim", "--solid-compress=lzx", "--solid-chunk-size=64K", "--compress=none"];
        assert_eq!(form(&arguments), Ok(small));
        let pipable = (CaptureForm::Pipable, Some(Compression::XPRESS_32K), Level::Balanced);
        assert_eq!(form(&["-", "--pipable", "--compress=xpress"]), Ok(pipable));
        assert_eq!(form(&["x.wim", "--solid", "--pipable"]), Err(2));
        assert_eq!(form(&["x.wim", "--pipable", "--solid-compress=lzx"]), Err(2));
        assert_eq!(form(&["x.wim", "--solid-compress=none"]), Err(2));
        assert_eq!(form(&["x.wim", "--solid-compress=xpress", "--solid-chunk-size=1M"]), Err(2));
        assert_eq!(form(&["x.wim", "--solid-compress=lzms", "--solid-chunk-size=128M"]), Err(2));
    }
}
