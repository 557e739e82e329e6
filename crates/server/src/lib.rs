//! The Gravure server: API, database, trust and boot menus around `gravure-bootd`; a library for the command line.
#![forbid(unsafe_code)]

mod api;
mod arming;
mod boot;
mod bundles;
mod captures;
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
mod sbat;
mod secret;
pub mod secure_boot;
mod serve;
mod site_store;
mod tls;
mod vault;
mod x509;

pub use boot::{ArchKind, Entry, EntryKind, FilePlace, FirmwareKind, Quirk, Rule};
pub use client::{Client, ClientSettings};
pub use config::{
    Authority, Boot, CONFIG_NAME, Chain, Config, CopyConfig, Dhcp, InterfaceConfig, Limits, NetworkConfig,
    Paths, Ports, ProxyStyle, ReservationConfig, Site, StoreConfig,
};
pub use db::{AuditEntry, DbError};
pub use error::{Error, ErrorKind};
pub use images::{Describe, ImageListing};
pub use init::{InitOptions, NewSite, init};
pub use keys::KeyFiles;
pub use network::first_content_url;
pub use serve::Server;
pub use vault::VaultError;
