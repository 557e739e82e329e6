//! From a policy's decision to a boot file that can reach this client, or the reason why none can.

use core::net::Ipv4Addr;

use super::client::{BootClient, ClientClass, Loader};
use super::journal::NoBoot;
use super::message::FILE_BYTES;
use super::policy::{BootDecision, BootPolicy, FileIn, Quirks, Stage};

/// Longest name or URL. Four split options; beyond that it would fit into no reply beside the rest.
pub const MAX_FILE_NAME_BYTES: usize = 1000;

/// A boot file that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootFile {
    pub(crate) name: String,
    pub(crate) rule: String,
    pub(crate) next_server: Ipv4Addr,
    pub(crate) quirks: Quirks,
}

impl BootFile {
    /// Whether the name fits the `file` field with its NUL.
    pub(super) fn fits_field(&self) -> bool {
        self.name.len() < FILE_BYTES
    }
}

/// Asks `policy` and checks that its answer makes sense for `client`.
pub(crate) fn decide_boot(
    policy: &dyn BootPolicy,
    client: &BootClient,
    server: Ipv4Addr,
) -> Result<BootFile, NoBoot> {
    if !client.boots() {
        return Err(NoBoot::NotABootClient);
    }
    let offer = match policy.boot_for(client) {
        BootDecision::Boot(offer) => offer,
        BootDecision::Ignore { rule, why } => return Err(NoBoot::Policy { rule, why }),
    };
    if offer.stage != Stage::of(client.loader) {
        return Err(NoBoot::LoopGuard { rule: offer.rule, file: offer.file });
    }
    let file = BootFile {
        name: offer.file,
        rule: offer.rule,
        next_server: offer.next_server.unwrap_or(server),
        quirks: offer.quirks,
    };
    match unusable(&file, client) {
        Some(why) => Err(NoBoot::Unusable { rule: file.rule, file: file.name, why }),
        None => Ok(file),
    }
}

fn unusable(file: &BootFile, client: &BootClient) -> Option<&'static str> {
    let name = &file.name;
    let http = ["http://", "https://"].iter().any(|scheme| name.starts_with(scheme));
    let firmware = client.loader == Loader::Firmware;
    if name.is_empty() {
        Some("which is empty")
    } else if name.len() > MAX_FILE_NAME_BYTES {
        Some("longer than 1000 bytes")
    } else if name.chars().any(char::is_control) {
        Some("with control characters")
    } else if client.class == ClientClass::Http && !http {
        Some("but HTTP boot needs a URL")
    } else if firmware && client.class == ClientClass::Pxe && name.contains("://") {
        Some("but PXE firmware takes no URL")
    } else if file.quirks.file_in == FileIn::Field && !file.fits_field() {
        Some("longer than the 127 bytes of the file field")
    } else {
        None
    }
}
