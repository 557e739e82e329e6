//! Bodies for fuzzing: any bytes must give a value or an error, in bounded time and memory. Replayed as plain tests in
//! `tests/it/fuzz_bodies.rs`.

use crate::{
    ChunkId, Frame, FrameDecoder, ImageFile, ImageStream, RegionBuilder, Root, StreamItem, parse_locations,
    parse_table, read_pack,
};

/// Regions and frames looked at per file.
const MAX_STEPS: usize = 1000;

/// Tables: what is read must be written with the same bytes, where neighbours of one kind are one.
pub fn table(data: &[u8]) {
    let Some((len, table)) = data.split_first_chunk::<8>() else { return };
    let len = u64::from_le_bytes(*len) & ((1 << 48) - 1);
    let _ = parse_locations(table, table.len() / 16, len);
    let Ok(extents) = parse_table(table, 0, len) else { return };
    let mut builder = RegionBuilder::new(0);
    extents.iter().for_each(|extent| builder.push(extent.kind, extent.len));
    let written = builder.finish();
    let again = parse_table(&written.table, 0, len).expect("a table that was written can be read");
    let sum = |list: &[crate::Extent]| list.iter().map(|extent| u128::from(extent.len)).sum::<u128>();
    assert_eq!(sum(&again), u128::from(len));
    assert_eq!(sum(&extents), u128::from(len));
}

/// Roots: what is read must be written with the same meaning.
pub fn root(data: &[u8]) {
    let Ok(root) = Root::parse(data) else { return };
    let written = root.to_bytes().expect("a root that was read can be written");
    assert_eq!(Root::parse(&written).expect("a root that was written can be read"), root);
}

/// Frames: what decodes has the hashes it is listed under.
pub fn frame(data: &[u8]) {
    let Ok(frame) = Frame::parse(data, 0) else { return };
    let mut written = Vec::new();
    frame.write(&mut written);
    assert!(data.starts_with(&written) || data.get(7) != Some(&0), "a frame is written as it was read");
    let Ok(mut decoder) = FrameDecoder::new() else { return };
    let mut out = Vec::new();
    if decoder.decode(&frame, &mut out).is_ok() {
        let first = frame.header.entries.first().map(|entry| (entry.id, entry.len));
        let (id, len) = first.expect("a frame has an entry");
        let content = out.get(..usize::try_from(len).unwrap_or(usize::MAX));
        assert_eq!(content.map(ChunkId::of), Some(id));
    }
}

/// Whole files: everything that can be reached is read.
pub fn file(data: &[u8]) {
    let source = data.to_vec();
    let Ok(file) = ImageFile::open(&source) else { return };
    let Ok(mut decoder) = FrameDecoder::new() else { return };
    let mut plain = Vec::new();
    for index in 0..file.root.regions.len().min(MAX_STEPS) {
        let Ok(extents) = file.extents(&source, &mut decoder, index) else { continue };
        let Ok(locations) = file.locations(&source, &mut decoder, index, &extents) else { continue };
        for location in locations.iter().take(MAX_STEPS) {
            if let Ok(frame) = Frame::read(&source, location.frame_offset) {
                let _ = decoder.decode(&frame, &mut plain);
            }
        }
    }
}

/// The same from a stream.
pub fn stream(data: &[u8]) {
    let Ok(mut stream) = ImageStream::open(data) else { return };
    for _ in 0..MAX_STEPS {
        match stream.next_item() {
            Ok(StreamItem::End { .. }) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Packs: an index that is read names frames that are there.
pub fn pack(data: &[u8]) {
    let source = data.to_vec();
    let Ok(index) = read_pack(&source) else { return };
    for entry in index.entries.iter().take(MAX_STEPS) {
        let _ = Frame::read(&source, entry.frame_offset);
    }
}
