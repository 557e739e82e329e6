//! File systems on a partition that the kernel can mount: the partition itself, or volumes of LVM on it. No device-mapper is needed for
//! those that lie in one piece, which installers make: a loop device is the piece.

use std::path::{Path, PathBuf};

use gravure_fsmap::{Fallback, Kind, Options, Segment};
use gravure_io::ReadAt as _;
use gravure_linux::BlockDevice;
use gravure_linux::loopdev::{LoopDevice, LoopOptions};

use crate::{Error, ErrorKind};

/// A file system with a device of its own, as long as this is.
#[derive(Debug)]
pub struct Mountable {
    /// For messages: `ext4 on partition 2`, `XFS on fedora/root on partition 3`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its device.
    pub device: PathBuf,
    piece: Option<LoopDevice>,
}

impl Mountable {
    /// Gives a device that was made for it back.
    pub fn close(self) -> Result<(), Error> {
        let Some(piece) = self.piece else { return Ok(()) };
        let name = piece.path().display().to_string();
        piece.detach().map_err(Error::linux(&name))
    }
}

/// What was found on a partition.
#[derive(Debug, Default)]
pub struct Mountables {
    /// What can be mounted.
    pub volumes: Vec<Mountable>,
    /// What cannot be reached and why, one sentence each.
    pub unreached: Vec<String>,
}

/// What of `kind` on the partition `device`, called `name` in messages, can be mounted.
pub fn mountables(device: &Path, kind: Kind, name: &str) -> Result<Mountables, Error> {
    let mut out = Mountables::default();
    let shown = format!("{} on {name}", kind.name());
    match kind {
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 | Kind::Xfs | Kind::Btrfs | Kind::Ntfs => {
            out.volumes.push(Mountable { name: shown, kind, device: device.to_owned(), piece: None });
        }
        Kind::Lvm => in_lvm(device, name, &mut out)?,
        Kind::Luks1 | Kind::Luks2 | Kind::BitLocker => out.unreached.push(format!("{shown} is encrypted")),
        Kind::Fat12 | Kind::Fat16 | Kind::Fat32 | Kind::ExFat | Kind::Swap | Kind::Unknown => {}
        _ => out.unreached.push(format!("{shown} cannot be looked into")),
    }
    Ok(out)
}

fn in_lvm(device: &Path, name: &str, out: &mut Mountables) -> Result<(), Error> {
    let node = device.display().to_string();
    let disk = BlockDevice::open_read(device).map_err(Error::linux(&node))?;
    // Files do not matter here, and an unclean volume is one, too.
    let options = Options { fallback: Fallback::Everything, max_extents: 0, ..Options::default() };
    let map = gravure_fsmap::map(&disk, &options).map_err(|error| Error::Other {
        what: format!("look for volumes of LVM on {name}"),
        source: error.into(),
        kind: ErrorKind::Integrity,
    })?;
    let sector_bytes = disk.facts().logical_sector_bytes;
    if map.volumes.is_empty() {
        out.unreached.push(format!("LVM on {name}: no volume can be read from it alone"));
    }
    for volume in map.volumes {
        let shown = |kind: Kind| format!("{} on {} on {name}", kind.name(), volume.name);
        let Some(probe) = &volume.probe else {
            out.unreached.push(format!("{} on {name} cannot be read from it alone", volume.name));
            continue;
        };
        match probe.kind {
            Kind::Ext2 | Kind::Ext3 | Kind::Ext4 | Kind::Xfs | Kind::Btrfs | Kind::Ntfs => {}
            Kind::Swap | Kind::Unknown => continue,
            kind => {
                out.unreached.push(format!("{} cannot be looked into", shown(kind)));
                continue;
            }
        }
        let [Segment { logical: 0, physical, len }] = *joined(&volume.segments) else {
            out.unreached.push(format!("{} does not lie in one piece", shown(probe.kind)));
            continue;
        };
        if physical.checked_add(len).is_none_or(|end| end > disk.size()) {
            out.unreached.push(format!("{} reaches over the end of it", shown(probe.kind)));
            continue;
        }
        let piece = LoopOptions {
            sector_bytes,
            partitions: false,
            offset: physical,
            size_bytes: len,
            ..LoopOptions::default()
        };
        let piece = LoopDevice::attach(device, piece).map_err(Error::linux(&node))?;
        out.volumes.push(Mountable {
            name: shown(probe.kind),
            kind: probe.kind,
            device: piece.path().to_owned(),
            piece: Some(piece),
        });
    }
    Ok(())
}

/// Segments that follow each other on the device, too, as one.
fn joined(segments: &[Segment]) -> Vec<Segment> {
    let mut out: Vec<Segment> = Vec::new();
    for segment in segments {
        match out.last_mut() {
            Some(last)
                if last.logical + last.len == segment.logical
                    && last.physical + last.len == segment.physical =>
            {
                last.len += segment.len;
            }
            _ => out.push(*segment),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_side_by_side_are_one() {
        let segment = |logical, physical, len| Segment { logical, physical, len };
        let of = |segments: &[Segment]| joined(segments);
        assert_eq!(of(&[segment(0, 100, 8), segment(8, 108, 4)]), [segment(0, 100, 12)]);
        let apart = [segment(0, 100, 8), segment(8, 200, 4)];
        assert_eq!(of(&apart), apart);
        assert_eq!(of(&[]), []);
    }

    #[test]
    fn what_holds_no_files_of_a_system_is_nothing_and_what_cannot_be_read_is_told() {
        for (kind, volumes, unreached) in [
            (Kind::Ext4, 1, None),
            (Kind::Ntfs, 1, None),
            (Kind::Fat32, 0, None),
            (Kind::Swap, 0, None),
            (Kind::Luks2, 0, Some("LUKS2 on partition 3 is encrypted")),
            (Kind::BitLocker, 0, Some("BitLocker on partition 3 is encrypted")),
        ] {
            let found = mountables(Path::new("/dev/x"), kind, "partition 3").unwrap();
            assert_eq!(found.volumes.len(), volumes, "{kind:?}");
            assert_eq!(found.unreached.first().map(String::as_str), unreached, "{kind:?}");
        }
    }
}
