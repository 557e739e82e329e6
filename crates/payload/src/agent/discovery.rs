//! Servers found on the network when none of those we were told of answers: the stick or disk that this payload was started
//! from may be older than the server's address.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use gravure_model::site::SiteServer;
use gravure_netboot::dnssd::{self, GROUP, MAX_MESSAGE_BYTES, PORT};

/// How long answers are waited for; a question that was lost is asked again in the next round of greetings.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Servers that are tried in one round, whoever else answers.
const MAX_SERVERS: usize = 8;

/// Our server at the `addresses` that came with our address, at the ports of those already `known`, which are left out: a router lets no
/// question of DNS-SD through, but the site's DHCP server names who boots its machines. Whoever answers there still has to prove that it
/// is of our site.
pub(super) fn told(addresses: &[Ipv4Addr], known: &[SiteServer]) -> Vec<SiteServer> {
    let mut told: Vec<SiteServer> = Vec::new();
    for (address, server) in
        addresses.iter().flat_map(|address| known.iter().map(move |server| (address, server)))
    {
        let (Some(api), Some(content)) = (at(&server.api, *address), at(&server.content, *address)) else {
            continue;
        };
        let server = SiteServer { api, content };
        let is_new = |other: &SiteServer| other.api != server.api;
        if known.iter().chain(&told).all(is_new) && told.len() < MAX_SERVERS {
            told.push(server);
        }
    }
    told
}

/// The same scheme and port elsewhere. `None` for what is not `scheme://host[:port]`.
fn at(url: &str, address: Ipv4Addr) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let rest = rest.trim_end_matches('/');
    // The last colon of an IPv6 address stands within brackets.
    let port = rest.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
    Some(match port {
        Some(port) => format!("{scheme}://{address}:{port}"),
        None => format!("{scheme}://{address}"),
    })
}

/// Asks on the network of our `address`. Those already `known` are left out. Whoever answers still has to prove that it is of
/// our site.
pub(super) fn find(address: Ipv4Addr, known: &[SiteServer]) -> Vec<SiteServer> {
    let group = SocketAddrV4::new(GROUP, PORT);
    let is_new = |found: &SiteServer| known.iter().all(|server| server.api != found.api);
    ask(address, group.into()).unwrap_or_default().into_iter().filter(is_new).collect()
}

fn ask(address: Ipv4Addr, to: SocketAddr) -> std::io::Result<Vec<SiteServer>> {
    // Bound to our address, so that it goes out by the adapter in use.
    let socket = UdpSocket::bind((address, 0))?;
    socket.send_to(&dnssd::question(), to)?;
    let mut found: Vec<SiteServer> = Vec::new();
    let (end, mut buf) = (Instant::now() + PATIENCE, vec![0; MAX_MESSAGE_BYTES]);
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        let Ok(len) = socket.recv(&mut buf) else { continue };
        let servers = dnssd::servers(buf.get(..len).unwrap_or_default()).unwrap_or_default();
        for server in servers {
            let server = SiteServer {
                api: format!("https://{}:{}", server.address, server.api_port),
                content: format!("http://{}:{}", server.address, server.content_port),
            };
            if found.len() < MAX_SERVERS && !found.contains(&server) {
                found.push(server);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use gravure_netboot::dnssd::{Advert, answer};

    use super::*;

    #[test]
    fn told_addresses_are_tried_at_the_ports_of_the_site_and_known_servers_not_again() {
        let server = |host: &str, ports: [&str; 2]| SiteServer {
            api: format!("https://{host}{}", ports[0]),
            content: format!("http://{host}{}", ports[1]),
        };
        let known = [
            server("10.0.0.1", [":8443", ":8080"]),
            server("[fd00::1]", [":8443", ""]),
            server("gravure.example", ["", ""]),
        ];
        let addresses = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 9, 0, 2)];
        let expected = [
            // `https` without a port at the known address is another place.
            server("10.0.0.1", ["", ""]),
            server("10.9.0.2", [":8443", ":8080"]),
            server("10.9.0.2", ["", ""]),
        ];
        assert_eq!(told(&addresses, &known), expected);
        assert_eq!(told(&addresses, &[]), []);
        assert_eq!(at("nonsense", addresses[0]), None);
        assert_eq!(at("http://[fd00::1]/", addresses[0]).unwrap(), "http://10.0.0.1");
    }

    #[test]
    fn answers_become_servers_once_each_and_nonsense_none() {
        let responder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = responder.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut buf = [0; 1500];
            let (len, from) = responder.recv_from(&mut buf).unwrap();
            let advert = |last: u8| Advert {
                site: "lab".into(),
                address: Ipv4Addr::new(10, 0, 0, last),
                api_port: 8443,
                content_port: 80,
            };
            let told = |last| answer(&advert(last), &buf[..len], from.port()).unwrap();
            for message in [b"nonsense".to_vec(), told(1), told(2), told(1)] {
                responder.send_to(&message, from).unwrap();
            }
        });
        let found = ask(Ipv4Addr::LOCALHOST, to).unwrap();
        thread.join().unwrap();
        let apis: Vec<&str> = found.iter().map(|server| server.api.as_str()).collect();
        assert_eq!(apis, ["https://10.0.0.1:8443", "https://10.0.0.2:8443"]);
        assert_eq!(found[0].content, "http://10.0.0.1:80");
    }
}
