//! DHCP, ProxyDHCP, TFTP and HTTP-range decisions with no socket in them.
//!
//! Bytes and a moment go in, bytes, actions and an explanation come out; sockets, files and clocks are the engine's
//! (`gravure-bootd`, `gravure-payload`). What the wire looks like and what is refused stands in FORMAT.md.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;
mod stages;
mod throttle;
mod time;

pub mod dhcp;
pub mod dhcp6;
pub mod dhcp_client;
pub mod dnssd;
pub mod http;
pub mod names;
pub mod router;
pub mod tftp;

#[doc(hidden)]
pub mod fuzz;

pub use error::Error;
pub use stages::{Stage, StageWatch, Stopped};
pub use throttle::{Admission, Throttle};
pub use time::Millis;
