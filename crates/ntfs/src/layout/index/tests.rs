//! Index trees hold every key once, in order, in blocks that fit.

use proptest::prelude::*;

use super::*;

/// Entries with a number as key and any length.
struct Numbers(Vec<usize>);

impl Entries for Numbers {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn len(&self, index: usize) -> usize {
        self.0[index]
    }
    fn write(&self, index: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let head = IndexEntryDisk {
            reference: U64::new(index as u64),
            len: U16::new(self.0[index] as u16),
            key_len: U16::new(4),
            flags: U16::new(0),
            reserved: U16::new(0),
        };
        out.extend_from_slice(head.as_bytes());
        out.resize(start + self.0[index], 0);
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Undoes the update sequence by the book.
fn unprotect(block: &mut [u8]) {
    let (offset, count) = (word(block, 4), word(block, 6));
    assert_eq!(count, 1 + block.len() / 512);
    let number = [block[offset], block[offset + 1]];
    for n in 1..count {
        let end = n * 512;
        assert_eq!(block[end - 2..end], number);
        let kept = [block[offset + 2 * n], block[offset + 2 * n + 1]];
        block[end - 2..end].copy_from_slice(&kept);
    }
}

/// Reads a node's entries in order, children first. Returns the depth below.
fn read(node: &[u8], blocks: &[Vec<u8>], step: u64, seen: &mut Vec<u64>, used: &mut Vec<u64>) -> usize {
    let mut at = u32::from_le_bytes(node[..4].try_into().unwrap()) as usize;
    let end = u32::from_le_bytes(node[4..8].try_into().unwrap()) as usize;
    let has_children = node[12] == 1;
    let mut depths = Vec::new();
    let mut count = 0;
    loop {
        let (len, flags) = (word(node, at + 8), word(node, at + 12));
        assert_eq!(flags & 1 == 1, has_children);
        if has_children {
            let child = long(node, at + len - 8);
            assert_eq!(child % step, 0);
            used.push(child);
            let block = &blocks[(child / step) as usize];
            assert_eq!(long(block, 0x10), child);
            depths.push(1 + read(&block[0x18..], blocks, step, seen, used));
        }
        if flags & 2 != 0 {
            assert_eq!(at + len, end);
            break;
        }
        count += 1;
        seen.push(long(node, at));
        at += len;
    }
    // Only a root may be without entries of its own.
    assert!(count > 0 || node.len() < 4096 - 0x18, "an empty block");
    depths.dedup();
    assert!(depths.len() <= 1, "leaves at different depths");
    depths.pop().unwrap_or(0)
}

fn check(lens: Vec<usize>, root_bytes: usize, step: u64) -> usize {
    let entries = Numbers(lens);
    let shape = Shape::new(&entries, root_bytes);
    let mut blocks: Vec<Vec<u8>> = shape.blocks(&entries, step).collect();
    assert_eq!(blocks.len() as u64, shape.block_count());
    blocks.iter_mut().for_each(|block| unprotect(block));
    let mut root = Vec::new();
    shape.write_root(&entries, step, &mut root);
    assert!(root.len() - 0x10 <= root_bytes);
    let (mut seen, mut used) = (Vec::new(), Vec::new());
    let depth = read(&root, &blocks, step, &mut seen, &mut used);
    assert_eq!(seen, (0..entries.count() as u64).collect::<Vec<_>>());
    used.sort_unstable();
    assert_eq!(used, (0..blocks.len() as u64).map(|n| n * step).collect::<Vec<_>>());
    depth
}

#[test]
fn sixty_thousand_names_are_three_deep() {
    assert_eq!(check(vec![], 0x18, 1), 0);
    assert_eq!(check(vec![96; 3], 0x138, 1), 0);
    assert_eq!(check(vec![96; 60_000], 300, 1), 3);
    assert_eq!(check(vec![600; 2000], 0x18, 8), 4);
}

#[test]
fn bitmaps_have_a_bit_for_each_block() {
    for blocks in [0u64, 1, 7, 8, 63, 64, 65, 3169] {
        let bitmap = bitmap(blocks);
        assert_eq!(bitmap.len() % 8, 0);
        assert_eq!(bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>(), blocks);
        assert!((0..blocks as usize).all(|n| bitmap[n / 8] >> (n % 8) & 1 == 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_entry_is_found_in_order(
        lens in prop::collection::vec(2usize..=75, 0..3000),
        root in 0x18usize..700,
        step in prop::sample::select(vec![1u64, 2, 8]),
    ) {
        check(lens.into_iter().map(|len| len * 8).collect(), root, step);
    }
}
