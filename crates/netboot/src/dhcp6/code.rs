//! Numbers of DHCPv6 (RFC 8415 sections 7.3, 21 and 21.13; RFC 5970 section 3; RFC 6939).

/// DUID of the client.
pub const CLIENT_ID: u16 = 1;
/// DUID of the server.
pub const SERVER_ID: u16 = 2;
/// Identity association for addresses.
pub const IA_NA: u16 = 3;
/// An address in it.
pub const IA_ADDRESS: u16 = 5;
/// Codes the client wants.
pub const OPTION_REQUEST: u16 = 6;
/// A message inside a relay's message.
pub const RELAY_MESSAGE: u16 = 9;
/// Outcome.
pub const STATUS: u16 = 13;
/// Two messages instead of four.
pub const RAPID_COMMIT: u16 = 14;
/// User class; iPXE writes `iPXE`.
pub const USER_CLASS: u16 = 15;
/// Vendor class: enterprise number, then counted texts; firmware writes `PXEClient...` or `HTTPClient...`.
pub const VENDOR_CLASS: u16 = 16;
/// The relay's own mark, to be sent back.
pub const INTERFACE_ID: u16 = 18;
/// Name servers.
pub const DNS: u16 = 23;
/// URL of the boot file.
pub const BOOT_FILE_URL: u16 = 59;
/// Architecture types of the client.
pub const CLIENT_ARCH: u16 = 61;
/// Link-layer address of the client as its relay saw it.
pub const CLIENT_LINK_LAYER: u16 = 79;

/// Enterprise number under which the UEFI specification puts boot classes (Intel's).
pub const UEFI_ENTERPRISE: u32 = 343;

/// Status: no address left or wanted one not given.
pub const STATUS_NO_ADDRESSES: u16 = 2;
/// Status: we know no such association.
pub const STATUS_NO_BINDING: u16 = 3;
/// Status: the address does not belong to this link.
pub const STATUS_NOT_ON_LINK: u16 = 4;
/// Status: done.
pub const STATUS_SUCCESS: u16 = 0;
