//! Sockets with addresses or control messages that rustix and the standard library do not know.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::{checked, checked_len};

/// Opens a socket, close-on-exec.
pub(crate) fn open(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: `socket` takes integers only.
    let fd = checked(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just given us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Address structures that `bind` and `sendto` take from us: plain C data of the family named in its first field.
pub(crate) trait Address {}
impl Address for libc::sockaddr_nl {}
impl Address for libc::sockaddr_ll {}
impl Address for libc::sockaddr_in {}

/// Binds to an IPv4 address and port.
pub(crate) fn bind_inet(fd: impl AsFd, address: SocketAddrV4) -> io::Result<()> {
    bind(fd, &inet_address(address))
}

/// Binds to `address`.
pub(crate) fn bind<A: Address>(fd: impl AsFd, address: &A) -> io::Result<()> {
    // SAFETY: pointer and length describe one `A`, which outlives the call; the kernel only reads it.
    let result =
        unsafe { libc::bind(fd.as_fd().as_raw_fd(), std::ptr::from_ref(address).cast(), address_len::<A>()) };
    checked(result).map(drop)
}

/// Sends one datagram to `address`.
pub(crate) fn send_to<A: Address>(fd: impl AsFd, bytes: &[u8], address: &A) -> io::Result<usize> {
    // SAFETY: pointer and length describe `bytes` and one `A`, both outlive the call; the kernel only reads them.
    checked_len(unsafe {
        libc::sendto(
            fd.as_fd().as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
            std::ptr::from_ref(address).cast(),
            address_len::<A>(),
        )
    })
}

/// Receives one datagram with the link-layer address it came from. `MSG_TRUNC` makes the length the real one even
/// when `buf` was too small.
pub(crate) fn receive_from_link(fd: impl AsFd, buf: &mut [u8]) -> io::Result<(usize, libc::sockaddr_ll)> {
    let mut address = link_address(0, 0, None);
    let mut address_len = address_len::<libc::sockaddr_ll>();
    // SAFETY: `buf`, `address` and `address_len` are valid for writes of the lengths given and outlive the call; any
    // bit pattern is a valid sockaddr_ll.
    let len = checked_len(unsafe {
        libc::recvfrom(
            fd.as_fd().as_raw_fd(),
            buf.as_mut_ptr().cast(),
            buf.len(),
            libc::MSG_TRUNC,
            (&raw mut address).cast(),
            &raw mut address_len,
        )
    })?;
    Ok((len, address))
}

/// Receives one datagram; the length is the real one even when `buf` was too small.
pub(crate) fn receive(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buf` is valid for writes of its length and outlives the call.
    checked_len(unsafe {
        libc::recv(fd.as_fd().as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_TRUNC)
    })
}

/// Option values that are plain C data.
pub(crate) trait OptionValue {}
impl OptionValue for libc::c_int {}
impl OptionValue for [u8; 16] {}

/// Sets one socket option.
pub(crate) fn set_option<T: OptionValue>(
    fd: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let len = const { size_of::<T>() as libc::socklen_t }; // a few bytes
    // SAFETY: pointer and length describe one `T`, which outlives the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(fd.as_fd().as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), len)
    };
    checked(result).map(drop)
}

/// `sockaddr_ll` of an interface. `protocol` in host order, `mac` for sending.
pub(crate) fn link_address(interface: libc::c_int, protocol: u16, mac: Option<[u8; 6]>) -> libc::sockaddr_ll {
    let mut address = [0; 8];
    for (to, from) in address.iter_mut().zip(mac.unwrap_or_default()) {
        *to = from;
    }
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t, // 17
        sll_protocol: protocol.to_be(),
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: if mac.is_some() { 6 } else { 0 },
        sll_addr: address,
    }
}

/// `sockaddr_nl` for the multicast `groups`.
pub(crate) fn netlink_address(groups: u32) -> libc::sockaddr_nl {
    // SAFETY: sockaddr_nl is integers only, for which zeros are valid; it has private padding, so it cannot be written out.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t; // 16
    address.nl_groups = groups;
    address
}

/// What a datagram told beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PacketInfo {
    pub(crate) len: usize,
    pub(crate) truncated: bool,
    pub(crate) from: SocketAddrV4,
    pub(crate) interface: u32,
    pub(crate) local: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
}

/// Room for one `in_pktinfo` control message, aligned as `cmsghdr` must be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Receives a datagram with its `IP_PKTINFO`; `None` for the info when the kernel attached none.
pub(crate) fn receive_with_info(fd: impl AsFd, buf: &mut [u8]) -> io::Result<Option<PacketInfo>> {
    let mut from = inet_address(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut message = message(&mut from, &mut part, &mut control);
    // SAFETY: `message` points to `from`, `part` (and through it `buf`) and `control`, all valid for writes of the
    // lengths stated in it until the call returns.
    let len = checked_len(unsafe { libc::recvmsg(fd.as_fd().as_raw_fd(), &raw mut message, 0) })?;
    let Some(info) = packet_info(&message) else { return Ok(None) };
    Ok(Some(PacketInfo {
        len,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        from: SocketAddrV4::new(ip(from.sin_addr), u16::from_be(from.sin_port)),
        interface: u32::try_from(info.ipi_ifindex).unwrap_or(0),
        local: ip(info.ipi_spec_dst),
        to: ip(info.ipi_addr),
    }))
}

/// The first `IP_PKTINFO` among the control messages of a received `message`.
fn packet_info(message: &libc::msghdr) -> Option<libc::in_pktinfo> {
    // SAFETY: `message` was filled by recvmsg, so its control pointer and length describe the buffer of our caller,
    // and the CMSG macros walk inside it only.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the CMSG macros return null or a whole, aligned header inside the buffer.
        let (level, kind, len) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        // SAFETY: CMSG_LEN is arithmetic.
        let wanted = unsafe { libc::CMSG_LEN(const { size_of::<libc::in_pktinfo>() as u32 }) };
        if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) && len >= wanted as usize {
            // SAFETY: the length just checked says that a whole in_pktinfo follows; it may be unaligned.
            return Some(unsafe { libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().read_unaligned() });
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// Sends a datagram to `to` out of the interface with index `interface`, from `local` (0.0.0.0: the kernel chooses).
pub(crate) fn send_with_info(
    fd: impl AsFd,
    bytes: &[u8],
    to: SocketAddrV4,
    interface: u32,
    local: Ipv4Addr,
) -> io::Result<usize> {
    let info_len = const { size_of::<libc::in_pktinfo>() as u32 }; // 12
    let mut to = inet_address(to);
    let mut control = Control([0; 64]);
    // The kernel only reads what sendmsg points to; the mutable type is that of the C structure.
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message = message(&mut to, &mut part, &mut control);
    let info = libc::in_pktinfo {
        ipi_ifindex: libc::c_int::try_from(interface)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(local).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    // SAFETY: CMSG_SPACE and CMSG_LEN are arithmetic; the space for one in_pktinfo (32 bytes) fits into the 64 of
    // `control`, so the first header and its data lie inside it, aligned by its type.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(info_len) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::IPPROTO_IP;
        (*header).cmsg_type = libc::IP_PKTINFO;
        (*header).cmsg_len = libc::CMSG_LEN(info_len) as _;
        libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().write_unaligned(info);
    }
    // SAFETY: `message` points to `to`, `part` (and `bytes`) and `control`, which outlive the call.
    checked_len(unsafe { libc::sendmsg(fd.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
}

fn message(name: &mut libc::sockaddr_in, part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: msghdr is integers and pointers, for which zeros are valid; its padding differs between C libraries.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = std::ptr::from_mut(name).cast();
    message.msg_namelen = address_len::<libc::sockaddr_in>();
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _; // 64; the type differs between C libraries
    message
}

fn inet_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t, // 2
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn ip(address: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from_be(address.s_addr))
}

const fn address_len<A>() -> libc::socklen_t {
    size_of::<A>() as libc::socklen_t // at most 128
}
