//! The driver repository: packages of INF files with what belongs to them, each content once, found by hardware ID.
//!
//! On disk: `objects/ab/<hash>` has contents by BLAKE3; `packages/<id>.json` says which files a package has, its id being the
//! hash of that list; `models/` says which packages came out of the driver pack of which model; `index.sqlite` finds packages by
//! hardware ID (tables in the header of `drivers/index.rs`). Every file but that is written beside its place and renamed, and contents
//! are on the disk before the package that names them, so that whatever is interrupted leaves a repository that is whole. One
//! process writes at a time: it holds a lock on the marker, `gravure-drivers.json`. Readers hold none.
//!
//! The index is a database of SQLite, so that adding and removing change what they are about and no more. It is derived: packages are
//! the truth, and an index that is not of exactly these, or damaged, is mended by whoever comes upon it. All this is behind the feature
//! `repository`, which the payload does without: it has packages in bundles. A package is taken when its catalogues are as they were signed and have the hashes of
//! all its files; who may sign is for trusted certificates to say, where the caller gives some.

pub(crate) mod archive;
mod cabinet;
#[cfg(feature = "repository")]
mod coverage;
mod database;
#[cfg(feature = "repository")]
mod index;
mod inject;
#[cfg(feature = "repository")]
mod lock;
mod manifest;
mod matching;
#[cfg(feature = "repository")]
mod models;
mod packages;
mod publication;
#[cfg(feature = "repository")]
mod repository;
mod vendor;

pub use archive::{ArchiveKind, unpack};
#[cfg(feature = "repository")]
pub use coverage::{Cover, Coverage, coverage};
pub use database::ImageDriver;
pub use inject::{
    DRIVERS_DIR, DeviceReport, InjectOptions, InjectReport, Level, PackageReport, Publish, Served, Unsigned,
    inject, inject_with, is_better,
};
pub use manifest::{FileEntry, Manifest, PackageSignature};
pub use matching::{Candidate, DeviceMatch, chosen_packages, components, fitting_packages, matches};
#[cfg(feature = "repository")]
pub use models::PackModel;
pub use packages::{BundledPackages, Packages, Placed};
pub(crate) use packages::{content_at, node_at, read_limited};
#[cfg(feature = "repository")]
pub use repository::{AddOptions, Added, Repository};
pub use vendor::{PackQuestion, Vendor, VendorCatalogue, VendorPack};
