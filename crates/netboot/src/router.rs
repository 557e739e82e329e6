//! Router advertisements that make nobody a router: iPXE waits about 13 s for one on each link, whatever it says, before
//! it goes on with IPv4 (specs/netboot.md, finding 5). Where we serve DHCPv6 they also say that addresses are to be asked
//! for, and which network needs no router. RFC 4861 sections 4.1, 4.2, 4.6.2 and 6.

use core::net::Ipv6Addr;

const ROUTER_SOLICITATION: u8 = 133;
/// RFC 4861 section 4.2: type 134, code 0, checksum (the kernel's), hop limit not given, no flags, lifetime 0 (not a
/// default router), reachable and retransmission time not given.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Managed addresses and other configuration: both by DHCPv6.
const ASK_DHCPV6: u8 = 0xc0;
/// Offset of the flags.
const FLAGS_AT: usize = 5;
/// RFC 4861 section 4.6.2: the prefix is on this link, and nobody makes an address of it by themselves.
const ON_LINK: u8 = 0x80;
/// What comes from a router or host of the same link arrives with this, else it was forwarded (section 6.1.1).
pub const LINK_HOPS: u32 = 255;
/// As much of a solicitation as anybody has to look at.
pub const MAX_SOLICITATION_BYTES: usize = 64;

/// What advertisements say of a network where DHCPv6 is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Managed {
    /// Our address in it.
    pub address: Ipv6Addr,
    /// Length of its prefix, bits.
    pub prefix_len: u8,
    /// How long clients may rely on it, seconds.
    pub lifetime_seconds: u32,
}

/// Whether an ICMPv6 message asks for an advertisement (section 6.1.1: code 0, at least eight bytes).
#[must_use]
pub fn is_solicitation(message: &[u8]) -> bool {
    matches!(message, [ROUTER_SOLICITATION, 0, ..]) && message.len() >= 8
}

/// The advertisement, with its checksum left to the kernel.
#[must_use]
pub fn advertisement(managed: Option<Managed>) -> Vec<u8> {
    let mut bytes = ADVERTISEMENT.to_vec();
    let Some(managed) = managed else { return bytes };
    if let Some(flags) = bytes.get_mut(FLAGS_AT) {
        *flags = ASK_DHCPV6;
    }
    let host_bits = 128u32.saturating_sub(managed.prefix_len.into());
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    // Type 3, four times eight bytes.
    bytes.extend([3, 4, managed.prefix_len, ON_LINK]);
    bytes.extend(managed.lifetime_seconds.to_be_bytes());
    bytes.extend(managed.lifetime_seconds.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(Ipv6Addr::from_bits(managed.address.to_bits() & mask).octets());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_managed_network_is_named_without_its_hosts() {
        assert_eq!(advertisement(None), ADVERTISEMENT);
        let managed = Managed { address: "fd77::1".parse().unwrap(), prefix_len: 64, lifetime_seconds: 3600 };
        let bytes = advertisement(Some(managed));
        assert_eq!((bytes.len(), bytes[5], &bytes[16..20]), (48, 0xc0, &[3, 4, 64, 0x80][..]));
        assert_eq!(bytes[20..28], [0, 0, 14, 16, 0, 0, 14, 16]);
        assert_eq!(bytes[32..], "fd77::".parse::<Ipv6Addr>().unwrap().octets());
        // A default router nobody shall see in us.
        assert_eq!(bytes[6..8], [0, 0]);
        let whole = advertisement(Some(Managed { prefix_len: 0, ..managed }));
        assert_eq!(whole[32..], [0; 16]);
    }

    #[test]
    fn only_solicitations_are_answered() {
        let cases: [(&[u8], bool); 5] = [
            (&[133, 0, 1, 2, 0, 0, 0, 0], true),
            (&[133, 0, 1, 2, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 7], true),
            (&[133, 1, 1, 2, 0, 0, 0, 0], false),
            (&[133, 0, 1, 2], false),
            (&[134, 0, 1, 2, 0, 0, 0, 0], false),
        ];
        for (message, asked) in cases {
            assert_eq!(is_solicitation(message), asked, "{message:?}");
        }
    }
}
