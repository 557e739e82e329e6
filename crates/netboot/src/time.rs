//! The time handed to every state machine of this crate: milliseconds since an origin the caller picks.
//!
//! Nothing here reads a clock. A lease table that is stored and loaded again needs an origin that survives a restart
//! (the Unix epoch); transfers and the DHCP client want a clock that never steps, any origin.

use core::fmt;
use core::time::Duration;

/// A moment, in milliseconds since the caller's origin. Arithmetic saturates: a far future stays the far future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// Later than everything: the expiry of an infinite lease.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `span` later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_saturate_at_both_ends() {
        assert_eq!(Millis(5).after(Duration::from_secs(1)), Millis(1005));
        assert_eq!(Millis(5).after(Duration::MAX), Millis::NEVER);
        assert_eq!(Millis(5).since(Millis(9)), Duration::ZERO);
        assert_eq!(Millis(9).since(Millis(5)), Duration::from_millis(4));
    }
}
