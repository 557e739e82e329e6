//! A volume made as large as its partition has become.
//!
//! What says how large a volume is: the boot sector, its copy behind the last sector, the size of $Bitmap and that of `$Bad`. The copy, the
//! longer bitmap and both records are written first; while the old boot sector stands, the volume is the old one, only with a bitmap and a
//! `$Bad` that reach further than they need. The boot sector, one sector, is the last write and makes it the new one.
//!
//! The longer $Bitmap needs clusters in a row, of the old volume: a driver does not look behind what the boot sector says. When there
//! are too few, the volume grows in steps: as far as the clusters of $Bitmap or the free ones go, then from there.

use gravure_io::{ReadAt, WriteAt};
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::record::{Place, RecordEdit};
use super::{Disk, put};
use crate::Error;
use crate::disk::{
    BootDisk, FileNameDisk, GUARDED_BYTES, IndexEntryDisk, NON_RESIDENT_BYTES, NonResidentDisk, Run,
    attribute_type as types, encode_runs, numbers,
};
use crate::layout::MAX_CLUSTERS;
use crate::read::Volume;
use crate::read::bytes::{at, split_reference, wide};
use crate::read::fault::Fault;
use crate::read::gather::{FileAttributes, Found, Value};
use crate::read::index::{Entry, IndexKind, Visitor};
use crate::read::stream::Stream;
use crate::read::volume::NAME_INDEX;

/// Name of the stream of damaged clusters.
const BAD: [u16; 4] = [0x24, 0x42, 0x61, 0x64];
/// Where $FILE_NAME has the allocated size; the size follows.
const NAME_SIZES_POS: usize = std::mem::offset_of!(FileNameDisk, allocated);
/// Bytes of the bitmap in memory at a time.
const STEP_BYTES: u64 = 1 << 20;

/// What became of a volume that was to grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// Clusters before.
    pub old_clusters: u64,
    /// Clusters now.
    pub clusters: u64,
    /// Bytes of a cluster.
    pub cluster_bytes: u64,
    /// How often the size was changed; 0 when it was right already.
    pub steps: u32,
}

/// How far a volume can grow at once, and where its bitmap is then.
#[derive(Debug, Clone, Copy)]
struct Step {
    sectors: u64,
    clusters: u64,
    /// First cluster of the new bitmap; the old one is used when there is none.
    place: Option<u64>,
}

/// Makes the volume on `disk` fill `new_sectors` sectors, those of the partition, the copy of the boot sector counted. The disk must have
/// so many; the partition table is not looked at. Volumes that are not clean are refused.
pub fn grow<D: ReadAt + WriteAt + ?Sized>(disk: &D, new_sectors: u64) -> Result<Grown, Error> {
    let disk = Disk { source: &disk, target: &disk };
    let mut volume = disk.open()?;
    let boot = *volume.boot();
    let sector = u64::from(boot.sector_bytes);
    let available = disk.source.size().checked_div(sector).unwrap_or(0);
    if new_sectors > available {
        let why = format!("{new_sectors} sectors of {sector} bytes asked for, the disk has {available}");
        return Err(Error::invalid("size", why));
    }
    let goal = new_sectors.saturating_sub(1);
    if goal < boot.sectors {
        let why = format!("the volume has {} sectors and does not shrink to {goal}", boot.sectors);
        return Err(Error::invalid("size", why));
    }
    let clusters = goal.saturating_mul(sector).checked_div(boot.cluster_bytes).unwrap_or(0);
    if clusters > MAX_CLUSTERS {
        let why = format!(
            "{clusters} clusters of {} bytes; at most {MAX_CLUSTERS} can be counted",
            boot.cluster_bytes
        );
        return Err(Error::invalid("size", why));
    }
    let mut steps = 0u32;
    while volume.boot().sectors < goal {
        let step = plan(&disk, &volume, goal)?;
        take(&disk, &volume, &step)?;
        steps = steps.saturating_add(1);
        volume = Volume::open(disk.source)?;
    }
    let clusters = volume.boot().clusters;
    Ok(Grown { old_clusters: boot.clusters, clusters, cluster_bytes: boot.cluster_bytes, steps })
}

/// Bytes of a bitmap for so many clusters.
fn bitmap_bytes(clusters: u64) -> u64 {
    clusters.div_ceil(64).saturating_mul(8)
}

/// Decides for the next step.
fn plan(disk: &Disk<'_>, volume: &Volume, goal: u64) -> Result<Step, Error> {
    let boot = volume.boot();
    let per_cluster = boot.cluster_bytes.checked_div(u64::from(boot.sector_bytes)).unwrap_or(1).max(1);
    let (_, file) = volume.file(disk.source, numbers::BITMAP)?;
    let stream = bitmap(volume, file.get(types::DATA, &[]))?;
    let goal_clusters = goal.checked_div(per_cluster).unwrap_or(0);
    // What the clusters that the bitmap has would do for.
    let here = stream.clusters().saturating_mul(boot.cluster_bytes).saturating_mul(8);
    if goal_clusters <= here {
        return Ok(Step { sectors: goal, clusters: goal_clusters, place: None });
    }
    let wanted = bitmap_bytes(goal_clusters).div_ceil(boot.cluster_bytes);
    let (place, free) = free_run(disk, volume, wanted)?;
    let there = free.saturating_mul(boot.cluster_bytes).saturating_mul(8);
    let step = |clusters: u64, place| {
        let sectors = if clusters >= goal_clusters { goal } else { clusters.saturating_mul(per_cluster) };
        Step { sectors, clusters: clusters.min(goal_clusters), place }
    };
    if free >= wanted || there > here {
        return Ok(step(there, Some(place)));
    }
    if here > boot.clusters {
        return Ok(step(here, None));
    }
    Err(Error::NoRoom { what: "$Bitmap", clusters: stream.clusters().saturating_add(1), found: free })
}

/// The stream of $Bitmap, which must be one that can be changed.
fn bitmap<'v>(volume: &Volume, found: Option<&'v Found>) -> Result<&'v Stream, Error> {
    match found.map(|found| &found.value) {
        Some(Value::Clusters { stream, .. })
            if stream.size >= volume.boot().clusters.div_ceil(8)
                && stream.initialized == stream.size
                && stream.extents.iter().all(|extent| extent.lcn.is_some()) =>
        {
            Ok(stream)
        }
        _ => Err(Error::Corrupt {
            what: "$Bitmap".to_owned(),
            offset: volume.mft.offset(u64::from(numbers::BITMAP)),
            expected: format!("a bit for each of {} clusters", volume.boot().clusters),
            found: format!("{} bytes", found.map_or(0, Found::size)),
        }),
    }
}

/// The last free clusters in a row that are `wanted` or more, first and count; the longest row when there are none. The last, as the MFT
/// grows behind itself, and that is in front.
fn free_run(disk: &Disk<'_>, volume: &Volume, wanted: u64) -> Result<(u64, u64), Error> {
    let (mut next, mut best, mut fitting) = (0u64, (0u64, 0u64), None);
    let mut gap = |start: u64, end: u64| {
        let len = end.saturating_sub(start);
        if len >= wanted {
            fitting = Some((start, wanted));
        }
        if len > best.1 {
            best = (start, len);
        }
    };
    for run in volume.used_runs(disk.source)? {
        let run = run?;
        gap(next, run.lcn);
        next = run.lcn.saturating_add(run.clusters);
    }
    gap(next, volume.boot().clusters);
    Ok(fitting.unwrap_or(best))
}

/// Takes one step. Order: what nobody looks at yet, the records, the boot sector.
fn take(disk: &Disk<'_>, volume: &Volume, step: &Step) -> Result<(), Error> {
    let boot = volume.boot();
    let mut sector = disk.boot_sector(volume)?;
    put(&mut sector, std::mem::offset_of!(BootDisk, sectors), &step.sectors.to_le_bytes());
    disk.write(step.sectors.saturating_mul(wide(sector.len())), &sector)?;

    let (_, file) = volume.file(disk.source, numbers::BITMAP)?;
    let old = bitmap(volume, file.get(types::DATA, &[]))?;
    let place = match step.place {
        None => old.clone(),
        Some(lcn) => {
            let bytes = bitmap_bytes(step.clusters);
            let mut new = Stream { cluster_bytes: boot.cluster_bytes, ..Stream::default() };
            new.push(&[Run { clusters: bytes.div_ceil(boot.cluster_bytes), lcn: Some(lcn) }]);
            new
        }
    };
    write_bitmap(disk, volume, old, &place, step)?;
    disk.sync()?;

    let mut record = RecordEdit::read(disk, volume, numbers::BITMAP)?;
    let found = record.find(types::DATA, &[])?.filter(|_| file.extensions.is_empty());
    let found = found.ok_or_else(|| parted("$Bitmap"))?;
    let runs: Vec<Run> =
        place.extents.iter().map(|extent| Run { clusters: extent.clusters, lcn: extent.lcn }).collect();
    let bytes = bitmap_bytes(step.clusters);
    record.replace(found, &attribute(found, &[], &runs, (bytes, bytes), boot.cluster_bytes))?;
    let sizes =
        [place.clusters().saturating_mul(boot.cluster_bytes).to_le_bytes(), bytes.to_le_bytes()].concat();
    for value in record.values(types::FILE_NAME)? {
        record.put(value.saturating_add(NAME_SIZES_POS), &sizes);
    }
    record.write_sector(disk, volume)?;
    update_entry(disk, volume, &sizes)?;

    let mut record = RecordEdit::read(disk, volume, numbers::BAD_CLUSTERS)?;
    let (_, file) = volume.file(disk.source, numbers::BAD_CLUSTERS)?;
    let found = record.find(types::DATA, &BAD)?.filter(|_| file.extensions.is_empty());
    let found = found.ok_or_else(|| parted("$BadClus"))?;
    let runs = bad_runs(&file, step)?;
    let bytes = step.clusters.saturating_mul(boot.cluster_bytes);
    let initialized = crate::read::bytes::u64_at(record.bytes_at(found), 0x38).unwrap_or(0);
    record.replace(found, &attribute(found, &BAD, &runs, (bytes, initialized), boot.cluster_bytes))?;
    record.write_sector(disk, volume)?;
    disk.sync()?;

    disk.write(0, &sector)?;
    disk.sync()
}

/// Writes the sizes of $Bitmap into its entry in the root. They are a copy that drivers let lag behind, so where they cannot be written at once
/// they stay.
fn update_entry(disk: &Disk<'_>, volume: &Volume, sizes: &[u8]) -> Result<(), Error> {
    struct Finder(Option<u64>);
    impl Visitor for Finder {
        fn entry(&mut self, entry: &Entry<'_>) {
            if split_reference(entry.reference).0 == u64::from(numbers::BITMAP) {
                self.0 = Some(entry.offset);
            }
        }
        fn fault(&mut self, _: u64, _: Fault) {}
    }
    let (_, root) = volume.file(disk.source, numbers::ROOT)?;
    let mut finder = Finder(None);
    volume.walk(disk.source, &root, &NAME_INDEX, IndexKind::Names, &mut finder)?;
    let Some(entry) = finder.0 else { return Ok(()) };
    let offset = entry.saturating_add(wide(size_of::<IndexEntryDisk>())).saturating_add(wide(NAME_SIZES_POS));
    let mut record = RecordEdit::read(disk, volume, numbers::ROOT)?;
    if let Some(pos) = record.position(offset) {
        record.put(pos, sizes);
        return record.write_sector(disk, volume);
    }
    let guarded = wide(GUARDED_BYTES);
    let pos = at(offset.checked_rem(guarded).unwrap_or(0));
    // The last two bytes of each 512 stand elsewhere.
    if pos.saturating_add(sizes.len()) > GUARDED_BYTES.saturating_sub(2) {
        return Ok(());
    }
    let len = u64::from(volume.boot().sector_bytes);
    let start = offset.checked_div(len).unwrap_or(0).saturating_mul(len);
    let mut sector = disk.source.read_vec_at(start, at(len)).map_err(Error::read(start))?;
    put(&mut sector, at(offset.saturating_sub(start)), sizes);
    disk.write(start, &sector)
}

/// A file of the system whose stream is spread over records, which no tool does.
fn parted(name: &str) -> Error {
    Error::Unsupported { what: "change of a stream in several records", value: name.to_owned() }
}

/// The runs of `$Bad`, holes but for what is damaged, up to the new end.
fn bad_runs(file: &FileAttributes, step: &Step) -> Result<Vec<Run>, Error> {
    let Some(Value::Clusters { stream, .. }) = file.get(types::DATA, &BAD).map(|found| &found.value) else {
        return Err(parted("$BadClus"));
    };
    let mut runs = Vec::new();
    // An attempt that was cut off may have left it longer than it is to be now.
    for extent in stream.extents.iter().filter(|extent| extent.vcn < step.clusters) {
        let clusters = extent.clusters.min(step.clusters.saturating_sub(extent.vcn));
        runs.push(Run { clusters, lcn: extent.lcn });
    }
    let missing = step.clusters.saturating_sub(stream.clusters());
    match runs.last_mut() {
        Some(Run { clusters, lcn: None }) => *clusters = clusters.saturating_add(missing),
        _ if missing > 0 => runs.push(Run { clusters: missing, lcn: None }),
        _ => {}
    }
    Ok(runs)
}

/// An attribute in clusters, of the sizes `size` and `initialized`.
fn attribute(
    place: Place,
    name: &[u16],
    runs: &[Run],
    (size, initialized): (u64, u64),
    cluster_bytes: u64,
) -> Vec<u8> {
    let clusters = runs.iter().fold(0u64, |sum, run| sum.saturating_add(run.clusters));
    let mut tail: Vec<u8> = name.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    tail.resize(tail.len().next_multiple_of(8), 0);
    let runs_offset = NON_RESIDENT_BYTES.saturating_add(tail.len());
    encode_runs(runs, &mut tail);
    let len = NON_RESIDENT_BYTES.saturating_add(tail.len()).next_multiple_of(8);
    let short = |value: usize| U16::new(u16::try_from(value).unwrap_or(0));
    let head = NonResidentDisk {
        attribute_type: U32::new(types::DATA),
        len: U32::new(u32::try_from(len).unwrap_or(0)),
        non_resident: 1,
        name_len: u8::try_from(name.len()).unwrap_or(0),
        name_offset: short(NON_RESIDENT_BYTES),
        flags: U16::new(place.flags),
        instance: U16::new(place.instance),
        lowest_vcn: U64::new(0),
        highest_vcn: U64::new(clusters.saturating_sub(1)),
        runs_offset: short(runs_offset),
        compression_unit: 0,
        reserved: [0; 5],
        allocated: U64::new(clusters.saturating_mul(cluster_bytes)),
        size: U64::new(size),
        initialized: U64::new(initialized),
    };
    let mut out = [head.as_bytes(), &tail].concat();
    out.resize(len, 0);
    out
}

/// Writes the bitmap of the new size to `place`: the old bits, the new clusters free, what is behind them marked. Where it stays in
/// its place, only what changes is written.
fn write_bitmap(
    disk: &Disk<'_>,
    volume: &Volume,
    old: &Stream,
    place: &Stream,
    step: &Step,
) -> Result<(), Error> {
    let old_clusters = volume.boot().clusters;
    let moves = step.place.is_some();
    let cluster = volume.boot().cluster_bytes;
    let room = place.clusters().saturating_mul(cluster);
    let bits = bitmap_bytes(step.clusters).saturating_mul(8);
    // Whole clusters, as many as fit into the memory for it.
    let most = STEP_BYTES.max(cluster);
    let mut pos =
        if moves { 0 } else { (old_clusters >> 3).checked_div(cluster).unwrap_or(0).saturating_mul(cluster) };
    while pos < room {
        let len = most.min(room.saturating_sub(pos));
        let mut bytes = vec![0u8; at(len)];
        let known = old_clusters.div_ceil(8).saturating_sub(pos).min(len);
        if let Some(known) = bytes.get_mut(..at(known)).filter(|known| !known.is_empty()) {
            old.read(disk.source, pos, known)?;
        }
        let first = pos.saturating_mul(8);
        let mut set = |range: std::ops::Range<u64>, value: bool| {
            let (start, end) =
                (range.start.max(first), range.end.min(first.saturating_add(len.saturating_mul(8))));
            set_bits(&mut bytes, start.saturating_sub(first)..end.saturating_sub(first), value);
        };
        set(old_clusters..step.clusters, false);
        set(step.clusters..bits, true);
        if let (true, Some(lcn)) = (moves, step.place) {
            for extent in &old.extents {
                let start = extent.lcn.unwrap_or(0);
                set(start..start.saturating_add(extent.clusters), false);
            }
            set(lcn..lcn.saturating_add(place.clusters()), true);
        }
        write_stream(disk, place, pos, &bytes)?;
        pos = pos.saturating_add(len);
    }
    Ok(())
}

/// Sets or clears the bits of a range.
fn set_bits(bytes: &mut [u8], range: std::ops::Range<u64>, value: bool) {
    let mut bit = range.start;
    while bit < range.end {
        let whole = bit.is_multiple_of(8) && range.end.saturating_sub(bit) >= 8;
        let mask =
            if whole { 0xff } else { 1u8.checked_shl(u32::try_from(bit & 7).unwrap_or(0)).unwrap_or(0) };
        if let Some(byte) = bytes.get_mut(at(bit >> 3)) {
            *byte = if value { *byte | mask } else { *byte & !mask };
        }
        bit = bit.saturating_add(if whole { 8 } else { 1 });
    }
}

/// Writes `bytes`, whole clusters, from `pos` of the stream on.
fn write_stream(disk: &Disk<'_>, stream: &Stream, pos: u64, bytes: &[u8]) -> Result<(), Error> {
    let end = pos.saturating_add(wide(bytes.len()));
    for extent in &stream.extents {
        let start = extent.vcn.saturating_mul(stream.cluster_bytes);
        let stop = start.saturating_add(extent.clusters.saturating_mul(stream.cluster_bytes));
        let (from, to) = (start.max(pos), stop.min(end));
        let (Some(lcn), true) = (extent.lcn, from < to) else { continue };
        let offset = lcn.saturating_mul(stream.cluster_bytes).saturating_add(from.saturating_sub(start));
        let part = bytes.get(at(from.saturating_sub(pos))..at(to.saturating_sub(pos))).unwrap_or_default();
        disk.write(offset, part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_of_a_range_change_and_no_others(start in 0u64..200, len in 0u64..200, before: bool, value: bool) {
            let mut bytes = vec![if before { 0xff } else { 0 }; 32];
            set_bits(&mut bytes, start..start + len, value);
            for bit in 0..256u64 {
                let found = bytes[at(bit / 8)] & (1 << (bit % 8)) != 0;
                let expected = if (start..start + len).contains(&bit) { value } else { before };
                prop_assert_eq!(found, expected);
            }
        }
    }
}
