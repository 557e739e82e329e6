//! Frames that several regions want, because content occurs in several places: the first region of them takes the chunks of all, so that no frame is
//! fetched and decoded twice.
//!
//! **Memory:** a bit for each extent, and 14 MiB.

use std::collections::HashMap;

use gravure_blockimg::ChunkId;

use super::image::{FrameAt, Target};

/// Frames that are remembered with the first region that wants them: those of 128 GiB of content or more, in 8 MiB.
const MAX_FIRST: usize = 1 << 17;
/// Chunks that go with earlier regions, in 6 MiB.
const MAX_EARLY: usize = 1 << 16;

/// A bit for each extent of each region: it is still wanted.
#[derive(Debug, Default)]
pub(super) struct Needed {
    regions: Vec<Vec<u64>>,
}

impl Needed {
    /// Regions that were looked at.
    pub(super) fn regions(&self) -> usize {
        self.regions.len()
    }

    pub(super) fn push_region(&mut self, extents: usize, is_needed: bool) {
        let word = if is_needed { u64::MAX } else { 0 };
        self.regions.push(vec![word; extents.div_ceil(64)]);
    }

    pub(super) fn set(&mut self, region: usize, extent: usize) {
        self.regions[region][extent / 64] |= 1 << (extent % 64);
    }

    fn clear(&mut self, region: usize, extent: usize) {
        self.regions[region][extent / 64] &= !(1 << (extent % 64));
    }

    pub(super) fn get(&self, region: usize, extent: usize) -> bool {
        self.regions[region][extent / 64] >> (extent % 64) & 1 == 1
    }
}

/// Chunks that come before their regions do, with the frames they are in. What is above the limits comes in its turn.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// The first region that wants a frame.
    first: HashMap<(ChunkId, u64), usize>,
    of_region: HashMap<usize, Vec<(FrameAt, Target)>>,
    count: usize,
}

impl Early {
    /// Takes those chunks of `region` that go with an earlier one; the region itself does not need them any more.
    pub(super) fn take(&mut self, region: usize, wanted: Vec<(usize, FrameAt, Target)>, needed: &mut Needed) {
        for (extent, at, target) in wanted {
            if self.takes(region, at, target) {
                needed.clear(region, extent);
            }
        }
    }

    fn takes(&mut self, region: usize, at: FrameAt, target: Target) -> bool {
        match self.first.get(&at.key()) {
            Some(first) if *first < region && self.count < MAX_EARLY => {
                self.of_region.entry(*first).or_default().push((at, target));
                self.count += 1;
                true
            }
            Some(_) => false,
            None => {
                if self.first.len() < MAX_FIRST {
                    self.first.insert(at.key(), region);
                }
                false
            }
        }
    }

    /// All regions were looked at.
    pub(super) fn end(&mut self) {
        self.first = HashMap::new();
    }

    /// What comes with `region`, once.
    pub(super) fn of_region(&mut self, region: usize) -> Vec<(FrameAt, Target)> {
        self.of_region.remove(&region).unwrap_or_default()
    }
}
