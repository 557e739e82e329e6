//! What machines asked for, kept on this server. Packs and indexes never change and are given as they were fetched; catalogue and manifests are
//! fetched whenever they are asked for, and given as they were last when no place answers.
//!
//! **Rot.** Machines read ranges of packs and hold each content against its id, so what is given wrong is never used; but it would be given
//! for ever. So all of an object is checked (`gravure_store::check_object`) when it comes in, before it is given for the first time since the
//! start, when its file was changed, after a day, and when a machine asks for it afresh, which it does of a pack that gave a wrong content.
//! What is wrong is fetched anew; while nothing answers it is given as it is, as most of it is right. `gravure doctor` tells of it.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gravure_bootd::{Directory, Found};
use gravure_io::ReadAt;
use gravure_netboot::names::normalise_name;
use gravure_store::{BoundedObjects, ErrorKind, LocalObjects, Objects, check_object, read_whole};

use super::MAX_WHOLE_BYTES;
use crate::Error;
use crate::error::chain;

/// Bytes of an object that never changes: a pack or a part of an index.
const MAX_FETCHED_BYTES: u64 = 256 << 20;
/// How long an object counts as right once it was checked: media lose bits in months.
const RIGHT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How often at most an object is checked because machines ask for it afresh, which anybody may, and one that is wrong is asked for where
/// nothing answered.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Objects that are remembered as checked.
const MAX_CHECKED: usize = 1 << 16;
/// What was found damaged, in the cache's directory: a line each, `seconds since 1970`, object, what was wrong.
const DAMAGED: &str = "damaged.log";
/// Lines of it.
const MAX_DAMAGED: usize = 100;

/// Bytes of what is kept in `path`, as far as it is there.
pub(crate) fn cached_bytes(path: &Path) -> u64 {
    let objects = LocalObjects::new(path);
    let listed = ["packs", "index", "images"].into_iter().filter_map(|folder| objects.list(folder).ok());
    listed.flatten().map(|listed| listed.len).sum()
}

/// What was found damaged in the cache at `path` since `since`, the latest last: seconds since 1970, and which object.
pub(crate) fn damaged(path: &Path, since: u64) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(path.join(DAMAGED)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
    });
    lines.filter(|(at, _)| *at >= since).collect()
}

/// An object that was checked.
struct Checked {
    is_right: bool,
    /// Length and time of its file then.
    stamp: (u64, SystemTime),
    at: Instant,
    /// When somebody who asked afresh had it checked.
    afresh_at: Option<Instant>,
}

/// The cache.
pub(super) struct Cache {
    near: Arc<BoundedObjects>,
    files: Directory,
    path: PathBuf,
    /// What is being fetched or checked: who asks for the same waits instead of doing it again.
    turns: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    checked: Mutex<HashMap<String, Checked>>,
    /// When objects were found to be right nowhere.
    nowhere: Mutex<HashMap<String, Instant>>,
    /// Held while the list of what was damaged is written.
    telling: Mutex<()>,
}

impl Cache {
    /// In the directory `path`, which is there.
    pub(super) fn open(path: &Path, limit_bytes: u64) -> Result<Self, Error> {
        let near = BoundedObjects::new(Arc::new(LocalObjects::new(path)), limit_bytes);
        let near = near.map_err(|error| Error::Store { message: chain(&error) })?;
        let files =
            Directory::new(path).map_err(|_| Error::Missing { what: "cache", path: path.to_owned() })?;
        Ok(Self {
            near: Arc::new(near),
            files,
            path: path.to_owned(),
            turns: Mutex::default(),
            checked: Mutex::default(),
            nowhere: Mutex::default(),
            telling: Mutex::default(),
        })
    }

    /// What is kept, as a place.
    pub(super) fn objects(&self) -> Arc<dyn Objects> {
        Arc::clone(&self.near) as Arc<dyn Objects>
    }

    /// What a machine gets that asks for an object, `afresh` when what it got before was wrong; `None` when it has to be sent elsewhere: it cannot
    /// be fetched, or not be kept.
    pub(super) fn find(
        &self,
        object: &str,
        afresh: bool,
        far: impl FnOnce() -> Result<Arc<dyn Objects>, gravure_store::Error>,
    ) -> Option<Found> {
        if !object.starts_with("packs/") && !object.starts_with("index/") {
            return self.fresh(object, far);
        }
        if let Some(found) = self.known(object, afresh) {
            return Some(found);
        }
        // A machine asks for many ranges of a pack: all of it is not fetched for each of them, only to find it wrong.
        if lock(&self.nowhere).get(object).is_some_and(|at| at.elapsed() < AGAIN_AFTER) {
            return None;
        }
        let turn = Arc::clone(lock(&self.turns).entry(object.to_owned()).or_default());
        // Held while it is fetched or checked, for those who wait for the same.
        let held = lock(&turn);
        let found = self.known(object, afresh).or_else(|| self.looked_at(object, afresh, far));
        drop(held);
        lock(&self.turns).remove(object);
        found
    }

    /// An object as it is kept, if nothing speaks for checking it.
    fn known(&self, object: &str, afresh: bool) -> Option<Found> {
        let found = self.kept(object)?;
        let checked = lock(&self.checked);
        let known = checked.get(object)?;
        let is_recent = |at: Instant, long: Duration| at.elapsed() < long;
        let is_known = stamp(&found) == Some(known.stamp)
            && is_recent(known.at, if known.is_right { RIGHT_FOR } else { AGAIN_AFTER })
            && (!afresh || known.afresh_at.is_some_and(|at| is_recent(at, AGAIN_AFTER)));
        is_known.then_some(found)
    }

    /// An object that is checked now, and fetched if it is not there or not right.
    fn looked_at(
        &self,
        object: &str,
        afresh: bool,
        far: impl FnOnce() -> Result<Arc<dyn Objects>, gravure_store::Error>,
    ) -> Option<Found> {
        let kept = self.kept(object);
        if kept.is_some() {
            match self.near.open(object).and_then(|copy| check_object(object, &copy)) {
                Ok(()) => return self.note(object, true, afresh),
                Err(error) => self.tell_damaged(object, &chain(&error)),
            }
        }
        let bytes = match far().and_then(|far| fetch(&*far, object)) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(object, %error, "not fetched into the cache");
                // Of a damaged one most is right, and who reads it finds out what is not. Where it is fetched from it is no better: who asks
                // may know another place.
                if error.kind() == ErrorKind::Integrity {
                    let mut nowhere = lock(&self.nowhere);
                    nowhere.retain(|_, at| at.elapsed() < AGAIN_AFTER);
                    nowhere.insert(object.to_owned(), Instant::now());
                    return None;
                }
                return kept.and_then(|_| self.note(object, false, afresh));
            }
        };
        // A full disk must not keep anybody from reading.
        if let Err(error) = self.near.replace(object, &bytes) {
            tracing::debug!(object, %error, "not kept in the cache");
            return None;
        }
        if kept.is_some() {
            tracing::info!(object, "fetched anew into the cache");
        }
        self.note(object, true, afresh)
    }

    /// Notes what was found out about an object as it is kept now, and gives it.
    fn note(&self, object: &str, is_right: bool, afresh: bool) -> Option<Found> {
        let found = self.kept(object)?;
        let at = Instant::now();
        let mut checked = lock(&self.checked);
        if checked.len() >= MAX_CHECKED {
            checked.clear();
        }
        let afresh_at = afresh.then_some(at);
        checked.insert(object.to_owned(), Checked { is_right, stamp: stamp(&found)?, at, afresh_at });
        Some(found)
    }

    /// Says it in the log, and where `gravure doctor` looks; once.
    fn tell_damaged(&self, object: &str, why: &str) {
        if lock(&self.checked).get(object).is_some_and(|known| !known.is_right) {
            return;
        }
        tracing::warn!(object, why, "what the cache had was damaged");
        let _alone = lock(&self.telling);
        let path = self.path.join(DAMAGED);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines: VecDeque<&str> = before.lines().collect();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = format!("{seconds} {object} {}", why.replace(['\n', '\r'], " "));
        lines.push_back(&line);
        while lines.len() > MAX_DAMAGED {
            lines.pop_front();
        }
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        if let Err(error) = std::fs::write(&path, text) {
            tracing::warn!(path = %path.display(), %error, "not written down for gravure doctor");
        }
    }

    /// An object as it is kept.
    fn kept(&self, object: &str) -> Option<Found> {
        let found = self.files.open(&normalise_name(object.as_bytes()).ok()?);
        self.near.touch(object);
        matches!(found, Found::File { .. }).then_some(found)
    }

    /// An object that may be replaced, as it is now where that can be told.
    fn fresh(
        &self,
        object: &str,
        far: impl FnOnce() -> Result<Arc<dyn Objects>, gravure_store::Error>,
    ) -> Option<Found> {
        match far().and_then(|far| read_whole(&*far, object, MAX_WHOLE_BYTES)) {
            Ok(bytes) => {
                let is_known =
                    read_whole(&*self.near, object, MAX_WHOLE_BYTES).is_ok_and(|known| known == bytes);
                // A full disk must not keep anybody from reading: who asks is sent elsewhere then.
                if !is_known && let Err(error) = self.near.replace(object, &bytes) {
                    tracing::debug!(object, %error, "not kept in the cache");
                    return None;
                }
                // A file, since machines read parts.
                self.kept(object)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Best effort: it is fetched before it is given again anyway.
                let _ = self.near.remove(object);
                Some(Found::Nothing)
            }
            Err(_) => self.kept(object),
        }
    }
}

/// An object as a place has it, if it is right there; of several copies the first that is.
fn fetch(far: &dyn Objects, object: &str) -> Result<Vec<u8>, gravure_store::Error> {
    loop {
        let read = read_whole(far, object, MAX_FETCHED_BYTES)
            .and_then(|bytes| check_object(object, &bytes as &dyn ReadAt).map(|()| bytes));
        match read {
            Err(error) if error.kind() == ErrorKind::Integrity && far.doubt(object) => {
                tracing::warn!(object, place = far.name(), %error, "damaged where it is fetched from");
            }
            read => return read,
        }
    }
}

/// What tells when a file was changed.
fn stamp(found: &Found) -> Option<(u64, SystemTime)> {
    match found {
        Found::File { len, modified, .. } => Some((*len, *modified)),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
