//! One file, directory or special file with everything that is known of it but its names.

use gravure_nttypes::{FileAttributes, FileTime, NtName, ReparseTag};

use crate::ContentRef;
use crate::tree::{Entry, SecurityId};

/// The three times that WIM and NTFS directories store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Creation.
    pub created: FileTime,
    /// Last access.
    pub accessed: FileTime,
    /// Last write of content.
    pub written: FileTime,
}

/// Owner, mode and device number of a Unix file (wim-container 6.7, tag 0x337DD873).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnixData {
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Mode with type bits, as `st_mode`.
    pub mode: u32,
    /// Device number of device nodes in the encoding of the Linux system call interface, else 0.
    pub rdev: u32,
}

/// File type as the type bits of [`UnixData::mode`] tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnixType {
    /// S_IFREG
    Regular,
    /// S_IFDIR
    Directory,
    /// S_IFLNK
    Symlink,
    /// S_IFCHR
    CharDevice,
    /// S_IFBLK
    BlockDevice,
    /// S_IFIFO
    Fifo,
    /// S_IFSOCK
    Socket,
    /// Type bits that mean nothing.
    Unknown,
}

impl UnixData {
    /// The file type in `mode`.
    pub fn file_type(&self) -> UnixType {
        match self.mode & 0o170_000 {
            0o100_000 => UnixType::Regular,
            0o040_000 => UnixType::Directory,
            0o120_000 => UnixType::Symlink,
            0o020_000 => UnixType::CharDevice,
            0o060_000 => UnixType::BlockDevice,
            0o010_000 => UnixType::Fifo,
            0o140_000 => UnixType::Socket,
            _ => UnixType::Unknown,
        }
    }

    /// Major and minor number in [`UnixData::rdev`].
    pub fn device_numbers(&self) -> (u32, u32) {
        let major = (self.rdev >> 8) & 0xfff;
        let minor = (self.rdev & 0xff) | ((self.rdev >> 12) & 0xf_ff00);
        (major, minor)
    }

    /// The `rdev` of a device node; `None` when a number is out of range (major 12 bits, minor 20 bits).
    pub fn encode_device(major: u32, minor: u32) -> Option<u32> {
        (major <= 0xfff && minor <= 0xf_ffff)
            .then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
    }
}

/// A named data stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedStream {
    /// Bare name: no leading colon, no `:$DATA`.
    pub name: NtName,
    /// Its bytes.
    pub content: ContentRef,
}

/// Reparse point data (wim-container 6.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reparse {
    /// What kind of reparse point.
    pub tag: ReparseTag,
    /// The reserved field of the reparse header, kept.
    pub reserved: u16,
    /// WIM link flags; bit 0: the target was not changed when captured. Other bits are kept.
    pub link_flags: u16,
    /// What follows the 8-byte reparse header.
    pub content: ContentRef,
}

/// An extended attribute; on Linux the name is the full `user.x` name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtendedAttribute {
    /// 1 to 255 bytes without zero.
    pub name: Vec<u8>,
    /// 0, or 0x80 for "need EA".
    pub flags: u8,
    /// At most 65535 bytes.
    pub value: Vec<u8>,
}

/// A tagged item this version does not know; kept and rewritten verbatim (wim-container 6.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedItem {
    /// The tag.
    pub tag: u32,
    /// Its data.
    pub data: Vec<u8>,
}

/// A file, directory, link or device. Names are in the parent's [`Entry`]; a node with several entries is a file
/// with hard links.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Windows attributes. `DIRECTORY` is set exactly when `children` is `Some`, which [`crate::Tree`] upholds.
    pub attributes: FileAttributes,
    /// Times.
    pub times: Times,
    /// Security descriptor, an index into the tree's table.
    pub security: Option<SecurityId>,
    /// Unix owner, mode, device.
    pub unix: Option<UnixData>,
    /// Extended attributes, in stored order.
    pub extended_attributes: Vec<ExtendedAttribute>,
    /// NTFS object id: 16 to 64 bytes.
    pub object_id: Option<Vec<u8>>,
    /// Items kept verbatim.
    pub unknown_items: Vec<TaggedItem>,
    /// The unknown field at 0x54 of a WIM dentry, kept verbatim (wim-container 6.2).
    pub unknown_0x54: u32,
    /// Reparse data when `REPARSE_POINT` is set.
    pub reparse: Option<Reparse>,
    /// Unnamed data; `None` for directories and encrypted files.
    pub data: Option<ContentRef>,
    /// EFS raw data of an encrypted file, in place of all streams.
    pub efs: Option<ContentRef>,
    /// Named data streams, in stored order.
    pub named_streams: Vec<NamedStream>,
    /// Entries of a directory; `None` for everything else.
    pub children: Option<Vec<Entry>>,
}

impl Node {
    /// True for directories, junctions included.
    pub fn is_directory(&self) -> bool {
        self.children.is_some()
    }

    /// Every content this node refers to: reparse data, unnamed data, EFS data, named streams.
    pub fn contents(&self) -> impl Iterator<Item = &ContentRef> {
        let reparse = self.reparse.iter().map(|reparse| &reparse.content);
        let named = self.named_streams.iter().map(|stream| &stream.content);
        reparse.chain(&self.data).chain(&self.efs).chain(named)
    }

    /// The same, changeable: how an engine fills in hashes and origins.
    pub fn contents_mut(&mut self) -> impl Iterator<Item = &mut ContentRef> {
        let reparse = self.reparse.iter_mut().map(|reparse| &mut reparse.content);
        let named = self.named_streams.iter_mut().map(|stream| &mut stream.content);
        reparse.chain(&mut self.data).chain(&mut self.efs).chain(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(1, 3), (8, 0), (4095, 1_048_575), (259, 65_537)] {
            let rdev = UnixData::encode_device(major, minor).unwrap();
            assert_eq!(UnixData { rdev, ..UnixData::default() }.device_numbers(), (major, minor));
        }
        assert_eq!(UnixData::encode_device(4096, 0), None);
        assert_eq!(UnixData::encode_device(8, 1), Some(0x801));
    }
}
