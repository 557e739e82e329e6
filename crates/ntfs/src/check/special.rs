//! Rules of what only some files have: reparse points, content behind the overlay filter, extended attributes.

use gravure_nttypes::ReparseTag;
use zerocopy::FromBytes;

use super::Checker;
use super::finding::Spot;
use crate::Error;
use crate::disk::{EaInformationDisk, RecordDisk, ReparseDisk, WofDisk, attribute_type as types, reference};
use crate::read::bytes::{at, u16_at, wide};
use crate::read::gather::{FileAttributes, Found, Value};
use crate::read::node::{MAX_EA_BYTES, WOF_STREAM, extended_attributes};
use crate::read::wof::{Stored, WofFile};
use crate::rule::Rule;

impl Checker<'_> {
    /// Reparse data; its tag when there is some.
    pub(super) fn check_reparse(
        &mut self,
        number: u32,
        head: &RecordDisk,
        file: &FileAttributes,
    ) -> Result<Option<ReparseTag>, Error> {
        let Some(found) = file.get(types::REPARSE_POINT, &[]) else { return Ok(None) };
        let spot = Spot::record(number).attribute(types::REPARSE_POINT, &[]).at(self.value_offset(found));
        let read = found.read(self.source, 0x4000);
        let Some(value) = self.readable(spot, read)?.flatten() else { return Ok(None) };
        let Ok((disk, data)) = ReparseDisk::read_from_prefix(&value) else { return Ok(None) };
        let tag = ReparseTag(disk.tag.get());
        // Tags that are not Microsoft's have a GUID before the data.
        let guid = if tag.0 & 0x8000_0000 == 0 { 16 } else { 0 };
        let expected = usize::from(disk.len.get()).saturating_add(guid);
        if data.len() != expected {
            self.teller.tell(Rule::ReparseLength, spot, format!("{} bytes of data", data.len()), expected);
        }
        if matches!(tag, ReparseTag::SYMLINK | ReparseTag::MOUNT_POINT)
            && let Err(error) = gravure_nttypes::LinkTarget::parse(tag, data)
        {
            self.teller.tell(Rule::ReparseLink, spot, "two names inside the data", error);
        }
        let is_link = matches!(tag, ReparseTag::SYMLINK | ReparseTag::MOUNT_POINT);
        let places = [0, 2, 4, 6].map(|pos| u16_at(data, pos).unwrap_or(0));
        if is_link && places.iter().any(|place| !place.is_multiple_of(2)) {
            self.teller.tell(Rule::ReparseLink, spot, "names of whole units", format!("{places:?}"));
        }
        if tag.0 == 0 {
            self.teller.tell(Rule::ReparseLength, spot, "a tag", 0);
        }
        self.reparse_points.push((tag.0, reference(number, head.sequence.get())));
        if tag == ReparseTag::WOF {
            self.check_wof(number, file, data, spot)?;
        }
        Ok(Some(tag))
    }

    fn check_wof(
        &mut self,
        number: u32,
        file: &FileAttributes,
        data: &[u8],
        spot: Spot<'_>,
    ) -> Result<(), Error> {
        let Ok((wof, _)) = WofDisk::read_from_prefix(data) else {
            self.teller.tell(Rule::WofData, spot, "16 bytes", data.len());
            return Ok(());
        };
        let (version, provider) = (wof.version.get(), wof.provider.get());
        if version != 1 || !matches!(provider, 1 | 2) {
            self.teller.tell(
                Rule::WofData,
                spot,
                "version 1, provider 1 or 2",
                format!("{version}, {provider}"),
            );
        }
        if provider != 2 {
            return Ok(());
        }
        let (inner, algorithm) = (wof.provider_version.get(), wof.algorithm.get());
        if inner != 1 || algorithm >= crate::read::wof::ALGORITHMS {
            self.teller.tell(
                Rule::WofData,
                spot,
                "version 1, algorithm 0 to 3",
                format!("{inner}, {algorithm}"),
            );
            return Ok(());
        }
        let spot =
            Spot::record(number).attribute(types::DATA, &WOF_STREAM).at(self.mft.offset(u64::from(number)));
        let unnamed = file.get(types::DATA, &[]);
        let holds_clusters = unnamed.is_some_and(|found| match &found.value {
            Value::Clusters { stream, .. } => stream.first_lcn().is_some(),
            Value::Resident { bytes, .. } => !bytes.is_empty(),
        });
        if holds_clusters {
            self.teller.tell(Rule::WofHole, spot, "a hole in place of the plain data", "data");
        }
        let stored = match file.get(types::DATA, &WOF_STREAM).map(|found| &found.value) {
            Some(Value::Clusters { stream, .. }) => Stored::Clusters(stream.clone()),
            Some(Value::Resident { bytes, .. }) => Stored::Record(bytes.as_slice().into()),
            None => {
                self.teller.tell(Rule::WofStream, spot, "a compressed stream", "none");
                return Ok(());
            }
        };
        let wof = WofFile { stored, size: unnamed.map_or(0, Found::size), algorithm };
        match wof.check(self.source, self.is_strict) {
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => self.teller.tell(Rule::WofStream, spot, "chunks inside the stream", error),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Extended attributes; their packed size.
    pub(super) fn check_extended(&mut self, number: u32, file: &FileAttributes) -> Result<u32, Error> {
        let (information, values) = (file.get(types::EA_INFORMATION, &[]), file.get(types::EA, &[]));
        let (information, values) = match (information, values) {
            (None, None) => return Ok(0),
            (Some(information), Some(values)) => (information, values),
            (has_information, _) => {
                let spot = Spot::record(number).at(self.mft.offset(u64::from(number)));
                let found = if has_information.is_some() { "$EA_INFORMATION alone" } else { "$EA alone" };
                self.teller.tell(Rule::EaPair, spot, "$EA_INFORMATION and $EA", found);
                return Ok(0);
            }
        };
        let spot = Spot::record(number).attribute(types::EA, &[]).at(self.value_offset(values));
        let read = values.read(self.source, MAX_EA_BYTES);
        let Some(bytes) = self.readable(spot, read)?.flatten() else { return Ok(0) };
        let list = match extended_attributes(&bytes) {
            Ok(list) => list,
            Err(pos) => {
                let spot = spot.at(self.value_offset(values).saturating_add(wide(pos)));
                self.teller.tell(Rule::EaChain, spot, "a name and a value inside the list", "none");
                return Ok(0);
            }
        };
        let packed: usize =
            list.iter().map(|one| one.name.len().saturating_add(one.value.len()).saturating_add(5)).sum();
        let needed = list.iter().filter(|one| one.flags & 0x80 != 0).count();
        if let Some(odd) = list.iter().find(|one| one.flags & 0x7f != 0) {
            self.teller.tell(Rule::EaChain, spot, "flags 0 or 0x80", format!("{:#x}", odd.flags));
        }
        let spot =
            Spot::record(number).attribute(types::EA_INFORMATION, &[]).at(self.value_offset(information));
        let parsed = information.resident().and_then(|value| EaInformationDisk::read_from_prefix(value).ok());
        let Some((disk, _)) = parsed else { return Ok(0) };
        let found =
            (usize::from(disk.packed_len.get()), usize::from(disk.needed_count.get()), at(disk.len.get()));
        // libntfs leaves out the padding of the last one.
        let lengths = [bytes.len(), bytes.len().next_multiple_of(4)];
        if (found.0, found.1) != (packed, needed) || !lengths.contains(&found.2) {
            let expected = format!("packed {packed}, needed {needed}, {} bytes", bytes.len());
            self.teller.tell(
                Rule::EaInformation,
                spot,
                expected,
                format!("{}, {}, {}", found.0, found.1, found.2),
            );
        }
        Ok(u32::from(disk.packed_len.get()))
    }
}
