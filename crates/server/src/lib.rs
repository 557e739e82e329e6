//! The Gravure server: API, database, trust and boot menus around `gravure-bootd`; a library for the command line.
#![forbid(unsafe_code)]

mod api;
mod arming;
mod boot;
mod bundles;
mod client;
mod config;
mod db;
pub mod doctor;
mod error;
mod images;
mod init;
mod keys;
pub mod media;
mod names;
mod network;
mod overlay;
mod planning;
mod secret;
mod serve;
mod tls;

pub use boot::{Entry, EntryKind, FirmwareKind, Rule};
pub use client::{Client, ClientSettings};
pub use config::{CONFIG_NAME, Config, Dhcp, InterfaceConfig, Limits, Paths, Ports, Site};
pub use db::{AuditEntry, DbError};
pub use error::{Error, ErrorKind};
pub use images::{Describe, ImageListing};
pub use init::{InitOptions, NewSite, init};
pub use keys::KeyFiles;
pub use network::first_content_url;
pub use serve::Server;
