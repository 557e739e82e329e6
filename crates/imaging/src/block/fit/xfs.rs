//! An XFS volume out of an image laid out anew where its blocks have no place: XFS never becomes smaller. A new volume of the same kind, with the same
//! label and UUID and no feature that the old one lacks, is made by `mkfs.xfs` and mounted by the kernel; files are read from the image by our own reader,
//! which reads the new volume, too, when it is compared.
//!
//! Programs and kernel see the target as a file, by FUSE, of which the first page stays in memory until everything else is on the target and was
//! read back: an interrupted restore leaves no volume.
//!
//! **Memory:** 2 MiB of contents; 16 bytes a directory, and 100 a file with several names.

mod compare;
mod copy;

use std::io;
use std::sync::{Mutex, PoisonError};

use gravure_fsmap::{State, XfsFacts, XfsVolume};
use gravure_io::ReadAt;
use gravure_model::Ctl;

use super::anew::{Outcome, Volume, failed};
use super::mounted::{mounted, needs_driver};
use super::program::{output, run};
use super::shown::{Shown, with_file};
use crate::meter::Meter;
use crate::volume::{VolumeDevice, with_spare_bytes};
use crate::{Error, ErrorKind};

const PROGRAM: &str = "mkfs.xfs";
const PAGE: usize = 4096;
/// What `mkfs.xfs` makes no volume below.
const LEAST_BYTES: u64 = 300 << 20;
/// The smallest log that it makes then.
const LOG_BYTES: u64 = 64 << 20;
/// Groups keep room for trees of their own: one part of so many.
const RESERVED_PART: u64 = 25;
/// As it is called to be mounted, and what lets two volumes with one UUID be about.
const TYPE: &str = "xfs";
const MOUNT_DATA: &str = "nouuid";

/// A volume of an image that can be laid out anew.
#[derive(Debug)]
pub(super) struct XfsSource {
    volume: Volume,
    name: String,
    facts: XfsFacts,
    needs: Needs,
}

/// What its files need.
#[derive(Debug, Clone, Copy, Default)]
struct Needs {
    /// Content of regular files, holes left out.
    content_bytes: u64,
    /// All blocks and inodes.
    bytes: u64,
    /// Files whose flags or project the new volume does not have.
    with_flags: u64,
}

impl XfsSource {
    /// Looks at all files of `volume`, called `name` in messages.
    pub(super) fn open(volume: Volume, name: String, ctl: &Ctl) -> Result<Self, Error> {
        let refuse =
            |why: String| Error::Other { what: name.clone(), source: why.into(), kind: ErrorKind::Refused };
        let probe = gravure_fsmap::probe(&volume).map_err(failed(&name, ctl))?;
        if let State::Unclean(reason) = probe.state {
            return Err(refuse(reason.to_string()));
        }
        let goes_on = || ctl.check().is_ok();
        let xfs = XfsVolume::open(&volume, &goes_on).map_err(failed(&name, ctl))?;
        let facts = xfs.facts().clone();
        if facts.version != 5 {
            return Err(refuse(format!("version {} of XFS is not made any more", facts.version)));
        }
        let needs = copy::survey(&xfs).map_err(failed(&name, ctl))?;
        drop(xfs);
        Ok(Self { volume, name, facts, needs })
    }

    /// Bytes that a volume for these files has at least.
    pub(super) fn least_bytes(&self, sector_bytes: u32) -> Result<u64, Error> {
        if sector_bytes > self.facts.block_bytes {
            let value = format!("{sector_bytes} bytes for blocks of {}", self.facts.block_bytes);
            return Err(Error::Unsupported { what: "sector size for XFS", value });
        }
        output(PROGRAM, |command| {
            command.arg("-V");
        })?;
        needs_driver(TYPE)?;
        let files = self.needs.bytes.saturating_add(self.needs.bytes / RESERVED_PART);
        Ok(with_spare_bytes(files.saturating_add(LOG_BYTES)).max(LEAST_BYTES))
    }

    /// Makes `target` a volume with these files.
    pub(super) fn write(
        &self,
        target: &dyn VolumeDevice,
        is_verified: bool,
        meter: &Meter<'_>,
        ctl: &Ctl,
    ) -> Result<Outcome, Error> {
        let name = target.name();
        let sync = || target.sync().map_err(Error::io("sync", name));
        // No file system until it is whole.
        target.zero_range(0..PAGE as u64).map_err(Error::io("zero", name))?;
        sync()?;
        target.discard(PAGE as u64..target.size()).map_err(Error::io("discard", name))?;
        let held = Held { target, first: Mutex::new(vec![0; PAGE]) };
        let goes_on = || ctl.check().is_ok();
        let source = XfsVolume::open(&self.volume, &goes_on).map_err(failed(&self.name, ctl))?;
        meter.expect(self.needs.content_bytes.saturating_mul(if is_verified { 2 } else { 1 }));
        let arguments = self.arguments(target.sector_bytes())?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let written_bytes = with_file(&held, |file| {
            run(PROGRAM, &arguments, file, None, &[0])?;
            mounted(file, TYPE, MOUNT_DATA, |place| copy::copy(&source, self, place, meter, ctl))
        })?;
        sync()?;
        let mut verified_bytes = 0;
        if is_verified {
            target.drop_cache()?;
            let made = XfsVolume::open(&held, &goes_on).map_err(failed(name, ctl))?;
            let names = [self.name.as_str(), name];
            verified_bytes = compare::compare([&source, &made], [&self.volume, &held], names, meter, ctl)?;
        }
        let first = std::mem::take(&mut *held.lock());
        target.write_all_at(0, &first).map_err(Error::io("write", name))?;
        sync()?;
        if is_verified {
            target.drop_cache()?;
            super::expect(target, 0, &first, "superblock")?;
        }
        let mut notes = Vec::new();
        if self.needs.with_flags > 0 {
            let count = self.needs.with_flags;
            notes.push(format!(
                "{name}: flags or projects of {count} files not kept (immutable, append-only and the like)"
            ));
        }
        if self.facts.has_quotas {
            notes.push(format!("{name}: limits of quotas not kept"));
        }
        Ok(Outcome { written_bytes, verified_bytes, notes, ..Outcome::default() })
    }

    /// What `mkfs.xfs` is told. Of features that it does not know none is asked for, and none is there that the old volume had not: the system
    /// on it may have an older driver, and its boot loader, too.
    fn arguments(&self, sector_bytes: u32) -> Result<Vec<String>, Error> {
        let facts = &self.facts;
        // Without a device it says how it is called.
        let usage = output(PROGRAM, |_| {})?;
        let usage = [usage.stdout, usage.stderr].concat();
        let usage = String::from_utf8_lossy(&usage);
        let is_known = |word: &str| usage.split(|c: char| !c.is_ascii_alphanumeric()).any(|one| one == word);
        let mut groups = vec![
            ('b', vec![format!("size={}", facts.block_bytes)]),
            ('s', vec![format!("size={}", facts.sector_bytes.max(sector_bytes))]),
            ('m', vec!["crc=1".to_owned()]),
            ('i', vec![format!("size={}", facts.inode_bytes)]),
            ('n', vec![format!("size={}", facts.directory_bytes)]),
        ];
        let uuid = facts.uuid.as_ref().map(|uuid| ('m', format!("uuid={}", uuid.to_ascii_lowercase())));
        let known = facts.features.iter().filter(|(_, word, _)| is_known(word));
        let words = known.map(|(letter, word, is_on)| (*letter, format!("{word}={}", u8::from(*is_on))));
        for (letter, word) in uuid.into_iter().chain(words) {
            groups
                .iter_mut()
                .filter(|(group, _)| *group == letter)
                .for_each(|(_, all)| all.push(word.clone()));
        }
        let mut out = vec!["-q".to_owned(), "-f".to_owned(), "-K".to_owned()];
        out.extend(groups.into_iter().flat_map(|(letter, words)| [format!("-{letter}"), words.join(",")]));
        if let Some(label) = &facts.label {
            out.extend(["-L".to_owned(), label.clone()]);
        }
        Ok(out)
    }
}

/// A target whose first page is in memory.
struct Held<'a> {
    target: &'a dyn VolumeDevice,
    first: Mutex<Vec<u8>>,
}

impl Held<'_> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of `len` bytes at `offset` are in the first page, and where.
    fn in_memory(offset: u64, len: usize) -> (usize, usize) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(PAGE);
        (start, len.min(PAGE - start))
    }
}

impl ReadAt for Held<'_> {
    fn size(&self) -> u64 {
        self.target.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let (start, count) = Self::in_memory(offset, buf.len());
        let (front, rest) = buf.split_at_mut(count);
        if count > 0 {
            front.copy_from_slice(&self.lock()[start..start + count]);
        }
        if rest.is_empty() {
            return Ok(());
        }
        self.target.read_exact_at(offset + count as u64, rest)
    }
}

impl Shown for Held<'_> {
    fn size(&self) -> u64 {
        self.target.size()
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.read_exact_at(offset, buf).map_err(Error::io("read", self.target.name()))
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let (start, count) = Self::in_memory(offset, bytes.len());
        let (front, rest) = bytes.split_at(count);
        if count > 0 {
            self.lock()[start..start + count].copy_from_slice(front);
        }
        if rest.is_empty() {
            return Ok(());
        }
        let written = self.target.write_all_at(offset + count as u64, rest);
        written.map_err(Error::io("write", self.target.name()))
    }

    fn sync(&self) -> Result<(), Error> {
        self.target.sync().map_err(Error::io("sync", self.target.name()))
    }
}
