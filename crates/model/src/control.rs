//! Cancellation: one flag that every long loop asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The work was stopped on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

/// Shared between the one who may stop the work and those who do it. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Ctl {
    cancelled: Arc<AtomicBool>,
}

impl Ctl {
    /// Asks all work that holds this `Ctl` to stop. Safe to call from a signal handler.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Fails once [`Ctl::cancel`] was called.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) }
    }
}
