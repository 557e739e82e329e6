//! Bodies for fuzzing: any bytes must give a value or an error, in bounded time and memory. Replayed as plain tests in
//! `tests/it/fuzz_bodies.rs`.

use gravure_tree::{Origin, SourceId};

use crate::read::bytes::{at, wide};
use crate::read::record::{Record, unprotect};
use crate::read::runs::{Holes, decode_runs};
use crate::read::{lznt1, mft};
use crate::{CheckObserver, CheckReport, Decoders, Finding, ScanGuide, Strictness, Volume, check};

/// Content read per stream at most, bytes.
const MAX_CONTENT: u64 = 256 << 10;
/// Findings after which a check is stopped by its observer.
const MAX_FINDINGS: usize = 100_000;

/// Listens to everything.
#[derive(Debug, Default)]
struct Listener {
    findings: usize,
}

impl CheckObserver for Listener {
    fn finding(&mut self, finding: &Finding) {
        assert!(!finding.to_string().is_empty());
        self.findings = self.findings.saturating_add(1);
    }

    fn goes_on(&mut self, _: u32, _: u32) -> bool {
        self.findings < MAX_FINDINGS
    }
}

impl ScanGuide for Listener {
    fn warn(&mut self, message: String) {
        assert!(!message.is_empty());
    }
}

/// A whole volume, read: every file, the start of every content.
pub fn volume(data: &[u8]) {
    let source = data.to_vec();
    let Ok(volume) = Volume::open(&source) else { return };
    let _ = (volume.label(), volume.state().unclean());
    if let Ok(runs) = volume.used_runs(&source) {
        let _ = runs.take(10_000).filter(Result::is_ok).count();
    }
    let Ok(scan) = volume.scan(&source, SourceId(0), &mut Listener::default()) else { return };
    let mut decoders = Decoders::default();
    for step in scan.tree.walk() {
        for content in scan.tree.node(step.entry.node).contents() {
            let Origin::Source { key, .. } = content.origin else { continue };
            let mut buf = vec![0; at(content.size.min(MAX_CONTENT))];
            let _ = scan.contents.read(&volume, &source, key, 0, &mut buf, &mut decoders);
        }
    }
}

/// A whole volume, checked. `None` when the check ended with an error.
pub fn checked(data: &[u8]) -> Option<CheckReport> {
    check(&data.to_vec(), Strictness::Fresh, &mut Listener::default()).ok()
}

/// A file record.
pub fn record(data: &[u8]) {
    let mut bytes = data.to_vec();
    if unprotect(&mut bytes).is_err() {
        return;
    }
    let Ok(record) = Record::parse(&bytes) else { return };
    let mut end = 0usize;
    for attribute in record.attributes().flatten() {
        assert!(attribute.pos >= end);
        end = attribute.pos.saturating_add(attribute.len);
        assert!(end <= bytes.len());
    }
}

/// Runs of a stream.
pub fn runs(data: &[u8]) {
    for holes in [Holes::Allowed, Holes::Refused] {
        let Ok((runs, len)) = decode_runs(data, 1 << 30, holes) else { continue };
        assert!(len <= data.len());
        let placed = runs.iter().filter_map(|run| Some(run.lcn?.checked_add(run.clusters)));
        placed.for_each(|end| assert!(end.is_some_and(|end| end <= 1 << 30)));
    }
}

/// An attribute list.
pub fn list(data: &[u8]) {
    let mut before = None;
    for entry in mft::list_entries(data).map_while(Result::ok) {
        assert!(before.is_none_or(|before| entry.pos > before) && wide(entry.pos) < wide(data.len()));
        before = Some(entry.pos);
    }
}

/// Compressed data.
pub fn compressed(data: &[u8]) {
    let mut plain = vec![0; 64 << 10];
    let _ = lznt1::decode(data, &mut plain);
}
