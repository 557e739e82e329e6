//! A file system of which the front stands on a target already, and the end, for which that has no room, is read from the image: both together
//! are shown as one file (`shown.rs`) to whoever moves the end to the front. What makes it a file system (its super blocks) stays in memory
//! until everything else is on the target and was read back, and so does what is written behind the target's end.
//!
//! **Memory:** 40 bytes for each 4 KiB that is written, and what is written behind the end: at most a quarter of what is to be had when it
//! begins, and 256 MiB anyway.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use gravure_io::ReadAt;
use gravure_model::Ctl;

use super::anew::Volume;
use super::shown::Shown;
use crate::Error;
use crate::meter::available_memory;
use crate::volume::VolumeDevice;

pub(super) const PAGE: u64 = 4096;
/// Pages written behind the end at most where memory is scarce, and what part of it they take where it is not. Programs write next to nothing
/// there; a kernel that mounts the volume goes on using what is there until it has moved it.
const MIN_PAGES: u64 = 64 << 10;
const MEMORY_PART: u64 = 4;
/// Bytes read back at a time.
const STEP_PAGES: u64 = 256;

/// A file system of which the front stands on a target, or none of it.
pub(super) struct Straddling<'a> {
    target: Option<&'a dyn VolumeDevice>,
    /// Bytes of it that the target has.
    len: u64,
    image: &'a Volume,
    /// Pages that come onto the target last, the first of them after all others.
    held: &'static [u64],
    /// Who moves the end, for messages.
    who: &'static str,
    ctl: &'a Ctl,
    most_pages: u64,
    /// Those pages, and what was written behind the end.
    memory: Mutex<BTreeMap<u64, Box<[u8]>>>,
    /// The start of the hash of every page that was written to the target.
    written: Mutex<BTreeMap<u64, u64>>,
}

fn hash(page: &[u8]) -> u64 {
    let hash = blake3::hash(page);
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn most_pages() -> u64 {
    (available_memory().unwrap_or(0) / MEMORY_PART / PAGE).max(MIN_PAGES)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Straddling<'a> {
    /// All of it out of the image: what is written stays in memory.
    pub(super) fn of_image(image: &'a Volume, who: &'static str, ctl: &'a Ctl) -> Self {
        let (memory, written) = Default::default();
        Self { target: None, len: 0, image, held: &[], who, ctl, most_pages: most_pages(), memory, written }
    }

    /// Takes the pages `held` from the target, on which there is no file system from now on.
    pub(super) fn take(
        target: &'a dyn VolumeDevice,
        image: &'a Volume,
        held: &'static [u64],
        who: &'static str,
        ctl: &'a Ctl,
    ) -> Result<Self, Error> {
        let name = target.name();
        let len = target.size() / PAGE * PAGE;
        let mut memory = BTreeMap::new();
        for page in held.iter().filter(|page| *page * PAGE < len) {
            let mut content = vec![0; PAGE as usize];
            target.read_exact_at(page * PAGE, &mut content).map_err(Error::io("read", name))?;
            target.zero_range(page * PAGE..(page + 1) * PAGE).map_err(Error::io("zero", name))?;
            memory.insert(*page, content.into_boxed_slice());
        }
        target.sync().map_err(Error::io("sync", name))?;
        let (memory, written) = (Mutex::new(memory), Mutex::default());
        let most_pages = most_pages();
        Ok(Self { target: Some(target), len, image, held, who, ctl, most_pages, memory, written })
    }

    /// Bytes of it that the target has: whole pages.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes what was held back, the first of it last, and reads it back. Returns the bytes that were written in all.
    pub(super) fn finish(self, target: &dyn VolumeDevice, is_verified: bool) -> Result<u64, Error> {
        let name = target.name();
        let sync = || target.sync().map_err(Error::io("sync", name));
        sync()?;
        if is_verified {
            self.verify(target)?;
        }
        let mut memory = lock(&self.memory);
        let on_target = self.held.iter().rev().filter(|page| **page * PAGE < self.len);
        let held = on_target.filter_map(|page| memory.remove_entry(page));
        let held: Vec<(u64, Box<[u8]>)> = held.collect();
        for (page, content) in &held {
            target.write_all_at(page * PAGE, content).map_err(Error::io("write", name))?;
            sync()?;
        }
        if is_verified {
            target.drop_cache()?;
            for (page, content) in &held {
                super::expect(target, page * PAGE, content, "superblock")?;
            }
        }
        let pages = lock(&self.written).len() as u64;
        Ok((pages + held.len() as u64) * PAGE)
    }

    fn is_in_memory(&self, page: u64) -> bool {
        self.held.contains(&page) || page * PAGE >= self.len
    }

    /// The bytes of whole pages, each from where it is.
    fn read_pages(&self, first: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.ctl.check()?;
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
        self.ctl.check()?;
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
                    if memory.len() as u64 > self.most_pages {
                        let limit = self.most_pages * PAGE;
                        return Err(Error::io("write", "the memory")(io::Error::new(
                            io::ErrorKind::OutOfMemory,
                            format!("more than {limit} bytes behind the end of the target by {}", self.who),
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
                        expected: format!("what {} wrote", self.who),
                        found: "other bytes".to_owned(),
                        more: 0,
                    });
                }
            }
        }
        Ok(())
    }
}

impl Shown for Straddling<'_> {
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
