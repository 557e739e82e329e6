//! Directories listed by path, for whoever looks into an image without restoring it.

use gravure_io::ReadAt;

use super::inode::{BlockWalk, Inode, Piece, read_block, read_inode};
use super::names::{ROOT, record_len};
use super::superblock::Superblock;
use crate::Error;
use crate::field::{le16, le32, slice, u8};
use crate::list::{ListKind, Listed};

/// Bytes of a directory that are read at most.
const MAX_DIRECTORY_BYTES: u64 = 256 << 20;
/// Names on a path.
const MAX_DEPTH: usize = 256;

/// An entry: its inode and its name.
type Entry = (u32, String);

struct Reader<'a> {
    dev: &'a dyn ReadAt,
    sb: &'a Superblock,
    goes_on: &'a dyn Fn() -> bool,
}

/// The entries of the directory at `path`, or the file itself; `None` when there is none.
pub(super) fn list(
    dev: &dyn ReadAt,
    sb: &Superblock,
    path: &str,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Vec<Listed>>, Error> {
    let reader = Reader { dev, sb, goes_on };
    let mut number = ROOT;
    let mut name = "/".to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()).take(MAX_DEPTH) {
        let inode = read_inode(dev, sb, number)?;
        if !inode.is_directory() {
            return Ok(None);
        }
        let found = reader.entries(&inode)?.into_iter().find(|(_, other)| other == part);
        let Some((child, child_name)) = found else { return Ok(None) };
        (number, name) = (child, child_name);
    }
    let inode = read_inode(dev, sb, number)?;
    if !inode.is_directory() {
        return Ok(Some(vec![listed(name, &inode)]));
    }
    let mut out = Vec::new();
    for (number, name) in reader.entries(&inode)? {
        out.push(listed(name, &read_inode(dev, sb, number)?));
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(out))
}

fn listed(name: String, inode: &Inode) -> Listed {
    let kind = match inode.mode & 0xf000 {
        0x4000 => ListKind::Directory,
        0x8000 => ListKind::File,
        0xa000 => ListKind::Link,
        _ => ListKind::Other,
    };
    let size = if kind == ListKind::File { inode.size } else { 0 };
    Listed { name, kind, size }
}

impl Reader<'_> {
    fn entries(&self, inode: &Inode) -> Result<Vec<Entry>, Error> {
        let mut out = Vec::new();
        if inode.is_inline() {
            if inode.size > 60 {
                // More of them stand in an extended attribute.
                return Err(Error::Unsupported {
                    what: "large directory in an inode",
                    value: self.sb.kind.name().to_owned(),
                });
            }
            self.block(slice(&inode.block, 4, 56), &mut out);
            return Ok(out);
        }
        if inode.size > MAX_DIRECTORY_BYTES {
            let expected = format!("at most {MAX_DIRECTORY_BYTES} bytes");
            return Err(Error::corrupt("size of a directory", 0, expected, inode.size));
        }
        let mut pieces: Vec<Piece> = Vec::new();
        BlockWalk::new(self.dev, self.sb).walk(inode, &mut pieces)?;
        for logical in 0..inode.size.div_ceil(self.sb.block_bytes.into()) {
            if !(self.goes_on)() {
                return Err(Error::Stopped);
            }
            if let Some(block) = read_block(self.dev, self.sb, &pieces, logical)? {
                self.block(&block, &mut out);
            }
        }
        Ok(out)
    }

    /// Entries of a block (ext4 documentation, "Linear Directories").
    fn block(&self, block: &[u8], out: &mut Vec<Entry>) {
        let mut at = 0usize;
        while at.saturating_add(8) <= block.len() {
            let head = slice(block, at, 8);
            let (number, len) = (le32(head, 0), record_len(le16(head, 4), block.len()));
            if len < 8 || at.saturating_add(len) > block.len() {
                break;
            }
            let name = slice(block, at.saturating_add(8), usize::from(u8(head, 6)));
            at = at.saturating_add(len);
            let is_entry = number != 0 && number <= self.sb.inodes && !name.is_empty();
            if is_entry && !matches!(name, b"." | b"..") {
                out.push((number, String::from_utf8_lossy(name).into_owned()));
            }
        }
    }
}
