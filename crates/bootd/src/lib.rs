//! Sockets and policy around `gravure-netboot`: DHCP, ProxyDHCP, DHCPv6, TFTP and HTTP as firmware and loaders speak them.
//!
//! What is served comes from a [`Library`]; who sits behind which address, and whose connections died with its last
//! boot, is in [`Presence`]. Decisions about packets are netboot's, decisions about machines are the server's.
#![forbid(unsafe_code)]

mod backlog;
mod content;
mod directory;
mod error;
mod interface;
mod journal;
mod presence;
mod refusals;

pub mod dhcp;
pub mod dhcp6;
pub mod dnssd;
pub mod http;
pub mod router;
pub mod tftp;

pub use content::{Ask, Asking, Found, Library, Refusal, Via};
pub use directory::Directory;
pub use error::Error;
pub use interface::{Interface, Interface6, interface6, interfaces};
pub use journal::{Journal, Note, NoteKeeper, NoteKind};
pub use presence::{Connection, Presence, Seen};
