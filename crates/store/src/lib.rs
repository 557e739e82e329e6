//! The content store: chunks of block images and contents of file images, each once, in packs of 24 MiB; images are manifests that
//! name them. A directory or a web server; copies and several places as layers over them.
//!
//! Nothing is changed in place, everything that was reported as done lasts, and whatever a crash leaves is garbage that the next
//! collection removes. `README.md` has the layout and the order of steps.
#![forbid(unsafe_code)]

mod error;

mod files;
mod objects;

mod bounded;
mod http;
mod layers;
mod local;
mod s3;

mod index;
mod store;

mod check;
mod collect;
mod writer;

pub use bounded::BoundedObjects;
pub use check::check_object;
pub use collect::{CollectOptions, CollectReport, ScrubReport};
pub use error::{Error, ErrorKind};
pub use files::{Files, Locked, SystemFiles};
pub use http::HttpObjects;
pub use index::Place;
pub use layers::{CachedObjects, FailoverObjects};
pub use local::LocalObjects;
pub use objects::{Listed, Objects, Put, Session, read_whole};
pub use s3::{S3Config, S3Objects};
pub use store::{OnExisting, Store, StoredImage};
pub use writer::{Checker, PACK_BYTES, Writer};
