//! Plain data that the parts of Gravure exchange: inventory, jobs, plans, events, image descriptors, API messages.
//!
//! Everything here is serialisable, versioned and free of behaviour beyond checks of its own fields. Times are
//! microseconds since 1970 as `i64`, sizes are bytes, ids are text (DESIGN sections 4, 6, 8).
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

pub mod api;
mod assurance;
mod control;
pub mod descriptor;
pub mod event;
pub mod identity;
pub mod inventory;
pub mod job;
pub mod messages;
pub mod plan;
mod secret;
pub mod site;
mod time;

pub use assurance::Assurance;
pub use control::{Cancelled, Ctl};
pub use secret::Secret;
pub use time::Timestamp;
