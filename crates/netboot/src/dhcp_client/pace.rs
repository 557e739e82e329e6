//! When a client repeats itself: doubling waits with some chance in them, so that a room of machines does not speak at once.

use core::time::Duration;

/// Waiting times of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Before the first repetition. RFC 2131 section 4.1 says four seconds; a person waits in front of the machine, and a
    /// switch port that has just come up often swallows the first packet.
    pub first: Duration,
    /// Longest wait between repetitions.
    pub longest: Duration,
    /// REQUESTs sent before starting over with a DISCOVER.
    pub request_tries: u32,
    /// Wait after a conflict (RFC 2131 section 3.1 point 5: at least ten seconds).
    pub after_conflict: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(16),
            request_tries: 4,
            after_conflict: Duration::from_secs(10),
        }
    }
}

impl Pace {
    /// The wait after the `sent`th packet (counted from 1), a quarter more or less by `chance`.
    pub(super) fn wait(&self, sent: u32, chance: &mut Chance) -> Duration {
        let doublings = sent.saturating_sub(1);
        let plain =
            self.first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.longest);
        let quarter = plain.checked_div(4).unwrap_or_default();
        plain.saturating_sub(quarter).saturating_add(chance.below(quarter.saturating_mul(2)))
    }
}

/// SplitMix64: enough to tell machines apart in time; seeded by the caller with real randomness for the transaction ids.
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A transaction id; never 0, which some servers take for none.
    pub(super) fn xid(&mut self) -> u32 {
        let [.., a, b, c, d] = self.next().to_be_bytes();
        u32::from_be_bytes([a, b, c, d]).max(1)
    }

    /// A span below `bound`, in whole milliseconds.
    fn below(&mut self, bound: Duration) -> Duration {
        let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.next().checked_rem(millis).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_a_quarter_up_to_the_longest() {
        let (pace, mut chance) = (Pace::default(), Chance::new(1));
        for (sent, plain) in
            [(1, 1000), (2, 2000), (3, 4000), (4, 8000), (5, 16_000), (6, 16_000), (99, 16_000)]
        {
            for _ in 0..50 {
                let wait = pace.wait(sent, &mut chance).as_millis();
                assert!((plain * 3 / 4..=plain * 5 / 4).contains(&wait), "{sent}: {wait}");
            }
        }
        let mut waits: Vec<_> = (0..50).map(|_| pace.wait(1, &mut chance)).collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 25, "machines must not keep step");
    }
}
