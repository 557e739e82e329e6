//! DHCPv6 for machines that boot: addresses without a table, boot files by RFC 5970 (RFC 8415; specs/netboot.md, 3.3).
//!
//! An address follows from the machine's link-layer address, so there are no leases to keep: a machine has the same
//! address at each boot and after a restart of the server, also when firmware releases it before the loader asks again.

mod client;
pub mod code;
mod message;
mod server;

pub use message::{MAX_PACKET_BYTES, Message6, MessageKind6};
pub use server::{Dhcp6Config, Given6, JournalEntry6, Outcome6, PREFIX_LEN, Why6, reply};
