//! IDs by which Windows finds drivers, in Windows' order: what its bus drivers would report for a device that Linux shows.
//!
//! The lists are those that Windows 8.1 and 10 stored in their registries (FORMAT.md says where documentation differs).
//! Windows compares IDs without regard to case.

pub mod acpi;
pub mod hdaudio;
pub mod pci;
pub mod storage;
pub mod usb;

/// IDs of one device, most specific first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ids {
    /// Hardware IDs.
    pub hardware: Vec<String>,
    /// Compatible IDs.
    pub compatible: Vec<String>,
}

#[cfg(test)]
mod tests;
