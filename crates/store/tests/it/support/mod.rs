//! A file system in memory that forgets what was not made durable, and images to put into stores.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gravure_blockimg::facts::{Facts, Source};
use gravure_blockimg::{
    ChunkId, Entry, ExtentKind, FrameDecoder, FrameEncoder, FrameKind, ImageWriter, RegionBuilder, Root,
};
use gravure_io::ReadAt;
use gravure_store::{Error, Files, Locked, OnExisting, Store};

/// What happens at step N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    /// It fails and does nothing.
    Fail,
    /// Power is cut before it: it fails and so does everything later.
    Cut,
    /// Power is cut when half of it was done.
    CutHalfway,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    durable_dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    next: u64,
    steps: u64,
    strike: Option<(u64, Strike)>,
    is_dead: bool,
}

/// The file system; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CrashFiles(Arc<Mutex<State>>);

#[derive(Debug)]
struct Lock(CrashFiles, PathBuf);

impl Locked for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap();
        state.locks.remove(&self.1);
        state.names.remove(&self.1);
    }
}

impl CrashFiles {
    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.0.lock().unwrap().steps
    }

    /// Something happens at step `at`, counted from now on.
    pub(crate) fn strike(&self, at: u64, strike: Strike) {
        let mut state = self.0.lock().unwrap();
        state.strike = Some((state.steps + at, strike));
    }

    /// What a machine finds when it starts again: names and bytes that were made durable. With `lucky`, everything else has reached
    /// the disk, too.
    pub(crate) fn after_crash(&self, lucky: bool) -> Self {
        let state = self.0.lock().unwrap();
        let mut new = State {
            inodes: state.inodes.clone(),
            names: if lucky { state.names.clone() } else { state.durable_names.clone() },
            dirs: if lucky { state.dirs.clone() } else { state.durable_dirs.clone() },
            next: state.next,
            ..State::default()
        };
        for inode in new.inodes.values_mut() {
            if !lucky {
                inode.now.clone_from(&inode.durable);
            }
            inode.durable.clone_from(&inode.now);
        }
        new.durable_names.clone_from(&new.names);
        new.durable_dirs.clone_from(&new.dirs);
        Self(Arc::new(Mutex::new(new)))
    }

    /// Names of all files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().names.keys().map(|path| path.display().to_string()).collect()
    }

    /// Changes a byte of a file.
    pub(crate) fn flip(&self, name: &str, at: usize) {
        let mut state = self.0.lock().unwrap();
        let number = state.names[Path::new(name)];
        state.inodes.get_mut(&number).unwrap().now[at] ^= 1;
    }

    /// One step that changes something. `work` gets true when only half of it is done.
    fn step<T>(&self, work: impl FnOnce(&mut State, bool) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        let failed = || io::Error::other("injected fault");
        if state.is_dead {
            return Err(failed());
        }
        let number = state.steps;
        state.steps += 1;
        match state.strike {
            Some((at, Strike::Fail)) if at == number => Err(failed()),
            Some((at, Strike::Cut)) if at == number => {
                state.is_dead = true;
                Err(failed())
            }
            Some((at, Strike::CutHalfway)) if at == number => {
                state.is_dead = true;
                let _ = work(&mut state, true);
                Err(failed())
            }
            _ => work(&mut state, false),
        }
    }

    fn look<T>(&self, work: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let state = self.0.lock().unwrap();
        if state.is_dead { Err(io::Error::other("no power")) } else { work(&state) }
    }
}

fn none() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Files for CrashFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step(|state, _| {
            state.dirs.insert(path.to_owned());
            Ok(())
        })
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|state, is_half| {
            if !state.dirs.contains(path.parent().unwrap()) {
                return Err(none());
            }
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let number = state.next;
            state.next += 1;
            let len = if is_half { bytes.len() / 2 } else { bytes.len() };
            let now = bytes[..len].to_vec();
            // A crash leaves a file without content, as many file systems do.
            state.inodes.insert(number, Inode { now, durable: Vec::new() });
            state.names.insert(path.to_owned(), number);
            Ok(())
        })
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step(|state, is_half| {
            let number = *state.names.get(path).ok_or_else(none)?;
            let inode = state.inodes.get_mut(&number).unwrap();
            let len = if is_half { inode.now.len() / 2 } else { inode.now.len() };
            inode.durable = inode.now[..len].to_vec();
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(|state, _| {
            state.durable_names.retain(|name, _| name.parent() != Some(path));
            let below = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
            state
                .durable_names
                .extend(below.map(|(name, number)| (name.clone(), *number)).collect::<Vec<_>>());
            let dirs: Vec<_> =
                state.dirs.iter().filter(|dir| dir.parent() == Some(path) || *dir == path).cloned().collect();
            state.durable_dirs.extend(dirs);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|state, _| {
            let number = state.names.remove(from).ok_or_else(none)?;
            state.names.insert(to.to_owned(), number);
            Ok(())
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|state, _| {
            if state.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let number = *state.names.get(from).ok_or_else(none)?;
            state.names.insert(to.to_owned(), number);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|state, _| state.names.remove(path).map(drop).ok_or_else(none))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        self.look(|state| {
            let number = state.names.get(path).ok_or_else(none)?;
            Ok(Arc::new(state.inodes[number].now.clone()) as Arc<dyn ReadAt>)
        })
    }

    fn list(&self, path: &Path) -> io::Result<(Vec<(String, u64)>, Vec<String>)> {
        self.look(|state| {
            let last = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
            let files = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
            let files = files.map(|(name, number)| (last(name), state.inodes[number].now.len() as u64));
            let dirs = state.dirs.iter().filter(|dir| dir.parent() == Some(path)).map(|dir| last(dir));
            Ok((files.collect(), dirs.collect()))
        })
    }

    fn lock_new(&self, path: &Path) -> io::Result<Option<Box<dyn Locked>>> {
        self.step(|state, _| {
            let number = state.next;
            state.next += 1;
            state.inodes.insert(number, Inode::default());
            state.names.insert(path.to_owned(), number);
            state.locks.insert(path.to_owned());
            Ok(())
        })?;
        Ok(Some(Box::new(Lock(self.clone(), path.to_owned()))))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.look(|state| Ok(state.locks.contains(path)))
    }

    fn remove_unlocked(&self, path: &Path) -> io::Result<()> {
        self.step(|state, _| {
            if !state.locks.contains(path) {
                state.names.remove(path);
            }
            Ok(())
        })
    }
}

/// Content `number`: 3000 bytes that do not compress to nothing.
pub(crate) fn content(number: u32) -> Vec<u8> {
    (0..100u32)
        .flat_map(|part| ChunkId::of(&[number, part].map(u32::to_le_bytes).concat()).0)
        .take(3000)
        .collect()
}

/// Stores an image of these contents as a capture does: each chunk a frame of its own.
pub(crate) fn store_image(
    store: &Store,
    name: &str,
    contents: &[u32],
    existing: OnExisting,
) -> Result<(), Error> {
    let mut writer = store.writer()?;
    let manifest = write_contents(&mut writer, name, contents)?;
    writer.commit(name, &manifest, existing).map(drop)
}

/// Writes everything but the manifest, which is returned.
pub(crate) fn write_contents(
    writer: &mut gravure_store::Writer<'_>,
    name: &str,
    contents: &[u32],
) -> Result<Vec<u8>, Error> {
    let mut encoder = FrameEncoder::new(1).unwrap();
    let mut builder = RegionBuilder::new(0);
    for number in contents {
        let plain = content(*number);
        let id = ChunkId::of(&plain);
        builder.push(ExtentKind::Data(id), plain.len() as u64);
        if !writer.contains(&id)? {
            let entries = vec![Entry { id, len: plain.len() as u32 }];
            writer.put(&encoder.frame(FrameKind::Data, entries, &plain).unwrap())?;
            // Packs of a few chunks, so that there are many.
            if number % 3 == 0 {
                writer.flush()?;
            }
        }
    }
    let region = builder.finish();
    if !writer.contains(&region.region.table)? {
        writer.put(&encoder.single(FrameKind::Table, &region.table).unwrap())?;
    }
    let source = Source { sector_bytes: 512, size_bytes: region.region.len, ..Source::default() };
    let facts = Facts { version: 1, name: name.to_owned(), source, ..Facts::default() };
    let manifest = ImageWriter::new(Vec::new(), &facts).unwrap();
    let root = Root {
        size: region.region.len,
        sector_bytes: 512,
        facts: manifest.facts(),
        outcome: Default::default(),
        regions: vec![region.region],
    };
    Ok(manifest.finish(&root, None).unwrap().0)
}

/// All contents of an image, each checked.
pub(crate) fn read_image(store: &Store, name: &str) -> Result<Vec<Vec<u8>>, Error> {
    let image = store.image(name)?;
    let mut decoder = FrameDecoder::new().unwrap();
    let mut out = Vec::new();
    for region in &image.root.regions {
        let table = store.content(&region.table, &mut decoder)?;
        let extents = gravure_blockimg::check_region(&table, ChunkId::of(&table), region, 0).unwrap();
        for extent in extents {
            out.push(store.content(&extent.id().unwrap(), &mut decoder)?);
        }
    }
    Ok(out)
}

pub(crate) fn contents(numbers: &[u32]) -> Vec<Vec<u8>> {
    numbers.iter().map(|number| content(*number)).collect()
}
