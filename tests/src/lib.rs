//! What the end-to-end tests share: a site with its server, a machine with a blank disk, and looks at that disk with
//! foreign tools. The tests themselves are in `tests/tests`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "tests tell how long boots took")]

mod boot;
mod data;
mod disk;
mod scene;
pub mod windows;

pub use boot::{BootSite, SERVER, changed_payload, damage};
pub use data::{DataKind, DataVolume};
pub use disk::{Replayed, copy_disk, copy_partition, is_same_disk, looks_blank, partition_start};
pub use scene::{APPLY_PATIENCE, BOOT_PATIENCE, Scene};
