//! What the server adds to the initramfs for its site and for one boot (DESIGN section 8): written by the server as a
//! cpio part, read by the payload.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Version of [`SiteSettings`].
pub const SITE_VERSION: u32 = 1;

/// Path of [`SiteSettings`] (JSON) in the per-site part, from the root.
pub const SITE_PATH: &str = "etc/gravure/site.json";

/// Path of the one-time token in the per-boot part, from the root: its text, white space around it ignored. Absent when
/// nothing is armed for the machine.
pub const TOKEN_PATH: &str = "etc/gravure/token";

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
