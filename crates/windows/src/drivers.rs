//! The driver repository: packages of INF files with what belongs to them, each content once, found by hardware ID.
//!
//! On disk: `objects/ab/<hash>` has contents by BLAKE3; `packages/<id>.json` says which files a package has, its id being the
//! hash of that list; `models/` says which packages came out of the driver pack of which model; `index` finds packages by hardware ID and is made anew whenever it does not fit the packages. Every
//! file is written beside its place and renamed, and contents are on the disk before the package that names them, so that
//! whatever is interrupted leaves a repository that is whole.
//!
//! The index is a file of our own, not a database: it is derived, read far more often than written, and a match must do
//! with a few reads of a sorted table. A package is taken when its catalogues are as they were signed and have the hashes of
//! all its files; who may sign is for trusted certificates to say, where the caller gives some.

pub(crate) mod archive;
mod cabinet;
mod coverage;
mod database;
mod index;
mod inject;
mod manifest;
mod matching;
mod models;
mod packages;
mod publication;
mod repository;
mod vendor;

pub use archive::{ArchiveKind, unpack};
pub use coverage::{Cover, Coverage, coverage};
pub use database::ImageDriver;
pub use inject::{
    DRIVERS_DIR, DeviceReport, InjectOptions, InjectReport, Level, PackageReport, Publish, Served, Unsigned,
    inject, inject_with, is_better,
};
pub use manifest::{FileEntry, Manifest, PackageSignature};
pub use matching::{Candidate, DeviceMatch, chosen_packages, components, matches};
pub use models::{PackModel, fitting_packages};
pub use packages::{BundledPackages, Packages, Placed};
pub(crate) use packages::{content_at, node_at, read_limited};
pub use repository::{AddOptions, Added, Repository};
pub use vendor::{PackQuestion, Vendor, VendorCatalogue, VendorPack};
