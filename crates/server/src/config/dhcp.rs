//! `[[interface]]`, `[[network]]` and `[[reservation]]`: who gives addresses where, and what clients are told.

use std::net::Ipv4Addr;
use std::time::Duration;

use gravure_model::identity::Mac;
use gravure_netboot::dhcp::{
    AddressRange, Authority as SoleOrShared, HardwareAddress, Network, ProxyStyle as Phases, Reservation,
    Subnet,
};
use serde::{Deserialize, Serialize};

/// How DHCP is done on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dhcp {
    /// Beside the DHCP server that is there: only boot files, no addresses.
    #[default]
    Proxy,
    /// Addresses too. Only where no other server does.
    Full,
    /// Not at all: the site's DHCP server names our boot files.
    Off,
}

/// What happens to clients that use an address we did not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// Another server may have given it: not answered.
    #[default]
    Shared,
    /// Nobody else gives addresses here, or no longer does: what is free is taken over, the rest refused at once.
    Sole,
}

/// How a boot file reaches PXE firmware beside another DHCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyStyle {
    /// In the offer itself.
    #[default]
    OnePhase,
    /// When the firmware asks port 4011 for it.
    TwoPhase,
}

impl From<ProxyStyle> for Phases {
    fn from(style: ProxyStyle) -> Self {
        match style {
            ProxyStyle::OnePhase => Self::OnePhase,
            ProxyStyle::TwoPhase => Self::TwoPhase,
        }
    }
}

impl From<Authority> for SoleOrShared {
    fn from(authority: Authority) -> Self {
        match authority {
            Authority::Shared => Self::Shared,
            Authority::Sole => Self::Sole,
        }
    }
}

/// `[[interface]]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceConfig {
    /// Its name; the address decides when it is left out.
    pub name: Option<String>,
    /// Its IPv4 address; the interface's first when it is left out.
    pub address: Option<Ipv4Addr>,
    /// DHCP service.
    #[serde(default)]
    pub dhcp: Dhcp,
    /// With `dhcp = "proxy"`: how firmware gets its boot file.
    pub proxy_style: Option<ProxyStyle>,
    /// With `dhcp = "full"`: whether others give addresses too.
    pub authority: Option<Authority>,
    /// With `dhcp = "full"`: addresses to give, `10.77.0.100-10.77.0.200`. Without them only those of `[[network]]` and
    /// `[[reservation]]` are given.
    pub pool: Option<String>,
    /// With `dhcp = "full"`: default routers.
    #[serde(default)]
    pub routers: Vec<Ipv4Addr>,
    /// With `dhcp = "full"`: name servers.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// With `dhcp = "full"`: time servers.
    #[serde(default)]
    pub ntp: Vec<Ipv4Addr>,
    /// With `dhcp = "full"`: domain name.
    pub domain: Option<String>,
    /// With `dhcp = "full"`: lease time.
    pub lease_minutes: Option<u32>,
    /// Network boot over IPv6 too: DHCPv6 and router advertisements, where no other server does that.
    #[serde(default)]
    pub ipv6: bool,
}

/// `[[network]]`: one behind DHCP relays. Every interface with `dhcp = "full"` gives its addresses to those who ask through a relay.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The network, `10.88.0.0/24`. The relay's address in it, or the one a relay names for the client's link, selects it.
    pub network: String,
    /// Addresses to give. Without them only those of `[[reservation]]`.
    pub pool: Option<String>,
    /// Default routers.
    #[serde(default)]
    pub routers: Vec<Ipv4Addr>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    #[serde(default)]
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name.
    pub domain: Option<String>,
    /// Lease time.
    pub lease_minutes: Option<u32>,
}

/// `[[reservation]]`: the fixed address of a machine, inside or outside the pools.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationConfig {
    /// The machine's MAC address.
    pub mac: String,
    /// Its address, in the network of an interface or in one behind a relay. A machine may have one in each.
    pub address: Ipv4Addr,
}

impl InterfaceConfig {
    /// An interface known by its address, with DHCP as by default.
    pub fn at(address: Ipv4Addr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }

    /// An interface known by its name, with DHCP as by default.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// What messages call it.
    pub fn label(&self) -> String {
        let address = self.address.map(|address| address.to_string());
        self.name.clone().or(address).unwrap_or_else(|| "(unnamed)".into())
    }

    /// The interface's own network. Its addresses and settings were checked.
    pub(crate) fn subnet(&self, network: Network) -> Result<Subnet, String> {
        let own = NetworkConfig {
            network: network.to_string(),
            pool: self.pool.clone(),
            routers: self.routers.clone(),
            dns: self.dns.clone(),
            ntp: self.ntp.clone(),
            domain: self.domain.clone(),
            lease_minutes: self.lease_minutes,
        };
        own.subnet()
    }

    /// Settings that mean nothing with this kind of DHCP.
    fn meaningless(&self) -> Option<(&'static str, &'static str)> {
        const FULL: &str = "only dhcp = \"full\" gives addresses";
        let full = self.dhcp == Dhcp::Full;
        let set = [
            (self.pool.is_some(), "pool", FULL),
            (!self.routers.is_empty(), "routers", FULL),
            (!self.dns.is_empty(), "dns", FULL),
            (!self.ntp.is_empty(), "ntp", FULL),
            (self.domain.is_some(), "domain", FULL),
            (self.lease_minutes.is_some(), "lease_minutes", FULL),
            (self.authority.is_some(), "authority", FULL),
        ];
        let of_full = set.into_iter().find(|(set, ..)| *set && !full);
        let style = self.proxy_style.is_some() && self.dhcp != Dhcp::Proxy;
        let of_proxy = style.then_some((
            true,
            "proxy_style",
            "only dhcp = \"proxy\" makes offers beside another server",
        ));
        of_full.or(of_proxy).map(|(_, name, why)| (name, why))
    }
}

impl NetworkConfig {
    /// The network in the terms of the DHCP server.
    pub(crate) fn subnet(&self) -> Result<Subnet, String> {
        let network: Network = self.network.parse().map_err(|error| format!("{error}"))?;
        // What stands there is to be the network itself: with an address in it the mask is likely wrong.
        if self.network.split('/').next() != Some(network.base().to_string().as_str()) {
            return Err(format!("{} is an address in the network {network}; write that", self.network));
        }
        let pool: Option<AddressRange> =
            self.pool.as_deref().map(str::parse).transpose().map_err(|error| format!("{error}"))?;
        let minutes = self.lease_minutes.map(|minutes| Duration::from_secs(u64::from(minutes) * 60));
        let mut subnet = Subnet::empty(network);
        subnet.pools = pool.into_iter().collect();
        subnet.routers.clone_from(&self.routers);
        subnet.dns.clone_from(&self.dns);
        subnet.ntp.clone_from(&self.ntp);
        subnet.domain.clone_from(&self.domain);
        subnet.lease = minutes.unwrap_or(subnet.lease);
        Ok(subnet)
    }
}

impl ReservationConfig {
    pub(crate) fn checked(&self) -> Result<Reservation, String> {
        let mac: Mac = self
            .mac
            .parse()
            .map_err(|_| format!("mac {:?} is no MAC address like 52:54:00:12:34:56", self.mac))?;
        Ok(Reservation { hardware: HardwareAddress::ethernet(mac.0), address: self.address })
    }
}

/// Refuses what cannot be meant; what depends on this machine's interfaces is seen when they are looked up.
pub(super) fn check(
    interfaces: &[InterfaceConfig],
    networks: &[NetworkConfig],
    reservations: &[ReservationConfig],
) -> Result<(), String> {
    for interface in interfaces {
        let label = interface.label();
        if interface.name.is_none() && interface.address.is_none() {
            return Err("[[interface]]: neither name nor address is set".into());
        }
        if let Some((setting, why)) = interface.meaningless() {
            return Err(format!("interface {label}: {setting} is set, but {why}; remove it, or change dhcp"));
        }
        let others = !networks.is_empty() || !reservations.is_empty();
        if interface.dhcp == Dhcp::Full && interface.pool.is_none() && !others {
            return Err(format!(
                "interface {label}: dhcp = \"full\" needs a pool of addresses, a [[network]] behind a relay or a [[reservation]]"
            ));
        }
    }
    let full = interfaces.iter().any(|interface| interface.dhcp == Dhcp::Full);
    for network in networks {
        let name = &network.network;
        network.subnet().map_err(|why| format!("[[network]] {name:?}: {why}"))?;
        if !full {
            return Err(format!(
                "[[network]] {name:?}: no interface has dhcp = \"full\", so nobody gives these addresses. Machines behind a relay get \
                 their boot files from a proxy without this block"
            ));
        }
    }
    for reservation in reservations {
        let address = reservation.address;
        reservation.checked().map_err(|why| format!("[[reservation]] {address}: {why}"))?;
        if !full {
            return Err(format!(
                "[[reservation]] {address}: no interface has dhcp = \"full\", so nobody gives this address; reserve it in \
                 the DHCP server of this network"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_says_what_the_server_needs() {
        let text = "network = \"10.88.0.0/24\"\npool = \"10.88.0.100-10.88.0.150\"\nrouters = [\"10.88.0.1\"]\n\
                    dns = [\"10.88.0.2\"]\nntp = [\"10.88.0.3\"]\ndomain = \"far.example\"\nlease_minutes = 30\n";
        let network: NetworkConfig = toml::from_str(text).unwrap();
        let subnet = network.subnet().unwrap();
        let expected = Subnet {
            network: "10.88.0.0/24".parse().unwrap(),
            pools: vec!["10.88.0.100-10.88.0.150".parse().unwrap()],
            reservations: Vec::new(),
            routers: vec![[10, 88, 0, 1].into()],
            dns: vec![[10, 88, 0, 2].into()],
            ntp: vec![[10, 88, 0, 3].into()],
            domain: Some("far.example".into()),
            lease: Duration::from_secs(1800),
        };
        assert_eq!(subnet, expected);
        let wrong = NetworkConfig { network: "10.88.0.1/24".into(), ..NetworkConfig::default() };
        assert_eq!(
            wrong.subnet().unwrap_err(),
            "10.88.0.1/24 is an address in the network 10.88.0.0/24; write that"
        );
    }
}
