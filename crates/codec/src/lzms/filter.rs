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
    /// Where the positions of the next chunk may start.
    next: i32,
}

/// Which way operands change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToAbsolute,
    ToRelative,
}

impl Filter {
    pub(super) fn new() -> Self {
        Self { targets: vec![NO_TARGET; 1 << 16].into_boxed_slice(), next: 0 }
    }

    /// Translates a chunk of at most 2^30 bytes.
    pub(super) fn translate(&mut self, chunk: &mut [u8], direction: Direction) {
        let Some(end) = chunk.len().checked_sub(MARGIN).filter(|&end| end > 1) else { return };
        let base = self.forget_targets(chunk.len());
        let mut last_code = NO_CODE;
        let mut pos = 1;
        while let Some(found) = next_opcode(chunk, pos, end) {
            pos = found;
            let (opcode_len, reach) = match chunk[pos] {
                0xe8 => (1, CALL_REACH),
                0xe9 => {
                    pos += 5;
                    continue;
                }
                0xff => (2, REACH),
                _ => (3, REACH),
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
            let reference = &mut self.targets[target as usize];
            let distance = base + last_byte - std::mem::replace(reference, base + last_byte);
            if distance <= MAX_TARGET_DISTANCE {
                last_code = last_byte;
            }
            pos += opcode_len + 4;
        }
    }

    /// Makes what the table holds too far away for a chunk of `len` bytes to matter. Returns what is to be added to its
    /// positions: they go on from chunk to chunk, which saves filling the table for each small one.
    fn forget_targets(&mut self, len: usize) -> i32 {
        let gap = MAX_TARGET_DISTANCE + 1;
        let next = self.next.checked_add(gap).filter(|next| next.checked_add(len as i32).is_some());
        let base = next.unwrap_or_else(|| {
            self.targets.fill(NO_TARGET);
            0
        });
        self.next = base + len as i32;
        base
    }
}

/// Bytes looked at together.
const BLOCK: usize = 16;

/// The first position from `pos` on and before `end` where an instruction of interest seems to start. At least two
/// bytes follow `end - 1`.
#[inline(always)]
fn next_opcode(chunk: &[u8], mut pos: usize, end: usize) -> Option<usize> {
    while pos + BLOCK <= end {
        // Sixteen positions at once: no branch but the last, and the compiler makes vector instructions of it.
        let block = &chunk[pos..pos + BLOCK + 2];
        let mut hits = [0u8; BLOCK];
        for at in 0..BLOCK {
            hits[at] = opcode_mask(block[at], block[at + 1], block[at + 2]);
        }
        let hits = u128::from_le_bytes(hits);
        if hits != 0 {
            return Some(pos + (hits.trailing_zeros() >> 3) as usize);
        }
        pos += BLOCK;
    }
    (pos..end).find(|&pos| opcode_mask(chunk[pos], chunk[pos + 1], chunk[pos + 2]) != 0)
}

/// 0xff for the opcodes that are translated and for jumps, which are skipped; else 0.
#[inline(always)]
fn opcode_mask(first: u8, second: u8, third: u8) -> u8 {
    let mask = |condition: bool| if condition { 0xff } else { 0u8 };
    let jump_or_call = mask(first & 0xfe == 0xe8);
    let load = mask(first == 0x48) & mask(second == 0x8b) & mask(third & 0xf7 == 0x05);
    let address = mask(first & 0xfb == 0x48) & mask(second == 0x8d) & mask(third & 7 == 5);
    let locked = mask(first == 0xf0) & mask(second == 0x83) & mask(third == 0x05);
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
    fn opcodes_are_found_at_every_place_of_a_block() {
        for at in 0..50 {
            let mut chunk = vec![0x90; 80];
            chunk[at] = 0xe8;
            assert_eq!(next_opcode(&chunk, 1, 60), (at > 0).then_some(at));
        }
    }
}
