//! UDP sockets that know their interface: bound to one, or told with every datagram which one it came through and to
//! which address it was sent (`IP_PKTINFO`, ip(7)).
//!
//! Functions work on any UDP socket by descriptor, so they serve the standard library's sockets and tokio's alike; a call
//! that would wait returns `WouldBlock` when the socket does not block.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

use crate::Error;
use crate::sys::socket;

/// How to open a UDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpOptions<'a> {
    /// Where to listen; port 0 for any free one.
    pub local: SocketAddrV4,
    /// Only this interface, by name: datagrams of others are not seen, and sent ones leave here even without an
    /// address or route.
    pub interface: Option<&'a str>,
    /// Others may listen at the same place (several interfaces, or a DHCP server beside us).
    pub shared: bool,
}

/// Opens a UDP socket that may broadcast and reports `IP_PKTINFO`; blocking, as the standard library's are.
pub fn open(options: UdpOptions<'_>) -> Result<UdpSocket, Error> {
    let on = format!("UDP socket {}", options.local);
    try_open(options).map_err(|e| Error::io("open", on, e))
}

fn try_open(options: UdpOptions<'_>) -> io::Result<UdpSocket> {
    let fd = socket::open(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    if options.shared {
        socket::set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1)?;
    }
    socket::set_option(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, &1)?;
    report_packet_info(&fd)?;
    if let Some(name) = options.interface {
        bind_to_interface(&fd, name)?;
    }
    socket::bind_inet(&fd, options.local)?;
    Ok(UdpSocket::from(fd))
}

/// Ties a socket to the interface `name` (`SO_BINDTODEVICE`; needs root or `CAP_NET_RAW` to change an existing tie).
pub fn bind_to_interface(fd: impl AsFd, name: &str) -> io::Result<()> {
    let mut field = [0u8; 16]; // IFNAMSIZ, with the closing NUL
    match field.get_mut(..name.len()) {
        Some(place) if !name.is_empty() && name.len() < 16 => place.copy_from_slice(name.as_bytes()),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("interface name {name:?}"))),
    }
    socket::set_option(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &field)
}

/// Makes the kernel attach `IP_PKTINFO` to what `receive` gets.
pub fn report_packet_info(fd: impl AsFd) -> io::Result<()> {
    socket::set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, &1)
}

/// Sets the "do not fragment" behaviour: path MTU discovery off, so that large datagrams are fragmented as old firmware
/// expects, and never dropped for a size learnt from a forged message.
pub fn allow_fragments(fd: impl AsFd) -> io::Result<()> {
    socket::set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_DONT)
}

/// A received datagram's circumstances; its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer.
    pub len: usize,
    /// The datagram was longer than the buffer.
    pub truncated: bool,
    /// Who sent it.
    pub from: SocketAddrV4,
    /// Index of the interface it came through.
    pub interface: u32,
    /// Our address on that interface that fits the sender: what an answer should come from.
    pub local: Ipv4Addr,
    /// Where it was sent to; a broadcast or multicast address tells that it was not for us alone.
    pub to: Ipv4Addr,
}

/// Receives one datagram.
pub fn receive(fd: impl AsFd, buf: &mut [u8]) -> io::Result<Received> {
    let info = socket::receive_with_info(fd, buf)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "datagram without IP_PKTINFO"))?;
    Ok(Received {
        len: info.len,
        truncated: info.truncated,
        from: info.from,
        interface: info.interface,
        local: info.local,
        to: info.to,
    })
}

/// Sends one datagram out of `interface` (0: as the routes say) with the source address `local` (0.0.0.0: the kernel
/// chooses).
pub fn send(
    fd: impl AsFd,
    bytes: &[u8],
    to: SocketAddrV4,
    interface: u32,
    local: Ipv4Addr,
) -> io::Result<()> {
    let sent = socket::send_with_info(fd, bytes, to, interface, local)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
}
