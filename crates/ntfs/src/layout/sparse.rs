//! Sparse streams with holes: which of their clusters there are, and how their runs are spread over records.
//!
//! What there is of a stream stands in one piece on the volume; how many bytes the runs take at most is known before any cluster
//! has its place.

use std::ops::Range;

use super::options::{Geometry, SPARSE_UNIT_BYTES};
use crate::disk::{NON_RESIDENT_BYTES, Run, encoded_bytes};

/// Most holes of one stream. Each part of the stream in a record of its own takes 32 bytes of an attribute list, which holds
/// 256 KiB; far from that, a file of this many holes would be read as slowly as one in so many pieces.
const MAX_HOLES: usize = 1 << 15;

/// A part of a stream that is there, or a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    clusters: u64,
    is_hole: bool,
}

impl Stretch {
    /// Bytes that it takes at most among the runs.
    fn run_bytes(&self, geometry: &Geometry) -> usize {
        let distance = if self.is_hole { 0 } else { encoded_bytes(geometry.clusters) };
        1 + encoded_bytes(self.clusters) + distance
    }
}

/// A sparse stream with at least one hole.
#[derive(Debug, Clone)]
pub(super) struct SparsePlan {
    stretches: Vec<Stretch>,
    /// For each part of the stream that stands in an attribute of its own: its first stretch.
    parts: Vec<usize>,
    /// Clusters that there are.
    pub(super) clusters: u64,
}

/// A part of a content that is on the volume; what is between parts is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Offset in the content, bytes.
    pub pos: u64,
    /// Absolute offset on the volume, bytes.
    pub offset: u64,
    /// Bytes of its clusters; what is behind the content's end is to be zeros.
    pub allocated: u64,
}

/// The runs of one part of a stream.
#[derive(Debug)]
pub(super) struct PartRuns {
    pub(super) lowest: u64,
    pub(super) runs: Vec<Run>,
}

impl SparsePlan {
    /// A stream of `size` bytes with zeros in `holes`; `None` when no whole unit is zeros.
    pub(super) fn new(size: u64, holes: &[Range<u64>], geometry: &Geometry) -> Option<Self> {
        let unit = SPARSE_UNIT_BYTES.max(geometry.cluster_bytes);
        let end = size.div_ceil(unit);
        let mut units: Vec<Range<u64>> = Vec::new();
        for hole in holes {
            // The end of the stream ends its last unit.
            let last = if hole.end >= size { end } else { hole.end / unit };
            let first = hole.start.div_ceil(unit);
            match units.last_mut() {
                Some(before) if before.end >= first => before.end = before.end.max(last),
                _ if first < last => units.push(first..last),
                _ => {}
            }
        }
        if units.len() > MAX_HOLES {
            // The largest save the most.
            units.sort_by_key(|hole| std::cmp::Reverse(hole.end - hole.start));
            units.truncate(MAX_HOLES);
            units.sort_by_key(|hole| hole.start);
        }
        if units.is_empty() {
            return None;
        }
        let per_unit = unit / geometry.cluster_bytes;
        let (mut stretches, mut at) = (Vec::with_capacity(2 * units.len() + 1), 0);
        for hole in &units {
            for (len, is_hole) in [(hole.start - at, false), (hole.end - hole.start, true)] {
                if len > 0 {
                    stretches.push(Stretch { clusters: len * per_unit, is_hole });
                }
            }
            at = hole.end;
        }
        if end > at {
            stretches.push(Stretch { clusters: (end - at) * per_unit, is_hole: false });
        }
        let clusters = stretches.iter().filter(|one| !one.is_hole).map(|one| one.clusters).sum();
        let mut this = Self { stretches, parts: vec![0], clusters };
        this.split(geometry);
        Some(this)
    }

    /// Cuts the stream where the runs of a part would not fit into a record.
    fn split(&mut self, geometry: &Geometry) {
        let room = geometry.record_room() - part_head_bytes(0) - 8;
        let mut used = 1;
        for (index, one) in self.stretches.iter().enumerate() {
            let bytes = one.run_bytes(geometry);
            if used + bytes > room {
                self.parts.push(index);
                used = 1;
            }
            used += bytes;
        }
    }

    /// In how many attributes the stream stands.
    pub(super) fn part_count(&self) -> usize {
        self.parts.len()
    }

    fn part_range(&self, part: usize) -> Range<usize> {
        let end = self.parts.get(part + 1).copied().unwrap_or(self.stretches.len());
        self.parts[part]..end
    }

    /// Bytes of a part's attribute at most, padded.
    pub(super) fn part_bytes(&self, part: usize, geometry: &Geometry) -> usize {
        let runs: usize =
            self.stretches[self.part_range(part)].iter().map(|one| one.run_bytes(geometry)).sum();
        (part_head_bytes(part) + runs + 1).next_multiple_of(8)
    }

    /// First cluster of a part, counted in the stream.
    pub(super) fn lowest(&self, part: usize) -> u64 {
        self.stretches[..self.parts[part]].iter().map(|one| one.clusters).sum()
    }

    /// The runs of a part of the stream, whose clusters start at `lcn`.
    pub(super) fn part_runs(&self, part: usize, lcn: u64) -> PartRuns {
        let range = self.part_range(part);
        let before = self.stretches[..range.start].iter().filter(|one| !one.is_hole);
        let mut next = lcn + before.map(|one| one.clusters).sum::<u64>();
        let run = |one: &Stretch| {
            let lcn = (!one.is_hole).then_some(next);
            next += if one.is_hole { 0 } else { one.clusters };
            Run { clusters: one.clusters, lcn }
        };
        let runs = self.stretches[range].iter().map(run).collect();
        PartRuns { lowest: self.lowest(part), runs }
    }

    /// What there is of the stream, whose clusters start at `lcn`.
    pub(super) fn pieces(&self, lcn: u64, geometry: &Geometry) -> Vec<Piece> {
        let (mut vcn, mut next) = (0, lcn);
        let mut out = Vec::with_capacity(self.stretches.len() / 2 + 1);
        for one in &self.stretches {
            if !one.is_hole {
                let allocated = geometry.offset(one.clusters);
                out.push(Piece { pos: geometry.offset(vcn), offset: geometry.offset(next), allocated });
                next += one.clusters;
            }
            vcn += one.clusters;
        }
        out
    }

    /// Bytes of the stream that are in no cluster.
    pub(super) fn hole_bytes(&self, geometry: &Geometry) -> u64 {
        let holes = self.stretches.iter().filter(|one| one.is_hole);
        geometry.offset(holes.map(|one| one.clusters).sum())
    }
}

/// Bytes of the head of a part's attribute: only the first has the size of the stream's clusters.
fn part_head_bytes(part: usize) -> usize {
    NON_RESIDENT_BYTES + if part == 0 { 8 } else { 0 }
}
