//! LUKS, both versions, opened: a range of the volume through a cipher.

use std::fmt;
use std::io;
use std::sync::Arc;

use gravure_io::ReadAt;
use zeroize::Zeroizing;

use crate::cipher::{SectorCipher, UNIT_BYTES};
use crate::hash::Hash;
use crate::kdf::{Kdf, MAX_STRIPES, merge};
use crate::{Error, Key, Limits, luks1, luks2};

/// The first bytes of a header.
pub(crate) const MAGIC: &[u8; 6] = b"LUKS\xba\xbe";
/// Bytes read at a time, a multiple of every sector size.
const STEP_BYTES: usize = 1 << 20;

/// An encrypted range of a volume.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) spec: String,
    pub(crate) sector_bytes: usize,
    /// Number of its first sector for initialisation vectors.
    pub(crate) first: u64,
}

/// A place for a key.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) kdf: Kdf,
    /// Of the volume key.
    pub(crate) key_bytes: usize,
    pub(crate) stripes: usize,
    pub(crate) splitter: Hash,
    /// Where the stripes are.
    pub(crate) offset: u64,
    pub(crate) spec: String,
    /// Of the key that encrypts the stripes.
    pub(crate) area_key_bytes: usize,
}

/// What tells whether a volume key is the right one.
#[derive(Debug)]
pub(crate) struct Digest {
    pub(crate) kdf: Kdf,
    pub(crate) expected: Vec<u8>,
    /// Positions of the slots it is for.
    pub(crate) slots: Vec<usize>,
}

/// What both versions come to.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) slots: Vec<Slot>,
    pub(crate) digests: Vec<Digest>,
    pub(crate) segment: Segment,
}

/// An opened LUKS volume.
pub struct Luks {
    source: Arc<dyn ReadAt>,
    cipher: SectorCipher,
    segment: Segment,
}

impl fmt::Debug for Luks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Luks").field("segment", &self.segment).finish_non_exhaustive()
    }
}

impl Luks {
    /// Opens the volume with the first key slot that `key` fits.
    pub fn open(source: Arc<dyn ReadAt>, key: &Key, limits: &Limits) -> Result<Self, Error> {
        let mut head = [0; 8];
        source.read_exact_at(0, &mut head).map_err(Error::read("LUKS header", 0))?;
        let header = match u16::from_be_bytes([head[6], head[7]]) {
            1 => luks1::header(&*source)?,
            2 => luks2::header(&*source)?,
            version => return Err(Error::unsupported("version of LUKS", version.to_string())),
        };
        let volume_key = volume_key(&*source, &header, key, limits)?;
        let segment = header.segment;
        if segment.offset.checked_add(segment.len).is_none_or(|end| end > source.size()) {
            return Err(Error::corrupt(
                "LUKS segment",
                segment.offset,
                format!("at most {} bytes", source.size().saturating_sub(segment.offset)),
                segment.len.to_string(),
            ));
        }
        let cipher = SectorCipher::new(&segment.spec, &volume_key)?;
        Ok(Self { source, cipher, segment })
    }

    /// Where the encrypted content begins in the volume, bytes.
    pub fn offset(&self) -> u64 {
        self.segment.offset
    }
}

fn volume_key(
    source: &dyn ReadAt,
    header: &Header,
    key: &Key,
    limits: &Limits,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    // What one slot asks for may be too much and another one open the volume all the same.
    let mut refused = None;
    let mut tried = 0;
    for (position, slot) in header.slots.iter().enumerate() {
        let candidate = match open_slot(source, slot, key, limits) {
            Ok(candidate) => candidate,
            Err(error @ Error::Unsupported { .. }) => {
                refused = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        tried += 1;
        for digest in header.digests.iter().filter(|digest| digest.slots.contains(&position)) {
            let found = digest.kdf.derive(&candidate, digest.expected.len(), limits)?;
            if *found == digest.expected {
                return Ok(candidate);
            }
        }
    }
    Err(refused.unwrap_or(Error::WrongKey { what: "key slots", tried }))
}

fn open_slot(
    source: &dyn ReadAt,
    slot: &Slot,
    key: &Key,
    limits: &Limits,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let len = slot.key_bytes.checked_mul(slot.stripes).filter(|_| slot.stripes <= MAX_STRIPES);
    let len = len.ok_or_else(|| Error::unsupported("count of stripes", slot.stripes.to_string()))?;
    let sectors = len.next_multiple_of(UNIT_BYTES as usize);
    let end = slot.offset.checked_add(sectors as u64).filter(|end| *end <= source.size());
    end.ok_or_else(|| {
        Error::corrupt(
            "LUKS key slot",
            slot.offset,
            format!("{sectors} bytes of stripes"),
            "the end of the volume",
        )
    })?;
    let derived = slot.kdf.derive(key.bytes(), slot.area_key_bytes, limits)?;
    let cipher = SectorCipher::new(&slot.spec, &derived)?;
    let mut stripes = Zeroizing::new(vec![0; sectors]);
    source.read_exact_at(slot.offset, &mut stripes).map_err(Error::read("LUKS key slot", slot.offset))?;
    cipher.decrypt_all(0, UNIT_BYTES as usize, &mut stripes);
    Ok(merge(&stripes[..len], slot.key_bytes, slot.splitter))
}

impl ReadAt for Luks {
    fn size(&self) -> u64 {
        self.segment.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.segment.len);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let sector = self.segment.sector_bytes;
        let decrypt = |at: u64, data: &mut [u8]| {
            self.source.read_exact_at(self.segment.offset + at, data)?;
            self.cipher.decrypt_all(self.segment.first.wrapping_add(at / UNIT_BYTES), sector, data);
            Ok(())
        };
        in_sectors(offset, buf, sector, decrypt)
    }
}

/// Reads any range through what reads whole sectors.
pub(crate) fn in_sectors(
    offset: u64,
    buf: &mut [u8],
    sector_bytes: usize,
    read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let sector = sector_bytes as u64; // lossless
    let mut done = 0;
    let mut scratch = Zeroizing::new(Vec::new());
    while done < buf.len() {
        let at = offset + done as u64;
        let within = usize::try_from(at % sector).map_err(io::Error::other)?;
        let left = buf.len() - done;
        let whole = (left.min(STEP_BYTES) / sector_bytes) * sector_bytes;
        if within == 0 && whole > 0 {
            read(at, &mut buf[done..done + whole])?;
            done += whole;
            continue;
        }
        scratch.resize(sector_bytes, 0);
        read(at - within as u64, &mut scratch)?;
        let take = left.min(sector_bytes - within);
        buf[done..done + take].copy_from_slice(&scratch[within..within + take]);
        done += take;
    }
    Ok(())
}
