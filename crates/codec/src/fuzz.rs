//! Bodies for fuzzing: any bytes must give a chunk or an error, in bounded time and memory. Replayed as plain tests in
//! `tests/it/fuzz_bodies.rs`.

use crate::{Decoder, Encoder, Level, Method};

/// Longest output asked for: enough for rebuilds of all codes, small enough to be quick.
const MAX_OUTPUT: usize = 1 << 16;

/// Decodes. The first four bytes choose the chunk size and the output length, the rest is the compressed chunk. What
/// decodes must do so again, with the bytes behind an exact end of no matter.
pub fn decode(method: Method, data: &[u8]) {
    let Some((choice, input)) = data.split_first_chunk::<4>() else { return };
    let (least, most) = method.chunk_range();
    // From the smallest size up, wrapping where the method has no larger one.
    let sizes = most.trailing_zeros() - least.trailing_zeros() + 1;
    let chunk_size = least << (u32::from(choice[0]) % sizes);
    let len =
        (u16::from_le_bytes([choice[1], choice[2]]) as usize + 1).min(MAX_OUTPUT).min(chunk_size as usize);
    let mut decoder = Decoder::new(method, chunk_size).expect("the size is legal");
    let (mut output, mut again) = (vec![0; len], vec![0xff; len]);
    let decoded = decoder.decode(input, &mut output);
    if let Err(error) = &decoded {
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(decoder.decode(input, &mut again), decoded, "the second try differs");
    assert!(decoded.is_err() || again == output, "the second output differs");
}

/// Encodes with both levels and decodes. The first byte chooses the chunk size, the rest is the plain chunk.
pub fn encode(method: Method, data: &[u8]) {
    let Some((choice, input)) = data.split_first() else { return };
    let (least, _) = method.chunk_range();
    // Three sizes; larger tables take longer to make than the chunk to encode.
    let chunk_size = least << (choice % 3);
    let input = &input[..input.len().min(chunk_size as usize)];
    for level in [Level::Fast, Level::Balanced, Level::NearOptimal] {
        let mut encoder = Encoder::new(method, chunk_size, level).expect("the size is legal");
        let mut compressed = vec![0; input.len()];
        let Some(len) = encoder.encode(input, &mut compressed) else { continue };
        assert!(len < input.len());
        let mut output = vec![0xff; input.len()];
        let mut decoder = Decoder::new(method, chunk_size).expect("the size is legal");
        decoder.decode(&compressed[..len], &mut output).expect("what was encoded can be decoded");
        assert!(output == input, "{method} {level:?}: wrong bytes");
    }
}
