//! The two seams of DESIGN section 4: `ReadAt` and `WriteAt`.

use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A source of bytes with random access through `&self`; safe to share between threads.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Fills `buf` from absolute byte `offset`. A range that passes the end is `UnexpectedEof`; nothing is promised
    /// about the content of `buf` then.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// The next range at or after `offset` that may hold data; `None` when only a hole follows. The default says
    /// that everything is data, which is always correct.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let size = self.size();
        Ok((offset < size).then_some(offset..size))
    }

    /// Tells which ranges will be read next, ascending, and that nothing else is worth fetching ahead. True when the source
    /// does so, as one at the other end of a network: then reading more than is needed only costs. The default ignores it.
    fn will_read(&self, ranges: &[Range<u64>]) -> bool {
        let _ = ranges;
        false
    }

    /// Reads `len` bytes into a new vector. The caller must have bounded `len` by what the format allows; a range
    /// beyond the end fails before anything is allocated.
    fn read_vec_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let len_u64 = u64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let end = offset.checked_add(len_u64).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if end > self.size() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let mut buf = vec![0; len];
        self.read_exact_at(offset, &mut buf)?;
        Ok(buf)
    }
}

/// A target for bytes with random access through `&self`; safe to share between threads.
pub trait WriteAt: Send + Sync {
    /// Size in bytes of the unit the target writes in (logical sector of a disk, 1 for a plain file).
    fn block_size(&self) -> u32;

    /// Writes all of `buf` at absolute byte `offset`.
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;

    /// Afterwards the range reads as zeros.
    fn zero_range(&self, range: Range<u64>) -> io::Result<()>;

    /// Tells the target that the range's content is no longer needed. Guarantees nothing about what is read then.
    fn discard(&self, range: Range<u64>) -> io::Result<()>;

    /// Returns once everything written is on stable storage.
    fn sync(&self) -> io::Result<()>;
}

macro_rules! forward {
    ($ty:ty) => {
        impl<T: ReadAt + ?Sized> ReadAt for $ty {
            fn size(&self) -> u64 {
                (**self).size()
            }
            fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
                (**self).read_exact_at(offset, buf)
            }
            fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
                (**self).next_data(offset)
            }
            fn will_read(&self, ranges: &[Range<u64>]) -> bool {
                (**self).will_read(ranges)
            }
        }
    };
}
forward!(&T);
forward!(Box<T>);
forward!(Arc<T>);

macro_rules! forward_write {
    ($ty:ty) => {
        impl<T: WriteAt + ?Sized> WriteAt for $ty {
            fn block_size(&self) -> u32 {
                (**self).block_size()
            }
            fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
                (**self).write_all_at(offset, buf)
            }
            fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
                (**self).zero_range(range)
            }
            fn discard(&self, range: Range<u64>) -> io::Result<()> {
                (**self).discard(range)
            }
            fn sync(&self) -> io::Result<()> {
                (**self).sync()
            }
        }
    };
}
forward_write!(&T);
forward_write!(Box<T>);
forward_write!(Arc<T>);

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = usize::try_from(offset).map_err(|_| eof())?;
        let end = start.checked_add(buf.len()).ok_or_else(eof)?;
        buf.copy_from_slice(self.get(start..end).ok_or_else(eof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buf)
    }
}
