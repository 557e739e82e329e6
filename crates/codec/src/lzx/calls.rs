//! Translation of x86 CALL targets between relative and absolute: always on in WIM chunks.

/// The opcode whose four operand bytes are translated.
const CALL: u8 = 0xe8;

/// The "file size" of the translation, a constant in WIM.
const TRANSLATION_SIZE: i32 = 12_000_000;

/// The last bytes of a chunk never start a translation.
const TAIL: usize = 10;

/// Undoes the translation after decoding.
pub(super) fn to_relative(chunk: &mut [u8]) {
    for_each_call(chunk, |pos, absolute| {
        if (0..TRANSLATION_SIZE).contains(&absolute) {
            Some(absolute - pos)
        } else if (-pos..0).contains(&absolute) {
            Some(absolute + TRANSLATION_SIZE)
        } else {
            None
        }
    });
}

/// Translates a chunk before encoding.
pub(super) fn to_absolute(chunk: &mut [u8]) {
    for_each_call(chunk, |pos, relative| {
        if !(-pos..TRANSLATION_SIZE).contains(&relative) {
            None
        } else if relative < TRANSLATION_SIZE - pos {
            Some(relative + pos)
        } else {
            Some(relative - TRANSLATION_SIZE)
        }
    });
}

/// Calls `translate` with position and operand of each opcode and writes back what it returns.
fn for_each_call(chunk: &mut [u8], translate: impl Fn(i32, i32) -> Option<i32>) {
    let Some(end) = chunk.len().checked_sub(TAIL) else { return };
    let mut pos = 0;
    while let Some(found) = find_call(&chunk[pos.min(end)..end]) {
        pos += found;
        if let Some(operand) = chunk[pos + 1..].first_chunk_mut::<4>() {
            // A chunk has at most 2 MiB, so its positions fit.
            if let Some(value) = translate(pos as i32, i32::from_le_bytes(*operand)) {
                *operand = value.to_le_bytes();
            }
        }
        pos += 5;
    }
}

/// Index of the first opcode.
fn find_call(bytes: &[u8]) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<32>();
    for (index, block) in blocks.iter().enumerate() {
        // The compiler makes vector comparisons of this fold, which it would not of a search with early exit.
        if block.iter().fold(false, |hit, &byte| hit | (byte == CALL)) {
            return block
                .as_chunks::<8>()
                .0
                .iter()
                .zip(0..)
                .find_map(|(eight, at)| find_in_eight(*eight).map(|within| index * 32 + at * 8 + within));
        }
    }
    let within = rest.iter().position(|&byte| byte == CALL)?;
    Some(blocks.len() * 32 + within)
}

/// Index of the first opcode among eight bytes.
fn find_in_eight(bytes: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    // Zero where the opcode stands. The borrow of the subtraction spoils only bytes above the first zero.
    let differing = u64::from_le_bytes(bytes) ^ u64::from_le_bytes([CALL; 8]);
    let zeros = differing.wrapping_sub(ONES) & !differing & ONES << 7;
    (zeros != 0).then_some((zeros.trailing_zeros() / 8) as usize)
}
