//! What can be seen of the network: ports, other DHCP servers, our own file services.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use gravure_bootd::Interface;
use gravure_linux::packet::{BROADCAST_MAC, PacketSocket, UdpPacket};
use gravure_linux::ports::{self, Holder, Protocol};
use gravure_netboot::dhcp::{SeenOffer, probe, read_offer};

use super::{Check, certificates, ipv6};
use crate::config::{Config, Dhcp};
use crate::network::{self, Served};

/// How long our own services may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What both services are asked for.
const PROBE_FILE: &str = "shimx64.efi";
const DHCP_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const BOOT_SERVER_PORT: u16 = 4011;

pub(super) fn interfaces(config: &Config, offers_within: Duration) -> Vec<Check> {
    let served = match network::resolve(&config.interfaces) {
        Ok(served) => served,
        Err(error) => {
            let cure = "correct the [[interface]] blocks in gravure.toml, or bring the interface up";
            return vec![Check::problem("interface", error.to_string(), cure)];
        }
    };
    let mut checks = Vec::new();
    for served in &served {
        let Interface { name, address, prefix_len, .. } = &served.interface;
        checks.push(Check::ok("interface", format!("{name} has {address}/{prefix_len}")));
        let running = ports(config, served, &mut checks);
        match served.dhcp(config) {
            Ok(_) => {}
            Err(error) => {
                checks.push(Check::problem("dhcp", error.to_string(), "correct the pool in gravure.toml"))
            }
        }
        own_ipv6(served, &mut checks);
        if !served.interface.loopback {
            checks.push(others(served, offers_within));
            checks.push(ipv6::others(served, offers_within));
        }
        if running {
            checks.push(http(*address, config.ports.http));
            checks.push(tftp(*address, config.ports.tftp));
            checks.extend(certificates::shown(config, served));
        } else {
            checks.push(Check::note("server", "no server is running here: its file services were not asked"));
        }
    }
    checks
}

/// Looks at who holds our ports; true when a server of ours does.
fn ports(config: &Config, served: &Served, checks: &mut Vec<Check>) -> bool {
    let dhcp = served.config.dhcp;
    let wanted = [
        ("http", Protocol::Tcp, config.ports.http, true),
        ("api", Protocol::Tcp, config.ports.api, true),
        ("tftp", Protocol::Udp, config.ports.tftp, true),
        ("dhcp", Protocol::Udp, DHCP_PORT, dhcp != Dhcp::Off),
        ("proxy dhcp", Protocol::Udp, BOOT_SERVER_PORT, dhcp != Dhcp::Off),
    ];
    let (proc, address) = (Path::new("/proc"), served.interface.address);
    let mut running = false;
    let mut foreign = Vec::new();
    for (what, protocol, port, needed) in wanted {
        if !needed {
            continue;
        }
        let holders = ports::holders(proc, protocol, address, port);
        let ours = holders.iter().any(is_gravure);
        running |= ours;
        // Port 67 is shared with a DHCP server on the same machine when we are its proxy.
        let shared = dhcp == Dhcp::Proxy && matches!(port, DHCP_PORT | BOOT_SERVER_PORT);
        if !ours && !shared && ports::is_held(proc, protocol, address, port) {
            let who: Vec<String> =
                holders.iter().map(|holder| format!("{} (process {})", holder.program, holder.pid)).collect();
            let who = if who.is_empty() { "another process".to_owned() } else { who.join(", ") };
            foreign.push(Check::problem(
                "ports",
                format!("port {port} ({what}) of {address} is held by {who}"),
                format!("stop it, or set another port in gravure.toml; `ss -lnp sport = {port}` shows it"),
            ));
        }
    }
    if foreign.is_empty() {
        let found = if running { "held by this server" } else { "free" };
        foreign.push(Check::ok("ports", format!("those of {address} are {found}")));
    }
    checks.append(&mut foreign);
    running
}

/// Whether a process runs this program.
fn is_gravure(holder: &Holder) -> bool {
    let same = || {
        let its = std::fs::read_link(format!("/proc/{}/exe", holder.pid)).ok()?;
        Some(its == std::env::current_exe().ok()?)
    };
    holder.program == "gravure" || same() == Some(true)
}

fn own_ipv6(served: &Served, checks: &mut Vec<Check>) {
    match served.ipv6() {
        Ok(None) => checks.push(Check::ok("ipv6", "not served (ipv6 = false)")),
        Ok(Some(side)) => {
            checks.push(Check::ok("ipv6", format!("served from {}/{}", side.address, side.prefix_len)))
        }
        Err(error) => checks.push(Check::problem(
            "ipv6",
            error.to_string(),
            "give the interface an address, or set ipv6 = false",
        )),
    }
}

/// Asks the network for its DHCP servers.
fn others(served: &Served, within: Duration) -> Check {
    const NAME: &str = "other DHCP servers";
    let seen = match offers(&served.interface, within) {
        Ok(seen) => seen,
        Err(error) => {
            return Check::note(
                NAME,
                format!("could not be looked for: {error}; run as root or with CAP_NET_RAW"),
            );
        }
    };
    let foreign: Vec<&SeenOffer> =
        seen.iter().filter(|offer| offer.server != served.interface.address).collect();
    let told: Vec<String> = foreign.iter().map(ToString::to_string).collect();
    let told = if told.is_empty() { "none answers".to_owned() } else { told.join("; ") };
    let gives = foreign.iter().any(|offer| offer.address.is_some());
    let other_proxy = foreign.iter().any(|offer| offer.address.is_none() || offer.file.is_some());
    match served.config.dhcp {
        Dhcp::Full if gives => Check::problem(
            NAME,
            told,
            "two servers give addresses on this network: set dhcp = \"proxy\" here, or end the other one",
        ),
        Dhcp::Proxy | Dhcp::Off if !gives => Check::problem(
            NAME,
            format!("{told}; nobody on this network gives addresses"),
            "start the network's DHCP server, or let this one give addresses: dhcp = \"full\" with a pool",
        ),
        Dhcp::Off if !other_proxy => Check::warning(
            NAME,
            format!("{told}; none of them names a boot file"),
            "set dhcp = \"proxy\" here, or put the lines of `gravure doctor --dhcp-config ...` into that server",
        ),
        Dhcp::Proxy | Dhcp::Full if other_proxy => Check::warning(
            NAME,
            told,
            "another server names boot files too, and firmware takes either: remove its boot options, or set dhcp = \"off\" here and let it name ours",
        ),
        _ => Check::ok(NAME, told),
    }
}

fn offers(interface: &Interface, within: Duration) -> Result<Vec<SeenOffer>, gravure_linux::Error> {
    let socket = PacketSocket::open(interface.index)?;
    let mut random = [0; 8];
    // Without random numbers two doctors at once would read each other's offers, which does no harm.
    let _ = getrandom::fill(&mut random);
    let [a, b, c, d, e, f, g, h] = random;
    let (xid, mac) = (u32::from_be_bytes([a, b, c, d]), [2, 0x67, e, f, g, h]);
    let packet = UdpPacket {
        from: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
        to: SocketAddrV4::new(Ipv4Addr::BROADCAST, DHCP_PORT),
        payload: probe(xid, mac),
    };
    let sent = socket.send_udp(BROADCAST_MAC, &packet);
    if let Err(error) = sent {
        tracing::debug!(%error, interface = interface.name, "DHCP probe");
    }
    let deadline = Instant::now() + within;
    let mut seen: Vec<SeenOffer> = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(seen);
        }
        if let Some((_, packet)) = socket.receive_udp(CLIENT_PORT, left)?
            && let Some(offer) = read_offer(&packet.payload, xid, *packet.from.ip())
            && !seen.contains(&offer)
        {
            seen.push(offer);
        }
    }
}

/// HEAD of a boot file.
fn http(address: Ipv4Addr, port: u16) -> Check {
    const NAME: &str = "http";
    let at = SocketAddr::from((address, port));
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&at, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        write!(stream, "HEAD /{PROBE_FILE} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
    };
    match ask() {
        Ok(line) if line.contains(" 200 ") => Check::ok(NAME, format!("{at} serves {PROBE_FILE}")),
        Ok(line) => Check::problem(
            NAME,
            format!("{at} answers {line:?} for {PROBE_FILE}"),
            "look at boot files above, and at what listens there",
        ),
        Err(error) => Check::problem(
            NAME,
            format!("{at} does not answer: {error}"),
            "start the server, or open the port in the firewall of this machine",
        ),
    }
}

/// The first block of a boot file.
fn tftp(address: Ipv4Addr, port: u16) -> Check {
    const NAME: &str = "tftp";
    let at = SocketAddr::from((address, port));
    let ask = || -> std::io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        let request = [&[0, 1][..], PROBE_FILE.as_bytes(), b"\0octet\0"].concat();
        socket.send_to(&request, at)?;
        let mut buf = vec![0; 1024];
        let (len, from) = socket.recv_from(&mut buf)?;
        // Enough is seen; nobody needs to repeat the block.
        socket.send_to(&[0, 5, 0, 0, b'o', b'k', 0], from)?;
        buf.truncate(len);
        Ok(buf)
    };
    match ask() {
        Ok(packet) if packet.starts_with(&[0, 3, 0, 1]) => {
            Check::ok(NAME, format!("{at} serves {PROBE_FILE}"))
        }
        Ok(packet) => {
            let text =
                String::from_utf8_lossy(packet.get(4..).unwrap_or_default()).replace(char::is_control, " ");
            let found = format!("{at} refuses {PROBE_FILE}: {}", text.trim());
            Check::problem(NAME, found, "look at boot files above, and at what listens there")
        }
        Err(error) => Check::problem(
            NAME,
            format!("{at} does not answer: {error}"),
            "start the server, or open UDP port 69 in the firewall of this machine",
        ),
    }
}
