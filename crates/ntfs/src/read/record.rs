//! File records and the attributes in them, checked for shape: everything a reader may rely on.

use zerocopy::FromBytes;

use super::bytes::{at, part, u16_at, u32_at, u64_at, units, wide};
use super::fault::Fault;
use crate::disk::{
    END_MARK, GUARDED_BYTES, NON_RESIDENT_BYTES, NonResidentDisk, RECORD_MAGIC, RESIDENT_BYTES, RecordDisk,
    ResidentDisk,
};
use crate::rule::Rule;

/// Flags of attributes.
pub(crate) const COMPRESSED: u16 = 0x00ff;
pub(crate) const ENCRYPTED: u16 = 0x4000;
pub(crate) const SPARSE: u16 = 0x8000;
/// Log2 of the clusters in a unit at most: 64 KiB in clusters of 512 bytes are 7, some tools write more.
const MAX_UNIT: u8 = 20;

/// Undoes the update sequence of `block`: the last two bytes of every 512 are put back.
pub(crate) fn unprotect(block: &mut [u8]) -> Result<(), Fault> {
    let offset = usize::from(u16_at(block, 4).unwrap_or(0));
    let count = usize::from(u16_at(block, 6).unwrap_or(0));
    let expected = block.len().checked_div(GUARDED_BYTES).unwrap_or(0).saturating_add(1);
    if count != expected || !block.len().is_multiple_of(GUARDED_BYTES) {
        return Err(Fault::new(Rule::UpdateCount, 6, expected, count));
    }
    let end = offset.saturating_add(count.saturating_mul(2));
    // The array must not reach the two bytes that it guards itself.
    if !offset.is_multiple_of(2) || offset < 0x28 || end > GUARDED_BYTES.saturating_sub(2) {
        return Err(Fault::new(
            Rule::UpdatePlace,
            4,
            "an even offset inside the first 512 bytes",
            format!("{offset:#x}"),
        ));
    }
    let array: Vec<u8> = block.get(offset..end).unwrap_or_default().to_vec();
    let (number, kept) = array.split_at_checked(2).unwrap_or_default();
    // All are compared before any is put back.
    for (index, sector) in block.chunks_exact(GUARDED_BYTES).enumerate() {
        let found = sector.get(GUARDED_BYTES.saturating_sub(2)..).unwrap_or_default();
        if found != number {
            let pos = index.saturating_add(1).saturating_mul(GUARDED_BYTES).saturating_sub(2);
            return Err(Fault::new(
                Rule::UpdateNumber,
                pos,
                format!("{number:02x?}"),
                format!("{found:02x?}"),
            ));
        }
    }
    for (sector, kept) in block.chunks_exact_mut(GUARDED_BYTES).zip(kept.chunks_exact(2)) {
        if let (Some(last), Some(kept)) = (sector.last_chunk_mut::<2>(), kept.first_chunk::<2>()) {
            *last = *kept;
        }
    }
    Ok(())
}

/// A file record whose update sequence was undone and whose header was checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) head: RecordDisk,
}

impl<'a> Record<'a> {
    /// Checks the header.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let Ok((head, _)) = RecordDisk::read_from_prefix(bytes) else {
            return Err(Fault::new(Rule::RecordMagic, 0, "48 bytes", bytes.len()));
        };
        if head.magic != RECORD_MAGIC {
            return Err(Fault::new(Rule::RecordMagic, 0, "\"FILE\"", format!("{:02x?}", head.magic)));
        }
        let allocated = at(head.allocated.get());
        if allocated != bytes.len() {
            return Err(Fault::new(Rule::RecordAllocated, 0x1c, bytes.len(), allocated));
        }
        let (first, used) = (usize::from(head.first_attribute.get()), at(head.used.get()));
        let sequence_end = usize::from(head.update_offset.get())
            .saturating_add(usize::from(head.update_count.get()).saturating_mul(2));
        if !first.is_multiple_of(8) || first < sequence_end || first.saturating_add(8) > bytes.len() {
            let expected = format!("a multiple of 8 from {sequence_end:#x} on");
            return Err(Fault::new(Rule::RecordFirst, 0x14, expected, format!("{first:#x}")));
        }
        if !used.is_multiple_of(8) || used < first.saturating_add(8) || used > allocated {
            let expected = format!("a multiple of 8 from {} to {allocated}", first.saturating_add(8));
            return Err(Fault::new(Rule::RecordUsed, 0x18, expected, used));
        }
        Ok(Self { bytes, head })
    }

    /// The attributes, in order, up to the end mark or the first that cannot be parsed.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        let end = at(self.head.used.get()).min(self.bytes.len());
        Attributes {
            bytes: self.bytes.get(..end).unwrap_or_default(),
            pos: usize::from(self.head.first_attribute.get()),
            is_done: false,
        }
    }
}

/// Iterator over the attributes of a record.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a [u8],
    pos: usize,
    is_done: bool,
}

impl Attributes<'_> {
    /// Where the end mark stands, after the last attribute was taken.
    pub(crate) fn end(&self) -> usize {
        self.pos
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let rest = self.bytes.get(self.pos..).unwrap_or_default();
        match u32_at(rest, 0) {
            Some(END_MARK) => {
                self.is_done = true;
                None
            }
            None => {
                self.is_done = true;
                Some(Err(Fault::new(Rule::RecordEnd, self.pos, "an end mark", "the end of the record")))
            }
            Some(_) => {
                let attribute = Attribute::parse(rest, self.pos);
                match &attribute {
                    Ok(found) => self.pos = self.pos.saturating_add(found.len),
                    Err(_) => self.is_done = true,
                }
                Some(attribute)
            }
        }
    }
}

/// An attribute in a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    /// In the record.
    pub(crate) pos: usize,
    pub(crate) len: usize,
    pub(crate) kind: u32,
    /// UTF-16.
    pub(crate) name: &'a [u8],
    pub(crate) flags: u16,
    pub(crate) instance: u16,
    pub(crate) form: Form<'a>,
}

/// Where an attribute's value is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form<'a> {
    /// In the record.
    Resident {
        value: &'a [u8],
        /// In the record.
        pos: usize,
        indexed: u8,
    },
    /// In clusters.
    Clusters(Clusters<'a>),
}

impl Form<'_> {
    /// Where value or runs start in the record.
    pub(crate) fn start(&self) -> usize {
        match self {
            Self::Resident { pos, .. } => *pos,
            Self::Clusters(clusters) => clusters.pairs_pos,
        }
    }
}

/// An attribute in clusters, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clusters<'a> {
    pub(crate) lowest: u64,
    /// One past the last.
    pub(crate) end: u64,
    pub(crate) unit: u8,
    pub(crate) allocated: u64,
    pub(crate) size: u64,
    pub(crate) initialized: u64,
    /// Bytes without the holes, in the first part of sparse and compressed streams.
    pub(crate) on_disk: Option<u64>,
    pub(crate) pairs: &'a [u8],
    /// In the record.
    pub(crate) pairs_pos: usize,
}

impl<'a> Attribute<'a> {
    fn parse(rest: &'a [u8], pos: usize) -> Result<Self, Fault> {
        let fault = |rule, field: usize, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
            Fault::new(rule, pos.saturating_add(field), expected, found)
        };
        let len = at(u32_at(rest, 4).unwrap_or(0));
        let Some(bytes) = rest.get(..len).filter(|_| len.is_multiple_of(8) && len >= RESIDENT_BYTES) else {
            let expected = format!("a multiple of 8 from {RESIDENT_BYTES} to {}", rest.len());
            return Err(fault(Rule::AttributeLength, 4, &expected, &len));
        };
        let Ok((head, _)) = ResidentDisk::read_from_prefix(bytes) else {
            return Err(fault(Rule::AttributeLength, 4, &RESIDENT_BYTES, &len));
        };
        let name_len = usize::from(head.name_len).saturating_mul(2);
        let name_offset = usize::from(head.name_offset.get());
        let form = match head.non_resident {
            0 => Self::resident(bytes, pos, &head),
            1 => Self::clusters(bytes, pos, head.flags.get()),
            other => Err(fault(Rule::AttributeForm, 8, &"0 or 1", &other)),
        }?;
        let least = match form {
            Form::Resident { .. } => RESIDENT_BYTES,
            Form::Clusters(_) => NON_RESIDENT_BYTES,
        };
        let name = match name_len {
            0 => Some(&[][..]),
            // Names stand before values and runs.
            _ => part(bytes, name_offset, name_len).filter(|_| {
                let end = pos.saturating_add(name_offset).saturating_add(name_len);
                name_offset >= least && name_offset.is_multiple_of(2) && end <= form.start()
            }),
        };
        let name = name.ok_or_else(|| {
            let found = format!("{name_len} bytes at {name_offset:#x} of {len}");
            fault(Rule::AttributeName, 0x0a, &"a name inside the attribute", &found)
        })?;
        let (kind, flags, instance) = (head.attribute_type.get(), head.flags.get(), head.instance.get());
        Ok(Self { pos, len, kind, name, flags, instance, form })
    }

    fn resident(bytes: &'a [u8], pos: usize, head: &ResidentDisk) -> Result<Form<'a>, Fault> {
        let (offset, len) = (usize::from(head.value_offset.get()), at(head.value_len.get()));
        let value = part(bytes, offset, len).filter(|_| offset >= RESIDENT_BYTES && offset.is_multiple_of(8));
        let value = value.ok_or_else(|| {
            let found = format!("{len} bytes at {offset:#x} of {}", bytes.len());
            Fault::new(Rule::AttributeValue, pos.saturating_add(0x10), "a value inside the attribute", found)
        })?;
        Ok(Form::Resident { value, pos: pos.saturating_add(offset), indexed: head.indexed })
    }

    fn clusters(bytes: &'a [u8], pos: usize, flags: u16) -> Result<Form<'a>, Fault> {
        let fault = |rule, field: usize, expected: &str, found: &dyn std::fmt::Display| {
            Fault::new(rule, pos.saturating_add(field), expected, found)
        };
        let Ok((head, _)) = NonResidentDisk::read_from_prefix(bytes) else {
            return Err(fault(Rule::AttributeLength, 4, "64 or more", &bytes.len()));
        };
        let (lowest, highest) = (head.lowest_vcn.get(), head.highest_vcn.get());
        // A stream without clusters ends before its first one.
        let end = highest.wrapping_add(1);
        if end < lowest || end > 1 << 54 {
            return Err(fault(
                Rule::VcnRange,
                0x18,
                "not before the first cluster",
                &format_args!("{highest:#x} after {lowest:#x}"),
            ));
        }
        if head.compression_unit > MAX_UNIT {
            return Err(fault(Rule::CompressionUnit, 0x22, "0 to 20", &head.compression_unit));
        }
        let has_on_disk = lowest == 0 && flags & (COMPRESSED | SPARSE) != 0;
        let on_disk = if has_on_disk {
            let value = u64_at(bytes, NON_RESIDENT_BYTES);
            Some(value.ok_or_else(|| fault(Rule::AttributeLength, 4, "72 or more", &bytes.len()))?)
        } else {
            None
        };
        let least = if has_on_disk { 0x48 } else { NON_RESIDENT_BYTES };
        let offset = usize::from(head.runs_offset.get());
        let pairs = bytes.get(offset..).filter(|pairs| offset >= least && !pairs.is_empty());
        let pairs = pairs.ok_or_else(|| {
            fault(Rule::RunsPlace, 0x20, "runs inside the attribute", &format_args!("{offset:#x}"))
        })?;
        Ok(Form::Clusters(Clusters {
            lowest,
            end,
            unit: head.compression_unit,
            allocated: head.allocated.get(),
            size: head.size.get(),
            initialized: head.initialized.get(),
            on_disk,
            pairs,
            pairs_pos: pos.saturating_add(offset),
        }))
    }

    /// The value when it stands in the record.
    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        match self.form {
            Form::Resident { value, .. } => Some(value),
            Form::Clusters(_) => None,
        }
    }

    /// Bytes of the stream.
    pub(crate) fn size(&self) -> u64 {
        match self.form {
            Form::Resident { value, .. } => wide(value.len()),
            Form::Clusters(clusters) => clusters.size,
        }
    }

    /// The name's units.
    pub(crate) fn name_units(&self) -> Vec<u16> {
        units(self.name)
    }
}
