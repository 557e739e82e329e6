//! Linux system calls behind safe functions: directories by handle, mounts, block devices, loop devices, network
//! links, firmware variables, and what PID 1 needs.
//!
//! This is the only crate of the project where `unsafe` may stand, and there only in `sys`, each block with its
//! reason; most calls go through `rustix`. Nothing here knows what a deployment is: decisions belong to the engines.

mod error;
mod node;
mod sys;

pub mod dir;
pub mod xattr;

pub mod block;
pub mod direct;
pub mod disks;
pub mod grow;
pub mod loopdev;
pub mod mount;
pub mod partition;
pub mod sysfs;

pub mod health;
pub mod kernel;
pub mod process;

pub mod efivars;

pub mod bulk;
pub mod link;
mod netlink;
pub mod packet;
pub mod ports;
pub mod udp;

pub mod machine;

pub use block::{BlockDevice, BlockFacts};
pub use dir::{Dir, DirEntry};
pub use error::Error;
pub use node::{DeviceNumber, NodeKind, NodeStat, SpecialNode, Timestamp};
