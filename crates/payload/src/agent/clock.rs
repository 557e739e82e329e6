//! The server's time, carried on by this machine's monotonic clock: no setting of the clock can make a plan valid again.

use std::time::Duration;

use gravure_linux::kernel;
use gravure_model::Timestamp;

/// A time of the server and when we had it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerClock {
    server: Timestamp,
    had_at: Duration,
}

impl ServerClock {
    /// Starts at `server`, which was signed for a nonce of ours just now.
    pub(super) fn start(server: Timestamp) -> Self {
        Self { server, had_at: kernel::uptime() }
    }

    /// The server's time now.
    pub(super) fn now(&self) -> Timestamp {
        self.at(kernel::uptime())
    }

    fn at(&self, uptime: Duration) -> Timestamp {
        let passed = uptime.saturating_sub(self.had_at).as_micros();
        Timestamp(self.server.0.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_and_never_goes_back() {
        let clock = ServerClock { server: Timestamp(1_000_000), had_at: Duration::from_secs(10) };
        assert_eq!(clock.at(Duration::from_secs(12)), Timestamp(3_000_000));
        assert_eq!(clock.at(Duration::from_secs(1)), Timestamp(1_000_000));
        assert!(ServerClock::start(Timestamp(5)).now() >= Timestamp(5));
    }
}
