//! Metadata there and back.
