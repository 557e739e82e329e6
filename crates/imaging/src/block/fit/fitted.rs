//! Partitions at their new places, and whether their file systems are to become larger there.

use std::ops::Range;

use gravure_disk::transfer::Growth;
use gravure_fsmap::{Kind, Probe};
use gravure_io::Window;

use super::peek::Peek;
use crate::block::image::BlockImage;
use crate::volume::VolumeDevice;
use crate::{Error, ErrorKind};

/// Behind a file system from which on it counts as smaller than its partition. Formatters leave a last group without room for its tables.
const UNUSED_BYTES: u64 = 8 << 20;

/// A partition at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedPartition {
    /// Number in the table; 0 for a device without one.
    pub number: u32,
    /// What is on it.
    pub content: Kind,
    /// Where it was, bytes.
    pub from: Range<u64>,
    /// Where it is, bytes.
    pub to: Range<u64>,
    /// Its file system is to fill it, and does not yet.
    pub grows: bool,
}

impl FittedPartition {
    /// The volume of an image without a table, as all of `device`.
    pub fn of_volume(image: &BlockImage, device: &dyn VolumeDevice, growth: Growth) -> Result<Self, Error> {
        let (from, to) = (0..image.root().size, 0..device.size());
        // What nobody can read cannot grow either.
        let probe = probe(&Peek::new(image)?, &from).ok();
        let content = probe.as_ref().map_or(Kind::Unknown, |probe| probe.kind);
        let grows = is_larger(&from, &to) || (growth == Growth::Largest && has_room(probe.as_ref(), &to));
        Ok(Self { number: 0, content, from, to, grows })
    }
}

pub(super) fn is_larger(from: &Range<u64>, to: &Range<u64>) -> bool {
    to.end - to.start > from.end - from.start
}

/// Whether a file system that can grow leaves much of its place unused: of a disk it was made smaller for (folders of FOG), for instance.
pub(super) fn has_room(probe: Option<&Probe>, to: &Range<u64>) -> bool {
    probe.is_some_and(|probe| {
        is_sized(probe.kind) && (to.end - to.start).saturating_sub(probe.size) >= UNUSED_BYTES
    })
}

pub(super) fn probe(peek: &Peek<'_>, range: &Range<u64>) -> Result<Probe, Error> {
    let window = Window::new(peek, range.start, range.end - range.start);
    gravure_fsmap::probe(&window).map_err(|error| Error::Other {
        what: format!("look at the partition at {:#x}", range.start),
        source: error.into(),
        kind: ErrorKind::Integrity,
    })
}

/// File systems that say how large they are, and can become larger.
pub(super) fn is_sized(kind: Kind) -> bool {
    matches!(kind, Kind::Ext2 | Kind::Ext3 | Kind::Ext4 | Kind::Xfs | Kind::Btrfs | Kind::Ntfs)
}

/// A partition to repair the system with: nobody wants it larger.
pub(super) fn is_recovery(image: &BlockImage, range: &Range<u64>) -> bool {
    let recovery = gravure_disk::guid::WINDOWS_RECOVERY.to_string();
    image.facts().volumes.iter().any(|volume| {
        volume.offset_bytes == range.start
            && volume
                .partition_type
                .as_ref()
                .is_some_and(|kind| kind.eq_ignore_ascii_case(&recovery) || kind == "27")
    })
}
