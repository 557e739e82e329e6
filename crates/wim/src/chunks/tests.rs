//! Chunk tables of all kinds, and what is refused in them.

use gravure_nttypes::Guid;

use super::*;
use crate::compression::Method;
use crate::header::{HEADER_BYTES, HeaderFlags};

fn header(layout: Layout) -> Header {
    let absent = ResourceHeader::default();
    Header {
        layout,
        allows_solid: true,
        flags: HeaderFlags::default(),
        compression: Some(Compression::new(Method::Xpress, 1 << 12).unwrap()),
        guid: Guid::default(),
        part: 1,
        parts: 1,
        image_count: 0,
        blob_table: absent,
        xml: absent,
        boot_metadata: absent,
        boot_number: 0,
        integrity: absent,
    }
}

/// Reads the layout of a resource that is all of the file behind the header.
fn layout_of(
    stored: &[u8],
    size: u64,
    flags: u8,
    layout: Layout,
    limits: &Limits,
) -> Result<ResourceLayout, Error> {
    let mut file = vec![0; 208];
    file.extend_from_slice(stored);
    let place = ResourceHeader {
        stored_size: stored.size(),
        flags: ResourceFlags(flags),
        offset: HEADER_BYTES,
        size,
    };
    let solid = (flags & 0x10 != 0).then(|| SolidHeader::read(&file, &place)).transpose()?;
    ResourceLayout::read(&file, &Resource { header: place, solid }, &header(layout), limits)
}

fn message(stored: &[u8], size: u64, flags: u8) -> String {
    let error = layout_of(stored, size, flags, Layout::Normal, &Limits::default()).unwrap_err();
    assert_eq!(error.scope(), Scope::Blob);
    error.to_string()
}

/// Stored ranges relative to the resource, plain lengths, and whether raw.
fn shape(layout: &ResourceLayout) -> Vec<(Range<u64>, u32, bool)> {
    let relative = |range: Range<u64>| range.start - HEADER_BYTES..range.end - HEADER_BYTES;
    layout
        .chunks(0..u64::MAX)
        .map(|chunk| (relative(chunk.stored), chunk.plain_len, chunk.encoding == ChunkEncoding::Raw))
        .collect()
}

/// Two entries of a table, then three chunks of 10, 4096 and 7 bytes.
fn chunked() -> Vec<u8> {
    let mut stored = Vec::new();
    for entry in [10u32, 10 + 4096] {
        stored.extend_from_slice(&entry.to_le_bytes());
    }
    stored.resize(8 + 10 + 4096 + 7, 0xcc);
    stored
}

fn solid(size: u64, chunk_size: u32, method: u32, sizes: &[u32], data: usize) -> Vec<u8> {
    let mut stored = size.to_le_bytes().to_vec();
    for number in [chunk_size, method].iter().chain(sizes) {
        stored.extend_from_slice(&number.to_le_bytes());
    }
    stored.resize(stored.len() + data, 0xcc);
    stored
}

#[test]
fn a_table_comes_first_and_full_chunks_are_raw() {
    let layout = layout_of(&chunked(), 8200, 4, Layout::Normal, &Limits::default()).unwrap();
    let expected = [(8..18, 4096, false), (18..4114, 4096, true), (4114..4121, 8, false)];
    assert_eq!(shape(&layout), expected);
    assert_eq!((layout.size(), layout.chunk_count(), layout.chunk_size()), (8200, 3, 4096));
    let touched: Vec<u64> = layout.chunks(4095..4097).map(|chunk| chunk.plain_offset).collect();
    assert_eq!(touched, [0, 4096]);
    assert_eq!(layout.chunks(8200..9000).count(), 0);
    assert_eq!(layout.chunk(3), None);
}

#[test]
fn a_pipable_table_comes_last_and_does_not_count_prefixes() {
    let mut stored = vec![0xcc; 4 + 10 + 4 + 4096 + 4 + 7];
    for entry in [10u32, 10 + 4096] {
        stored.extend_from_slice(&entry.to_le_bytes());
    }
    let layout = layout_of(&stored, 8200, 4, Layout::Pipable, &Limits::default()).unwrap();
    assert_eq!(shape(&layout), [(4..14, 4096, false), (18..4114, 4096, true), (4118..4125, 8, false)]);
}

#[test]
fn raw_resources_come_in_pieces() {
    let piece = u64::from(RAW_PIECE_BYTES);
    let stored = vec![0; RAW_PIECE_BYTES as usize + 5];
    let layout = layout_of(&stored, stored.size(), 0, Layout::Normal, &Limits::default()).unwrap();
    assert_eq!(shape(&layout), [(0..piece, RAW_PIECE_BYTES, true), (piece..piece + 5, 5, true)]);
}

#[test]
fn solid_resources_have_a_size_for_every_chunk() {
    let stored = solid(8200, 4096, 1, &[10, 4096, 7], 10 + 4096 + 7);
    let layout = layout_of(&stored, 0, 0x10, Layout::Normal, &Limits::default()).unwrap();
    assert_eq!(shape(&layout), [(28..38, 4096, false), (38..4134, 4096, true), (4134..4141, 8, false)]);
    let stored = solid(4100, 4096, 0, &[4096, 4], 4100);
    let layout = layout_of(&stored, 0, 0x10, Layout::Normal, &Limits::default()).unwrap();
    assert_eq!(shape(&layout), [(24..4120, 4096, true), (4120..4124, 4, true)]);
}

#[test]
fn entries_have_8_bytes_above_4_gib() {
    // A plain size of 2^32 in 4 KiB chunks takes 2^20 - 1 entries; every chunk here is raw but the last.
    let mut stored: Vec<u8> = (1u64..1 << 20).flat_map(|n| n.to_le_bytes()).collect();
    let table_len = stored.size();
    stored.resize(stored.len() + (1 << 20), 1);
    let layout = layout_of(&stored, 1 << 32, 4, Layout::Normal, &Limits::default()).unwrap();
    assert_eq!(layout.chunk_count(), 1 << 20);
    let last = layout.chunk((1 << 20) - 1).unwrap();
    assert_eq!(last.stored, HEADER_BYTES + table_len + (1 << 20) - 1..HEADER_BYTES + stored.size());
    assert_eq!((last.plain_offset, last.plain_len), ((1 << 32) - 4096, 4096));
}

#[test]
fn tables_that_break_the_rules_are_refused() {
    let with = |at: usize, entry: u32| {
        let mut stored = chunked();
        stored[at..at + 4].copy_from_slice(&entry.to_le_bytes());
        message(&stored, 8200, 4)
    };
    assert_eq!(with(0, 0), "stored size of chunk 0 at 0xd0: expected 1 to 4096, found 0");
    assert_eq!(with(0, 9), "stored size of chunk 1 at 0xd0: expected 1 to 4096, found 4097");
    assert_eq!(with(0, 5000), "stored size of chunk 0 at 0xd0: expected 1 to 4096, found 5000");
    assert_eq!(
        with(4, 9),
        "stored size of chunk 1 at 0xd0: expected 1 to 4096, found end 0x9 before start 0xa"
    );
    assert!(with(4, 4115).contains("stored size of chunk 1"), "{}", with(4, 4115));
    assert_eq!(with(4, 4103), "stored size of chunk 2 at 0xd0: expected 1 to 8, found 10");
    let room = "expected room for 268435456 chunks and their table, found 4121 bytes";
    assert!(message(&chunked(), 1 << 40, 4).contains(room), "{}", message(&chunked(), 1 << 40, 4));
    assert!(message(&chunked(), u64::MAX, 4).contains("room for"), "no overflow");
    assert!(message(&chunked(), 0, 4).contains("stored size of chunk 0"), "no chunk, but bytes");
    assert_eq!(
        message(&[0; 9], 8, 0),
        "stored size of a raw resource at 0xd0: expected 8 bytes as the content, found 9"
    );
}

#[test]
fn solid_headers_that_break_the_rules_are_refused() {
    let cases = [
        (solid(10, 4096, 4, &[10], 10), "method of a solid resource at 0xdc: expected 0 to 3, found 4"),
        (
            solid(10, 12345, 1, &[10], 10),
            "chunk size at 0xd8: expected power of two from 4096 to 65536 for XPRESS, found 12345",
        ),
        (solid(10, 12345, 0, &[10], 10), "chunk size at 0xd8: expected power of two from 4096, found 12345"),
        (
            solid(10, 4096, 1, &[10], 11),
            "chunk sizes of a solid resource at 0xe0: expected 11 bytes in all, found 10",
        ),
        (solid(4096, 4096, 1, &[0], 0), "stored size of chunk 0 at 0xe0: expected 1 to 4096, found 0"),
        (solid(4096, 4096, 0, &[7], 7), "stored size of chunk 0 at 0xe0: expected 1 to 4096, found 7"),
        (solid(1 << 40, 4096, 1, &[10], 10), "room for 268435456 chunks"),
        (
            solid(1 << 30, 1 << 30, 3, &[10], 10),
            "chunk size of a solid resource at 0xd0: 1073741824 is above the limit of 67108864",
        ),
    ];
    for (stored, expected) in cases {
        let found = message(&stored, 0, 0x10);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn tables_above_the_limit_are_refused() {
    let limits = Limits { max_chunk_table_bytes: 7, ..Limits::default() };
    let error = layout_of(&chunked(), 8200, 4, Layout::Normal, &limits).unwrap_err();
    assert_eq!(error.to_string(), "chunk table at 0xd0: 8 is above the limit of 7");
}

#[test]
fn compressed_resources_need_a_compressed_file() {
    let mut file = vec![0; 208];
    file.extend_from_slice(&chunked());
    let place = ResourceHeader { stored_size: 4121, flags: ResourceFlags(4), offset: 208, size: 8200 };
    let header = Header { compression: None, ..header(Layout::Normal) };
    let error =
        ResourceLayout::read(&file, &Resource { header: place, solid: None }, &header, &Limits::default());
    assert_eq!(
        error.unwrap_err().to_string(),
        "resource flags at 0xd0: expected no compressed resource in a file without compression, found 0x4"
    );
}

#[test]
fn chunks_larger_than_may_be_held_are_refused_unless_the_resource_is_small() {
    let read = |size: u64| {
        let header =
            Header { compression: Compression::new(Method::Lzms, 1 << 30).ok(), ..header(Layout::Normal) };
        let mut file = vec![0; 208];
        file.extend_from_slice(&[1; 12]);
        let flags = ResourceFlags(0x04);
        let place = ResourceHeader { stored_size: 12, flags, offset: HEADER_BYTES, size };
        ResourceLayout::read(&file, &Resource { header: place, solid: None }, &header, &Limits::default())
    };
    assert_eq!(shape(&read(64 << 20).unwrap()), [(0..12, 64 << 20, false)]);
    let error = read((64 << 20) + 1).unwrap_err();
    assert_eq!(error.scope(), Scope::Blob);
    assert!(error.to_string().contains("chunk size"), "{error}");
}
