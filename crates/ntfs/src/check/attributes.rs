//! Rules of single attributes and their place in a record.

use super::finding::{Spot, Teller};
use crate::disk::{
    NON_RESIDENT_BYTES, RESIDENT_BYTES, UpCase, attribute_type as types, encode_runs, numbers,
};
use crate::read::boot::BootSector;
use crate::read::bytes::wide;
use crate::read::node::SECURITY_DESCRIPTOR;
use crate::read::record::{Attribute, COMPRESSED, ENCRYPTED, Form, Record, SPARSE};
use crate::read::runs::{Holes, decode_runs};
use crate::read::volume::NAME_INDEX;
use crate::rule::Rule;

const LOGGED_UTILITY_STREAM: u32 = 0x100;
const PROPERTY_SET: u32 = 0xf0;
const SPARSE_UNIT_BYTES: u64 = 64 << 10;

/// What may be said of a type of attributes.
struct Kind {
    kind: u32,
    place: Place,
    /// Smallest and largest value in a record, bytes.
    sizes: (u64, u64),
    named: Named,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Record,
    Clusters,
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Never,
    Always,
    May,
}

const fn kind(kind: u32, place: Place, least: u64, most: u64, named: Named) -> Kind {
    Kind { kind, place, sizes: (least, most), named }
}

/// Values from $AttrDef of version 3.1 and from what drivers insist on.
const KINDS: [Kind; 16] = [
    kind(types::STANDARD_INFORMATION, Place::Record, 0x30, 0x48, Named::Never),
    kind(types::ATTRIBUTE_LIST, Place::Any, 0, 256 << 10, Named::Never),
    kind(types::FILE_NAME, Place::Record, 0x44, 0x242, Named::Never),
    kind(types::OBJECT_ID, Place::Record, 0x10, 0x40, Named::Never),
    kind(SECURITY_DESCRIPTOR, Place::Any, 0x14, 0x1_0000, Named::Never),
    kind(types::VOLUME_NAME, Place::Record, 0, 0x100, Named::Never),
    kind(types::VOLUME_INFORMATION, Place::Record, 0xc, 0xc, Named::Never),
    kind(types::DATA, Place::Any, 0, u64::MAX, Named::May),
    kind(types::INDEX_ROOT, Place::Record, 0x30, u64::MAX, Named::Always),
    kind(types::INDEX_ALLOCATION, Place::Clusters, 0, u64::MAX, Named::Always),
    kind(types::BITMAP, Place::Any, 0, u64::MAX, Named::May),
    kind(types::REPARSE_POINT, Place::Any, 8, 0x4000, Named::Never),
    kind(types::EA_INFORMATION, Place::Record, 8, 8, Named::Never),
    kind(types::EA, Place::Any, 8, 0x1_0000, Named::Never),
    kind(PROPERTY_SET, Place::Any, 0, u64::MAX, Named::May),
    kind(LOGGED_UTILITY_STREAM, Place::Any, 0, 0x1_0000, Named::May),
];

/// Checks all attributes of a record. `start` is its absolute offset.
pub(super) fn check(
    record: &Record<'_>,
    number: u32,
    start: u64,
    boot: &BootSector,
    upcase: &UpCase,
    teller: &mut Teller<'_>,
) {
    let mut before: Option<Attribute<'_>> = None;
    let mut instances = Vec::new();
    let mut attributes = record.attributes();
    let mut is_whole = true;
    for attribute in attributes.by_ref() {
        let attribute = match attribute {
            Ok(attribute) => attribute,
            Err(fault) => {
                teller.fault(Spot::record(number), start, &fault);
                is_whole = false;
                break;
            }
        };
        let name = attribute.name_units();
        let spot = Spot::record(number)
            .attribute(attribute.kind, &name)
            .at(start.saturating_add(wide(attribute.pos)));
        if let Some(before) = before {
            check_order(&before, &attribute, upcase, spot, teller);
        }
        if instances.contains(&attribute.instance) {
            teller.tell(
                Rule::InstanceTwice,
                spot,
                "a number that no other attribute has",
                attribute.instance,
            );
        }
        let next = record.head.next_instance.get();
        if attribute.instance >= next {
            teller.tell(Rule::InstanceNext, spot, format!("a number below {next}"), attribute.instance);
        }
        instances.push(attribute.instance);
        check_kind(&attribute, number, &name, spot, teller);
        check_flags(&attribute, &name, boot.cluster_bytes, spot, teller);
        check_layout(&attribute, boot, spot, teller);
        before = Some(attribute);
    }
    if is_whole {
        let used = crate::read::bytes::at(record.head.used.get());
        let expected = attributes.end().saturating_add(8);
        if used != expected {
            let spot = Spot::record(number).at(start.saturating_add(0x18));
            teller.tell(Rule::RecordUsed, spot, expected, used);
        }
    }
}

fn check_order(
    before: &Attribute<'_>,
    now: &Attribute<'_>,
    upcase: &UpCase,
    spot: Spot<'_>,
    teller: &mut Teller<'_>,
) {
    let lowest = |attribute: &Attribute<'_>| match attribute.form {
        Form::Resident { .. } => 0,
        Form::Clusters(clusters) => clusters.lowest,
    };
    let order =
        before.kind.cmp(&now.kind).then_with(|| upcase.collate(&before.name_units(), &now.name_units()));
    // A file has several names; parts of a stream stand in order.
    let is_fine =
        order.is_lt() || (order.is_eq() && (now.kind == types::FILE_NAME || lowest(before) < lowest(now)));
    if !is_fine {
        let name = |attribute: &Attribute<'_>| {
            format!("{:#x} {:?}", attribute.kind, String::from_utf16_lossy(&attribute.name_units()))
        };
        teller.tell(Rule::AttributeOrder, spot, format!("an attribute behind {}", name(before)), name(now));
    }
}

fn check_kind(attribute: &Attribute<'_>, number: u32, name: &[u16], spot: Spot<'_>, teller: &mut Teller<'_>) {
    let Some(kind) = KINDS.iter().find(|kind| kind.kind == attribute.kind) else {
        teller.tell(Rule::AttributeType, spot, "a type that $AttrDef has", format!("{:#x}", attribute.kind));
        return;
    };
    let is_resident = matches!(attribute.form, Form::Resident { .. });
    match kind.place {
        Place::Record if !is_resident => {
            teller.tell(Rule::AttributeForm, spot, "a value in the record", "clusters");
        }
        Place::Clusters if is_resident => {
            teller.tell(Rule::AttributeForm, spot, "clusters", "a value in the record")
        }
        _ => {}
    }
    // The bitmap of the MFT itself has no name, those of indexes have that of their index.
    let named = match (kind.kind, number) {
        (types::BITMAP, numbers::MFT) => Named::Never,
        (types::BITMAP, _) => Named::Always,
        _ => kind.named,
    };
    match (named, name.is_empty()) {
        (Named::Never, false) => {
            teller.tell(Rule::AttributeName, spot, "no name", String::from_utf16_lossy(name))
        }
        (Named::Always, true) => teller.tell(Rule::AttributeName, spot, "the name of an index", "none"),
        _ => {}
    }
    if name.iter().any(|unit| matches!(*unit, 0 | 0x2f | 0x3a | 0x5c)) {
        teller.tell(
            Rule::AttributeName,
            spot,
            "units other than zero, /, \\ and :",
            String::from_utf16_lossy(name),
        );
    }
    let (least, most) = kind.sizes;
    let is_first = !matches!(attribute.form, Form::Clusters(clusters) if clusters.lowest > 0);
    let size = attribute.size();
    if is_first && !(least..=most).contains(&size) {
        teller.tell(Rule::AttributeSize, spot, format!("{least} to {most} bytes"), size);
    }
    if let Some(value) = attribute.value() {
        let expected = match attribute.kind {
            types::STANDARD_INFORMATION if !matches!(value.len(), 0x30 | 0x48) => "48 or 72 bytes",
            types::FILE_NAME if value.len() != super::names::exact_len(value) => {
                "a value that ends with its name"
            }
            types::OBJECT_ID if !value.len().is_multiple_of(16) => "whole identifiers of 16 bytes",
            types::VOLUME_NAME if !value.len().is_multiple_of(2) => "whole units of UTF-16",
            _ => return,
        };
        teller.tell(Rule::AttributeSize, spot, expected, format!("{} bytes", value.len()));
    }
}

/// Nothing stands between header, name, and value or runs; runs have their shortest form. Drivers do not mind.
fn check_layout(attribute: &Attribute<'_>, boot: &BootSector, spot: Spot<'_>, teller: &mut Teller<'_>) {
    let head = match attribute.form {
        Form::Resident { .. } => RESIDENT_BYTES,
        Form::Clusters(clusters) if clusters.on_disk.is_some() => NON_RESIDENT_BYTES.saturating_add(8),
        Form::Clusters(_) => NON_RESIDENT_BYTES,
    };
    let start = attribute.form.start().saturating_sub(attribute.pos);
    let expected = head.saturating_add(attribute.name.len()).next_multiple_of(8);
    // libntfs leaves room for the field of sparse streams everywhere.
    let is_clusters = matches!(attribute.form, Form::Clusters(_));
    let has_room = is_clusters && !teller.is_strict() && start == expected.saturating_add(8);
    if start != expected && !has_room {
        teller.tell(
            Rule::AttributeGap,
            spot,
            format!("value or runs at {expected:#x}"),
            format!("{start:#x}"),
        );
    }
    let len = match attribute.form {
        Form::Resident { value, .. } => start.saturating_add(value.len()).next_multiple_of(8),
        Form::Clusters(clusters) => {
            let Ok((runs, len)) = decode_runs(clusters.pairs, boot.clusters, Holes::Allowed) else { return };
            let mut shortest = Vec::new();
            encode_runs(&runs, &mut shortest);
            if clusters.pairs.get(..len) != Some(&shortest) {
                teller.tell(
                    Rule::RunForm,
                    spot,
                    format!("runs in {} bytes", shortest.len()),
                    format!("{len}"),
                );
            }
            start.saturating_add(len).next_multiple_of(8)
        }
    };
    if attribute.len != len {
        teller.tell(Rule::AttributeGap, spot, format!("{len} bytes, as the value ends there"), attribute.len);
    }
}

fn check_flags(
    attribute: &Attribute<'_>,
    name: &[u16],
    cluster_bytes: u64,
    spot: Spot<'_>,
    teller: &mut Teller<'_>,
) {
    let flags = attribute.flags;
    // Directories whose new files are to be compressed say so in their index root.
    let allowed = match attribute.kind {
        types::DATA => SPARSE | ENCRYPTED | 1,
        types::INDEX_ROOT if name == NAME_INDEX => ENCRYPTED | 1,
        _ => 0,
    };
    if flags & !allowed != 0 {
        teller.tell(Rule::AttributeFlags, spot, format!("bits of {allowed:#x}"), format!("{flags:#x}"));
    }
    match attribute.form {
        Form::Resident { indexed, .. } => {
            let expected = u8::from(attribute.kind == types::FILE_NAME);
            if indexed != expected {
                teller.tell(Rule::IndexedFlag, spot, expected, indexed);
            }
        }
        Form::Clusters(clusters) => {
            let is_compressed = flags & COMPRESSED != 0;
            if is_compressed && clusters.unit == 0 {
                teller.tell(Rule::CompressionUnit, spot, "a unit, as the stream is compressed", 0);
            }
            if flags & (SPARSE | COMPRESSED) == 0 && clusters.unit != 0 {
                teller.tell(
                    Rule::CompressionUnit,
                    spot,
                    "0, as the stream is neither sparse nor compressed",
                    clusters.unit,
                );
            }
            // A unit is 16 clusters, or 64 KiB in clusters that are larger than 4 KiB.
            let units = SPARSE_UNIT_BYTES.checked_div(cluster_bytes).unwrap_or(0).max(1);
            let is_usual = u32::from(clusters.unit) == units.trailing_zeros() || clusters.unit == 4;
            if clusters.lowest == 0 && flags & SPARSE != 0 && !is_usual {
                teller.tell(
                    Rule::SparseUnit,
                    spot,
                    "units of 64 KiB",
                    format!("2^{} clusters", clusters.unit),
                );
            }
            let is_metadata =
                matches!(attribute.kind, types::ATTRIBUTE_LIST | types::INDEX_ALLOCATION | types::BITMAP);
            // ntfs-3g counts a bitmap it makes longer in units of 8 bytes, of which it writes what it needs; the rest reads as zeros.
            let unwritten = clusters.size.checked_sub(clusters.initialized);
            let is_lagging = attribute.kind == types::BITMAP
                && !teller.is_strict()
                && unwritten.is_some_and(|bytes| bytes < 8);
            if is_metadata && clusters.lowest == 0 && clusters.initialized != clusters.size && !is_lagging {
                let expected = format!("{} bytes written, as many as it has", clusters.size);
                teller.tell(Rule::Initialized, spot, expected, clusters.initialized);
            }
        }
    }
}
