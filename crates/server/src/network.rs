//! The interfaces of the configuration, found on this machine.

use std::net::Ipv4Addr;
use std::time::Duration;

use gravure_bootd::{Interface, Interface6, interface6, interfaces};
use gravure_netboot::dhcp::{DhcpConfig, Network, Subnet};
use gravure_netboot::dhcp6;

use crate::Error;
use crate::boot::ServerAddress;
use crate::config::{Config, Dhcp, InterfaceConfig};

/// An interface that is served.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) interface: Interface,
    pub(crate) config: InterfaceConfig,
}

/// Finds each configured interface.
pub(crate) fn resolve(wanted: &[InterfaceConfig]) -> Result<Vec<Served>, Error> {
    let present = interfaces()?;
    if wanted.is_empty() {
        return Err(Error::Interface(format!(
            "no interface is configured; this machine has {}",
            list(&present)
        )));
    }
    wanted
        .iter()
        .map(|config| Ok(Served { interface: find(&present, config)?, config: config.clone() }))
        .collect()
}

fn find(present: &[Interface], wanted: &InterfaceConfig) -> Result<Interface, Error> {
    let fits = |interface: &&Interface| {
        wanted.name.as_ref().is_none_or(|name| *name == interface.name)
            && wanted.address.is_none_or(|address| address == interface.address)
    };
    if let Some(found) = present.iter().find(fits) {
        return Ok(found.clone());
    }
    // All of 127.0.0.0/8 is the loopback's, though it names one address only.
    let loopback = wanted.address.filter(Ipv4Addr::is_loopback);
    let lo = present.iter().find(|interface| interface.loopback);
    match (loopback, lo) {
        (Some(address), Some(lo)) if wanted.name.is_none() => Ok(Interface { address, ..lo.clone() }),
        _ => Err(Error::Interface(format!(
            "no interface {} with an IPv4 address; this machine has {}",
            wanted.label(),
            list(present)
        ))),
    }
}

/// Where machines reach a site's files: the address of its first interface, and the URL of its content there.
pub fn first_content_url(config: &Config) -> Result<(Ipv4Addr, String), Error> {
    let served = resolve(&config.interfaces)?;
    let address = served.first().map_or(Ipv4Addr::LOCALHOST, |served| served.interface.address);
    let at =
        ServerAddress { address: address.into(), api_port: config.ports.api, http_port: config.ports.http };
    Ok((address, at.content()))
}

/// The one interface a new site can mean.
pub(crate) fn only() -> Result<InterfaceConfig, Error> {
    let present = interfaces()?;
    let mut outside = present.iter().filter(|interface| !interface.loopback);
    match (outside.next(), outside.next()) {
        (Some(one), None) => Ok(InterfaceConfig::named(&one.name)),
        _ => Err(Error::Interface(format!(
            "which network is to be served? This machine has {}",
            list(&present)
        ))),
    }
}

fn list(present: &[Interface]) -> String {
    let names = present
        .iter()
        .map(|interface| format!("{} {}/{}", interface.name, interface.address, interface.prefix_len));
    let names: Vec<String> = names.collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl Served {
    /// What DHCP does here; `None` when it is off.
    pub(crate) fn dhcp(&self) -> Result<Option<DhcpConfig>, Error> {
        let server = self.interface.address;
        match self.config.dhcp {
            Dhcp::Off => Ok(None),
            // Nobody boots over the loopback.
            Dhcp::Proxy if self.interface.loopback => Ok(None),
            Dhcp::Proxy => Ok(Some(DhcpConfig::proxy(server))),
            Dhcp::Full => Ok(Some(DhcpConfig::full(server, vec![self.subnet()?]))),
        }
    }

    /// The interface's IPv6 side; `None` when that is not served.
    pub(crate) fn ipv6(&self) -> Result<Option<Interface6>, Error> {
        if !self.config.ipv6 {
            return Ok(None);
        }
        let label = self.config.label();
        let found = interface6(&self.interface.name)?.ok_or_else(|| {
            Error::Interface(format!(
                "{label}: ipv6 is on, but the interface has no global or unique local IPv6 address; give it one, e.g. \
                 `ip address add fd77::1/64 dev {}`, or set ipv6 = false",
                self.interface.name
            ))
        })?;
        if found.prefix_len == dhcp6::PREFIX_LEN {
            return Ok(Some(found));
        }
        Err(Error::Interface(format!(
            "{label}: {}/{} has a prefix of {} bits, expected {}: addresses are made of the rest",
            found.address,
            found.prefix_len,
            found.prefix_len,
            dhcp6::PREFIX_LEN
        )))
    }

    fn subnet(&self) -> Result<Subnet, Error> {
        let label = self.config.label();
        let network = Network::new(self.interface.address, self.interface.prefix_len);
        let network = network.ok_or_else(|| Error::Interface(format!("{label} has no network")))?;
        let pool =
            self.config.pool.as_deref().unwrap_or_default().parse().map_err(gravure_bootd::Error::from)?;
        let mut subnet = Subnet::new(network, pool);
        subnet.routers = self.config.routers.clone();
        subnet.dns = self.config.dns.clone();
        subnet.domain = self.config.domain.clone();
        if let Some(minutes) = self.config.lease_minutes {
            subnet.lease = Duration::from_secs(u64::from(minutes) * 60);
        }
        Ok(subnet)
    }
}
