//! LZNT1 ([MS-XCA] 2.5): the compression of NTFS. Chunks of 4 KiB, each with a header of 2 bytes.

use super::bytes::u16_at;

/// Plain bytes of a chunk.
const CHUNK_BYTES: usize = 4096;
const IS_COMPRESSED: u16 = 0x8000;

/// Decodes `input` to exactly fill `output`; what the input says nothing of is zeros.
pub(crate) fn decode(input: &[u8], output: &mut [u8]) -> Result<(), &'static str> {
    let mut input = input;
    let mut chunks = output.chunks_mut(CHUNK_BYTES);
    for chunk in chunks.by_ref() {
        let header = match u16_at(input, 0) {
            // Zeros end the data.
            None | Some(0) => {
                chunk.fill(0);
                break;
            }
            Some(header) => header,
        };
        let len = usize::from(header & 0xfff).saturating_add(1);
        let body = input.get(2..len.saturating_add(2)).ok_or("a chunk that passes the end of its unit")?;
        if header & IS_COMPRESSED == 0 {
            let stored = body.get(..chunk.len().min(body.len())).unwrap_or_default();
            chunk.fill(0);
            chunk.iter_mut().zip(stored).for_each(|(to, from)| *to = *from);
        } else {
            decode_chunk(body, chunk)?;
        }
        input = input.get(len.saturating_add(2)..).unwrap_or_default();
    }
    chunks.for_each(|chunk| chunk.fill(0));
    Ok(())
}

fn decode_chunk(input: &[u8], output: &mut [u8]) -> Result<(), &'static str> {
    let (mut from, mut to) = (0usize, 0usize);
    while from < input.len() && to < output.len() {
        let flags = input.get(from).copied().unwrap_or(0);
        from = from.saturating_add(1);
        for bit in 0..8 {
            if from >= input.len() || to >= output.len() {
                break;
            }
            if flags & (1 << bit) == 0 {
                if let (Some(slot), Some(byte)) = (output.get_mut(to), input.get(from)) {
                    *slot = *byte;
                }
                (from, to) = (from.saturating_add(1), to.saturating_add(1));
                continue;
            }
            let token = u16_at(input, from).ok_or("a cut pair of distance and length")?;
            from = from.saturating_add(2);
            // The further into the chunk, the more bits the distance takes and the fewer the length.
            let distance_bits = distance_bits(to);
            let length_bits = 16u32.saturating_sub(distance_bits);
            let length = usize::from(token & low_bits(length_bits)).saturating_add(3);
            let distance = usize::from(token.checked_shr(length_bits).unwrap_or(0)).saturating_add(1);
            let start = to.checked_sub(distance).ok_or("a distance before the start of its chunk")?;
            let end = to.saturating_add(length);
            if end > output.len() {
                return Err("a length that passes the end of its chunk");
            }
            // Source and target may overlap, so byte by byte.
            for pos in 0..length {
                let byte = output.get(start.saturating_add(pos)).copied().unwrap_or(0);
                if let Some(slot) = output.get_mut(to.saturating_add(pos)) {
                    *slot = byte;
                }
            }
            to = end;
        }
    }
    if let Some(rest) = output.get_mut(to..) {
        rest.fill(0);
    }
    Ok(())
}

fn low_bits(count: u32) -> u16 {
    1u16.checked_shl(count).map_or(u16::MAX, |bit| bit.wrapping_sub(1))
}

/// 4 bits up to position 16, one more each time the position doubles.
fn distance_bits(pos: usize) -> u32 {
    let last = pos.saturating_sub(1);
    usize::BITS.saturating_sub(last.leading_zeros()).max(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn example_of_the_specification() {
        // [MS-XCA] 3.3: the text of a rhyme.
        let input = [
            0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2, 0x47, 0x01,
            0xa0, 0x45, 0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0, 0x45, 0x20, 0x05, 0x24,
            0x13, 0x88, 0x05, 0xb4, 0x02, 0x4a, 0x44, 0xef, 0x03, 0x58, 0x02, 0x8c, 0x09, 0x16, 0x01, 0x48,
            0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00, 0x04, 0x01, 0x18, 0x90, 0x00,
        ];
        let expected = b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
        let mut output = vec![0xaa; expected.len() + 9];
        decode(&input, &mut output).unwrap();
        assert_eq!(&output[..expected.len()], expected);
        assert_eq!(output[expected.len()..], [0; 9]);
    }

    #[test]
    fn bits_of_the_distance_grow() {
        for (pos, bits) in
            [(0, 4), (1, 4), (16, 4), (17, 5), (32, 5), (33, 6), (2048, 11), (2049, 12), (4095, 12)]
        {
            assert_eq!(distance_bits(pos), bits, "{pos}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(input in prop::collection::vec(any::<u8>(), 0..9000), len in 0usize..70_000) {
            let _ = decode(&input, &mut vec![0; len]);
        }

        #[test]
        fn stored_chunks_come_out(content in prop::collection::vec(any::<u8>(), 1..9000)) {
            let mut input = Vec::new();
            for chunk in content.chunks(CHUNK_BYTES) {
                input.extend_from_slice(&(0x3000 | u16::try_from(chunk.len() - 1).unwrap()).to_le_bytes());
                input.extend_from_slice(chunk);
            }
            let mut output = vec![0; content.len()];
            decode(&input, &mut output).unwrap();
            prop_assert_eq!(output, content);
        }
    }
}
