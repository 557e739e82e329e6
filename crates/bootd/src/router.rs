//! The socket of router advertisements on one interface; what is answered and what is said is `gravure_netboot::router`'s.

use std::io::{self, Read};
use std::net::{Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use gravure_netboot::router::{LINK_HOPS, MAX_SOLICITATION_BYTES, Managed, advertisement, is_solicitation};

use crate::{Error, Interface};

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Answers router solicitations of one interface.
#[derive(Debug)]
pub struct Service {
    socket: AsyncFd<Socket>,
    interface: Interface,
    advertisement: Vec<u8>,
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
            match self.is_asked().await {
                Ok(true) => self.advertise(),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(interface = self.interface.name, %error, "router solicitations");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Whether the next ICMPv6 message asks for an advertisement.
    async fn is_asked(&self) -> io::Result<bool> {
        let mut buf = [0; MAX_SOLICITATION_BYTES];
        let len = self.socket.async_io(Interest::READABLE, |socket| (&*socket).read(&mut buf)).await?;
        Ok(is_solicitation(buf.get(..len).unwrap_or_default()))
    }

    fn advertise(&self) {
        // To all: a client that asks from the unspecified address can be reached in no other way.
        let to = SockAddr::from(SocketAddrV6::new(ALL_NODES, 0, 0, self.interface.index));
        if let Err(error) = self.socket.get_ref().send_to(&self.advertisement, &to) {
            tracing::debug!(interface = self.interface.name, %error, "router advertisement");
        }
    }
}
