//! Tagged items: object ids, extended attributes, Unix data and whatever else stands behind the names of a dentry
//! (wim-container 6.7). Whatever cannot be understood is kept byte for byte.

use gravure_io::Cursor;
use gravure_tree::{ExtendedAttribute, Node, TaggedItem, UnixData};

use super::disk::ALIGN;
use crate::error::FileIssue;

const OBJECT_ID: u32 = 0x0000_0001;
const EXTENDED_ATTRIBUTES: u32 = 0x0000_0002;
const UNIX_DATA: u32 = 0x337d_d873;
/// Linux extended attributes in a form of old writers; read, never written.
const OLD_LINUX_ATTRIBUTES: u32 = 0x337d_d874;
/// Object id with birth volume, birth object and domain id.
const OBJECT_ID_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Puts the items of `bytes` into `node`.
pub(super) fn read(bytes: &[u8], node: &mut Node, issue: &mut dyn FnMut(FileIssue)) {
    let mut cursor = Cursor::new(bytes);
    while let Some((tag, data)) = next_item(&mut cursor) {
        let is_known = match tag {
            OBJECT_ID => read_object_id(data, node),
            UNIX_DATA => read_unix_data(data, node),
            EXTENDED_ATTRIBUTES => read_attributes(parse_attributes(data), node, issue),
            OLD_LINUX_ATTRIBUTES => read_attributes(parse_old_attributes(data), node, issue),
            _ => false,
        };
        if !is_known {
            node.unknown_items.push(TaggedItem { tag, data: data.to_vec() });
        }
    }
    let rest = cursor.rest();
    if rest.iter().any(|byte| *byte != 0) {
        issue(FileIssue::TrailingItems(super::disk::len_u64(rest)));
    }
}

/// The next item, if a whole one is there; stays in place otherwise.
fn next_item<'a>(cursor: &mut Cursor<'a>) -> Option<(u32, &'a [u8])> {
    let mut ahead = cursor.clone();
    let tag = ahead.u32().ok()?;
    let len = usize::try_from(ahead.u32().ok()?).ok()?;
    let data = ahead.take(len).ok()?;
    if tag == 0 && data.is_empty() {
        // Zeros are padding, not an endless row of empty items.
        return None;
    }
    ahead.align(ALIGN);
    *cursor = ahead;
    Some((tag, data))
}

/// A second item of a kind is not understood and so kept as it is.
fn read_object_id(data: &[u8], node: &mut Node) -> bool {
    if node.object_id.is_some() || !OBJECT_ID_BYTES.contains(&data.len()) {
        return false;
    }
    node.object_id = Some(data.to_vec());
    true
}

fn read_unix_data(data: &[u8], node: &mut Node) -> bool {
    let mut cursor = Cursor::new(data);
    let (true, None, Ok(uid), Ok(gid), Ok(mode), Ok(rdev)) =
        (data.len() == 16, node.unix, cursor.u32(), cursor.u32(), cursor.u32(), cursor.u32())
    else {
        return false;
    };
    node.unix = Some(UnixData { uid, gid, mode, rdev });
    true
}

fn read_attributes(
    parsed: Option<Vec<ExtendedAttribute>>,
    node: &mut Node,
    issue: &mut dyn FnMut(FileIssue),
) -> bool {
    match parsed {
        Some(attributes) if node.extended_attributes.is_empty() && !attributes.is_empty() => {
            node.extended_attributes = attributes;
            true
        }
        _ => {
            issue(FileIssue::BadExtendedAttributes);
            false
        }
    }
}

/// Entries back to back: value length, name length, flags, name, zero, value.
fn parse_attributes(data: &[u8]) -> Option<Vec<ExtendedAttribute>> {
    let mut cursor = Cursor::new(data);
    let mut attributes = Vec::new();
    while !cursor.rest().is_empty() {
        let value_len = cursor.u16().ok()?;
        let name_len = cursor.u8().ok()?;
        let flags = cursor.u8().ok()?;
        let name = cursor.take(usize::from(name_len)).ok()?;
        let terminator = cursor.u8().ok()?;
        let value = cursor.take(usize::from(value_len)).ok()?;
        if terminator != 0 {
            return None;
        }
        attributes.push(attribute(name, flags, value)?);
    }
    Some(attributes)
}

/// Entries at multiples of 4: name length, zero, value length, name, value.
fn parse_old_attributes(data: &[u8]) -> Option<Vec<ExtendedAttribute>> {
    let mut cursor = Cursor::new(data);
    let mut attributes = Vec::new();
    while !cursor.rest().is_empty() {
        let name_len = cursor.u16().ok()?;
        let zero = cursor.u16().ok()?;
        let value_len = cursor.u32().ok()?;
        let name = cursor.take(usize::from(name_len)).ok()?;
        let value = cursor.take(usize::try_from(value_len).ok()?).ok()?;
        if zero != 0 {
            return None;
        }
        attributes.push(attribute(name, 0, value)?);
        cursor.align(4);
    }
    Some(attributes)
}

/// `None` for names and values that the form we write cannot hold.
fn attribute(name: &[u8], flags: u8, value: &[u8]) -> Option<ExtendedAttribute> {
    let fits = (1..=usize::from(u8::MAX)).contains(&name.len()) && !name.contains(&0);
    let fits = fits && value.len() <= usize::from(u16::MAX);
    fits.then(|| ExtendedAttribute { name: name.to_vec(), flags, value: value.to_vec() })
}

/// The items of `node` as they are written. `Err` says why they cannot be.
pub(super) fn to_bytes(node: &Node) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    if let Some(object_id) = &node.object_id {
        if !OBJECT_ID_BYTES.contains(&object_id.len()) {
            return Err("an object id that has not 16 to 64 bytes");
        }
        write_item(OBJECT_ID, object_id, &mut out)?;
    }
    if !node.extended_attributes.is_empty() {
        write_item(EXTENDED_ATTRIBUTES, &attributes_to_bytes(&node.extended_attributes)?, &mut out)?;
    }
    if let Some(UnixData { uid, gid, mode, rdev }) = node.unix {
        let data: Vec<u8> = [uid, gid, mode, rdev].into_iter().flat_map(u32::to_le_bytes).collect();
        write_item(UNIX_DATA, &data, &mut out)?;
    }
    for item in &node.unknown_items {
        write_item(item.tag, &item.data, &mut out)?;
    }
    Ok(out)
}

fn attributes_to_bytes(attributes: &[ExtendedAttribute]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    for ExtendedAttribute { name, flags, value } in attributes {
        let name_len = u8::try_from(name.len()).ok().filter(|len| *len > 0 && !name.contains(&0));
        let name_len =
            name_len.ok_or("an extended attribute whose name has not 1 to 255 bytes, or has a zero")?;
        let value_len =
            u16::try_from(value.len()).map_err(|_| "an extended attribute of more than 65535 bytes")?;
        out.extend_from_slice(&value_len.to_le_bytes());
        out.extend_from_slice(&[name_len, *flags]);
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
    }
    Ok(out)
}

fn write_item(tag: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let len = u32::try_from(data.len()).map_err(|_| "a tagged item of 4 GiB or more")?;
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(data);
    out.resize(super::disk::align(out.len()), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> (Node, Vec<FileIssue>) {
        let mut node = Node::default();
        let mut issues = Vec::new();
        read(bytes, &mut node, &mut |issue| issues.push(issue));
        (node, issues)
    }

    fn item(tag: u32, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_item(tag, data, &mut out).unwrap();
        out
    }

    #[test]
    fn the_old_linux_form_is_read() {
        let data = [
            &[6, 0, 0, 0, 3, 0, 0, 0][..],
            b"user.a",
            b"xyz",
            &[0, 0, 0],
            &[6, 0, 0, 0, 0, 0, 0, 0],
            b"user.b",
        ];
        let (node, issues) = read_all(&item(OLD_LINUX_ATTRIBUTES, &data.concat()));
        assert_eq!(issues, []);
        let attribute = |name: &[u8], value: &[u8]| ExtendedAttribute {
            name: name.to_vec(),
            flags: 0,
            value: value.to_vec(),
        };
        assert_eq!(node.extended_attributes, [attribute(b"user.a", b"xyz"), attribute(b"user.b", b"")]);
        let (again, _) = read_all(&to_bytes(&node).unwrap());
        assert_eq!(again, node);
    }

    #[test]
    fn what_cannot_be_parsed_is_kept() {
        let bad = [5, 0, 1, 0, b'a', 1, 0, 0, 0, 0, 0];
        let unix = [1u8; 15];
        let bytes =
            [item(EXTENDED_ATTRIBUTES, &bad), item(UNIX_DATA, &unix), item(OBJECT_ID, &[7; 3])].concat();
        let (node, issues) = read_all(&bytes);
        assert_eq!(issues, [FileIssue::BadExtendedAttributes]);
        assert_eq!(node.unknown_items.len(), 3);
        assert_eq!(to_bytes(&node).unwrap(), bytes);
    }

    #[test]
    fn an_item_that_does_not_fit_ends_the_list() {
        let mut bytes = item(OBJECT_ID, &[7; 16]);
        bytes.extend_from_slice(&[9, 0, 0, 0, 100, 0, 0, 0, 1]);
        let (node, issues) = read_all(&bytes);
        assert_eq!(node.object_id, Some(vec![7; 16]));
        assert_eq!(issues, [FileIssue::TrailingItems(9)]);
        let (node, issues) = read_all(&[0; 32]);
        assert_eq!((node, issues.len()), (Node::default(), 0));
    }
}
