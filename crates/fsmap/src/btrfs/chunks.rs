//! Chunks: where logical addresses lie on the device.

use std::collections::BTreeMap;

use super::Superblock;
use super::tree::Key;
use crate::Error;
use crate::field::{le16, le64, slice, wide};

const ITEM_CHUNK: u8 = 228;
/// Bytes of a chunk item before its stripes, and of a stripe.
const CHUNK_BYTES: usize = 48;
const STRIPE_BYTES: usize = 32;
/// Bits of a chunk's kind: contents of files, nodes of trees; system when neither is set.
pub(super) const KIND_DATA: u64 = 0x1;
pub(super) const KIND_METADATA: u64 = 0x4;
/// Twice on the same device.
const PROFILE_DUP: u64 = 0x20;
/// All profiles that spread or repeat: RAID0, 1, DUP, 10, 5, 6, 1C3, 1C4.
const PROFILES: u64 = 0x7f8;
/// With one stripe the same as no profile.
const PROFILE_RAID0: u64 = 0x8;
/// Chunks at most; each has 64 KiB at least, and 1 GiB usually.
const MAX_CHUNKS: usize = 1 << 20;

/// A piece of the device that holds a chunk or a copy of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stripe {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) len: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) len: u64,
    /// What it holds and how often, as the format has it.
    pub(super) kind: u64,
    /// The second is there for DUP only.
    pub(super) physical: [Option<u64>; 2],
}

/// All chunks, by logical address.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    all: BTreeMap<u64, Chunk>,
}

impl Chunks {
    /// Those that the super block lists: enough to read the tree of all.
    pub(super) fn of_system(sb: &Superblock) -> Result<Self, Error> {
        let mut chunks = Self::default();
        let mut rest = sb.system_chunks.as_slice();
        while !rest.is_empty() {
            let key = Key::parse(slice(rest, 0, 17));
            let count = usize::from(le16(rest, 17 + 44));
            let len = count.saturating_mul(STRIPE_BYTES).saturating_add(CHUNK_BYTES);
            let item = slice(rest, 17, len);
            if key.kind != ITEM_CHUNK || item.is_empty() {
                return Err(Error::corrupt("super block, system chunks", 0x1_032b, "whole items", key.kind));
            }
            chunks.add(sb, key, item)?;
            rest = rest.get(len.saturating_add(17)..).unwrap_or_default();
        }
        Ok(chunks)
    }

    /// Takes an item of the chunk tree; what is no chunk is ignored.
    pub(super) fn add(&mut self, sb: &Superblock, key: Key, item: &[u8]) -> Result<(), Error> {
        if key.kind != ITEM_CHUNK {
            return Ok(());
        }
        let (len, kind, count) = (le64(item, 0), le64(item, 24), usize::from(le16(item, 44)));
        let wrong = |what: &str, expected: String, found: String| {
            Err(Error::corrupt(format!("chunk at {:#x}, {what}", key.offset), sb.chunk_root, expected, found))
        };
        let expected_len = count.saturating_mul(STRIPE_BYTES).saturating_add(CHUNK_BYTES);
        if item.len() != expected_len {
            return wrong("bytes", expected_len.to_string(), item.len().to_string());
        }
        match (kind & PROFILES, count) {
            (0 | PROFILE_RAID0, 1) | (PROFILE_DUP, 2) => {}
            (profile, count) => {
                return Err(Error::unsupported(
                    "profile of Btrfs",
                    format!("{profile:#x} with {count} stripes"),
                ));
            }
        }
        let unit = u64::from(sb.sector_bytes);
        let is_whole = |value: u64| value.checked_rem(unit) == Some(0);
        let is_sound =
            len > 0 && is_whole(len) && is_whole(key.offset) && key.offset.checked_add(len).is_some();
        if !is_sound {
            return wrong("length", "whole sectors".to_owned(), len.to_string());
        }
        let mut physical = [None; 2];
        for (nth, place) in physical.iter_mut().take(count).enumerate() {
            let stripe =
                slice(item, nth.saturating_mul(STRIPE_BYTES).saturating_add(CHUNK_BYTES), STRIPE_BYTES);
            let (device, start) = (le64(stripe, 0), le64(stripe, 8));
            let is_inside = start.checked_add(len).is_some_and(|end| end <= sb.device_bytes);
            if device != sb.device_id || !is_inside || !is_whole(start) {
                let found = format!("device {device}, byte {start:#x}");
                return wrong("stripe", format!("inside device {}", sb.device_id), found);
            }
            *place = Some(start);
        }
        let before = self.all.range(..=key.offset).next_back();
        if before.is_some_and(|(start, chunk)| start.saturating_add(chunk.len) > key.offset) {
            return wrong("address", "behind the chunk before".to_owned(), format!("{:#x}", key.offset));
        }
        if self.all.len() >= MAX_CHUNKS {
            return Err(Error::unsupported("count of Btrfs chunks", format!("more than {MAX_CHUNKS}")));
        }
        self.all.insert(key.offset, Chunk { len, kind, physical });
        Ok(())
    }

    /// All of them with their logical addresses, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Chunk)> {
        self.all.iter().map(|(logical, chunk)| (*logical, chunk))
    }

    /// Where `len` bytes at a logical address lie, all copies.
    pub(super) fn places(&self, logical: u64, len: u64) -> impl Iterator<Item = u64> {
        let chunk = self.all.range(..=logical).next_back().and_then(|(start, chunk)| {
            let within = logical.saturating_sub(*start);
            within.checked_add(len).filter(|end| *end <= chunk.len).map(|_| (*chunk, within))
        });
        chunk.into_iter().flat_map(|(chunk, within)| {
            chunk.physical.into_iter().flatten().map(move |start| start.saturating_add(within))
        })
    }

    /// All stripes in the order of the device; they must lie apart.
    pub(super) fn by_place(&self, device_bytes: u64) -> Result<Vec<Stripe>, Error> {
        let stripes = self.all.iter().flat_map(|(logical, chunk)| {
            let places = chunk.physical.into_iter().flatten();
            places.map(|physical| Stripe { logical: *logical, physical, len: chunk.len })
        });
        let mut stripes: Vec<Stripe> = stripes.collect();
        stripes.sort_unstable_by_key(|stripe| stripe.physical);
        let mut end = 0u64;
        for stripe in &stripes {
            if stripe.physical < end {
                let expected =
                    format!("stripes that lie apart, {} in {device_bytes} bytes", wide(stripes.len()));
                return Err(Error::corrupt("chunk tree", stripe.physical, expected, "two that overlap"));
            }
            end = stripe.physical.saturating_add(stripe.len);
        }
        Ok(stripes)
    }
}
