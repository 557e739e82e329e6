//! Network interfaces: list, raise, give addresses and routes, wait for a cable. One rtnetlink socket, no threads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gravure_io::Cursor;

use crate::netlink::{Message, Request, attributes, messages};
use crate::sys::socket;
use crate::{Error, process};

/// Largest datagram of the kernel: it sends dumps in parts of at most 32 KiB.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Longest the kernel may take to answer a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
/// `IFF_UP`.
const UP: u32 = 1;
/// `IF_OPER_UNKNOWN` and `IF_OPER_UP`.
const OPER_UNKNOWN: u8 = 0;
const OPER_UP: u8 = 6;
/// How long an interface with a carrier may leave its operational state open before it counts as a driver that has
/// none. The kernel sets it within milliseconds where it does.
const SETTLING_TIME: Duration = Duration::from_millis(300);
/// `ARPHRD_LOOPBACK`.
const ARPHRD_LOOPBACK: u16 = 772;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index, the kernel's handle.
    pub index: u32,
    /// Name, e.g. `enp0s3`.
    pub name: String,
    /// Hardware address; `None` when it is not six bytes (loopback has zeros).
    pub mac: Option<[u8; 6]>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// It was raised.
    pub up: bool,
    /// A cable is in and the other side answers; meaningless while it is not up.
    pub carrier: bool,
    /// Packets pass (RFC 2863 operational state); `None` when the driver never says, or has not yet. Follows the
    /// carrier after a moment, in which the kernel drops what is sent.
    pub operational: Option<bool>,
    /// It is the loopback.
    pub loopback: bool,
    /// `ARPHRD_*` kind of hardware: 1 Ethernet, 772 loopback.
    pub hardware: u16,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// Interface it belongs to.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of the network part in bits.
    pub prefix_len: u8,
}

/// The kernel's network configuration.
#[derive(Debug)]
pub struct Links {
    fd: OwnedFd,
    sequence: u32,
}

impl Links {
    /// Opens a channel to the kernel of this network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { fd: channel(0)?, sequence: 0 })
    }

    /// All interfaces by index.
    pub fn list(&mut self) -> Result<Vec<Link>, Error> {
        let mut out = Vec::new();
        let request = Request::new(libc::RTM_GETLINK, DUMP, &link_header(0, 0, 0));
        self.ask("list", "network interfaces", request, |kind, body| {
            if kind == libc::RTM_NEWLINK {
                out.push(parse_link(body)?);
            }
            Ok(())
        })?;
        out.sort_unstable_by_key(|link| link.index);
        Ok(out)
    }

    /// The interface with this hardware address: how firmware and loader name the one they booted from.
    pub fn by_mac(&mut self, mac: [u8; 6]) -> Result<Option<Link>, Error> {
        // A VLAN or bridge has the address of the interface below it, which is older.
        Ok(self.list()?.into_iter().find(|link| link.mac == Some(mac) && !link.loopback))
    }

    /// Raises an interface.
    pub fn set_up(&mut self, index: u32) -> Result<(), Error> {
        let request = Request::new(libc::RTM_NEWLINK, ACK, &link_header(index, UP, UP));
        self.ask("raise", format!("interface {index}"), request, |_, _| Ok(()))
    }

    /// Takes an interface down; its routes go with that.
    pub fn set_down(&mut self, index: u32) -> Result<(), Error> {
        let request = Request::new(libc::RTM_NEWLINK, ACK, &link_header(index, 0, UP));
        self.ask("take down", format!("interface {index}"), request, |_, _| Ok(()))
    }

    /// Addresses of all interfaces.
    pub fn addresses(&mut self) -> Result<Vec<LinkAddress>, Error> {
        let mut out = Vec::new();
        let request = Request::new(libc::RTM_GETADDR, DUMP, &address_header(0, 0, 0));
        self.ask("list", "addresses", request, |kind, body| {
            if kind == libc::RTM_NEWADDR {
                out.extend(parse_address(body)?);
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Adds an address, or renews one that is there. IPv4 gets the broadcast address of its network. `lifetime` is how
    /// long the kernel keeps it, for a lease; `None` for ever.
    pub fn set_address(&mut self, address: LinkAddress, lifetime: Option<Duration>) -> Result<(), Error> {
        let on = format!("address {}/{} on interface {}", address.address, address.prefix_len, address.index);
        let mut request = address_request(libc::RTM_NEWADDR, ACK | CREATE | REPLACE, address, &on)?;
        if let (IpAddr::V4(ip), 0..=30) = (address.address, address.prefix_len) {
            let host_bits = u32::MAX.checked_shr(u32::from(address.prefix_len)).unwrap_or(0);
            let broadcast = Ipv4Addr::from(u32::from(ip) | host_bits);
            request = request.attribute(libc::IFA_BROADCAST, &broadcast.octets());
        }
        if let Some(lifetime) = lifetime {
            let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).max(1).to_ne_bytes();
            // ifa_cacheinfo: preferred and valid lifetime in seconds, two time stamps the kernel ignores.
            let info = [seconds, seconds, [0; 4], [0; 4]].concat();
            request = request.attribute(libc::IFA_CACHEINFO, &info);
        }
        self.ask("set", on, request, |_, _| Ok(()))
    }

    /// Takes an address away.
    pub fn remove_address(&mut self, address: LinkAddress) -> Result<(), Error> {
        let on = format!("address {}/{} on interface {}", address.address, address.prefix_len, address.index);
        let request = address_request(libc::RTM_DELADDR, ACK, address, &on)?;
        self.ask("remove", on, request, |_, _| Ok(()))
    }

    /// Takes all addresses of one interface away; their routes go with them.
    pub fn remove_addresses(&mut self, index: u32) -> Result<(), Error> {
        for address in self.addresses()? {
            if address.index == index {
                self.remove_address(address)?;
            }
        }
        Ok(())
    }

    /// Makes `gateway` the default route through interface `index`, in place of another default route of the same
    /// `metric` (smaller wins). The gateway need not lie in the interface's own network.
    pub fn set_default_route(&mut self, index: u32, gateway: IpAddr, metric: u32) -> Result<(), Error> {
        let any = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.set_route(index, (any, 0), Some(gateway), metric)
    }

    /// Sets a route to `network` through interface `index`, by way of `gateway` or directly.
    pub fn set_route(
        &mut self,
        index: u32,
        network: (IpAddr, u8),
        gateway: Option<IpAddr>,
        metric: u32,
    ) -> Result<(), Error> {
        let on = format!("route to {}/{} through interface {index}", network.0, network.1);
        let scope = if gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        // RTNH_F_ONLINK: hosts with a /32 address have gateways outside their network.
        let flags: u32 = if gateway.is_some_and(|gateway| gateway.is_ipv4()) { 4 } else { 0 };
        let mut header = vec![family(network.0), network.1, 0, 0];
        header.extend([libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST]);
        header.extend(flags.to_ne_bytes());
        let mut request = Request::new(libc::RTM_NEWROUTE, ACK | CREATE | REPLACE, &header)
            .attribute(libc::RTA_OIF, &index.to_ne_bytes())
            .attribute(libc::RTA_PRIORITY, &metric.to_ne_bytes());
        if network.1 > 0 {
            request = request.attribute(libc::RTA_DST, &octets(network.0));
        }
        if let Some(gateway) = gateway {
            if family(gateway) != family(network.0) {
                return Err(Error::Unsupported { what: "gateway", value: format!("{gateway} for {on}") });
            }
            request = request.attribute(libc::RTA_GATEWAY, &octets(gateway));
        }
        self.ask("set", on, request, |_, _| Ok(()))
    }

    /// Gives the hardware address `mac` the IPv4 address `ip` in the kernel's table of neighbours, so that a datagram can be sent to a
    /// host that cannot answer ARP yet.
    pub fn set_neighbour(&mut self, index: u32, ip: Ipv4Addr, mac: [u8; 6]) -> Result<(), Error> {
        let on = format!("neighbour {ip} on interface {index}");
        let mut header = vec![family(IpAddr::V4(ip)), 0, 0, 0];
        header.extend(index.to_ne_bytes());
        header.extend(libc::NUD_REACHABLE.to_ne_bytes());
        header.extend([0, libc::RTN_UNICAST]);
        let request = Request::new(libc::RTM_NEWNEIGH, ACK | CREATE | REPLACE, &header)
            .attribute(libc::NDA_DST, &ip.octets())
            .attribute(libc::NDA_LLADDR, &mac);
        self.ask("set", on, request, |_, _| Ok(()))
    }

    /// Waits until the interface has a carrier and packets pass; whether it came within `timeout`. The interface must be up.
    pub fn wait_for_carrier(&mut self, index: u32, timeout: Duration) -> Result<bool, Error> {
        let group = libc::RTMGRP_LINK.unsigned_abs();
        // Listen first, then look: a change in between is then seen by one of the two.
        let news = channel(group)?;
        let deadline = Instant::now() + timeout;
        let mut open_since = None;
        loop {
            let now = Instant::now();
            let mut left = deadline.saturating_duration_since(now);
            let link = self.list()?.into_iter().find(|link| link.index == index && link.up && link.carrier);
            match link.map(|link| link.operational) {
                Some(Some(true)) => return Ok(true),
                Some(None) => {
                    let settled = *open_since.get_or_insert(now) + SETTLING_TIME;
                    if now >= settled {
                        return Ok(true);
                    }
                    left = left.min(settled - now);
                }
                Some(Some(false)) | None => open_since = None,
            }
            if now >= deadline {
                return Ok(false);
            }
            if process::wait_readable(&news, left)? {
                // What the news say does not matter (they may even have overflowed): the list is the truth.
                let mut buf = vec![0; DATAGRAM_BYTES];
                match socket::receive(&news, &mut buf) {
                    Err(e) if e.raw_os_error() != Some(libc::ENOBUFS) => {
                        return Err(Error::io("wait for carrier of", format!("interface {index}"), e));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Sends `request` and gives its answers to `each` until the kernel says that it is done.
    fn ask(
        &mut self,
        what: &'static str,
        on: impl Into<String>,
        request: Request,
        each: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> Result<(), Error> {
        self.try_ask(request, each).map_err(|e| Error::io(what, on, e))
    }

    fn try_ask(
        &mut self,
        request: Request,
        mut each: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        socket::send_to(&self.fd, &request.finish(self.sequence), &socket::netlink_address(0))?;
        let mut buf = vec![0; DATAGRAM_BYTES];
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            if !process::wait_readable(&self.fd, left)? {
                continue;
            }
            let len = socket::receive(&self.fd, &mut buf)?;
            let datagram = buf.get(..len).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
            for (sequence, message) in messages(datagram)? {
                match message {
                    // Left over from a request that was given up.
                    _ if sequence != self.sequence => {}
                    Message::Done | Message::Answer(0) => return Ok(()),
                    Message::Answer(error) => {
                        return Err(io::Error::from_raw_os_error(error.saturating_neg()));
                    }
                    Message::Data { kind, body } => each(kind, body)?,
                }
            }
        }
    }
}

fn channel(groups: u32) -> Result<OwnedFd, Error> {
    let open = || {
        let fd = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        socket::bind(&fd, &socket::netlink_address(groups))?;
        Ok(fd)
    };
    open().map_err(|e: io::Error| Error::io("open", "netlink socket", e))
}

/// `ifinfomsg`: family, pad, hardware, index, flags, mask of flags to change.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), change.to_ne_bytes()].concat()
}

/// `ifaddrmsg`: family, prefix, flags, scope, index.
fn address_header(family: u8, prefix_len: u8, index: u32) -> Vec<u8> {
    [[family, prefix_len, 0, 0], index.to_ne_bytes()].concat()
}

fn address_request(kind: u16, flags: u16, address: LinkAddress, on: &str) -> Result<Request, Error> {
    let bytes = octets(address.address);
    if usize::from(address.prefix_len) > bytes.len() * 8 {
        return Err(Error::Unsupported { what: "prefix length", value: on.to_owned() });
    }
    let header = address_header(family(address.address), address.prefix_len, address.index);
    Ok(Request::new(kind, flags, &header)
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes))
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,  // AF_INET
        IpAddr::V6(_) => 10, // AF_INET6
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn cut(_: gravure_io::Truncated) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "netlink message is shorter than its fixed part")
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().map(u32::from_ne_bytes).ok()
}

fn parse_link(body: &[u8]) -> io::Result<Link> {
    let mut fixed = Cursor::new(body);
    fixed.take(2).map_err(cut)?; // family, pad
    let hardware = u16::from_ne_bytes(fixed.array().map_err(cut)?);
    let index = u32::from_ne_bytes(fixed.array().map_err(cut)?);
    let flags = u32::from_ne_bytes(fixed.array().map_err(cut)?);
    fixed.take(4).map_err(cut)?; // change mask
    let mut link = Link {
        index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags & UP != 0,
        carrier: false,
        operational: None,
        loopback: hardware == ARPHRD_LOOPBACK,
        hardware,
    };
    for (kind, value) in attributes(fixed.rest())? {
        match kind {
            libc::IFLA_IFNAME => link.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_MTU => link.mtu = number(value).unwrap_or(0),
            libc::IFLA_CARRIER => link.carrier = value == [1],
            libc::IFLA_OPERSTATE => {
                link.operational = value.first().filter(|s| **s != OPER_UNKNOWN).map(|s| *s == OPER_UP)
            }
            _ => {}
        }
    }
    Ok(link)
}

fn parse_address(body: &[u8]) -> io::Result<Option<LinkAddress>> {
    let mut fixed = Cursor::new(body);
    let [_, prefix_len, _, _] = fixed.array().map_err(cut)?;
    let index = u32::from_ne_bytes(fixed.array().map_err(cut)?);
    let mut address = None;
    for (kind, value) in attributes(fixed.rest())? {
        // On point-to-point links IFA_ADDRESS is the other end and IFA_LOCAL ours; IPv6 has IFA_ADDRESS only.
        if kind == libc::IFA_LOCAL || (kind == libc::IFA_ADDRESS && address.is_none()) {
            let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from).ok();
            address = v4.or_else(|| <[u8; 16]>::try_from(value).map(IpAddr::from).ok());
        }
    }
    Ok(address.map(|address| LinkAddress { index, address, prefix_len }))
}
