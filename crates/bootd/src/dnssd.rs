//! Multicast DNS on one interface: whoever asks for the service hears where it is; decisions by `gravure_netboot::dnssd`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use gravure_netboot::dnssd::{Advert, GROUP, MAX_MESSAGE_BYTES, PORT, answer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::{Error, Interface};

/// RFC 6762, section 11: what comes from this link arrives with this.
const LINK_HOPS: u32 = 255;

/// The responder, listening but not yet answering.
#[derive(Debug)]
pub struct Service {
    interface: Interface,
    advert: Advert,
    socket: UdpSocket,
}

impl Service {
    /// Takes the port on `interface`, beside other responders of the machine.
    pub fn open(interface: Interface, advert: Advert) -> Result<Self, Error> {
        let local = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT);
        let open = || -> io::Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind_device(Some(interface.name.as_bytes()))?;
            socket.set_nonblocking(true)?;
            socket.bind(&SocketAddr::V4(local).into())?;
            socket.join_multicast_v4(&GROUP, &interface.address)?;
            socket.set_multicast_if_v4(&interface.address)?;
            socket.set_multicast_ttl_v4(LINK_HOPS)?;
            UdpSocket::from_std(socket.into())
        };
        let socket = open().map_err(|source| Error::listen("DNS-SD", local.into(), source))?;
        Ok(Self { interface, advert, socket })
    }

    /// Answers for ever; end it by dropping the future.
    pub async fn run(self) {
        let interface = self.interface.name.as_str();
        let mut buf = vec![0; MAX_MESSAGE_BYTES];
        loop {
            let (len, from) = match self.socket.recv_from(&mut buf).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(interface, %error, "DNS-SD receive");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(told) = answer(&self.advert, buf.get(..len).unwrap_or_default(), from.port()) else {
                continue;
            };
            // Who asks from another port is a simple client and hears it alone (RFC 6762, section 6.7).
            let to = if from.port() == PORT { SocketAddrV4::new(GROUP, PORT).into() } else { from };
            tracing::debug!(interface, %from, "asked by DNS-SD for the server");
            if let Err(error) = self.socket.send_to(&told, to).await {
                tracing::debug!(interface, %to, %error, "DNS-SD answer");
            }
        }
    }
}
