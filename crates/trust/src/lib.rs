//! Signed envelopes and the keys that make and check them.
