//! An ext2/3/4 file system made smaller than the one that an image was made of, while it is restored: the source is never touched.
//!
//! What of it fits stands on the target already; what is behind the target's end is read from the image. Both together are shown as
//! one file to `resize2fs`, which moves blocks from behind the end to the front. The first block, without which there is no file system,
//! stays in memory until everything else is on the target and was read back. No driver of the kernel's for the file system is needed, FUSE is.
//!
//! **Memory:** 40 bytes for each 4 KiB that the programs write, and what they write behind the end (at most 256 MiB).

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use gravure_io::ReadAt;

use super::anew::Volume;
use super::program::run;
use super::shown::{Shown, with_file};
use crate::volume::VolumeDevice;
use crate::{Error, ErrorKind};

const PAGE: u64 = 4096;
/// Pages written behind the end at most.
const MAX_PAGES: usize = 64 << 10;
/// Bytes read back at a time.
const STEP_PAGES: u64 = 256;
/// What `resize2fs -P` says before the number of blocks.
const MINIMUM: &str = "minimum size of the filesystem:";

/// A file system of which the front stands on a target, or none of it.
struct Shrinking<'a> {
    target: Option<&'a dyn VolumeDevice>,
    /// Bytes of it that the target has.
    len: u64,
    image: &'a Volume,
    /// The first page, and what was written behind the end.
    memory: Mutex<BTreeMap<u64, Box<[u8]>>>,
    /// The start of the hash of every page that was written to the target.
    written: Mutex<BTreeMap<u64, u64>>,
}

fn hash(page: &[u8]) -> u64 {
    let hash = blake3::hash(page);
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shrinking<'_> {
    fn is_in_memory(&self, page: u64) -> bool {
        page == 0 || page * PAGE >= self.len
    }

    /// The bytes of whole pages, each from where it is.
    fn read_pages(&self, first: u64, buf: &mut [u8]) -> Result<(), Error> {
        let count = buf.len() as u64 / PAGE;
        let mut at = 0;
        while at < count {
            let page = first + at;
            let inside = self.is_in_memory(page);
            let run = (at..count).take_while(|next| self.is_in_memory(first + next) == inside).count() as u64;
            let place = (at * PAGE) as usize..((at + run) * PAGE) as usize;
            let offset = page * PAGE;
            match self.target.filter(|_| !inside) {
                Some(target) => {
                    let read = target.read_exact_at(offset, &mut buf[place]);
                    read.map_err(Error::io("read", target.name()))?;
                }
                None => {
                    let part = &mut buf[place];
                    let there = self.image.size().saturating_sub(offset).min(part.len() as u64) as usize;
                    let read = self.image.read_exact_at(offset, &mut part[..there]);
                    read.map_err(Error::io("read", "the image"))?;
                    let memory = lock(&self.memory);
                    for (number, content) in memory.range(page..page + run) {
                        let from = ((number - page) * PAGE) as usize;
                        part[from..from + PAGE as usize].copy_from_slice(content);
                    }
                }
            }
            at += run;
        }
        Ok(())
    }

    fn write_pages(&self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        let pages: Vec<&[u8]> = bytes.chunks(PAGE as usize).collect();
        let mut at = 0;
        while at < pages.len() {
            let page = first + at as u64;
            let inside = self.is_in_memory(page);
            let run = (at..pages.len())
                .take_while(|next| self.is_in_memory(first + *next as u64) == inside)
                .count();
            let place = at * PAGE as usize..(at + run) * PAGE as usize;
            match self.target.filter(|_| !inside) {
                Some(target) => {
                    let written = target.write_all_at(page * PAGE, &bytes[place]);
                    written.map_err(Error::io("write", target.name()))?;
                    let mut written = lock(&self.written);
                    written.extend((page..).zip(pages[at..at + run].iter().map(|page| hash(page))));
                }
                None => {
                    let mut memory = lock(&self.memory);
                    memory.extend((page..).zip(pages[at..at + run].iter().map(|page| Box::from(*page))));
                    if memory.len() > MAX_PAGES {
                        let limit = MAX_PAGES as u64 * PAGE;
                        return Err(Error::io("write", "the memory")(io::Error::new(
                            io::ErrorKind::OutOfMemory,
                            format!("more than {limit} bytes behind the end of the file system"),
                        )));
                    }
                }
            }
            at += run;
        }
        Ok(())
    }

    /// Reads every page that was written to the target from the medium.
    fn verify(&self, target: &dyn VolumeDevice) -> Result<(), Error> {
        target.drop_cache()?;
        let written = lock(&self.written);
        let mut buf = Vec::new();
        let mut pages = written.iter().peekable();
        while let Some((first, hash_of_first)) = pages.next() {
            let mut hashes = vec![*hash_of_first];
            while let Some((_, next)) = pages.next_if(|(page, _)| {
                **page == first + hashes.len() as u64 && (hashes.len() as u64) < STEP_PAGES
            }) {
                hashes.push(*next);
            }
            buf.resize(hashes.len() * PAGE as usize, 0);
            target.read_exact_at(first * PAGE, &mut buf).map_err(Error::io("read", target.name()))?;
            for (at, (page, expected)) in (*first..).zip(buf.chunks(PAGE as usize).zip(&hashes)) {
                if hash(page) != *expected {
                    return Err(Error::Differs {
                        path: format!("{} at {:#x}", target.name(), at * PAGE),
                        what: "content read back",
                        expected: "what resize2fs wrote".to_owned(),
                        found: "other bytes".to_owned(),
                        more: 0,
                    });
                }
            }
        }
        Ok(())
    }
}

impl Shown for Shrinking<'_> {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let pages = whole_pages(offset, buf.len());
        let mut whole = vec![0; ((pages.end - pages.start) * PAGE) as usize];
        self.read_pages(pages.start, &mut whole)?;
        let from = (offset - pages.start * PAGE) as usize;
        buf.copy_from_slice(&whole[from..from + buf.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let pages = whole_pages(offset, bytes.len());
        let mut whole = vec![0; ((pages.end - pages.start) * PAGE) as usize];
        if whole.len() != bytes.len() {
            self.read_pages(pages.start, &mut whole)?;
        }
        let from = (offset - pages.start * PAGE) as usize;
        whole[from..from + bytes.len()].copy_from_slice(bytes);
        self.write_pages(pages.start, &whole)
    }

    fn sync(&self) -> Result<(), Error> {
        self.target.map_or(Ok(()), |target| target.sync().map_err(Error::io("sync", target.name())))
    }
}

fn whole_pages(offset: u64, len: usize) -> Range<u64> {
    offset / PAGE..(offset + len as u64).div_ceil(PAGE)
}

/// Bytes that the file system in `image`, of blocks of `block_bytes`, needs at least, as `resize2fs` says.
pub(super) fn least_bytes(image: &Volume, block_bytes: u32) -> Result<u64, Error> {
    let whole =
        Shrinking { target: None, len: 0, image, memory: Mutex::default(), written: Mutex::default() };
    let said = with_file(&whole, |file| run("resize2fs", &["-P"], file, None, &[0]))?;
    let blocks = said.lines().find_map(|line| line.split_once(MINIMUM)?.1.trim().parse::<u64>().ok());
    let blocks = blocks.ok_or_else(|| Error::Other {
        what: "resize2fs -P".to_owned(),
        source: format!("expected a size, found {said:?}").into(),
        kind: ErrorKind::Failed,
    })?;
    Ok(blocks.saturating_mul(block_bytes.into()))
}

/// Makes the file system in `image`, of which as much as fits stands on `target`, as large as that is. Returns the bytes that were written
/// for it.
pub(super) fn shrink(
    target: &dyn VolumeDevice,
    image: &Volume,
    block_bytes: u32,
    is_verified: bool,
) -> Result<u64, Error> {
    let name = target.name();
    let mut first = vec![0; PAGE as usize];
    target.read_exact_at(0, &mut first).map_err(Error::io("read", name))?;
    let sync = || target.sync().map_err(Error::io("sync", name));
    // No file system until it is whole.
    target.zero_range(0..PAGE).map_err(Error::io("zero", name))?;
    sync()?;
    let len = target.size() / PAGE * PAGE;
    let memory = Mutex::new(BTreeMap::from([(0, first.into_boxed_slice())]));
    let shrinking = Shrinking { target: Some(target), len, image, memory, written: Mutex::default() };
    let blocks = len / u64::from(block_bytes);
    with_file(&shrinking, |file| {
        // 1: it corrected something that needs no questions, such as counts.
        run("e2fsck", &["-f", "-p"], file, None, &[0, 1])?;
        run("resize2fs", &[], file, Some(blocks.to_string()), &[0])?;
        run("e2fsck", &["-f", "-n"], file, None, &[0])
    })?;
    sync()?;
    if is_verified {
        shrinking.verify(target)?;
    }
    let first = lock(&shrinking.memory).remove(&0).unwrap_or_default();
    target.write_all_at(0, &first).map_err(Error::io("write", name))?;
    sync()?;
    if is_verified {
        target.drop_cache()?;
        super::expect(target, 0, &first, "superblock")?;
    }
    let pages = lock(&shrinking.written).len() as u64;
    Ok((pages + 1) * PAGE)
}
