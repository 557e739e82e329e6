//! Directories ("XFS Algorithms & Data Structures", "Directories"): in the inode, in one block, or in blocks of data beside which an index stands.
//! The index (leaves, nodes, free space) begins at 32 GiB of the directory and says nothing that the data do not say, so it is not read.

use super::check_sum;
use super::extents::Extent;
use super::inode::{Files, Form, Inode};
use crate::Error;
use crate::field::{be16, be32, be64, read, size, slice, u8, wide};

/// Magic numbers: one block, or a block of data; of version 4, and with checksums.
const MAGIC_BLOCK: u32 = 0x5844_3242;
const MAGIC_DATA: u32 = 0x5844_3244;
const MAGIC_BLOCK_V5: u32 = 0x5844_4233;
const MAGIC_DATA_V5: u32 = 0x5844_4433;
/// Bytes before the first entry.
const HEADER_BYTES: usize = 16;
const HEADER_BYTES_V5: usize = 64;
/// In one block: the counts at its end, and an entry of the index before them.
const TAIL_BYTES: usize = 8;
const INDEX_BYTES: usize = 8;
/// In place of the first half of an inode's number: nothing here.
const UNUSED: u16 = 0xffff;
/// Where the index begins, bytes.
const INDEX_START: u64 = 32 << 30;
/// Bytes of a directory that are read at most.
const MAX_DIRECTORY_BYTES: u64 = 256 << 20;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) inode: u64,
    pub(super) name: Vec<u8>,
}

impl Files<'_> {
    /// All entries of a directory but itself and the one above it.
    pub(super) fn entries(&self, directory: &Inode) -> Result<Vec<Entry>, Error> {
        if directory.data.form == Form::Local {
            return self.short(directory);
        }
        let extents = self.extents(directory, &directory.data)?;
        let unit =
            u64::from(self.directory_bytes).checked_div(self.sb.block_bytes.into()).unwrap_or(1).max(1);
        let index = INDEX_START.checked_div(self.sb.block_bytes.into()).unwrap_or(0);
        let mut out = Vec::new();
        let (mut next, mut total) = (0u64, 0u64);
        for extent in extents.iter().take_while(|extent| extent.logical < index) {
            // The first block that this extent has a part of; the ones before are gone, as blocks without entries are.
            let first = extent.logical.checked_div(unit).unwrap_or(0).max(next);
            for number in first..extent.end().div_ceil(unit) {
                self.go_on()?;
                total = total.saturating_add(self.directory_bytes.into());
                if total > MAX_DIRECTORY_BYTES {
                    let value = format!("inode {}, more than {MAX_DIRECTORY_BYTES} bytes", directory.number);
                    return Err(Error::unsupported("size of a directory", value));
                }
                let start = number.saturating_mul(unit);
                let (bytes, offset) = self.fork_blocks(directory, &extents, start, unit)?;
                self.block(directory, &bytes, offset, &mut out)?;
                next = number.saturating_add(1);
            }
        }
        Ok(out)
    }

    /// Blocks of the file system that lie behind each other in a fork, and where the first of them stands.
    pub(super) fn fork_blocks(
        &self,
        inode: &Inode,
        extents: &[Extent],
        start: u64,
        unit: u64,
    ) -> Result<(Vec<u8>, u64), Error> {
        let mut bytes = Vec::new();
        let mut first = None;
        for logical in start..start.saturating_add(unit) {
            let at = extents.partition_point(|extent| extent.end() <= logical);
            let extent = extents.get(at).filter(|it| it.logical <= logical && !it.is_unwritten);
            let Some(extent) = extent else {
                let expected = format!("{unit} blocks from {start}");
                return Err(inode.wrong("blocks of a fork", expected, format!("none at {logical}")));
            };
            let within = logical.saturating_sub(extent.logical).saturating_mul(self.sb.block_bytes.into());
            let offset = extent.offset.saturating_add(within);
            first.get_or_insert(offset);
            bytes.extend(read(self.dev, "blocks of a fork", offset, size(self.sb.block_bytes.into()))?);
        }
        Ok((bytes, first.unwrap_or(0)))
    }

    fn block(&self, directory: &Inode, bytes: &[u8], offset: u64, out: &mut Vec<Entry>) -> Result<(), Error> {
        let what = |name: &str| format!("directory, inode {}, {name}", directory.number);
        let (magic, is_new) = (be32(bytes, 0), self.sb.version == 5);
        let is_single = match (magic, is_new) {
            (MAGIC_BLOCK, false) | (MAGIC_BLOCK_V5, true) => true,
            (MAGIC_DATA, false) | (MAGIC_DATA_V5, true) => false,
            _ => return Err(Error::corrupt(what("magic"), offset, "that of a block", format!("{magic:#x}"))),
        };
        let mut at = HEADER_BYTES;
        if is_new {
            at = HEADER_BYTES_V5;
            check_sum("directory", offset, bytes, 4)?;
            let (place, owner) = (be64(bytes, 8), be64(bytes, 40));
            if place != offset >> 9 || owner != directory.number || slice(bytes, 24, 16) != self.sb.meta_uuid
            {
                let expected = format!("sector {} of inode {}", offset >> 9, directory.number);
                let found = format!("sector {place} of inode {owner}");
                return Err(Error::corrupt(what("owner"), offset, expected, found));
            }
        }
        let mut end = bytes.len();
        if is_single {
            let tail = end.saturating_sub(TAIL_BYTES);
            let index = size(be32(bytes, tail).into()).saturating_mul(INDEX_BYTES);
            let before = tail.checked_sub(index).filter(|before| *before >= at);
            end = before.ok_or_else(|| {
                Error::corrupt(what("index"), offset, "entries inside the block", be32(bytes, tail))
            })?;
        }
        while at < end {
            let place = offset.saturating_add(wide(at));
            let head = bytes.get(at..end).unwrap_or_default();
            let len = if be16(head, 0) == UNUSED {
                usize::from(be16(head, 2))
            } else {
                let len = usize::from(u8(head, 8));
                self.entry(directory, be64(head, 0), slice(head, 9, len), place, out)?;
                // Number, length, name, kind of what it names, own place; to a multiple of eight.
                len.saturating_add(11).saturating_add(usize::from(self.has_ftype)).next_multiple_of(8)
            };
            if len < 8 || !len.is_multiple_of(8) || len > head.len() {
                let expected = format!("a multiple of 8 up to {}", head.len());
                return Err(Error::corrupt(what("length of an entry"), place, expected, len));
            }
            at = at.saturating_add(len);
        }
        Ok(())
    }

    /// Entries in the inode itself: counts, the directory above, then names and numbers.
    fn short(&self, directory: &Inode) -> Result<Vec<Entry>, Error> {
        let bytes = slice(&directory.data.bytes, 0, size(directory.size));
        if bytes.len() < 6 {
            return Err(directory.wrong("size", "a short directory inside the inode", directory.size));
        }
        let (count, number_len) = (u8(bytes, 0), if u8(bytes, 1) > 0 { 8usize } else { 4 });
        let mut at = number_len.saturating_add(2);
        let mut out = Vec::new();
        for _ in 0..count {
            let len = usize::from(u8(bytes, at));
            let number_at =
                at.saturating_add(3).saturating_add(len).saturating_add(usize::from(self.has_ftype));
            let end = number_at.saturating_add(number_len);
            if end > bytes.len() {
                return Err(directory.wrong("short directory", format!("{count} entries inside"), "fewer"));
            }
            let number = if number_len == 8 { be64(bytes, number_at) } else { be32(bytes, number_at).into() };
            self.entry(
                directory,
                number,
                slice(bytes, at.saturating_add(3), len),
                directory.offset,
                &mut out,
            )?;
            at = end;
        }
        Ok(out)
    }

    fn entry(
        &self,
        directory: &Inode,
        inode: u64,
        name: &[u8],
        place: u64,
        out: &mut Vec<Entry>,
    ) -> Result<(), Error> {
        // Nothing in a name may pass for more of a path.
        if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            let what = format!("directory, inode {}, name", directory.number);
            return Err(Error::corrupt(what, place, "no slash and no zero", String::from_utf8_lossy(name)));
        }
        if !matches!(name, b"." | b"..") {
            out.push(Entry { inode, name: name.to_vec() });
        }
        Ok(())
    }
}
