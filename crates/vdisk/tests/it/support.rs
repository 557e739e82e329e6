//! A disk with something in it, and files of it that we write.

use std::sync::Arc;

use gravure_io::{FileAt, ReadAt};
use gravure_testkit::Random;
use gravure_vdisk::{Kind, VhdxIds, VirtualDisk, Written, write_qcow2, write_vhdx};

/// A disk of `size` bytes: noise, text and much that is zero.
pub(crate) fn disk(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(size);
    while out.len() < size {
        let len = usize::try_from(512 * (1 + random.below(700))).unwrap();
        match random.below(4) {
            0 => out.extend((0..len).map(|_| random.below(256) as u8)),
            1 => out.extend((0..len).map(|at| b"some text that repeats "[at % 23])),
            _ => out.resize(out.len() + len * 2, 0),
        }
    }
    out.truncate(size);
    out
}

/// A disk whose holes are known, as files have them.
pub(crate) struct Sparse(pub(crate) Vec<u8>);

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(offset, buf)
    }
    fn next_data(&self, offset: u64) -> std::io::Result<Option<std::ops::Range<u64>>> {
        let from = usize::try_from(offset).unwrap();
        let start = self.0[from..].iter().position(|byte| *byte != 0);
        Ok(start.map(|start| {
            let start = from + start;
            let run = self.0[start..].chunks(512).position(|chunk| chunk.iter().all(|byte| *byte == 0));
            let end = run.map_or(self.0.len(), |run| start + run * 512);
            start as u64..end as u64
        }))
    }
}

pub(crate) const IDS: VhdxIds = VhdxIds { disk: [1; 16], writes: [[2; 16], [3; 16]] };

/// Writes `disk` as a file of `kind`.
pub(crate) fn write(
    disk: &dyn ReadAt,
    kind: Kind,
    sector_bytes: u32,
    path: &std::path::Path,
) -> Result<Written, gravure_vdisk::Error> {
    let file =
        std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let target = FileAt::new(file).unwrap();
    match kind {
        Kind::Qcow2 => write_qcow2(disk, &target, &mut |_| Ok(())),
        _ => write_vhdx(disk, sector_bytes, &IDS, &target, &mut |_| Ok(())),
    }
}

pub(crate) fn open(path: &std::path::Path) -> VirtualDisk {
    let source: Arc<dyn ReadAt> = Arc::new(FileAt::open(path).unwrap());
    let kind = Kind::of(&source).unwrap().unwrap();
    VirtualDisk::open(source, kind).unwrap()
}

/// Everything in it, read in odd pieces.
pub(crate) fn contents(disk: &dyn ReadAt) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(disk.size()).unwrap()];
    let mut at = 0;
    while at < out.len() {
        let len = 70_001.min(out.len() - at);
        disk.read_exact_at(at as u64, &mut out[at..at + len]).unwrap();
        at += len;
    }
    // What is said to be a hole is zero.
    let mut at = 0;
    while let Some(range) = disk.next_data(at).unwrap() {
        assert!(out[at as usize..range.start as usize].iter().all(|byte| *byte == 0));
        at = range.end;
    }
    assert!(out[at as usize..].iter().all(|byte| *byte == 0));
    out
}
