//! Where to end a block: when the mix of items changes.

/// Literals by their top two bits and lowest bit, then short and long matches.
const CLASSES: usize = 10;

/// Items between two looks.
const INTERVAL: u32 = 512;

/// A block pays for its code lengths only above about this many bytes.
const MIN_BLOCK: usize = 6000;

/// Watches the items of a block.
#[derive(Debug)]
pub(super) struct Splitter {
    /// Counts of the block up to the last look.
    before: [u32; CLASSES],
    /// Counts since.
    recent: [u32; CLASSES],
    before_items: u32,
    recent_items: u32,
}

impl Splitter {
    pub(super) fn new() -> Self {
        Self { before: [0; CLASSES], recent: [0; CLASSES], before_items: 0, recent_items: 0 }
    }

    #[inline(always)]
    pub(super) fn literal(&mut self, byte: u8) {
        self.recent[usize::from(byte >> 5 & 6 | byte & 1)] += 1;
        self.recent_items += 1;
    }

    #[inline(always)]
    pub(super) fn matched(&mut self, length: u32) {
        self.recent[8 + usize::from(length >= 9)] += 1;
        self.recent_items += 1;
    }

    /// Whether the block should end here, `bytes` after its start with `left` bytes of the chunk to come.
    #[inline(always)]
    pub(super) fn ends_block(&mut self, bytes: usize, left: usize) -> bool {
        self.recent_items >= INTERVAL && self.look(bytes, left)
    }

    fn look(&mut self, bytes: usize, left: usize) -> bool {
        if self.before_items > 0 && bytes >= MIN_BLOCK && left >= MIN_BLOCK {
            // Sum of |recent share - share before|, both scaled by the product of the totals.
            let (all_before, all_recent) = (u64::from(self.before_items), u64::from(self.recent_items));
            let difference: u64 = self
                .before
                .iter()
                .zip(&self.recent)
                .map(|(&before, &recent)| {
                    (u64::from(before) * all_recent).abs_diff(u64::from(recent) * all_before)
                })
                .sum();
            // Half of the mix is new, or less in a long block, where the old codes have had their use.
            let threshold = all_before * all_recent * 170 / 200;
            if difference + bytes as u64 / 4096 * (all_before * all_recent / 200) >= threshold {
                return true;
            }
        }
        for (before, recent) in self.before.iter_mut().zip(&mut self.recent) {
            *before += std::mem::take(recent);
        }
        self.before_items += std::mem::take(&mut self.recent_items);
        false
    }
}
