//! Files that are there already with the content they are to have: what an interrupted apply made, or an earlier one. Their contents are
//! hashed where they stand instead of being read from the image; metadata and further names are set as for new files.
//!
//! Kept is only what nothing else hangs on: a regular file with no more names than the image gives it, and without extended
//! attributes that the image does not have. Everything else is replaced.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use gravure_linux::{NodeKind, dir, xattr};
use gravure_tree::{NodeId, Sha1Hash};
use sha1::{Digest, Sha1};

use super::{DirectoryTarget, Existing};
use crate::Error;
use crate::directory::places::Handles;
use crate::directory::unix::UnixKind;
use crate::meter::{Context, Meter};
use crate::uses;

/// Bytes read at a time.
const STEP_BYTES: usize = 1 << 20;
/// Set by the kernel's own policy on every file, not by whoever made it.
const LABEL: &str = "security.selinux";

impl DirectoryTarget<'_> {
    /// Finds files that need not be written, on all threads.
    pub(crate) fn keep_what_is_right(&mut self, context: &Context<'_>) -> Result<(), Error> {
        if self.existing != Existing::Keep {
            return Ok(());
        }
        let candidates = self.candidates(context)?;
        let meter = Meter::start(context, "look at what is there");
        meter.expect(candidates.iter().map(|(_, size, _)| size).sum());
        let next = AtomicUsize::new(0);
        let (kept, failure) = (Mutex::new(Vec::new()), Mutex::new(None));
        let this = &*self;
        std::thread::scope(|scope| {
            for _ in 0..context.threads.max(1) {
                scope.spawn(|| {
                    let (mut handles, mut buf) = (this.handles(), Vec::new());
                    while let Some((id, size, sha1)) = candidates.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(stopped) = context.ctl.check() {
                            failure
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .get_or_insert(stopped.into());
                            return;
                        }
                        let found = this.hash(&mut handles, *id, *size, &mut buf);
                        meter.add(*size);
                        // What cannot be read is made anew.
                        if found.is_some_and(|found| found == *sha1) {
                            kept.lock().unwrap_or_else(PoisonError::into_inner).push((*id, *size));
                        }
                    }
                });
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        meter.finish();
        let kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.kept_bytes = kept.iter().map(|(_, size)| size).sum();
        self.kept = kept.into_iter().map(|(id, _)| id).collect();
        Ok(())
    }

    /// Files of the image whose place is taken by a file of the same size, with the hash they are to have.
    fn candidates(&self, context: &Context<'_>) -> Result<Vec<(NodeId, u64, Sha1Hash)>, Error> {
        let mut handles = self.handles();
        let mut found = Vec::new();
        for id in uses::nodes(self.tree) {
            context.ctl.check()?;
            let node = self.tree.node(id);
            let Some(data) = node.data.as_ref().filter(|data| !data.is_empty()) else { continue };
            let (Some(sha1), Some((number, name))) = (data.sha1, &self.first[id.index()]) else { continue };
            if self.kind(node) != UnixKind::File {
                continue;
            }
            let parent = handles.get(&self.places, *number)?;
            let names = 1 + self.more.get(&id).map_or(0, Vec::len);
            let is_alone = |links: u32| usize::try_from(links).is_ok_and(|links| links <= names);
            if let Ok(there) = parent.stat_entry(name)
                && there.kind == NodeKind::File
                && there.size == data.size
                && is_alone(there.links)
            {
                found.push((id, data.size, sha1));
            }
        }
        Ok(found)
    }

    /// The hash of a file that stands there, if it can be kept at all.
    fn hash(&self, handles: &mut Handles, id: NodeId, size: u64, buf: &mut Vec<u8>) -> Option<Sha1Hash> {
        let file = self.open_kept(handles, id).ok()?;
        let wanted = self.xattrs(self.tree.node(id));
        let is_wanted = |name: &OsStr| wanted.iter().any(|one| one.name == name.as_bytes());
        let there = xattr::read_file_xattrs(&file).ok()?;
        if there.iter().any(|(name, _)| name != LABEL && !is_wanted(name)) {
            return None;
        }
        let mut hasher = Sha1::new();
        let mut offset = 0;
        while offset < size {
            let step = usize::try_from(size - offset).unwrap_or(usize::MAX).min(STEP_BYTES);
            buf.resize(step, 0);
            file.read_exact_at(buf, offset).ok()?;
            hasher.update(&*buf);
            offset += step as u64;
        }
        // Nobody may have made it longer meanwhile.
        (dir::stat_file(&file).ok()?.size == size).then(|| Sha1Hash(hasher.finalize().into()))
    }

    /// Opens a file that stays.
    pub(super) fn open_kept(&self, handles: &mut Handles, id: NodeId) -> Result<File, Error> {
        let (number, name) = self.first_name(id)?;
        let parent = handles.get(&self.places, *number)?;
        parent.open_file(name).map_err(|error| Error::linux(self.places.entry_path(*number, name))(error))
    }

    /// Bytes that stand at places of the image's files, and go or stay.
    pub(crate) fn standing_bytes(&self) -> u64 {
        let mut handles = self.handles();
        let mut bytes = 0u64;
        for (number, name) in self.first.iter().flatten().chain(self.more.values().flatten()) {
            let Ok(parent) = handles.get(&self.places, *number) else { continue };
            bytes = bytes.saturating_add(parent.stat_entry(name).map_or(0, |there| there.allocated_bytes));
        }
        bytes
    }
}
