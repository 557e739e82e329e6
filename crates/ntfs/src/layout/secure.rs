//! The descriptors of a volume: each that is used once, in the order of the tree's table, behind those of the system.

use std::collections::HashMap;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::attribute::{to_u32, to_u64};
use super::index::Entries;
use crate::Reason;
use crate::disk::{
    FIRST_SECURITY_ID, INDEX_ENTRY_BYTES, IndexEntryDisk, SDS_ALIGN, SDS_BLOCK_BYTES, SECURITY_HEAD_BYTES,
    SecurityHeadDisk, security_hash,
};

/// Descriptor of system files: SYSTEM and Administrators may read.
const SYSTEM_DESCRIPTOR: [u8; 0x64] = descriptor_of_two(0x0012_0089, 0);
/// Descriptor of files whose image names none: SYSTEM and Administrators may do everything, also below.
const DEFAULT_DESCRIPTOR: [u8; 0x64] = descriptor_of_two(0x001f_01ff, 0x03);
/// Id of [`SYSTEM_DESCRIPTOR`].
pub(super) const SYSTEM_SECURITY_ID: u32 = FIRST_SECURITY_ID;
/// Largest descriptor that Windows takes.
const MAX_DESCRIPTOR_BYTES: usize = 0xffff;

/// A self-relative descriptor of owner SYSTEM, group Administrators, and `mask` for both, handed down by `flags`.
const fn descriptor_of_two(mask: u32, flags: u8) -> [u8; 0x64] {
    let m = mask.to_le_bytes();
    [
        1, 0, 0x04, 0x80, // revision, control: self-relative, DACL present
        0x48, 0, 0, 0, 0x54, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, // owner, group, SACL, DACL
        2, 0, 0x34, 0, 2, 0, 0, 0, // DACL: revision, length, count
        0, flags, 0x14, 0, m[0], m[1], m[2], m[3], 1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0, // SYSTEM
        0, flags, 0x18, 0, m[0], m[1], m[2], m[3], // Administrators
        1, 2, 0, 0, 0, 0, 0, 5, 0x20, 0, 0, 0, 0x20, 2, 0, 0, //
        1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0, //
        1, 2, 0, 0, 0, 0, 0, 5, 0x20, 0, 0, 0, 0x20, 2, 0, 0,
    ]
}

/// $SDS and what the two indexes hold.
#[derive(Debug)]
pub(super) struct Secure {
    sds: Vec<u8>,
    heads: Vec<SecurityHeadDisk>,
    by_hash: Vec<u32>,
    /// Id of each descriptor of the tree; 0 when unused.
    ids: Vec<u32>,
    default_id: u32,
}

impl Secure {
    /// Lays out those of `table` that are `used`, and that for files without one when `wants_default`.
    pub(super) fn new<D: AsRef<[u8]>>(table: &[D], used: &[bool], wants_default: bool) -> Self {
        let mut this = Self {
            sds: Vec::new(),
            heads: Vec::new(),
            by_hash: Vec::new(),
            ids: vec![0; table.len()],
            default_id: 0,
        };
        let mut known: HashMap<&[u8], u32> = HashMap::new();
        known.insert(&SYSTEM_DESCRIPTOR, this.push(&SYSTEM_DESCRIPTOR));
        if wants_default {
            this.default_id = this.push(&DEFAULT_DESCRIPTOR);
            known.insert(&DEFAULT_DESCRIPTOR, this.default_id);
        }
        for (index, descriptor) in table.iter().enumerate().filter(|(index, _)| used[*index]) {
            let descriptor = descriptor.as_ref();
            let id = *known.entry(descriptor).or_insert_with(|| this.push(descriptor));
            this.ids[index] = id;
        }
        this.mirror();
        let mut by_hash: Vec<u32> = (0..to_u32(this.heads.len())).collect();
        by_hash.sort_by_key(|index| {
            let head = this.head(*index);
            (head.hash.get(), head.id.get())
        });
        this.by_hash = by_hash;
        this
    }

    /// Appends a descriptor, which does not cross a block; blocks for the copies are left free.
    fn push(&mut self, descriptor: &[u8]) -> u32 {
        let padded = descriptor.len().next_multiple_of(4);
        let len = to_u64(SECURITY_HEAD_BYTES + padded);
        let mut offset = to_u64(self.sds.len()).next_multiple_of(SDS_ALIGN);
        if offset / SDS_BLOCK_BYTES != (offset + len - 1) / SDS_BLOCK_BYTES {
            offset = offset.next_multiple_of(SDS_BLOCK_BYTES);
        }
        if (offset / SDS_BLOCK_BYTES) % 2 == 1 {
            // That is where the copy of the block before goes.
            offset = (offset / SDS_BLOCK_BYTES + 1) * SDS_BLOCK_BYTES;
        }
        let id = FIRST_SECURITY_ID + to_u32(self.heads.len());
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut bytes = descriptor.to_vec();
        bytes.resize(padded, 0);
        let head = SecurityHeadDisk {
            hash: U32::new(security_hash(&bytes)),
            id: U32::new(id),
            offset: U64::new(offset),
            len: U32::new(u32::try_from(len).unwrap_or(u32::MAX)),
        };
        self.sds.resize(start, 0);
        self.sds.extend_from_slice(head.as_bytes());
        self.sds.extend_from_slice(&bytes);
        self.heads.push(head);
        id
    }

    /// Copies every block behind itself; the last copy ends as its block does.
    fn mirror(&mut self) {
        let block = usize::try_from(SDS_BLOCK_BYTES).unwrap_or(usize::MAX);
        let mut start = 0;
        while start < self.sds.len() {
            let end = (start + block).min(self.sds.len());
            let copy = self.sds[start..end].to_vec();
            if self.sds.len() < start + block + copy.len() {
                self.sds.resize(start + block + copy.len(), 0);
            }
            self.sds[start + block..start + block + copy.len()].copy_from_slice(&copy);
            start += 2 * block;
        }
    }

    fn head(&self, index: u32) -> &SecurityHeadDisk {
        &self.heads[usize::try_from(index).unwrap_or(usize::MAX)]
    }

    /// The stream $SDS.
    pub(super) fn sds(&self) -> &[u8] {
        &self.sds
    }

    /// Id of descriptor `index` of the tree, or of that for files without.
    pub(super) fn id(&self, index: Option<u32>) -> u32 {
        let known = index.and_then(|index| self.ids.get(usize::try_from(index).ok()?));
        known.copied().unwrap_or(self.default_id)
    }

    pub(super) fn hash_index(&self) -> HashIndex<'_> {
        HashIndex(self)
    }

    pub(super) fn id_index(&self) -> IdIndex<'_> {
        IdIndex(self)
    }
}

/// Entries of $SDH.
pub(super) struct HashIndex<'a>(&'a Secure);
/// Entries of $SII.
pub(super) struct IdIndex<'a>(&'a Secure);

const HASH_ENTRY_BYTES: usize = 0x30;
const ID_ENTRY_BYTES: usize = 0x28;

/// Head of an entry of a view index, whose data follows its key at the next place that `align` allows.
pub(super) fn view_head(data_offset: usize, data_len: usize, len: usize, key_len: usize) -> IndexEntryDisk {
    let place = to_u64(data_offset) | (to_u64(data_len) << 16);
    let short = |value: usize| U16::new(u16::try_from(value).unwrap_or(0));
    IndexEntryDisk {
        reference: U64::new(place),
        len: short(len),
        key_len: short(key_len),
        flags: U16::new(0),
        reserved: U16::new(0),
    }
}

impl Entries for HashIndex<'_> {
    fn count(&self) -> usize {
        self.0.heads.len()
    }

    fn len(&self, _index: usize) -> usize {
        HASH_ENTRY_BYTES
    }

    fn write(&self, index: usize, out: &mut Vec<u8>) {
        let head = self.0.head(self.0.by_hash[index]);
        let entry = view_head(INDEX_ENTRY_BYTES + 8, SECURITY_HEAD_BYTES, HASH_ENTRY_BYTES, 8);
        out.extend_from_slice(entry.as_bytes());
        out.extend_from_slice(head.hash.as_bytes());
        out.extend_from_slice(head.id.as_bytes());
        out.extend_from_slice(head.as_bytes());
        // Windows pads with this text.
        out.extend_from_slice(b"I\0I\0");
    }
}

impl Entries for IdIndex<'_> {
    fn count(&self) -> usize {
        self.0.heads.len()
    }

    fn len(&self, _index: usize) -> usize {
        ID_ENTRY_BYTES
    }

    fn write(&self, index: usize, out: &mut Vec<u8>) {
        let head = &self.0.heads[index];
        let entry = view_head(INDEX_ENTRY_BYTES + 4, SECURITY_HEAD_BYTES, ID_ENTRY_BYTES, 4);
        out.extend_from_slice(entry.as_bytes());
        out.extend_from_slice(head.id.as_bytes());
        out.extend_from_slice(head.as_bytes());
    }
}

/// Checks what Windows would replace: form, and that owner, group and lists lie inside.
pub(super) fn check_descriptor(index: u32, bytes: &[u8]) -> Result<(), Reason> {
    let bad = |why| Err(Reason::Descriptor { index, why });
    let Some((head, _)) = bytes.split_first_chunk::<20>() else { return bad("shorter than its head") };
    if bytes.len() > MAX_DESCRIPTOR_BYTES {
        return bad("longer than 64 KiB");
    }
    if head[0] != 1 {
        return bad("revision other than 1");
    }
    let control = u16::from_le_bytes([head[2], head[3]]);
    if control & 0x8000 == 0 {
        return bad("not self-relative");
    }
    let field = |at: usize| {
        let word = head[at..].first_chunk::<4>().map_or(0, |word| u32::from_le_bytes(*word));
        usize::try_from(word).unwrap_or(usize::MAX)
    };
    for (at, why) in [(4, "owner lies outside"), (8, "group lies outside")] {
        let offset = field(at);
        let sid = bytes.get(offset..).unwrap_or_default();
        let parts = sid.get(1).map_or(usize::MAX, |count| usize::from(*count));
        if offset != 0 && sid.len() < parts.saturating_mul(4).saturating_add(8) {
            return bad(why);
        }
    }
    for (at, why) in [(12, "system list lies outside"), (16, "access list lies outside")] {
        let offset = field(at);
        let list = bytes.get(offset..).unwrap_or_default();
        let len = list.get(2..4).map_or(usize::MAX, |len| usize::from(u16::from_le_bytes([len[0], len[1]])));
        if offset != 0 && (list.len() < len || len < 8) {
            return bad(why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_descriptors_are_whole() {
        for descriptor in [&SYSTEM_DESCRIPTOR, &DEFAULT_DESCRIPTOR] {
            assert_eq!(check_descriptor(0, descriptor), Ok(()));
            for len in 0..descriptor.len() {
                assert!(check_descriptor(0, &descriptor[..len]).is_err(), "{len}");
            }
        }
        // As mkntfs has it for a descriptor whose owner is Administrators, too.
        let mut theirs = SYSTEM_DESCRIPTOR.to_vec();
        theirs.splice(0x48..0x54, SYSTEM_DESCRIPTOR[0x54..].iter().copied());
        theirs[8] = 0x58;
        assert_eq!(security_hash(&theirs), 0xf803_12f0);
    }

    #[test]
    fn entries_never_cross_a_block_and_every_block_is_copied() {
        let table: Vec<Vec<u8>> = (0..6000u32)
            .map(|n| {
                let mut descriptor = DEFAULT_DESCRIPTOR.to_vec();
                descriptor.extend_from_slice(&n.to_le_bytes());
                descriptor.resize(120 + usize::try_from(n % 900).unwrap(), 0);
                descriptor
            })
            .collect();
        let used: Vec<bool> = (0..6000).map(|n| n % 3 != 0).collect();
        let secure = Secure::new(&table, &used, true);
        assert_eq!(secure.heads.len(), 4002);
        let block = 256 << 10;
        for (n, head) in secure.heads.iter().enumerate() {
            let (offset, len) = (head.offset.get() as usize, head.len.get() as usize);
            assert_eq!((offset % 16, offset / block % 2), (0, 0));
            assert_eq!(offset / block, (offset + len - 1) / block);
            assert_eq!(secure.sds[offset..offset + len], secure.sds[offset + block..offset + block + len]);
            assert_eq!(secure.sds[offset..offset + 20], *head.as_bytes());
            assert_eq!(head.id.get(), 0x100 + n as u32);
        }
        assert_eq!(secure.id(None), secure.default_id);
        let id = secure.id(Some(1));
        let head = &secure.heads[(id - 0x100) as usize];
        assert_eq!(secure.sds[head.offset.get() as usize + 20..][..table[1].len()], table[1]);
        let ordered = secure.by_hash.windows(2).all(|pair| {
            let key = |index| (secure.head(index).hash.get(), secure.head(index).id.get());
            key(pair[0]) < key(pair[1])
        });
        assert!(ordered);
    }
}
