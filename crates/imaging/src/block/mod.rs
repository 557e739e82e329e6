//! Block images: devices captured by their used blocks and restored, from and to files, streams and stores.

mod advise;
mod apply;
mod at;
mod browse;
mod capture;
mod described;
mod early;
mod files;
mod fit;
mod image;
mod misfit;
mod opened;
mod plan;
mod read_back;
mod source;
mod stream;
mod table_end;
mod upload;
mod verify;

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use gravure_blockimg::Facts;
use gravure_io::ReadAt;
use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_store::{OnExisting, Store};

use crate::output_file::OutputFile;
use crate::{Error, ErrorKind};

pub use advise::{Advice, Alike, ImageKind, Outlook, advise};
pub use apply::{BlockApplyOptions, BlockApplyReport, BlockVerify, Delta, apply_block_image};
pub use at::BlockImageAt;
pub use capture::{BadSectors, BlockCaptureOptions, BlockCaptureReport, BlockLayout, NameHits};
pub use described::{BLOCK_FORMAT, describe_block_image, describe_stored_image, is_described_block_image};
pub use files::{FilesImport, FilesImportOptions};
pub use fit::{
    FinishReport, FitOptions, FitPlan, FitReport, FittedPartition, Mountable, Mountables, apply_volume_anew,
    finish_file_systems, has_to_be_fitted, is_laid_out_anew, least_disk_bytes, mountables,
};
pub use gravure_disk::transfer::Growth;
pub use gravure_fsmap::Kind as FileSystemKind;
pub use image::BlockImage;
pub use misfit::{Judged, Misfit, hardware_of, is_driven_alike, misfits, system_disk};
pub(crate) use plan::find_partition;
pub use plan::{BlockPlan, BlockPlanOptions, Keep};
pub use source::BlockSource;
pub use stream::{BlockStream, apply_block_stream};
pub use upload::{CaptureTarget, UPLOAD_BATCH_BYTES};
pub use verify::{BlockVerifyReport, verify_block_image};

/// What is captured: the bytes, how they are laid out, and what is said of them.
#[derive(Clone, Copy)]
pub struct BlockCapture<'a> {
    /// The device, below a replayed journal where there is one.
    pub source: &'a dyn ReadAt,
    /// Name for messages.
    pub name: &'a str,
    /// What of it is kept.
    pub layout: &'a BlockLayout,
    /// What the image says of itself.
    pub facts: &'a Facts,
    /// Names what lies where a sector cannot be read.
    pub hits: NameHits<'a>,
}

impl std::fmt::Debug for BlockCapture<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCapture").field("name", &self.name).finish_non_exhaustive()
    }
}

impl BlockCapture<'_> {
    fn job(&self) -> capture::Job<'_> {
        capture::Job {
            source: self.source,
            name: self.name,
            layout: self.layout,
            facts: self.facts,
            hits: self.hits,
        }
    }

    /// Into a file, which gets its name when it is complete.
    pub fn to_file(
        &self,
        path: &Path,
        options: &BlockCaptureOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<BlockCaptureReport, Error> {
        let name = path.display().to_string();
        let output = OutputFile::create(path)?;
        let mut writer: &std::fs::File = output.file().file();
        let (report, _) = capture::to_writer(&self.job(), &mut writer, &name, options, ctl, observer)?;
        output.commit()?;
        Ok(report)
    }

    /// Into anything that takes bytes, front to back.
    pub fn to_stream(
        &self,
        output: &mut dyn Write,
        name: &str,
        options: &BlockCaptureOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<BlockCaptureReport, Error> {
        let (report, output) = capture::to_writer(&self.job(), output, name, options, ctl, observer)?;
        output.flush().map_err(Error::io("write", name))?;
        Ok(report)
    }

    /// Into a store, as its image `image`.
    pub fn to_store(
        &self,
        store: &Store,
        image: &str,
        existing: OnExisting,
        options: &BlockCaptureOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<BlockCaptureReport, Error> {
        capture::to_store(&self.job(), store, image, existing, options, ctl, observer)
    }

    /// Into a store elsewhere: only what it lacks is sent. `stored_bytes` of the report is what was.
    pub fn to_target(
        &self,
        target: &dyn CaptureTarget,
        options: &BlockCaptureOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<BlockCaptureReport, Error> {
        upload::to_target(&self.job(), target, options, ctl, observer)
    }
}

/// The whole of a device, whatever stands on it: only zeros are left out.
pub fn whole_device(size: u64) -> BlockLayout {
    let used = gravure_blockimg::UsedSpan { offset: 0, len: size, excluded: None };
    BlockLayout { used: (size > 0).then_some(used).into_iter().collect(), files: Vec::new() }
}

/// Nothing is known about what lies where.
pub fn no_hits(_: &Range<u64>) -> Vec<String> {
    Vec::new()
}

/// Whether a file begins as a block image does.
pub fn is_block_image(path: &Path) -> bool {
    let mut head = [0; 8];
    let read = std::fs::File::open(path)
        .and_then(|file| std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0));
    read.is_ok() && gravure_blockimg::is_image(&head)
}

/// For `map_err` after a call of `gravure-blockimg`.
pub(crate) fn blockimg<'a>(name: impl ToString + 'a) -> impl FnOnce(gravure_blockimg::Error) -> Error + 'a {
    move |source| {
        let what = name.to_string();
        match source {
            gravure_blockimg::Error::Io { what: attempt, offset, source } => {
                // An error of ours that travelled through a reader comes out as itself.
                match source.downcast::<Error>() {
                    Ok(own) => own,
                    Err(source) => {
                        let kind = match source.kind() {
                            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => {
                                ErrorKind::Integrity
                            }
                            _ => ErrorKind::Io,
                        };
                        let source = gravure_blockimg::Error::Io { what: attempt, offset, source };
                        Error::Other { what, source: source.into(), kind }
                    }
                }
            }
            source => {
                let kind = match &source {
                    gravure_blockimg::Error::Unsupported { .. } | gravure_blockimg::Error::Limit { .. } => {
                        ErrorKind::Unsupported
                    }
                    error if error.is_integrity() => ErrorKind::Integrity,
                    _ => ErrorKind::Failed,
                };
                Error::Other { what, source: source.into(), kind }
            }
        }
    }
}

/// The family of an error of the store.
pub fn store_error_kind(error: &gravure_store::Error) -> ErrorKind {
    if let gravure_store::Error::Format { source, .. } = error
        && matches!(
            **source,
            gravure_blockimg::Error::Unsupported { .. } | gravure_blockimg::Error::Limit { .. }
        )
    {
        return ErrorKind::Unsupported;
    }
    match error.kind() {
        gravure_store::ErrorKind::NotFound => ErrorKind::NotFound,
        gravure_store::ErrorKind::Integrity => ErrorKind::Integrity,
        gravure_store::ErrorKind::Io => ErrorKind::Io,
        gravure_store::ErrorKind::Network => ErrorKind::Network,
        gravure_store::ErrorKind::Refused => ErrorKind::Refused,
        gravure_store::ErrorKind::Permission => ErrorKind::Permission,
        gravure_store::ErrorKind::Interrupted => ErrorKind::Interrupted,
        _ => ErrorKind::Failed,
    }
}

/// An error of the store, in its family.
pub(crate) fn store_error(source: gravure_store::Error) -> Error {
    let kind = store_error_kind(&source);
    Error::Other { what: "store".to_owned(), source: source.into(), kind }
}
