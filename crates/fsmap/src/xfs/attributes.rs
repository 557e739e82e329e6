//! Extended attributes ("XFS Algorithms & Data Structures", "Extended Attributes"): in the inode, or in leaves that follow each other, with large
//! values in blocks of their own.

use super::check_sum;
use super::extents::Extent;
use super::files::XfsAttribute;
use super::inode::{Files, Form, Inode};
use crate::Error;
use crate::field::{be16, be32, be64, size, slice, u8, wide};

const MAGIC_LEAF: u16 = 0xfbee;
const MAGIC_LEAF_V5: u16 = 0x3bee;
const MAGIC_NODE: u16 = 0xfebe;
const MAGIC_NODE_V5: u16 = 0x3ebe;
/// Head of a value in blocks of its own, version 5: "XARM", place in the value, bytes, checksum, UUID, inode, own place.
const MAGIC_VALUE: u32 = 0x5841_524d;
const VALUE_HEADER_BYTES: usize = 56;
/// Where a node has its first entry, and a leaf its count and its entries, in versions 4 and 5.
const NODE_ENTRIES: [usize; 2] = [16, 64];
const LEAF_COUNT: [usize; 2] = [12, 56];
const LEAF_ENTRIES: [usize; 2] = [32, 80];
const ENTRY_BYTES: usize = 8;
/// Levels of nodes at most.
const MAX_LEVELS: u32 = 5;
/// Bytes of a value at most, as the kernel has it.
const MAX_VALUE_BYTES: usize = 64 << 10;
/// Bytes of all attributes of a file at most; the kernel lists no more than 64 KiB of names.
const MAX_BYTES: usize = 16 << 20;

/// Flags of an attribute: its value is beside it; it is one of the administrator's, or of a security module; it points to a directory that has the file, which
/// is no attribute for anybody; it is not complete.
const FLAG_LOCAL: u8 = 0x01;
const FLAG_ROOT: u8 = 0x02;
const FLAG_SECURE: u8 = 0x04;
const FLAG_PARENT: u8 = 0x08;
const FLAG_INCOMPLETE: u8 = 0x80;

/// An attribute as the kernel names it; `None` where it is none.
fn attribute(flags: u8, name: &[u8], value: &[u8]) -> Option<XfsAttribute> {
    if flags & (FLAG_PARENT | FLAG_INCOMPLETE) != 0 {
        return None;
    }
    let prefix: &[u8] = match flags & (FLAG_ROOT | FLAG_SECURE) {
        0 => b"user.",
        FLAG_ROOT => b"trusted.",
        _ => b"security.",
    };
    Some(XfsAttribute { name: [prefix, name].concat(), value: value.to_vec() })
}

impl Files<'_> {
    /// All extended attributes of a file, ascending by name.
    pub(super) fn attributes(&self, inode: &Inode) -> Result<Vec<XfsAttribute>, Error> {
        let mut out = match &inode.attributes {
            None => Vec::new(),
            Some(fork) if fork.form == Form::Local => short(inode, &fork.bytes)?,
            Some(fork) => {
                let extents = self.extents(inode, fork)?;
                if extents.is_empty() { Vec::new() } else { self.leaves(inode, &extents)? }
            }
        };
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    fn leaves(&self, inode: &Inode, extents: &[Extent]) -> Result<Vec<XfsAttribute>, Error> {
        let mut number = 0u32;
        let mut bytes = self.attribute_block(inode, extents, number)?;
        let [node, leaf] = match self.sb.version {
            5 => [MAGIC_NODE_V5, MAGIC_LEAF_V5],
            _ => [MAGIC_NODE, MAGIC_LEAF],
        };
        let version = usize::from(self.sb.version == 5);
        let at = |places: [usize; 2]| places.get(version).copied().unwrap_or(0);
        for _ in 0..MAX_LEVELS {
            if be16(&bytes, 8) != node {
                break;
            }
            // Down to the first leaf: number of the block behind the hash.
            number = be32(&bytes, at(NODE_ENTRIES).saturating_add(4));
            bytes = self.attribute_block(inode, extents, number)?;
        }
        let mut left = extents.iter().map(|extent| extent.count).sum::<u64>();
        let (mut out, mut total) = (Vec::new(), 0usize);
        loop {
            self.go_on()?;
            if be16(&bytes, 8) != leaf {
                let found = format!("{:#x}", be16(&bytes, 8));
                return Err(inode.wrong("attributes, magic", format!("{leaf:#x}"), found));
            }
            let count = usize::from(be16(&bytes, at(LEAF_COUNT)));
            for nth in 0..count {
                let entry = nth.saturating_mul(ENTRY_BYTES).saturating_add(at(LEAF_ENTRIES));
                let place = usize::from(be16(&bytes, entry.saturating_add(4)));
                let flags = u8(&bytes, entry.saturating_add(6));
                let body = bytes.get(place..).filter(|body| !body.is_empty()).ok_or_else(|| {
                    inode.wrong("attributes, place of a name", format!("below {}", bytes.len()), place)
                })?;
                let found = self.leaf_entry(inode, extents, flags, body)?;
                let Some(found) = found else { continue };
                total = total.saturating_add(found.name.len()).saturating_add(found.value.len());
                if total > MAX_BYTES {
                    let value = format!("inode {}, more than {MAX_BYTES} bytes", inode.number);
                    return Err(Error::unsupported("size of attributes", value));
                }
                out.push(found);
            }
            number = be32(&bytes, 0);
            if number == 0 {
                return Ok(out);
            }
            left = left
                .checked_sub(1)
                .filter(|left| *left > 0)
                .ok_or_else(|| inode.wrong("attributes", "leaves that end", "more than blocks"))?;
            bytes = self.attribute_block(inode, extents, number)?;
        }
    }

    /// An attribute of a leaf: length of the value and of the name, name, value; or first block and length of the value, length of the name, name.
    fn leaf_entry(
        &self,
        inode: &Inode,
        extents: &[Extent],
        flags: u8,
        body: &[u8],
    ) -> Result<Option<XfsAttribute>, Error> {
        let is_local = flags & FLAG_LOCAL != 0;
        let (len, name_at) =
            if is_local { (usize::from(be16(body, 0)), 3usize) } else { (size(be32(body, 4).into()), 9) };
        let name_len = usize::from(u8(body, name_at.saturating_sub(1)));
        let name = slice(body, name_at, name_len);
        let wrong = || {
            Err(inode.wrong("attributes, entry", "inside its block", format!("{name_len} and {len} bytes")))
        };
        if name.is_empty() || len > MAX_VALUE_BYTES {
            return wrong();
        }
        if flags & (FLAG_PARENT | FLAG_INCOMPLETE) != 0 {
            return Ok(None);
        }
        let value = if is_local {
            let value = slice(body, name_at.saturating_add(name_len), len);
            if value.len() != len {
                return wrong();
            }
            value.to_vec()
        } else {
            self.remote(inode, extents, be32(body, 0), len)?
        };
        Ok(attribute(flags, name, &value))
    }

    /// A value in blocks of its own.
    fn remote(&self, inode: &Inode, extents: &[Extent], first: u32, len: usize) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut number = u64::from(first);
        while out.len() < len {
            let (bytes, offset) = self.fork_blocks(inode, extents, number, 1)?;
            let mut content = bytes.as_slice();
            if self.sb.version == 5 {
                check_sum("value of an attribute", offset, &bytes, 12)?;
                let (pos, there, owner) = (be32(&bytes, 4), size(be32(&bytes, 8).into()), be64(&bytes, 32));
                let is_right = be32(&bytes, 0) == MAGIC_VALUE
                    && wide(out.len()) == u64::from(pos)
                    && owner == inode.number
                    && there > 0;
                content = slice(&bytes, VALUE_HEADER_BYTES, there);
                if !is_right || content.is_empty() {
                    let expected = format!("byte {} of inode {}", out.len(), inode.number);
                    return Err(inode.wrong(
                        "value of an attribute",
                        expected,
                        format!("byte {pos} of inode {owner}"),
                    ));
                }
            }
            let missing = len.saturating_sub(out.len());
            out.extend(content.iter().take(missing));
            number = number.saturating_add(1);
        }
        Ok(out)
    }

    fn attribute_block(&self, inode: &Inode, extents: &[Extent], number: u32) -> Result<Vec<u8>, Error> {
        let (bytes, offset) = self.fork_blocks(inode, extents, number.into(), 1)?;
        if self.sb.version == 5 {
            check_sum("attributes", offset, &bytes, 12)?;
            let (place, owner) = (be64(&bytes, 16), be64(&bytes, 48));
            if place != offset >> 9 || owner != inode.number {
                let expected = format!("sector {} of inode {}", offset >> 9, inode.number);
                return Err(inode.wrong(
                    "attributes, owner",
                    expected,
                    format!("sector {place} of inode {owner}"),
                ));
            }
        }
        Ok(bytes)
    }
}

/// Attributes in the inode: their size and count, then for each the lengths of name and value, flags, name, value.
fn short(inode: &Inode, fork: &[u8]) -> Result<Vec<XfsAttribute>, Error> {
    let bytes = slice(fork, 0, usize::from(be16(fork, 0)));
    let mut at = 4usize;
    let mut out = Vec::new();
    for _ in 0..u8(bytes, 2) {
        let (name_len, len) = (usize::from(u8(bytes, at)), usize::from(u8(bytes, at.saturating_add(1))));
        let flags = u8(bytes, at.saturating_add(2));
        let name_at = at.saturating_add(3);
        let value_at = name_at.saturating_add(name_len);
        at = value_at.saturating_add(len);
        if name_len == 0 || at > bytes.len() {
            return Err(inode.wrong(
                "short attributes",
                format!("{} inside the inode", u8(bytes, 2)),
                "fewer",
            ));
        }
        out.extend(attribute(flags, slice(bytes, name_at, name_len), slice(bytes, value_at, len)));
    }
    Ok(out)
}
