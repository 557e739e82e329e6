//! Bodies for fuzzing: any bytes must give a value or an error, in bounded time and memory. Replayed as plain tests
//! in `tests/it/fuzz_bodies.rs`.

use gravure_io::{Cursor, MemoryDisk, ReadAt};
use gravure_nttypes::Guid;
use gravure_tree::SourceId;

use crate::blobs::{BlobTable, Resource};
use crate::chunks::ResourceLayout;
use crate::error::Warnings;
use crate::header::{HEADER_BYTES, Header, HeaderFlags, Layout};
use crate::resource::{ResourceFlags, ResourceHeader};
use crate::solid::SolidHeader;
use crate::{
    BlobSet, ChunkDecoder, Compression, Error, IntegrityTable, Limits, Metadata, Method, PipeReader, Wim,
    WimInfo, WimWriter, metadata,
};

/// Content decoded per blob at most.
const MAX_CONTENT: u64 = 1 << 20;

/// Headers: what is read must be written with the same meaning.
pub fn header(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<208>() else {
        let _ = Header::read(&data.to_vec());
        return;
    };
    let Ok(header) = Header::parse(bytes, 0) else { return };
    let written = header.to_bytes().expect("a header that was read can be written");
    let again = Header::parse(&written, 0).expect("a header that was written can be read");
    let flagless = |header: Header| Header { flags: HeaderFlags::default(), ..header };
    assert_eq!(flagless(again), flagless(header));
}

/// Blob tables, of both versions; the table itself serves as the file in which solid headers are looked up.
pub fn blob_table(data: &[u8]) {
    let source = data.to_vec();
    for allows_solid in [false, true] {
        let mut warnings = Warnings::default();
        let _ = BlobTable::parse(data, &sample_header(allows_solid), &source, &mut warnings);
    }
}

/// Metadata resources: a tree that was read is written and read again without any change.
pub fn metadata(data: &[u8]) {
    let (blobs, limits) = (BlobSet::default(), Limits::default());
    let Ok(read) = metadata::parse(data, &blobs, &limits) else { return };
    let _ = crate::image_counts(&read.value);
    let Ok(written) = Metadata::from_tree(&read.value) else { return };
    let again =
        metadata::parse(&written.bytes, &blobs, &limits).expect("metadata that was written can be read");
    assert_eq!(again.value.node_count(), read.value.node_count());
    let rewritten = Metadata::from_tree(&again.value).expect("a tree that was written can be written");
    assert_eq!(rewritten, written);
}

/// XML documents: what is read survives being written.
pub fn xml(data: &[u8]) {
    let mut warnings = Warnings::default();
    let Ok(info) = WimInfo::parse(data, &mut warnings) else { return };
    for image in info.images() {
        let _ = (image.counts(), image.created(), image.windows());
    }
    let again =
        WimInfo::parse(&info.to_bytes(), &mut warnings).expect("a document that was written can be read");
    assert_eq!(again.image_count(), info.image_count());
}

/// Integrity tables over a file of a few KiB.
pub fn integrity(data: &[u8]) {
    let file = vec![0x5a; 4096];
    let Ok(table) = IntegrityTable::parse(data, HEADER_BYTES..4000, 0) else { return };
    table.verify(&file).expect("the file holds all that is covered");
    assert_eq!(table.to_bytes().expect("a table that was read can be written"), data);
}

/// Chunk tables of every kind of resource. The first bytes choose the kind and the plain size, the rest is the file.
pub fn chunk_table(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let (Ok(kind), Ok(size)) = (cursor.u8(), cursor.u64()) else { return };
    let mut file = vec![0; usize::try_from(HEADER_BYTES).unwrap_or_default()];
    file.extend_from_slice(cursor.rest());
    let place = ResourceHeader {
        stored_size: cursor.rest().size(),
        flags: ResourceFlags(kind & 0x04),
        offset: HEADER_BYTES,
        size,
    };
    let solid = (kind & 0x10 != 0).then(|| SolidHeader::read(&file, &place));
    let Ok(solid) = solid.transpose() else { return };
    let mut header = sample_header(true);
    header.layout = if kind & 1 == 0 { Layout::Normal } else { Layout::Pipable };
    let Ok(layout) =
        ResourceLayout::read(&file, &Resource { header: place, solid }, &header, &Limits::default())
    else {
        return;
    };
    let mut plain = 0u64;
    for chunk in layout.chunks(0..MAX_CONTENT.saturating_mul(64)) {
        assert_eq!(chunk.plain_offset, plain);
        assert!(chunk.stored.start >= place.offset && chunk.stored.end <= file.size());
        plain = plain.saturating_add(u64::from(chunk.plain_len));
    }
}

/// Whole files: everything in them is read, and an image is appended.
pub fn file(data: &[u8]) {
    let source = data.to_vec();
    let limits = Limits { max_metadata_bytes: MAX_CONTENT.saturating_mul(16), ..Limits::default() };
    let Ok(opened) = Wim::read(&source, &limits) else { return };
    let wim = opened.value;
    for image in wim.images() {
        let _ = wim.read_image(&source, image, SourceId(0), &limits);
    }
    for (id, _) in wim.blobs().take(100) {
        let _ = wim.read_blob(&source, id, MAX_CONTENT, &limits);
    }
    if let Ok(Some(table)) = wim.read_integrity(&source) {
        let _ = table.chunks().count();
    }
    let target = MemoryDisk::from_bytes(source);
    let Ok(writer) = WimWriter::append(&target, &wim) else { return };
    match writer.finish() {
        Ok(_) => {
            let again =
                Wim::read(&target, &limits).expect("a file that was read and appended to can be read").value;
            assert_eq!((again.image_count(), again.blobs().len()), (wim.image_count(), wim.blobs().len()));
        }
        // Sizes and offsets that add up to more than their fields hold.
        Err(Error::Unwritable { .. }) => {}
        Err(error) => panic!("appending to memory failed: {error}"),
    }
}

/// Pipable files as they come through a pipe: everything in them is read.
pub fn pipe(data: &[u8]) {
    let limits = Limits { max_metadata_bytes: MAX_CONTENT.saturating_mul(16), ..Limits::default() };
    let Ok(opened) = PipeReader::open(data, &limits) else { return };
    let mut pipe = opened.value;
    while let Ok(Some(metadata)) = pipe.read_metadata() {
        let _ = pipe.parse_image(&metadata);
    }
    let (mut stored, mut decoder) = (Vec::new(), ChunkDecoder::default());
    while let Ok(Some(resource)) = pipe.next_blob() {
        let mut plain_offset = 0u64;
        while let Ok(Some(chunk)) = pipe.read_chunk(&mut stored) {
            assert_eq!((chunk.plain_offset, stored.size()), (plain_offset, range_len(&chunk.stored)));
            plain_offset = plain_offset.saturating_add(u64::from(chunk.plain_len));
            assert!(plain_offset <= resource.size && pipe.position() <= data.size());
            let mut plain = vec![0; usize::try_from(chunk.plain_len).unwrap_or_default()];
            let _ = decoder.decode(&chunk, &stored, &mut plain);
            stored.clear();
        }
        stored.clear();
    }
    let _ = pipe.finish();
}

fn range_len(range: &std::ops::Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

fn sample_header(allows_solid: bool) -> Header {
    let absent = ResourceHeader::default();
    Header {
        layout: Layout::Normal,
        allows_solid,
        flags: HeaderFlags::default(),
        compression: Compression::new(Method::Xpress, 1 << 12).ok(),
        guid: Guid::default(),
        part: 1,
        parts: 1,
        image_count: 4,
        blob_table: absent,
        xml: absent,
        boot_metadata: absent,
        boot_number: 0,
        integrity: absent,
    }
}
