//! Links, addresses, routes, packet sockets and UDP with packet information, in a network namespace of our own
//! with a pair of virtual interfaces. Needs root and ip(8).
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use gravure_linux::link::{LinkAddress, Links};
use gravure_linux::packet::{BROADCAST_MAC, PacketSocket, UdpPacket};
use gravure_linux::process;
use gravure_linux::udp::{self, UdpOptions};

const INSIDE: &str = "GRAVURE_NETWORK_NAMESPACE";
const LONG: Duration = Duration::from_secs(20);

/// Runs the test `name` of this file again in a new namespace. True inside.
fn inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !process::is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return false;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("SKIPPED: ip(8) is missing");
        return false;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    process::in_private_network(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{name} inside: {text}\n{errors}");
    false
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A pair of interfaces that are up; their indices and hardware addresses.
struct Pair {
    links: Links,
    left: (u32, [u8; 6]),
    right: (u32, [u8; 6]),
}

fn pair() -> Pair {
    ip("link add left type veth peer name right");
    let mut links = Links::open().unwrap();
    let all = links.list().unwrap();
    let find =
        |name: &str| all.iter().find(|link| link.name == name).map(|link| (link.index, link.mac.unwrap()));
    let (left, right) = (find("left").unwrap(), find("right").unwrap());
    links.set_up(left.0).unwrap();
    links.set_up(right.0).unwrap();
    assert!(links.wait_for_carrier(left.0, LONG).unwrap());
    assert!(links.wait_for_carrier(right.0, LONG).unwrap());
    Pair { links, left, right }
}

fn v4(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn links_are_listed_raised_and_lowered() {
    if !inside("links_are_listed_raised_and_lowered") {
        return;
    }
    let mut pair = pair();
    let all = pair.links.list().unwrap();
    let lo = &all[0];
    assert_eq!((lo.name.as_str(), lo.loopback, lo.up, lo.index), ("lo", true, false, 1));
    let left = all.iter().find(|link| link.name == "left").unwrap();
    assert_eq!((left.mtu, left.up, left.carrier, left.loopback, left.hardware), (1500, true, true, false, 1));
    let mac: Vec<String> = pair.left.1.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(ip("-o link show left").contains(&mac.join(":")));
    assert_eq!(pair.links.by_mac(pair.right.1).unwrap().unwrap().name, "right");
    assert_eq!(pair.links.by_mac([2, 0, 0, 0, 0, 1]).unwrap(), None);

    pair.links.set_down(pair.right.0).unwrap();
    assert!(!pair.links.wait_for_carrier(pair.left.0, Duration::from_millis(30)).unwrap());
    // The carrier comes while somebody waits for it.
    let left = pair.left.0;
    let waiter = std::thread::spawn(move || Links::open().unwrap().wait_for_carrier(left, LONG).unwrap());
    pair.links.set_up(pair.right.0).unwrap();
    assert!(waiter.join().unwrap());
    assert_eq!(pair.links.set_up(9999).unwrap_err().errno(), Some(19)); // ENODEV
}

#[test]
fn addresses_and_routes_are_set_renewed_and_removed() {
    if !inside("addresses_and_routes_are_set_renewed_and_removed") {
        return;
    }
    let mut pair = pair();
    let index = pair.left.0;
    let address = LinkAddress { index, address: v4("192.0.2.10"), prefix_len: 24 };
    pair.links.set_address(address, Some(Duration::from_secs(3600))).unwrap();
    let shown = ip("-o -4 addr show left");
    assert!(shown.contains("192.0.2.10/24 brd 192.0.2.255"), "{shown}");
    assert!(shown.contains("valid_lft 3600sec") || shown.contains("valid_lft 3599sec"), "{shown}");
    pair.links.set_address(address, None).unwrap();
    assert!(ip("-o -4 addr show left").contains("valid_lft forever"));
    assert!(pair.links.addresses().unwrap().contains(&address));

    pair.links.set_default_route(index, v4("192.0.2.1"), 100).unwrap();
    pair.links.set_default_route(index, v4("192.0.2.2"), 100).unwrap();
    let routes = ip("-4 route show default");
    assert_eq!(routes.lines().count(), 1, "{routes}");
    assert!(routes.contains("via 192.0.2.2 dev left") && routes.contains("metric 100"), "{routes}");
    pair.links.set_route(index, (v4("198.51.100.0"), 24), None, 0).unwrap();
    assert!(ip("-4 route show").contains("198.51.100.0/24 dev left"));

    // A /32 host behind a gateway outside its network.
    let host = LinkAddress { index: pair.right.0, address: v4("203.0.113.5"), prefix_len: 32 };
    pair.links.set_address(host, None).unwrap();
    pair.links.set_default_route(pair.right.0, v4("172.16.0.1"), 200).unwrap();
    assert!(ip("-4 route show default").contains("via 172.16.0.1 dev right"));

    let six = LinkAddress { index, address: "2001:db8::5".parse().unwrap(), prefix_len: 64 };
    match pair.links.set_address(six, None) {
        Ok(()) => assert!(ip("-o -6 addr show left").contains("2001:db8::5/64")),
        Err(e) => eprintln!("SKIPPED: no IPv6 here: {e}: {:?}", e.errno()),
    }

    pair.links.remove_addresses(index).unwrap();
    assert_eq!(ip("-o -4 addr show left"), "");
    assert_eq!(pair.links.remove_address(address).unwrap_err().errno(), Some(99)); // EADDRNOTAVAIL
    let wide = LinkAddress { prefix_len: 33, ..address };
    assert!(pair.links.set_address(wide, None).is_err());
}

fn discover(payload: &[u8]) -> UdpPacket {
    UdpPacket {
        from: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        to: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
        payload: payload.to_vec(),
    }
}

#[test]
fn a_host_without_an_address_is_heard_and_answered_at_its_mac() {
    if !inside("a_host_without_an_address_is_heard_and_answered_at_its_mac") {
        return;
    }
    let mut pair = pair();
    let client = PacketSocket::open(pair.left.0).unwrap();
    let server_address = LinkAddress { index: pair.right.0, address: v4("192.0.2.1"), prefix_len: 24 };
    pair.links.set_address(server_address, None).unwrap();
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67);
    let server = udp::open(UdpOptions { local: any, interface: Some("right"), shared: true }).unwrap();
    server.set_read_timeout(Some(LONG)).unwrap();

    client.send_udp(BROADCAST_MAC, &discover(b"discover")).unwrap();
    let mut buf = [0; 2048];
    let got = udp::receive(&server, &mut buf).unwrap();
    assert_eq!(&buf[..got.len], b"discover");
    assert_eq!(
        (got.from.to_string().as_str(), got.interface, got.truncated),
        ("0.0.0.0:68", pair.right.0, false)
    );
    assert_eq!((got.to, got.local), (Ipv4Addr::BROADCAST, Ipv4Addr::new(192, 0, 2, 1)));

    // The answer goes to the client's hardware address although nobody answers ARP for 192.0.2.50.
    let offer = UdpPacket {
        from: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 67),
        to: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 50), 68),
        payload: b"offer".to_vec(),
    };
    let raw = PacketSocket::open(pair.right.0).unwrap();
    raw.send_udp(pair.left.1, &offer).unwrap();
    assert_eq!(client.receive_udp(68, LONG).unwrap(), Some((pair.right.1, offer.clone())));

    // The same by the kernel's own stack, told the neighbour; the UDP checksum may be left to the hardware that is none.
    pair.links.set_neighbour(pair.right.0, Ipv4Addr::new(192, 0, 2, 50), pair.left.1).unwrap();
    udp::send(&server, b"again", offer.to, pair.right.0, Ipv4Addr::new(192, 0, 2, 1)).unwrap();
    let (mac, packet) = client.receive_udp(68, LONG).unwrap().unwrap();
    assert_eq!((mac, packet.payload.as_slice(), packet.from), (pair.right.1, &b"again"[..], offer.from));

    // Nothing for another port, and our own packets are not received.
    client.send_udp(BROADCAST_MAC, &discover(b"own")).unwrap();
    raw.send_udp(pair.left.1, &offer).unwrap();
    assert_eq!(client.receive_udp(67, Duration::from_millis(50)).unwrap(), None);
}

#[test]
fn a_socket_tied_to_an_interface_broadcasts_without_an_address() {
    if !inside("a_socket_tied_to_an_interface_broadcasts_without_an_address") {
        return;
    }
    let pair = pair();
    let open = |port, name| {
        let local = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        udp::open(UdpOptions { local, interface: Some(name), shared: true }).unwrap()
    };
    let (client, server) = (open(68, "left"), open(67, "right"));
    server.set_read_timeout(Some(LONG)).unwrap();
    client.send_to(b"here", "255.255.255.255:67").unwrap();
    let mut buf = [0; 2];
    let got = udp::receive(&server, &mut buf).unwrap();
    assert_eq!((got.interface, got.len, got.truncated), (pair.right.0, 2, true));
    assert!(udp::bind_to_interface(&client, "a name that is too long").is_err());
    assert!(udp::bind_to_interface(&client, "").is_err());
}

#[test]
fn packet_information_names_the_address_a_datagram_was_sent_to() {
    // Loopback of the machine itself; no namespace is needed.
    let local = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let server = udp::open(UdpOptions { local, interface: None, shared: false }).unwrap();
    server.set_nonblocking(true).unwrap();
    let mut buf = [0; 100];
    assert_eq!(udp::receive(&server, &mut buf).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    server.set_read_timeout(Some(LONG)).unwrap();
    udp::allow_fragments(&server).unwrap();
    let port = server.local_addr().unwrap().port();
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.send_to(b"ping", ("127.0.0.9", port)).unwrap();
    let got = udp::receive(&server, &mut buf).unwrap();
    assert_eq!((got.to, got.len), (Ipv4Addr::new(127, 0, 0, 9), 4));
    // The answer comes from the address that was asked.
    udp::send(&server, b"pong", got.from, got.interface, got.to).unwrap();
    let (len, from) = client.recv_from(&mut buf).unwrap();
    assert_eq!((&buf[..len], from), (&b"pong"[..], format!("127.0.0.9:{port}").parse().unwrap()));
}
