//! How many answers one client gets: enough for every boot that was ever seen, too few for a storm.
//!
//! Windows of a fixed length, so that forgetting costs nothing: a client whose firmware, loaders and system all ask in one
//! window stays far below the limit, one that is stuck in a loop (or somebody who plays one) does not keep the server, its
//! lease database and the network busy.

use core::time::Duration;
use std::collections::HashMap;

use crate::time::Millis;

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(10);
/// Answers to one client in a window. PXE firmware, shim, GRUB and the payload together take about 20 in a quick boot.
const ANSWERS: u32 = 60;
/// Clients that are counted in a window; further ones are answered uncounted, as each is new.
const MAX_CLIENTS: usize = 1 << 14;
/// Longest identity that is kept: a DUID (RFC 8415, 11.1).
const MAX_ID_BYTES: usize = 130;

/// Whether a client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Answer,
    /// No, for the first time in this window: worth a line in the log.
    RefuseAndSay,
    /// No, as before.
    Refuse,
}

/// Counts what clients asked.
#[derive(Debug)]
pub struct Throttle {
    most: u32,
    started: Millis,
    asked: HashMap<Box<[u8]>, u32>,
}

impl Default for Throttle {
    /// For the answers to one machine that boots.
    fn default() -> Self {
        Self::new(ANSWERS)
    }
}

impl Throttle {
    /// Lets one client have `most` of what is counted in ten seconds.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { most, started: Millis(0), asked: HashMap::new() }
    }

    /// Whether the client `id` has had all it may have, without counting anything.
    #[must_use]
    pub fn is_spent(&self, id: &[u8], now: Millis) -> bool {
        let id = id.get(..MAX_ID_BYTES).unwrap_or(id);
        let current = now >= self.started && now.since(self.started) < WINDOW;
        current && self.asked.get(id).is_some_and(|count| *count >= self.most)
    }

    /// Counts a message of the client `id` (hardware address or DUID) at `now`.
    pub fn admit(&mut self, id: &[u8], now: Millis) -> Admission {
        // A clock that was put back starts a new window as well.
        if now < self.started || now.since(self.started) >= WINDOW {
            self.asked.clear();
            self.started = now;
        }
        let id = id.get(..MAX_ID_BYTES).unwrap_or(id);
        if self.asked.len() >= MAX_CLIENTS && !self.asked.contains_key(id) {
            return Admission::Answer;
        }
        let count = self.asked.entry(id.into()).or_default();
        *count = count.saturating_add(1);
        match (*count).checked_sub(self.most) {
            None | Some(0) => Admission::Answer,
            Some(1) => Admission::RefuseAndSay,
            Some(_) => Admission::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_ends_and_is_told_once_a_window() {
        let mut throttle = Throttle::default();
        let mut at = |now: u64, id: u8| throttle.admit(&[id; 6], Millis(now));
        for _ in 0..ANSWERS {
            assert_eq!(at(101_000, 1), Admission::Answer);
        }
        assert_eq!(at(101_001, 1), Admission::RefuseAndSay);
        assert_eq!(at(110_999, 1), Admission::Refuse);
        assert_eq!(at(110_999, 2), Admission::Answer, "others are not concerned");
        assert_eq!(at(120_999, 1), Admission::Answer, "nobody is locked out for ever");
        assert_eq!(at(5, 1), Admission::Answer, "nor by a clock that was put back");
    }

    #[test]
    fn who_has_had_all_is_known_without_counting() {
        let mut throttle = Throttle::new(2);
        for (now, spent) in [(100, false), (200, false), (300, true)] {
            assert_eq!(throttle.is_spent(b"one", Millis(now)), spent, "{now}");
            throttle.admit(b"one", Millis(now));
        }
        assert!(!throttle.is_spent(b"two", Millis(400)));
        assert!(!throttle.is_spent(b"one", Millis(100 + 20_000)), "another window");
    }

    #[test]
    fn many_clients_are_answered_and_memory_stays_bounded() {
        let mut throttle = Throttle::default();
        for client in 0..u32::try_from(MAX_CLIENTS).unwrap() * 2 {
            assert_eq!(throttle.admit(&client.to_be_bytes(), Millis(0)), Admission::Answer);
        }
        assert_eq!(throttle.asked.len(), MAX_CLIENTS);
        throttle.admit(&[7; 4096], Millis(20_000));
        assert!(throttle.asked.keys().all(|id| id.len() <= MAX_ID_BYTES));
    }
}
