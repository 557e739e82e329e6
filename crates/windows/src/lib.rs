//! Offline servicing of Windows: an image in memory that is changed with a record, drivers that are chosen and put into it.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "repository"),
    expect(dead_code, unused_imports, reason = "what only repositories ask of signatures and descriptions")
)]

mod error;
mod journal;

mod file_version;
mod identity;
mod image;
mod linux_image;
mod names;
mod recovery;
mod shortcut;
mod signature;
mod system;

pub mod answer;
pub mod boot;

pub mod drivers;
pub mod layers;

#[doc(hidden)]
pub mod fuzz;

pub use error::Error;
pub use identity::{SERVICED_DIRECTORIES, installed_on};
pub use image::{ContentResult, Finished, HiveFile, LooksInto, OutsideFile, ReadContent, WindowsImage};
pub use journal::{Change, Record, StoredData};
pub use linux_image::LinuxImage;
pub use names::{MAX_COMPUTER_NAME, check_computer_name};
pub use signature::Roots;
pub use system::{SetupState, System};
