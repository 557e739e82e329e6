//! One codec over the chunks of one file, timed in processor time: our half of `cargo xtask bench wim`, and the tool for
//! trying a change of the codecs. The other half there is a small C program with the same arguments on wimlib.
//!
//! ```text
//! measure encode METHOD CHUNK_SIZE LEVEL PLAIN PACKED     print "seconds bytes"
//! measure decode METHOD CHUNK_SIZE ROUNDS PACKED PLAIN    print "seconds bytes", of the fastest round
//! ```
//!
//! PACKED holds for each chunk its stored length (32-bit little-endian) and its bytes, plain ones where nothing was won.
#![expect(clippy::print_stdout, reason = "the result")]
#![expect(clippy::disallowed_types, reason = "a program, not the codec")]

use std::error::Error;
use std::fs;
use std::path::Path;

use gravure_codec::{Decoder, Encoder, Level, Method};
use rustix::time::{ClockId, clock_gettime};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (seconds, bytes) = match args[..] {
        ["encode", method, chunk_size, level, plain, packed] => encode(
            self::method(method)?,
            chunk_size.parse()?,
            self::level(level)?,
            plain.as_ref(),
            packed.as_ref(),
        )?,
        ["decode", method, chunk_size, rounds, packed, plain] => decode(
            self::method(method)?,
            chunk_size.parse()?,
            rounds.parse()?,
            packed.as_ref(),
            plain.as_ref(),
        )?,
        _ => return Err("expected encode or decode and five arguments, see the source".into()),
    };
    println!("{seconds:.6} {bytes}");
    Ok(())
}

fn method(name: &str) -> Result<Method, String> {
    match name {
        "XPRESS" => Ok(Method::Xpress),
        "LZX" => Ok(Method::Lzx),
        "LZMS" => Ok(Method::Lzms),
        _ => Err(format!("method {name:?}, expected XPRESS, LZX or LZMS")),
    }
}

fn level(name: &str) -> Result<Level, String> {
    match name {
        "fast" => Ok(Level::Fast),
        "balanced" => Ok(Level::Balanced),
        "best" => Ok(Level::NearOptimal),
        _ => Err(format!("level {name:?}, expected fast, balanced or best")),
    }
}

/// Seconds of processor time that this thread has used.
fn processor_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn encode(
    method: Method,
    chunk_size: u32,
    level: Level,
    plain: &Path,
    packed: &Path,
) -> Result<(f64, usize), Box<dyn Error>> {
    let plain = fs::read(plain)?;
    let mut encoder = Encoder::new(method, chunk_size, level)?;
    let mut chunk = vec![0; chunk_size as usize];
    let mut out = Vec::with_capacity(plain.len());
    let (mut seconds, mut bytes) = (0.0, 0);
    for input in plain.chunks(chunk_size as usize) {
        let start = processor_seconds();
        let len = encoder.encode(input, &mut chunk);
        seconds += processor_seconds() - start;
        let stored = len.map_or(input, |len| &chunk[..len]);
        out.extend_from_slice(&u32::try_from(stored.len())?.to_le_bytes());
        out.extend_from_slice(stored);
        bytes += stored.len();
    }
    fs::write(packed, out)?;
    Ok((seconds, bytes))
}

fn decode(
    method: Method,
    chunk_size: u32,
    rounds: u32,
    packed: &Path,
    plain: &Path,
) -> Result<(f64, usize), Box<dyn Error>> {
    let (packed, plain) = (fs::read(packed)?, fs::read(plain)?);
    let mut decoder = Decoder::new(method, chunk_size)?;
    let mut output = vec![0; plain.len()];
    let mut fastest = f64::INFINITY;
    for _ in 0..rounds {
        output.fill(0);
        let mut rest = &packed[..];
        let start = processor_seconds();
        for to in output.chunks_mut(chunk_size as usize) {
            let (len, after) = rest.split_first_chunk::<4>().ok_or("too few chunks")?;
            let (stored, after) =
                after.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or("a chunk is cut")?;
            if stored.len() == to.len() {
                to.copy_from_slice(stored);
            } else {
                decoder.decode(stored, to)?;
            }
            rest = after;
        }
        fastest = fastest.min(processor_seconds() - start);
        if output != plain {
            return Err("the decoded bytes differ from the plain ones".into());
        }
    }
    Ok((fastest, plain.len()))
}
