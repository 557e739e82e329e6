//! Which clusters belong to files, a bit each, and how that compares with $Bitmap.

use super::finding::{Spot, Teller};
use crate::disk::numbers;
use crate::read::bytes::{at, wide};
use crate::rule::Rule;

const BITS: u64 = 64;

/// A bit for each cluster that a file has.
#[derive(Debug)]
pub(super) struct ClusterMap {
    words: Vec<u64>,
    clusters: u64,
    pub(super) used: u64,
}

impl ClusterMap {
    pub(super) fn new(clusters: u64) -> Self {
        Self { words: vec![0; at(clusters.div_ceil(BITS))], clusters, used: 0 }
    }

    /// Marks `count` clusters from `lcn` on. Returns the first that was marked and how many were.
    pub(super) fn claim(&mut self, lcn: u64, count: u64) -> Option<(u64, u64)> {
        let end = lcn.saturating_add(count).min(self.clusters);
        let (mut first, mut twice) = (None, 0u64);
        let mut pos = lcn;
        while pos < end {
            let in_word = pos & (BITS.saturating_sub(1));
            let len = BITS.saturating_sub(in_word).min(end.saturating_sub(pos));
            let mask = low_bits(len).checked_shl(u32::try_from(in_word).unwrap_or(0)).unwrap_or(0);
            if let Some(word) = self.words.get_mut(at(pos >> 6)) {
                let both = *word & mask;
                if both != 0 {
                    first.get_or_insert(
                        (pos & !(BITS.saturating_sub(1))).saturating_add(u64::from(both.trailing_zeros())),
                    );
                    twice = twice.saturating_add(u64::from(both.count_ones()));
                }
                *word |= mask;
            }
            pos = pos.saturating_add(len);
        }
        self.used = self.used.saturating_add(count).saturating_sub(twice);
        first.map(|first| (first, twice))
    }

    /// Compares with `bytes` of $Bitmap, the first of which is for cluster `first`, a multiple of 64.
    pub(super) fn compare(&self, first: u64, bytes: &[u8], offset: u64, differences: &mut Differences) {
        for (index, part) in bytes.chunks(8).enumerate() {
            let start = first.saturating_add(wide(index).saturating_mul(BITS));
            let mut word = [0; 8];
            word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            let marked = u64::from_le_bytes(word);
            let bits = wide(part.len()).saturating_mul(8);
            let inside = low_bits(self.clusters.saturating_sub(start).min(bits));
            let claimed = self.words.get(at(start >> 6)).copied().unwrap_or(0);
            // What is behind the last cluster is marked, so that nobody takes it.
            let expected = (claimed & inside) | (!inside & low_bits(bits));
            if marked == expected {
                continue;
            }
            let offset = offset.saturating_add(wide(index).saturating_mul(8));
            for bit in 0..64u32 {
                let mask = 1u64.checked_shl(bit).unwrap_or(0);
                if (marked ^ expected) & mask != 0 {
                    let lcn = start.saturating_add(u64::from(bit));
                    let kind = match (lcn >= self.clusters, marked & mask != 0) {
                        (true, _) => Kind::BehindEnd,
                        (false, true) => Kind::Leak,
                        (false, false) => Kind::NotMarked,
                    };
                    differences.push(kind, lcn, offset.saturating_add(u64::from(bit >> 3)));
                }
            }
        }
    }
}

fn low_bits(count: u64) -> u64 {
    match u32::try_from(count) {
        Ok(count @ 0..=63) => 1u64.checked_shl(count).unwrap_or(0).wrapping_sub(1),
        _ => u64::MAX,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NotMarked,
    Leak,
    BehindEnd,
}

/// Differences between clusters and $Bitmap, put together to ranges.
#[derive(Debug, Default)]
pub(super) struct Differences {
    ranges: Vec<(Kind, u64, u64, u64)>,
}

/// Ranges that are kept; further ones of a volume in such a state say nothing new.
const MAX_RANGES: usize = 1000;

impl Differences {
    fn push(&mut self, kind: Kind, lcn: u64, offset: u64) {
        if let Some((last, start, count, _)) = self.ranges.last_mut()
            && *last == kind
            && start.saturating_add(*count) == lcn
        {
            *count = count.saturating_add(1);
        } else if self.ranges.len() < MAX_RANGES {
            self.ranges.push((kind, lcn, 1, offset));
        }
    }

    pub(super) fn tell(&self, teller: &mut Teller<'_>) {
        for (kind, start, count, offset) in &self.ranges {
            let spot = Spot::record(numbers::BITMAP).at(*offset);
            let found = format!("{count} from {start} on");
            match kind {
                Kind::NotMarked => teller.tell(
                    Rule::BitmapNotMarked,
                    spot,
                    "clusters of files marked",
                    format!("{found} free"),
                ),
                Kind::Leak => teller.tell(Rule::BitmapLeak, spot, "only clusters of files marked", found),
                Kind::BehindEnd => teller.tell(
                    Rule::BitmapEnd,
                    spot,
                    "what is behind the last cluster marked",
                    format!("{found} free"),
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_tell_what_was_claimed() {
        let mut map = ClusterMap::new(1000);
        assert_eq!(map.claim(3, 200), None);
        assert_eq!(map.claim(203, 5), None);
        assert_eq!(map.claim(207, 3), Some((207, 1)));
        assert_eq!(map.claim(0, 1000), Some((3, 207)));
        assert_eq!(map.used, 1000);
    }

    #[test]
    fn differences_are_ranges() {
        let mut map = ClusterMap::new(100);
        map.claim(10, 70);
        let mut bytes = vec![0u8; 16];
        for bit in (10..70).chain(90..95).chain(101..128) {
            bytes[bit / 8] |= 1 << (bit % 8);
        }
        let mut differences = Differences::default();
        map.compare(0, &bytes, 0x1000, &mut differences);
        let expected = [
            (Kind::NotMarked, 70, 10, 0x1008),
            (Kind::Leak, 90, 5, 0x100b),
            (Kind::BehindEnd, 100, 1, 0x100c),
        ];
        assert_eq!(differences.ranges, expected);
    }
}
