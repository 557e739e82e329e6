//! Router advertisements that make nobody a router: iPXE waits about 13 s for one on each link, whatever it says, before
//! it goes on with IPv4 (specs/netboot.md, finding 5). RFC 4861 sections 4.1, 4.2 and 6.2.

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
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// What comes from a router or host of the same link arrives with this, else it was forwarded (section 6.1.1).
const LINK_HOPS: u32 = 255;

/// Answers router solicitations of one interface.
#[derive(Debug)]
pub struct Service {
    socket: AsyncFd<Socket>,
    interface: Interface,
}

impl Service {
    /// Listens on `interface`.
    pub fn open(interface: Interface) -> Result<Self, Error> {
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
        Ok(Self { socket, interface })
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
        if let Err(error) = self.socket.get_ref().send_to(&ADVERTISEMENT, &to) {
            tracing::debug!(interface = self.interface.name, %error, "router advertisement");
        }
    }
}
