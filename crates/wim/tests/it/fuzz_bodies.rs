//! The fuzz bodies as plain tests: seeds that are valid, cut at every byte, flipped and random.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::pipable_support as pipable;
use crate::trees;

use std::sync::LazyLock;

use crate::support::{make_wim, open, options};
use gravure_codec::Level;
use gravure_io::MemoryDisk;
use gravure_testkit::Random;
use gravure_tree::{Origin, Sha1Hash, Tree};
use gravure_wim::{
    ChunkData, Compression, ImageInfo, Limits, Metadata, Method, PipableWriter, PipeReader, WimInfo,
    WimWriter, WriteOptions, fuzz,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sha1::{Digest, Sha1};

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

/// The other forms a file can have, small, and always the same: named, with whether they come through a pipe.
static FORMS: LazyLock<Vec<(&'static str, Vec<u8>, bool)>> = LazyLock::new(|| {
    let new = |method, size| Compression::new(method, size).unwrap();
    let lzms = Some(new(Method::Lzms, 1 << 15));
    let tree = pipable::small_tree();
    let with = |compression| WriteOptions { compression, ..options() };
    let normal = |compression| make_wim(&tree, &with(compression));
    let mut forms = vec![
        ("LZMS", normal(lzms), false),
        ("solid LZMS", solid(&tree, lzms, new(Method::Lzms, 1 << 17)), false),
        ("solid LZX", solid(&tree, Some(Compression::LZX_32K), new(Method::Lzx, 1 << 15)), false),
        ("delta", delta(&tree), false),
        ("pipable LZMS", pipable::make_pipable(&tree, &with(lzms)), true),
    ];
    for part in 1..=2 {
        forms.push(("part of a set", split_part(&tree, part), false));
    }
    let whole = pipable::make_pipable(&tree, &with(Some(Compression::LZX_32K)));
    let set: Vec<Vec<u8>> = (1..=2).map(|part| pipable_part(&whole, part)).collect();
    forms.push(("pipable set in one pipe", set.concat(), true));
    forms.extend(set.into_iter().map(|part| ("part of a pipable set", part, true)));
    forms
});

/// The contents of a tree, in order, each once.
fn contents(tree: &Tree) -> Vec<(Sha1Hash, Vec<u8>)> {
    let mut found: Vec<(Sha1Hash, Vec<u8>)> = Vec::new();
    for step in tree.walk() {
        for content in tree.node(step.entry.node).contents() {
            let Origin::Inline(bytes) = &content.origin else { continue };
            let sha1 = Sha1Hash(Sha1::digest(bytes).into());
            if !bytes.is_empty() && found.iter().all(|(known, _)| *known != sha1) {
                found.push((sha1, bytes.to_vec()));
            }
        }
    }
    found
}

/// The tree with the hashes of its contents.
fn hashed(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    let ids: Vec<_> = tree.walk().map(|step| step.entry.node).collect();
    for id in ids {
        for content in tree.node_mut(id).contents_mut() {
            if let Origin::Inline(bytes) = &content.origin {
                content.sha1 = (!bytes.is_empty()).then(|| Sha1Hash(Sha1::digest(bytes).into()));
            }
        }
    }
    tree
}

/// Writes to memory what `fill` does, and the tree as the image.
fn written(tree: &Tree, options: &WriteOptions, fill: impl Fn(&mut WimWriter<'_>)) -> Vec<u8> {
    let target = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&target, options).unwrap();
    fill(&mut writer);
    let metadata = Metadata::from_tree(&hashed(tree)).unwrap();
    writer.add_image(&metadata, ImageInfo::new("n"), Level::Fast).unwrap();
    let written = writer.finish_with_integrity().unwrap();
    let mut bytes = target.to_vec();
    bytes.truncate(usize::try_from(written.size).unwrap());
    bytes
}

fn solid(tree: &Tree, compression: Option<Compression>, solid: Compression) -> Vec<u8> {
    let all = contents(tree);
    let plain: Vec<u8> = all.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    written(tree, &WriteOptions { compression, ..options() }, |writer| {
        writer.allow_solid();
        writer.begin_solid(solid, plain.len() as u64).unwrap();
        let mut offset = 0;
        for (sha1, bytes) in &all {
            writer.note_solid_blob(*sha1, offset, bytes.len() as u64).unwrap();
            offset += bytes.len() as u64;
        }
        let mut encoder = solid.encoder(Level::Fast).unwrap();
        for chunk in plain.chunks(solid.chunk_size() as usize) {
            let mut out = vec![0; chunk.len()];
            let len = encoder.encode(chunk, &mut out);
            let data = len.map_or(ChunkData::Raw(chunk), |len| ChunkData::Compressed(&out[..len]));
            writer.append_solid_chunk(data, u32::try_from(chunk.len()).unwrap()).unwrap();
        }
        writer.finish_solid().unwrap();
    })
}

/// An image whose contents are elsewhere, but for one.
fn delta(tree: &Tree) -> Vec<u8> {
    let options = WriteOptions { allow_missing_blobs: true, ..options() };
    written(tree, &options, |writer| {
        writer.add_blob(&contents(tree)[0].1, Level::Fast).unwrap();
    })
}

fn split_part(tree: &Tree, part: u16) -> Vec<u8> {
    let target = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&target, &options()).unwrap();
    let mut info = WimInfo::default();
    info.push_image(ImageInfo::new("n"));
    writer.set_part(part, 2, &info).unwrap();
    for (number, (_, bytes)) in contents(tree).iter().enumerate() {
        if number % 2 == usize::from(part) % 2 {
            writer.add_blob(bytes, Level::Fast).unwrap();
        }
    }
    if part == 1 {
        let metadata = Metadata::from_tree(&hashed(tree)).unwrap();
        writer.add_image(&metadata, ImageInfo::new("n"), Level::Fast).unwrap();
    }
    let written = writer.finish_with_integrity().unwrap();
    let mut bytes = target.to_vec();
    bytes.truncate(usize::try_from(written.size).unwrap());
    bytes
}

fn pipable_part(whole: &[u8], part: u16) -> Vec<u8> {
    let source = whole.to_vec();
    let (wim, _) = open(&source).unwrap();
    let mut out = Vec::new();
    let references: Vec<_> = wim.blobs().map(|(_, blob)| (blob.sha1, blob.references)).collect();
    let mut writer =
        PipableWriter::create_part(&mut out, &source, &wim, (part, 2), &references, true).unwrap();
    for (number, (id, _)) in wim.blobs().enumerate() {
        if number % 2 == usize::from(part) % 2 {
            writer.copy_blob(&source, &wim, id).unwrap();
        }
    }
    writer.finish().unwrap();
    out
}

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

#[test]
fn every_form_cut_and_with_flipped_bits_and_numbers() {
    let mut random = Random::new(14);
    for (name, file, is_piped) in FORMS.iter() {
        assert!(file.len() < 300_000, "{name}: {} bytes", file.len());
        // As a file several parts in one make no sense.
        assert!(open(file).is_ok() || name.contains("in one pipe"), "{name}");
        if *is_piped && !name.starts_with("part") {
            let (_, blobs) = pipe_to_end(file).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(blobs, contents(&pipable::small_tree()).len(), "{name}");
        }
        let step = (file.len() / 1500).max(1);
        for len in (0..file.len()).step_by(step).chain(file.len().saturating_sub(300)..file.len()) {
            let cut = file[..len].to_vec();
            fuzz::file(&cut);
            if *is_piped {
                // As a file its front is a header that says nothing of tables: only a pipe knows that more is to come.
                fuzz::pipe(&cut);
                assert!(pipe_to_end(&cut).is_err(), "{name} cut at {len}");
            } else {
                let opened = open(&cut).map(|(wim, _)| wim.read_integrity(&cut).map(|_| ()));
                assert!(!matches!(opened, Ok(Ok(()))), "{name} cut at {len}");
            }
        }
        for _ in 0..1000 {
            let damaged = damage(file, &mut random);
            fuzz::file(&damaged);
            fuzz::pipe(&damaged);
        }
    }
}

/// Images and blobs of a pipe that comes to its end.
fn pipe_to_end(bytes: &[u8]) -> Result<(usize, usize), gravure_wim::Error> {
    let mut pipe = PipeReader::open(bytes, &Limits::default())?.value;
    let mut images = 0;
    while let Some(metadata) = pipe.read_metadata()? {
        pipe.parse_image(&metadata)?;
        images += 1;
    }
    let mut blobs = 0;
    while pipe.next_blob()?.is_some() {
        blobs += 1;
    }
    let (_, listed) = pipe.finish()?;
    assert_eq!(listed.len(), blobs);
    Ok((images, blobs))
}

#[test]
fn shared_vectors_as_seeds() {
    let Some(dir) = gravure_testkit::shared_dir() else {
        return gravure_testkit::skipped("no shared vectors");
    };
    let mut random = Random::new(15);
    let mut files: Vec<_> =
        std::fs::read_dir(dir.join("vectors/wim")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension != "json"));
    files.sort();
    assert!(files.len() > 40, "{} files", files.len());
    for path in files {
        let file = std::fs::read(path).unwrap();
        let body = if file.starts_with(b"WLPWM") { fuzz::pipe as Body } else { fuzz::file as Body };
        body(&file);
        // Small ones are all structure.
        let rounds = if file.len() < 5000 { 400 } else { 40 };
        for _ in 0..rounds {
            body(&damage(&file, &mut random));
            let mut changed = file.clone();
            let header = damage(&changed[..208], &mut random);
            changed[..208].copy_from_slice(&header);
            fuzz::file(&changed);
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
