//! Offline servicing of Windows. So far: the driver repository, `drivers`.
#![forbid(unsafe_code)]

mod error;

pub mod drivers;

pub use error::Error;
