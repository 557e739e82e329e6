//! What is in a directory: names, kinds and sizes, for whoever looks into an image without restoring it.

use gravure_io::ReadAt;

use crate::{Error, Kind, State, btrfs, exfat, ext, probe, xfs};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ListKind,
    /// Bytes of a file; 0 for all else.
    pub size: u64,
}

/// The entries of the directory at `path` (`/` between the parts) of the ext2/3/4, exFAT, XFS or Btrfs file system in `dev`, ascending by name, or the
/// file itself; `None` when there is none. An unreplayed journal of ext is replayed into memory; other logs refuse the volume.
///
/// Of Btrfs the path begins in the subvolume that is mounted by default. Others are directories where they hang in that one; one that hangs elsewhere is
/// reached by a path that begins with `subvolid=` and its number, as for mount(8); 5 is the one above all others.
pub fn list(dev: &dyn ReadAt, path: &str, goes_on: &dyn Fn() -> bool) -> Result<Option<Vec<Listed>>, Error> {
    let probe = probe(dev)?;
    match (probe.kind, probe.state) {
        (Kind::Ext2 | Kind::Ext3 | Kind::Ext4, State::Clean | State::NeedsReplay) => {
            ext::list(dev, &probe, path, goes_on)
        }
        (Kind::ExFat, _) => exfat::list(dev, path, goes_on),
        (Kind::Xfs, State::Clean) => xfs::list(dev, path, goes_on),
        (Kind::Btrfs, State::Clean) => btrfs::list(dev, path, goes_on),
        (kind @ (Kind::Xfs | Kind::Btrfs), State::Unclean(reason)) => Err(Error::Refused { kind, reason }),
        (kind, _) => Err(Error::Unsupported { what: "listing of", value: kind.name().to_owned() }),
    }
}
