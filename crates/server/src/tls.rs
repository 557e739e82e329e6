//! TLS of the API: the site's own authority, a server certificate made at each start, clients known by their keys.

mod authority;
mod client_keys;
mod firmware;
mod listener;

pub(crate) use authority::{Authority, ServerCertificate};
pub(crate) use client_keys::{AnyClient, PeerKey, peer_key};
pub(crate) use firmware::{FirmwareTls, ensure_authority};
pub(crate) use listener::{ClientKey, LocalAddress, acceptor, serve};
