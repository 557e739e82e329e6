//! PID 1 and the agent inside the initramfs.
//!
//! One static program with several roles, told apart by process id and first argument: `init` (PID 1) mounts, loads
//! drivers, watches over the agent and ends the machine; `agent` brings up the network, reports the inventory, asks for
//! a signed plan and carries it out; `confirm` reports the first boot from within the deployed system; `modprobe`
//! serves the kernel's requests for modules.
#![forbid(unsafe_code)]

pub mod role;

pub mod init;

pub mod agent;
pub mod confirm;

mod files;
mod tls;

#[cfg(test)]
mod made_site;

/// Version of the payload, as screen and server show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
