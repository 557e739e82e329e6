//! The interfaces of the configuration, found on this machine.

use std::net::Ipv4Addr;

use gravure_bootd::{Interface, Interface6, interface6, interfaces};
use gravure_netboot::dhcp::{DhcpConfig, DhcpMode, FullDhcp, Network, Subnet};
use gravure_netboot::dhcp6;

use crate::Error;
use crate::boot::ServerAddress;
use crate::config::{CONFIG_NAME, Config, Dhcp, InterfaceConfig};

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
    pub(crate) fn dhcp(&self, config: &Config) -> Result<Option<DhcpConfig>, Error> {
        let server = self.interface.address;
        let mut dhcp = match self.config.dhcp {
            Dhcp::Off => return Ok(None),
            // Nobody boots over the loopback.
            Dhcp::Proxy if self.interface.loopback => return Ok(None),
            Dhcp::Proxy => DhcpConfig::proxy(server),
            Dhcp::Full => {
                let authority = self.config.authority.unwrap_or_default().into();
                let full = FullDhcp { subnets: self.subnets(config)?, authority };
                DhcpConfig { mode: DhcpMode::Full(full), ..DhcpConfig::proxy(server) }
            }
        };
        dhcp.proxy_style = self.config.proxy_style.unwrap_or_default().into();
        dhcp.check().map_err(|error| self.refused(&error.to_string()))?;
        Ok(Some(dhcp))
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

    /// The interface's own network, when there are addresses in it to give, and those behind relays, each with its reservations.
    fn subnets(&self, config: &Config) -> Result<Vec<Subnet>, Error> {
        let network = self.network()?;
        let own = self.config.subnet(network).map_err(|why| self.refused(&why))?;
        let mut subnets = vec![own];
        for relayed in &config.networks {
            subnets.push(relayed.subnet().map_err(|why| self.refused(&why))?);
        }
        for reservation in &config.reservations {
            let reservation = reservation.checked().map_err(|why| self.refused(&why))?;
            // Those of other interfaces' networks are not ours to give; that each has one is seen by `check_reservations`.
            if let Some(subnet) =
                subnets.iter_mut().find(|subnet| subnet.network.contains(reservation.address))
            {
                subnet.reservations.push(reservation);
            }
        }
        // Without addresses the own network is somebody else's.
        subnets.retain(|subnet| {
            subnet.network != network || !subnet.pools.is_empty() || !subnet.reservations.is_empty()
        });
        Ok(subnets)
    }

    fn network(&self) -> Result<Network, Error> {
        let network = Network::new(self.interface.address, self.interface.prefix_len);
        network.ok_or_else(|| Error::Interface(format!("{} has no network", self.config.label())))
    }

    fn refused(&self, why: &str) -> Error {
        let message = format!("interface {}: {why}", self.config.label());
        Error::Config { path: CONFIG_NAME.into(), message }
    }
}

/// Refuses fixed addresses that nobody would ever get.
pub(crate) fn check_reservations(served: &[Served], config: &Config) -> Result<(), Error> {
    let full = served.iter().filter(|served| served.config.dhcp == Dhcp::Full);
    let mut networks: Vec<Network> = full.map(Served::network).collect::<Result<_, _>>()?;
    networks.extend(config.networks.iter().filter_map(|relayed| relayed.network.parse::<Network>().ok()));
    let lost = config
        .reservations
        .iter()
        .find(|reservation| !networks.iter().any(|network| network.contains(reservation.address)));
    let Some(lost) = lost else { return Ok(()) };
    let names: Vec<String> = networks.iter().map(Network::to_string).collect();
    let message = format!(
        "[[reservation]] {} for {}: in none of the networks whose addresses this server gives ({}); correct the address, or \
         add a [[network]]",
        lost.address,
        lost.mac,
        names.join(", ")
    );
    Err(Error::Config { path: CONFIG_NAME.into(), message })
}

#[cfg(test)]
mod tests {
    use gravure_netboot::dhcp::{Authority, ProxyStyle};

    use super::*;

    fn served(text: &str) -> (Config, Served) {
        let config = Config::from_text(text).unwrap();
        let interface = Interface {
            index: 2,
            name: "e".into(),
            address: [10, 77, 0, 1].into(),
            prefix_len: 24,
            loopback: false,
        };
        let served = Served { interface, config: config.interfaces[0].clone() };
        (config, served)
    }

    const FULL: &str = "[[interface]]\nname = 'e'\ndhcp = 'full'\n";
    const FAR: &str = "[[network]]\nnetwork = '10.88.0.0/24'\npool = '10.88.0.100-10.88.0.150'\n";

    fn reservation(address: &str) -> String {
        format!("[[reservation]]\nmac = '02:00:00:00:00:07'\naddress = '{address}'\n")
    }

    #[test]
    fn every_setting_reaches_the_dhcp_server() {
        let text = format!(
            "{FULL}pool = '10.77.0.100-10.77.0.150'\nntp = ['10.77.0.3']\nauthority = 'sole'\n{FAR}{}{}",
            reservation("10.88.0.9"),
            reservation("10.77.0.9")
        );
        let (config, served) = served(&text);
        let DhcpMode::Full(full) = served.dhcp(&config).unwrap().unwrap().mode else { panic!("not full") };
        assert_eq!(full.authority, Authority::Sole);
        let found: Vec<_> = full
            .subnets
            .iter()
            .map(|subnet| (subnet.network.to_string(), subnet.pools.len(), subnet.reservations[0].address))
            .collect();
        let expected = [
            ("10.77.0.0/24".to_owned(), 1, Ipv4Addr::new(10, 77, 0, 9)),
            ("10.88.0.0/24".to_owned(), 1, Ipv4Addr::new(10, 88, 0, 9)),
        ];
        assert_eq!(found, expected);
        assert_eq!(full.subnets[0].ntp, [Ipv4Addr::new(10, 77, 0, 3)]);
        check_reservations(&[served], &config).unwrap();
    }

    #[test]
    fn a_network_without_addresses_to_give_is_left_to_others() {
        let (config, served) = served(&format!("{FULL}{FAR}"));
        let DhcpMode::Full(full) = served.dhcp(&config).unwrap().unwrap().mode else { panic!("not full") };
        assert_eq!(full.subnets.len(), 1);
        assert!(full.subnet_of([10, 77, 0, 1].into()).is_none());
    }

    #[test]
    fn offers_are_made_in_the_style_that_is_set() {
        let (config, served) = served("[[interface]]\nname = 'e'\nproxy_style = 'two-phase'\n");
        let dhcp = served.dhcp(&config).unwrap().unwrap();
        assert_eq!((dhcp.mode, dhcp.proxy_style), (DhcpMode::Proxy, ProxyStyle::TwoPhase));
    }

    #[test]
    fn refuses_networks_and_reservations_that_cannot_work() {
        let pool = "pool = '10.77.0.100-10.77.0.150'\n";
        let cases = [
            (
                format!("{FULL}pool = '10.78.0.1-10.78.0.9'\n"),
                "interface e: setting pool 10.78.0.1-10.78.0.9: not inside",
            ),
            (
                format!("{FULL}{pool}[[network]]\nnetwork = '10.77.0.0/16'\n"),
                "setting network 10.77.0.0/16: overlaps another one",
            ),
            (
                format!("{FULL}{pool}{}", reservation("10.77.0.1")),
                "setting reservation 10.77.0.1: address given twice",
            ),
            (
                format!("{FULL}{pool}{FAR}{}", reservation("10.99.0.1")),
                "[[reservation]] 10.99.0.1 for 02:00:00:00:00:07: in none of the networks whose addresses this server gives \
                 (10.77.0.0/24, 10.88.0.0/24); correct",
            ),
        ];
        for (text, expected) in cases {
            let (config, served) = served(&text);
            let error =
                served.dhcp(&config).and_then(|_| check_reservations(&[served], &config)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
