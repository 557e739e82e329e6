//! Changing a file where it is. New bytes go behind its end; its header, written last, makes them valid.
//!
//! **Crashes:** until that last write the header on disk is the old one with the in-progress flag, and nothing that it
//! points to was touched. A failure puts the flag back and cuts the new bytes off; after a crash [`Unfinished::Recover`]
//! does the same.
//!
//! In a **pipable** file everything has its place, and what is behind the end would be behind the tables. It is taken apart into
//! an ordinary file beside it, that is changed, and put together again in a new file, which then takes its name. Chunks are
//! copied as they are stored both times.

use std::collections::HashSet;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use gravure_io::{FileAt, ReadAt, WriteAt};
use gravure_tree::Sha1Hash;
use gravure_wim::{HEADER_BYTES, HeaderFlags, Layout, Limits, Wim, WimTarget, WimWriter};

use super::export::has_integrity;
use super::new_file::{Batch, Recipe, fill, write_new};
use super::{FormChange, ReadBack, Recompress, RewriteOptions, Unfinished, read_back};
use crate::capture::{CaptureForm, Known, Missing};
use crate::meter::{Context, Meter};
use crate::output_file::OutputFile;
use crate::{Error, ImageFile, IntegrityChange, integrity};

/// Where the flags stand in a header (wim-container section 2).
const FLAGS_OFFSET: usize = 0x10;

/// A file that is opened to be changed, locked against other writers for as long as this lives.
#[derive(Debug)]
pub(crate) struct InPlace {
    path: PathBuf,
    target: Locked,
    file: ImageFile,
    /// As it was before the flag was set.
    header: Vec<u8>,
    size: u64,
}

/// What a change wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) old_file_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) images: u32,
}

impl InPlace {
    /// Opens `path`. Nothing is written yet, but to recover an unfinished file when that is asked for.
    pub(crate) fn open(path: &Path, unfinished: Unfinished, limits: &Limits) -> Result<Self, Error> {
        let target = Locked::open(path)?;
        let mut file = ImageFile::open_path_within(path, limits)?;
        if file.wim().header().flags.contains(HeaderFlags::WRITE_IN_PROGRESS) {
            if unfinished == Unfinished::Refuse {
                return Err(Error::Refused {
                    what: format!("changing {}", path.display()),
                    why: "another writer is at work, or one crashed".to_owned(),
                });
            }
            recover(&target, file.wim(), path)?;
            file = ImageFile::open_path_within(path, limits)?;
        }
        check(file.wim(), path)?;
        let mut header = vec![0; usize::try_from(HEADER_BYTES).unwrap_or(0)];
        target.read_exact_at(0, &mut header).map_err(Error::io("read", path.display()))?;
        let size = target.size();
        Ok(Self { path: path.to_owned(), target, file, header, size })
    }

    /// The file as it was.
    pub(crate) fn file(&self) -> &ImageFile {
        &self.file
    }

    /// Path, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Lets `work` change the file and completes it. After any failure the old file is put back.
    pub(crate) fn change(
        &self,
        context: &Context<'_>,
        meter: &Meter<'_>,
        options: &RewriteOptions,
        work: impl for<'t> FnOnce(&mut WimWriter<'t>) -> Result<(), Error>,
    ) -> Result<Changed, Error> {
        if self.file.wim().header().layout == Layout::Pipable {
            return self.change_pipable(context, meter, options, work);
        }
        let name = self.name();
        let changed = write(context, &*self.target, &self.file, &name, options, work)
            .and_then(|changed| self.settle(context, meter, options, changed));
        if changed.is_err() {
            // Should this fail too, the file is still the old one but for the flag, and the first error says why.
            let _ = self.put_back();
        }
        changed
    }

    fn change_pipable(
        &self,
        context: &Context<'_>,
        meter: &Meter<'_>,
        options: &RewriteOptions,
        work: impl for<'t> FnOnce(&mut WimWriter<'t>) -> Result<(), Error>,
    ) -> Result<Changed, Error> {
        let had_integrity = has_integrity(self.file.wim());
        let recipe = |file, form| Recipe {
            heir_of: Some(ImageFile::wim(file)),
            compression: file.wim().header().compression,
            batches: vec![Batch::of(file, file.wim().images())],
            boot: file.wim().boot_image(),
            missing: Missing::Keep,
            had_integrity,
            form,
        };
        // Nobody but us reads what lies between; its contents are hashed once more when they leave it.
        let between = RewriteOptions {
            integrity: IntegrityChange::Drop,
            read_back: ReadBack::Nothing,
            recompress: Recompress::WhereNeeded,
            form: FormChange::Keep,
            ..options.clone()
        };
        let apart = OutputFile::create(&self.path)?;
        fill(context, meter, &apart, &recipe(&self.file, CaptureForm::Normal), &between)?;
        let file = ImageFile::open_path_within(apart.temporary(), &options.limits)?;
        // Opened anew, as the size of an opened file is the one it had then.
        let target = FileAt::open_rw(apart.temporary());
        let target = target.map_err(Error::io("open for writing", apart.temporary().display()))?;
        let changed = write(context, &target, &file, &self.name(), &between, work)?;
        apart.truncate(changed.file_bytes)?;
        let file = ImageFile::open_path_within(apart.temporary(), &options.limits)?;
        let whole = RewriteOptions { recompress: Recompress::WhereNeeded, ..options.clone() };
        let report = write_new(context, meter, &self.path, &recipe(&file, CaptureForm::Pipable), &whole)?;
        Ok(Changed { old_file_bytes: self.size, file_bytes: report.file_bytes, images: report.images })
    }

    /// Cuts off what is behind the end, and checks what is new.
    fn settle(
        &self,
        context: &Context<'_>,
        meter: &Meter<'_>,
        options: &RewriteOptions,
        changed: Changed,
    ) -> Result<Changed, Error> {
        let file = self.target.file();
        file.set_len(changed.file_bytes).map_err(Error::io("truncate", self.path.display()))?;
        file.sync_all().map_err(Error::io("write to stable storage", self.path.display()))?;
        if options.read_back == ReadBack::Full {
            let old: HashSet<Sha1Hash> = self.file.wim().blobs().map(|(_, blob)| blob.sha1).collect();
            read_back::check(context, meter, &self.path, |sha1| !old.contains(sha1))?;
        }
        Ok(changed)
    }

    fn put_back(&self) -> Result<(), Error> {
        let failed = || Error::io("put back", self.path.display());
        self.target.write_all_at(0, &self.header).map_err(failed())?;
        self.target.sync().map_err(failed())?;
        self.target.file().set_len(self.size).map_err(failed())?;
        self.target.sync().map_err(failed())
    }
}

/// The part of a change that can be cut off at any write: `target` holds `file`.
pub(super) fn write<'t>(
    context: &Context<'_>,
    target: &'t dyn WimTarget,
    file: &ImageFile,
    name: &str,
    options: &RewriteOptions,
    work: impl FnOnce(&mut WimWriter<'t>) -> Result<(), Error>,
) -> Result<Changed, Error> {
    let old_table = file.wim().read_integrity(file.source()).map_err(Error::wim(name))?;
    let old_file_bytes = target.size();
    let mut writer = WimWriter::append(target, file.wim()).map_err(Error::wim(name))?;
    work(&mut writer)?;
    let images = writer.image_count();
    let tables = writer.write_tables().map_err(Error::wim(name))?;
    let is_wanted = options.integrity.is_wanted(old_table.is_some());
    let written = integrity::complete(context, tables, name, is_wanted, old_table.as_ref())?;
    Ok(Changed { old_file_bytes, file_bytes: written.size, images })
}

/// Whether a file may be changed, or replaced by what is made of it.
fn check(wim: &Wim, path: &Path) -> Result<(), Error> {
    let header = wim.header();
    let why = if header.flags.contains(HeaderFlags::READ_ONLY) {
        "it is marked read-only"
    } else if header.parts > 1 {
        "it is part of a split set; join it first"
    } else {
        return Ok(());
    };
    Err(Error::Refused { what: format!("changing {}", path.display()), why: why.to_owned() })
}

/// What a file holds, for an append to it.
pub(super) fn known(file: &ImageFile) -> Known {
    let mut known = Known::default();
    known.add_wim(file.wim());
    known
}

/// A file that nobody else changes.
#[derive(Debug)]
struct Locked(FileAt);

impl Locked {
    fn open(path: &Path) -> Result<Self, Error> {
        let target = FileAt::open_rw(path).map_err(Error::io("open for writing", path.display()))?;
        match target.file().try_lock() {
            Ok(()) => Ok(Self(target)),
            Err(TryLockError::WouldBlock) => Err(Error::Refused {
                what: format!("changing {}", path.display()),
                why: "another program is writing to it".to_owned(),
            }),
            // File systems without locks: the flag in the header is all there is.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                Ok(Self(target))
            }
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path.display())(error)),
        }
    }
}

impl std::ops::Deref for Locked {
    type Target = FileAt;

    fn deref(&self) -> &FileAt {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing is not enough: a program that another thread is just starting has the file, and with it the lock, for a moment longer.
        let _ = self.0.file().unlock();
    }
}

/// Clears the flag that a crashed writer left, and cuts off what it had written behind everything the header knows of.
fn recover(target: &FileAt, wim: &Wim, path: &Path) -> Result<(), Error> {
    let failed = || Error::io("recover", path.display());
    let header = wim.header();
    if header.blob_table.is_absent() {
        return Err(Error::Refused {
            what: format!("recovering {}", path.display()),
            why: "its first writer crashed: there is nothing in it to go back to".to_owned(),
        });
    }
    let images = wim.images().filter_map(|image| wim.metadata_resource(image)).map(|image| image.header);
    let blobs = wim.resources().iter().map(|resource| resource.header);
    let tables = [header.blob_table, header.xml, header.integrity];
    let end = images
        .chain(blobs)
        .chain(tables)
        .map(|place| place.offset.saturating_add(place.stored_size))
        .max()
        .unwrap_or(HEADER_BYTES);
    let mut bytes = vec![0; usize::try_from(HEADER_BYTES).unwrap_or(0)];
    target.read_exact_at(0, &mut bytes).map_err(failed())?;
    let flags = header.flags.0 & !HeaderFlags::WRITE_IN_PROGRESS.0;
    bytes[FLAGS_OFFSET..FLAGS_OFFSET + 4].copy_from_slice(&flags.to_le_bytes());
    if end < target.size() {
        target.file().set_len(end).map_err(failed())?;
    }
    target.write_all_at(0, &bytes).map_err(failed())?;
    target.sync().map_err(failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_goes_with_its_holder_whoever_else_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wim");
        std::fs::write(&path, b"").unwrap();
        let first = Locked::open(&path).unwrap();
        // As a program has it that is just being started.
        let copy = first.file().try_clone().unwrap();
        let refused = Locked::open(&path).unwrap_err();
        assert!(refused.to_string().contains("another program is writing to it"), "{refused}");
        drop(first);
        drop(Locked::open(&path).unwrap());
        drop(copy);
    }
}
