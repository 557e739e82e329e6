//! Where a reply goes (RFC 2131 section 4.1, RFC 1542 section 5.4, PXE 2.1 for port 4011).

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use super::message::{HardwareAddress, Head, MessageKind};
use super::server::{PacketSource, ServerPort};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The UDP payload.
    pub bytes: Vec<u8>,
    /// Where to.
    pub destination: Destination,
}

/// How a reply reaches its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To 255.255.255.255 port 68 on the interface the request came from.
    Broadcast,
    /// To this address and port, by ordinary routing.
    Unicast(SocketAddrV4),
    /// To `address` port 68 in a frame for `hardware`: the client has no address yet and cannot answer ARP (iPXE on
    /// BIOS). An engine that can send no raw frames broadcasts it, which every client takes too.
    BeforeArp {
        /// Destination of the frame.
        hardware: HardwareAddress,
        /// Destination of the packet.
        address: Ipv4Addr,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broadcast => write!(f, "255.255.255.255:{CLIENT_PORT}"),
            Self::Unicast(to) => write!(f, "{to}"),
            Self::BeforeArp { hardware, address } => write!(f, "{address}:{CLIENT_PORT} at {hardware}"),
        }
    }
}

/// Where the answer of type `kind` to `request` goes. `yiaddr` is the address it gives, if any.
pub(super) fn destination(
    request: &Head,
    from: PacketSource,
    kind: MessageKind,
    yiaddr: Ipv4Addr,
) -> Destination {
    let given = |address: Ipv4Addr| !address.is_unspecified();
    let unicast = |address, port| Destination::Unicast(SocketAddrV4::new(address, port));
    if from.arrived_on == ServerPort::BootServer && given(from.address) {
        // edk2 asks from port 4011, others from 68, and each listens only where it asked from.
        unicast(from.address, from.port)
    } else if given(request.giaddr) {
        unicast(request.giaddr, SERVER_PORT)
    } else if kind == MessageKind::Nak {
        Destination::Broadcast
    } else if given(request.ciaddr) {
        unicast(request.ciaddr, CLIENT_PORT)
    } else if request.broadcast || !given(yiaddr) || request.hardware.mac().is_none() {
        Destination::Broadcast
    } else {
        Destination::BeforeArp { hardware: request.hardware, address: yiaddr }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Direction;
    use super::*;

    const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

    #[test]
    fn every_case_of_rfc_2131_4_1() {
        let mac = HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]);
        let infiniband = HardwareAddress::new(32, &[]).unwrap();
        let to_client = Destination::Unicast(SocketAddrV4::new(CLIENT, 68));
        let to_relay = Destination::Unicast(SocketAddrV4::new(RELAY, 67));
        let before_arp = Destination::BeforeArp { hardware: mac, address: CLIENT };
        let source = Destination::Unicast(SocketAddrV4::new(CLIENT, 4011));
        let dhcp = PacketSource { address: NONE, port: 68, arrived_on: ServerPort::Dhcp };
        let boot = PacketSource { address: CLIENT, port: 4011, arrived_on: ServerPort::BootServer };
        use MessageKind::{Ack, Nak, Offer};
        let cases = [
            // from, hardware, broadcast flag, ciaddr, giaddr, kind, yiaddr
            (dhcp, mac, false, NONE, NONE, Offer, CLIENT, before_arp),
            (dhcp, mac, true, NONE, NONE, Offer, CLIENT, Destination::Broadcast),
            (dhcp, mac, false, NONE, NONE, Offer, NONE, Destination::Broadcast),
            (dhcp, infiniband, false, NONE, NONE, Offer, CLIENT, Destination::Broadcast),
            (dhcp, mac, true, NONE, RELAY, Offer, CLIENT, to_relay),
            (dhcp, mac, false, CLIENT, NONE, Ack, CLIENT, to_client),
            (dhcp, mac, true, CLIENT, NONE, Ack, CLIENT, to_client),
            (dhcp, mac, false, CLIENT, NONE, Nak, NONE, Destination::Broadcast),
            (dhcp, mac, false, CLIENT, RELAY, Nak, NONE, to_relay),
            (boot, mac, true, CLIENT, NONE, Ack, NONE, source),
        ];
        for (index, (from, hardware, broadcast, ciaddr, giaddr, kind, yiaddr, expected)) in
            cases.into_iter().enumerate()
        {
            let head = Head {
                direction: Direction::Request,
                hardware,
                hops: 0,
                xid: 1,
                secs: 0,
                broadcast,
                ciaddr,
                yiaddr: NONE,
                siaddr: NONE,
                giaddr,
            };
            assert_eq!(destination(&head, from, kind, yiaddr), expected, "case {index}");
        }
    }
}
