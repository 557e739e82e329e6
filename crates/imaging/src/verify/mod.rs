//! Checking: a WIM file against itself, and a directory against an image.

mod directory;
mod file;

pub use directory::{VerifyOptions, VerifyReport, verify_applied, verify_directory};
pub use file::{Damage, FileReport, IntegrityTables, VerifyFileOptions, check_integrity, verify_file};
