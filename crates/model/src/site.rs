//! What the server adds to the initramfs for its site and for one boot (DESIGN section 8): written by the server as a
//! cpio part, read by the payload.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::api::Envelope;
use crate::descriptor::Digest;
use crate::job::Job;

/// Version of [`SiteSettings`].
pub const SITE_VERSION: u32 = 1;

/// Path of [`SiteSettings`] (JSON) in the per-site part, from the root.
pub const SITE_PATH: &str = "etc/gravure/site.json";

/// Path of the one-time token in the per-boot part, from the root: its text, white space around it ignored. Absent when
/// nothing is armed for the machine.
pub const TOKEN_PATH: &str = "etc/gravure/token";

/// Path of [`OfflinePart`] (JSON) on media that deploy without a server, from the root.
pub const OFFLINE_PATH: &str = "etc/gravure/offline.json";

/// Version of [`OfflinePart`] and [`OfflineJob`].
pub const OFFLINE_VERSION: u32 = 1;

/// What a medium brings that deploys without a server: the signed order, the signed descriptor of its image, and where on the
/// medium the image lies. Only the place is not signed: what stands there is checked against the descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflinePart {
    /// [`OFFLINE_VERSION`].
    pub version: u32,
    /// The root's statement on the plan key.
    pub plan_key: Envelope,
    /// [`OfflineJob`].
    pub job: Envelope,
    /// The image's descriptor.
    pub descriptor: Envelope,
    /// GUID of the medium's partition table.
    pub medium: String,
    /// Where the image begins on the medium, bytes.
    pub offset: u64,
}

/// An order without a machine that asked for it: everybody who holds the medium has it, so it ends soon and holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineJob {
    /// [`OFFLINE_VERSION`].
    pub version: u32,
    /// What is to be done.
    pub job: Job,
    /// Digest of the image's descriptor.
    pub image: Digest,
    /// From when.
    pub created: Timestamp,
    /// Until when.
    pub expires: Timestamp,
}

/// The per-site part: whom the payload believes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSettings {
    /// [`SITE_VERSION`].
    pub version: u32,
    /// Name of the site, for the screen.
    pub name: String,
    /// The site root's public key, 64 hexadecimal digits.
    pub root_key: String,
    /// The site CA, PEM: the only root that TLS accepts.
    pub ca_pem: String,
    /// Addresses of the server, tried in this order; the network card's own subnet first is the server's business.
    pub servers: Vec<SiteServer>,
    /// When this was written. The payload's clock is set to no less, since mainboards with an empty battery start in
    /// the past, where no certificate is valid yet.
    pub made: Timestamp,
}

/// One way to reach the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteServer {
    /// `https://address:port` of the API; its certificate names the address.
    pub api: String,
    /// `http://address:port` of the content side; what is read there is checked against descriptors.
    pub content: String,
}
