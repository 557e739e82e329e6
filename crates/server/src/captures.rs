//! Captures that machines send: each has a thread of its own that writes into the site's store.
//!
//! A session belongs to a job, not to a boot: a machine that was cut off finds what it had sent. It ends with the image, with the job,
//! when nothing came for a long time, or with the server; what came until then is in packs, and a later session counts on it unless a
//! collection was quicker.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gravure_blockimg::facts::Scope;
use gravure_blockimg::{ChunkId, Frame, FrameDecoder, FrameKind, ImageFile, check_region};
use gravure_model::descriptor::Digest;
use gravure_model::plan::{PlannedCapture, PlannedDisk};
use gravure_store::{ErrorKind, OnExisting, Store, Writer};
use tokio::sync::{mpsc, oneshot};

use crate::error::chain;
use crate::site_store::SiteStore;

/// Requests of a session that wait for its thread; a payload has three under way.
const QUEUE: usize = 8;
/// A session nothing came for is ended after so long: it keeps collections from freeing room.
const IDLE: Duration = Duration::from_secs(3600);
/// What the store takes beyond the size of the disk: tables, and groups of chunks that came twice.
const SLACK_BYTES: u64 = 64 << 20;
/// Ids remembered while an image is checked, so that repeated ones are looked up once: 40 MiB.
const MAX_SEEN: usize = 1 << 20;

/// Why a request of a capture is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaptureError {
    /// What came is not what may come.
    #[error("{0}")]
    Invalid(String),
    /// It is at odds with what is there.
    #[error("{0}")]
    Conflict(String),
    /// The store failed.
    #[error("{0}")]
    Failed(String),
}

impl From<gravure_store::Error> for CaptureError {
    fn from(error: gravure_store::Error) -> Self {
        let text = chain(&error);
        match error.kind() {
            ErrorKind::Refused => Self::Conflict(text),
            _ => Self::Failed(text),
        }
    }
}

type Reply<T> = oneshot::Sender<Result<T, CaptureError>>;

enum Command {
    AreStored(Vec<ChunkId>, Reply<Vec<bool>>),
    Put(Vec<Frame>, Reply<()>),
    Commit(Box<Commit>, Reply<ChunkId>),
}

/// An image to be made.
struct Commit {
    wanted: PlannedCapture,
    disk: PlannedDisk,
    manifest: Vec<u8>,
}

#[derive(Debug)]
struct Session {
    commands: mpsc::Sender<Command>,
    thread: JoinHandle<()>,
    used: Instant,
}

/// All captures under way.
#[derive(Debug)]
pub(crate) struct Captures {
    store: Arc<SiteStore>,
    sessions: Mutex<BTreeMap<String, Session>>,
}

impl Captures {
    /// Into `store`.
    pub(crate) fn new(store: Arc<SiteStore>) -> Self {
        Self { store, sessions: Mutex::default() }
    }

    /// Why no image can be made; `None` when one can.
    pub(crate) fn closed(&self) -> Option<String> {
        let place = self.store.place();
        self.store.is_read_only().then(|| format!("the site's store ({place}) is only read"))
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether each of these contents is stored, or on its way into a pack.
    pub(crate) async fn are_stored(
        &self,
        job: &str,
        disk: &PlannedDisk,
        ids: Vec<ChunkId>,
    ) -> Result<Vec<bool>, CaptureError> {
        self.ask(job, disk, |reply| Command::AreStored(ids, reply)).await
    }

    /// Stores frames that were decoded and found right.
    pub(crate) async fn put(
        &self,
        job: &str,
        disk: &PlannedDisk,
        frames: Vec<Frame>,
    ) -> Result<(), CaptureError> {
        self.ask(job, disk, |reply| Command::Put(frames, reply)).await
    }

    /// Makes an image of what was stored; gives its id.
    pub(crate) async fn commit(
        &self,
        job: &str,
        disk: &PlannedDisk,
        wanted: &PlannedCapture,
        manifest: Vec<u8>,
    ) -> Result<ChunkId, CaptureError> {
        let commit = Box::new(Commit { wanted: wanted.clone(), disk: disk.clone(), manifest });
        let made = self.ask(job, disk, |reply| Command::Commit(commit, reply)).await?;
        self.end(job);
        Ok(made)
    }

    /// Ends a session, if there is one.
    pub(crate) fn end(&self, job: &str) {
        self.sessions().remove(job);
    }

    /// Ends all sessions and waits until what came is kept.
    pub(crate) async fn close(&self) {
        let sessions = std::mem::take(&mut *self.sessions());
        let ended = tokio::task::spawn_blocking(move || {
            for Session { commands, thread, .. } in sessions.into_values() {
                drop(commands);
                // One that panicked has been reported by the panic itself.
                let _ = thread.join();
            }
        });
        let _ = ended.await;
    }

    /// Ends sessions that nothing came for.
    pub(crate) fn end_idle(&self) {
        self.sessions().retain(|job, session| {
            let is_used = session.used.elapsed() < IDLE;
            if !is_used {
                tracing::info!(job, "capture: nothing came for a long time; what came is kept");
            }
            is_used
        });
    }

    /// Whether the store has the image `name` with this id.
    pub(crate) async fn has(&self, name: &str, id: Digest) -> bool {
        let (store, name) = (Arc::clone(&self.store), name.to_owned());
        let found = tokio::task::spawn_blocking(move || image_id(&store, &name)).await;
        found.ok().flatten() == Some(id)
    }

    async fn ask<T>(
        &self,
        job: &str,
        disk: &PlannedDisk,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, CaptureError> {
        let gone = || CaptureError::Failed("the capture's session ended; send it again".to_owned());
        let commands = self.session(job, disk)?;
        let (reply, answer) = oneshot::channel();
        if commands.send(command(reply)).await.is_err() {
            self.forget(job, &commands);
            return Err(gone());
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => {
                self.forget(job, &commands);
                Err(gone())
            }
        }
    }

    /// The session of a job, which begins here if there is none.
    fn session(&self, job: &str, disk: &PlannedDisk) -> Result<mpsc::Sender<Command>, CaptureError> {
        let mut sessions = self.sessions();
        if let Some(session) = sessions.get_mut(job).filter(|session| !session.commands.is_closed()) {
            session.used = Instant::now();
            return Ok(session.commands.clone());
        }
        let (commands, received) = mpsc::channel(QUEUE);
        let (store, owned) = (Arc::clone(&self.store), job.to_owned());
        let limit = disk.size_bytes.saturating_add(disk.size_bytes / 16).saturating_add(SLACK_BYTES);
        let thread = std::thread::Builder::new().name("capture".to_owned());
        let spawned = thread.spawn(move || serve(&store, &owned, limit, received));
        let thread = spawned.map_err(|error| CaptureError::Failed(format!("start a thread: {error}")))?;
        let session = Session { commands: commands.clone(), thread, used: Instant::now() };
        sessions.insert(job.to_owned(), session);
        Ok(commands)
    }

    /// Forgets a session whose thread ended, unless another one took its place.
    fn forget(&self, job: &str, ended: &mpsc::Sender<Command>) {
        let mut sessions = self.sessions();
        if sessions.get(job).is_some_and(|session| session.commands.same_channel(ended)) {
            sessions.remove(job);
        }
    }
}

fn image_id(store: &SiteStore, name: &str) -> Option<Digest> {
    let image = store.to_write().ok()?.image(name).ok()?;
    Some(Digest(image.id.0))
}

/// The thread of a session.
fn serve(store: &SiteStore, job: &str, limit: u64, mut commands: mpsc::Receiver<Command>) {
    let store = store.to_write().map_err(CaptureError::from);
    let writer = store.as_ref().map_err(Clone::clone).and_then(|store| Ok((store, store.writer()?)));
    let (store, writer) = match writer {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(job, %error, "capture: the store cannot be written");
            while let Some(command) = commands.blocking_recv() {
                match command {
                    Command::AreStored(_, reply) => drop(reply.send(Err(error.clone()))),
                    Command::Put(_, reply) => drop(reply.send(Err(error.clone()))),
                    Command::Commit(_, reply) => drop(reply.send(Err(error.clone()))),
                }
                // The next request tries anew.
                commands.close();
            }
            return;
        }
    };
    let mut work = Work { store, writer: Some(writer), accepted_bytes: 0, limit };
    while let Some(command) = commands.blocking_recv() {
        // Who asked may be gone; what it sent counts all the same.
        match command {
            Command::AreStored(ids, reply) => drop(reply.send(work.are_stored(&ids))),
            Command::Put(frames, reply) => drop(reply.send(work.put(&frames))),
            Command::Commit(commit, reply) => {
                let made = work.commit(&commit);
                if let Err(error) = &made {
                    tracing::warn!(job, %error, "capture: no image was made");
                }
                drop(reply.send(made));
            }
        }
        if work.writer.is_none() {
            return;
        }
    }
    // What came is kept for a capture that goes on later.
    if let Some(Err(error)) = work.writer.as_mut().map(Writer::flush) {
        tracing::warn!(job, %error, "capture: what came last could not be kept");
    }
}

struct Work<'s> {
    store: &'s Store,
    /// `None` when the image was made.
    writer: Option<Writer<'s>>,
    accepted_bytes: u64,
    limit: u64,
}

impl<'s> Work<'s> {
    fn writer(&mut self) -> Result<&mut Writer<'s>, CaptureError> {
        self.writer.as_mut().ok_or_else(|| CaptureError::Failed("the image was made already".to_owned()))
    }

    fn are_stored(&mut self, ids: &[ChunkId]) -> Result<Vec<bool>, CaptureError> {
        let writer = self.writer()?;
        ids.iter().map(|id| Ok(writer.contains(id)?)).collect()
    }

    fn put(&mut self, frames: &[Frame]) -> Result<(), CaptureError> {
        for frame in frames {
            let writer = self.writer()?;
            let mut is_new = false;
            for entry in &frame.header.entries {
                is_new |= !writer.contains(&entry.id)?;
            }
            // Sent again after a lost answer.
            if !is_new {
                continue;
            }
            let accepted = self.accepted_bytes.saturating_add(u64::from(frame.header.plain));
            if accepted > self.limit {
                let limit = self.limit;
                let message = format!("more than the {limit} bytes that an image of this disk can have");
                return Err(CaptureError::Invalid(message));
            }
            self.writer()?.put(frame)?;
            self.accepted_bytes = accepted;
        }
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<ChunkId, CaptureError> {
        let name = &commit.wanted.name;
        let invalid = |error: gravure_blockimg::Error| CaptureError::Invalid(chain(&error));
        let image = ImageFile::open(&commit.manifest).map_err(invalid)?;
        check_image(&image, commit)?;
        if let Ok(there) = self.store.image(name) {
            if there.id == image.id {
                return Ok(image.id);
            }
            if !commit.wanted.replace {
                return Err(CaptureError::Conflict(format!("the store has another image {name} already")));
            }
        }
        // Tables are read back, so they must be in packs.
        self.writer()?.flush()?;
        self.check_content(&image)?;
        // So that machines that restore it need not read every pack first.
        self.store.write_index()?;
        let existing = if commit.wanted.replace { OnExisting::Replace } else { OnExisting::Refuse };
        if let Some(writer) = self.writer.take() {
            writer.commit(name, &commit.manifest, existing)?;
        }
        Ok(image.id)
    }

    /// Everything the image names must be there: a manifest that was made is a promise.
    fn check_content(&mut self, image: &ImageFile) -> Result<(), CaptureError> {
        let store = self.store;
        let writer = self.writer()?;
        let format = |error: gravure_blockimg::Error| CaptureError::Invalid(chain(&error));
        let mut decoder = FrameDecoder::new().map_err(format)?;
        let (mut missing, mut seen) = (0u64, HashSet::new());
        for region in &image.root.regions {
            if !writer.contains(&region.table)? {
                missing += 1;
                continue;
            }
            let table = store.content(&region.table, &mut decoder)?;
            let extents = check_region(&table, ChunkId::of(&table), region, 0).map_err(format)?;
            for id in extents.iter().filter_map(gravure_blockimg::Extent::id) {
                if seen.len() < MAX_SEEN && !seen.insert(id) {
                    continue;
                }
                missing += u64::from(!writer.contains(&id)?);
            }
        }
        if missing == 0 {
            return Ok(());
        }
        Err(CaptureError::Conflict(format!(
            "{missing} contents of the image are not in the store: capture it again"
        )))
    }
}

/// Refuses a manifest of something else than the plan's disk.
fn check_image(image: &ImageFile, commit: &Commit) -> Result<(), CaptureError> {
    let differs = |what: &str, expected: String, found: String| {
        Err(CaptureError::Invalid(format!("manifest: {what}: expected {expected}, found {found}")))
    };
    if !image.is_manifest() {
        return differs("form", "a manifest whose content is in a store".into(), "another".into());
    }
    if image.facts.scope == Scope::Files {
        return differs("content", "a disk".into(), "files".into());
    }
    let (disk, root) = (&commit.disk, &image.root);
    if root.size != disk.size_bytes {
        return differs("size", format!("{} bytes", disk.size_bytes), format!("{} bytes", root.size));
    }
    if root.sector_bytes != disk.logical_sector_bytes {
        let (expected, found) = (disk.logical_sector_bytes.to_string(), root.sector_bytes.to_string());
        return differs("sectors", expected, found);
    }
    Ok(())
}

/// The frames in the body of a request, each decoded and held against its ids. Blocks.
pub(crate) fn parse_frames(bytes: &[u8]) -> Result<Vec<Frame>, CaptureError> {
    let invalid = |error: gravure_blockimg::Error| CaptureError::Invalid(chain(&error));
    let mut decoder = FrameDecoder::new().map_err(invalid)?;
    let (mut frames, mut plain, mut at) = (Vec::new(), Vec::new(), 0usize);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let frame = Frame::parse(rest, u64::try_from(at).unwrap_or(u64::MAX)).map_err(invalid)?;
        if !matches!(frame.header.kind, FrameKind::Data | FrameKind::Table) {
            let kind = frame.header.kind;
            return Err(CaptureError::Invalid(format!(
                "frame at {at:#x}: expected chunks or a table, found {kind}"
            )));
        }
        decoder.decode(&frame, &mut plain).map_err(invalid)?;
        at = at.saturating_add(usize::try_from(frame.header.frame_len()).unwrap_or(usize::MAX));
        frames.push(frame);
    }
    if frames.is_empty() {
        return Err(CaptureError::Invalid("no frame came".to_owned()));
    }
    Ok(frames)
}
