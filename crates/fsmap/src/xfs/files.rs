//! Files with everything that is known of them, for whoever copies them elsewhere.

use std::fmt;

use gravure_io::ReadAt;

use super::check_sum;
use super::inode::{Files, Form, Inode};
use crate::Error;
use crate::field::{be16, be32, be64, read, size, slice, u8, wide};

/// Head of a link's text in blocks of its own, version 5: "XSLM", place, bytes, checksum, UUID, inode, own place.
const MAGIC_LINK: u32 = 0x5853_4c4d;
const LINK_HEADER_BYTES: usize = 56;
/// Bytes of a link's text at most.
const MAX_LINK_BYTES: u64 = 1024;

const RO_COMPAT_INODE_TREE: u32 = 0x1;
const RO_COMPAT_REVERSE_MAP: u32 = 0x2;
const RO_COMPAT_SHARED: u32 = 0x4;
const RO_COMPAT_INODE_COUNTS: u32 = 0x8;
const INCOMPAT_SPARSE: u32 = 0x2;
const INCOMPAT_BIG_TIMES: u32 = 0x8;
const INCOMPAT_LARGE_COUNTS: u32 = 0x20;
const INCOMPAT_EXCHANGE: u32 = 0x40;
const INCOMPAT_PARENTS: u32 = 0x80;

/// An inode's second set of flags: its times are nanoseconds since 2^31 seconds before 1970.
const FLAG_BIG_TIMES: u64 = 1 << 3;
const BIG_TIMES_START: i64 = -(1 << 31);
const NANOS: u64 = 1_000_000_000;
/// An inode's flags that say nothing to anybody: blocks were reserved.
const FLAG_RESERVED: u16 = 1 << 1;
/// Content on the realtime device.
const FLAG_REALTIME: u16 = 1;

/// What a volume says of itself, as far as another one can be made like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XfsFacts {
    /// 4 or 5.
    pub version: u16,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Bytes of a sector.
    pub sector_bytes: u32,
    /// Bytes of an inode.
    pub inode_bytes: u32,
    /// Bytes of a block of a directory.
    pub directory_bytes: u32,
    /// Label.
    pub label: Option<String>,
    /// UUID for users.
    pub uuid: Option<String>,
    /// Names that mkfs.xfs has for features, its option letter first, and whether the volume has them.
    pub features: Vec<(char, &'static str, bool)>,
    /// Limits are kept for users, groups or projects.
    pub has_quotas: bool,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XfsAttribute {
    /// Name with its prefix, as the kernel has it.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// A piece of a file's content; between pieces there are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XfsPiece {
    /// Byte of the file.
    pub pos: u64,
    /// Bytes.
    pub len: u64,
    /// Byte of the device.
    pub offset: u64,
}

/// A point in time: seconds since 1970, rounded down, and nanoseconds on top.
pub type XfsTime = (i64, u32);

/// A file, directory, link or device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XfsFile {
    /// Number of its inode.
    pub number: u64,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that it has.
    pub links: u32,
    /// Bytes.
    pub size: u64,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// Last access.
    pub accessed: XfsTime,
    /// Last write.
    pub written: XfsTime,
    /// Flags such as immutable, or a project.
    pub has_flags: bool,
    inode: Inode,
}

impl XfsFile {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.inode.is_directory()
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.inode.is_file()
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.inode.is_link()
    }
}

/// An XFS volume, read through its own structures. One whose log has changes that are not in them shows what was there before.
pub struct XfsVolume<'a> {
    files: Files<'a>,
    facts: XfsFacts,
}

impl fmt::Debug for XfsVolume<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XfsVolume").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl<'a> XfsVolume<'a> {
    /// Reads the super block. `goes_on` is asked often while files are read.
    pub fn open(dev: &'a dyn ReadAt, goes_on: &'a dyn Fn() -> bool) -> Result<Self, Error> {
        let files = Files::open(dev, goes_on)?;
        let head = read(dev, "super block", 0, 512)?;
        let (ro_compat, incompat) = match files.sb.version {
            5 => (be32(&head, 212), be32(&head, 216)),
            _ => (0, 0),
        };
        let features = vec![
            ('m', "finobt", ro_compat & RO_COMPAT_INODE_TREE != 0),
            ('m', "rmapbt", ro_compat & RO_COMPAT_REVERSE_MAP != 0),
            ('m', "reflink", ro_compat & RO_COMPAT_SHARED != 0),
            ('m', "inobtcount", ro_compat & RO_COMPAT_INODE_COUNTS != 0),
            ('m', "bigtime", incompat & INCOMPAT_BIG_TIMES != 0),
            ('i', "sparse", incompat & INCOMPAT_SPARSE != 0),
            ('i', "nrext64", incompat & INCOMPAT_LARGE_COUNTS != 0),
            ('i', "exchange", incompat & INCOMPAT_EXCHANGE != 0),
            ('n', "parent", incompat & INCOMPAT_PARENTS != 0),
        ];
        let sb = &files.sb;
        let facts = XfsFacts {
            version: sb.version,
            block_bytes: sb.block_bytes,
            sector_bytes: sb.sector_bytes.into(),
            inode_bytes: sb.inode_bytes.into(),
            directory_bytes: files.directory_bytes,
            label: sb.label.clone(),
            uuid: sb.uuid.clone(),
            features,
            has_quotas: be16(&head, 176) != 0,
        };
        Ok(Self { files, facts })
    }

    /// What it says of itself.
    pub fn facts(&self) -> &XfsFacts {
        &self.facts
    }

    /// The directory above all others.
    pub fn root(&self) -> Result<XfsFile, Error> {
        self.file(self.files.root)
    }

    /// The file with this number.
    pub fn file(&self, number: u64) -> Result<XfsFile, Error> {
        self.files.go_on()?;
        let inode = self.files.inode(number)?;
        let core = &inode.core;
        // Version 1 counted names in two bytes, and has no projects.
        let is_old = u8(core, 4) == 1;
        let links = if is_old { be16(core, 6).into() } else { be32(core, 16) };
        let has_project = !is_old && be32(core, 20) != 0;
        let flags = be16(core, 90);
        let has_big_times = u8(core, 4) == 3 && be64(core, 120) & FLAG_BIG_TIMES != 0;
        // Twice 14 and 18 bits.
        let device = if inode.data.form == Form::Device { be32(&inode.data.bytes, 0) } else { 0 };
        Ok(XfsFile {
            number,
            mode: inode.mode.into(),
            uid: be32(core, 8),
            gid: be32(core, 12),
            links,
            size: inode.size,
            device: (device >> 18, device & 0x3_ffff),
            accessed: time(core, 32, has_big_times),
            written: time(core, 40, has_big_times),
            has_flags: flags & !FLAG_RESERVED != 0 || has_project,
            inode,
        })
    }

    /// Names in a directory, and the numbers of what they name.
    pub fn entries(&self, directory: &XfsFile) -> Result<Vec<(Vec<u8>, u64)>, Error> {
        let entries = self.files.entries(&directory.inode)?;
        Ok(entries.into_iter().map(|entry| (entry.name, entry.inode)).collect())
    }

    /// Where the content of a regular file is, ascending.
    pub fn pieces(&self, file: &XfsFile) -> Result<Vec<XfsPiece>, Error> {
        let inode = &file.inode;
        if be16(&inode.core, 90) & FLAG_REALTIME != 0 {
            return Err(Error::unsupported(
                "content on a realtime device",
                format!("inode {}", inode.number),
            ));
        }
        if !inode.is_file() || !matches!(inode.data.form, Form::Extents | Form::Tree) {
            return Err(inode.wrong("content", "that of a regular file", format!("{:?}", inode.data.form)));
        }
        let unit = u64::from(self.files.sb.block_bytes);
        let extents = self.files.extents(inode, &inode.data)?;
        let pieces = extents.iter().filter(|extent| !extent.is_unwritten).map(|extent| {
            let pos = extent.logical.saturating_mul(unit);
            // Blocks behind the end were reserved.
            let len = extent.count.saturating_mul(unit).min(inode.size.saturating_sub(pos));
            XfsPiece { pos, len, offset: extent.offset }
        });
        Ok(pieces.filter(|piece| piece.len > 0).collect())
    }

    /// Bytes of the blocks that a file has beside its inode: content, directory and attributes, those that were only reserved left out.
    pub fn allocated_bytes(&self, file: &XfsFile) -> Result<u64, Error> {
        let inode = &file.inode;
        let unit = u64::from(self.files.sb.block_bytes);
        let end = if inode.is_file() { inode.size.div_ceil(unit) } else { u64::MAX };
        let mut blocks = 0u64;
        for extent in self.files.extents(inode, &inode.data)? {
            let count = extent.end().min(end).saturating_sub(extent.logical);
            blocks = blocks.saturating_add(if extent.is_unwritten { 0 } else { count });
        }
        if let Some(fork) = &inode.attributes {
            let extents = self.files.extents(inode, fork)?;
            blocks = extents.iter().fold(blocks, |sum, extent| sum.saturating_add(extent.count));
        }
        Ok(blocks.saturating_mul(unit))
    }

    /// The text of a symbolic link.
    pub fn target(&self, link: &XfsFile) -> Result<Vec<u8>, Error> {
        let inode = &link.inode;
        if !inode.is_link() || inode.size == 0 || inode.size > MAX_LINK_BYTES {
            return Err(inode.wrong("link", format!("1 to {MAX_LINK_BYTES} bytes"), inode.size));
        }
        let len = size(inode.size);
        let mut out = Vec::new();
        if inode.data.form == Form::Local {
            out.extend(slice(&inode.data.bytes, 0, len));
        }
        for extent in self.files.extents(inode, &inode.data)? {
            if extent.count.saturating_mul(self.files.sb.block_bytes.into()) > 2 << 16 {
                return Err(inode.wrong("link", "a few blocks", extent.count));
            }
            let (bytes, offset) = self.files.fork_blocks(inode, &[extent], extent.logical, extent.count)?;
            if self.files.sb.version != 5 {
                out.extend(bytes);
                continue;
            }
            check_sum("link", offset, &bytes, 12)?;
            let (pos, owner) = (be32(&bytes, 4), be64(&bytes, 32));
            let content = slice(&bytes, LINK_HEADER_BYTES, size(be32(&bytes, 8).into()));
            let is_right = be32(&bytes, 0) == MAGIC_LINK && u64::from(pos) == wide(out.len());
            if !is_right || owner != inode.number || content.is_empty() {
                let expected = format!("byte {} of inode {}", out.len(), inode.number);
                return Err(inode.wrong("link", expected, format!("byte {pos} of inode {owner}")));
            }
            out.extend(content);
        }
        out.truncate(len);
        if out.len() != len || out.contains(&0) {
            return Err(inode.wrong("link", format!("{len} bytes, none of them zero"), out.len()));
        }
        Ok(out)
    }

    /// Extended attributes of a file, ascending by name.
    pub fn attributes(&self, file: &XfsFile) -> Result<Vec<XfsAttribute>, Error> {
        self.files.attributes(&file.inode)
    }
}

fn time(core: &[u8], at: usize, is_big: bool) -> XfsTime {
    if is_big {
        let nanos = be64(core, at);
        let seconds = i64::try_from(nanos.checked_div(NANOS).unwrap_or(0)).unwrap_or(0);
        let rest = nanos.checked_rem(NANOS).unwrap_or(0);
        return (seconds.saturating_add(BIG_TIMES_START), u32::try_from(rest).unwrap_or(0));
    }
    let seconds = be32(core, at).cast_signed();
    (seconds.into(), be32(core, at.saturating_add(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_kinds_are_the_same() {
        let old = [0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 7];
        assert_eq!(time(&old, 0, false), (-2, 7));
        let big = (((1u64 << 31) - 2) * NANOS + 7).to_be_bytes();
        assert_eq!(time(&big, 0, true), (-2, 7));
    }
}
