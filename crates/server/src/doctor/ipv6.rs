//! Who else speaks IPv6 for booting machines: routers and DHCPv6 servers that answer a question to all.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use gravure_linux::link::Links;
use socket2::{Domain, Protocol, Socket, Type};

use super::Check;
use crate::network::Served;

const NAME: &str = "other IPv6 servers";
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// RFC 8415 section 7.1.
const ALL_DHCP_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// RFC 4861 section 4: whatever was routed is not of this link.
const HOP_LIMIT: u32 = 255;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// RFC 4861 section 4.2: addresses by DHCPv6.
const MANAGED: u8 = 0x80;
const ADVERTISE: u8 = 2;
const CLIENT_ID: u16 = 1;
const IA_NA: u16 = 3;
const REQUESTED: u16 = 6;
const ELAPSED: u16 = 8;
/// RFC 5970.
const BOOT_FILE: u16 = 59;
const ARCHITECTURE: u16 = 61;

/// An answer from another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Router { from: Ipv6Addr, managed: bool },
    Server { from: Ipv6Addr, file: Option<String> },
}

/// Asks the network of an interface.
pub(super) fn others(served: &Served, within: Duration) -> Check {
    let seen = match look(&served.interface.name, served.interface.index, within) {
        Ok(seen) => seen,
        Err(error) => {
            let why = format!(
                "could not be looked for: {error}; run as root or with CAP_NET_RAW, on a machine with IPv6"
            );
            return Check::note(NAME, why);
        }
    };
    judge(&seen, served.config.ipv6)
}

fn judge(seen: &[Seen], own: bool) -> Check {
    let told: Vec<String> = seen.iter().map(describe).collect();
    let told =
        if told.is_empty() { "no router and no DHCPv6 server answers".to_owned() } else { told.join("; ") };
    let servers = || seen.iter().filter(|seen| matches!(seen, Seen::Server { .. }));
    let names_file = servers().any(|seen| matches!(seen, Seen::Server { file: Some(_), .. }));
    match own {
        true if servers().next().is_some() => Check::warning(
            NAME,
            told,
            "two DHCPv6 servers answer on this network, and machines take either: set ipv6 = false here, or end the other one",
        ),
        false if names_file => Check::warning(
            NAME,
            told,
            "machines that boot over IPv6 get that server's boot file: they try IPv4 first, which this server answers; \
             remove that file if it is not meant",
        ),
        _ => Check::ok(NAME, told),
    }
}

fn describe(seen: &Seen) -> String {
    match seen {
        Seen::Router { from, managed: true } => format!("router {from}, addresses by DHCPv6"),
        Seen::Router { from, managed: false } => format!("router {from}"),
        Seen::Server { from, file: None } => format!("DHCPv6 server {from}"),
        Seen::Server { from, file: Some(file) } => format!("DHCPv6 server {from}, boot file {file}"),
    }
}

fn look(name: &str, index: u32, within: Duration) -> io::Result<Vec<Seen>> {
    let mut links = Links::open().map_err(io::Error::other)?;
    let own = links.addresses().map_err(io::Error::other)?;
    let own: Vec<IpAddr> = own.into_iter().map(|address| address.address).collect();
    let mut random = [0; 9];
    // Without random numbers two doctors at once would read each other's answers, which does no harm.
    let _ = getrandom::fill(&mut random);
    let [a, b, c, mac @ ..] = random;
    let routers = raw(name, index)?;
    let servers = client(name, index)?;
    let to = |address, port| SocketAddr::V6(SocketAddrV6::new(address, port, 0, index));
    routers.send_to(&[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0], to(ALL_ROUTERS, 0))?;
    servers.send_to(&solicit([a, b, c], mac), to(ALL_DHCP_SERVERS, SERVER_PORT))?;
    let deadline = Instant::now() + within;
    let mut seen = Vec::new();
    let mut buf = [0; 2048];
    while Instant::now() < deadline {
        for (socket, read) in [(&routers, None), (&servers, Some([a, b, c]))] {
            let Ok((len, from)) = socket.recv_from(&mut buf) else { continue };
            let IpAddr::V6(from) = from.ip() else { continue };
            let packet = buf.get(..len).unwrap_or_default();
            let answer = match read {
                None => router(packet, from),
                Some(transaction) => server(packet, transaction, from),
            };
            seen.extend(answer.filter(|answer| !own.contains(&from.into()) && !seen.contains(answer)));
        }
    }
    Ok(seen)
}

/// A socket for ICMPv6; a `UdpSocket` only in name, since sending and receiving are the same.
fn raw(name: &str, index: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_multicast_hops_v6(HOP_LIMIT)?;
    prepare(socket, name, index)
}

fn client(name: &str, index: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(name.as_bytes()))?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, CLIENT_PORT)).into())?;
    prepare(socket, name, index)
}

fn prepare(socket: Socket, name: &str, index: u32) -> io::Result<UdpSocket> {
    /// Two sockets are read in turns.
    const TURN: Duration = Duration::from_millis(50);
    socket.bind_device(Some(name.as_bytes()))?;
    socket.set_multicast_if_v6(index)?;
    socket.set_read_timeout(Some(TURN))?;
    Ok(socket.into())
}

/// SOLICIT of a machine that boots by UEFI PXE.
fn solicit(transaction: [u8; 3], mac: [u8; 6]) -> Vec<u8> {
    let mut packet = vec![1];
    packet.extend(transaction);
    let mut option = |code: u16, value: &[u8]| {
        packet.extend(code.to_be_bytes());
        packet.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        packet.extend(value);
    };
    // DUID-LL of an Ethernet address (RFC 8415 section 11.4); locally administered, so that it is nobody's.
    let [_, rest @ ..] = mac;
    option(CLIENT_ID, &[&[0, 3, 0, 1, 2][..], &rest].concat());
    option(ELAPSED, &[0, 0]);
    option(IA_NA, &[0; 12]);
    option(REQUESTED, &BOOT_FILE.to_be_bytes());
    option(ARCHITECTURE, &[0, 7]);
    packet
}

fn router(packet: &[u8], from: Ipv6Addr) -> Option<Seen> {
    let (&ROUTER_ADVERTISEMENT, flags) = (packet.first()?, packet.get(5)?) else { return None };
    Some(Seen::Router { from, managed: flags & MANAGED != 0 })
}

fn server(packet: &[u8], transaction: [u8; 3], from: Ipv6Addr) -> Option<Seen> {
    if *packet.first()? != ADVERTISE || packet.get(1..4)? != transaction {
        return None;
    }
    let mut rest = packet.get(4..)?;
    let mut file = None;
    while let Some(([a, b, c, d], after)) = rest.split_first_chunk() {
        let (code, len) = (u16::from_be_bytes([*a, *b]), usize::from(u16::from_be_bytes([*c, *d])));
        let Some((value, next)) = after.split_at_checked(len) else { break };
        if code == BOOT_FILE {
            let text = String::from_utf8_lossy(value);
            file = Some(text.chars().filter(|sign| !sign.is_control()).take(200).collect());
        }
        rest = next;
    }
    Some(Seen::Server { from, file })
}

#[cfg(test)]
mod tests {
    use gravure_netboot::dhcp::{BootRule, BootTable, Then, When};
    use gravure_netboot::dhcp6::{Dhcp6Config, reply};

    use super::super::Verdict;
    use super::*;

    const FROM: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    #[test]
    fn our_own_server_answers_the_question_and_is_read() {
        let config = Dhcp6Config {
            server: "fd77::1".parse().unwrap(),
            hardware: [2, 0, 0, 0, 0, 9],
            lifetime_seconds: 60,
            dns: Vec::new(),
        };
        let boot = Then::Boot { file: "tftp://[fd77::1]/x.efi".into(), quirks: Default::default() };
        let table =
            BootTable { rules: vec![BootRule { name: "r".into(), when: When::default(), then: boot }] };
        let question = solicit([1, 2, 3], [9, 1, 2, 3, 4, 5]);
        let outcome = reply(&config, &table, &question, FROM);
        let answer = outcome.reply.unwrap_or_else(|| panic!("{}", outcome.journal));
        let read = server(&answer, [1, 2, 3], FROM).unwrap();
        assert!(matches!(&read, Seen::Server { from: FROM, .. }), "{read:?}");
        assert_eq!(server(&answer, [1, 2, 4], FROM), None, "another transaction");
        assert_eq!(server(&question, [1, 2, 3], FROM), None, "no answer");
        for cut in 0..answer.len() {
            let _ = server(&answer[..cut], [1, 2, 3], FROM);
        }
    }

    #[test]
    fn what_is_seen_is_judged_by_what_is_served_here() {
        let router = Seen::Router { from: FROM, managed: true };
        let plain = Seen::Server { from: FROM, file: None };
        let boots = Seen::Server { from: FROM, file: Some("tftp://x/y".into()) };
        let cases: [(&[Seen], bool, Verdict, &str); 6] = [
            (&[], true, Verdict::Ok, "no router and no DHCPv6 server answers"),
            (std::slice::from_ref(&router), true, Verdict::Ok, "router fe80::1, addresses by DHCPv6"),
            (
                &[router.clone(), plain.clone()],
                true,
                Verdict::Warning,
                "router fe80::1, addresses by DHCPv6; DHCPv6 server fe80::1",
            ),
            (std::slice::from_ref(&plain), false, Verdict::Ok, "DHCPv6 server fe80::1"),
            (
                std::slice::from_ref(&boots),
                false,
                Verdict::Warning,
                "DHCPv6 server fe80::1, boot file tftp://x/y",
            ),
            (
                std::slice::from_ref(&boots),
                true,
                Verdict::Warning,
                "DHCPv6 server fe80::1, boot file tftp://x/y",
            ),
        ];
        for (seen, own, verdict, found) in cases {
            let check = judge(seen, own);
            assert_eq!((check.verdict, check.found.as_str()), (verdict, found));
        }
        let advertisement = [134, 0, 0, 0, 64, MANAGED, 7, 8];
        assert_eq!(super::router(&advertisement, FROM), Some(router));
        assert_eq!(super::router(&[133, 0, 0, 0, 0, 0], FROM), None);
    }
}
