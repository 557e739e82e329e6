//! The fuzz bodies as plain tests: seeds that are valid, cut at every byte, flipped and random. And what the three forms promise
//! of damaged bytes.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::support;

use gravure_blockimg::{
    ChunkId, Encoding, Entry, Error, FrameDecoder, FrameHeader, FrameKind, ImageFile, ImageStream,
    StreamItem, fuzz, read_pack,
};
use gravure_testkit::Random;
use proptest::prelude::*;
use support::{small_image, small_pack};

type Body = fn(&[u8]);

#[test]
fn whole_files_cut_at_every_byte_are_refused() {
    let image = small_image(Some(b"signature"));
    for len in 0..image.len() {
        let cut = image[..len].to_vec();
        fuzz::file(&cut);
        fuzz::stream(&cut);
        assert!(ImageFile::open(&cut).is_err(), "cut at {len} of {}", image.len());
        assert!(drain(&cut).is_err(), "stream cut at {len} of {}", image.len());
    }
    drain(&image).unwrap();
}

/// Reads a stream to its end, decoding what is in it.
fn drain(bytes: &[u8]) -> Result<(), gravure_blockimg::Error> {
    let mut stream = ImageStream::open(bytes)?;
    let mut decoder = FrameDecoder::new()?;
    let mut plain = Vec::new();
    loop {
        match stream.next_item()? {
            StreamItem::Data(frame) => decoder.decode(&frame, &mut plain)?,
            StreamItem::Table(..) => {}
            StreamItem::End { .. } => return Ok(()),
        }
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let image = small_image(Some(b"signature"));
    let clean = support::contents(&image).unwrap();
    for at in 0..image.len() {
        let mut bad = image.clone();
        bad[at] ^= 1 << (at % 8);
        // What is not found must not matter: reserved bytes.
        if let Ok(contents) = support::contents(&bad) {
            assert_eq!(contents, clean, "byte {at}");
        }
    }
}

#[test]
fn damage_of_a_frame_header_is_never_taken_for_a_newer_version() {
    let entry = Entry { id: ChunkId::of(b"content"), len: 7 };
    let header = FrameHeader::new(FrameKind::Data, Encoding::Zstd, 7, vec![entry]).unwrap();
    let mut bytes = Vec::new();
    header.write(&mut bytes);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = FrameHeader::parse(&bytes, 0).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "bit {bit}: {error}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(FrameHeader::parse(&bytes, 0).unwrap(), header);
}

#[test]
fn structures_cut_and_damaged() {
    let mut random = Random::new(7);
    let (image, pack) = (small_image(None), small_pack());
    let parts = support::parts(&image);
    let seeds: [(Body, &[u8]); 6] = [
        (fuzz::table, &parts.table),
        (fuzz::root, &parts.root),
        (fuzz::frame, &parts.frame),
        (fuzz::file, &image),
        (fuzz::stream, &image),
        (fuzz::pack, &pack),
    ];
    for (body, seed) in seeds {
        (0..=seed.len()).for_each(|len| body(&seed[..len]));
        for _ in 0..3000 {
            body(&damage(seed, &mut random));
        }
    }
}

#[test]
fn the_index_of_a_pack_can_be_made_anew() {
    let pack = small_pack();
    let whole = read_pack(&pack).unwrap();
    assert!(whole.damage.is_none() && whole.entries.len() > 3);
    // Everything but the frames themselves may be lost.
    let frames_end = whole.entries.iter().map(|entry| entry.frame_offset + u64::from(entry.frame_len)).max();
    for len in usize::try_from(frames_end.unwrap()).unwrap()..pack.len() {
        let rebuilt = read_pack(&pack[..len].to_vec()).unwrap();
        assert!(rebuilt.damage.is_some());
        assert_eq!(rebuilt.entries, whole.entries, "cut at {len}");
    }
}

/// Flips a bit, or puts an interesting number of 1 to 8 bytes somewhere.
fn damage(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = usize::try_from(random.below(out.len() as u64)).unwrap();
        if random.once_in(2) {
            out[at] ^= 1 << random.below(8);
            continue;
        }
        let numbers = [0, 1, 7, 0xff, 0xffff, 1 << 31, u64::from(u32::MAX), 1 << 47, 1 << 62, u64::MAX];
        let number = random.pick(&numbers).unwrap().to_le_bytes();
        let len = *random.pick(&[1usize, 2, 4, 8]).unwrap();
        out.iter_mut().skip(at).zip(&number[..len]).for_each(|(to, from)| *to = *from);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        let bodies: [Body; 6] =
            [fuzz::table, fuzz::root, fuzz::frame, fuzz::file, fuzz::stream, fuzz::pack];
        bodies.iter().for_each(|body| body(&data));
        fuzz::root(&[b"GIMROOT\0\x01\0\0\0\0\x02\0\0".as_slice(), &data].concat());
    }

    /// Whatever is used: the pieces cover the device once, in order, and none is too large.
    #[test]
    fn cuts_cover_the_device(
        spans in prop::collection::vec((0u64..1 << 27, 1u64..1 << 23, any::<bool>()), 0..20),
        files in prop::collection::vec((0u64..1 << 27, 1u64..1 << 22, 0u64..1 << 30, 0u64..1 << 22), 0..20),
        size in 1u64..1 << 28,
    ) {
        support::check_cuts(size, &spans, &files);
    }
}
