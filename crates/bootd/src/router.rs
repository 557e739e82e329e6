//! Router advertisements that make nobody a router: iPXE waits about 13 s for one on each link, whatever it says, before
//! it goes on with IPv4 (specs/netboot.md, finding 5). Where we serve DHCPv6 they also say that addresses are to be asked
//! for, and which network needs no router. RFC 4861 sections 4.1, 4.2, 4.6.2 and 6.2.

use std::io::{self, Read};
use std::net::{Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{Error, Interface};

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
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// What comes from a router or host of the same link arrives with this, else it was forwarded (section 6.1.1).
const LINK_HOPS: u32 = 255;

/// Answers router solicitations of one interface.
#[derive(Debug)]
pub struct Service {
    socket: AsyncFd<Socket>,
    interface: Interface,
    advertisement: Vec<u8>,
}

/// What advertisements say of a network where we serve DHCPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Managed {
    /// Our address in it.
    pub address: Ipv6Addr,
    /// Length of its prefix, bits.
    pub prefix_len: u8,
    /// How long clients may rely on it, seconds.
    pub lifetime_seconds: u32,
}

impl Service {
    /// Listens on `interface`.
    pub fn open(interface: Interface, managed: Option<Managed>) -> Result<Self, Error> {
        let open = || {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.bind_device(Some(interface.name.as_bytes()))?;
            socket.set_multicast_if_v6(interface.index)?;
            socket.set_multicast_hops_v6(LINK_HOPS)?;
            socket.join_multicast_v6(&ALL_ROUTERS, interface.index)?;
            socket.set_nonblocking(true)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe for types that may not own their descriptor; a socket owns its own"
            )]
            AsyncFd::with_interest(socket, Interest::READABLE)
        };
        let address = SocketAddrV6::new(ALL_ROUTERS, 0, 0, interface.index);
        let socket =
            open().map_err(|source| Error::listen("router advertisement", address.into(), source))?;
        Ok(Self { socket, interface, advertisement: advertisement(managed) })
    }

    /// Answers for ever.
    pub async fn run(self) {
        loop {
            match self.next_kind().await {
                Ok(ROUTER_SOLICITATION) => self.advertise(),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(interface = self.interface.name, %error, "router solicitations");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Type of the next ICMPv6 message.
    async fn next_kind(&self) -> io::Result<u8> {
        let mut buf = [0; 64];
        let len = self.socket.async_io(Interest::READABLE, |socket| (&*socket).read(&mut buf)).await?;
        Ok(buf.first().copied().filter(|_| len >= 8).unwrap_or(0))
    }

    fn advertise(&self) {
        // To all: a client that asks from the unspecified address can be reached in no other way.
        let to = SockAddr::from(SocketAddrV6::new(ALL_NODES, 0, 0, self.interface.index));
        if let Err(error) = self.socket.get_ref().send_to(&self.advertisement, &to) {
            tracing::debug!(interface = self.interface.name, %error, "router advertisement");
        }
    }
}

fn advertisement(managed: Option<Managed>) -> Vec<u8> {
    let mut bytes = ADVERTISEMENT.to_vec();
    let Some(managed) = managed else { return bytes };
    if let Some(flags) = bytes.get_mut(FLAGS_AT) {
        *flags = ASK_DHCPV6;
    }
    let mask = u128::MAX.checked_shl(128 - u32::from(managed.prefix_len.min(128))).unwrap_or(0);
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
    }
}
