//! Writing past the page cache: what is written once and read much later need not be copied into memory first, which costs as much
//! processor time as decoding it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

/// Alignment of memory, offset and length, bytes: no sector and no page is larger.
pub const ALIGN_BYTES: usize = 4096;
/// Shorter writes go through the cache, where the kernel joins them: a direct one waits for the medium.
const MIN_BYTES: usize = 128 << 10;
/// A buffer grows by this much.
const STEP_BYTES: usize = 1 << 20;

/// A second handle of an open file or block device, for large writes.
#[derive(Debug)]
pub struct DirectWrites {
    file: File,
    /// The file system took the flag and refuses the writes: some do.
    is_refused: AtomicBool,
}

impl DirectWrites {
    /// For what `file` has open; `None` where its file system has no direct writes, or `/proc` is not mounted.
    pub fn of(file: impl AsFd) -> Option<Self> {
        let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).ok()?;
        Some(Self { file, is_refused: AtomicBool::new(false) })
    }

    /// Writes the part of `bytes` that can go directly; what lies before and after it is handed to `cached`, or all of it where the
    /// part is short, `bytes` does not stand in memory as it stands on the device (see [`AlignedBuffer`]), or the file system refuses.
    pub fn write_all_at(
        &self,
        offset: u64,
        bytes: &[u8],
        cached: impl Fn(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let align = ALIGN_BYTES as u64; // lossless
        let head =
            usize::try_from(offset.next_multiple_of(align).saturating_sub(offset)).unwrap_or(bytes.len());
        let (head, rest) = bytes.split_at(head.min(bytes.len()));
        let (body, tail) = rest.split_at(rest.len() - rest.len() % ALIGN_BYTES);
        let is_aligned = body.as_ptr().align_offset(ALIGN_BYTES) == 0;
        if body.len() < MIN_BYTES || !is_aligned || self.is_refused.load(Ordering::Relaxed) {
            return cached(offset, bytes);
        }
        let start = offset.saturating_add(head.len() as u64);
        match self.file.write_all_at(body, start) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.is_refused.store(true, Ordering::Relaxed);
                return cached(offset, bytes);
            }
            other => other?,
        }
        if !head.is_empty() {
            cached(offset, head)?;
        }
        if !tail.is_empty() {
            cached(start.saturating_add(body.len() as u64), tail)?;
        }
        Ok(())
    }
}

/// Bytes that stand in memory as they will on a device, so that whole pages of them are pages there.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    store: Vec<u8>,
    /// Where the bytes begin in `store`.
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// Empties it for bytes that will stand at `offset`. Its memory is kept.
    pub fn restart(&mut self, offset: u64) {
        let within = usize::try_from(offset % ALIGN_BYTES as u64).unwrap_or(0); // lossless: less than a page
        self.start = self.store.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES).saturating_add(within);
        self.len = 0;
    }

    /// Adds bytes at the end.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let needed = self.start.saturating_add(self.len).saturating_add(bytes.len());
        if needed > self.store.len() {
            self.grow(needed);
        }
        let at = self.start + self.len;
        self.store[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn grow(&mut self, needed: usize) {
        let within = self.start.wrapping_sub(self.store.as_ptr().align_offset(ALIGN_BYTES)) % ALIGN_BYTES;
        // Room for whole steps, wherever they begin in their first page.
        let step = needed.saturating_sub(2 * ALIGN_BYTES).max(1).next_multiple_of(STEP_BYTES);
        let mut store = vec![0; step.saturating_add(4 * ALIGN_BYTES)];
        let start = store.as_ptr().align_offset(ALIGN_BYTES) + within;
        store[start..start + self.len].copy_from_slice(self.as_slice());
        (self.store, self.start) = (store, start);
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.store[self.start.min(self.store.len())..][..self.len]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use gravure_io::ReadAt;

    use super::*;

    #[test]
    fn bytes_stand_in_memory_as_on_the_device() {
        let mut buffer = AlignedBuffer::default();
        for (offset, pieces) in
            [(0, vec![1, 4095, 9000]), (5 * 4096 + 512, vec![700_000]), (4095, vec![3, 0, 1])]
        {
            buffer.restart(offset);
            assert!(buffer.is_empty() && buffer.as_slice().is_empty());
            let mut expected = Vec::new();
            for (index, len) in pieces.into_iter().enumerate() {
                let piece = vec![index as u8 + 1; len];
                expected.extend_from_slice(&piece);
                buffer.extend_from_slice(&piece);
                assert_eq!(buffer.as_slice(), expected);
                assert_eq!(buffer.len(), expected.len());
                let address = buffer.as_slice().as_ptr() as u64;
                assert_eq!(address % 4096, offset % 4096);
            }
        }
    }

    type Written = (Vec<(u64, usize)>, Vec<u8>);

    /// Ranges that were written through the cache, and the file afterwards.
    fn written(offset: u64, bytes: &AlignedBuffer) -> Option<Written> {
        // The directory for temporary files is in memory on many machines, which has no direct writes.
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.set_len(4 << 20).unwrap();
        let direct = DirectWrites::of(&file)?;
        let cached = Mutex::new(Vec::new());
        let target = gravure_io::FileAt::new(file).unwrap();
        let through = |at: u64, part: &[u8]| {
            cached.lock().unwrap().push((at, part.len()));
            target.file().write_all_at(part, at)
        };
        direct.write_all_at(offset, bytes.as_slice(), through).unwrap();
        Some((cached.into_inner().unwrap(), target.read_vec_at(0, 4 << 20).unwrap()))
    }

    #[test]
    fn whole_pages_go_directly_and_the_rest_through_the_cache() {
        let mut buffer = AlignedBuffer::default();
        let content: Vec<u8> = (0..600_000_u32).map(|at| (at % 251) as u8).collect();
        for (offset, len, expected) in [
            (8192, 262_144, vec![]),
            (8192 + 512, 300_000, vec![(8704, 3584), (307_200, 1504)]),
            // Too short.
            (8192, 65_536, vec![(8192, 65_536)]),
            (1, 100, vec![(1, 100)]),
        ] {
            buffer.restart(offset);
            buffer.extend_from_slice(&content[..len]);
            let Some((cached, file)) = written(offset, &buffer) else {
                println!("SKIPPED: no direct writes on this file system");
                return;
            };
            assert_eq!(cached, expected, "{len} bytes at {offset}");
            let at = usize::try_from(offset).unwrap();
            assert!(file[at..at + len] == content[..len]);
            assert!(file[..at].iter().chain(&file[at + len..]).all(|byte| *byte == 0));
        }
    }

    #[test]
    fn memory_that_stands_otherwise_goes_through_the_cache() {
        let mut buffer = AlignedBuffer::default();
        buffer.restart(1);
        buffer.extend_from_slice(&[7; 400_000]);
        let Some((cached, file)) = written(4096, &buffer) else {
            println!("SKIPPED: no direct writes on this file system");
            return;
        };
        assert_eq!(cached, [(4096, 400_000)]);
        assert!(file[4096..404_096].iter().all(|byte| *byte == 7));
    }
}
