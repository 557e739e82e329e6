//! Images of partclone, read front to back: the two versions of its format (`FORMAT.md`). Everything that the format lets be checked is
//! checked; blocks come out once the checksum behind them was right.

use std::io::Read;

use gravure_io::Cursor;

use crate::Error;
use crate::limits::MAX_DEVICE_BYTES;

const MAGIC: [u8; 15] = *b"partclone-image";
const HEADER_2_BYTES: usize = 110;
const HEADER_1_BYTES: usize = 4160;
/// Stands between map and blocks of version 1.
const BITMAP_END: [u8; 8] = *b"BiTmAgIc";
/// Bytes of the map of used blocks at most: 2^31 blocks.
const MAX_MAP_BYTES: u64 = 256 << 20;
/// Bytes between two checksums at most.
const MAX_STRIP_BYTES: u64 = 64 << 20;
/// Blocks handed out at a time where there are no checksums.
const STRIP_BYTES: u64 = 1 << 20;
/// A multiple of the sector size of any device.
const MAX_BLOCK_BYTES: u32 = 16 << 20;

/// What the image says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartcloneHeader {
    /// Version of the format: 1 or 2.
    pub version: u32,
    /// File system, as partclone calls it.
    pub file_system: String,
    /// Bytes of the partition.
    pub device_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Blocks of the partition that the map covers.
    pub total_blocks: u64,
    /// Blocks that are in the image, as the header says.
    pub used_blocks: u64,
    /// Whether blocks have checksums.
    pub has_checksums: bool,
}

/// How blocks are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checksum {
    None,
    /// Starts anew behind each checksum, or goes on.
    Crc {
        starts_anew: bool,
    },
    /// Version 1: CRC of the first byte of each block over and over, in 4 or 8 bytes.
    First {
        width: Option<usize>,
    },
}

/// An image that is being read.
#[derive(Debug)]
pub struct PartcloneReader<R> {
    input: R,
    header: PartcloneHeader,
    map: Vec<u8>,
    checksum: Checksum,
    /// Blocks between two checksums.
    strip_blocks: u64,
    /// State of the CRC.
    crc: u32,
    /// The next block of the map, and how many used ones came.
    next: u64,
    done: u64,
    offset: u64,
    buf: Vec<u8>,
    places: Vec<u64>,
    /// Version 1: what was read to find out how wide checksums are.
    pushed_back: Vec<u8>,
}

/// Blocks that were checked.
#[derive(Debug)]
pub struct PartcloneStrip<'a> {
    places: &'a [u64],
    bytes: &'a [u8],
    block_bytes: usize,
}

impl PartcloneStrip<'_> {
    /// Runs of blocks side by side: byte of the partition, content.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut at = 0usize;
        std::iter::from_fn(move || {
            let first = *self.places.get(at)?;
            let rest = self.places.get(at..).unwrap_or_default();
            let count = rest.iter().zip(first..).take_while(|(place, expected)| *place == expected).count();
            let from = at.saturating_mul(self.block_bytes);
            at = at.saturating_add(count);
            let bytes = self.bytes.get(from..at.saturating_mul(self.block_bytes))?;
            let block = u64::try_from(self.block_bytes).unwrap_or(u64::MAX);
            Some((first.saturating_mul(block), bytes))
        })
    }
}

/// CRC-32 without the inversion at its end, as partclone keeps it.
fn crc(state: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!state);
    hasher.update(bytes);
    !hasher.finalize()
}

const CRC_START: u32 = u32::MAX;

/// Whether bytes begin as an image does.
pub fn is_partclone(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

impl<R: Read> PartcloneReader<R> {
    /// Reads header and map.
    pub fn open(mut input: R) -> Result<Self, Error> {
        let mut head = vec![0; HEADER_2_BYTES];
        input.read_exact(&mut head).map_err(Error::io("header of a partclone image", 0))?;
        if !is_partclone(&head) {
            return Err(Error::corrupt("header", 0, "\"partclone-image\"", text(&head)));
        }
        // Version 2 has a version of the program in front of that of the format.
        if head.get(30..34) == Some(b"0002") {
            return Self::open_2(input, &head);
        }
        if head.get(30..34) == Some(b"0001") {
            head.resize(HEADER_1_BYTES, 0);
            let rest = head.get_mut(HEADER_2_BYTES..).unwrap_or_default();
            input.read_exact(rest).map_err(Error::io("header of a partclone image", 0))?;
            return Self::open_1(input, &head);
        }
        let value = text(head.get(30..34).unwrap_or_default());
        Err(Error::Unsupported { what: "version of a partclone image", value })
    }

    fn open_2(input: R, head: &[u8]) -> Result<Self, Error> {
        let body = head.get(..106).unwrap_or_default();
        let mut cursor = Cursor::new(head);
        let cut = |_| Error::corrupt("header", 0, "110 bytes", "fewer");
        cursor.take(34).map_err(cut)?;
        let order = cursor.u16().map_err(cut)?;
        if order != 0xc0de {
            return Err(Error::Unsupported {
                what: "byte order of a partclone image",
                value: format!("{order:#x}"),
            });
        }
        let file_system = text(cursor.take(16).map_err(cut)?);
        let (device_bytes, total_blocks) = (cursor.u64().map_err(cut)?, cursor.u64().map_err(cut)?);
        let (_, used_blocks) = (cursor.u64().map_err(cut)?, cursor.u64().map_err(cut)?);
        let block_bytes = cursor.u32().map_err(cut)?;
        cursor.take(8).map_err(cut)?;
        let (mode, width) = (cursor.u16().map_err(cut)?, cursor.u16().map_err(cut)?);
        let strip_blocks = u64::from(cursor.u32().map_err(cut)?);
        let (starts_anew, map_mode) = (cursor.u8().map_err(cut)? != 0, cursor.u8().map_err(cut)?);
        let expected = cursor.u32().map_err(cut)?;
        let found = crc(CRC_START, body);
        if expected != found {
            return Err(Error::corrupt(
                "header",
                106,
                format!("CRC {expected:#010x}"),
                format!("{found:#010x}"),
            ));
        }
        let checksum = match (mode, width) {
            (0, 0) => Checksum::None,
            (0x20, 4) => Checksum::Crc { starts_anew },
            _ => {
                let value = format!("mode {mode:#x} of {width} bytes");
                return Err(Error::Unsupported { what: "checksum of a partclone image", value });
            }
        };
        let header = PartcloneHeader {
            version: 2,
            file_system,
            device_bytes,
            block_bytes,
            total_blocks,
            used_blocks,
            has_checksums: checksum != Checksum::None,
        };
        let mut this = Self::new(input, header, checksum, strip_blocks, HEADER_2_BYTES)?;
        match map_mode {
            1 => this.read_bits()?,
            // One byte for each block.
            8 => this.read_bytes()?,
            mode => {
                return Err(Error::Unsupported { what: "map of a partclone image", value: mode.to_string() });
            }
        }
        Ok(this)
    }

    fn open_1(input: R, head: &[u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(head);
        let cut = |_| Error::corrupt("header", 0, "4160 bytes", "fewer");
        cursor.take(15).map_err(cut)?;
        let file_system = text(cursor.take(15).map_err(cut)?);
        cursor.take(6).map_err(cut)?;
        let block_bytes = cursor.u32().map_err(cut)?;
        let (device_bytes, total_blocks) = (cursor.u64().map_err(cut)?, cursor.u64().map_err(cut)?);
        let used_blocks = cursor.u64().map_err(cut)?;
        let header = PartcloneHeader {
            version: 1,
            file_system,
            device_bytes,
            block_bytes,
            total_blocks,
            used_blocks,
            has_checksums: true,
        };
        let mut this = Self::new(input, header, Checksum::First { width: None }, 1, HEADER_1_BYTES)?;
        this.read_bytes()?;
        let end = this.read_array::<8>("end of the map")?;
        if end != BITMAP_END {
            let found = format!("{end:02x?}");
            return Err(Error::corrupt("end of the map", this.offset, "\"BiTmAgIc\"", found));
        }
        Ok(this)
    }

    fn new(
        input: R,
        header: PartcloneHeader,
        checksum: Checksum,
        strip_blocks: u64,
        header_len: usize,
    ) -> Result<Self, Error> {
        let block = header.block_bytes;
        if !block.is_multiple_of(512) || block == 0 || block > MAX_BLOCK_BYTES {
            return Err(Error::corrupt("block size", 0, "a multiple of 512 up to 16 MiB", block));
        }
        let map_bytes = header.total_blocks.div_ceil(8);
        if map_bytes > MAX_MAP_BYTES {
            return Err(Error::limit("map of used blocks", 0, map_bytes, MAX_MAP_BYTES));
        }
        let covered = header.total_blocks.saturating_mul(block.into());
        if covered.max(header.device_bytes) > MAX_DEVICE_BYTES {
            return Err(Error::limit(
                "size of the device",
                0,
                covered.max(header.device_bytes),
                MAX_DEVICE_BYTES,
            ));
        }
        let per_step = STRIP_BYTES.checked_div(block.into()).unwrap_or(1).max(1);
        let strip_blocks = match checksum {
            Checksum::None => per_step,
            _ => strip_blocks,
        };
        let strip_bytes = strip_blocks.saturating_mul(block.into());
        if strip_blocks == 0 || strip_bytes > MAX_STRIP_BYTES {
            return Err(Error::limit("bytes between checksums", 0, strip_bytes, MAX_STRIP_BYTES));
        }
        Ok(Self {
            input,
            header,
            map: Vec::new(),
            checksum,
            strip_blocks,
            crc: CRC_START,
            next: 0,
            done: 0,
            offset: u64::try_from(header_len).unwrap_or(0),
            buf: Vec::new(),
            places: Vec::new(),
            pushed_back: Vec::new(),
        })
    }

    /// Fills `buf` from what was pushed back, then from the input.
    fn read(&mut self, buf: &mut [u8], what: &'static str) -> Result<(), Error> {
        let len = self.pushed_back.len().min(buf.len());
        let (front, rest) = buf.split_at_mut(len);
        front.copy_from_slice(self.pushed_back.get(..len).unwrap_or_default());
        self.pushed_back.drain(..len);
        self.input.read_exact(rest).map_err(Error::io(what, self.offset))?;
        self.offset = self.offset.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn read_array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        self.read(&mut out, what)?;
        Ok(out)
    }

    fn read_bits(&mut self) -> Result<(), Error> {
        let len = self.header.total_blocks.div_ceil(8);
        let mut map = Vec::new();
        let read = (&mut self.input).take(len).read_to_end(&mut map);
        read.map_err(Error::io("map of used blocks", self.offset))?;
        if u64::try_from(map.len()) != Ok(len) {
            return Err(Error::io("map of used blocks", self.offset)(
                std::io::ErrorKind::UnexpectedEof.into(),
            ));
        }
        self.offset = self.offset.saturating_add(len);
        let expected = u32::from_le_bytes(self.read_array("checksum of the map")?);
        let found = crc(CRC_START, &map);
        if expected != found {
            let (expected, found) = (format!("CRC {expected:#010x}"), format!("{found:#010x}"));
            return Err(Error::corrupt("map of used blocks", self.offset, expected, found));
        }
        self.map = map;
        Ok(())
    }

    fn read_bytes(&mut self) -> Result<(), Error> {
        let mut left = self.header.total_blocks;
        let mut state = CRC_START;
        let mut bytes = vec![0; 64 << 10];
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let mut part = std::mem::take(&mut bytes);
            let read = part.get_mut(..step).map_or(Ok(()), |part| self.read(part, "map of used blocks"));
            bytes = part;
            read?;
            let part = bytes.get(..step).unwrap_or_default();
            state = crc(state, part);
            for eight in part.chunks(8) {
                let bit = |(at, byte): (u32, &u8)| u8::from(*byte == 1).checked_shl(at).unwrap_or(0);
                self.map.push((0..).zip(eight).map(bit).fold(0, |all, bit| all | bit));
            }
            left = left.saturating_sub(u64::try_from(step).unwrap_or(0));
        }
        if self.header.version == 2 {
            let expected = u32::from_le_bytes(self.read_array("checksum of the map")?);
            if expected != state {
                let (expected, found) = (format!("CRC {expected:#010x}"), format!("{state:#010x}"));
                return Err(Error::corrupt("map of used blocks", self.offset, expected, found));
            }
        }
        Ok(())
    }

    /// What the image says of itself.
    pub fn header(&self) -> &PartcloneHeader {
        &self.header
    }

    /// Whether a block is in the image.
    pub fn is_used(&self, block: u64) -> bool {
        let byte = usize::try_from(block / 8).ok().and_then(|at| self.map.get(at));
        let is_set = byte.is_some_and(|byte| byte & (1u8 << (block & 7)) != 0);
        is_set && block < self.header.total_blocks
    }

    /// Blocks in the image, as the map says.
    pub fn used_in_map(&self) -> u64 {
        let ones = self.map.iter().map(|byte| u64::from(byte.count_ones()));
        let beyond =
            (self.header.total_blocks..self.header.total_blocks.next_multiple_of(8)).filter(|block| {
                let byte = usize::try_from(block / 8).ok().and_then(|at| self.map.get(at));
                byte.is_some_and(|byte| byte & (1u8 << (block & 7)) != 0)
            });
        ones.fold(0u64, u64::saturating_add).saturating_sub(u64::try_from(beyond.count()).unwrap_or(0))
    }

    /// The next blocks; `None` when all that the map names have come. What follows them is not looked at.
    pub fn next_strip(&mut self) -> Result<Option<PartcloneStrip<'_>>, Error> {
        self.places.clear();
        while self.next < self.header.total_blocks
            && u64::try_from(self.places.len()).unwrap_or(u64::MAX) < self.strip_blocks
        {
            if self.is_used(self.next) {
                self.places.push(self.next);
            }
            self.next = self.next.saturating_add(1);
        }
        if self.places.is_empty() {
            return Ok(None);
        }
        let block_bytes = usize::try_from(self.header.block_bytes).unwrap_or(usize::MAX);
        let mut buf = std::mem::take(&mut self.buf);
        buf.resize(self.places.len().saturating_mul(block_bytes), 0);
        let start = self.offset;
        self.read(&mut buf, "blocks")?;
        self.check(&buf, start)?;
        self.buf = buf;
        self.done = self.done.saturating_add(u64::try_from(self.places.len()).unwrap_or(0));
        Ok(Some(PartcloneStrip { places: &self.places, bytes: &self.buf, block_bytes }))
    }

    fn check(&mut self, bytes: &[u8], start: u64) -> Result<(), Error> {
        let expected_at = self.offset;
        let (expected, found) = match self.checksum {
            Checksum::None => return Ok(()),
            Checksum::Crc { starts_anew } => {
                let state = if starts_anew { CRC_START } else { self.crc };
                self.crc = crc(state, bytes);
                (u32::from_le_bytes(self.read_array("checksum of blocks")?), self.crc)
            }
            Checksum::First { width } => {
                let first = bytes.first().copied().unwrap_or(0);
                self.crc = crc(self.crc, &vec![first; bytes.len()]);
                let expected = u32::from_le_bytes(self.read_array("checksum of a block")?);
                self.skip_padding(width)?;
                (expected, self.crc)
            }
        };
        if expected == found {
            return Ok(());
        }
        let blocks = (self.places.first().copied().unwrap_or(0), self.places.last().copied().unwrap_or(0));
        let what = format!("blocks {} to {}", blocks.0, blocks.1);
        let expected = format!("CRC {expected:#010x} (at {expected_at:#x})");
        Err(Error::corrupt(what, start, expected, format!("{found:#010x}")))
    }

    /// Programs of 64 bits wrote checksums of version 1 in eight bytes. Which, the second block tells: whether the checksum behind it
    /// is right when it begins four bytes later.
    fn skip_padding(&mut self, width: Option<usize>) -> Result<(), Error> {
        match width {
            Some(8) => {
                self.read_array::<4>("checksum of a block")?;
            }
            Some(_) => {}
            None => {
                let is_last = (self.next..self.header.total_blocks).all(|block| !self.is_used(block));
                if is_last {
                    return Ok(());
                }
                let block = usize::try_from(self.header.block_bytes).unwrap_or(usize::MAX);
                let mut ahead = vec![0; block.saturating_add(12)];
                let mut got = 0usize;
                while let Some(rest) = ahead.get_mut(got..).filter(|rest| !rest.is_empty()) {
                    match self.input.read(rest).map_err(Error::io("blocks", self.offset))? {
                        0 => break,
                        more => got = got.saturating_add(more),
                    }
                }
                ahead.truncate(got);
                let fits = |skip: usize| {
                    let first = ahead.get(skip).copied().unwrap_or(0);
                    let state = crc(self.crc, &vec![first; block]);
                    let at = skip.saturating_add(block);
                    ahead.get(at..at.saturating_add(4)) == Some(&state.to_le_bytes())
                };
                let width = if !fits(0) && fits(4) { 8 } else { 4 };
                self.checksum = Checksum::First { width: Some(width) };
                self.pushed_back = ahead;
                self.skip_padding(Some(width))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
