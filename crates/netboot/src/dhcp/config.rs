//! What an operator sets: proxy or full service, networks, pools, reservations. Plain data with one check.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::BTreeSet;

use super::message::HardwareAddress;
use super::subnet::{AddressRange, Network, setting};
use crate::Error;

/// Addresses in the pools of one network. A full pool is searched whole for each unknown client; 65536 keeps that
/// under a few milliseconds and is more than any boot network needs.
pub const MAX_POOL_ADDRESSES: u64 = 1 << 16;
/// Shortest lease: below a minute, clients would do little but renew.
pub const MIN_LEASE: Duration = Duration::from_secs(60);
/// Longest lease: thirty days, so that a pool recovers within a month whatever happened.
pub const MAX_LEASE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The service on one network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpConfig {
    /// Our address on this interface: server identifier, and the server boot files come from unless the policy says otherwise.
    pub server: Ipv4Addr,
    /// Beside another DHCP server, or instead of one.
    pub mode: DhcpMode,
    /// How ProxyDHCP offers are made.
    pub proxy_style: ProxyStyle,
    /// What makes two requests come from the same client.
    pub identify: Identify,
}

/// Whether we give addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpMode {
    /// Another server gives addresses; we add the boot file for clients that boot.
    Proxy,
    /// We give addresses too.
    Full(FullDhcp),
}

/// How the boot file reaches a PXE client beside a foreign DHCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyStyle {
    /// In the offer itself, with option 43.6 = 8. Works with edk2 and iPXE and saves a round.
    #[default]
    OnePhase,
    /// Offer without a file; the client asks port 4011 for it.
    TwoPhase,
}

/// The key leases are kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identify {
    /// The link-layer address, so that firmware, loader, payload and the installed system of one machine share one
    /// address although each sends another client identifier, or none.
    #[default]
    Hardware,
    /// Option 61 where present (RFC 2131 section 4.2), else the link-layer address.
    ClientIdentifier,
}

/// Address service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullDhcp {
    /// The networks served, ours and those behind relays.
    pub subnets: Vec<Subnet>,
    /// Whether others give addresses on these networks too.
    pub authority: Authority,
}

/// How to treat leases we know nothing of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Authority {
    /// Another server may have given it: stay silent.
    #[default]
    Shared,
    /// Nobody else may have: adopt what is free, refuse the rest, so that clients move on at once.
    Sole,
}

/// One network and what its clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The network; a relay's address or link selection inside it selects this entry.
    pub network: Network,
    /// Addresses to give.
    pub pools: Vec<AddressRange>,
    /// Fixed addresses, inside or outside the pools.
    pub reservations: Vec<Reservation>,
    /// Default routers, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// NTP servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name for resolving.
    pub domain: Option<String>,
    /// Lease time; a client may ask for less.
    pub lease: Duration,
}

/// A machine's fixed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// The machine.
    pub hardware: HardwareAddress,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Subnet {
    /// A network with one pool, a lease of an hour and nothing else set.
    #[must_use]
    pub fn new(network: Network, pool: AddressRange) -> Self {
        Self { pools: vec![pool], ..Self::empty(network) }
    }

    /// A network without addresses to give, with a lease of an hour and nothing else set.
    #[must_use]
    pub fn empty(network: Network) -> Self {
        Self {
            network,
            pools: Vec::new(),
            reservations: Vec::new(),
            routers: Vec::new(),
            dns: Vec::new(),
            ntp: Vec::new(),
            domain: None,
            lease: Duration::from_secs(3600),
        }
    }

    /// The fixed address of `hardware`.
    #[must_use]
    pub fn reserved_for(&self, hardware: &HardwareAddress) -> Option<Ipv4Addr> {
        self.reservations.iter().find(|entry| entry.hardware == *hardware).map(|entry| entry.address)
    }

    /// Whether `hardware` may have `address`: its reservation, or a pool address nobody else has reserved.
    #[must_use]
    pub fn may_have(&self, hardware: &HardwareAddress, address: Ipv4Addr) -> bool {
        match self.reservations.iter().find(|entry| entry.address == address) {
            Some(entry) => entry.hardware == *hardware,
            None => self.pools.iter().any(|pool| pool.contains(address)) && !self.routers.contains(&address),
        }
    }

    fn check(&self, server: Ipv4Addr) -> Result<(), Error> {
        let network = self.network;
        for pool in &self.pools {
            if pool.first > pool.last {
                return Err(setting("pool", pool, "the first address is above the last"));
            }
            if !network.is_host(pool.first) || !network.is_host(pool.last) {
                return Err(setting("pool", pool, "not inside the network, its edge addresses excluded"));
            }
            if pool.contains(server) {
                return Err(setting("pool", pool, "contains the server's own address"));
            }
        }
        let addresses = self.pools.iter().fold(0u64, |sum, pool| sum.saturating_add(pool.count()));
        if addresses > MAX_POOL_ADDRESSES {
            return Err(setting("pools of network", network, "more than 65536 addresses"));
        }
        let (mut machines, mut taken) = (BTreeSet::new(), BTreeSet::from([server]));
        for Reservation { hardware, address } in &self.reservations {
            if !network.is_host(*address) {
                return Err(setting("reservation", address, "not inside the network"));
            }
            if !taken.insert(*address) {
                return Err(setting("reservation", address, "address given twice, or the server's own"));
            }
            if !machines.insert(*hardware) {
                return Err(setting("reservation", hardware, "machine named twice in one network"));
            }
        }
        if !(MIN_LEASE..=MAX_LEASE).contains(&self.lease) {
            return Err(setting("lease of network", network, "not between one minute and thirty days"));
        }
        if self.domain.as_ref().is_some_and(|name| name.is_empty() || name.len() > 255 || !name.is_ascii()) {
            return Err(setting("domain of network", network, "not a name of 1 to 255 ASCII characters"));
        }
        let lists = [
            ("routers of network", &self.routers),
            ("dns of network", &self.dns),
            ("ntp of network", &self.ntp),
        ];
        for (what, list) in lists {
            if list.len() > 8 {
                return Err(setting(what, network, "more than 8 addresses"));
            }
        }
        Ok(())
    }
}

impl FullDhcp {
    /// The network of `address`.
    #[must_use]
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.network.contains(address))
    }
}

impl DhcpConfig {
    /// A ProxyDHCP service with the defaults.
    #[must_use]
    pub fn proxy(server: Ipv4Addr) -> Self {
        Self {
            server,
            mode: DhcpMode::Proxy,
            proxy_style: ProxyStyle::default(),
            identify: Identify::default(),
        }
    }

    /// An address service for `subnets` with the defaults.
    #[must_use]
    pub fn full(server: Ipv4Addr, subnets: Vec<Subnet>) -> Self {
        let mode = DhcpMode::Full(FullDhcp { subnets, authority: Authority::default() });
        Self { mode, ..Self::proxy(server) }
    }

    /// Refuses settings that cannot work. Call it once; [`super::reply`] relies on it for sense, not for safety.
    pub fn check(&self) -> Result<(), Error> {
        let server = self.server;
        if server.is_unspecified() || server.is_multicast() || server.is_broadcast() {
            return Err(setting("server address", server, "not an address a machine can have"));
        }
        let DhcpMode::Full(full) = &self.mode else { return Ok(()) };
        if full.subnets.is_empty() {
            return Err(setting("networks", "(none)", "full DHCP needs at least one"));
        }
        let mut seen: Vec<Network> = Vec::new();
        for subnet in &full.subnets {
            let network = subnet.network;
            if seen.iter().any(|other| other.contains(network.base()) || network.contains(other.base())) {
                return Err(setting("network", network, "overlaps another one"));
            }
            seen.push(network);
            subnet.check(server)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet() -> Subnet {
        Subnet::new("10.77.0.0/24".parse().unwrap(), "10.77.0.100-10.77.0.150".parse().unwrap())
    }

    #[test]
    fn accepts_the_plain_case() {
        assert_eq!(DhcpConfig::proxy([10, 77, 0, 1].into()).check(), Ok(()));
        assert_eq!(DhcpConfig::full([10, 77, 0, 1].into(), vec![subnet()]).check(), Ok(()));
    }

    #[test]
    fn refuses_what_cannot_work_and_says_which_setting() {
        let mac = HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]);
        let reserve = |subnet: &mut Subnet, last: u8| {
            subnet.reservations.push(Reservation { hardware: mac, address: [10, 77, 0, last].into() });
        };
        type Damage<'a> = &'a dyn Fn(&mut Vec<Subnet>);
        let cases: [(Damage, &str); 10] = [
            (&|list| list.clear(), "setting networks (none): "),
            (&|list| list.push(subnet()), "setting network 10.77.0.0/24: overlaps"),
            (
                &|list| list[0].pools = vec!["10.77.1.1-10.77.1.2".parse().unwrap()],
                "setting pool 10.77.1.1-10.77.1.2: not inside",
            ),
            (
                &|list| list[0].pools = vec!["10.77.0.0-10.77.0.2".parse().unwrap()],
                "setting pool 10.77.0.0-10.77.0.2: not inside",
            ),
            (
                &|list| list[0].pools = vec!["10.77.0.1-10.77.0.2".parse().unwrap()],
                "setting pool 10.77.0.1-10.77.0.2: contains",
            ),
            (&|list| list[0].lease = Duration::from_secs(59), "setting lease of network"),
            (&|list| list[0].domain = Some("ä".into()), "setting domain of network"),
            (&|list| reserve(&mut list[0], 1), "setting reservation 10.77.0.1: address given twice"),
            (
                &|list| {
                    reserve(&mut list[0], 9);
                    reserve(&mut list[0], 8)
                },
                "setting reservation 02:00:00:00:00:07: machine named twice",
            ),
            (
                &|list| list[0].dns = vec![[1, 1, 1, 1].into(); 9],
                "setting dns of network 10.77.0.0/24: more than 8",
            ),
        ];
        for (damage, text) in cases {
            let mut subnets = vec![subnet()];
            damage(&mut subnets);
            let error = DhcpConfig::full([10, 77, 0, 1].into(), subnets).check().unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        let huge = Subnet::new("10.0.0.0/8".parse().unwrap(), "10.0.0.1-10.1.0.1".parse().unwrap());
        assert!(DhcpConfig::full([10, 77, 0, 1].into(), vec![huge]).check().is_err());
        assert!(DhcpConfig::proxy(Ipv4Addr::UNSPECIFIED).check().is_err());
    }

    #[test]
    fn reserved_addresses_belong_to_their_machine_alone() {
        let (mine, other) =
            (HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]), HardwareAddress::ethernet([2, 0, 0, 0, 0, 8]));
        let mut subnet = subnet();
        subnet.routers = vec![[10, 77, 0, 110].into()];
        subnet.reservations.push(Reservation { hardware: mine, address: [10, 77, 0, 101].into() });
        let cases = [
            (101, mine, true),
            (101, other, false),
            (102, other, true),
            (99, mine, false),
            (110, mine, false),
        ];
        for (last, who, allowed) in cases {
            assert_eq!(subnet.may_have(&who, [10, 77, 0, last].into()), allowed, "{last} {who}");
        }
    }
}
