//! Random chunks of many kinds: what the encoders write, the decoders read back; damage gives errors, not panics.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use gravure_codec::{Decoder, Encoder, Level, Method};
use proptest::prelude::*;

/// Cases per method and chunk size.
fn cases() -> u32 {
    let default = if is_full_run() { 1000 } else { 600 };
    std::env::var("GRAVURE_PROP_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Whether everything is to be tested instead of a sample (`cargo xtask test --full`), as `gravure_testkit::full_run` says.
fn is_full_run() -> bool {
    std::env::var_os("GRAVURE_FULL").is_some()
}

/// One way to make a stretch of bytes. Together they give literals, near and far matches, short and long ones.
#[derive(Debug, Clone)]
enum Piece {
    /// Any bytes.
    Random { seed: u64, len: usize },
    /// Bytes of a small alphabet, unevenly spread.
    Skewed { seed: u64, len: usize, symbols: u8 },
    /// Words of a small dictionary.
    Text { seed: u64, len: usize },
    /// One byte.
    Run { byte: u8, len: usize },
    /// Records of one width that count upwards.
    Records { seed: u64, len: usize, width: usize },
    /// Machine code: calls to a few targets between short opcodes.
    Code { seed: u64, len: usize },
    /// What stood so many bytes before, in part or overlapping itself.
    Again { distance: usize, len: usize },
}

fn piece(most: usize) -> impl Strategy<Value = Piece> {
    let len = || 1..most.max(2);
    prop_oneof![
        (any::<u64>(), 1..most.clamp(2, 3000)).prop_map(|(seed, len)| Piece::Random { seed, len }),
        (any::<u64>(), len(), 1..=40u8).prop_map(|(seed, len, symbols)| Piece::Skewed { seed, len, symbols }),
        (any::<u64>(), len()).prop_map(|(seed, len)| Piece::Text { seed, len }),
        (any::<u8>(), len()).prop_map(|(byte, len)| Piece::Run { byte, len }),
        (any::<u64>(), len(), 2..40usize).prop_map(|(seed, len, width)| Piece::Records { seed, len, width }),
        (any::<u64>(), len()).prop_map(|(seed, len)| Piece::Code { seed, len }),
        (1..most.max(2), 1..600usize).prop_map(|(distance, len)| Piece::Again { distance, len }),
    ]
}

/// A small generator, so that a failing case prints as a few numbers instead of 64 KiB.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

impl Piece {
    fn append(&self, to: &mut Vec<u8>) {
        match *self {
            Self::Random { seed, len } => {
                let mut random = Random(seed);
                to.extend((0..len).map(|_| random.next() as u8));
            }
            Self::Skewed { seed, len, symbols } => {
                let mut random = Random(seed);
                let symbols = u64::from(symbols);
                to.extend((0..len).map(|_| (random.below(symbols) * random.below(symbols) / symbols) as u8));
            }
            Self::Text { seed, len } => {
                let mut random = Random(seed);
                let end = to.len() + len;
                while to.len() < end {
                    let mut word = Random(random.below(8) * random.below(60));
                    let letters = 2 + word.below(9);
                    to.extend((0..letters).map(|_| b'a' + word.below(26) as u8));
                    to.push(b" \n.,"[random.below(40).saturating_sub(36) as usize]);
                }
                to.truncate(end);
            }
            Self::Run { byte, len } => to.resize(to.len() + len, byte),
            Self::Records { seed, len, width } => {
                let mut random = Random(seed);
                let end = to.len() + len;
                let base: Vec<u8> = (0..width).map(|_| random.next() as u8).collect();
                let mut count = 0u16;
                while to.len() < end {
                    to.extend(&base);
                    let at = to.len() - 2;
                    to[at..].copy_from_slice(&count.to_le_bytes());
                    count = count.wrapping_add(random.below(5) as u16);
                }
                to.truncate(end);
            }
            Self::Code { seed, len } => {
                let mut random = Random(seed);
                let end = to.len() + len;
                while to.len() < end {
                    let opcodes = random.below(12);
                    to.extend(
                        (0..opcodes).map(|_| b"\x48\x89\xe5\x8b\x45\x55\x5d\xc3"[random.below(8) as usize]),
                    );
                    to.push(0xe8);
                    let target = random.below(9) as i32 * 4000 - 12_000 - to.len() as i32;
                    to.extend(target.to_le_bytes());
                }
                to.truncate(end);
            }
            Self::Again { distance, len } => {
                for _ in 0..len {
                    let byte = to.len().checked_sub(distance).map_or(0, |at| to[at]);
                    to.push(byte);
                }
            }
        }
    }
}

/// A chunk for a file with chunks of `size` bytes. Most are short, as the time goes with the bytes; those that fill
/// the chunk are the rarer the larger it is.
fn chunk(size: usize) -> impl Strategy<Value = Vec<u8>> {
    let full = (FULL_BYTES / size).clamp(1, 20) as u32;
    // Chunk sizes above this differ by the size of tables only.
    let size = size.min(MOST_BYTES);
    let len = prop_oneof![
        full => Just(size),
        full => 1..=size,
        300 => 1..=600usize,
        600 => 600..=3000usize,
    ];
    len.prop_flat_map(|len| {
        // Large chunks from large pieces, or a 2 MiB case would need thousands.
        let piece_len = (len / 4).clamp(400, 200_000);
        proptest::collection::vec(piece(piece_len), 1..12).prop_map(move |pieces| {
            let mut bytes = Vec::new();
            while bytes.len() < len {
                for piece in &pieces {
                    piece.append(&mut bytes);
                }
            }
            bytes.truncate(len);
            bytes
        })
    })
}

/// Longest random chunk.
const MOST_BYTES: usize = 1 << 22;

/// About so many bytes of full chunks per thousand cases.
const FULL_BYTES: usize = 1 << 19;

/// Encodes with both levels, decodes, compares; then damages the result.
fn check(codecs: &mut Codecs, chunk: &[u8], damage: (usize, u8)) -> Result<(), TestCaseError> {
    let mut output = vec![0; chunk.len()];
    for encoder in &mut codecs.encoders {
        let mut compressed = vec![0; chunk.len()];
        let Some(len) = encoder.encode(chunk, &mut compressed) else { continue };
        prop_assert!(len < chunk.len());
        compressed.truncate(len);
        output.fill(0x55);
        if let Err(error) = codecs.decoder.decode(&compressed, &mut output) {
            return Err(TestCaseError::fail(format!("{encoder:?}: {error}")));
        }
        prop_assert!(output == chunk, "{:?}: wrong bytes", encoder);
        // A shorter buffer is refused, not overrun.
        if damage.1.is_multiple_of(4) {
            prop_assert_eq!(encoder.encode(chunk, &mut vec![0; len - 1]), None);
        }
        // One flipped bit or a cut: any outcome but a panic, and the decoder works afterwards.
        let at = damage.0 % len;
        compressed[at] ^= 1 << (damage.1 & 7);
        let _ = codecs.decoder.decode(&compressed, &mut output);
        compressed[at] ^= 1 << (damage.1 & 7);
        let _ = codecs.decoder.decode(&compressed[..at], &mut output);
        codecs.decoder.decode(&compressed, &mut output).unwrap();
        prop_assert!(output == chunk, "{:?}: wrong bytes after damage", encoder);
        // The same input gives the same bytes, whatever the encoder did before.
        if damage.1 >= 64 {
            continue;
        }
        let mut again = vec![0; chunk.len()];
        prop_assert_eq!(encoder.encode(chunk, &mut again), Some(len));
        prop_assert!(again[..len] == compressed[..], "{:?}: not deterministic", encoder);
    }
    Ok(())
}

struct Codecs {
    encoders: Vec<Encoder>,
    decoder: Decoder,
}

fn round_trips(method: Method, chunk_size: u32) {
    let levels = [Level::Fast, Level::Balanced, Level::NearOptimal];
    let codecs = std::cell::RefCell::new(Codecs {
        encoders: levels.map(|level| Encoder::new(method, chunk_size, level).unwrap()).into(),
        decoder: Decoder::new(method, chunk_size).unwrap(),
    });
    // Cases are cheap to repeat by hand from the printed input, and the source tree stays clean.
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) };
    proptest!(config, |(chunk in chunk(chunk_size as usize), damage in any::<(usize, u8)>())| {
        check(&mut codecs.borrow_mut(), &chunk, damage)?;
    });
}

#[test]
fn xpress_chunks_survive_a_round_trip() {
    for log2 in 12..=16 {
        round_trips(Method::Xpress, 1 << log2);
    }
}

#[test]
fn lzx_chunks_survive_a_round_trip() {
    for log2 in 15..=21 {
        round_trips(Method::Lzx, 1 << log2);
    }
}

#[test]
fn lzms_chunks_survive_a_round_trip() {
    // In full runs all sizes, up to chunks of 1 GiB: tables that large are only touched as far as chunks reach.
    let sampled = [15, 16, 17, 18, 20, 22];
    let all: Vec<u32> = (15..=30).collect();
    for log2 in if is_full_run() { &all[..] } else { &sampled } {
        round_trips(Method::Lzms, 1 << log2);
    }
}

/// Long matches, far offsets and positions that need more than 24 bits; one case, as it is large.
#[test]
fn a_chunk_of_many_megabytes_survives_a_round_trip() {
    let len = (24 << 20) + 5;
    let mut data = Vec::with_capacity(len);
    Piece::Random { seed: 1, len: 3000 }.append(&mut data);
    Piece::Run { byte: 7, len: 11 << 20 }.append(&mut data);
    Piece::Records { seed: 2, len: 100_000, width: 12 }.append(&mut data);
    // All of that again, from 11 MiB back, then calls at positions far into the chunk.
    let distance = data.len();
    Piece::Again { distance, len: distance }.append(&mut data);
    let rest = len - data.len();
    Piece::Code { seed: 3, len: 200_000 }.append(&mut data);
    Piece::Run { byte: 0, len: rest - 200_000 }.append(&mut data);
    for level in [Level::Fast, Level::NearOptimal] {
        let mut compressed = vec![0; len];
        let written =
            Encoder::new(Method::Lzms, 1 << 25, level).unwrap().encode(&data, &mut compressed).unwrap();
        assert!(written < 120_000, "{level:?}: {written} bytes");
        let mut output = vec![0; len];
        Decoder::new(Method::Lzms, 1 << 30).unwrap().decode(&compressed[..written], &mut output).unwrap();
        assert!(output == data, "{level:?}: wrong bytes");
    }
}
