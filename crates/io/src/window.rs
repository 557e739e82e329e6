//! A part of a larger source or target, e.g. a partition of a disk.

use std::io;
use std::ops::Range;

use crate::{ReadAt, WriteAt};

/// `len` bytes of `inner` from `start`; offsets count from the start of the window and may not leave it.
#[derive(Debug)]
pub struct Window<T> {
    inner: T,
    start: u64,
    len: u64,
}

impl<T> Window<T> {
    /// `len` bytes of `inner` from byte `start`.
    pub fn new(inner: T, start: u64, len: u64) -> Self {
        Self { inner, start, len }
    }

    fn outer(&self, range: Range<u64>) -> io::Result<Range<u64>> {
        if range.start > range.end || range.end > self.len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let shift = |at: u64| at.checked_add(self.start).ok_or(io::Error::from(io::ErrorKind::InvalidInput));
        Ok(shift(range.start)?..shift(range.end)?)
    }

    fn range_of(offset: u64, buf: &[u8]) -> Range<u64> {
        offset..offset.saturating_add(buf.size())
    }
}

impl<T: ReadAt> ReadAt for Window<T> {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let outer = self.outer(Self::range_of(offset, buf))?;
        self.inner.read_exact_at(outer.start, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.len {
            return Ok(None);
        }
        let outer = self.outer(offset..self.len)?;
        let Some(data) = self.inner.next_data(outer.start)? else { return Ok(None) };
        let (start, end) = (data.start.max(outer.start), data.end.min(outer.end));
        let inside = |at: u64| at.saturating_sub(self.start);
        Ok((start < end).then(|| inside(start)..inside(end)))
    }
}

impl<T: WriteAt> WriteAt for Window<T> {
    fn block_size(&self) -> u32 {
        self.inner.block_size()
    }

    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let outer = self.outer(Self::range_of(offset, buf))?;
        self.inner.write_all_at(outer.start, buf)
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.inner.zero_range(self.outer(range)?)
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.inner.discard(self.outer(range)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;

    #[test]
    fn holes_show_through() {
        struct Holes;
        impl ReadAt for Holes {
            fn size(&self) -> u64 {
                100
            }
            fn read_exact_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
                Ok(())
            }
            fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
                Ok((offset < 60).then(|| offset.max(40)..60))
            }
        }
        let next = |start, len, offset| Window::new(Holes, start, len).next_data(offset).unwrap();
        assert_eq!(next(30, 50, 0), Some(10..30));
        assert_eq!(next(30, 20, 15), Some(15..20));
        assert_eq!(next(0, 40, 0), None);
        assert_eq!(next(70, 30, 0), None);
        assert_eq!(next(30, 20, 20), None);
    }

    #[test]
    fn nothing_leaves_the_window() {
        let disk = MemoryDisk::new(100, 1);
        let part = Window::new(&disk as &MemoryDisk, 10, 20);
        assert_eq!(part.read_vec_at(0, 20).unwrap(), vec![0; 20]);
        let kind = part.read_vec_at(1, 20).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn writes_land_behind_the_start() {
        let disk = MemoryDisk::new(100, 1);
        Window::new(&disk, 10, 20).write_all_at(5, b"abc").unwrap();
        assert_eq!(&disk.to_vec()[15..18], b"abc");
        assert!(Window::new(&disk, 10, 20).write_all_at(18, b"abc").is_err());
    }
}
