//! The fuzz bodies as plain tests: chunks of the encoders and of the shared vectors, cut, flipped and random.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_types, reason = "the vectors are files")]

use std::path::{Path, PathBuf};

use gravure_codec::{Encoder, Level, Method, fuzz};
use proptest::prelude::*;

const METHODS: [Method; 3] = [Method::Xpress, Method::Lzx, Method::Lzms];

/// A small generator: the same damage on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A plain chunk with something for each part of the codecs: text, a counter, code, runs, noise.
fn sample(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut out: Vec<u8> = Vec::new();
    while out.len() < len {
        match random.below(5) {
            0 => (0..40).for_each(|_| out.push(b"etaoin shrdlu"[random.below(13)])),
            1 => (0..20u16).for_each(|at| out.extend((at * 3).to_le_bytes())),
            2 => {
                let target = (random.below(3) as u32 * 500).wrapping_sub(out.len() as u32);
                out.push(0xe8);
                out.extend(target.to_le_bytes());
            }
            3 => out.resize(out.len() + random.below(100), 0x20),
            _ => (0..10).for_each(|_| out.push(random.below(256) as u8)),
        }
    }
    out.truncate(len);
    out
}

/// Input of the decoding body for a chunk of `plain` bytes.
fn seed(chunk_size_step: u8, plain_len: usize, compressed: &[u8]) -> Vec<u8> {
    let [low, high] = u16::try_from(plain_len - 1).unwrap().to_le_bytes();
    let mut out = vec![chunk_size_step, low, high, 0];
    out.extend_from_slice(compressed);
    out
}

fn seeds(method: Method) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (len, level) in
        [(60, Level::Fast), (700, Level::NearOptimal), (4096, Level::Fast), (4000, Level::NearOptimal)]
    {
        let plain = sample(len, len as u64);
        let mut compressed = vec![0; len];
        let mut encoder = Encoder::new(method, method.chunk_range().0, level).unwrap();
        if let Some(written) = encoder.encode(&plain, &mut compressed) {
            out.push(seed(0, len, &compressed[..written]));
        }
    }
    assert!(out.len() >= 3, "{method}: {} seeds", out.len());
    out
}

#[test]
fn chunks_cut_at_every_byte() {
    for method in METHODS {
        for seed in seeds(method) {
            (0..=seed.len()).for_each(|len| fuzz::decode(method, &seed[..len]));
            // Cut at the front, too: LZMS reads from the end.
            (4..seed.len().min(300)).for_each(|from| {
                fuzz::decode(method, &[&seed[..4], &seed[from..]].concat());
            });
        }
    }
}

#[test]
fn chunks_with_flipped_bits_and_other_sizes() {
    let mut random = Random(5);
    for method in METHODS {
        for seed in seeds(method) {
            for _ in 0..3000 {
                let mut changed = seed.clone();
                for _ in 0..=random.below(3) {
                    let at = random.below(changed.len());
                    match random.below(3) {
                        0 => changed[at] ^= 1 << random.below(8),
                        1 => changed[at] = [0, 0xff, 0x80][random.below(3)],
                        _ => changed[random.below(4)] = random.below(256) as u8,
                    }
                }
                fuzz::decode(method, &changed);
            }
        }
    }
}

/// The shared vectors as corpus, if they are there.
#[test]
fn vectors_in_every_codec() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let vectors = std::env::var_os("GRAVURE_SHARED").map_or(beside, PathBuf::from).join("vectors");
    for method in METHODS {
        let folder = vectors.join(method.to_string().to_lowercase());
        let Ok(entries) = std::fs::read_dir(&folder) else {
            assert!(
                std::env::var_os("GRAVURE_REQUIRE_ORACLES").is_none(),
                "no vectors at {}",
                folder.display()
            );
            eprintln!("SKIPPED: no vectors at {}; set GRAVURE_SHARED", folder.display());
            continue;
        };
        for entry in entries {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for other in METHODS {
                fuzz::decode(other, &seed(1, 0x8000, &bytes));
                fuzz::encode(other, &[&[0], &bytes[..bytes.len().min(20_000)]].concat());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn random_bytes(data in prop::collection::vec(any::<u8>(), 0..3000)) {
        for method in METHODS {
            fuzz::decode(method, &data);
            fuzz::encode(method, &data);
        }
    }

    #[test]
    fn random_bytes_of_few_values(data in prop::collection::vec(0..3u8, 0..3000)) {
        for method in METHODS {
            fuzz::decode(method, &data);
            fuzz::encode(method, &data);
        }
    }
}
