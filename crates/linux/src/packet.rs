//! Packets below UDP: what DHCP needs before a host has an address. Client side: send and receive without one; server side: reach a
//! client at its hardware address before it can answer ARP.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use gravure_io::Cursor;

use crate::sys::socket;
use crate::{Error, process};

/// `ETH_P_IP`.
const IPV4: u16 = 0x0800;
/// IPv4 header without options.
const IP_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
/// Largest UDP payload over IPv4.
const MAX_PAYLOAD_BYTES: usize = 65535 - IP_HEADER_BYTES - UDP_HEADER_BYTES;
const UDP: u8 = 17;

/// The hardware address of everybody on the wire.
pub const BROADCAST_MAC: [u8; 6] = [0xff; 6];

/// A socket for IPv4 packets of one interface; the kernel adds and removes the Ethernet header. Needs root or
/// `CAP_NET_RAW`. Not blocking: fit for an event loop, or wait with `receive_udp`.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: i32,
}

/// A UDP datagram taken from or given to the wire as a whole IPv4 packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpPacket {
    /// Sender.
    pub from: SocketAddrV4,
    /// Receiver.
    pub to: SocketAddrV4,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl PacketSocket {
    /// Opens a socket for the interface with index `interface`.
    pub fn open(interface: u32) -> Result<Self, Error> {
        let on = format!("packet socket of interface {interface}");
        let open = || {
            let index = i32::try_from(interface).map_err(io::Error::other)?;
            // Protocol 0 receives nothing until `bind` names interface and protocol together: a packet of another
            // interface cannot slip in between.
            let fd = socket::open(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0)?;
            socket::bind(&fd, &socket::link_address(index, IPV4, None))?;
            Ok(Self { fd, index })
        };
        open().map_err(|e: io::Error| Error::io("open", on, e))
    }

    /// Sends a UDP datagram to the hardware address `mac`, whatever the kernel's routes and neighbours say.
    pub fn send_udp(&self, mac: [u8; 6], packet: &UdpPacket) -> io::Result<()> {
        let bytes = packet.to_bytes()?;
        socket::send_to(&self.fd, &bytes, &socket::link_address(self.index, IPV4, Some(mac))).map(drop)
    }

    /// Receives the next UDP datagram for `port` within `timeout`, with the hardware address of its sender. Other
    /// packets, also our own outgoing ones, are dropped; each restarts no timer of the caller: it may return `None` early.
    pub fn receive_udp(&self, port: u16, timeout: Duration) -> Result<Option<([u8; 6], UdpPacket)>, Error> {
        let deadline = std::time::Instant::now() + timeout;
        let mut buf = vec![0; 65536];
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if !process::wait_readable(&self.fd, left)? {
                return Ok(None);
            }
            match self.try_receive_udp(port, &mut buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(Error::io("receive from", format!("interface {}", self.index), e)),
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) if left.is_zero() => return Ok(None),
                Ok(None) => {}
            }
        }
    }

    /// One attempt without waiting: `WouldBlock` when nothing is there, `None` when a packet was there but not for us.
    pub fn try_receive_udp(&self, port: u16, buf: &mut [u8]) -> io::Result<Option<([u8; 6], UdpPacket)>> {
        let (len, from) = socket::receive_from_link(&self.fd, buf)?;
        let outgoing =
            libc::c_uchar::try_from(libc::PACKET_OUTGOING).is_ok_and(|kind| from.sll_pkttype == kind);
        let Some(bytes) = buf.get(..len).filter(|_| !outgoing) else { return Ok(None) };
        let packet = UdpPacket::parse(bytes).filter(|packet| packet.to.port() == port);
        let [a, b, c, d, e, f, ..] = from.sll_addr;
        Ok(packet.map(|packet| ([a, b, c, d, e, f], packet)))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl UdpPacket {
    /// The IPv4 packet, both checksums filled in.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        if self.payload.len() > MAX_PAYLOAD_BYTES {
            let what =
                format!("UDP payload of {} bytes, at most {MAX_PAYLOAD_BYTES} fit", self.payload.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let len16 = |len: usize| u16::try_from(len).map_err(io::Error::other).map(u16::to_be_bytes);
        let udp_len = len16(UDP_HEADER_BYTES + self.payload.len())?;
        let total_len = len16(IP_HEADER_BYTES + UDP_HEADER_BYTES + self.payload.len())?;
        let (source, target) = (self.from.ip().octets(), self.to.ip().octets());

        let mut ip = vec![0x45, 0x10]; // version 4, five words; low delay
        ip.extend(total_len);
        ip.extend([0, 0, 0x40, 0]); // identification, do not fragment
        ip.extend([64, UDP, 0, 0]); // time to live, protocol, checksum
        ip.extend(source);
        ip.extend(target);
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let mut udp = Vec::with_capacity(UDP_HEADER_BYTES + self.payload.len());
        udp.extend(self.from.port().to_be_bytes());
        udp.extend(self.to.port().to_be_bytes());
        udp.extend(udp_len);
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let pseudo = [&source[..], &target[..], &[0, UDP], &udp_len[..]].concat();
        // RFC 768: a sum of zero is sent as ones, since zero means "no checksum".
        let sum = match checksum(&[&pseudo, &udp]) {
            0 => 0xffff,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        ip.extend(udp);
        Ok(ip)
    }

    /// Takes an IPv4 packet apart; `None` when it is no whole UDP datagram or its header checksum is wrong.
    ///
    /// The UDP checksum is not looked at: virtual interfaces hand packets over before it was computed, and what
    /// comes this way is proven by other means.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header_len = usize::from(bytes.first()? & 0x0f) * 4;
        let header = bytes.get(..header_len).filter(|header| header.len() >= IP_HEADER_BYTES)?;
        if bytes.first()? >> 4 != 4 || checksum(&[header]) != 0 {
            return None;
        }
        let mut fields = Cursor::new(header);
        fields.take(2).ok()?;
        let total_len = usize::from(u16::from_be_bytes(fields.array().ok()?));
        fields.take(2).ok()?;
        let fragment = u16::from_be_bytes(fields.array().ok()?) & 0x3fff; // more fragments, offset
        let [_, protocol, _, _] = fields.array().ok()?;
        let source = Ipv4Addr::from(fields.array::<4>().ok()?);
        let target = Ipv4Addr::from(fields.array::<4>().ok()?);
        if protocol != UDP || fragment != 0 {
            return None;
        }
        // Ethernet pads short packets, so the length field decides and not what came.
        let mut udp = Cursor::new(bytes.get(header_len..total_len)?);
        let from = u16::from_be_bytes(udp.array().ok()?);
        let to = u16::from_be_bytes(udp.array().ok()?);
        let len = usize::from(u16::from_be_bytes(udp.array().ok()?));
        udp.take(2).ok()?;
        let payload = udp.take(len.checked_sub(UDP_HEADER_BYTES)?).ok()?.to_vec();
        Some(Self { from: SocketAddrV4::new(source, from), to: SocketAddrV4::new(target, to), payload })
    }
}

/// The Internet checksum (RFC 1071) over all parts in order; only the last may have an odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        let word = [pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)];
        sum += u64::from(u16::from_be_bytes(word));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> UdpPacket {
        UdpPacket {
            from: "0.0.0.0:68".parse().unwrap(),
            to: "255.255.255.255:67".parse().unwrap(),
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn sums_as_in_rfc_1071() {
        // Section 3: the words 0001 f203 f4f5 f6f7 sum up to ddf2.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        assert_eq!(checksum(&[&[0x12]]), !0x1200);
    }

    #[test]
    fn comes_back_padded_or_not() {
        for payload in [&b""[..], b"x", b"discover", &[0xff; 1472]] {
            let packet = packet(payload);
            let mut bytes = packet.to_bytes().unwrap();
            assert_eq!(checksum(&[&bytes[..20]]), 0);
            assert_eq!(UdpPacket::parse(&bytes), Some(packet.clone()));
            bytes.resize(bytes.len() + 30, 0);
            assert_eq!(UdpPacket::parse(&bytes), Some(packet));
        }
    }

    #[test]
    fn cuts_and_flips_of_the_header_give_nothing() {
        let bytes = packet(b"some payload").to_bytes().unwrap();
        for len in 0..bytes.len() {
            assert_eq!(UdpPacket::parse(&bytes[..len]), None, "{len}");
        }
        for bit in 0..20 * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(UdpPacket::parse(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit_one_packet() {
        assert!(packet(&vec![0; MAX_PAYLOAD_BYTES]).to_bytes().is_ok());
        assert_eq!(
            packet(&vec![0; MAX_PAYLOAD_BYTES + 1]).to_bytes().unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
