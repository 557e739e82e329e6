//! What a server grants: address, network and parameters out of an ACK, checked before anybody configures an interface.

use core::net::Ipv4Addr;
use core::time::Duration;

use crate::Millis;
use crate::dhcp::{Message, Network, code};

/// Shortest lease believed in; a server that says less would have us renew without end.
const SHORTEST_LEASE: u32 = 60;
/// When a server names no lease time, which RFC 2131 demands.
const UNNAMED_LEASE: u32 = 3600;
/// RFC 2131 section 3.3.
const INFINITE: u32 = u32::MAX;
/// Smallest MTU of IPv4 (RFC 791); smaller ones would break more than they help.
const SMALLEST_MTU: u16 = 576;
/// Entries kept of any list of addresses.
const MAX_ADDRESSES: usize = 16;

/// A granted lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Our address.
    pub address: Ipv4Addr,
    /// The network on the link.
    pub network: Network,
    /// The server that granted it.
    pub server: Ipv4Addr,
    /// Routes beyond the link; the default route is `0.0.0.0/0`. Of option 121 if there (RFC 3442), else of option 3.
    pub routes: Vec<Route>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// NTP servers, best first.
    pub ntp: Vec<Ipv4Addr>,
    /// Domain for resolving.
    pub domain: Option<String>,
    /// The name the server has for us.
    pub host_name: Option<String>,
    /// Who serves boot files as the site's DHCP server has it: `siaddr`, option 66 where it holds an address, the DHCP server itself; each
    /// once. Claims of the network, to be proven.
    pub boot_servers: Vec<Ipv4Addr>,
    /// MTU of the link.
    pub mtu: Option<u16>,
    /// When we ask the server to renew (T1).
    pub renew_at: Millis,
    /// When we ask any server (T2).
    pub rebind_at: Millis,
    /// When the address is no longer ours.
    pub expires: Millis,
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: Network,
    /// Through whom; `None` when the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
}

impl Grant {
    /// Reads an OFFER or ACK whose request went out at `since`; `None` when it grants nothing usable (a proxy's offer,
    /// an impossible address).
    pub(super) fn of(message: &Message, since: Millis) -> Option<Self> {
        let options = &message.options;
        let address = message.head.yiaddr;
        let server = options.address(code::SERVER_IDENTIFIER).filter(|server| is_usable(*server))?;
        if !is_usable(address) {
            return None;
        }
        let mask = options.address(code::SUBNET_MASK);
        let network =
            mask.and_then(|mask| Network::with_mask(address, mask)).or_else(|| classful(address))?;
        let domain = options.text(code::DOMAIN_NAME).filter(|name| is_name(name));
        let host_name = options.text(code::HOST_NAME).filter(|name| is_name(name));
        let list = |code| {
            options.addresses(code).filter(|address| is_usable(*address)).take(MAX_ADDRESSES).collect()
        };
        let routers: Vec<_> = list(code::ROUTER);
        let routes = match options.get(code::STATIC_ROUTES) {
            Some(routes) => static_routes(routes),
            None => routers.into_iter().filter_map(default_route).collect(),
        };
        let [renew_at, rebind_at, expires] = times(message, since);
        Some(Self {
            address,
            network,
            server,
            routes,
            dns: list(code::DNS),
            ntp: list(code::NTP),
            domain,
            host_name,
            boot_servers: boot_servers(message, server),
            mtu: options.number16(code::INTERFACE_MTU).filter(|mtu| *mtu >= SMALLEST_MTU),
            renew_at,
            rebind_at,
            expires,
        })
    }
}

fn boot_servers(message: &Message, granted_by: Ipv4Addr) -> Vec<Ipv4Addr> {
    let named = message.options.text(code::TFTP_SERVER).and_then(|name| name.parse().ok());
    let mut servers = Vec::new();
    for server in [Some(message.head.siaddr), named, Some(granted_by)].into_iter().flatten() {
        if is_usable(server) && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// T1, T2 and the end. RFC 2131 section 4.4.5: a half and seven eighths unless the server names sensible ones.
fn times(message: &Message, since: Millis) -> [Millis; 3] {
    let seconds = message.options.number32(code::LEASE_TIME).unwrap_or(UNNAMED_LEASE);
    if seconds == INFINITE {
        return [Millis::NEVER; 3];
    }
    let lease = seconds.max(SHORTEST_LEASE);
    let t2 = message.options.number32(code::REBINDING_TIME).filter(|t2| *t2 < lease && *t2 > 1);
    let t2 = t2.unwrap_or(lease.saturating_sub(lease >> 3));
    let t1 = message.options.number32(code::RENEWAL_TIME).filter(|t1| *t1 < t2 && *t1 > 0);
    let t1 = t1.unwrap_or((lease >> 1).min(t2.saturating_sub(1)));
    [t1, t2, lease].map(|seconds| since.after(Duration::from_secs(seconds.into())))
}

/// RFC 3442: width of the destination, its significant bytes, the router. A torn entry ends the list.
fn static_routes(mut rest: &[u8]) -> Vec<Route> {
    let mut routes = Vec::new();
    while routes.len() < MAX_ADDRESSES {
        let Some((&prefix, tail)) = rest.split_first() else { break };
        let significant = usize::from(prefix.div_ceil(8));
        let Some((destination, tail)) = tail.split_at_checked(significant) else { break };
        let Some((gateway, tail)) = tail.split_first_chunk::<4>() else { break };
        let mut octets = [0; 4];
        octets.iter_mut().zip(destination).for_each(|(to, from)| *to = *from);
        let Some(destination) = Network::new(octets.into(), prefix) else { break };
        let gateway = Ipv4Addr::from(*gateway);
        routes.push(Route { destination, gateway: (!gateway.is_unspecified()).then_some(gateway) });
        rest = tail;
    }
    routes
}

fn default_route(router: Ipv4Addr) -> Option<Route> {
    Some(Route { destination: Network::new(Ipv4Addr::UNSPECIFIED, 0)?, gateway: Some(router) })
}

/// An address a machine can have on a link.
fn is_usable(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !(first == 0 || first >= 224 || address.is_loopback())
}

/// The network of the old address classes, for servers that name no mask.
fn classful(address: Ipv4Addr) -> Option<Network> {
    let [first, ..] = address.octets();
    let prefix = match first {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    };
    Network::new(address, prefix)
}

/// A name that can go into a configuration file as it is.
fn is_name(name: &str) -> bool {
    name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::{Composer, Direction, HardwareAddress, Head, MessageKind};

    fn grant(yiaddr: [u8; 4], options: &[(u8, &[u8])]) -> Option<Grant> {
        let head = Head {
            direction: Direction::Reply,
            hardware: HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]),
            hops: 0,
            xid: 1,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: yiaddr.into(),
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
        };
        let mut composer = Composer::new(head, MessageKind::Ack);
        options.iter().for_each(|(code, value)| composer.need(*code, value));
        Grant::of(&Message::parse(&composer.finish(1472).unwrap().bytes).unwrap(), Millis(1000))
    }

    const SERVER: (u8, &[u8]) = (54, &[10, 0, 0, 1]);

    #[test]
    fn takes_a_full_grant() {
        let grant = grant(
            [10, 0, 0, 50],
            &[
                SERVER,
                (1, &[255, 255, 254, 0]),
                (3, &[10, 0, 0, 1, 10, 0, 0, 2]),
                (6, &[9, 9, 9, 9, 0, 0, 0, 0, 8, 8]),
                (12, b"pc-17"),
                (15, b"lab.example\0"),
                (26, &[5, 220]),
                (42, &[10, 0, 0, 3]),
                (51, &[0, 0, 14, 16]),
            ],
        )
        .unwrap();
        assert_eq!(grant.network.to_string(), "10.0.0.0/23");
        assert_eq!(grant.server, Ipv4Addr::new(10, 0, 0, 1));
        let routes: Vec<_> =
            grant.routes.iter().map(|route| (route.destination.prefix(), route.gateway.unwrap())).collect();
        assert_eq!(routes, [(0, [10, 0, 0, 1].into()), (0, [10, 0, 0, 2].into())]);
        assert_eq!((grant.dns, grant.ntp), (vec![[9, 9, 9, 9].into()], vec![[10, 0, 0, 3].into()]));
        assert_eq!(
            (grant.host_name.as_deref(), grant.domain.as_deref()),
            (Some("pc-17"), Some("lab.example"))
        );
        assert_eq!(grant.mtu, Some(1500));
        assert_eq!(
            [grant.renew_at, grant.rebind_at, grant.expires],
            [1_801_000, 3_151_000, 3_601_000].map(Millis)
        );
    }

    #[test]
    fn boot_servers_are_addresses_once_each() {
        let servers = |options: &[(u8, &[u8])]| grant([10, 0, 0, 50], options).unwrap().boot_servers;
        assert_eq!(servers(&[SERVER]), [[10, 0, 0, 1].into()] as [Ipv4Addr; 1]);
        let named = servers(&[SERVER, (66, b"10.9.0.2")]);
        assert_eq!(named, [[10, 9, 0, 2].into(), [10, 0, 0, 1].into()] as [Ipv4Addr; 2]);
        // Names are not looked up, and what no machine can have is nobody.
        for other in [&b"boot.example"[..], b"127.0.0.1", b"10.0.0.1"] {
            assert_eq!(servers(&[SERVER, (66, other)]).len(), 1, "{other:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_grant() {
        for address in [[0, 0, 0, 0], [255, 255, 255, 255], [127, 0, 0, 1], [224, 0, 0, 1], [0, 1, 2, 3]] {
            assert_eq!(grant(address, &[SERVER]), None, "{address:?}");
        }
        assert_eq!(grant([10, 0, 0, 50], &[]), None, "no server to renew with");
        assert_eq!(grant([10, 0, 0, 50], &[(54, &[0, 0, 0, 0])]), None);
    }

    #[test]
    fn odd_values_fall_back_or_fall_away() {
        let odd = grant(
            [172, 16, 0, 50],
            &[
                SERVER,
                (1, &[255, 0, 255, 0]),
                (12, b"a b"),
                (15, b"$(x)"),
                (26, &[0, 100]),
                (51, &[0, 0, 0, 1]),
            ],
        )
        .unwrap();
        assert_eq!(odd.network.to_string(), "172.16.0.0/16");
        assert_eq!((odd.host_name, odd.domain, odd.mtu), (None, None, None));
        assert_eq!(odd.expires, Millis(61_000));
        assert_eq!(grant([200, 1, 1, 1], &[SERVER]).unwrap().network.prefix(), 24);
        assert_eq!(grant([10, 1, 1, 1], &[SERVER]).unwrap().expires, Millis(3_601_000));
        assert_eq!(grant([10, 1, 1, 1], &[SERVER, (51, &[255; 4])]).unwrap().renew_at, Millis::NEVER);
    }

    #[test]
    fn t1_and_t2_are_taken_only_in_order() {
        let cases = [
            (Some(100u32), Some(200u32), [100, 200]),
            (Some(200), Some(100), [99, 100]),
            (Some(0), Some(0), [200, 350]),
            (Some(500), Some(600), [200, 350]),
            (None, Some(50), [49, 50]),
            (None, None, [200, 350]),
        ];
        for (t1, t2, expected) in cases {
            let mut options = vec![SERVER, (51, &[0, 0, 1, 144][..])];
            let (one, two) = (t1.unwrap_or(0).to_be_bytes(), t2.unwrap_or(0).to_be_bytes());
            if t1.is_some() {
                options.push((58, &one));
            }
            if t2.is_some() {
                options.push((59, &two));
            }
            let grant = grant([10, 0, 0, 50], &options).unwrap();
            let seconds = [grant.renew_at, grant.rebind_at].map(|at| at.since(Millis(1000)).as_secs());
            assert_eq!(seconds, expected, "{t1:?} {t2:?}");
        }
    }

    #[test]
    fn static_routes_replace_the_routers() {
        let value =
            [0, 10, 0, 0, 9, 24, 192, 168, 7, 0, 0, 0, 0, 17, 10, 128, 128, 10, 0, 0, 8, 33, 1, 2, 3, 4];
        let grant = grant([10, 0, 0, 50], &[SERVER, (3, &[10, 0, 0, 1]), (121, &value)]).unwrap();
        let routes: Vec<_> =
            grant.routes.iter().map(|route| (route.destination.to_string(), route.gateway)).collect();
        let expected = [
            ("0.0.0.0/0".to_owned(), Some([10, 0, 0, 9].into())),
            ("192.168.7.0/24".to_owned(), None),
            ("10.128.128.0/17".to_owned(), Some([10, 0, 0, 8].into())),
        ];
        assert_eq!(routes, expected);
    }
}
