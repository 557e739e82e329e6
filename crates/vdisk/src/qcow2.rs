//! qcow2, versions 2 and 3 (layout: `FORMAT.md`).

mod write;

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use gravure_io::ReadAt;

pub use write::write_qcow2;

use crate::disk::Inner;
use crate::field::{be32, be64, narrow};
use crate::map::{Mapped, Place};
use crate::{Error, MAX_DISK_BYTES, MAX_TABLE_BYTES};

pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of a header of version 3 that are looked at.
const HEADER_BYTES: usize = 112;
/// Bits of an entry that are an offset in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// Version 3: the cluster reads as zeros.
const ZERO: u64 = 1;
/// Tables of the second level kept.
const CACHED_TABLES: usize = 16;
/// Decompressed clusters kept.
const CACHED_CLUSTERS: usize = 4;

/// Last used last: the cluster's number and what was read.
type Cache = Mutex<Vec<(u64, Arc<Vec<u8>>)>>;

/// An opened file.
pub(crate) struct Qcow2 {
    source: Arc<dyn ReadAt>,
    size: u64,
    cluster_bits: u32,
    is_zstd: bool,
    has_zero_bit: bool,
    l1: Vec<u64>,
    tables: Cache,
    clusters: Cache,
}

impl Qcow2 {
    pub(crate) fn open(source: Arc<dyn ReadAt>) -> Result<Self, Error> {
        let mut header = vec![0; HEADER_BYTES.min(narrow(source.size()))];
        source.read_exact_at(0, &mut header).map_err(Error::io("qcow2 header", 0))?;
        if header.len() < 72 || !header.starts_with(&MAGIC) {
            return Err(Error::corrupt("qcow2 header", 0, "72 bytes with its magic", header.len()));
        }
        let version = be32(&header, 4);
        if !(2..=3).contains(&version) {
            return Err(Error::Unsupported { what: "version of qcow2", value: version.to_string() });
        }
        if version == 3 && header.len() < 104 {
            return Err(Error::corrupt("qcow2 header", 0, "104 bytes", header.len()));
        }
        let unsupported = |what, value: u64| Err(Error::Unsupported { what, value: value.to_string() });
        if be64(&header, 8) != 0 {
            return Err(Error::Unsupported {
                what: "backing file",
                value: "a chain of qcow2 files".to_owned(),
            });
        }
        if be32(&header, 32) != 0 {
            return unsupported("encryption of qcow2", be32(&header, 32).into());
        }
        let cluster_bits = be32(&header, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(Error::corrupt("cluster bits", 20, "9 to 21", cluster_bits));
        }
        let size = be64(&header, 24);
        if size > MAX_DISK_BYTES {
            return Err(Error::corrupt("disk size", 24, format!("at most {MAX_DISK_BYTES}"), size));
        }
        let mut is_zstd = false;
        if version == 3 {
            let incompatible = be64(&header, 72);
            // Bit 0 is about reference counts alone, which nobody needs for reading.
            if incompatible & 2 != 0 {
                return Err(Error::Unclean("QEMU marked it as corrupt"));
            }
            if incompatible & 4 != 0 {
                return unsupported("external data file of qcow2", incompatible);
            }
            if incompatible & 16 != 0 {
                return unsupported("subclusters of qcow2", incompatible);
            }
            if incompatible & !0x1f != 0 {
                return unsupported("feature bits of qcow2", incompatible);
            }
            if incompatible & 8 != 0 {
                is_zstd = match header.get(104) {
                    Some(0) => false,
                    Some(1) => true,
                    other => {
                        return unsupported("compression of qcow2", other.copied().unwrap_or(255).into());
                    }
                };
            }
        }
        let entries_bits = cluster_bits.saturating_sub(3);
        let reach = cluster_bits.saturating_add(entries_bits);
        let needed = size.checked_shr(reach).unwrap_or(0);
        let needed =
            if size & (1u64 << reach).wrapping_sub(1) == 0 { needed } else { needed.saturating_add(1) };
        let count = u64::from(be32(&header, 36));
        let bytes = needed.saturating_mul(8);
        if count < needed || bytes > MAX_TABLE_BYTES {
            let expected = format!("{needed} entries in at most {MAX_TABLE_BYTES} bytes");
            return Err(Error::corrupt("table of the first level", 36, expected, count));
        }
        let offset = be64(&header, 40);
        let table = source.read_vec_at(offset, narrow(bytes));
        let table = table.map_err(Error::io("table of the first level", offset))?;
        let l1 = table.chunks_exact(8).map(|entry| be64(entry, 0)).collect();
        let has_zero_bit = version == 3;
        let (tables, clusters) = Default::default();
        Ok(Self { source, size, cluster_bits, is_zstd, has_zero_bit, l1, tables, clusters })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn cluster_bytes(&self) -> u64 {
        1u64.checked_shl(self.cluster_bits).unwrap_or(u64::MAX)
    }

    /// The table of the second level that stands at `offset`.
    fn table(&self, offset: u64) -> io::Result<Arc<Vec<u8>>> {
        cached(&self.tables, offset, CACHED_TABLES, || {
            self.source.read_vec_at(offset, narrow(self.cluster_bytes()))
        })
    }

    fn decompress(&self, stored: &[u8]) -> io::Result<Vec<u8>> {
        let len = narrow(self.cluster_bytes());
        let mut plain = Vec::with_capacity(len);
        // What follows the end of the data in its last sector belongs to others.
        if self.is_zstd {
            let decoder = zstd::Decoder::new(stored)?.single_frame();
            decoder.take(self.cluster_bytes()).read_to_end(&mut plain)?;
        } else {
            let decoder = flate2::read::DeflateDecoder::new(stored);
            decoder.take(self.cluster_bytes()).read_to_end(&mut plain)?;
        }
        if plain.len() != len {
            let found = format!("compressed cluster: expected {len} bytes, found {}", plain.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, found));
        }
        Ok(plain)
    }
}

/// What `make` gives for `key`, or gave before.
fn cached(
    cache: &Cache,
    key: u64,
    most: usize,
    make: impl FnOnce() -> io::Result<Vec<u8>>,
) -> io::Result<Arc<Vec<u8>>> {
    let mut kept = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(at) = kept.iter().position(|(known, _)| *known == key) {
        let found = kept.remove(at);
        let bytes = Arc::clone(&found.1);
        kept.push(found);
        return Ok(bytes);
    }
    drop(kept);
    let made = Arc::new(make()?);
    kept = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() >= most {
        kept.remove(0);
    }
    kept.push((key, Arc::clone(&made)));
    Ok(made)
}

impl Mapped for Qcow2 {
    fn place(&self, offset: u64) -> io::Result<(Place, u64)> {
        let cluster = self.cluster_bytes();
        let inside = offset & cluster.wrapping_sub(1);
        let left = cluster.saturating_sub(inside).min(self.size.saturating_sub(offset));
        let index = offset.checked_shr(self.cluster_bits).unwrap_or(0);
        let entries_bits = self.cluster_bits.saturating_sub(3);
        let first = self.l1.get(narrow(index.checked_shr(entries_bits).unwrap_or(0)));
        let table = first.map_or(0, |entry| entry & OFFSET_MASK);
        let second = index & (1u64 << entries_bits).wrapping_sub(1);
        if table == 0 {
            // The whole reach of the table is empty.
            let reach = 1u64 << self.cluster_bits.saturating_add(entries_bits);
            let left = reach.saturating_sub(offset & reach.wrapping_sub(1));
            return Ok((Place::Zero, left.min(self.size.saturating_sub(offset)).max(1)));
        }
        let entry = be64(&self.table(table)?, narrow(second).saturating_mul(8));
        if entry & COMPRESSED != 0 {
            let bits = 62u32.saturating_sub(self.cluster_bits.saturating_sub(8));
            let from = entry & (1u64 << bits).wrapping_sub(1);
            let more = (entry & COMPRESSED.wrapping_sub(1)).checked_shr(bits).unwrap_or(0);
            let len = more.saturating_add(1).saturating_mul(512).saturating_sub(from & 511);
            // The last sector may pass the end of the file.
            let len = len.min(self.source.size().saturating_sub(from));
            return Ok((Place::Compressed { offset: from, len }, left));
        }
        let at = entry & OFFSET_MASK;
        if at == 0 || self.has_zero_bit && entry & ZERO != 0 {
            return Ok((Place::Zero, left));
        }
        Ok((Place::File(at.saturating_add(inside)), left))
    }
}

impl Inner for Qcow2 {
    fn decompressed(&self, at: u64, place: Place) -> io::Result<(u64, Arc<Vec<u8>>)> {
        let Place::Compressed { offset, len } = place else {
            return Err(io::Error::other("the cluster is not compressed"));
        };
        let start = at & !self.cluster_bytes().wrapping_sub(1);
        let most = self.cluster_bytes().saturating_add(1024);
        let plain = cached(&self.clusters, start, CACHED_CLUSTERS, || {
            let stored = self.source.read_vec_at(offset, narrow(len.min(most)))?;
            self.decompress(&stored)
        })?;
        Ok((start, plain))
    }
}

/// Rounds up; `step` is a power of two.
fn round(value: u64, step: u64) -> u64 {
    value.checked_next_multiple_of(step).unwrap_or(value)
}
