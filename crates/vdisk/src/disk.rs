//! A virtual disk file as the disk it holds.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use gravure_io::ReadAt;

use crate::field::{narrow, wide};
use crate::map::{Mapped, Place, next_data};
use crate::qcow2::Qcow2;
use crate::vhd::Vhd;
use crate::vhdx::Vhdx;
use crate::{Error, qcow2, vhd, vhdx};

/// A form of virtual disk files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// QEMU's.
    Qcow2,
    /// That of Virtual PC, VirtualBox and old Hyper-V.
    Vhd,
    /// Hyper-V's.
    Vhdx,
}

impl Kind {
    /// What the file is; `None` for any other.
    pub fn of(source: &dyn ReadAt) -> io::Result<Option<Self>> {
        let mut head = [0; 8];
        if source.size() < wide(head.len()) {
            return Ok(None);
        }
        source.read_exact_at(0, &mut head)?;
        if head.starts_with(&qcow2::MAGIC) {
            return Ok(Some(Self::Qcow2));
        }
        if head == vhdx::MAGIC {
            return Ok(Some(Self::Vhdx));
        }
        if head == vhd::MAGIC {
            return Ok(Some(Self::Vhd));
        }
        // A fixed VHD is the disk with a footer behind it.
        let footer = source.size().saturating_sub(vhd::FOOTER_BYTES);
        source.read_exact_at(footer, &mut head).or_else(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(()),
            _ => Err(error),
        })?;
        Ok((head == vhd::MAGIC && source.size() > vhd::FOOTER_BYTES).then_some(Self::Vhd))
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Vhd => "VHD",
            Self::Vhdx => "VHDX",
        }
    }
}

/// The disk in a file.
pub struct VirtualDisk {
    kind: Kind,
    size: u64,
    sector_bytes: u32,
    source: Arc<dyn ReadAt>,
    map: Box<dyn Inner>,
}

/// What the formats have in common.
pub(crate) trait Inner: Mapped + Send + Sync {
    /// The whole cluster at `place` decoded, and the disk's byte it begins at.
    fn decompressed(&self, _at: u64, _place: Place) -> io::Result<(u64, Arc<Vec<u8>>)> {
        Err(io::Error::other("no compressed cluster in this format"))
    }
}

impl Inner for Vhd {}
impl Inner for Vhdx {}

impl std::fmt::Debug for VirtualDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VirtualDisk")
            .field("kind", &self.kind)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl VirtualDisk {
    /// Opens a file of this kind.
    pub fn open(source: Arc<dyn ReadAt>, kind: Kind) -> Result<Self, Error> {
        let (map, size, sector_bytes): (Box<dyn Inner>, u64, u32) = match kind {
            Kind::Qcow2 => {
                let disk = Qcow2::open(Arc::clone(&source))?;
                let size = disk.size();
                (Box::new(disk), size, 512)
            }
            Kind::Vhd => {
                let disk = Vhd::open(&source)?;
                let size = disk.size();
                (Box::new(disk), size, 512)
            }
            Kind::Vhdx => {
                let disk = Vhdx::open(&source)?;
                let (size, sector) = (disk.size(), disk.sector_bytes());
                (Box::new(disk), size, sector)
            }
        };
        Ok(Self { kind, size, sector_bytes, source, map })
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Unit in which the disk is addressed.
    pub fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }
}

impl ReadAt for VirtualDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(wide(buf.len())).filter(|end| *end <= self.size);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let (place, len) = self.map.place(at)?;
            let len = narrow(len).clamp(1, rest.len());
            let (to, after) = rest.split_at_mut(len);
            match place {
                Place::Zero => to.fill(0),
                Place::File(from) => self.source.read_exact_at(from, to)?,
                Place::Compressed { .. } => {
                    let (start, plain) = self.map.decompressed(at, place)?;
                    let from = narrow(at.saturating_sub(start));
                    let part = plain.get(from..from.saturating_add(len));
                    to.copy_from_slice(part.ok_or_else(|| io::Error::other("short compressed cluster"))?);
                }
            }
            at = at.saturating_add(wide(len));
            rest = after;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        next_data(&*self.map, offset, self.size)
    }
}
