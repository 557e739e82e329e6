//! Bitmaps: runs of bits that are not set.

use std::ops::Range;

use crate::field::wide;

/// Runs of zero bits among the first `count` bits of `bytes`, least significant bit first; ascending, none touching another.
/// Bits behind the end of `bytes` count as set.
pub(crate) fn zeros(bytes: &[u8], count: u64) -> Zeros<'_> {
    Zeros { bytes, count: count.min(wide(bytes.len()).saturating_mul(8)), next: 0 }
}

/// The iterator of [`zeros`].
pub(crate) struct Zeros<'a> {
    bytes: &'a [u8],
    count: u64,
    next: u64,
}

impl Zeros<'_> {
    /// The first bit from `next` on that is `set`, or `count`.
    fn find(&mut self, set: bool) -> u64 {
        while self.next < self.count {
            let pos = crate::field::size(self.next >> 3);
            let bit = u32::try_from(self.next & 7).unwrap_or(0);
            // Eight bytes at a time through what is all alike.
            let whole = self.bytes.get(pos..).and_then(|rest| rest.first_chunk::<8>());
            let boring = if set { [0; 8] } else { [0xff; 8] };
            if bit == 0 && whole == Some(&boring) {
                self.next = self.next.saturating_add(64);
                continue;
            }
            let byte = self.bytes.get(pos).copied().unwrap_or(0xff);
            let wanted = if set { byte } else { !byte } & 0xffu8.checked_shl(bit).unwrap_or(0);
            if wanted != 0 {
                self.next = (self.next & !7).saturating_add(wanted.trailing_zeros().into());
                break;
            }
            self.next = (self.next | 7).saturating_add(1);
        }
        self.next = self.next.min(self.count);
        self.next
    }
}

impl Iterator for Zeros<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let start = self.find(false);
        (start < self.count).then(|| start..self.find(true))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_those_of_the_bits(
            parts in prop::collection::vec((1usize..150, any::<bool>()), 0..40),
            cut in 0usize..70,
        ) {
            let bits: Vec<bool> = parts.iter().flat_map(|(len, set)| vec![*set; *len]).collect();
            let mut bytes = vec![0u8; bits.len().div_ceil(8)];
            for (index, _) in bits.iter().enumerate().filter(|(_, set)| **set) {
                bytes[index / 8] |= 1 << (index % 8);
            }
            let count = bits.len().saturating_sub(cut);
            let mut found = vec![true; bits.len()];
            let mut end = None;
            for run in zeros(&bytes, count as u64) {
                prop_assert!(run.start < run.end && end.is_none_or(|end| run.start > end));
                end = Some(run.end);
                found[run.start as usize..run.end as usize].fill(false);
            }
            prop_assert_eq!(&found[..count], &bits[..count]);
            prop_assert!(found[count..].iter().all(|set| *set));
        }
    }

    #[test]
    fn bits_that_are_missing_are_set() {
        assert!(zeros(&[0], 100).eq(std::iter::once(0..8)));
        assert_eq!(zeros(&[], 100).count(), 0);
    }
}
