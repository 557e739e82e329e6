//! Slots: ranges of offsets or lengths that share a symbol, told apart by extra bits behind it.

use super::{LENGTH_SLOTS, MAX_OFFSET_SLOTS};

/// First value of each slot and number of its extra bits.
pub(super) struct Slots<const N: usize> {
    pub(super) bases: [u32; N],
    pub(super) extra_bits: [u8; N],
}

/// Makes slots from (extra bits, number of consecutive slots) pairs; the first slot starts at 1.
const fn slots<const N: usize>(counts: &[(u8, usize)]) -> Slots<N> {
    let mut made = Slots { bases: [0; N], extra_bits: [0; N] };
    let (mut slot, mut base, mut group) = (0, 1u32, 0);
    while group < counts.len() {
        let (bits, mut count) = counts[group];
        while count > 0 {
            made.bases[slot] = base;
            made.extra_bits[slot] = bits;
            base += 1 << bits;
            slot += 1;
            count -= 1;
        }
        group += 1;
    }
    assert!(slot == N);
    made
}

/// Offsets 1 to 0x465be4a4.
pub(super) static OFFSETS: Slots<MAX_OFFSET_SLOTS> = OFFSET_SLOTS;

/// Lengths 1 to 0x400108aa.
pub(super) static LENGTHS: Slots<LENGTH_SLOTS> = LENGTH_SLOT_TABLE;

const OFFSET_SLOTS: Slots<MAX_OFFSET_SLOTS> = slots(&[
    (0, 8),
    (2, 9),
    (3, 7),
    (4, 10),
    (5, 15),
    (6, 15),
    (7, 20),
    (8, 20),
    (9, 30),
    (10, 33),
    (11, 40),
    (12, 42),
    (13, 45),
    (14, 60),
    (15, 73),
    (16, 80),
    (17, 85),
    (18, 95),
    (19, 105),
    (20, 6),
    (30, 1),
]);

const LENGTH_SLOT_TABLE: Slots<LENGTH_SLOTS> = slots(&[
    (0, 26),
    (1, 4),
    (2, 6),
    (3, 4),
    (4, 5),
    (5, 2),
    (6, 1),
    (7, 1),
    (8, 1),
    (9, 1),
    (10, 1),
    (16, 1),
    (30, 1),
]);

const _: () = {
    let bases = &OFFSET_SLOTS.bases;
    assert!(bases[8] == 9 && bases[17] == 0x2d && bases[49] == 0x2e5);
    assert!(bases[167] == 0xe4a5 && bases[427] == 0x3d_e4a5 && bases[798] == 0x65b_e4a5);
    let bases = &LENGTH_SLOT_TABLE.bases;
    assert!(bases[26] == 27 && bases[30] == 35 && bases[47] == 0xeb && bases[52] == 0x8ab && bases[53] == 0x1_08ab);
};

/// Stretches of offsets in which every slot is a whole number of `1 << shift` long: first slot, shift, and where the
/// stretch starts in [`OFFSET_INDEX`].
const STRETCHES: [(usize, u32, usize); 4] = {
    let mut stretches = [(0, 0, 0), (49, 6, 0), (167, 11, 0), (427, 16, 0)];
    let mut at = 1;
    while at < 4 {
        let (first, shift, start) = stretches[at - 1];
        let len = (OFFSET_SLOTS.bases[stretches[at].0] - OFFSET_SLOTS.bases[first]) >> shift;
        stretches[at].2 = start + len as usize;
        at += 1;
    }
    stretches
};

/// The last slot, which has no entries in [`OFFSET_INDEX`].
const LAST_SLOT: usize = MAX_OFFSET_SLOTS - 1;

const INDEX_LEN: usize = STRETCHES[3].2
    + ((OFFSET_SLOTS.bases[LAST_SLOT] - OFFSET_SLOTS.bases[STRETCHES[3].0]) >> STRETCHES[3].1) as usize;

/// Slots of offsets, stretch by stretch.
static OFFSET_INDEX: [u16; INDEX_LEN] = {
    let mut index = [0; INDEX_LEN];
    let (mut stretch, mut at) = (0, 0);
    while stretch < 4 {
        let (first, shift, _) = STRETCHES[stretch];
        let end = if stretch == 3 { LAST_SLOT } else { STRETCHES[stretch + 1].0 };
        let mut slot = first;
        while slot < end {
            let mut left = 1u32 << OFFSET_SLOTS.extra_bits[slot] >> shift;
            while left > 0 {
                index[at] = slot as u16;
                at += 1;
                left -= 1;
            }
            slot += 1;
        }
        stretch += 1;
    }
    assert!(at == INDEX_LEN);
    index
};

/// Slot of `offset`, 1 to 0x465be4a4.
#[inline(always)]
pub(super) fn offset_slot(offset: u32) -> usize {
    const BASES: [u32; 4] = [1, 0x2e5, 0xe4a5, 0x3d_e4a5];
    let stretch = usize::from(offset >= BASES[1]) + usize::from(offset >= BASES[2]) + usize::from(offset >= BASES[3]);
    let (_, shift, start) = STRETCHES[stretch];
    let at = start + ((offset - BASES[stretch]) >> shift) as usize;
    OFFSET_INDEX.get(at).map_or(LAST_SLOT, |&slot| usize::from(slot))
}

/// Slots of lengths below the two last slots.
static LENGTH_INDEX: [u8; LENGTH_SLOT_TABLE.bases[52] as usize] = {
    let mut index = [0; LENGTH_SLOT_TABLE.bases[52] as usize];
    let (mut slot, mut length) = (0, 1);
    while length < index.len() {
        if length as u32 >= LENGTH_SLOT_TABLE.bases[slot + 1] {
            slot += 1;
        }
        index[length] = slot as u8;
        length += 1;
    }
    index
};

/// Slot of `length`, 1 to 0x400108aa.
#[inline(always)]
pub(super) fn length_slot(length: u32) -> usize {
    match LENGTH_INDEX.get(length as usize) {
        Some(&slot) => usize::from(slot),
        None => 52 + usize::from(length >= LENGTH_SLOT_TABLE.bases[53]),
    }
}

/// Size of the offset alphabets for a chunk of `size` plain bytes. Below 2 bytes there is no offset, but a code of one
/// symbol would have no codeword.
pub(super) fn offset_slot_count(size: usize) -> usize {
    (1 + offset_slot(size.saturating_sub(1).max(1) as u32)).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_at_the_edges_of_slots_are_found() {
        for slot in 0..MAX_OFFSET_SLOTS {
            let first = OFFSETS.bases[slot];
            assert_eq!(offset_slot(first), slot);
            assert_eq!(offset_slot(first + ((1 << OFFSETS.extra_bits[slot]) - 1)), slot);
        }
        for slot in 0..LENGTH_SLOTS {
            let first = LENGTHS.bases[slot];
            assert_eq!(length_slot(first), slot);
            assert_eq!(length_slot(first + ((1 << LENGTHS.extra_bits[slot]) - 1)), slot);
        }
    }

    #[test]
    fn alphabets_grow_with_the_chunk() {
        // 12 is the worked example of the format description.
        let counts = [(1, 2), (2, 2), (3, 2), (12, 9), (1 << 30, 799)];
        for (size, slots) in counts {
            assert_eq!(offset_slot_count(size), slots, "{size} bytes");
        }
    }
}
