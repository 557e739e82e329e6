//! The x86 filter: operands of calls and of other position-relative instructions become absolute, so that equal
//! targets give equal bytes. Always on; a history of targets decides where in the chunk it acts.

/// Bytes at the end of a chunk in which no instruction starts.
const MARGIN: usize = 16;

/// How far, in bytes, a sign of machine code reaches: for calls, and for the other instructions.
const CALL_REACH: i32 = 511;
const REACH: i32 = 1023;

/// Two references to one target no further apart than this are a sign of machine code.
const MAX_TARGET_DISTANCE: i32 = 65535;

/// Positions before the chunk, too far away to matter.
const NO_CODE: i32 = -1024;
const NO_TARGET: i32 = -65536;

/// Working memory: where each target (modulo 65536) was last referred to.
#[derive(Debug)]
pub(super) struct Filter {
    targets: Box<[i32]>,
}

/// Which way operands change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToAbsolute,
    ToRelative,
}

impl Filter {
    pub(super) fn new() -> Self {
        Self { targets: vec![NO_TARGET; 1 << 16].into_boxed_slice() }
    }

    /// Translates a chunk of at most 2^30 bytes.
    pub(super) fn translate(&mut self, chunk: &mut [u8], direction: Direction) {
        let Some(end) = chunk.len().checked_sub(MARGIN).filter(|&end| end > 1) else { return };
        self.targets.fill(NO_TARGET);
        let mut last_code = NO_CODE;
        let mut pos = 1;
        while let Some(found) = next_candidate(chunk, pos, end) {
            pos = found;
            let (opcode_len, reach) = match [chunk[pos], chunk[pos + 1], chunk[pos + 2]] {
                [0x48, 0x8b, 0x05 | 0x0d] => (3, REACH),
                [0x48 | 0x4c, 0x8d, byte] if byte & 7 == 5 => (3, REACH),
                [0xe8, _, _] => (1, CALL_REACH),
                [0xe9, _, _] => {
                    pos += 5;
                    continue;
                }
                [0xf0, 0x83, 0x05] => (3, REACH),
                [0xff, 0x15, _] => (2, REACH),
                _ => {
                    pos += 1;
                    continue;
                }
            };
            let operand = &mut chunk[pos + opcode_len..pos + opcode_len + 4];
            let stored = u32::from_le_bytes([operand[0], operand[1], operand[2], operand[3]]);
            let at = pos as u32;
            let is_active = at as i32 - last_code <= reach;
            let relative = if is_active {
                let (translated, relative) = match direction {
                    Direction::ToAbsolute => (stored.wrapping_add(at), stored),
                    Direction::ToRelative => (stored.wrapping_sub(at), stored.wrapping_sub(at)),
                };
                operand.copy_from_slice(&translated.to_le_bytes());
                relative
            } else {
                stored
            };
            let target = at.wrapping_add(relative) & 0xffff;
            let last_byte = (pos + opcode_len + 3) as i32;
            let last_reference = std::mem::replace(&mut self.targets[target as usize], last_byte);
            if last_byte - last_reference <= MAX_TARGET_DISTANCE {
                last_code = last_byte;
            }
            pos += opcode_len + 4;
        }
    }
}

/// Bytes looked at together.
const BLOCK: usize = 16;

/// The first position from `pos` on and before `end` where the first byte, and where it decides the second too, may
/// start an instruction. At least two bytes follow `end - 1`.
#[inline(always)]
fn next_candidate(chunk: &[u8], mut pos: usize, end: usize) -> Option<usize> {
    while pos + BLOCK <= end {
        // Sixteen positions at once: no branch but the last, and the compiler makes vector instructions of it.
        let (mut first, mut second) = ([0u8; BLOCK], [0u8; BLOCK]);
        first.copy_from_slice(&chunk[pos..pos + BLOCK]);
        second.copy_from_slice(&chunk[pos + 1..pos + 1 + BLOCK]);
        let mut hits = [0u8; BLOCK];
        for at in 0..BLOCK {
            hits[at] = is_candidate(first[at], second[at]);
        }
        let hits = u128::from_le_bytes(hits);
        if hits != 0 {
            return Some(pos + (hits.trailing_zeros() >> 3) as usize);
        }
        pos += BLOCK;
    }
    (pos..end).find(|&pos| is_candidate(chunk[pos], chunk[pos + 1]) != 0)
}

/// 0xff if an instruction may start with these two bytes, else 0.
#[inline(always)]
fn is_candidate(first: u8, second: u8) -> u8 {
    let mask = |condition: bool| if condition { 0xff } else { 0u8 };
    let jump_or_call = mask(first & 0xfe == 0xe8);
    let load = mask(first == 0x48) & mask(second == 0x8b);
    let address = mask(first & 0xfb == 0x48) & mask(second == 0x8d);
    let locked = mask(first == 0xf0) & mask(second == 0x83);
    let indirect = mask(first == 0xff) & mask(second == 0x15);
    jump_or_call | load | address | locked | indirect
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_direction_undoes_the_first() {
        let mut state = 99u32;
        let mut next = |end: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % end
        };
        let opcodes: [&[u8]; 8] = [
            b"\x48\x8b\x05", b"\x48\x8b\x0d", b"\x4c\x8d\x25", b"\x48\x8d\x3d", b"\xe8", b"\xe9", b"\xf0\x83\x05",
            b"\xff\x15",
        ];
        let mut changed = 0;
        let mut filter = Filter::new();
        for round in 0..300 {
            let mut chunk = Vec::new();
            let len = [10, 17, 18, 19, 40, 3000][round % 6];
            while chunk.len() < len {
                let opcode = opcodes[next(8) as usize];
                let start = chunk.len() as u32;
                chunk.extend_from_slice(opcode);
                chunk.extend((next(3) * 1000).wrapping_sub(start).to_le_bytes());
                chunk.extend((0..next(9)).map(|at| at as u8));
            }
            chunk.truncate(len);
            let plain = chunk.clone();
            filter.translate(&mut chunk, Direction::ToAbsolute);
            changed += usize::from(chunk != plain);
            filter.translate(&mut chunk, Direction::ToRelative);
            assert_eq!(chunk, plain, "round {round}");
        }
        assert!(changed > 40, "{changed} chunks were translated");
    }

    #[test]
    fn candidates_are_found_at_every_place_of_a_block() {
        for at in 0..50 {
            let mut chunk = vec![0x90; 80];
            chunk[at] = 0xe8;
            assert_eq!(next_candidate(&chunk, 1, 60), (at > 0).then_some(at));
        }
    }
}
