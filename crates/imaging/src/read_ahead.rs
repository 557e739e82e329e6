//! Small reads in ascending order turned into large ones. Archives mix chunk tables of a few bytes with chunks of some
//! kilobytes; read one by one they cost a system call or, over HTTP, a round trip each.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use gravure_io::ReadAt;

/// Bytes read at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// Wraps `inner`; keeps the last window that was read. One reader uses it at a time; others would only wait.
pub(crate) struct ReadAhead<'a> {
    inner: &'a dyn ReadAt,
    /// The source reads ahead itself, and knows better what.
    is_idle: bool,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// What of `offset..` is in the window.
    fn rest(&self, offset: u64) -> &[u8] {
        let from = offset.checked_sub(self.offset).and_then(|at| usize::try_from(at).ok());
        from.and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }
}

impl<'a> ReadAhead<'a> {
    /// `ranges` will be read, ascending.
    pub(crate) fn new(inner: &'a dyn ReadAt, ranges: &[Range<u64>]) -> Self {
        Self { inner, is_idle: inner.will_read(ranges), window: Mutex::default() }
    }
}

impl ReadAt for ReadAhead<'_> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn will_read(&self, ranges: &[Range<u64>]) -> bool {
        self.inner.will_read(ranges)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.is_idle {
            return self.inner.read_exact_at(offset, buf);
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let known = window.rest(offset);
        let len = known.len().min(buf.len());
        let (head, tail) = buf.split_at_mut(len);
        head.copy_from_slice(&known[..len]);
        if tail.is_empty() {
            return Ok(());
        }
        let offset = offset + len as u64;
        if tail.len() >= WINDOW_BYTES {
            return self.inner.read_exact_at(offset, tail);
        }
        let left = usize::try_from(self.inner.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(WINDOW_BYTES).max(tail.len());
        window.offset = offset;
        window.bytes.resize(wanted, 0);
        let read = self.inner.read_exact_at(offset, &mut window.bytes);
        if let Err(error) = read {
            window.bytes.clear();
            return Err(error);
        }
        tail.copy_from_slice(&window.bytes[..tail.len()]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counted(Vec<u8>, AtomicUsize);

    impl ReadAt for Counted {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.read_exact_at(offset, buf)
        }
    }

    #[test]
    fn small_reads_become_few_and_bytes_stay_right() {
        let bytes: Vec<u8> = (0..3_000_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let source = Counted(bytes.clone(), AtomicUsize::new(0));
        let ahead = ReadAhead::new(&source, &[]);
        let mut at = 0;
        for len in (1..4000).cycle() {
            let len = len.min(bytes.len() - at);
            let mut buf = vec![0; len];
            ahead.read_exact_at(at as u64, &mut buf).unwrap();
            assert_eq!(buf, bytes[at..at + len], "{at}");
            at += len;
            if at == bytes.len() {
                break;
            }
        }
        assert_eq!(source.1.load(Ordering::Relaxed), 3);
        // Back to the start, and a large read.
        let mut buf = vec![0; 2_000_000];
        ahead.read_exact_at(5, &mut buf).unwrap();
        assert_eq!(buf, bytes[5..2_000_005]);
    }

    #[test]
    fn reads_past_the_end_fail_and_do_not_stay() {
        let source = vec![7u8; 1000];
        let ahead = ReadAhead::new(&source, &[]);
        let mut buf = vec![0; 100];
        assert_eq!(ahead.read_exact_at(950, &mut buf).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        ahead.read_exact_at(900, &mut buf).unwrap();
        assert_eq!(buf, [7; 100]);
    }
}
