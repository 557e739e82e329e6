//! From the attributes of a file to a node of a tree.

use std::collections::HashMap;

use gravure_io::ReadAt;
use gravure_nttypes::{FileAttributes as Attributes, FileTime, MAX_REPARSE_BYTES, NtName, ReparseTag};
use gravure_tree::{
    ContentRef, ExtendedAttribute, NamedStream, Node, Origin, Reparse, SecurityId, SourceId, Times,
};
use zerocopy::FromBytes;

use super::bytes::{at, part, u32_at, wide};
use super::contents::{ContentPlace, Contents};
use super::gather::{FileAttributes, Found, Value};
use super::names::FileName;
use super::record::ENCRYPTED;
use super::secure::{Descriptors, MAX_DESCRIPTOR_BYTES};
use super::volume::{NAME_INDEX, Volume};
use super::wof::{Stored, WofFile, method};
use crate::Error;
use crate::disk::{
    CASE_SENSITIVE, EA_HEAD_BYTES, EaDisk, RECORD_DIRECTORY, REPARSE_HEAD_BYTES, RecordDisk, ReparseDisk,
    TimesDisk, WofDisk, attribute_type as types, namespace,
};
use crate::layout::MAX_STREAM_BYTES;

/// Name of the stream behind a compressed file.
pub(crate) const WOF_STREAM: [u16; 17] =
    [0x57, 0x6f, 0x66, 0x43, 0x6f, 0x6d, 0x70, 0x72, 0x65, 0x73, 0x73, 0x65, 0x64, 0x44, 0x61, 0x74, 0x61];
pub(crate) const SECURITY_DESCRIPTOR: u32 = 0x50;
/// Bits of attributes that only names and system files have.
const INNER_ATTRIBUTES: u32 = 0xf000_0000;
/// Extended attributes of a file, bytes.
pub(crate) const MAX_EA_BYTES: u64 = 0x1_0000;

/// A file on its way into a tree.
#[derive(Debug)]
pub(crate) struct ReadFile {
    pub(crate) node: Node,
    pub(crate) names: Vec<ReadName>,
    /// A directory whose names are told apart by case.
    pub(crate) is_case_sensitive: bool,
}

/// A name of a file.
#[derive(Debug)]
pub(crate) struct ReadName {
    /// Reference of the directory.
    pub(crate) parent: u64,
    pub(crate) name: NtName,
    pub(crate) short_name: Option<NtName>,
}

/// Makes nodes.
pub(crate) struct NodeReader<'a> {
    pub(crate) volume: &'a Volume,
    pub(crate) source: &'a dyn ReadAt,
    pub(crate) id: SourceId,
    pub(crate) descriptors: Descriptors,
    /// Birth ids of object ids, by the file's reference.
    pub(crate) births: HashMap<u64, [u8; 48]>,
    pub(crate) contents: Contents,
}

impl NodeReader<'_> {
    /// The file in record `number`. What cannot be kept as it is, is told through `warn`.
    pub(crate) fn read(
        &mut self,
        number: u32,
        head: &RecordDisk,
        file: &FileAttributes,
        warn: &mut dyn FnMut(String),
    ) -> Result<ReadFile, Error> {
        let offset = self.volume.mft.offset(u64::from(number));
        let corrupt = |what: &str, expected: &str, found: String| Error::Corrupt {
            what: format!("record {number}: {what}"),
            offset,
            expected: expected.to_owned(),
            found,
        };
        let information = file.get(types::STANDARD_INFORMATION, &[]).and_then(Found::resident);
        let information = information.filter(|value| value.len() >= 0x30);
        let information = information
            .ok_or_else(|| corrupt("$STANDARD_INFORMATION", "48 bytes or more", "fewer".to_owned()))?;
        let (times, _) = TimesDisk::read_from_prefix(information)
            .map_err(|_| corrupt("$STANDARD_INFORMATION", "four times", "fewer bytes".to_owned()))?;
        let is_directory =
            head.flags.get() & RECORD_DIRECTORY != 0 || file.get(types::INDEX_ROOT, &NAME_INDEX).is_some();
        let mut attributes = Attributes(u32_at(information, 0x20).unwrap_or(0) & !INNER_ATTRIBUTES)
            .without(Attributes::DIRECTORY);
        let mut node = Node {
            times: Times {
                created: FileTime(times.created.get()),
                accessed: FileTime(times.accessed.get()),
                written: FileTime(times.written.get()),
            },
            children: is_directory.then(Vec::new),
            ..Node::default()
        };
        node.security = self.security(number, information, file, warn)?;
        node.object_id = self.object_id(number, head, file);
        self.reparse(number, file, &mut node)?;
        self.data(number, file, &mut node, warn)?;
        match &node.reparse {
            // The filter hides what it does.
            None => attributes = attributes.without(Attributes::REPARSE_POINT),
            Some(reparse) if reparse.tag == ReparseTag::WOF => {
                node.reparse = None;
                attributes = attributes.without(Attributes::REPARSE_POINT).without(Attributes::SPARSE);
            }
            Some(_) => attributes |= Attributes::REPARSE_POINT,
        }
        self.extended(number, file, &mut node)?;
        if is_directory {
            attributes |= Attributes::DIRECTORY;
        }
        // As Windows itself shows it.
        node.attributes = if attributes.0 == 0 { Attributes::NORMAL } else { attributes };
        let names =
            names(file).ok_or_else(|| corrupt("$FILE_NAME", "a whole name", "a cut one".to_owned()))?;
        // In information that has numbers of versions, the mark stands in place of one.
        let versions = [0x24, 0x28].map(|pos| u32_at(information, pos));
        let is_case_sensitive = is_directory && versions == [Some(0), Some(CASE_SENSITIVE)];
        Ok(ReadFile { node, names, is_case_sensitive })
    }

    fn security(
        &mut self,
        number: u32,
        information: &[u8],
        file: &FileAttributes,
        warn: &mut dyn FnMut(String),
    ) -> Result<Option<SecurityId>, Error> {
        if let Some(own) = file.get(SECURITY_DESCRIPTOR, &[]) {
            let bytes = own.read(self.source, u64::from(MAX_DESCRIPTOR_BYTES))?;
            return Ok(bytes.filter(|bytes| !bytes.is_empty()).map(|bytes| self.descriptors.of(&bytes)));
        }
        let id = u32_at(information, 0x34).unwrap_or(0);
        if id == 0 {
            return Ok(None);
        }
        let found = self.descriptors.by_id(self.source, id)?;
        if found.is_none() {
            warn(format!("record {number}: security descriptor {id:#x} is not in $Secure; left out"));
        }
        Ok(found)
    }

    fn object_id(&self, number: u32, head: &RecordDisk, file: &FileAttributes) -> Option<Vec<u8>> {
        let value = file.get(types::OBJECT_ID, &[]).and_then(Found::resident)?;
        let mut id = value.get(..16)?.to_vec();
        // Before 2000 the birth ids stood beside it, now they stand in the index.
        let births = match value.get(16..64) {
            Some(births) => Some(births),
            None => {
                let reference = crate::disk::reference(number, head.sequence.get());
                self.births.get(&reference).map(|births| &births[..])
            }
        };
        // Systems that ask for an object id get all four, of zeros when there are none.
        id.extend_from_slice(births.unwrap_or_default());
        Some(id)
    }

    fn reparse(&self, number: u32, file: &FileAttributes, node: &mut Node) -> Result<(), Error> {
        let Some(found) = file.get(types::REPARSE_POINT, &[]) else { return Ok(()) };
        let limit = wide(MAX_REPARSE_BYTES.saturating_add(REPARSE_HEAD_BYTES));
        let value = found.read(self.source, limit)?;
        let parsed = value.as_deref().and_then(|value| {
            let (head, rest) = ReparseDisk::read_from_prefix(value).ok()?;
            Some((head, rest.get(..usize::from(head.len.get()))?))
        });
        let (head, data) = parsed.ok_or_else(|| Error::Corrupt {
            what: format!("record {number}: reparse point"),
            offset: self.volume.mft.offset(u64::from(number)),
            expected: "8 bytes and as many as they state".to_owned(),
            found: format!("{} bytes", found.size()),
        })?;
        node.reparse = Some(Reparse {
            tag: ReparseTag(head.tag.get()),
            reserved: head.reserved.get(),
            // The target is as it was on the volume.
            link_flags: 1,
            content: ContentRef::inline(data),
        });
        Ok(())
    }

    /// The compression of a file behind the overlay filter; `None` when it has another reparse point or none.
    fn wof(&self, number: u32, file: &FileAttributes, node: &Node) -> Result<Option<WofFile>, Error> {
        let Some(reparse) = node.reparse.as_ref().filter(|reparse| reparse.tag == ReparseTag::WOF) else {
            return Ok(None);
        };
        let unsupported = |value: String| Error::Unsupported {
            what: "file of the overlay filter",
            value: format!("record {number}: {value}"),
        };
        let Origin::Inline(data) = &reparse.content.origin else {
            return Err(unsupported("no data".to_owned()));
        };
        let (wof, _) =
            WofDisk::read_from_prefix(data).map_err(|_| unsupported(format!("{} bytes", data.len())))?;
        let (provider, algorithm) = (wof.provider.get(), wof.algorithm.get());
        if wof.version.get() != 1
            || provider != 2
            || wof.provider_version.get() != 1
            || method(algorithm).is_none()
        {
            return Err(unsupported(format!(
                "provider {provider}, algorithm {algorithm}: its content is not on the volume"
            )));
        }
        let size = file.get(types::DATA, &[]).map_or(0, Found::size);
        let stored = match file.get(types::DATA, &WOF_STREAM).map(|found| &found.value) {
            Some(Value::Clusters { stream, .. }) => Stored::Clusters(stream.clone()),
            Some(Value::Resident { bytes, .. }) => Stored::Record(bytes.as_slice().into()),
            None => return Err(unsupported("no compressed stream".to_owned())),
        };
        Ok(Some(WofFile { stored, size, algorithm }))
    }

    fn data(
        &mut self,
        number: u32,
        file: &FileAttributes,
        node: &mut Node,
        warn: &mut dyn FnMut(String),
    ) -> Result<(), Error> {
        let wof = self.wof(number, file, node)?;
        if !node.is_directory() {
            node.data = Some(ContentRef::empty());
        }
        for found in file.all(types::DATA) {
            let is_wof_stream = wof.is_some() && found.name == WOF_STREAM;
            if is_wof_stream || (found.name.is_empty() && node.is_directory()) {
                continue;
            }
            let name = NtName::from_units(&found.name);
            if found.flags & ENCRYPTED != 0 {
                return Err(Error::Unsupported { what: "encrypted file", value: format!("record {number}") });
            }
            let size = found.size();
            if size > MAX_STREAM_BYTES {
                let value = format!("record {number}: {size} bytes");
                return Err(Error::Unsupported { what: "stream of that size", value });
            }
            let content = if size == 0 {
                ContentRef::empty()
            } else {
                let place = match (&found.value, &wof) {
                    (_, Some(wof)) if found.name.is_empty() => ContentPlace::Wof(Box::new(wof.clone())),
                    (Value::Resident { bytes, pos }, _) => {
                        ContentPlace::Resident { record: found.record, pos: *pos, len: bytes.len() }
                    }
                    (Value::Clusters { stream, .. }, _) => ContentPlace::Stream(stream.clone()),
                };
                let key = self.contents.push(place);
                ContentRef { size, sha1: None, origin: Origin::Source { source: self.id, key } }
            };
            if name.is_empty() {
                node.data = Some(content);
            } else {
                node.named_streams.push(NamedStream { name, content });
            }
        }
        if file.all(0xf0).next().is_some() {
            warn(format!("record {number}: property set of an old version; left out"));
        }
        Ok(())
    }

    fn extended(&self, number: u32, file: &FileAttributes, node: &mut Node) -> Result<(), Error> {
        let Some(found) = file.get(types::EA, &[]) else { return Ok(()) };
        let value = found.read(self.source, MAX_EA_BYTES)?;
        let list = value.as_deref().and_then(|value| extended_attributes(value).ok());
        node.extended_attributes = list.ok_or_else(|| Error::Corrupt {
            what: format!("record {number}: extended attributes"),
            offset: self.volume.mft.offset(u64::from(number)),
            expected: "a chain of names and values".to_owned(),
            found: format!("{} bytes that are none", found.size()),
        })?;
        Ok(())
    }
}

/// The chain of $EA; the position at which it breaks otherwise.
pub(crate) fn extended_attributes(value: &[u8]) -> Result<Vec<ExtendedAttribute>, usize> {
    let (mut out, mut pos) = (Vec::new(), 0usize);
    while pos < value.len() {
        let rest = value.get(pos..).unwrap_or_default();
        let (head, _) = EaDisk::read_from_prefix(rest).map_err(|_| pos)?;
        let next = at(head.next.get());
        let (name_len, value_len) = (usize::from(head.name_len), usize::from(head.value_len.get()));
        let name = part(rest, EA_HEAD_BYTES, name_len).ok_or(pos)?;
        let value_pos = EA_HEAD_BYTES.saturating_add(name_len).saturating_add(1);
        let bytes = part(rest, value_pos, value_len).ok_or(pos)?;
        let end = value_pos.saturating_add(value_len);
        let terminator = rest.get(value_pos.saturating_sub(1));
        if name.is_empty() || terminator != Some(&0) || (next != 0 && next < end) {
            return Err(pos);
        }
        out.push(ExtendedAttribute { name: name.to_vec(), flags: head.flags, value: bytes.to_vec() });
        // The last one says 0 or points to the end.
        if next == 0 {
            break;
        }
        pos = pos.saturating_add(next);
    }
    if pos > value.len() { Err(pos) } else { Ok(out) }
}

/// The names of a file, each with the short name that belongs to it; `None` when one is cut.
fn names(file: &FileAttributes) -> Option<Vec<ReadName>> {
    let mut names = Vec::new();
    let mut short_names = Vec::new();
    for found in file.all(types::FILE_NAME) {
        let name = FileName::parse(found.resident()?)?;
        let (parent, units) = (name.head.parent.get(), NtName::from_units(&name.units()));
        if name.head.namespace == namespace::DOS {
            short_names.push((parent, units));
        } else {
            let is_pair = name.head.namespace == namespace::WIN32;
            names.push((is_pair, ReadName { parent, name: units, short_name: None }));
        }
    }
    for (parent, short) in short_names {
        let partner = names
            .iter_mut()
            .find(|(is_pair, name)| *is_pair && name.parent == parent && name.short_name.is_none());
        match partner {
            Some((_, name)) => name.short_name = Some(short),
            None => names.push((false, ReadName { parent, name: short, short_name: None })),
        }
    }
    Some(names.into_iter().map(|(_, name)| name).collect())
}
