//! Bodies for fuzzing: any bytes must give a value or an error, in bounded time and memory. Replayed as plain tests in
//! `tests/it/fuzz_bodies.rs`.

use gravure_codec::Method;
use gravure_io::{MemoryDisk, ReadAt};
use gravure_tree::{ContentRef, Origin, SourceId};

use crate::read::bytes::{at, wide};
use crate::read::record::{Record, unprotect};
use crate::read::runs::{Holes, decode_runs};
use crate::read::{lznt1, mft};
use crate::{
    CheckObserver, CheckReport, Contents, Decoders, Error, Finding, ScanGuide, Strictness, Volume, check,
    grow, set_label, set_serial,
};

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

/// By how much a volume is made larger, bytes.
const GROWTH: usize = 1 << 20;

/// A whole volume, read: every file, the start of every content, decoded and as it is stored.
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
            stored(&scan.contents, &source, content, key);
        }
    }
}

/// A content as it is stored: holes, its compressed stream, chunks of that.
fn stored(contents: &Contents, source: &dyn ReadAt, content: &ContentRef, key: u64) {
    let mut end = 0;
    for hole in contents.holes(key) {
        assert!(end <= hole.start && hole.start < hole.end && hole.end <= content.size, "{hole:?}");
        end = hole.end;
    }
    if let Some((_, bytes)) = contents.compressed_form(key) {
        let mut buf = vec![0; at(bytes.min(MAX_CONTENT))];
        let _ = contents.read_compressed(source, key, 0, &mut buf);
        assert!(contents.read_compressed(source, key, bytes, &mut [0]).is_err());
    }
    let forms =
        [(Method::Xpress, 4096), (Method::Xpress, 8192), (Method::Xpress, 16_384), (Method::Lzx, 32_768)];
    for (_, chunk) in forms.into_iter().filter(|form| contents.is_stored_as(key, *form)) {
        let last = content.size.saturating_sub(1);
        for pos in [0, u64::from(chunk), last.saturating_sub(last.checked_rem(chunk.into()).unwrap_or(0))] {
            let mut out = vec![1, 2, 3];
            if let Ok(len) = contents.stored_chunk(source, key, pos, &mut out) {
                assert!(wide(len) <= u64::from(chunk) && out.len() == len.saturating_add(3));
            }
        }
    }
}

/// A whole volume on a larger disk, changed: longer, with another label and number. What was sound stays so. How many of the three
/// were done.
pub fn changed(data: &[u8]) -> usize {
    let errors = |bytes: &Vec<u8>| {
        check(bytes, Strictness::Usual, &mut Listener::default()).ok().map(|report| report.errors)
    };
    let mut larger = data.to_vec();
    larger.resize(data.len().saturating_add(GROWTH), 0);
    let before = errors(&larger);
    let sectors = wide(larger.len()) >> 9;
    let disk = MemoryDisk::from_bytes(larger);
    let done: [Result<(), Error>; 3] =
        [grow(&disk, sectors).map(drop), set_label(&disk, &"fuzzed".into()), set_serial(&disk, 7)];
    let count = done.iter().filter(|done| done.is_ok()).count();
    if count > 0 && before == Some(0) {
        assert_eq!(errors(&disk.to_vec()), Some(0));
    }
    count
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
