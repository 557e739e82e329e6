//! What clients are refused is logged once for each of them, not once for each request: whoever asks without end must not fill
//! the log, and what somebody tries for the first time must stand in it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Via;

/// After so long the same is news again.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// Kinds of refusals remembered, of all clients together: a flood from made-up addresses writes no more lines than this in
/// [`TELL_AGAIN`].
const MAX_TOLD: usize = 1024;

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    /// A name that leads upwards, or is none.
    Name,
    /// A name behind which a link leads out of the served directory.
    Link,
    /// A file that is there and cannot be read.
    Unreadable,
    /// To take a file.
    Write,
    /// Something that is no request.
    Malformed,
    /// More at once than one client may have.
    TooMany,
    /// To go on sending to somebody who answers nothing.
    Unanswered,
}

/// Which refusals were logged.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: Mutex<HashMap<(IpAddr, Via, Refused), Instant>>,
}

impl Refusals {
    /// Whether this is worth a line.
    pub(crate) fn is_news(&self, peer: IpAddr, via: Via, what: Refused) -> bool {
        self.is_news_at((peer, via, what), Instant::now())
    }

    fn is_news_at(&self, case: (IpAddr, Via, Refused), now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |at: Instant| now.saturating_duration_since(at) >= TELL_AGAIN;
        if told.get(&case).is_some_and(|at| !old(*at)) {
            return false;
        }
        if told.len() >= MAX_TOLD {
            told.retain(|_, at| !old(*at));
        }
        let room = told.len() < MAX_TOLD;
        if room {
            told.insert(case, now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn each_kind_is_told_once_for_each_client_and_a_flood_ends() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let at = |seconds: u64, last: u8, what| {
            let now = start.checked_add(Duration::from_secs(seconds)).unwrap();
            refusals.is_news_at((Ipv4Addr::new(10, 0, 0, last).into(), Via::Tftp, what), now)
        };
        assert!(at(0, 1, Refused::Name));
        assert!(!at(1, 1, Refused::Name) && !at(599, 1, Refused::Name));
        assert!(at(2, 1, Refused::Link), "another kind");
        assert!(at(2, 2, Refused::Name), "another client");
        assert!(at(600, 1, Refused::Name), "in ten minutes it is news again");
        let forged = (0..4 * u32::try_from(MAX_TOLD).unwrap()).map(Ipv4Addr::from_bits);
        let malformed = |peer: Ipv4Addr| (peer.into(), Via::Http, Refused::Malformed);
        let told = forged.filter(|peer| refusals.is_news_at(malformed(*peer), start)).count();
        assert!((MAX_TOLD - 8..=MAX_TOLD).contains(&told), "{told}");
        assert!(at(1200, 9, Refused::Name), "the flood is forgotten");
    }
}
