//! Sources, sinks and the bounded parallel pipeline: capture, apply, extract, verify, describe.
//!
//! The engine between image files and places where files live. Formats are the business of `gravure-wim`, system calls
//! that of `gravure-linux`; here are the threads, the order, the memory bound and the decisions. `README.md` lists the
//! public surface, [`stage`] is the heart.
#![forbid(unsafe_code)]

mod error;
mod meter;
mod uses;

mod chain;
mod read_ahead;
mod stage;

mod archive;
mod damage;
mod image;
mod reading;

mod directory;
mod exclude;
mod output_file;
mod range_hash;

mod apply;
mod capture;
mod describe;
mod extract;
mod verify;

mod remote;

mod volume;

pub use apply::{ApplyOptions, ApplyReport, Durability, apply_to_directory};
pub use capture::{CaptureOptions, CaptureReport, Integrity, capture_directory};
pub use describe::{describe, describe_file, system_of};
pub use directory::{Existing, Mounts, RootMetadata, ScanOptions};
pub use error::{Error, ErrorKind};
pub use exclude::Exclusions;
pub use extract::{Parents, extract, extract_to};
pub use gravure_codec::Level;
pub use gravure_ntfs::Collisions;
pub use gravure_wim::{Compression, Method};
pub use image::{Image, ImageFile, Which};
pub use meter::default_threads;
pub use remote::{HttpAt, RemoteOptions, agent};
pub use verify::{
    Damage, FileReport, VerifyFileOptions, VerifyOptions, VerifyReport, verify_applied, verify_directory,
    verify_file,
};
pub use volume::{
    ExistingData, VolumeApplyOptions, VolumeDevice, VolumeFile, VolumeReport, VolumeVerify, apply_to_volume,
};
