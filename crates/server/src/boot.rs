//! What machines boot: which file for which firmware, menus made for each machine, one-time tokens.

mod library;
mod menu;
mod policy;
mod quirks;
mod rules;
mod shim;
mod straight;
mod subject;
mod tagged;
mod token;

pub(crate) use library::{BootLibrary, ServerAddress, UKI, site_settings};
pub(crate) use menu::{KERNEL_ARGUMENTS, Menus, title};
pub(crate) use policy::{Loaders, SitePolicy, boot_table};
pub(crate) use quirks::Quirks;
pub use quirks::{FilePlace, Quirk};
pub use rules::{ArchKind, Entry, EntryKind, FirmwareKind, Rule};
pub(crate) use rules::{Choice, Facts, Rules, ipv4};
pub(crate) use shim::Shims;
pub(crate) use straight::ipxe_in;
pub(crate) use subject::Watched;
