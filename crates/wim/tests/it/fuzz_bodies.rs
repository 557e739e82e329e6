//! The fuzz bodies as plain tests: seeds that are valid, cut at every byte, flipped and random.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::pipable_support as pipable;
use crate::trees;

use std::sync::LazyLock;

use crate::support::{make_wim, open, options};
use gravure_testkit::Random;
use gravure_wim::{Compression, Method, WriteOptions, fuzz};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Small files with everything in them, in several compressions; always the same ones.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let compressions = [None, Some(Compression::LZX_32K), Compression::new(Method::Xpress, 1 << 12).ok()];
    let small = |tree: &gravure_tree::Tree| {
        (0..tree.node_count()).len() > 8
            && tree.walk().all(|step| {
                tree.node(step.entry.node)
                    .contents()
                    .all(|content| content.size < 100 || content.size > 40_000)
            })
    };
    let mut seeds = Vec::new();
    while seeds.len() < compressions.len() {
        let tree = trees::tree(14).new_tree(&mut runner).unwrap().current();
        let compression = compressions[seeds.len()];
        let wim = make_wim(&tree, &WriteOptions { compression, ..options() });
        if small(&tree) && wim.len() < 60_000 {
            seeds.push(wim);
        }
    }
    seeds
});

struct Parts {
    header: Vec<u8>,
    blob_table: Vec<u8>,
    xml: Vec<u8>,
    integrity: Vec<u8>,
    metadata: Vec<u8>,
    /// With the selector that the chunk table body wants.
    chunks: Vec<u8>,
}

fn parts(file: &[u8]) -> Parts {
    let (wim, _) = open(file).unwrap();
    let header = wim.header();
    let cut = |place: &gravure_wim::ResourceHeader| {
        let start = usize::try_from(place.offset).unwrap();
        file[start..start + usize::try_from(place.stored_size).unwrap()].to_vec()
    };
    let image = wim.images().next().unwrap();
    let largest = wim.resources().iter().max_by_key(|resource| resource.header.size);
    let chunks = largest.map(|resource| {
        let mut out = vec![resource.header.flags.0];
        out.extend_from_slice(&resource.header.size.to_le_bytes());
        out.extend(cut(&resource.header));
        out
    });
    Parts {
        header: file[..208].to_vec(),
        blob_table: cut(&header.blob_table),
        xml: cut(&header.xml),
        integrity: cut(&header.integrity),
        metadata: wim.read_metadata(&file, image, &Default::default()).unwrap(),
        chunks: chunks.unwrap_or_default(),
    }
}

type Body = fn(&[u8]);

/// Every body with its seed from one file.
fn bodies(file: &[u8]) -> Vec<(Body, Vec<u8>)> {
    let parts = parts(file);
    vec![
        (fuzz::header, parts.header),
        (fuzz::blob_table, parts.blob_table),
        (fuzz::xml, parts.xml),
        (fuzz::integrity, parts.integrity),
        (fuzz::metadata, parts.metadata),
        (fuzz::chunk_table, parts.chunks),
    ]
}

#[test]
fn structures_cut_at_every_byte() {
    for file in SEEDS.iter() {
        for (body, seed) in bodies(file) {
            (0..=seed.len()).for_each(|len| body(&seed[..len]));
        }
    }
}

#[test]
fn whole_files_cut_at_every_byte_are_refused() {
    for file in SEEDS.iter() {
        fuzz::file(file);
        // Everything up to the end of the integrity table is needed.
        for len in 0..file.len() {
            let cut = file[..len].to_vec();
            fuzz::file(&cut);
            let opened = open(&cut);
            let integrity = opened.map(|(wim, _)| wim.read_integrity(&cut).map(|_| ()));
            assert!(!matches!(integrity, Ok(Ok(()))), "cut at {len} of {}", file.len());
        }
    }
}

#[test]
fn structures_with_flipped_bits_and_numbers() {
    let mut random = Random::new(11);
    for file in SEEDS.iter() {
        for (body, seed) in bodies(file) {
            for _ in 0..4000 {
                body(&damage(&seed, &mut random));
            }
        }
    }
}

#[test]
fn whole_files_with_flipped_bits_and_numbers() {
    let mut random = Random::new(12);
    for file in SEEDS.iter() {
        for _ in 0..1500 {
            fuzz::file(&damage(file, &mut random));
        }
        // Header and tables are where the damage is interesting.
        let tables = usize::try_from(open(file).unwrap().0.header().blob_table.offset).unwrap();
        for _ in 0..3000 {
            let mut changed = file.clone();
            for _ in 0..=random.below(2) {
                let in_header = random.once_in(2);
                let range = if in_header { 0..208 } else { tables..file.len() };
                let damaged = damage(&changed[range.clone()], &mut random);
                changed.splice(range.clone(), damaged.into_iter().chain([0; 8]).take(range.len()));
            }
            fuzz::file(&changed);
        }
    }
}

#[test]
fn pipes_cut_at_every_byte_and_with_flipped_bits_and_numbers() {
    let mut random = Random::new(13);
    for compression in [None, Some(Compression::LZX_32K), Compression::new(Method::Xpress, 1 << 12).ok()] {
        let file = pipable::make_pipable(&pipable::small_tree(), &WriteOptions { compression, ..options() });
        fuzz::pipe(&file);
        for len in 0..file.len() {
            fuzz::pipe(&file[..len]);
            let pipe = gravure_wim::PipeReader::open(&file[..len], &Default::default());
            assert!(pipe.and_then(|pipe| pipe.value.finish()).is_err(), "cut at {len} of {}", file.len());
        }
        for _ in 0..5000 {
            fuzz::pipe(&damage(&file, &mut random));
            fuzz::file(&damage(&file, &mut random));
        }
    }
}

/// Flips a bit, or puts an interesting number of 1 to 8 bytes somewhere.
fn damage(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = seed.to_vec();
    if out.is_empty() {
        return out;
    }
    for _ in 0..=random.below(3) {
        let at = usize::try_from(random.below(out.len() as u64)).unwrap();
        if random.once_in(2) {
            out[at] ^= 1 << random.below(8);
            continue;
        }
        let numbers =
            [0, 1, 7, 8, 0x66, 0xff, 0x7fff, 0xffff, 1 << 31, u64::from(u32::MAX), 1 << 62, u64::MAX];
        let number = random.pick(&numbers).unwrap().to_le_bytes();
        let len = *random.pick(&[1usize, 2, 4, 8]).unwrap();
        let aligned = at & !(len - 1);
        out.iter_mut().skip(aligned).zip(&number[..len]).for_each(|(to, from)| *to = *from);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        let bodies: [Body; 8] = [
            fuzz::header, fuzz::blob_table, fuzz::xml, fuzz::integrity, fuzz::metadata, fuzz::chunk_table, fuzz::file,
            fuzz::pipe,
        ];
        bodies.iter().for_each(|body| body(&data));
        // With a head that lets the body get further.
        let mut file = b"MSWIM\0\0\0\xd0\0\0\0\0\x0e\0\0".to_vec();
        file.extend_from_slice(&data);
        fuzz::file(&file);
        file[..5].copy_from_slice(b"WLPWM");
        fuzz::pipe(&file);
        let mut metadata = vec![8, 0, 0, 0, 0, 0, 0, 0, 0x68, 0, 0, 0, 0, 0, 0, 0, 0x10, 0];
        metadata.extend_from_slice(&data);
        fuzz::metadata(&metadata);
    }
}
