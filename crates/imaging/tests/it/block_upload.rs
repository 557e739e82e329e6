//! Captures into a store elsewhere: what is sent, what is sent again after every fault, and what becomes of it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gravure_blockimg::{ChunkId, Frame};
use gravure_imaging::{
    BlockCaptureReport, BlockImage, CaptureTarget, Error, ErrorKind, verify_block_image, whole_device,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_store::{LocalObjects, OnExisting, Store, Writer};

use crate::block_images::{capture_options, device, with_capture};

/// The other end, which stops working at its Nth batch.
struct Elsewhere<'s> {
    writer: Mutex<Option<Writer<'s>>>,
    batches: AtomicU64,
    bytes: AtomicU64,
    works_for: u64,
}

impl<'s> Elsewhere<'s> {
    fn new(store: &'s Store, works_for: u64) -> Self {
        let (batches, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { writer: Mutex::new(Some(store.writer().unwrap())), batches, bytes, works_for }
    }
}

fn broken() -> Error {
    Error::Network { url: "elsewhere".into(), why: "gone".into() }
}

impl CaptureTarget for Elsewhere<'_> {
    fn name(&self) -> &str {
        "elsewhere"
    }

    fn are_stored(&self, ids: &[ChunkId]) -> Result<Vec<bool>, Error> {
        let writer = self.writer.lock().unwrap();
        let writer = writer.as_ref().ok_or_else(broken)?;
        Ok(ids.iter().map(|id| writer.contains(id).unwrap()).collect())
    }

    fn put(&self, frames: &[Frame]) -> Result<(), Error> {
        if self.batches.fetch_add(1, Ordering::Relaxed) >= self.works_for {
            return Err(broken());
        }
        let mut writer = self.writer.lock().unwrap();
        for frame in frames {
            self.bytes.fetch_add(frame.header.frame_len(), Ordering::Relaxed);
            writer.as_mut().ok_or_else(broken)?.put(frame).unwrap();
        }
        Ok(())
    }

    fn commit(&self, manifest: &[u8]) -> Result<(), Error> {
        let writer = self.writer.lock().unwrap().take().ok_or_else(broken)?;
        writer.commit("x", manifest, OnExisting::Refuse).unwrap();
        Ok(())
    }
}

fn store(dir: &Path) -> Store {
    Store::open(Arc::new(LocalObjects::new(dir))).unwrap()
}

/// Sends `source`; what came of it and how many bytes arrived.
fn send(dir: &Path, source: &[u8], works_for: u64) -> (Result<BlockCaptureReport, Error>, u64) {
    let (store, layout) = (store(dir), whole_device(source.len() as u64));
    let target = Elsewhere::new(&store, works_for);
    let report = with_capture(&source, &layout, |capture| {
        capture.to_target(&target, &capture_options(2), &Ctl::default(), &Silent)
    });
    // What arrived is kept, as a server does.
    if let Some(writer) = target.writer.lock().unwrap().as_mut() {
        writer.flush().unwrap();
    }
    (report, target.bytes.into_inner())
}

#[test]
fn a_capture_that_breaks_off_anywhere_sends_only_the_rest_next_time() {
    let source = device(7, 24 << 20);
    let whole = tempfile::tempdir().unwrap();
    let (report, all) = send(whole.path(), &source, u64::MAX);
    let report = report.unwrap();
    assert!(all > 4 << 20, "several batches: {all} bytes");
    // The manifest comes on top.
    assert!(
        report.stored_bytes > all && report.stored_bytes < all + (1 << 20),
        "{} for {all}",
        report.stored_bytes
    );
    for works_for in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let (first, before) = send(dir.path(), &source, works_for);
        let first = match first {
            Ok(done) => {
                assert_eq!(done.id, report.id);
                assert!(works_for > 1, "several batches");
                break;
            }
            Err(error) => error,
        };
        assert_eq!(first.kind(), ErrorKind::Network, "{first}");
        assert!(store(dir.path()).images().unwrap().is_empty(), "no image after a fault");
        let (second, after) = send(dir.path(), &source, u64::MAX);
        assert_eq!(second.unwrap().id, report.id);
        // Chunks are grouped anew, so headers may differ by a little; content is not sent twice.
        assert!(before + after <= all + all / 50 + (64 << 10), "{before} and {after} of {all}");
        let image = BlockImage::open_stored(Arc::new(store(dir.path())), "x").unwrap();
        let verified = verify_block_image(&image, None, &Ctl::default(), &Silent).unwrap();
        assert_eq!((verified.damage.len(), verified.tree), (0, report.tree));
    }
}

#[test]
fn what_the_store_has_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = device(8, 12 << 20);
    send(dir.path(), &source, u64::MAX).0.unwrap();
    let store = store(dir.path());
    store.remove_image("x").unwrap();
    source[5 << 20] ^= 1;
    let (report, sent) = send(dir.path(), &source, u64::MAX);
    let report = report.unwrap();
    assert!(report.new_bytes <= 1 << 20, "{}", report.new_bytes);
    assert!(sent < 2 << 20, "{sent}");
}
