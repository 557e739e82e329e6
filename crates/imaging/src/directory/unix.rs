//! What a Unix file is in a tree, and back: owner and mode, times, links, devices (wim-container 6.7, 6.9).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use gravure_linux::{DeviceNumber, NodeKind, NodeStat, SpecialNode, Timestamp};
use gravure_nttypes::{FileAttributes, FileTime, LinkTarget, NtName, ReparseTag};
use gravure_tree::{ContentRef, Node, Reparse, Times, UnixData, UnixType};

/// Link flag: the target was not changed when captured.
const TARGET_UNCHANGED: u16 = 1;

/// Type bits of `st_mode`.
fn type_bits(kind: NodeKind) -> u32 {
    match kind {
        NodeKind::File => 0o100_000,
        NodeKind::Directory => 0o040_000,
        NodeKind::Symlink => 0o120_000,
        NodeKind::CharDevice => 0o020_000,
        NodeKind::BlockDevice => 0o060_000,
        NodeKind::Fifo => 0o010_000,
        NodeKind::Socket => 0o140_000,
    }
}

/// Owner, mode and device of `stat`; `None` when a device number does not fit into the 32 bits of the format.
pub(crate) fn unix_data(stat: &NodeStat) -> Option<UnixData> {
    let rdev = match stat.kind {
        NodeKind::CharDevice | NodeKind::BlockDevice => {
            UnixData::encode_device(stat.special.major, stat.special.minor)?
        }
        _ => 0,
    };
    Some(UnixData { uid: stat.uid, gid: stat.gid, mode: type_bits(stat.kind) | stat.mode, rdev })
}

/// Attributes in use for Unix files: directory, reparse point, normal for regular files, none for the rest.
pub(crate) fn attributes(kind: NodeKind) -> FileAttributes {
    match kind {
        NodeKind::File => FileAttributes::NORMAL,
        NodeKind::Directory => FileAttributes::DIRECTORY,
        NodeKind::Symlink => FileAttributes::REPARSE_POINT,
        _ => FileAttributes::default(),
    }
}

/// Times of `stat`, none later than `clamp` (Unix seconds). Creation is the last write: the time at which some
/// copy of the file was made says nothing, and differs between equal trees. With a clamp access times are left
/// out for the same reason.
pub(crate) fn times(stat: &NodeStat, clamp: Option<i64>) -> Times {
    let time = |t: Timestamp| match clamp {
        Some(latest) if (t.seconds, t.nanos) > (latest, 0) => FileTime::from_unix(latest, 0),
        _ => FileTime::from_unix(t.seconds, t.nanos),
    };
    let written = time(stat.modified);
    let accessed = if clamp.is_some() { written } else { time(stat.accessed) };
    Times { created: written, accessed, written }
}

/// A time of a tree as the kernel takes it.
pub(crate) fn timestamp(time: FileTime) -> Timestamp {
    let (seconds, nanos) = time.to_unix();
    Timestamp { seconds, nanos }
}

/// A symbolic link as reparse data, or why it cannot be. `is_rebased` says that the target was made to start at the root
/// of the image.
pub(crate) fn link_reparse(target: &OsStr, is_rebased: bool) -> Result<Reparse, String> {
    let text = NtName::from_unix(target.as_bytes()).map_err(|error| error.to_string())?;
    let data =
        LinkTarget::from_unix(&text).to_bytes(ReparseTag::SYMLINK).map_err(|error| error.to_string())?;
    Ok(Reparse {
        tag: ReparseTag::SYMLINK,
        reserved: 0,
        link_flags: if is_rebased { 0 } else { TARGET_UNCHANGED },
        content: ContentRef::inline(data),
    })
}

/// The Unix target in reparse data, or why there is none.
pub(crate) fn link_target(tag: ReparseTag, data: &[u8]) -> Result<OsString, String> {
    let target = LinkTarget::parse(tag, data).map_err(|error| error.to_string())?;
    Ok(os_name(&target.to_unix()))
}

/// Whether the target was made to start at the root of the image when it was captured.
pub(crate) fn is_rebased(reparse: &Reparse, target: &OsStr) -> bool {
    reparse.link_flags & TARGET_UNCHANGED == 0 && target.as_bytes().first() == Some(&b'/')
}

/// A name as the kernel takes it.
pub(crate) fn os_name(name: &NtName) -> OsString {
    OsString::from_vec(name.to_unix())
}

/// What a node becomes in a Unix directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnixKind {
    Directory,
    File,
    /// Symbolic link or junction.
    Link,
    Special(SpecialNode),
    /// A reparse point that is no link, without content of its own that could be used.
    Opaque,
}

/// Decides what `node` becomes. Unix data overrides what the attributes say, for nodes without content.
pub(crate) fn kind_of(node: &Node) -> UnixKind {
    if let Some(reparse) = &node.reparse {
        let is_link = matches!(reparse.tag, ReparseTag::SYMLINK | ReparseTag::MOUNT_POINT);
        let has_children = node.children.as_ref().is_some_and(|children| !children.is_empty());
        return match (is_link, node.is_directory()) {
            (_, true) if has_children => UnixKind::Directory,
            (true, _) => UnixKind::Link,
            (false, true) => UnixKind::Directory,
            (false, false) if node.data.as_ref().is_some_and(|data| !data.is_empty()) => UnixKind::File,
            (false, false) => UnixKind::Opaque,
        };
    }
    if node.is_directory() {
        return UnixKind::Directory;
    }
    let Some(unix) = node.unix else { return UnixKind::File };
    let number = || {
        let (major, minor) = unix.device_numbers();
        DeviceNumber { major, minor }
    };
    match unix.file_type() {
        UnixType::CharDevice => UnixKind::Special(SpecialNode::CharDevice(number())),
        UnixType::BlockDevice => UnixKind::Special(SpecialNode::BlockDevice(number())),
        UnixType::Fifo => UnixKind::Special(SpecialNode::Fifo),
        UnixType::Socket => UnixKind::Special(SpecialNode::Socket),
        _ => UnixKind::File,
    }
}

/// Permission bits of a node: those it brings, or what suits its kind.
pub(crate) fn mode_of(node: &Node) -> u32 {
    node.unix.map_or_else(|| plain_mode_of(node), |unix| unix.mode & 0o7777)
}

/// Permission bits that suit the kind of a node that brings none.
pub(crate) fn plain_mode_of(node: &Node) -> u32 {
    match node.attributes.contains(FileAttributes::READ_ONLY) {
        _ if node.is_directory() => 0o755,
        true => 0o444,
        false => 0o644,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(kind: NodeKind) -> NodeStat {
        NodeStat {
            kind,
            mode: 0o4751,
            uid: 1,
            gid: 2,
            size: 3,
            allocated_bytes: 0,
            inode: 4,
            device: DeviceNumber::default(),
            special: DeviceNumber { major: 259, minor: 300 },
            links: 1,
            accessed: Timestamp { seconds: 900, nanos: 5 },
            modified: Timestamp { seconds: 1000, nanos: 1_000 },
            changed: Timestamp::default(),
            born: None,
        }
    }

    #[test]
    fn every_kind_comes_back() {
        use SpecialNode::{BlockDevice, CharDevice, Fifo, Socket};
        let number = DeviceNumber { major: 259, minor: 300 };
        for (kind, expected) in [
            (NodeKind::File, UnixKind::File),
            (NodeKind::Fifo, UnixKind::Special(Fifo)),
            (NodeKind::Socket, UnixKind::Special(Socket)),
            (NodeKind::CharDevice, UnixKind::Special(CharDevice(number))),
            (NodeKind::BlockDevice, UnixKind::Special(BlockDevice(number))),
        ] {
            let node = Node {
                unix: unix_data(&stat(kind)),
                attributes: attributes(kind),
                data: Some(ContentRef::empty()),
                ..Node::default()
            };
            assert_eq!(kind_of(&node), expected);
            assert_eq!(mode_of(&node), 0o4751);
        }
        let link =
            Node { reparse: Some(link_reparse(OsStr::new("/a/b"), false).unwrap()), ..Node::default() };
        assert_eq!(kind_of(&link), UnixKind::Link);
        let directory_link = Node { children: Some(Vec::new()), ..link };
        assert_eq!(kind_of(&directory_link), UnixKind::Link);
    }

    #[test]
    fn a_clamp_hides_what_differs_between_builds() {
        let free = times(&stat(NodeKind::File), None);
        assert_eq!(free.written, FileTime::from_unix(1000, 1_000));
        assert_eq!(free.accessed, FileTime::from_unix(900, 0));
        for (clamp, expected) in [(1000, 1000), (500, 500)] {
            let clamped = times(&stat(NodeKind::File), Some(clamp));
            assert_eq!(clamped.written, FileTime::from_unix(expected, 0));
            assert_eq!(clamped.accessed, clamped.written);
            assert_eq!(clamped.created, clamped.written);
        }
    }

    #[test]
    fn a_target_that_is_no_text_is_refused() {
        assert!(link_reparse(OsStr::from_bytes(b"a\xff"), false).unwrap_err().contains("not UTF-8"));
    }
}
