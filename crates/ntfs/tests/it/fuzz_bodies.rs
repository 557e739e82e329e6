//! The fuzz bodies as plain tests: a whole volume spoiled at random, cut, and pieces of it.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use crate::support::patch::Patcher;
use crate::support::{FormGuide, compressed, file, noise, options, volume_of_forms, windows_builder};
use gravure_codec::Method;
use gravure_ntfs::{WofAlgorithm, fuzz};
use gravure_nttypes::FileAttributes;
use gravure_testkit::{Random, full_run, seed};

/// As small as a volume with everything can be: files compressed by each algorithm of the overlay filter and one with holes among it.
fn small() -> Vec<u8> {
    let mut b = windows_builder(60);
    let root = b.tree.root();
    let mut guide = FormGuide::default();
    for (algorithm, method, chunk) in FORMS {
        let content = [noise(9000, 4), b"what repeats ".repeat(4000)].concat();
        let id = b.file(root, &format!("compact {algorithm:?}"), &content);
        guide.stored.insert(id, (algorithm, compressed(&content, method, chunk)));
    }
    let mut node = file(&[noise(65_536, 1), vec![0; 196_608], noise(65_536, 2), vec![0; 70_000]].concat());
    node.attributes |= FileAttributes::SPARSE;
    b.add(root, "with holes", None, node);
    volume_of_forms(&b.tree, &options(12 << 20), &guide)
}

const FORMS: [(WofAlgorithm, Method, usize); 4] = [
    (WofAlgorithm::Xpress4K, Method::Xpress, 4096),
    (WofAlgorithm::Lzx, Method::Lzx, 32_768),
    (WofAlgorithm::Xpress8K, Method::Xpress, 8192),
    (WofAlgorithm::Xpress16K, Method::Xpress, 16_384),
];

/// Where metadata is: most random bytes of a volume are content that nobody judges.
fn interesting(p: &Patcher) -> Vec<(usize, usize)> {
    let blocks = |number, kind, name| (p.clusters(number, kind, name), 8192);
    vec![
        (0, 512),
        (p.record(0), p.count() * p.record_bytes),
        blocks(5, 0xa0, "$I30"),
        blocks(p.find("WinSxS"), 0xa0, "$I30"),
        blocks(9, 0x80, "$SDS"),
        blocks(9, 0xa0, "$SII"),
        blocks(p.find("$ObjId"), 0xa0, "$O"),
        (p.clusters(p.find("popular"), 0x20, ""), 4096),
        (p.clusters(6, 0x80, ""), 512),
        (p.clusters(p.find("with holes"), 0x80, ""), 512),
    ]
    .into_iter()
    .chain(FORMS.map(|(algorithm, ..)| {
        (p.clusters(p.find(&format!("compact {algorithm:?}")), 0x80, "WofCompressedData"), 600)
    }))
    .collect()
}

/// Spoils `places` again and again, with a few bytes at a time.
fn spoil(p: &mut Patcher, places: &[(usize, usize)], rounds: u32) -> u32 {
    let mut random = Random::new(seed());
    let mut found = 0;
    for round in 0..rounds {
        for _ in 0..=random.below(12) {
            let (start, len) = *random.pick(places).unwrap();
            let pos = usize::try_from(random.below(len as u64)).unwrap();
            let byte = [0, 0xff, 0x80, random.below(256) as u8][usize::try_from(random.below(4)).unwrap()];
            // Half of the changes pass the update sequences.
            p.set(start + pos, &[byte]);
        }
        fuzz::volume(&p.bytes);
        found += u32::from(fuzz::checked(&p.bytes).is_none_or(|report| report.errors > 0));
        if round % 5 == 0 {
            fuzz::changed(&p.bytes);
        }
        p.undo();
    }
    found
}

#[test]
fn a_volume_spoiled_at_random_is_read_or_refused_and_its_check_ends() {
    let mut p = Patcher::new(small());
    fuzz::volume(&p.bytes);
    assert_eq!(fuzz::checked(&p.bytes).map(|report| (report.errors, report.notes)), Some((0, 0)));
    assert_eq!(fuzz::changed(&p.bytes), 3);
    let places = interesting(&p);
    let rounds = if full_run() { 3000 } else { 150 };
    let found = spoil(&mut p, &places, rounds);
    assert!(found > rounds / 2, "{found} of {rounds}");
}

/// The same with streams that ntfs-3g compressed.
#[test]
fn a_compressed_volume_spoiled_at_random_is_read_or_refused() {
    let Some(bytes) = crate::faults_compressed::volume() else { return };
    let mut p = Patcher::new(bytes);
    fuzz::volume(&p.bytes);
    assert_eq!(fuzz::changed(&p.bytes), 3);
    let number = p.find("mixed");
    let places = [
        (p.record(number), p.record_bytes),
        (p.record(p.find("prose")), p.record_bytes),
        (p.clusters(number, 0x80, ""), 30_000),
        (p.clusters(p.find("prose"), 0x80, ""), 30_000),
    ];
    let rounds = if full_run() { 1000 } else { 40 };
    let found = spoil(&mut p, &places, rounds);
    assert!(found > rounds / 2, "{found} of {rounds}");
}

#[test]
fn a_volume_cut_anywhere_is_an_error_or_damaged() {
    let bytes = small();
    let step = if full_run() { 65_521 } else { 1_048_573 };
    for len in (0..bytes.len()).step_by(step).chain([0, 1, 511, 512, 513, bytes.len() - 1]) {
        fuzz::volume(&bytes[..len]);
        assert!(fuzz::checked(&bytes[..len]).is_none_or(|report| report.errors > 0), "{len}");
    }
}

#[test]
fn records_lists_runs_and_compressed_data_of_any_kind() {
    let p = Patcher::new(small());
    let mut random = Random::new(seed());
    let record = p.bytes[p.record(p.find("attributes"))..][..p.record_bytes].to_vec();
    let list_at = p.clusters(p.find("popular"), 0x20, "");
    let list = p.bytes[list_at..list_at + 4096].to_vec();
    for len in 0..p.record_bytes {
        fuzz::record(&record[..len]);
        fuzz::list(&list[..len]);
        fuzz::runs(&record[..len]);
        fuzz::compressed(&record[..len]);
    }
    for _ in 0..20_000 {
        let mut bytes = if random.once_in(2) { record.clone() } else { list.clone() };
        for _ in 0..=random.below(4) {
            let pos = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            bytes[pos] = random.below(256) as u8;
        }
        fuzz::record(&bytes);
        fuzz::list(&bytes);
        fuzz::compressed(&bytes);
        let start = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        fuzz::runs(&bytes[start..]);
    }
}
