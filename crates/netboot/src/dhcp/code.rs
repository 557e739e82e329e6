//! DHCPv4 option and sub-option codes used here, by their RFC names.
//!
//! Sources: RFC 2132 unless a line says otherwise.

/// Padding, one byte, no length.
pub const PAD: u8 = 0;
/// Subnet mask.
pub const SUBNET_MASK: u8 = 1;
/// Routers, best first.
pub const ROUTER: u8 = 3;
/// Domain name servers, best first.
pub const DNS: u8 = 6;
/// The client's host name.
pub const HOST_NAME: u8 = 12;
/// Domain name for resolving.
pub const DOMAIN_NAME: u8 = 15;
/// Interface MTU.
pub const INTERFACE_MTU: u8 = 26;
/// Broadcast address.
pub const BROADCAST: u8 = 28;
/// NTP servers.
pub const NTP: u8 = 42;
/// Vendor-specific information; for class `PXEClient` the sub-options of the PXE 2.1 specification.
pub const VENDOR_SPECIFIC: u8 = 43;
/// Address the client asks for.
pub const REQUESTED_ADDRESS: u8 = 50;
/// Lease time in seconds.
pub const LEASE_TIME: u8 = 51;
/// Bit 0: `file` holds options; bit 1: `sname` does.
pub const OVERLOAD: u8 = 52;
/// Message type.
pub const MESSAGE_TYPE: u8 = 53;
/// Which server is meant.
pub const SERVER_IDENTIFIER: u8 = 54;
/// Codes the client would like to have.
pub const PARAMETER_REQUEST: u8 = 55;
/// Text that explains a NAK.
pub const MESSAGE: u8 = 56;
/// Longest message the client takes.
pub const MAX_MESSAGE_SIZE: u8 = 57;
/// T1 in seconds.
pub const RENEWAL_TIME: u8 = 58;
/// T2 in seconds.
pub const REBINDING_TIME: u8 = 59;
/// Vendor class: `PXEClient...`, `HTTPClient...`.
pub const VENDOR_CLASS: u8 = 60;
/// Client identifier (RFC 2132, echoed by RFC 6842).
pub const CLIENT_IDENTIFIER: u8 = 61;
/// TFTP server name.
pub const TFTP_SERVER: u8 = 66;
/// Boot file name.
pub const BOOT_FILE: u8 = 67;
/// User class (RFC 3004; iPXE sends bare text).
pub const USER_CLASS: u8 = 77;
/// Relay agent information (RFC 3046).
pub const RELAY_AGENT: u8 = 82;
/// Client system architectures (RFC 4578).
pub const CLIENT_ARCH: u8 = 93;
/// Client network interface identifier (RFC 4578).
pub const CLIENT_INTERFACE: u8 = 94;
/// Client machine identifier (RFC 4578).
pub const CLIENT_MACHINE: u8 = 97;
/// Subnet selection (RFC 3011).
pub const SUBNET_SELECTION: u8 = 118;
/// Classless static routes (RFC 3442).
pub const STATIC_ROUTES: u8 = 121;
/// iPXE's encapsulated options.
pub const IPXE: u8 = 175;
/// End of the options.
pub const END: u8 = 255;

/// Sub-options of option 43 in class `PXEClient` (PXE 2.1, table 2-1).
pub mod pxe {
    /// Discovery control: 8 means "use the boot file of this very reply".
    pub const DISCOVERY_CONTROL: u8 = 6;
    /// Boot item the client has chosen; a boot server repeats it.
    pub const BOOT_ITEM: u8 = 71;
    /// End of the sub-options.
    pub const END: u8 = 255;
}

/// Sub-options of option 82.
pub mod relay {
    /// The link the address is wanted for (RFC 3527).
    pub const LINK_SELECTION: u8 = 5;
    /// The address the server shall claim as its own (RFC 5107).
    pub const SERVER_OVERRIDE: u8 = 11;
}

/// Sub-options of option 175.
pub mod ipxe {
    /// 1: do not wait for ProxyDHCP offers.
    pub const NO_PXEDHCP: u8 = 176;
}
