//! A disk that fails, cuts writes short, loses power or lies at operation N.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gravure_io::{ReadAt, WriteAt};

/// What is counted, and so what operation N means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reads.
    Read,
    /// Writes, zeroed ranges, discards and syncs.
    Write,
}

/// What happens at operation N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing; later ones work again.
    Fail,
    /// The same with the error that the kernel gives for this number, such as [`Fault::EIO`] or [`Fault::ENOSPC`].
    Errno(i32),
    /// Only its first bytes reach the disk, then it fails; later ones work again.
    Short {
        /// Bytes that reach the disk.
        bytes: usize,
    },
    /// Power is cut: its first bytes reach the disk, it fails and so does everything later.
    PowerCut {
        /// Bytes that reach the disk.
        bytes: usize,
    },
    /// It reports success and does nothing: a lost write, or a read of old zeros.
    Lie,
    /// One bit is wrong: of what is written, or of what is read.
    Flip {
        /// Which bit of the transfer; taken modulo its length.
        bit: u64,
    },
}

impl Fault {
    /// A sector that cannot be read or written.
    pub const EIO: Self = Self::Errno(5);
    /// No room: what a sparse file or a thin disk says when its file system is full.
    pub const ENOSPC: Self = Self::Errno(28);

    /// The error that it is told by.
    fn error(self) -> io::Error {
        match self {
            Self::Errno(number) => io::Error::from_raw_os_error(number),
            _ => broken("injected fault"),
        }
    }
}

/// A disk with one fault. Counts operations either way, so that a run without reaching the fault tells how many
/// there are to try.
#[derive(Debug)]
pub struct FaultyDisk<D> {
    disk: D,
    operation: Operation,
    at: u64,
    fault: Fault,
    reads: AtomicU64,
    writes: AtomicU64,
    dead: AtomicBool,
}

impl<D> FaultyDisk<D> {
    /// Wraps `disk`: `fault` strikes at the `at`-th `operation`, counted from 0.
    pub fn new(disk: D, operation: Operation, at: u64, fault: Fault) -> Self {
        let (reads, writes, dead) = Default::default();
        Self { disk, operation, at, fault, reads, writes, dead }
    }

    /// Wraps `disk` with no fault, to count.
    pub fn counting(disk: D) -> Self {
        Self::new(disk, Operation::Write, u64::MAX, Fault::Fail)
    }

    /// How many operations of the kind there were so far.
    pub fn count(&self, operation: Operation) -> u64 {
        self.counter(operation).load(Ordering::SeqCst)
    }

    /// Whether the fault has struck.
    pub fn struck(&self) -> bool {
        self.count(self.operation) > self.at
    }

    /// The disk with what reached it.
    pub fn into_inner(self) -> D {
        self.disk
    }

    /// The disk with what reached it so far.
    pub fn inner(&self) -> &D {
        &self.disk
    }

    fn counter(&self, operation: Operation) -> &AtomicU64 {
        match operation {
            Operation::Read => &self.reads,
            Operation::Write => &self.writes,
        }
    }

    /// Counts an operation; the fault when it is the one, an error when power is gone.
    fn next(&self, operation: Operation) -> io::Result<Option<Fault>> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(broken("the disk has no power"));
        }
        let number = self.counter(operation).fetch_add(1, Ordering::SeqCst);
        let strikes = operation == self.operation && number == self.at;
        if strikes && matches!(self.fault, Fault::PowerCut { .. }) {
            self.dead.store(true, Ordering::SeqCst);
        }
        Ok(strikes.then_some(self.fault))
    }

    /// An operation without bytes of its own.
    fn plain(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.next(Operation::Write)? {
            None | Some(Fault::Flip { .. }) => work(),
            Some(Fault::Lie) => Ok(()),
            Some(fault @ (Fault::Fail | Fault::Errno(_) | Fault::Short { .. } | Fault::PowerCut { .. })) => {
                Err(fault.error())
            }
        }
    }
}

/// An error as the kernel reports a failing disk.
fn broken(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

fn flip(buf: &mut [u8], bit: u64) {
    let bits = u64::try_from(buf.len()).unwrap_or(u64::MAX).saturating_mul(8);
    let bit = bit.checked_rem(bits).unwrap_or(0);
    if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| buf.get_mut(at)) {
        *byte ^= 1 << (bit % 8);
    }
}

impl<D: ReadAt> ReadAt for FaultyDisk<D> {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match self.next(Operation::Read)? {
            None => self.disk.read_exact_at(offset, buf),
            Some(Fault::Flip { bit }) => {
                self.disk.read_exact_at(offset, buf)?;
                flip(buf, bit);
                Ok(())
            }
            Some(Fault::Lie) => {
                buf.fill(0);
                Ok(())
            }
            Some(fault @ (Fault::Fail | Fault::Errno(_) | Fault::Short { .. } | Fault::PowerCut { .. })) => {
                Err(fault.error())
            }
        }
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.disk.next_data(offset)
    }
}

impl<D: WriteAt> WriteAt for FaultyDisk<D> {
    fn block_size(&self) -> u32 {
        self.disk.block_size()
    }

    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        match self.next(Operation::Write)? {
            None => self.disk.write_all_at(offset, buf),
            Some(fault @ (Fault::Fail | Fault::Errno(_))) => Err(fault.error()),
            Some(Fault::Lie) => Ok(()),
            Some(Fault::Short { bytes } | Fault::PowerCut { bytes }) => {
                self.disk.write_all_at(offset, &buf[..bytes.min(buf.len())])?;
                Err(broken("injected fault"))
            }
            Some(Fault::Flip { bit }) => {
                let mut changed = buf.to_vec();
                flip(&mut changed, bit);
                self.disk.write_all_at(offset, &changed)
            }
        }
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.plain(|| self.disk.zero_range(range))
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.plain(|| self.disk.discard(range))
    }

    fn sync(&self) -> io::Result<()> {
        self.plain(|| self.disk.sync())
    }
}

#[cfg(test)]
mod tests {
    use gravure_io::MemoryDisk;

    use super::*;

    /// Writes four blocks `1 1 2 2 3 3 4 4` with a sync at the end; how many operations succeeded, and what is there.
    fn run(at: u64, fault: Fault) -> (usize, Vec<u8>) {
        let disk = FaultyDisk::new(MemoryDisk::new(8, 1), Operation::Write, at, fault);
        let writes = (0..4u8).map(|i| disk.write_all_at(u64::from(i) * 2, &[i + 1; 2]));
        let mut done = writes.filter(Result::is_ok).count();
        done += usize::from(disk.sync().is_ok());
        assert!(disk.struck() || at > 4);
        let mut content = vec![0; 8];
        disk.inner().read_exact_at(0, &mut content).unwrap();
        (done, content)
    }

    #[test]
    fn each_fault_leaves_what_its_name_says() {
        let cases = [
            (9, Fault::Fail, 5, [1, 1, 2, 2, 3, 3, 4, 4]),
            (1, Fault::Fail, 4, [1, 1, 0, 0, 3, 3, 4, 4]),
            (1, Fault::ENOSPC, 4, [1, 1, 0, 0, 3, 3, 4, 4]),
            (1, Fault::Short { bytes: 1 }, 4, [1, 1, 2, 0, 3, 3, 4, 4]),
            (1, Fault::PowerCut { bytes: 1 }, 1, [1, 1, 2, 0, 0, 0, 0, 0]),
            (2, Fault::PowerCut { bytes: 99 }, 2, [1, 1, 2, 2, 3, 3, 0, 0]),
            (3, Fault::Lie, 5, [1, 1, 2, 2, 3, 3, 0, 0]),
            (0, Fault::Flip { bit: 9 }, 5, [1, 3, 2, 2, 3, 3, 4, 4]),
            (4, Fault::Fail, 4, [1, 1, 2, 2, 3, 3, 4, 4]),
        ];
        for (at, fault, done, content) in cases {
            assert_eq!(run(at, fault), (done, content.to_vec()), "{fault:?} at {at}");
        }
    }

    #[test]
    fn reads_fail_flip_or_lie_and_are_counted_apart() {
        let read = |fault| {
            let disk = FaultyDisk::new(vec![7u8; 4], Operation::Read, 1, fault);
            let mut buf = [9; 4];
            disk.read_exact_at(0, &mut buf).unwrap();
            assert_eq!(buf, [7; 4]);
            let result = disk.read_exact_at(0, &mut buf).map_err(|e| e.to_string());
            assert_eq!((disk.count(Operation::Read), disk.count(Operation::Write)), (2, 0));
            (result, buf)
        };
        assert_eq!(read(Fault::Fail).0, Err("injected fault".to_owned()));
        assert_eq!(read(Fault::EIO).0, Err(io::Error::from_raw_os_error(5).to_string()));
        assert_eq!(read(Fault::Flip { bit: 32 }), (Ok(()), [6, 7, 7, 7]));
        assert_eq!(read(Fault::Lie), (Ok(()), [0; 4]));
    }
}
