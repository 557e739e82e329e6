//! The journal (ext4 documentation, "Journal (jbd2)"): replayed into an overlay. Numbers are big-endian.
//!
//! One pass from the first transaction on: what a transaction with a commit block says counts, and of several writes to a block
//! the last. A block that was revoked in the same or a later transaction is left as it stands.

use std::collections::BTreeMap;

use gravure_io::ReadAt;

use super::inode::{BlockWalk, Piece, physical_block, read_inode};
use super::superblock::{CHECKSUM_AT, INCOMPAT_AT, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET};
use super::superblock::{Superblock, incompat, ro_compat};
use crate::checksum::{crc32_be, crc32c};
use crate::field::{array, be16, be32, le16, le32, read, size, slice, u8, wide};
use crate::overlay::Patch;
use crate::{Error, Overlay, Reason};

const MAGIC: u32 = 0xc03b_3998;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK_V1: u32 = 3;
const SUPERBLOCK_V2: u32 = 4;
const REVOKE: u32 = 5;

/// Compatible feature: commit blocks have a CRC-32 of all blocks of the transaction.
const HAS_CHECKSUM: u32 = 0x1;
const HAS_64BIT: u32 = 0x2;
const HAS_ASYNC_COMMIT: u32 = 0x4;
const HAS_CSUM_V2: u32 = 0x8;
const HAS_CSUM_V3: u32 = 0x10;
const HAS_FAST_COMMIT: u32 = 0x20;
const KNOWN_INCOMPAT: u32 = 0x3f;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_DELETED: u32 = 4;
const TAG_LAST: u32 = 8;

/// Blocks in the area of fast commits when the super block says 0.
const FAST_COMMIT_BLOCKS: u32 = 256;
/// Tag of the record that starts a fast commit.
const FAST_COMMIT_HEAD: u16 = 9;

/// Blocks replayed at most: twice those of the largest journal that mke2fs makes by itself, some 100 MB of memory.
const MAX_REPLAYED: usize = 1 << 21;

/// What a journal changes.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) overlay: Overlay,
    /// Transactions that were found complete.
    pub(super) transactions: u32,
    /// Blocks that differ from the device because of them.
    pub(super) blocks: usize,
}

/// Where a journal stands and how its blocks are read.
struct Journal<'a> {
    dev: &'a dyn ReadAt,
    sb: &'a Superblock,
    pieces: Vec<Piece>,
    first: u32,
    /// The block after the last of the ring.
    end: u32,
    /// All blocks, those for fast commits behind the ring among them.
    blocks: u32,
    /// Block and sequence number at which the log starts; a block of 0 when it is empty.
    start: u32,
    sequence: u32,
    incompat: u32,
    /// Commit blocks have a checksum of the whole transaction; such journals have no others.
    sums_transactions: bool,
    seed: u32,
    /// Its own super block.
    head: Vec<u8>,
}

/// A block's new content.
#[derive(Debug, Clone, Copy)]
struct Write {
    sequence: u32,
    /// Block of the journal.
    from: u32,
    is_escaped: bool,
    checksum: u32,
}

/// Replays the journal of `dev`, whose super block says that this is needed.
pub(super) fn replay(dev: &dyn ReadAt, sb: &Superblock, goes_on: &dyn Fn() -> bool) -> Result<Replay, Error> {
    let journal = Journal::open(dev, sb)?;
    let mut log = Log::default();
    let next = if journal.start == 0 { journal.sequence } else { journal.scan(&mut log, goes_on)? };
    journal.refuse_fast_commits(next)?;
    let mut overlay = Overlay::new();
    let block_len = u64::from(sb.block_bytes);
    let mut blocks = 0usize;
    for (block, write) in &log.writes {
        let is_revoked =
            log.revoked.get(block).is_some_and(|revoked| is_at_or_after(*revoked, write.sequence));
        if is_revoked {
            continue;
        }
        let from = journal.offset(write.from)?;
        journal.check_content(write, from)?;
        let to = sb.offset(*block);
        if write.is_escaped {
            // The journal's own number stood at the start of the block, and was taken out of the way.
            overlay.set(to, Patch::Bytes(MAGIC.to_be_bytes().to_vec()));
            let len = block_len.saturating_sub(4);
            overlay.set(to.saturating_add(4), Patch::Moved { from: from.saturating_add(4), len });
        } else {
            overlay.set(to, Patch::Moved { from, len: block_len });
        }
        blocks = blocks.saturating_add(1);
    }
    journal.close(&mut overlay, next)?;
    let transactions = next.wrapping_sub(journal.sequence);
    Ok(Replay { overlay, transactions, blocks })
}

/// Sequence numbers wrap.
fn is_at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}

/// What committed transactions say.
#[derive(Debug, Default)]
struct Log {
    writes: BTreeMap<u64, Write>,
    /// The last transaction that revoked a block.
    revoked: BTreeMap<u64, u32>,
}

/// The transaction that is being read.
#[derive(Debug)]
struct Transaction {
    writes: Vec<(u64, Write)>,
    revoked: Vec<u64>,
    /// Of its blocks so far.
    checksum: u32,
}

impl Transaction {
    fn new() -> Self {
        Self { writes: Vec::new(), revoked: Vec::new(), checksum: u32::MAX }
    }
}

impl Log {
    fn commit(&mut self, transaction: Transaction, sequence: u32) -> Result<(), Error> {
        self.revoked.extend(transaction.revoked.into_iter().map(|block| (block, sequence)));
        self.writes.extend(transaction.writes);
        let most = self.writes.len().max(self.revoked.len());
        if most > MAX_REPLAYED {
            return Err(Error::unsupported("journal with more blocks than", MAX_REPLAYED));
        }
        Ok(())
    }
}

impl<'a> Journal<'a> {
    fn open(dev: &'a dyn ReadAt, sb: &'a Superblock) -> Result<Self, Error> {
        let inode = read_inode(dev, sb, sb.journal_inode)?;
        let mut pieces = Vec::new();
        BlockWalk::new(dev, sb).walk(&inode, &mut pieces)?;
        let Some(place) = physical_block(&pieces, 0).filter(|_| inode.is_file()) else {
            return Err(Error::corrupt(
                "journal",
                0,
                "a file with blocks",
                format!("mode {:#o}", inode.mode),
            ));
        };
        let offset = sb.offset(place);
        let head = read(dev, "journal's super block", offset, sb.block_len())?;
        let wrong = |at: u64, what: &str, expected: &str, found: u32| {
            let what = format!("journal's super block, {what}");
            Err(Error::corrupt(what, offset.saturating_add(at), expected, format!("{found:#x}")))
        };
        let version = be32(&head, 4);
        if be32(&head, 0) != MAGIC || !matches!(version, SUPERBLOCK_V1 | SUPERBLOCK_V2) {
            return wrong(0, "magic", "0xc03b3998 and block type 3 or 4", be32(&head, 0));
        }
        let has_features = version == SUPERBLOCK_V2;
        let incompat = if has_features { be32(&head, 0x28) } else { 0 };
        if incompat & !KNOWN_INCOMPAT != 0 {
            return Err(Error::unsupported("journal feature", format!("{:#x}", incompat & !KNOWN_INCOMPAT)));
        }
        let has_checksums = incompat & (HAS_CSUM_V2 | HAS_CSUM_V3) != 0;
        if incompat & HAS_ASYNC_COMMIT != 0 && !has_checksums {
            // A commit block says then that its transaction may be there, and only checksums over all of it say that it is.
            return Err(Error::unsupported(
                "journal feature",
                "journal_async_commit without checksums of blocks",
            ));
        }
        if has_checksums {
            let found = be32(&head, 0xfc);
            let expected = checksum_without(u32::MAX, slice(&head, 0, 1024), 0xfc);
            if head.get(0x50) != Some(&4) || expected != found {
                return wrong(0xfc, "checksum", &format!("CRC-32C {expected:#x}"), found);
            }
        }
        if be32(&head, 0xc) != sb.block_bytes {
            return wrong(0xc, "block size", &sb.block_bytes.to_string(), be32(&head, 0xc));
        }
        let blocks = be32(&head, 0x10);
        let last = pieces.last().map_or(0, |piece| piece.logical.saturating_add(piece.blocks));
        if u64::from(blocks) > last {
            return wrong(0x10, "count of blocks", &format!("at most {last}"), blocks);
        }
        let reserved = match be32(&head, 0x54) {
            _ if incompat & HAS_FAST_COMMIT == 0 => 0,
            0 => FAST_COMMIT_BLOCKS,
            count => count,
        };
        let (first, end, start) = (be32(&head, 0x14), blocks.saturating_sub(reserved), be32(&head, 0x1c));
        if first == 0 || first >= end {
            return wrong(0x14, "first block", &format!("1 to {end}"), first);
        }
        if start != 0 && !(first..end).contains(&start) {
            return wrong(0x1c, "start of the log", &format!("{first} to {end}"), start);
        }
        if be32(&head, 0x20) != 0 {
            return Err(Error::Refused { kind: sb.kind, reason: Reason::HasErrors });
        }
        let uuid: [u8; 16] = array(&head, 0x30);
        let seed = crc32c(u32::MAX, &uuid);
        let sequence = be32(&head, 0x18);
        let sums_transactions = has_features && !has_checksums && be32(&head, 0x24) & HAS_CHECKSUM != 0;
        Ok(Self {
            dev,
            sb,
            pieces,
            first,
            end,
            blocks,
            start,
            sequence,
            incompat,
            sums_transactions,
            seed,
            head,
        })
    }

    fn has(&self, incompat: u32) -> bool {
        self.incompat & incompat != 0
    }

    fn has_checksums(&self) -> bool {
        self.has(HAS_CSUM_V2 | HAS_CSUM_V3)
    }

    /// Absolute byte of a block of the journal.
    fn offset(&self, block: u32) -> Result<u64, Error> {
        let place = physical_block(&self.pieces, block.into());
        let place = place
            .ok_or_else(|| Error::corrupt("journal", 0, "a file without holes", format!("one at {block}")))?;
        Ok(self.sb.offset(place))
    }

    fn read(&self, block: u32) -> Result<Vec<u8>, Error> {
        read(self.dev, "journal", self.offset(block)?, self.sb.block_len())
    }

    fn after(&self, block: u32, count: u32) -> u32 {
        let ring = self.end.saturating_sub(self.first).max(1);
        let within = u64::from(block.saturating_sub(self.first)).saturating_add(count.into());
        let within = within.checked_rem(ring.into()).unwrap_or(0);
        self.first.saturating_add(u32::try_from(within).unwrap_or(0))
    }

    /// Reads all transactions that were committed; the number of the first that was not.
    fn scan(&self, log: &mut Log, goes_on: &dyn Fn() -> bool) -> Result<u32, Error> {
        let (mut block, mut sequence) = (self.start, self.sequence);
        // No log is longer than the ring it lies in.
        let mut left = self.end.saturating_sub(self.first);
        let mut transaction = Transaction::new();
        while left > 0 {
            if !goes_on() {
                return Err(Error::Stopped);
            }
            let bytes = self.read(block)?;
            if be32(&bytes, 0) != MAGIC || be32(&bytes, 8) != sequence {
                break;
            }
            let kind = be32(&bytes, 4);
            if !self.is_sound(kind, &bytes) {
                // A crash tears what was being written, and then there is no commit block behind it. With one, this is damage.
                let offset = self.offset(block)?;
                if self.is_committed_behind(block, left, sequence)? {
                    let what = format!("journal, transaction {sequence}");
                    return Err(Error::corrupt(
                        what,
                        offset,
                        "a block with its checksum",
                        "another checksum",
                    ));
                }
                break;
            }
            let mut used = 1u32;
            match kind {
                DESCRIPTOR => {
                    let first = self.after(block, 1);
                    let count = self.tags(&bytes, sequence, first, &mut transaction)?;
                    used = used.saturating_add(count);
                    if self.sums_transactions {
                        transaction.checksum = crc32_be(transaction.checksum, &bytes);
                        for nth in 0..count.min(left) {
                            let content = self.read(self.after(first, nth))?;
                            transaction.checksum = crc32_be(transaction.checksum, &content);
                        }
                    }
                }
                REVOKE => self.revocations(&bytes, self.offset(block)?, &mut transaction)?,
                COMMIT => {
                    self.check_transaction(&transaction, &bytes, block)?;
                    log.commit(std::mem::replace(&mut transaction, Transaction::new()), sequence)?;
                    sequence = sequence.wrapping_add(1);
                }
                _ => break,
            }
            block = self.after(block, used);
            left = left.saturating_sub(used);
        }
        Ok(sequence)
    }

    /// A block of the log has the checksum it should have.
    fn is_sound(&self, kind: u32, bytes: &[u8]) -> bool {
        if !self.has_checksums() {
            return true;
        }
        let at = if kind == COMMIT { 0x10 } else { bytes.len().saturating_sub(4) };
        match kind {
            COMMIT | DESCRIPTOR | REVOKE => be32(bytes, at) == checksum_without(self.seed, bytes, at),
            _ => true,
        }
    }

    /// What was committed is what stands there, where the commit block can tell.
    fn check_transaction(&self, transaction: &Transaction, commit: &[u8], block: u32) -> Result<(), Error> {
        let (kind, len, found) = (u8(commit, 0xc), u8(commit, 0xd), be32(commit, 0x10));
        let has_none = (kind, len, found) == (0, 0, 0);
        if !self.sums_transactions || has_none || (kind, len, found) == (1, 4, transaction.checksum) {
            return Ok(());
        }
        let what = format!("journal, checksum of transaction {}", be32(commit, 8));
        let expected = format!("CRC-32 {:#x}", transaction.checksum);
        Err(Error::corrupt(what, self.offset(block)?, expected, format!("type {kind}, {found:#x}")))
    }

    /// Transaction `sequence` or a later one has a commit block behind `block`.
    fn is_committed_behind(&self, block: u32, left: u32, sequence: u32) -> Result<bool, Error> {
        for nth in 1..left {
            let bytes = self.read(self.after(block, nth))?;
            let is_commit = be32(&bytes, 0) == MAGIC && be32(&bytes, 4) == COMMIT;
            let number = be32(&bytes, 8);
            // Numbers of this log: no further than there are blocks.
            let is_ours = number.wrapping_sub(sequence) <= left;
            if is_commit && is_ours && self.is_sound(COMMIT, &bytes) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Bytes of a tag, without the UUID that may follow.
    fn tag_len(&self) -> usize {
        if self.has(HAS_CSUM_V3) {
            return 16;
        }
        let high = if self.has(HAS_64BIT) { 4 } else { 0 };
        let checksum = if self.has(HAS_CSUM_V2) { 2 } else { 0 };
        usize::saturating_add(8, high).saturating_add(checksum)
    }

    /// The tags of a descriptor block; contents stand from `from` on. Returns how many there are.
    fn tags(&self, bytes: &[u8], sequence: u32, mut from: u32, out: &mut Transaction) -> Result<u32, Error> {
        let len = self.tag_len();
        let tail = if self.has_checksums() { 4 } else { 0 };
        let end = bytes.len().saturating_sub(tail);
        let (mut at, mut count) = (12usize, 0u32);
        while at.saturating_add(len) <= end {
            let tag = slice(bytes, at, len);
            let (flags, high_at, checksum) = if self.has(HAS_CSUM_V3) {
                (be32(tag, 4), 8, be32(tag, 12))
            } else {
                (u32::from(be16(tag, 6)), 8, u32::from(be16(tag, 4)))
            };
            let high = if self.has(HAS_64BIT) { u64::from(be32(tag, high_at)) << 32 } else { 0 };
            let block = high | u64::from(be32(tag, 0));
            at = at.saturating_add(len);
            if flags & TAG_SAME_UUID == 0 {
                at = at.saturating_add(16);
            }
            if flags & TAG_DELETED == 0 {
                if block >= self.sb.blocks {
                    let expected = format!("blocks below {}", self.sb.blocks);
                    return Err(Error::corrupt("journal, block to be written", 0, expected, block));
                }
                let is_escaped = flags & TAG_ESCAPED != 0;
                out.writes.push((block, Write { sequence, from, is_escaped, checksum }));
            }
            if out.writes.len() > MAX_REPLAYED {
                return Err(Error::unsupported("journal with more blocks than", MAX_REPLAYED));
            }
            count = count.saturating_add(1);
            from = self.after(from, 1);
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        Ok(count)
    }

    fn revocations(&self, bytes: &[u8], offset: u64, out: &mut Transaction) -> Result<(), Error> {
        let tail = if self.has_checksums() { 4 } else { 0 };
        let room = bytes.len().saturating_sub(tail);
        let used = size(be32(bytes, 12).into());
        if used < 16 || used > room {
            let what = "journal, length of revocations";
            return Err(Error::corrupt(what, offset, format!("16 to {room}"), used));
        }
        let len = if self.has(HAS_64BIT) { 8 } else { 4 };
        let records = slice(bytes, 16, used.saturating_sub(16)).chunks_exact(len);
        out.revoked.extend(records.map(|record| match len {
            8 => u64::from_be_bytes(array(record, 0)),
            _ => be32(record, 0).into(),
        }));
        if out.revoked.len() > MAX_REPLAYED {
            return Err(Error::unsupported("journal with more blocks than", MAX_REPLAYED));
        }
        Ok(())
    }

    /// The content of a block that is to be written is that which was committed.
    fn check_content(&self, write: &Write, offset: u64) -> Result<(), Error> {
        if !self.has_checksums() {
            return Ok(());
        }
        let bytes = self.read(write.from)?;
        let crc = crc32c(crc32c(self.seed, &write.sequence.to_be_bytes()), &bytes);
        let crc = if self.has(HAS_CSUM_V3) { crc } else { crc & 0xffff };
        if crc != write.checksum {
            let what = format!("journal, content in transaction {}", write.sequence);
            let (expected, found) = (format!("{:#x}", write.checksum), format!("{crc:#x}"));
            return Err(Error::corrupt(what, offset, expected, found));
        }
        Ok(())
    }

    /// Fast commits behind the last full one describe changes of inodes and directories, which only the kernel and e2fsck carry
    /// out. Those of earlier transactions are in the full commits.
    fn refuse_fast_commits(&self, next: u32) -> Result<(), Error> {
        if !self.has(HAS_FAST_COMMIT) {
            return Ok(());
        }
        // The kernel leaves one block between the ring and the area; whoever does not is understood as well.
        for block in self.end..self.blocks {
            let bytes = self.read(block)?;
            // Tag, length, features, transaction: little-endian, as ext4 is.
            let is_head = le16(&bytes, 0) == FAST_COMMIT_HEAD && le16(&bytes, 2) >= 8;
            if is_head && is_at_or_after(le32(&bytes, 8), next) {
                return Err(Error::Refused { kind: self.sb.kind, reason: Reason::FastCommits });
            }
        }
        Ok(())
    }

    /// Marks journal and file system as they are after a replay: an empty log, nothing to be recovered.
    fn close(&self, overlay: &mut Overlay, next: u32) -> Result<(), Error> {
        let mut head = self.head.clone();
        put(&mut head, 0x1c, &0u32.to_be_bytes());
        // The number of the next transaction: one is left out, so that nothing of the old log can be taken for it.
        let next = if self.start == 0 { self.sequence } else { next.wrapping_add(1) };
        put(&mut head, 0x18, &next.to_be_bytes());
        if self.has_checksums() {
            let checksum = checksum_without(u32::MAX, slice(&head, 0, 1024), 0xfc);
            put(&mut head, 0xfc, &checksum.to_be_bytes());
        }
        overlay.set(self.offset(0)?, Patch::Bytes(head));

        let first = SUPERBLOCK_OFFSET.checked_div(self.sb.block_bytes.into()).unwrap_or(0);
        let start = self.sb.offset(first);
        let mut block = vec![0; self.sb.block_len()];
        let over = overlay.over(self.dev);
        over.read_exact_at(start, &mut block).map_err(Error::io("super block", start))?;
        let at = size(SUPERBLOCK_OFFSET.saturating_sub(start));
        let superblock = block.get_mut(at..at.saturating_add(SUPERBLOCK_BYTES)).unwrap_or_default();
        let features = le32(superblock, INCOMPAT_AT) & !incompat::RECOVER;
        put(superblock, INCOMPAT_AT, &features.to_le_bytes());
        if self.sb.has(ro_compat::METADATA_CSUM) {
            let checksum = crc32c(u32::MAX, slice(superblock, 0, CHECKSUM_AT));
            put(superblock, CHECKSUM_AT, &checksum.to_le_bytes());
        }
        overlay.remove(start..start.saturating_add(wide(block.len())));
        overlay.set(start, Patch::Bytes(block));
        Ok(())
    }
}

/// CRC-32C of `bytes` with zeros in the place of the checksum at `at`.
fn checksum_without(seed: u32, bytes: &[u8], at: usize) -> u32 {
    let before = crc32c(seed, slice(bytes, 0, at));
    let crc = crc32c(before, &[0; 4]);
    crc32c(crc, bytes.get(at.saturating_add(4)..).unwrap_or_default())
}

/// Puts `value` at `at`, when it is inside.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}
