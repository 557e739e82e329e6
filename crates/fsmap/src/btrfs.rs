//! Btrfs on one device (Btrfs documentation, "Btrfs design", "On-disk format"): the extent tree says which logical bytes are used,
//! the chunk tree where they lie.

mod chunks;
mod layout;
mod list;
mod subvolumes;
mod tree;

use gravure_disk::Found;
use gravure_io::ReadAt;

use self::chunks::{Chunks, Stripe};
use self::tree::{Key, Node, Reader};
use crate::checksum::crc32c_inverted;
use crate::field::{array, le16, le32, le64, read, slice, text, u8, uuid};
use crate::map::Draft;
use crate::probe::fact;
use crate::{Error, Kind, Options, Probe, Reason, State};

pub use layout::{BtrfsChunk, BtrfsContent, BtrfsLayout};
pub(crate) use list::list;

/// Where the super block stands, bytes.
const SUPERBLOCK_OFFSET: u64 = 64 << 10;
const SUPERBLOCK_BYTES: usize = 4096;
/// Copies of it stand here too, inside chunks that know to keep away.
const COPIES: [u64; 2] = [64 << 20, 256 << 30];
/// Nothing is ever allocated before.
const RESERVED_BYTES: u64 = 1 << 20;

/// Everything but RAID5/6 (0x80), zones (0x1000), the second extent tree (0x2000) and the tree of stripes (0x4000).
const INCOMPAT_KNOWN: u64 = 0x1_0f7f;
/// Free space tree and its mark, verity, block group tree.
const COMPAT_RO_KNOWN: u64 = 0xf;
const INCOMPAT_METADATA_UUID: u64 = 0x400;
/// Super block: errors were found.
const FLAG_ERROR: u64 = 1 << 2;
/// Super block: known flags; written, relocated, seed.
const FLAGS_KNOWN: u64 = 0x1 | 0x2 | FLAG_ERROR | 1 << 32;

const TREE_OF_EXTENTS: u64 = 2;
const ITEM_EXTENT: u8 = 168;
const ITEM_METADATA: u8 = 169;

/// A super block that passed every check.
#[derive(Debug)]
struct Superblock {
    generation: u64,
    root: u64,
    root_level: u8,
    chunk_root: u64,
    chunk_root_level: u8,
    chunk_generation: u64,
    log_root: u64,
    devices: u64,
    device_id: u64,
    device_bytes: u64,
    sector_bytes: u32,
    node_bytes: u32,
    has_errors: bool,
    /// The UUID that metadata carries.
    meta_uuid: [u8; 16],
    system_chunks: Vec<u8>,
    label: Option<String>,
    uuid: Option<String>,
    used: u64,
    /// Number of the directory in the tree of roots that names the default subvolume.
    root_directory: u64,
}

impl Superblock {
    fn read(dev: &dyn ReadAt) -> Result<Self, Error> {
        let bytes = read(dev, "super block", SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES)?;
        let wrong = |at: u64, what: &str, expected: &str, found: u64| {
            let offset = SUPERBLOCK_OFFSET.saturating_add(at);
            Err(Error::corrupt(format!("super block, {what}"), offset, expected, found))
        };
        if slice(&bytes, 0x40, 8) != b"_BHRfS_M" {
            return wrong(0x40, "magic", "_BHRfS_M", le64(&bytes, 0x40));
        }
        if le16(&bytes, 0xc4) != 0 {
            return Err(Error::unsupported("checksum of Btrfs", checksum_name(le16(&bytes, 0xc4))));
        }
        check_sum("super block", SUPERBLOCK_OFFSET, &bytes)?;
        let (incompat, compat_ro, flags) = (le64(&bytes, 0xbc), le64(&bytes, 0xb4), le64(&bytes, 0x38));
        for (what, set, known) in [
            ("incompatible Btrfs feature", incompat, INCOMPAT_KNOWN),
            ("read-only compatible Btrfs feature", compat_ro, COMPAT_RO_KNOWN),
            ("flag of Btrfs", flags, FLAGS_KNOWN),
        ] {
            if set & !known != 0 {
                return Err(Error::unsupported(what, format!("{:#x}", set & !known)));
            }
        }
        if le64(&bytes, 0x30) != SUPERBLOCK_OFFSET {
            return wrong(0x30, "own place", &SUPERBLOCK_OFFSET.to_string(), le64(&bytes, 0x30));
        }
        let (sector_bytes, node_bytes) = (le32(&bytes, 0x90), le32(&bytes, 0x94));
        if !sector_bytes.is_power_of_two() || !(512..=65536).contains(&sector_bytes) {
            return wrong(0x90, "sector size", "a power of two, 512 to 65536", sector_bytes.into());
        }
        if !node_bytes.is_power_of_two() || node_bytes < sector_bytes || node_bytes > 65536 {
            return wrong(0x94, "node size", "a power of two, a sector to 65536", node_bytes.into());
        }
        let device_bytes = le64(&bytes, 0xd1);
        let devices = le64(&bytes, 0x88);
        if device_bytes > dev.size() || device_bytes < RESERVED_BYTES {
            return wrong(0xd1, "size of the device", &format!("at most {}", dev.size()), device_bytes);
        }
        let array_len = le32(&bytes, 0xa0);
        let system_chunks = slice(&bytes, 0x32b, usize::try_from(array_len).unwrap_or(usize::MAX)).to_vec();
        if array_len > 2048 || system_chunks.is_empty() {
            return wrong(0xa0, "bytes of system chunks", "1 to 2048", array_len.into());
        }
        let has_own = incompat & INCOMPAT_METADATA_UUID != 0;
        Ok(Self {
            generation: le64(&bytes, 0x48),
            root: le64(&bytes, 0x50),
            root_level: u8(&bytes, 0xc6),
            chunk_root: le64(&bytes, 0x58),
            chunk_root_level: u8(&bytes, 0xc7),
            chunk_generation: le64(&bytes, 0xa4),
            log_root: le64(&bytes, 0x60),
            devices,
            device_id: le64(&bytes, 0xc9),
            device_bytes,
            sector_bytes,
            node_bytes,
            has_errors: flags & FLAG_ERROR != 0,
            meta_uuid: array(&bytes, if has_own { 0x23b } else { 0x20 }),
            system_chunks,
            label: text(slice(&bytes, 0x12b, 256)),
            uuid: uuid(&bytes, 0x20),
            used: le64(&bytes, 0x78),
            root_directory: le64(&bytes, 0x80),
        })
    }
}

fn checksum_name(kind: u16) -> String {
    match kind {
        1 => "xxhash64".to_owned(),
        2 => "sha256".to_owned(),
        3 => "blake2b".to_owned(),
        kind => kind.to_string(),
    }
}

/// The checksum at the start of `bytes`, which stand at `offset`, over all that follows its 32 bytes.
fn check_sum(what: &str, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let expected = crc32c_inverted(&[bytes.get(32..).unwrap_or_default()]);
    let found = le32(bytes, 0);
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (format!("{expected:#x}"), format!("{found:#x}"));
    Err(Error::corrupt(format!("{what}, checksum"), offset, expected, found))
}

pub(crate) fn probe(dev: &dyn ReadAt, _: &Found) -> Result<Probe, Error> {
    let sb = Superblock::read(dev)?;
    let mut probe = Probe::new(Kind::Btrfs, sb.device_bytes);
    probe.label.clone_from(&sb.label);
    probe.uuid.clone_from(&sb.uuid);
    probe.sector_size = Some(sb.sector_bytes);
    probe.block_size = Some(sb.sector_bytes);
    probe.facts = vec![
        fact("node-bytes", sb.node_bytes),
        fact("devices", sb.devices),
        fact("generation", sb.generation),
        fact("bytes-used", sb.used),
    ];
    probe.state = if sb.has_errors {
        State::Unclean(Reason::HasErrors)
    } else if sb.devices != 1 {
        State::Unclean(Reason::SeveralDevices)
    } else if sb.log_root != 0 {
        // What was synced since the last commit is in a tree whose blocks are in no map of what is used.
        State::Unclean(Reason::LogPending)
    } else {
        State::Clean
    };
    Ok(probe)
}

pub(crate) fn map(dev: &dyn ReadAt, _: &Probe, options: &Options<'_>) -> Result<Draft, Error> {
    let sb = Superblock::read(dev)?;
    let chunks = all_chunks(dev, &sb, options.goes_on)?;
    let reader = Reader::new(dev, &sb, &chunks, options.goes_on);
    let extents = extent_tree(&reader, &sb)?;
    let mut draft = Draft::new(dev.size(), sb.sector_bytes, options);
    let end = sb.device_bytes;
    let mut free = |start: u64, end: u64| {
        // Super blocks are in no chunk's extents.
        let mut next = start.max(RESERVED_BYTES);
        for copy in COPIES {
            if copy < end && copy.saturating_add(SUPERBLOCK_OFFSET) > next {
                draft.runs.free(next..copy.min(end));
                next = next.max(copy.saturating_add(SUPERBLOCK_OFFSET));
            }
        }
        draft.runs.free(next..end.max(next));
    };
    let mut next = 0u64;
    for stripe in chunks.by_place(end)? {
        free(next, stripe.physical);
        unused(&reader, extents, &sb, &stripe, &mut free)?;
        next = stripe.physical.saturating_add(stripe.len);
    }
    free(next, end);
    draft.free_tail(end);
    Ok(draft)
}

/// The chunks of the file system, as the tree of them says.
fn all_chunks(dev: &dyn ReadAt, sb: &Superblock, goes_on: &dyn Fn() -> bool) -> Result<Chunks, Error> {
    let system = Chunks::of_system(sb)?;
    let mut chunks = Chunks::default();
    let root = Node { place: sb.chunk_root, level: sb.chunk_root_level, generation: sb.chunk_generation };
    let reader = Reader::new(dev, sb, &system, goes_on);
    reader.walk(root, Key::FIRST, &mut |key, item| chunks.add(sb, key, item).map(|()| true))?;
    Ok(chunks)
}

/// The root of the extent tree, as the tree of roots says.
fn extent_tree(reader: &Reader<'_>, sb: &Superblock) -> Result<Node, Error> {
    let found = subvolumes::tree(reader, sb, TREE_OF_EXTENTS)?;
    let found = found.map(|tree| tree.root);
    found.ok_or_else(|| Error::corrupt("tree of roots", sb.root, "an item for the extent tree", "none"))
}

/// Says what of a stripe no extent uses, as bytes of the device.
fn unused(
    reader: &Reader<'_>,
    extents: Node,
    sb: &Superblock,
    stripe: &Stripe,
    free: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let (start, end) = (stripe.logical, stripe.logical.saturating_add(stripe.len));
    let place = |logical: u64| logical.saturating_sub(start).saturating_add(stripe.physical);
    let mut next = start;
    let first = Key { object: start, kind: 0, offset: 0 };
    reader.walk(extents, first, &mut |key, _| {
        if key.object >= end {
            return Ok(false);
        }
        let len = match key.kind {
            ITEM_EXTENT => key.offset,
            ITEM_METADATA => sb.node_bytes.into(),
            _ => return Ok(true),
        };
        let extent_end =
            key.object.checked_add(len).filter(|extent_end| key.object >= next && *extent_end <= end);
        let Some(extent_end) = extent_end else {
            let expected = format!("extents from {next:#x} to {end:#x}");
            return Err(Error::corrupt(
                "extent tree",
                place(start),
                expected,
                format!("{len} bytes at {:#x}", key.object),
            ));
        };
        if next < key.object {
            free(place(next), place(key.object));
        }
        next = extent_end;
        Ok(true)
    })?;
    if next < end {
        free(place(next), place(end));
    }
    Ok(())
}
