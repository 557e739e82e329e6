//! Single fields of a finished volume changed: where records, attributes, blocks and entries are, found with as little code as
//! can be, and bytes put where the update sequences let them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "imaging's tests use a part of it")]

/// A volume as this crate lays them out, of any shape: the MFT in one run.
pub struct Patcher {
    pub bytes: Vec<u8>,
    /// Bytes of a record, a cluster, a sector, and of what index blocks are counted in.
    pub record_bytes: usize,
    pub cluster_bytes: usize,
    pub sector_bytes: usize,
    pub vcn_bytes: usize,
    undo: Vec<(usize, u8)>,
}

pub const BLOCK: usize = 4096;

/// An attribute in a record.
#[derive(Debug, Clone)]
pub struct Found {
    /// In the record.
    pub pos: usize,
    pub len: usize,
    pub kind: u32,
    pub name: String,
    pub is_resident: bool,
    /// Value or runs, in the record.
    pub value: usize,
    pub value_len: usize,
}

/// An entry of an index node.
#[derive(Debug, Clone)]
pub struct Entry {
    /// In its record or block.
    pub pos: usize,
    pub len: usize,
    pub key: Vec<u8>,
    pub flags: u16,
}

pub fn u16_at(bytes: &[u8], pos: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[pos], bytes[pos + 1]]))
}

pub fn u32_at(bytes: &[u8], pos: usize) -> usize {
    u32::from_le_bytes(bytes[pos..pos + 4].try_into().unwrap()) as usize
}

pub fn u64_at(bytes: &[u8], pos: usize) -> usize {
    u64::from_le_bytes(bytes[pos..pos + 8].try_into().unwrap()) as usize
}

fn text(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units)
}

impl Patcher {
    pub fn new(bytes: Vec<u8>) -> Self {
        let sector_bytes = u16_at(&bytes, 0xb);
        // Counts above 128 are powers of two.
        let cluster_bytes = sector_bytes
            * match bytes[0xd] {
                few @ 0..=128 => usize::from(few),
                many => 1 << (256 - usize::from(many)),
            };
        let record_bytes = match bytes[0x40] {
            clusters @ 0..=127 => cluster_bytes * usize::from(clusters),
            power => 1 << (256 - usize::from(power)),
        };
        let vcn_bytes = if cluster_bytes > BLOCK { 512 } else { cluster_bytes };
        Self { bytes, record_bytes, cluster_bytes, sector_bytes, vcn_bytes, undo: Vec::new() }
    }

    /// Puts everything back.
    pub fn undo(&mut self) {
        for (pos, byte) in self.undo.drain(..).rev() {
            self.bytes[pos] = byte;
        }
    }

    /// Changes bytes as they are on disk.
    pub fn set(&mut self, pos: usize, bytes: &[u8]) {
        for (pos, byte) in (pos..).zip(bytes) {
            self.undo.push((pos, self.bytes[pos]));
            self.bytes[pos] = *byte;
        }
    }

    /// On disk, the byte at `pos` of the guarded block at `start`: the last two of each sector are kept in the array.
    pub fn guarded(&self, start: usize, pos: usize) -> usize {
        if pos % 512 < 510 {
            return start + pos;
        }
        start + u16_at(&self.bytes, start + 4) + 2 + 2 * (pos / 512) + pos % 512 - 510
    }

    /// Changes bytes of a guarded block; in the records that the mirror has, in their copies as well.
    pub fn set_guarded(&mut self, start: usize, pos: usize, bytes: &[u8]) {
        let mft = self.record(0);
        for (pos, byte) in (pos..).zip(bytes) {
            let place = self.guarded(start, pos);
            self.set(place, &[*byte]);
            if (mft..mft + self.mirror_bytes()).contains(&place) {
                let copy = place - mft + self.mirror();
                self.set(copy, &[*byte]);
            }
        }
    }

    pub fn mirror(&self) -> usize {
        u64_at(&self.bytes, 0x38) * self.cluster_bytes
    }

    fn mirror_bytes(&self) -> usize {
        (4 * self.record_bytes).max(self.cluster_bytes)
    }

    /// Where record `number` is.
    pub fn record(&self, number: usize) -> usize {
        u64_at(&self.bytes, 0x30) * self.cluster_bytes + number * self.record_bytes
    }

    /// A guarded block without its guard.
    pub fn plain(&self, start: usize, len: usize) -> Vec<u8> {
        (0..len).map(|pos| self.bytes[self.guarded(start, pos)]).collect()
    }

    pub fn attributes(&self, number: usize) -> Vec<Found> {
        let bytes = self.plain(self.record(number), self.record_bytes);
        let mut pos = u16_at(&bytes, 0x14);
        let mut all = Vec::new();
        while u32_at(&bytes, pos) != 0xffff_ffff {
            let is_resident = bytes[pos + 8] == 0;
            let (name_len, name) = (usize::from(bytes[pos + 9]) * 2, pos + u16_at(&bytes, pos + 10));
            let (value, value_len) = match is_resident {
                true => (u16_at(&bytes, pos + 0x14), u32_at(&bytes, pos + 0x10)),
                false => (u16_at(&bytes, pos + 0x20), 0),
            };
            all.push(Found {
                pos,
                len: u32_at(&bytes, pos + 4),
                kind: u32_at(&bytes, pos) as u32,
                name: text(&bytes[name..name + name_len]),
                is_resident,
                value: pos + value,
                value_len,
            });
            pos += u32_at(&bytes, pos + 4);
        }
        all
    }

    pub fn attribute(&self, number: usize, kind: u32, name: &str) -> Found {
        let all = self.attributes(number);
        let found = all.into_iter().find(|one| one.kind == kind && one.name == name);
        found.unwrap_or_else(|| panic!("record {number} has no {kind:#x} {name:?}"))
    }

    /// Where the first cluster of an attribute is, of one run.
    pub fn clusters(&self, number: usize, kind: u32, name: &str) -> usize {
        let found = self.attribute(number, kind, name);
        let bytes = self.plain(self.record(number), self.record_bytes);
        let head = bytes[found.value];
        let (count, distance) = (usize::from(head & 15), usize::from(head >> 4));
        let start = found.value + 1 + count;
        bytes[start..start + distance].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
            * self.cluster_bytes
    }

    /// Records of the MFT.
    pub fn count(&self) -> usize {
        let bytes = self.plain(self.record(0), self.record_bytes);
        u64_at(&bytes, self.attribute(0, 0x80, "").pos + 0x30) / self.record_bytes
    }

    /// The record of the file with this name.
    pub fn find(&self, name: &str) -> usize {
        let has = |number: &usize| {
            let bytes = self.plain(self.record(*number), self.record_bytes);
            bytes.starts_with(b"FILE")
                && bytes[0x16] & 1 != 0
                && self.attributes(*number).iter().any(|one| {
                    let value = &bytes[one.value.min(self.record_bytes)..];
                    one.kind == 0x30 && text(&value[0x42..0x42 + 2 * usize::from(value[0x40])]) == name
                })
        };
        (0..self.count()).find(has).unwrap_or_else(|| panic!("no file {name:?}"))
    }

    /// Entries of a node whose head is at `head` of the guarded block at `start`.
    pub fn entries(&self, start: usize, len: usize, head: usize) -> Vec<Entry> {
        let bytes = self.plain(start, len);
        let (mut pos, end) = (head + u32_at(&bytes, head), head + u32_at(&bytes, head + 4));
        let mut all = Vec::new();
        while pos < end {
            let (len, key_len) = (u16_at(&bytes, pos + 8), u16_at(&bytes, pos + 10));
            let key = bytes[pos + 16..pos + 16 + key_len].to_vec();
            all.push(Entry { pos, len, key, flags: u16_at(&bytes, pos + 12) as u16 });
            pos += len;
        }
        all
    }

    /// Entries of the root of an index: start of the record, position of the node's head, entries.
    pub fn root_entries(&self, number: usize, name: &str) -> (usize, usize, Vec<Entry>) {
        let (start, head) = (self.record(number), self.attribute(number, 0x90, name).value + 0x10);
        (start, head, self.entries(start, self.record_bytes, head))
    }

    /// Entries of the first block of an index.
    pub fn block_entries(&self, number: usize, name: &str) -> (usize, usize, Vec<Entry>) {
        let start = self.clusters(number, 0xa0, name);
        (start, 0x18, self.entries(start, BLOCK, 0x18))
    }
}
