//! Signed envelopes, and the keys that make and check them (DESIGN section 8).
//!
//! An offline site root signs a statement on the online plan key; the plan key signs plans, image descriptors and
//! the server's time. The payload carries the root's public key in its per-site part and checks the whole chain.
//! TLS and the site CA are not here: they are the server's.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod block_image;
mod chain;
mod envelope;
mod key;

pub use block_image::{accept_block_image, sign_block_image};
pub use chain::{OfflineVerdict, PlanExpectation, PlanSigner, TrustedPlanKey, Verdict};
pub use envelope::Purpose;
pub use key::{PublicKey, SigningKey};

/// Why a signed statement is not accepted, or a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is no key or signature.
    #[error("{what}: expected {expected}, found {found:?}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// What it must look like.
        expected: &'static str,
        /// What it looks like.
        found: String,
    },
    /// Signed by another key.
    #[error("{what} is signed by key {found}, expected key {expected}")]
    OtherKey {
        /// What was checked.
        what: &'static str,
        /// Id of the trusted key.
        expected: String,
        /// Id in the envelope.
        found: String,
    },
    /// Signed for something else.
    #[error("statement is signed for {found:?}, expected {expected:?}")]
    OtherPurpose {
        /// What the caller wanted.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// The bytes are not those that were signed.
    #[error("signature of {what} by key {key} does not match its content")]
    BadSignature {
        /// What was checked.
        what: &'static str,
        /// Key id.
        key: String,
    },
    /// The signed bytes are no such document.
    #[error("{what} cannot be read: {source}")]
    Unreadable {
        /// What was being read.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Outside its time.
    #[error("{what} is not valid at {now}: valid from {not_before} to {not_after} (seconds since 1970)")]
    OutOfTime {
        /// What was checked.
        what: &'static str,
        /// Server time, seconds.
        now: i64,
        /// Seconds.
        not_before: i64,
        /// Seconds.
        not_after: i64,
    },
    /// A field binds the statement to something else.
    #[error("{what}: {field} is {found}, expected {expected}")]
    NotForUs {
        /// What was checked.
        what: &'static str,
        /// Which field.
        field: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(String),
}
