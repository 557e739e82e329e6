//! Linux system calls behind safe functions: directories by handle, mounts, block devices, loop devices, network
//! links, firmware variables, and what PID 1 needs.
//!
//! This is the only crate of the project where `unsafe` may stand; most calls go through `rustix`, and what it
//! lacks (some ioctls, `signalfd`, packet sockets) is in `sys`, each block with its reason. Nothing here knows what a deployment
//! is: decisions belong to the engines.

pub mod dir;
mod error;
mod node;
pub mod xattr;

pub use dir::{Dir, DirEntry};
pub use error::Error;
pub use node::{DeviceNumber, NodeKind, NodeStat, SpecialNode, Timestamp};
