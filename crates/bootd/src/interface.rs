//! The network interfaces a boot service can work on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gravure_linux::link::Links;

use crate::Error;

/// An interface with an IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number.
    pub index: u32,
    /// Its name, e.g. `enp1s0`.
    pub name: String,
    /// Its address; the first when there are several.
    pub address: Ipv4Addr,
    /// Length of the network part in bits.
    pub prefix_len: u8,
    /// It is the loopback.
    pub loopback: bool,
}

/// All interfaces that have an IPv4 address, one entry for each address, by index.
pub fn interfaces() -> Result<Vec<Interface>, Error> {
    let mut links = Links::open()?;
    let list = links.list()?;
    let mut found = Vec::new();
    for address in links.addresses()? {
        let IpAddr::V4(ip) = address.address else { continue };
        let Some(link) = list.iter().find(|link| link.index == address.index) else { continue };
        found.push(Interface {
            index: link.index,
            name: link.name.clone(),
            address: ip,
            prefix_len: address.prefix_len,
            loopback: link.loopback,
        });
    }
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// An interface with an IPv6 address that other networks' machines can use too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface6 {
    /// The kernel's number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its address: global or unique local, the first when there are several.
    pub address: Ipv6Addr,
    /// Length of the network part in bits.
    pub prefix_len: u8,
    /// Its link-layer address.
    pub mac: [u8; 6],
}

/// The IPv6 side of the interface `name`; `None` when it has only link-local addresses or no link-layer address.
pub fn interface6(name: &str) -> Result<Option<Interface6>, Error> {
    let mut links = Links::open()?;
    let list = links.list()?;
    let Some(link) = list.iter().find(|link| link.name == name) else { return Ok(None) };
    let Some(mac) = link.mac else { return Ok(None) };
    let found = links.addresses()?.into_iter().find_map(|address| match address.address {
        IpAddr::V6(ip) if address.index == link.index && !ip.is_unicast_link_local() && !ip.is_loopback() => {
            Some((ip, address.prefix_len))
        }
        _ => None,
    });
    Ok(found.map(|(address, prefix_len)| Interface6 {
        index: link.index,
        name: link.name.clone(),
        address,
        prefix_len,
        mac,
    }))
}
