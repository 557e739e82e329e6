//! A private apt root: Debian packages of a chosen suite, verified by apt, without touching the host.
//!
//! DESIGN section 6: payload and images are made of unmodified Debian packages. They come from the mirrors this
//! machine already uses, with the suite replaced in a *copy* of its sources; lists, cache and state live below a
//! cache directory of ours. apt itself downloads and verifies signatures and hashes. A [`Lock`] records what was
//! taken. A [`Recipe`] says what a system consists of; [`System::build`] makes it in a directory.
//!
//! Not here: installing packages on the host, and capturing the built system.
#![forbid(unsafe_code)]

mod apt;
mod error;
mod lock;
mod package;
mod sources;

pub mod recipe;
mod system;

pub use apt::{AptRoot, Progress};
pub use error::Error;
pub use lock::{Difference, Lock, LockedPackage};
pub use package::{Candidate, PackageFile};
pub use recipe::Recipe;
pub use sources::{Source, host_sources};
pub use system::{ROOT_LABEL, Say, System};
