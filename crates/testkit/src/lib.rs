//! Builders, fault disks, namespaces, VM runner and oracles for tests (DESIGN section 9).
//!
//! Only tests, benchmarks and `cargo xtask` use this crate. Nothing here sleeps to wait for something: output of
//! programs is read as it comes, and [`Console::wait_for`] returns when the awaited text is there.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "tests tell loudly why they were skipped")]

mod accelerator;
mod artifacts;
mod boot_code;
mod boot_program;
mod bucket;
mod console;
mod crash;
mod faulty;
mod foreign;
mod hive;
mod lab;
mod mounted;
mod oracle;
mod postgres;
mod random;
mod running;
mod sample;
mod site;
mod snapshot;
mod vm;

pub mod bitlocker;
pub mod lvm;
pub mod signing;

pub use accelerator::{Accelerator, accelerator};
pub use artifacts::{
    full_run, gravure_program, in_full_run, in_sample, payload_dir, seed, shared_dir, test_image,
};
pub use boot_code::windows_boot_code;
pub use boot_program::boot_program;
pub use bucket::BucketServer;
pub use console::Console;
pub use crash::{Recording, RecordingDisk, Survives};
pub use faulty::{Fault, FaultyDisk, Operation};
pub use foreign::ForeignDhcp;
pub use hive::hive;
pub use lab::{HOST_ADDRESS, HOST_ADDRESS6, Lab, Neighbour, PREFIX_LEN, can_make_labs};
pub use mounted::{MountedExfat, MountedFile, unmounted};
pub use oracle::{
    debian_python_script, oracle, oracles_required, patient_output, python_oracle, python_oracle_script,
    skipped,
};
pub use postgres::Postgres;
pub use random::Random;
pub use running::Running;
pub use sample::{SampleOptions, sample_tree};
pub use site::{Site, SiteDhcp, SiteSetup};
pub use snapshot::{Entry, Kind, Snapshot};
pub use vm::{
    BootOrder, Bus, Disk, Firmware, NetworkBoot, Qmp, QmpListener, Variable, Vm, VmOptions, fresh_mac,
};
