//! Metadata as a stream of writes, in ascending order, in bounded memory.

use std::ops::Range;

use super::attribute::to_u64;
use super::collect::DirPlan;
use super::index::{Entries, Shape};
use super::plan::VolumePlan;
use super::views::View;
use crate::disk::{UPCASE, attribute_definitions, numbers};

/// Bytes of a write, at most; few are shorter.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes for the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Absolute offset on the volume.
    pub offset: u64,
    /// Whole sectors.
    pub bytes: Vec<u8>,
}

/// Contents that stand in file records, as the engine kept them.
pub trait ResidentBytes {
    /// Fills `buf` with what was kept from `slot` on ([`super::Place::Resident`]).
    fn read(&self, slot: u64, buf: &mut [u8]);
}

impl ResidentBytes for [u8] {
    fn read(&self, slot: u64, buf: &mut [u8]) {
        let start = usize::try_from(slot).unwrap_or(usize::MAX);
        if let Some(from) = self.get(start..start.saturating_add(buf.len())) {
            buf.copy_from_slice(from);
        }
    }
}

impl ResidentBytes for Vec<u8> {
    fn read(&self, slot: u64, buf: &mut [u8]) {
        self.as_slice().read(slot, buf);
    }
}

type Pieces<'a> = Box<dyn Iterator<Item = Vec<u8>> + 'a>;

/// A part of the volume: first cluster, bytes, and what makes them.
struct Region<'a> {
    lcn: u64,
    pieces: Pieces<'a>,
}

impl VolumePlan<'_> {
    /// Everything but contents and boot sectors, in ascending order. The memory used is that of a few writes and of the
    /// largest directory's order of names.
    pub fn metadata<'a>(&'a self, resident: &'a dyn ResidentBytes) -> impl Iterator<Item = Write> + 'a {
        let clusters = &self.clusters;
        let system = vec![
            Region { lcn: clusters.mirror, pieces: self.mirror(resident) },
            Region { lcn: clusters.mft_bitmap, pieces: Box::new(self.mft_bitmap()) },
            Region { lcn: clusters.mft, pieces: self.records(resident) },
            Region { lcn: clusters.upcase, pieces: once(UPCASE.to_bytes()) },
            Region { lcn: clusters.definitions, pieces: once(attribute_definitions()) },
            Region { lcn: clusters.bitmap, pieces: Box::new(self.cluster_bitmap()) },
            Region { lcn: clusters.log_file, pieces: Box::new(self.log_file()) },
            Region { lcn: clusters.sds, pieces: once(self.secure.sds().to_vec()) },
        ];
        let views = (0..4).flat_map(|number| match number {
            0 => self.view_regions(&self.hash_view, &self.secure.hash_index()),
            1 => self.view_regions(&self.id_view, &self.secure.id_index()),
            2 => self.view_regions(&self.object_id_view, &self.object_ids),
            _ => self.view_regions(&self.reparse_view, &self.reparse_entries),
        });
        let dirs = self.collected.dirs.iter().enumerate().filter(|(_, dir)| dir.blocks > 0);
        let dirs = dirs.map(|(number, dir)| Region { lcn: dir.lcn, pieces: self.dir_blocks(number, dir) });
        let extras = self.extras.iter().map(move |extra| {
            let value = self.extra_value(extra.node, extra.kind, resident);
            Region { lcn: extra.lcn, pieces: once(value) }
        });
        let regions = system.into_iter().chain(views).chain(dirs).chain(extras);
        let sized = regions.flat_map(|region| {
            let mut offset = self.geometry.offset(region.lcn);
            region.pieces.map(move |bytes| {
                let at = offset;
                offset += to_u64(bytes.len());
                Write { offset: at, bytes }
            })
        });
        Gather { writes: sized, cluster_bytes: self.geometry.cluster_bytes, next: None }
    }

    /// Blocks and bitmap of a view index.
    fn view_regions(&self, view: &View, entries: &dyn Entries) -> Vec<Region<'_>> {
        let blocks: Vec<Vec<u8>> = view.shape.blocks(entries, self.geometry.index_vcn_step()).collect();
        let blocks = Region { lcn: view.lcn, pieces: Box::new(blocks.into_iter()) };
        let bitmap = || once(super::index::bitmap(view.blocks()));
        let bitmap = view.bitmap_lcn.map(|lcn| Region { lcn, pieces: bitmap() });
        std::iter::once(blocks).chain(bitmap).collect()
    }

    /// Copy of the first records: four, or a cluster of them.
    fn mirror<'a>(&'a self, resident: &'a dyn ResidentBytes) -> Pieces<'a> {
        let record = to_u64(self.geometry.record_bytes);
        let count = (self.geometry.cluster_bytes / record).max(4);
        let count = u32::try_from(count).unwrap_or(4);
        Box::new((0..count).map(move |number| self.low_record(number, resident)))
    }

    /// All records of the MFT.
    fn records<'a>(&'a self, resident: &'a dyn ResidentBytes) -> Pieces<'a> {
        let low = (0..self.first_user).map(move |number| self.low_record(number, resident));
        let root = self.collected.tree.root();
        let root_extensions = std::iter::once(()).filter(|()| self.root_extensions > 0);
        let root_extensions =
            root_extensions.flat_map(move |()| self.node_records(root, resident).into_iter().skip(1));
        let nodes = self.nodes_by_record().skip(1).flat_map(move |id| self.node_records(id, resident));
        let free = u64::from(self.record_end)..self.record_count;
        let free = free.map(|number| self.free_record(u32::try_from(number).unwrap_or(u32::MAX)));
        Box::new(low.chain(root_extensions).chain(nodes).chain(free))
    }

    /// A record that no file but the root has.
    fn low_record(&self, number: u32, resident: &dyn ResidentBytes) -> Vec<u8> {
        match number {
            numbers::ROOT => {
                self.node_records(self.collected.tree.root(), resident).into_iter().next().unwrap_or_default()
            }
            _ => self.system_record(number).unwrap_or_else(|| self.free_record(number)),
        }
    }

    fn mft_bitmap(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let used = [
            0..u64::from(numbers::FIRST_FREE),
            u64::from(numbers::QUOTA)..u64::from(numbers::AFTER_SYSTEM),
            u64::from(self.first_user)..u64::from(self.record_end),
        ];
        bit_pieces(self.mft_bitmap_bytes(), used)
    }

    /// Bits behind the last cluster are set.
    fn cluster_bitmap(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let (clusters, bytes) = (&self.clusters, self.bitmap_bytes());
        let rest = self.geometry.clusters..bytes * 8;
        bit_pieces(bytes, [0..clusters.zone, clusters.after_zone..clusters.end, rest])
    }

    /// All ones: what drivers take for an empty log. Zeros they do not.
    fn log_file(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let bytes = usize::try_from(super::system::log_file_bytes(self.options.volume_bytes)).unwrap_or(0);
        (0..bytes.div_ceil(WRITE_BYTES)).map(move |n| vec![0xff; (bytes - n * WRITE_BYTES).min(WRITE_BYTES)])
    }

    fn dir_blocks<'a>(&'a self, number: usize, dir: &'a DirPlan) -> Pieces<'a> {
        let number = super::attribute::to_u32(number);
        let entries = self.dir_entries(number);
        let shape = Shape::new(&entries, super::collect::at(dir.root_bytes));
        let step = self.geometry.index_vcn_step();
        Box::new(
            (0..dir.blocks)
                .scan((entries, shape), move |(entries, shape), block| shape.block(entries, block, step)),
        )
    }
}

fn once<'a>(bytes: Vec<u8>) -> Pieces<'a> {
    Box::new(std::iter::once(bytes))
}

/// A bitmap of `bytes` in pieces, the bits of the ranges set.
fn bit_pieces(bytes: u64, used: [Range<u64>; 3]) -> impl Iterator<Item = Vec<u8>> {
    let step = to_u64(WRITE_BYTES);
    (0..bytes.div_ceil(step)).map(move |piece| {
        let (start, end) = (piece * step, ((piece + 1) * step).min(bytes));
        let mut out = vec![0u8; usize::try_from(end - start).unwrap_or(0)];
        for range in &used {
            let (from, to) = (range.start.clamp(start * 8, end * 8), range.end.clamp(start * 8, end * 8));
            set_bits(&mut out, from - start * 8..to.max(from) - start * 8);
        }
        out
    })
}

fn set_bits(bytes: &mut [u8], range: Range<u64>) {
    let mut bit = range.start;
    while bit < range.end {
        let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        if bit.is_multiple_of(8) && range.end - bit >= 8 {
            let whole = usize::try_from((range.end - bit) / 8).unwrap_or(0);
            bytes[at..at + whole].fill(0xff);
            bit += to_u64(whole) * 8;
        } else {
            bytes[at] |= 1 << (bit % 8);
            bit += 1;
        }
    }
}

/// Joins writes that touch, and fills up the last cluster of each region with zeros.
struct Gather<I> {
    writes: I,
    cluster_bytes: u64,
    next: Option<Write>,
}

impl<I: Iterator<Item = Write>> Iterator for Gather<I> {
    type Item = Write;

    fn next(&mut self) -> Option<Write> {
        let mut now = self.next.take().or_else(|| self.writes.next())?;
        for write in self.writes.by_ref() {
            let end = now.offset + to_u64(now.bytes.len());
            let full = now.bytes.len() + write.bytes.len() > WRITE_BYTES;
            let gap = write.offset - end;
            // Regions start at clusters, so what lies between is the end of a cluster, or free space.
            if full || gap >= self.cluster_bytes {
                self.next = Some(write);
                break;
            }
            now.bytes.resize(now.bytes.len() + usize::try_from(gap).unwrap_or(0), 0);
            now.bytes.extend_from_slice(&write.bytes);
        }
        let end = now.offset + to_u64(now.bytes.len());
        let followed = self.next.as_ref().is_some_and(|next| next.offset == end);
        if !followed {
            let padded = end.next_multiple_of(self.cluster_bytes) - now.offset;
            now.bytes.resize(usize::try_from(padded).unwrap_or(0), 0);
        }
        Some(now)
    }
}
