//! Decode and encode speed and ratio over the bytes of files: `throughput [--rounds N] [--limit MIB] FILE...`
//!
//! The files are read one after another into memory, cut into chunks, encoded, decoded and compared. Each segment of
//! about 1 MiB counts with the fastest of its rounds, which takes out the noise of a shared machine.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run should stop")]
#![expect(clippy::disallowed_types, reason = "a benchmark has a clock and files")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use gravure_codec::{Decoder, Encoder, Level, Method};

const SEGMENT: usize = 1 << 20;

fn main() {
    let mut rounds = 5;
    let mut limit = 64;
    let mut only = None;
    let mut data = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().unwrap().parse().unwrap(),
            "--limit" => limit = arguments.next().unwrap().parse().unwrap(),
            "--only" => only = arguments.next(),
            file => data.extend(std::fs::read(file).unwrap()),
        }
    }
    data.truncate(limit << 20);
    println!("{:.1} MiB", data.len() as f64 / f64::from(1 << 20));
    println!("method  chunk   level         ratio  encode MB/s  decode MB/s");
    for (method, chunk_size) in [
        (Method::Xpress, 1 << 12),
        (Method::Xpress, 1 << 15),
        (Method::Xpress, 1 << 16),
        (Method::Lzx, 1 << 15),
        (Method::Lzx, 1 << 21),
        (Method::Lzms, 1 << 18),
        (Method::Lzms, 1 << 26),
    ] {
        for level in [Level::Fast, Level::NearOptimal] {
            let name = format!("{method}-{chunk_size}-{level:?}");
            if only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
                measure(&data, method, chunk_size, level, rounds);
            }
        }
    }
}

fn measure(data: &[u8], method: Method, chunk_size: u32, level: Level, rounds: u32) {
    let mut encoder = Encoder::new(method, chunk_size, level).unwrap();
    let mut decoder = Decoder::new(method, chunk_size).unwrap();
    let size = chunk_size as usize;
    let segments: Vec<Vec<&[u8]>> =
        data.chunks(SEGMENT.max(size)).map(|segment| segment.chunks(size).collect()).collect();
    let mut buffer = vec![0; size];
    let mut encoded: Vec<Vec<Option<Vec<u8>>>> = Vec::new();
    let mut encode = Duration::ZERO;
    for segment in &segments {
        let start = Instant::now();
        encoded.push(
            segment
                .iter()
                .map(|chunk| encoder.encode(chunk, &mut buffer).map(|len| buffer[..len].to_vec()))
                .collect(),
        );
        encode += start.elapsed();
    }
    if rounds > 1 && level == Level::Fast {
        encode = segments
            .iter()
            .map(|segment| {
                fastest(rounds, || {
                    for chunk in segment {
                        black_box(encoder.encode(black_box(chunk), &mut buffer));
                    }
                })
            })
            .sum();
    }
    // Raw chunks never reach a decoder, so they do not count there.
    let mut decode = Duration::ZERO;
    let mut decoded_bytes = 0;
    let mut best: Vec<Duration> = vec![Duration::MAX; segments.len()];
    for round in 0..rounds {
        for ((segment, compressed), best) in segments.iter().zip(&encoded).zip(&mut best) {
            let start = Instant::now();
            for (chunk, input) in segment.iter().zip(compressed) {
                if let Some(input) = input {
                    decoder.decode(black_box(input), &mut buffer[..chunk.len()]).unwrap();
                    if round == 0 {
                        assert!(buffer[..chunk.len()] == **chunk, "{method}: wrong bytes");
                        decoded_bytes += chunk.len();
                    }
                }
            }
            *best = (*best).min(start.elapsed());
        }
    }
    decode += best.iter().sum::<Duration>();
    let size_of = |(chunk, input): (&&[u8], &Option<Vec<u8>>)| input.as_ref().map_or(chunk.len(), Vec::len);
    let compressed: usize = segments
        .iter()
        .zip(&encoded)
        .flat_map(|(segment, inputs)| segment.iter().zip(inputs))
        .map(size_of)
        .sum();
    println!(
        "{:<7} {:<7} {:<12} {:.4}  {:>11.1}  {:>11.1}",
        method.to_string(),
        chunk_size,
        format!("{level:?}"),
        compressed as f64 / data.len() as f64,
        data.len() as f64 / encode.as_secs_f64() / 1e6,
        decoded_bytes as f64 / decode.as_secs_f64() / 1e6,
    );
}

fn fastest(rounds: u32, mut work: impl FnMut()) -> Duration {
    (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .unwrap_or_default()
}
