//! A new qcow2 file (version 3): data front to back with the table of each stretch behind it, the tables over those at the end, the
//! header last. A file that was not finished has no header.

use gravure_io::{ReadAt, WriteAt};

use super::{MAGIC, round};
use crate::field::{narrow, put, wide};
use crate::write::pieces;
use crate::{Error, MAX_DISK_BYTES, Written};

const CLUSTER: u64 = 64 << 10;
const CLUSTER_BITS: u32 = 16;
/// Entries of a table of the second level.
const ENTRIES: u64 = CLUSTER / 8;
/// Counts in a block of them: 16 bits each.
const COUNTS: u64 = CLUSTER / 2;
/// Only this entry refers to the cluster.
const COPIED: u64 = 1 << 63;

struct Writer<'a> {
    target: &'a dyn WriteAt,
    /// Where the next cluster goes.
    end: u64,
    l1: Vec<u64>,
    /// The open table of the second level, and which it is.
    table: Vec<u64>,
    open: Option<usize>,
    data_bytes: u64,
}

impl Writer<'_> {
    fn append(&mut self, bytes: &[u8], what: &'static str) -> Result<u64, Error> {
        let at = self.end;
        self.target.write_all_at(at, bytes).map_err(Error::io(what, at))?;
        self.end = at.saturating_add(round(wide(bytes.len()), CLUSTER));
        Ok(at)
    }

    fn close_table(&mut self) -> Result<(), Error> {
        let Some(number) = self.open.take() else { return Ok(()) };
        let bytes: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.table.iter_mut().for_each(|entry| *entry = 0);
        let at = self.append(&bytes, "qcow2 table")?;
        if let Some(entry) = self.l1.get_mut(number) {
            *entry = at | COPIED;
        }
        Ok(())
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let number = narrow(at / (CLUSTER * ENTRIES));
            if self.open != Some(number) {
                self.close_table()?;
                self.open = Some(number);
            }
            // As far as this table goes.
            let first = (at / CLUSTER) & (ENTRIES - 1);
            let most = narrow(ENTRIES.saturating_sub(first).saturating_mul(CLUSTER));
            let (now, later) = rest.split_at(rest.len().min(most));
            let mut place = self.append(now, "qcow2 data")?;
            let clusters = narrow(wide(now.len()).div_ceil(CLUSTER));
            for entry in self.table.iter_mut().skip(narrow(first)).take(clusters) {
                *entry = place | COPIED;
                place = place.saturating_add(CLUSTER);
            }
            self.data_bytes = self.data_bytes.saturating_add(wide(now.len()));
            at = at.saturating_add(wide(now.len()));
            rest = later;
        }
        Ok(())
    }
}

/// Writes `source` as a qcow2 file to `target`, which is empty. `progress` is told how far the disk was read; an error of it ends
/// the writing.
pub fn write_qcow2(
    source: &dyn ReadAt,
    target: &dyn WriteAt,
    progress: &mut dyn FnMut(u64) -> std::io::Result<()>,
) -> Result<Written, Error> {
    let size = round(source.size(), 512);
    if size > MAX_DISK_BYTES {
        return Err(Error::Unsupported { what: "size of the disk", value: size.to_string() });
    }
    let tables = narrow(size.div_ceil(CLUSTER * ENTRIES));
    let mut writer = Writer {
        target,
        end: CLUSTER,
        l1: vec![0; tables.max(1)],
        table: vec![0; narrow(ENTRIES)],
        open: None,
        data_bytes: 0,
    };
    pieces(source, CLUSTER, progress, &mut |offset, bytes| writer.put(offset, bytes))?;
    writer.close_table()?;
    let l1: Vec<u8> = writer.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    let l1_at = writer.append(&l1, "qcow2 table of the first level")?;
    // Reference counts cover themselves, too: as many blocks as that takes.
    let counted = writer.end / CLUSTER;
    let (mut blocks, mut table_clusters) = (0u64, 0u64);
    loop {
        let all = counted.saturating_add(blocks).saturating_add(table_clusters);
        let (more, table) = (all.div_ceil(COUNTS), all.div_ceil(COUNTS).div_ceil(ENTRIES));
        if (more, table) == (blocks, table_clusters) {
            break;
        }
        (blocks, table_clusters) = (more, table);
    }
    let all = counted.saturating_add(blocks).saturating_add(table_clusters);
    let mut table = vec![0u8; narrow(table_clusters.saturating_mul(CLUSTER))];
    let mut left = all;
    for index in 0..narrow(blocks) {
        let ones = left.min(COUNTS);
        let mut block = 1u16.to_be_bytes().repeat(narrow(ones));
        block.resize(narrow(CLUSTER), 0);
        left = left.saturating_sub(ones);
        let at = writer.append(&block, "qcow2 reference counts")?;
        put(&mut table, index.saturating_mul(8), &at.to_be_bytes());
    }
    let table_at = writer.append(&table, "qcow2 table of reference counts")?;
    target.sync().map_err(Error::io("sync", 0))?;
    let mut header = vec![0; 512];
    put(&mut header, 0, &MAGIC);
    put(&mut header, 4, &3u32.to_be_bytes());
    put(&mut header, 20, &CLUSTER_BITS.to_be_bytes());
    put(&mut header, 24, &size.to_be_bytes());
    put(&mut header, 36, &u32::try_from(writer.l1.len()).unwrap_or(u32::MAX).to_be_bytes());
    put(&mut header, 40, &l1_at.to_be_bytes());
    put(&mut header, 48, &table_at.to_be_bytes());
    put(&mut header, 56, &u32::try_from(table_clusters).unwrap_or(u32::MAX).to_be_bytes());
    put(&mut header, 96, &4u32.to_be_bytes());
    put(&mut header, 100, &112u32.to_be_bytes());
    target.write_all_at(0, &header).map_err(Error::io("qcow2 header", 0))?;
    target.sync().map_err(Error::io("sync", 0))?;
    Ok(Written { file_bytes: writer.end, data_bytes: writer.data_bytes })
}
