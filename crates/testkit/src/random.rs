//! Random numbers that depend on a seed alone, so that a failed run can be repeated.

/// SplitMix64: small, fast, good enough to choose sizes and names.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of the items; `None` when there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = self.below(u64::try_from(items.len()).unwrap_or(0));
        items.get(usize::try_from(index).unwrap_or(0))
    }

    /// Fills `buf`.
    pub fn fill(&mut self, buf: &mut [u8]) {
        for part in buf.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            part.copy_from_slice(&bytes[..part.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_everything_that_follows() {
        let (mut a, mut b, mut c) = (Random::new(7), Random::new(7), Random::new(8));
        let (x, y): (Vec<u64>, Vec<u64>) =
            ((0..9).map(|_| a.next_u64()).collect(), (0..9).map(|_| b.next_u64()).collect());
        assert_eq!(x, y);
        assert_ne!(x[0], c.next_u64());
        assert_eq!(a.below(0), 0);
        assert!((0..1000).all(|_| a.below(7) < 7));
        assert_eq!(a.pick::<u8>(&[]), None);
        let mut buf = [0; 13];
        a.fill(&mut buf);
        assert_ne!(buf, [0; 13]);
    }
}
