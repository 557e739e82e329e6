//! Blocks that stand elsewhere than where they belong: a journal replayed without writing to the device.
//!
//! Next to no content is held: an entry says where on the device the newer content lies, so a journal of a gigabyte costs
//! twenty megabytes at most.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use gravure_io::ReadAt;

use crate::Segment;
use crate::field::{size, wide};
use crate::segments::physical;

/// What replaces a piece of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Patch {
    /// Content that stands at byte `from` of the device.
    Moved { from: u64, len: u64 },
    /// Content made anew.
    Bytes(Vec<u8>),
}

impl Patch {
    fn len(&self) -> u64 {
        match self {
            Self::Moved { len, .. } => *len,
            Self::Bytes(bytes) => wide(bytes.len()),
        }
    }

    /// The piece from `pos` on, `len` bytes, as a patch of its own.
    fn piece(&self, pos: u64, len: u64) -> Self {
        match self {
            Self::Moved { from, .. } => Self::Moved { from: from.saturating_add(pos), len },
            Self::Bytes(bytes) => Self::Bytes(crate::field::slice(bytes, size(pos), size(len)).to_vec()),
        }
    }
}

/// Newer content for places of a device. Over the device it is what the device would be after its journal was replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// By first byte; patches do not overlap.
    patches: BTreeMap<u64, Patch>,
}

impl Overlay {
    pub(crate) const fn new() -> Self {
        Self { patches: BTreeMap::new() }
    }

    /// Nothing differs from the device.
    pub fn is_empty(&self) -> bool {
        self.patches.is_empty()
    }

    /// Bytes that differ from the device, ascending; ranges may touch.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.patches.iter().map(|(start, patch)| *start..start.saturating_add(patch.len()))
    }

    /// The device with the newer content in its places.
    pub fn over<D: ReadAt>(&self, device: D) -> Overlaid<'_, D> {
        Overlaid { device, overlay: self }
    }

    /// Replaces what stands at `offset`. Patches must not overlap.
    pub(crate) fn set(&mut self, offset: u64, patch: Patch) {
        self.patches.insert(offset, patch);
    }

    /// Takes back all patches that start in `range`.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        let starts: Vec<u64> = self.patches.range(range).map(|(start, _)| *start).collect();
        starts.iter().for_each(|start| drop(self.patches.remove(start)));
    }

    /// The same for the device on which the volume lies in `segments`: places and sources move.
    pub(crate) fn on_device(&self, segments: &[Segment]) -> Self {
        let mut moved = Self::default();
        for (offset, patch) in &self.patches {
            let mut pos = 0u64;
            for target in physical(segments, *offset..offset.saturating_add(patch.len())) {
                let len = target.end.saturating_sub(target.start);
                match patch.piece(pos, len) {
                    Patch::Moved { from, len } => {
                        let mut to = target.start;
                        for source in physical(segments, from..from.saturating_add(len)) {
                            let len = source.end.saturating_sub(source.start);
                            moved.set(to, Patch::Moved { from: source.start, len });
                            to = to.saturating_add(len);
                        }
                    }
                    bytes @ Patch::Bytes(_) => moved.set(target.start, bytes),
                }
                pos = pos.saturating_add(len);
            }
        }
        moved
    }

    /// Adds what another overlay of the same device says.
    pub(crate) fn extend(&mut self, other: Self) {
        self.patches.extend(other.patches);
    }

    /// Patches that touch `range`.
    fn touching(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Patch)> {
        let before = self.patches.range(..range.start).next_back();
        let before = before.filter(move |(start, patch)| start.saturating_add(patch.len()) > range.start);
        before.into_iter().chain(self.patches.range(range)).map(|(start, patch)| (*start, patch))
    }
}

/// A device with an overlay over it.
#[derive(Debug, Clone)]
pub struct Overlaid<'a, D> {
    device: D,
    overlay: &'a Overlay,
}

impl<D: ReadAt> ReadAt for Overlaid<'_, D> {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_exact_at(offset, buf)?;
        let end = offset.saturating_add((*buf).size());
        for (start, patch) in self.overlay.touching(offset..end) {
            let from = start.max(offset);
            let to = start.saturating_add(patch.len()).min(end);
            let skipped = from.saturating_sub(start);
            let out = buf.get_mut(size(from.saturating_sub(offset))..size(to.saturating_sub(offset)));
            let Some(out) = out else { continue };
            match patch {
                Patch::Bytes(bytes) => {
                    out.copy_from_slice(crate::field::slice(bytes, size(skipped), out.len()));
                }
                Patch::Moved { from, .. } => self.device.read_exact_at(from.saturating_add(skipped), out)?,
            }
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let below = self.device.next_data(offset)?;
        let patch = self.overlay.touching(offset..u64::MAX).next();
        let patch = patch.map(|(start, patch)| start.max(offset)..start.saturating_add(patch.len()));
        Ok(match (below, patch) {
            (Some(below), Some(patch)) if patch.start < below.start => Some(patch),
            (None, patch) => patch,
            (below, _) => below,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay() -> Overlay {
        let mut overlay = Overlay::default();
        overlay.set(8, Patch::Bytes(vec![1, 2, 3, 4]));
        overlay.set(12, Patch::Moved { from: 44, len: 4 });
        overlay.set(16, Patch::Bytes(vec![200; 8]));
        overlay.set(32, Patch::Moved { from: 48, len: 8 });
        overlay
    }

    /// What the overlay of the tests makes of a device whose bytes are their own offsets.
    fn expected() -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..64).collect();
        bytes[8..16].copy_from_slice(&[1, 2, 3, 4, 44, 45, 46, 47]);
        bytes[16..24].fill(200);
        bytes[32..40].copy_from_slice(&[48, 49, 50, 51, 52, 53, 54, 55]);
        bytes
    }

    #[test]
    fn every_range_reads_as_the_whole_does() {
        let device: Vec<u8> = (0..64).collect();
        let overlay = overlay();
        let over = overlay.over(&device);
        for start in 0..64 {
            for end in start..=64 {
                let got = over.read_vec_at(start as u64, end - start).unwrap();
                assert_eq!(got, &expected()[start..end], "{start}..{end}");
            }
        }
        assert!(over.read_vec_at(60, 5).is_err());
        assert_eq!(overlay.ranges().collect::<Vec<_>>(), [8..12, 12..16, 16..24, 32..40]);
    }

    #[test]
    fn patches_move_with_the_pieces_of_a_volume() {
        // Pieces of 5 bytes, in reverse order, on a device of 70 bytes.
        let segments: Vec<Segment> =
            (0..13).map(|n| Segment { logical: n * 5, physical: 65 - n * 5, len: 5 }).collect();
        let mut device = vec![0u8; 70];
        for segment in &segments {
            for n in 0..segment.len {
                device[(segment.physical + n) as usize] = (segment.logical + n) as u8;
            }
        }
        let moved = overlay().on_device(&segments);
        let over = crate::Segments::new(moved.over(&device), segments).unwrap();
        assert_eq!(over.read_vec_at(0, 64).unwrap(), expected());
    }
}
