//! `gravure image export`: images of a store as files that other programs read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_blockimg::facts::FileImages;
use gravure_imaging::{
    BlockImage, BlockImageAt, CaptureForm, CompressionChange, ErrorKind, ExportOptions, FormChange,
    Selection, Which, export, vdisk_error,
};
use gravure_io::{FileAt, ReadAt};
use gravure_model::Ctl;
use gravure_wim::{Compression, Method};

use crate::commands::layout::is_esd;
use crate::commands::rewrite::{Remaking, print};
use crate::exit::{Failure, done_or_partial};
use crate::output;
use crate::progress::Reporter;
use crate::stored;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Make a file for other programs out of an image of a store
#[derive(Debug, clap::Args)]
#[command(
    after_help = "File images become a WIM of their own, compressed as the one they came from unless --compress, --solid or --plain say otherwise;
everything written is read back and held against its SHA-1. Images of disks and partitions become plain files, qcow2 or VHDX, by the name of
the file or --to; chunks are checked before they are written, and what is free takes no place.

Examples:
  gravure image export /srv/store.gim/#win11 install.wim
  gravure image export /srv/store.gim/#win11:2 pro.wim --compress=lzx:best
  gravure image export golden.gim golden.qcow2
  gravure image export /srv/store.gim/#golden golden.vhdx"
)]
pub(super) struct Options {
    /// STORE#NAME, or a .gim file; with :NUMBER or :NAME of a file image
    image: ImageName,
    /// File to write
    output: PathBuf,
    /// Form of a disk [default: by the name of the file]
    #[arg(long, value_enum, value_name = "FORM")]
    to: Option<Form>,
    #[command(flatten)]
    remaking: Remaking,
    /// Take the place of an existing file
    #[arg(long)]
    replace: bool,
}

pub(super) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    if !stored::is_block_name(&options.image.file) {
        let message = format!("{}: neither an image of a store nor a .gim file", options.image.file);
        let cure = "`gravure export` takes images out of WIM files";
        return Err(Failure::new(ErrorKind::Usage, message).with_cure(cure));
    }
    if options.output.exists() && !options.replace {
        let message = format!("{} exists", options.output.display());
        return Err(Failure::new(ErrorKind::Refused, message).with_cure("replace it with --replace"));
    }
    let image = stored::open(&options.image, &ctl)?;
    // What is there stays until the new one is complete.
    let unfinished = Unfinished::beside(&options.output)?;
    if image.holds_files() {
        return export_files(options, image, unfinished, common);
    }
    export_disk(options, image, unfinished, common)
}

/// Forms of virtual disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::commands) enum Form {
    Raw,
    Qcow2,
    Vhdx,
    /// Known by name, not written.
    #[value(skip)]
    Vhd,
}

impl Form {
    /// By the name of the file.
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "raw" | "img" | "bin" => Some(Self::Raw),
            "qcow2" => Some(Self::Qcow2),
            "vhdx" => Some(Self::Vhdx),
            _ => None,
        }
    }
}

#[derive(Debug, serde::Serialize)]
struct Exported {
    file: String,
    form: String,
    size_bytes: u64,
    data_bytes: u64,
    file_bytes: u64,
}

fn export_disk(
    options: &Options,
    image: BlockImage,
    output: Unfinished,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let form = options.to.or_else(|| Form::of(&options.output)).ok_or_else(|| {
        let message = format!("{}: which form?", options.output.display());
        Failure::new(ErrorKind::Usage, message).with_cure("say it with --to raw, qcow2 or vhdx")
    })?;
    let ctl = interrupt::ctl();
    let sector_bytes = image.sector_bytes()?;
    let source = BlockImageAt::new(image);
    let written = write_disk(&source, sector_bytes, form, &output.path, &options.output, &ctl)?;
    output.finish(&options.output)?;
    let exported = Exported {
        file: options.output.display().to_string(),
        form: format!("{form:?}").to_ascii_lowercase(),
        size_bytes: source.size(),
        data_bytes: written.data_bytes,
        file_bytes: written.file_bytes,
    };
    output::document(common.format, &exported, |exported| {
        let (data, size) = (output::bytes(exported.data_bytes), output::bytes(exported.size_bytes));
        format!("{}: {data} of {size} as {}", exported.file, exported.form)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the disk `source` into the new file `path`, which is going to be `output`.
pub(in crate::commands) fn write_disk(
    source: &dyn ReadAt,
    sector_bytes: u32,
    form: Form,
    path: &Path,
    output: &Path,
    ctl: &Ctl,
) -> Result<gravure_vdisk::Written, Failure> {
    let target = FileAt::create(path).map_err(|error| Failure::io("create", path, &error))?;
    let mut goes_on = |_: u64| ctl.check().map_err(std::io::Error::other);
    let written = match form {
        Form::Vhd => {
            let message = format!("{}: VHD files are read, not written", output.display());
            return Err(Failure::new(ErrorKind::Unsupported, message));
        }
        Form::Raw => gravure_vdisk::write_raw(source, &target, &mut goes_on),
        Form::Qcow2 => gravure_vdisk::write_qcow2(source, &target, &mut goes_on),
        Form::Vhdx => {
            let [disk, file, data] = [(); 3].map(|()| *uuid::Uuid::new_v4().as_bytes());
            let ids = gravure_vdisk::VhdxIds { disk, writes: [file, data] };
            gravure_vdisk::write_vhdx(source, sector_bytes, &ids, &target, &mut goes_on)
        }
    };
    ctl.check().map_err(gravure_imaging::Error::from)?;
    Ok(written.map_err(|error| vdisk_error(&output.display().to_string(), error))?)
}

/// A file that gets its name when it is complete, and goes when it is not.
pub(in crate::commands) struct Unfinished {
    _dir: tempfile::TempDir,
    pub(in crate::commands) path: PathBuf,
}

impl Unfinished {
    pub(in crate::commands) fn beside(output: &Path) -> Result<Self, Failure> {
        let dir = output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let made = tempfile::Builder::new().prefix(".gravure-export-").tempdir_in(dir);
        let made = made.map_err(|error| Failure::io("create a directory in", dir, &error))?;
        let path = made.path().join(output.file_name().unwrap_or_default());
        Ok(Self { _dir: made, path })
    }

    pub(in crate::commands) fn finish(self, output: &Path) -> Result<(), Failure> {
        std::fs::rename(&self.path, output).map_err(|error| Failure::io("write", output, &error))
    }
}

fn export_files(
    options: &Options,
    image: BlockImage,
    output: Unfinished,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let facts = image.facts().files.clone().unwrap_or_default();
    let file = image.into_file_images()?;
    let selection = match &options.image.which {
        Which::Only => Selection::All,
        Which::Name(name) if name == "all" && file.find(&options.image.which).is_err() => Selection::All,
        which => Selection::One(file.find(which)?),
    };
    let mut rewrite = options.remaking.options("export", is_esd(&options.output))?;
    if rewrite.compression == CompressionChange::Keep && rewrite.form == FormChange::Keep {
        as_it_was(&facts, &mut rewrite.compression, &mut rewrite.form);
    }
    let how = ExportOptions { rewrite, ..ExportOptions::default() };
    let report = export(&file, selection, &output.path, &how, &ctl, &reporter)?;
    output.finish(&options.output)?;
    print(&options.output, &report, common)?;
    Ok(done_or_partial(report.skipped))
}

/// The compression of the file that the images came from.
fn as_it_was(facts: &FileImages, compression: &mut CompressionChange, form: &mut FormChange) {
    let parsed = facts.compression.split_once(':').and_then(|(method, size)| {
        let method = match method {
            "xpress" => Method::Xpress,
            "lzx" => Method::Lzx,
            "lzms" => Method::Lzms,
            _ => return None,
        };
        Compression::new(method, size.parse().ok()?).ok()
    });
    match parsed {
        Some(solid) if facts.is_solid => *form = FormChange::To(CaptureForm::Solid(solid)),
        other => *compression = CompressionChange::To(other),
    }
}
