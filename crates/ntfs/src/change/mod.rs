//! Changes of volumes that exist: label, serial number, size.
//!
//! Whatever write is the last that reaches the disk, the volume is one that drivers mount and whose files are all there: every change
//! that matters is one sector, written after everything it relies on is on stable storage. Volumes that have to be repaired first, whose
//! log is not closed or on which a system sleeps are refused: Windows would undo the change, or mix it with its own.

mod grow;
mod identity;
mod record;

use gravure_io::{ReadAt, WriteAt};

pub use grow::{Grown, grow};
pub use identity::{set_label, set_serial};

use crate::Error;
use crate::read::Volume;

/// A disk with a volume that is changed.
#[derive(Clone, Copy)]
struct Disk<'a> {
    source: &'a dyn ReadAt,
    target: &'a dyn WriteAt,
}

impl Disk<'_> {
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.target.write_all_at(offset, bytes).map_err(|source| Error::Write { offset, source })
    }

    fn sync(&self) -> Result<(), Error> {
        self.target.sync().map_err(|source| Error::Write { offset: 0, source })
    }

    /// Opens the volume, which must be in a state in which it may be changed.
    fn open(&self) -> Result<Volume, Error> {
        let volume = Volume::open(self.source)?;
        match volume.state().unclean() {
            Some(unclean) => Err(Error::Unclean(unclean)),
            None => Ok(volume),
        }
    }

    /// The boot sector, as many bytes as a sector has.
    fn boot_sector(&self, volume: &Volume) -> Result<Vec<u8>, Error> {
        let len = crate::read::bytes::at(volume.boot().sector_bytes);
        self.source.read_vec_at(0, len).map_err(Error::read(0))
    }
}

/// Puts `new` into `bytes` at `pos`, as far as both reach.
fn put(bytes: &mut [u8], pos: usize, new: &[u8]) {
    bytes.iter_mut().skip(pos).zip(new).for_each(|(to, from)| *to = *from);
}
