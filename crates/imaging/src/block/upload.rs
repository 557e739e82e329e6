//! A device becomes an image of a store elsewhere: the store is asked which chunks it has, what it lacks is sent, the manifest goes
//! last. Whatever was sent stays sent, so a capture that was cut off and starts again sends only the rest.
//!
//! **Memory:** what a capture needs (`capture.rs`), and six batches of frames, 4 MiB each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Sender, bounded};
use gravure_blockimg::{ChunkId, Frame, FrameEncoder, FrameKind};
use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::blockimg;
use super::capture::{self, BlockCaptureOptions, BlockCaptureReport, Job, Sink};
use crate::{Error, ErrorKind};

/// Bytes of frames sent at once, at least, where there are as many. A frame comes on top.
pub const UPLOAD_BATCH_BYTES: u64 = 4 << 20;
/// Batches under way at a time: one is stored while the next one travels.
const SENDERS: usize = 2;

/// A store elsewhere, as one capture sees it. Each call may be repeated: what is there is not stored twice.
pub trait CaptureTarget: Send + Sync {
    /// Name for messages.
    fn name(&self) -> &str;

    /// Whether each of these contents is there, in their order.
    fn are_stored(&self, ids: &[ChunkId]) -> Result<Vec<bool>, Error>;

    /// Stores frames of chunks and tables.
    fn put(&self, frames: &[Frame]) -> Result<(), Error>;

    /// Makes an image of what was stored: `manifest` names it.
    fn commit(&self, manifest: &[u8]) -> Result<(), Error>;
}

/// Collects frames to batches for the senders.
struct UploadSink<'a> {
    target: &'a dyn CaptureTarget,
    batches: Sender<Vec<Frame>>,
    batch: Vec<Frame>,
    batch_bytes: u64,
    encoder: FrameEncoder,
    has_failed: &'a AtomicBool,
}

impl UploadSink<'_> {
    fn push(&mut self, frame: Frame) -> Result<(), Error> {
        self.batch_bytes += frame.header.frame_len();
        self.batch.push(frame);
        if self.batch_bytes >= UPLOAD_BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        if !self.has_failed.load(Ordering::Relaxed) && self.batches.send(batch).is_ok() {
            return Ok(());
        }
        // The sender's own reason is the one that is told.
        Err(Error::Other {
            what: format!("send to {}", self.target.name()),
            source: "sending has stopped".into(),
            kind: ErrorKind::Failed,
        })
    }
}

impl Sink for UploadSink<'_> {
    fn region(&mut self, table: &[u8], frames: Vec<(u64, Frame)>, _refs: &[(u64, u32)]) -> Result<(), Error> {
        for (_, frame) in frames {
            self.push(frame)?;
        }
        if self.target.are_stored(&[ChunkId::of(table)])?.first() == Some(&true) {
            return Ok(());
        }
        let frame = self.encoder.single(FrameKind::Table, table).map_err(blockimg(self.target.name()))?;
        self.push(frame)
    }
}

/// Captures into a store elsewhere.
pub(super) fn to_target(
    job: &Job<'_>,
    target: &dyn CaptureTarget,
    options: &BlockCaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<BlockCaptureReport, Error> {
    let encoder = FrameEncoder::new(3).map_err(blockimg(target.name()))?;
    let (has_failed, sent_bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (batches, received) = bounded::<Vec<Frame>>(SENDERS);
    let (mut report, root) = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (received, has_failed, sent_bytes) = (received.clone(), &has_failed, &sent_bytes);
                scope.spawn(move || -> Result<(), Error> {
                    for frames in received {
                        target.put(&frames).inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?;
                        let bytes: u64 = frames.iter().map(|frame| frame.header.frame_len()).sum();
                        sent_bytes.fetch_add(bytes, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        drop(received);
        let (batch, batch_bytes, has_failed) = (Vec::new(), 0, &has_failed);
        let mut sink = UploadSink { target, batches, batch, batch_bytes, encoder, has_failed };
        let are_stored = |ids: &[ChunkId]| target.are_stored(ids);
        let captured = capture::run(job, &mut sink, Some(&are_stored), options, ctl, observer);
        let captured = captured.and_then(|captured| sink.flush().map(|()| captured));
        // The senders end when there is nothing more to come.
        drop(sink);
        let mut sent: Result<(), Error> = Ok(());
        for sender in senders {
            let one = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sent = sent.and(one);
        }
        // Where sending failed, the capture stopped because of it.
        sent?;
        captured
    })?;
    ctl.check()?;
    let (root, manifest, len) = capture::manifest(job, root, target.name())?;
    target.commit(&manifest)?;
    capture::finish(&mut report, &root, sent_bytes.into_inner() + len)?;
    Ok(report)
}
