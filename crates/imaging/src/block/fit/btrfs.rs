//! A Btrfs volume made smaller than the one that an image was made of, while it is restored: the source is never touched.
//!
//! What of it fits stands on the target already; the kernel sees that and the image's end as one file (`straddling.rs`), mounts it, and moves
//! chunks from behind the end to the front (`BTRFS_IOC_RESIZE`), with all subvolumes, snapshots, shared and compressed extents as they are. Super
//! blocks, the first one last, come when everything else is on the target, was read back, and our own reader found every chunk and extent on it.
//!
//! Whether there is room is judged before (`least_bytes`), with a reserve: the kernel itself only says so in the middle.

use std::io;
use std::path::Path;

use gravure_fsmap::{BtrfsContent, BtrfsLayout, State};
use gravure_io::ReadAt;
use gravure_linux::grow::shrink_btrfs;
use gravure_model::Ctl;

use super::anew::{Volume, failed};
use super::mounted::{mounted, needs_driver};
use super::shown::{Shown, with_file};
use super::straddling::{PAGE, Straddling};
use crate::volume::VolumeDevice;
use crate::{Error, ErrorKind};

const TYPE: &str = "btrfs";
/// All of the volume, no balance that somebody began going on, and nothing discarded: nobody can behind a file.
const MOUNT_DATA: &str = "subvolid=5,skip_balance,nodiscard";
const WHO: &str = "the driver of Btrfs";
/// Pages of the super block, at 64 KiB, and of its copies at 64 MiB and 256 GiB.
const HELD: &[u64] = &[(64 << 10) / PAGE, (64 << 20) / PAGE, (256 << 30) / PAGE];
/// No room for what is to be moved (`ENOSPC`).
const NO_ROOM: i32 = 28;
const MIB: u64 = 1 << 20;
/// What the kernel makes no volume smaller than.
const LEAST_BYTES: u64 = 256 * MIB;
/// Of the front nothing is ever given to a chunk.
const FRONT_BYTES: u64 = MIB;
/// New chunks take one part of so many of the volume at most, and so many bytes.
const CHUNK_PART: u64 = 10;
const DATA_CHUNK_BYTES: u64 = 1 << 30;
const SYSTEM_CHUNK_BYTES: u64 = 32 * MIB;
/// What the kernel keeps of the room for metadata to be able to remove files: about as much as there is, within these.
const KEPT_BYTES: std::ops::RangeInclusive<u64> = 16 * MIB..=512 * MIB;
/// Of what is free in chunks that stay, one part of so many is taken to be of use: it lies scattered, and extents are moved whole.
const SCATTERED_PART: u64 = 2;

/// A volume of an image that the kernel can make smaller.
#[derive(Debug)]
pub(super) struct BtrfsSource {
    volume: Volume,
    name: String,
    layout: BtrfsLayout,
}

impl BtrfsSource {
    /// Looks at all chunks and extents of `volume`, called `name` in messages.
    pub(super) fn open(volume: Volume, name: String, ctl: &Ctl) -> Result<Self, Error> {
        let probe = gravure_fsmap::probe(&volume).map_err(failed(&name, ctl))?;
        if let State::Unclean(reason) = probe.state {
            let source = reason.to_string().into();
            return Err(Error::Other { what: name, source, kind: ErrorKind::Refused });
        }
        let goes_on = || ctl.check().is_ok();
        let layout = BtrfsLayout::read(&volume, &goes_on).map_err(failed(&name, ctl))?;
        Ok(Self { volume, name, layout })
    }

    /// Fails where something is missing that making it smaller needs.
    pub(super) fn needs_means(&self) -> Result<(), Error> {
        for path in ["/dev/fuse", "/dev/loop-control"] {
            std::fs::metadata(path).map_err(Error::io("look at", path))?;
        }
        needs_driver(TYPE)
    }

    /// Bytes that a device for it has at least.
    pub(super) fn least_bytes(&self) -> u64 {
        least_bytes(&self.layout)
    }

    /// Makes the volume, of which as much as fits stands on `target`, as large as that is. Returns the bytes that were written for it.
    pub(super) fn shrink(
        &self,
        target: &dyn VolumeDevice,
        is_verified: bool,
        ctl: &Ctl,
    ) -> Result<u64, Error> {
        let straddling = Straddling::take(target, &self.volume, HELD, WHO, ctl)?;
        let BtrfsLayout { device_id, sector_bytes, .. } = self.layout;
        let unit = u64::from(sector_bytes).max(PAGE);
        let bytes = straddling.len() / unit * unit;
        with_file(&straddling, |file| {
            mounted(file, TYPE, MOUNT_DATA, |place| resize(place, device_id, bytes, &self.name))
        })?;
        target.drop_cache()?;
        self.check(&Front { straddling: &straddling, bytes }, target.name(), ctl)?;
        straddling.finish(target, is_verified)
    }

    /// Whether the volume takes itself to be as large as the target, and nothing of it lies elsewhere.
    fn check(&self, front: &Front<'_>, name: &str, ctl: &Ctl) -> Result<(), Error> {
        let goes_on = || ctl.check().is_ok();
        let made = BtrfsLayout::read(front, &goes_on).map_err(failed(name, ctl))?;
        let probe = gravure_fsmap::probe(front).map_err(failed(name, ctl))?;
        let differs = |what, expected: String, found: String| {
            let path = name.to_owned();
            Err(Error::Differs { path, what, expected, found, more: 0 })
        };
        if made.device_bytes != front.bytes {
            return differs("size of Btrfs", front.bytes.to_string(), made.device_bytes.to_string());
        }
        if probe.state != State::Clean {
            return differs("state of Btrfs", "clean".to_owned(), format!("{:?}", probe.state));
        }
        Ok(())
    }
}

fn bytes_of(layout: &BtrfsLayout, content: BtrfsContent) -> u64 {
    let of_them = layout.chunks.iter().filter(|chunk| chunk.content == content);
    of_them.map(|chunk| chunk.used).sum()
}

/// Makes device `device_id` of the volume mounted at `place` take `bytes`.
fn resize(place: &Path, device_id: u64, bytes: u64, name: &str) -> Result<(), Error> {
    shrink_btrfs(place, device_id, bytes).map_err(|error| {
        if error.errno() != Some(NO_ROOM) {
            return Error::linux(name)(error);
        }
        let why = "the kernel found no room for all that lies behind that (ENOSPC): what is free lies scattered in chunks that stay. \
                   The target holds no file system now; take a larger one, or balance the source \
                   (btrfs balance start -dusage=75 -musage=75) and capture it again";
        let what = format!("{name}: making Btrfs smaller, to {bytes} bytes");
        Error::Other { what, source: why.into(), kind: ErrorKind::Failed }
    })
}

/// The part of the volume that the target has.
struct Front<'a> {
    straddling: &'a Straddling<'a>,
    bytes: u64,
}

impl ReadAt for Front<'_> {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.straddling.read(offset, buf).map_err(io::Error::other)
    }
}

/// The least size, in MiB, for which there is room by [`has_room`]; more than it has now where it cannot become smaller.
fn least_bytes(layout: &BtrfsLayout) -> u64 {
    let (mut low, mut high) = (LEAST_BYTES / MIB - 1, (layout.device_bytes / MIB + 1).max(LEAST_BYTES / MIB));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match has_room(layout, middle * MIB) {
            true => high = middle,
            false => low = middle,
        }
    }
    high * MIB
}

/// Whether the kernel is sure to find room in `size` bytes for what lies behind them. It puts that into chunks that stay and hold the same,
/// and into new ones where the device is free; what stays is not moved.
fn has_room(layout: &BtrfsLayout, size: u64) -> bool {
    let mut free = size.saturating_sub(FRONT_BYTES);
    let metadata = bytes_of(layout, BtrfsContent::Metadata) + bytes_of(layout, BtrfsContent::Mixed);
    let kept = metadata.clamp(*KEPT_BYTES.start(), *KEPT_BYTES.end());
    for content in [BtrfsContent::Data, BtrfsContent::Metadata, BtrfsContent::Mixed, BtrfsContent::System] {
        let of_them = || layout.chunks.iter().filter(|chunk| chunk.content == content);
        let Some(copies) = of_them().map(|chunk| chunk.places.len()).max() else { continue };
        let is_tree = matches!(content, BtrfsContent::Metadata | BtrfsContent::Mixed);
        // Trees are written anew all the time, whether something of theirs is moved or not.
        let mut needed = if is_tree { kept } else { 0 };
        let mut is_moved = is_tree;
        let mut room = 0u64;
        for chunk in of_them() {
            if chunk.end() <= size {
                free = match free.checked_sub(chunk.device_bytes()) {
                    Some(free) => free,
                    None => return false,
                };
                room = room.saturating_add(chunk.len.saturating_sub(chunk.used) / SCATTERED_PART);
            } else {
                needed = needed.saturating_add(chunk.used);
                is_moved = true;
            }
        }
        if !is_moved || needed <= room {
            continue;
        }
        // The last chunk is not full.
        let most = if content == BtrfsContent::System { SYSTEM_CHUNK_BYTES } else { DATA_CHUNK_BYTES };
        let chunk = (size / CHUNK_PART).min(most);
        let needed = needed.saturating_sub(room).saturating_add(chunk);
        let on_device = needed.saturating_mul(copies as u64);
        free = match free.checked_sub(on_device) {
            Some(free) => free,
            None => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests;
