//! A small image with everything in it, made by the writers.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use gravure_blockimg::facts::{Facts, Outcome, Source, Volume};
use gravure_blockimg::{
    ChunkId, Cut, Cutter, Entry, Error, Exclusion, ExtentKind, FileSpan, Frame, FrameDecoder, FrameEncoder,
    FrameKind, ImageFile, ImageWriter, Location, PackBuilder, RegionBuilder, Root, UsedSpan, write_location,
};

/// Facts that never change.
pub(crate) fn facts() -> Facts {
    Facts {
        version: 1,
        name: "golden".into(),
        writer: "test".into(),
        source: Source { name: "disk".into(), size_bytes: 1 << 30, sector_bytes: 512, ..Source::default() },
        volumes: vec![Volume { size_bytes: 1 << 20, content: "ext4".into(), ..Volume::default() }],
        ..Facts::default()
    }
}

fn content(number: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7) as u8 ^ number).collect()
}

fn frame(encoder: &mut FrameEncoder, contents: &[Vec<u8>]) -> Frame {
    let entries =
        contents.iter().map(|content| Entry { id: ChunkId::of(content), len: content.len() as u32 });
    encoder.frame(FrameKind::Data, entries.collect(), &contents.concat()).unwrap()
}

/// Two regions with data, one without; a chunk that occurs twice.
pub(crate) fn small_image(signature: Option<&[u8]>) -> Vec<u8> {
    let mut encoder = FrameEncoder::new(1).unwrap();
    let mut writer = ImageWriter::new(Vec::new(), &facts()).unwrap();
    let groups = [vec![content(1, 600), content(2, 512)], vec![content(3, 700)]];
    let mut builder = RegionBuilder::new(0);
    let mut regions = Vec::new();
    let mut first = None;
    for group in &groups {
        for part in group {
            builder.push(ExtentKind::Data(ChunkId::of(part)), part.len() as u64);
        }
        builder.push(ExtentKind::Zero, 4096);
        builder.push(ExtentKind::Discard, 1000);
        builder.push(ExtentKind::Discard, 24);
        builder.push(ExtentKind::Excluded(Exclusion::PageFile), 512);
        builder.push(ExtentKind::Unreadable, 512);
        builder.push(ExtentKind::Data(ChunkId::of(&groups[0][0])), 600);
        let region = builder.finish();
        writer.table(&region.table).unwrap();
        let placed = writer.frame(&frame(&mut encoder, group)).unwrap();
        let first = *first.get_or_insert(placed);
        let mut locations = Vec::new();
        let mut put = |placed: gravure_blockimg::Placed, entry| {
            let location = Location { frame_offset: placed.offset, frame_len: placed.len, entry };
            write_location(&mut locations, &location);
        };
        (0..group.len()).for_each(|entry| put(placed, entry as u32));
        put(first, 0);
        writer.locations(&locations).unwrap();
        regions.push(region.region);
    }
    builder.push(ExtentKind::Discard, 1 << 30);
    let region = builder.finish();
    writer.table(&region.table).unwrap();
    regions.push(region.region);
    let root = Root {
        size: regions.iter().map(|region| region.len).sum(),
        sector_bytes: 512,
        facts: writer.facts(),
        outcome: Outcome { chunks: 5, ..Outcome::default() },
        regions,
    };
    writer.finish(&root, signature).unwrap().0
}

/// A pack with small and large contents.
pub(crate) fn small_pack() -> Vec<u8> {
    let mut encoder = FrameEncoder::new(1).unwrap();
    let mut pack = PackBuilder::default();
    pack.push(&frame(&mut encoder, &[content(1, 600), content(2, 512)]));
    pack.push(&frame(&mut encoder, &[content(3, 3000)]));
    pack.push(&encoder.single(FrameKind::Table, b"a table").unwrap());
    pack.finish().unwrap().1
}

/// Every content of an image file, in the order of its regions, each checked.
pub(crate) fn contents(image: &[u8]) -> Result<(String, Vec<Vec<u8>>), Error> {
    let source = image.to_vec();
    let file = ImageFile::open(&source)?;
    let mut decoder = FrameDecoder::new()?;
    let mut out = Vec::new();
    for index in 0..file.root.regions.len() {
        let extents = file.extents(&source, &mut decoder, index)?;
        let locations = file.locations(&source, &mut decoder, index, &extents)?;
        let chunks = extents.iter().filter_map(|extent| extent.id());
        for (id, location) in chunks.zip(locations) {
            let frame = Frame::read(&source, location.frame_offset)?;
            let mut plain = Vec::new();
            decoder.decode(&frame, &mut plain)?;
            let entry = location.entry as usize;
            let start: usize = frame.header.entries.iter().take(entry).map(|entry| entry.len as usize).sum();
            let found = frame.header.entries.get(entry).filter(|entry| entry.id == id);
            let Some(found) = found else {
                let (what, offset, expected) = ("chunk", location.frame_offset, id);
                return Err(Error::Mismatch { what, offset, expected, found: ChunkId::of(b"") });
            };
            out.push(plain[start..start + found.len as usize].to_vec());
        }
    }
    Ok((format!("{:?} {:?} {:?}", file.facts, file.root, file.signature), out))
}

/// Seeds for single structures.
pub(crate) struct Parts {
    /// With the length of the region in front.
    pub(crate) table: Vec<u8>,
    pub(crate) root: Vec<u8>,
    pub(crate) frame: Vec<u8>,
}

pub(crate) fn parts(image: &[u8]) -> Parts {
    let source = image.to_vec();
    let file = ImageFile::open(&source).unwrap();
    let mut builder = RegionBuilder::new(0);
    let extents = file.extents(&source, &mut FrameDecoder::new().unwrap(), 0).unwrap();
    extents.iter().for_each(|extent| builder.push(extent.kind, extent.len));
    let table = builder.finish();
    let mut frame_bytes = Vec::new();
    let contents = [content(1, 600), content(2, 512)];
    frame(&mut FrameEncoder::new(1).unwrap(), &contents).write(&mut frame_bytes);
    Parts {
        table: [table.region.len.to_le_bytes().to_vec(), table.table].concat(),
        root: file.root.to_bytes().unwrap(),
        frame: frame_bytes,
    }
}

/// Cuts a device with these spans and checks what comes out.
pub(crate) fn check_cuts(size: u64, spans: &[(u64, u64, bool)], files: &[(u64, u64, u64, u64)]) {
    let mut end = 0;
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let mut used = Vec::new();
    for (offset, len, excluded) in sorted {
        let start = offset.max(end);
        let span_end = (offset + len).min(size);
        if start < span_end {
            let excluded = excluded.then_some(Exclusion::Swap);
            used.push(UsedSpan { offset: start, len: span_end - start, excluded });
            end = span_end;
        }
    }
    let mut file_end = 0;
    let mut sorted = files.to_vec();
    sorted.sort_unstable();
    let mut file_spans = Vec::new();
    for (offset, len, file_offset, content) in sorted {
        if offset >= file_end {
            file_spans.push(FileSpan { offset, len, file_offset, content: content.min(len) });
            file_end = offset + len;
        }
    }
    let (mut pos, mut region_start, mut data_bytes) = (0, 0, 0);
    for cut in Cutter::new(size, used.iter().copied(), file_spans.iter().copied()) {
        match cut {
            Cut::Data { offset, len } => {
                assert_eq!(offset, pos);
                assert!(len > 0 && len <= 1 << 20);
                pos += u64::from(len);
                data_bytes += u64::from(len);
                assert!(used.iter().any(|span| span.excluded.is_none()
                    && span.offset <= offset
                    && span.offset + span.len >= pos));
            }
            Cut::Hole { offset, len, excluded } => {
                assert_eq!(offset, pos);
                assert!(len > 0);
                pos += len;
                let covered = used.iter().find(|span| span.offset < pos && span.offset + span.len > offset);
                assert_eq!(covered.and_then(|span| span.excluded), excluded);
                assert!(covered.is_none_or(|span| span.excluded.is_some()));
            }
            Cut::RegionEnd => {
                assert!(
                    pos > region_start && (pos == size || pos % gravure_blockimg::limits::REGION_BYTES == 0)
                );
                region_start = pos;
            }
        }
    }
    assert_eq!((pos, region_start), (size, size));
    let kept: u64 = used.iter().filter(|span| span.excluded.is_none()).map(|span| span.len).sum();
    assert_eq!(data_bytes, kept);
}
