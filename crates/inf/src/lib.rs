//! INF files: parsing, choice of models for a Windows version, driver rank, what a package installs.
//!
//! Bytes only: a file comes as bytes and is never changed. Grammar, rules and their sources are in `FORMAT.md`.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;
mod limits;

mod inf;
mod lines;
mod strings;
mod text;

mod decoration;
mod models;
mod rank;
mod target;
mod version;

mod check;
mod install;
mod places;
mod registry;
mod services;

#[doc(hidden)]
pub mod fuzz;

pub use check::Report;
pub use error::{Error, Note, Severity};
pub use inf::Inf;
pub use install::{FileCopy, Included, Install};
pub use limits::{MAX_FIELD_CHARS, MAX_FILE_BYTES, MAX_SECTION_NAME_CHARS};
pub use lines::{Line, Section};
pub use models::Model;
pub use places::Place;
pub use rank::{DEFAULT_FEATURE_SCORE, DeviceIds, Match, Rank, Signer, rank};
pub use registry::{RegData, RegEntry, Root, flags as reg_flags};
pub use services::{ASSOCIATED, BOOT_START, EventSource, Service};
pub use target::{Arch, OsVersion, ProductType, Target};
pub use text::Encoding;
pub use version::{Catalog, Date, DriverVersion, EXTENSION_CLASS, Version};
