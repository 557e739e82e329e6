//! How long to wait for an acknowledgement: measured round trips, doubling on silence, a limit without progress.

use core::time::Duration;

use crate::Millis;

/// Waiting times of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Before any round trip was measured.
    pub first: Duration,
    /// Never shorter, however quick the client: a busy one may pause.
    pub shortest: Duration,
    /// Never longer, however long the silence.
    pub longest: Duration,
    /// The transfer ends after this long without progress.
    pub give_up: Duration,
    /// The same for a peer that has not answered at all: its request may have carried a forged address, and whoever has that is
    /// sent what it did not ask for. A client that lost our first answer repeats its request, which is a new transfer then.
    pub give_up_unanswered: Duration,
}

/// The longest that a peer which has not answered is waited for, whatever interval its request named.
const UNANSWERED_MOST: Duration = Duration::from_secs(15);

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(400),
            shortest: Duration::from_millis(150),
            longest: Duration::from_secs(5),
            give_up: Duration::from_secs(60),
            // Three packets with the times above: at once, after 0.4 s and after 1.2 s.
            give_up_unanswered: Duration::from_millis(2500),
        }
    }
}

/// The retransmission timer (RFC 6298 in milliseconds, with bounds fit for a LAN).
#[derive(Debug, Clone)]
pub(super) struct Timer {
    patience: Patience,
    /// The client's own interval, which then holds without change.
    fixed: Option<Duration>,
    smoothed: Option<(Duration, Duration)>,
    doublings: u32,
}

impl Timer {
    pub(super) fn new(patience: Patience, fixed: Option<Duration>) -> Self {
        Self { patience, fixed, smoothed: None, doublings: 0 }
    }

    /// How long to wait now.
    pub(super) fn wait(&self) -> Duration {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let base = self.smoothed.map_or(self.patience.first, |(mean, deviation)| {
            mean.saturating_add(deviation.saturating_mul(4)).max(self.patience.shortest)
        });
        base.saturating_mul(1u32.checked_shl(self.doublings).unwrap_or(u32::MAX)).min(self.patience.longest)
    }

    /// Something was acknowledged; `round_trip` when it was sent only once (Karn's rule).
    pub(super) fn progress(&mut self, round_trip: Option<Duration>) {
        self.doublings = 0;
        let Some(sample) = round_trip else { return };
        self.smoothed = Some(match self.smoothed {
            None => (sample, part(sample, 2)),
            Some((mean, deviation)) => {
                let off = mean.abs_diff(sample);
                (weigh(mean, sample, 8), weigh(deviation, off, 4))
            }
        });
    }

    /// Nothing came within [`Timer::wait`].
    pub(super) fn silence(&mut self) {
        self.doublings = self.doublings.saturating_add(1);
    }

    /// How long to go on without progress.
    pub(super) fn limit(&self, answered: Answered) -> Duration {
        // A client that asked for long intervals gets three of them.
        let fixed = self.fixed.unwrap_or_default().saturating_mul(3);
        match answered {
            Answered::Yes => self.patience.give_up.max(fixed),
            Answered::Never => self.patience.give_up_unanswered.max(fixed.min(UNANSWERED_MOST)),
        }
    }

    /// Whether to give up at `now`, with the last progress at `since`.
    pub(super) fn exhausted(&self, since: Millis, now: Millis, answered: Answered) -> bool {
        now.since(since) >= self.limit(answered)
    }
}

/// Whether a peer has said anything since its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    Yes,
    Never,
}

/// `old` moved towards `new` by one part in `parts`.
fn weigh(old: Duration, new: Duration, parts: u32) -> Duration {
    let step = part(old.abs_diff(new), parts);
    if new >= old { old.saturating_add(step) } else { old.saturating_sub(step) }
}

fn part(span: Duration, parts: u32) -> Duration {
    span.checked_div(parts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn silence_doubles_up_to_the_longest_and_progress_starts_over() {
        let mut timer = Timer::new(Patience::default(), None);
        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push(timer.wait());
            timer.silence();
        }
        assert_eq!(waits, [400, 800, 1600, 3200, 5000, 5000].map(ms));
        timer.progress(None);
        assert_eq!(timer.wait(), ms(400));
        for _ in 0..100 {
            timer.silence();
        }
        assert_eq!(timer.wait(), ms(5000));
    }

    #[test]
    fn measured_round_trips_shorten_and_lengthen_the_wait_within_bounds() {
        let mut timer = Timer::new(Patience::default(), None);
        for _ in 0..50 {
            timer.progress(Some(ms(1)));
        }
        assert_eq!(timer.wait(), ms(150));
        for _ in 0..50 {
            timer.progress(Some(ms(1000)));
        }
        let wait = timer.wait();
        assert!((ms(1000)..ms(1200)).contains(&wait), "{wait:?}");
        timer.progress(Some(ms(3000)));
        assert!(timer.wait() > ms(3000), "a jump widens the deviation: {:?}", timer.wait());
    }

    #[test]
    fn a_negotiated_interval_holds() {
        let mut timer = Timer::new(Patience::default(), Some(ms(30_000)));
        timer.silence();
        timer.progress(Some(ms(1)));
        timer.silence();
        assert_eq!(timer.wait(), ms(30_000));
        assert!(!timer.exhausted(Millis(0), Millis(89_999), Answered::Yes));
        assert!(timer.exhausted(Millis(0), Millis(90_000), Answered::Yes));
        assert!(!timer.exhausted(Millis(0), Millis(14_999), Answered::Never));
        assert!(timer.exhausted(Millis(0), Millis(15_000), Answered::Never));
    }

    #[test]
    fn unanswered_peers_are_given_up_sooner() {
        let timer = Timer::new(Patience::default(), None);
        assert!(!timer.exhausted(Millis(0), Millis(2_499), Answered::Never));
        assert!(timer.exhausted(Millis(0), Millis(2_500), Answered::Never));
        assert!(!timer.exhausted(Millis(0), Millis(59_999), Answered::Yes));
        assert!(timer.exhausted(Millis(0), Millis(60_000), Answered::Yes));
    }
}
