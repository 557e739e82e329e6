//! Blob tables: what is skipped, what is refused, how solid runs are resolved.

use gravure_nttypes::Guid;
use zerocopy::byteorder::little_endian::{U16, U32};

use super::*;
use crate::compression::Compression;
use crate::error::Opened;
use crate::header::{HeaderFlags, Layout};

fn header() -> Header {
    let absent = ResourceHeader::default();
    Header {
        layout: Layout::Normal,
        allows_solid: true,
        flags: HeaderFlags::default(),
        compression: Some(Compression::LZX_32K),
        guid: Guid::default(),
        part: 1,
        parts: 2,
        image_count: 2,
        blob_table: absent,
        xml: absent,
        boot_metadata: absent,
        boot_number: 0,
        integrity: absent,
    }
}

/// Stored size, flags, offset, size; part; references; first byte of the hash.
type Row = ((u64, u8, u64, u64), u16, u32, u8);

fn table(rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::new();
    for ((stored_size, flags, offset, size), part, references, hash) in rows {
        let resource = ResourceHeader {
            stored_size: *stored_size,
            flags: ResourceFlags(*flags),
            offset: *offset,
            size: *size,
        };
        let mut sha1 = [0; 20];
        sha1[0] = *hash;
        let entry = BlobEntryDisk {
            resource: resource.to_disk().unwrap(),
            part: U16::new(*part),
            references: U32::new(*references),
            sha1,
        };
        out.extend_from_slice(entry.as_bytes());
    }
    out
}

/// A file with solid headers of 100 plain bytes at 300 and of 50 at 400.
fn source() -> Vec<u8> {
    let mut file = vec![0; 500];
    file[300] = 100;
    file[400] = 50;
    file
}

fn parse_with(rows: &[Row], header: &Header) -> Result<Opened<BlobTable>, Error> {
    let mut warnings = Warnings::default();
    let table = BlobTable::parse(&table(rows), header, &source(), &mut warnings)?;
    Ok(warnings.finish(table))
}

fn parse(rows: &[Row]) -> Opened<BlobTable> {
    parse_with(rows, &header()).unwrap()
}

fn message(rows: &[Row]) -> String {
    let error = parse_with(rows, &header()).unwrap_err();
    assert_eq!(error.scope(), Scope::File);
    error.to_string()
}

/// Hash, resource, offset and size of each blob.
fn places(table: &BlobTable) -> Vec<(u8, u32, u64, u64)> {
    let place = |blob: &Blob| (blob.sha1.0[0], blob.resource.0, blob.offset, blob.size);
    table.blobs.iter().map(place).collect()
}

const MARKER: u64 = SOLID_RESOURCE_MARKER;
const FIRST: Row = ((90, 0x10, 300, MARKER), 1, 1, 0);
const SECOND: Row = ((60, 0x10, 400, MARKER), 1, 1, 0);

fn blob(hash: u8) -> Row {
    ((10, 0, 208, 10), 1, 1, hash)
}

fn in_run(hash: u8, offset: u64, size: u64) -> Row {
    ((size, 0x10, offset, 0), 1, 1, hash)
}

#[test]
fn useless_entries_are_skipped_with_a_reason() {
    use BlobEntryIssue as Issue;
    let opened = parse(&[
        blob(1),
        blob(0),
        ((0, 0, 208, 0), 1, 1, 2),
        ((10, 0, 208, 10), 2, 1, 3),
        blob(1),
        ((10, 2, 208, 10), 1, 1, 4),
        ((10, 2, 208, 10), 1, 0, 5),
        ((10, 2, 208, 10), 1, 1, 4),
        ((10, 2, 208, 10), 1, 1, 6),
    ]);
    assert_eq!(places(&opened.value), [(1, 0, 0, 10)]);
    assert_eq!(opened.value.images.len(), 2);
    let mut sha1 = Sha1Hash::ZERO;
    sha1.0[0] = 1;
    let expected = [
        (1, Issue::ZeroHash),
        (2, Issue::ZeroSize),
        (3, Issue::OtherPart(2)),
        (4, Issue::Duplicate(sha1)),
        (8, Issue::ExcessImage),
    ];
    assert_eq!(opened.warnings, expected.map(|(entry, reason)| Warning::BlobEntry { entry, reason }));
}

#[test]
fn a_part_behind_the_first_has_no_images() {
    let header = Header { part: 2, ..header() };
    let opened = parse_with(&[((10, 2, 208, 10), 2, 1, 4)], &header).unwrap();
    assert_eq!(opened.value.images.len(), 0);
    let reason = BlobEntryIssue::MetadataOutsidePart1;
    assert_eq!(opened.warnings, [Warning::BlobEntry { entry: 0, reason }]);
}

#[test]
fn bytes_behind_the_last_entry_are_told() {
    let mut bytes = table(&[blob(1)]);
    bytes.extend([1; 49]);
    let mut warnings = Warnings::default();
    let parsed = BlobTable::parse(&bytes, &header(), &source(), &mut warnings).unwrap();
    assert_eq!(parsed.blobs.len(), 1);
    let reason = BlobEntryIssue::PartialEntry;
    assert_eq!(warnings.finish(()).warnings, [Warning::BlobEntry { entry: 1, reason }]);
}

#[test]
fn a_run_is_one_address_space_in_any_order() {
    let expected = [(1, 0, 0, 10), (2, 1, 0, 50), (3, 0, 90, 10)];
    let orders: [&[Row]; 3] = [
        &[FIRST, in_run(1, 0, 10), SECOND, in_run(2, 100, 50), in_run(3, 90, 10)],
        &[in_run(1, 0, 10), in_run(2, 100, 50), in_run(3, 90, 10), FIRST, SECOND],
        &[FIRST, SECOND, in_run(1, 0, 10), in_run(2, 100, 50), in_run(3, 90, 10)],
    ];
    for rows in orders {
        assert_eq!(places(&parse(rows).value), expected);
    }
}

#[test]
fn another_entry_ends_a_run() {
    let opened = parse(&[FIRST, in_run(1, 0, 10), blob(9), SECOND, in_run(2, 0, 50)]);
    assert_eq!(places(&opened.value), [(1, 0, 0, 10), (9, 1, 0, 10), (2, 2, 0, 50)]);
}

#[test]
fn without_version_e00_the_solid_bit_means_nothing() {
    let header = Header { allows_solid: false, ..header() };
    let opened = parse_with(&[((10, 0x10, 208, 10), 1, 1, 7)], &header).unwrap();
    assert_eq!(places(&opened.value), [(7, 0, 0, 10)]);
    assert_eq!(opened.value.resources[0].header.flags, ResourceFlags(0));
}

#[test]
fn what_makes_the_whole_table_unreadable() {
    assert_eq!(
        message(&[((10, 2, 208, 10), 1, 2, 4)]),
        "blob table entry 0: reference count of a metadata resource at 0x0: expected 0 or 1, found 2"
    );
    assert_eq!(
        message(&[blob(1), ((10, 0x12, 208, 10), 1, 1, 4)]),
        "blob table entry 1: flags of a solid entry at 0x32: expected neither metadata nor chunk-compressed, found 0x12"
    );
    assert!(message(&[((10, 0x14, 208, 10), 1, 1, 4)]).contains("found 0x14"));
    assert_eq!(
        message(&[FIRST, in_run(1, 91, 10)]),
        "blob table entry 1: place in the solid run at 0x32: expected inside one of the run's 1 resources (100 bytes), \
         found 10 bytes at 0x5b"
    );
    // Across the border of two resources.
    assert!(message(&[FIRST, SECOND, in_run(1, 95, 10)]).contains("place in the solid run"));
    assert!(message(&[in_run(1, 0, 10)]).contains("run's 0 resources"));
    assert!(message(&[FIRST, in_run(1, u64::MAX, 10)]).contains("place in the solid run"));
    assert_eq!(
        message(&[FIRST, in_run(1, 0, 10), in_run(2, 9, 5)]),
        "blob table entry 2: offset in the solid resource at 0x64: expected at or behind 0xa, where the blob of entry 1 \
         ends, found 0x9"
    );
    assert_eq!(
        message(&[((15, 0x10, 300, MARKER), 1, 1, 0)]),
        "stored size of a solid resource at 0x12c: expected at least 16, found 15"
    );
    assert!(message(&[((90, 0x10, 450, MARKER), 1, 1, 0)]).contains("inside 500 bytes"));
    assert_eq!(
        message(&[((90, 0x10, 300, MARKER), 2, 1, 0)]),
        "blob table entry 0: part of a solid resource at 0x0: expected 1, found 2"
    );
}
