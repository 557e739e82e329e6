//! A disk in memory of which only blocks that are not all zeros take room: for images and volumes of many gigabytes.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use gravure_imaging::{Error, VolumeDevice};
use gravure_io::{ReadAt, WriteAt};

const BLOCK_BYTES: u64 = 64 << 10;
static ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];

/// The disk. It grows when it is written behind its end.
#[derive(Debug, Default)]
pub(crate) struct SparseDisk {
    blocks: Mutex<HashMap<u64, Vec<u8>>>,
    size: AtomicU64,
}

impl SparseDisk {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn of_size(size: u64) -> Self {
        Self { size: AtomicU64::new(size), ..Self::default() }
    }

    /// The parts of `len` bytes from `offset`: block, place in it, place in the buffer.
    fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let at = offset + done as u64;
            let inner = (at % BLOCK_BYTES) as usize;
            let now = (len - done).min(BLOCK_BYTES as usize - inner);
            let part = (at / BLOCK_BYTES, inner..inner + now, done..done + now);
            done += now;
            (now > 0).then_some(part)
        })
    }
}

impl ReadAt for SparseDisk {
    fn size(&self) -> u64 {
        self.size.load(Ordering::SeqCst)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset + buf.len() as u64 > self.size() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        for (block, inner, outer) in Self::parts(offset, buf.len()) {
            match blocks.get(&block) {
                Some(bytes) => buf[outer].copy_from_slice(&bytes[inner]),
                None => buf[outer].fill(0),
            }
        }
        Ok(())
    }
}

impl WriteAt for SparseDisk {
    fn block_size(&self) -> u32 {
        512
    }

    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.size.fetch_max(offset + buf.len() as u64, Ordering::SeqCst);
        for (block, inner, outer) in Self::parts(offset, buf.len()) {
            let bytes = &buf[outer];
            let is_zero = bytes == &ZEROS[..bytes.len()];
            let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
            match blocks.get_mut(&block) {
                Some(there) => there[inner].copy_from_slice(bytes),
                None if is_zero => {}
                None => {
                    let mut new = vec![0; BLOCK_BYTES as usize];
                    new[inner].copy_from_slice(bytes);
                    blocks.insert(block, new);
                }
            }
        }
        Ok(())
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(BLOCK_BYTES);
            self.write_all_at(at, &ZEROS[..len as usize])?;
            at += len;
        }
        Ok(())
    }

    fn discard(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl VolumeDevice for SparseDisk {
    fn sector_bytes(&self) -> u32 {
        512
    }

    fn name(&self) -> &str {
        "disk in memory"
    }

    fn drop_cache(&self) -> Result<(), Error> {
        Ok(())
    }
}
