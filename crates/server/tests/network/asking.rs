//! DHCP clients and relays made of single packets, run inside a namespace of their own: what udhcpc and dnsmasq do not send.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpStream, UdpSocket};
use std::time::Duration;

use gravure_netboot::dhcp::{Message, code};

/// To all of the lab's network; a client without routes knows no other way.
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 255);
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends one message and prints what the answer says, a word each: `address=10.88.0.9 next=10.77.0.1 file=x option67=x ..`.
///
/// Words: `to=ADDRESS:PORT` (all, port 67), `port=68` to ask from, `kind=1`, `mac=02:..`, `class=PXEClient..`, `arch=7`,
/// `giaddr=`, `link=` (option 82.5), `subnet=` (option 118), `ciaddr=`.
pub(crate) fn ask(words: &[String]) {
    let word = |name: &str| {
        let prefix = format!("{name}=");
        words.iter().find_map(|word| word.strip_prefix(&prefix))
    };
    let address = |name: &str| word(name).map(|text| text.parse::<Ipv4Addr>().unwrap().octets());
    let port: u16 = word("port").unwrap_or("68").parse().unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(b"ASKS");
    packet[10] = 0x80; // answers by broadcast, where no relay takes them
    packet[12..16].copy_from_slice(&address("ciaddr").unwrap_or_default());
    packet[24..28].copy_from_slice(&address("giaddr").unwrap_or_default());
    let mac = word("mac").unwrap_or("02:00:00:00:00:07");
    for (index, byte) in mac.split(':').enumerate() {
        packet[28 + index] = u8::from_str_radix(byte, 16).unwrap();
    }
    packet[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    let mut option = |code: u8, value: &[u8]| {
        packet.extend([code, u8::try_from(value.len()).unwrap()]);
        packet.extend(value);
    };
    option(53, &[word("kind").unwrap_or("1").parse().unwrap()]);
    option(93, &word("arch").unwrap_or("7").parse::<u16>().unwrap().to_be_bytes());
    option(60, word("class").unwrap_or("PXEClient:Arch:00007:UNDI:003000").as_bytes());
    if let Some(subnet) = address("subnet") {
        option(118, &subnet);
    }
    if let Some(link) = address("link") {
        option(82, &[&[5, 4][..], &link].concat());
    }
    packet.push(255);
    packet.resize(packet.len().max(300), 0);
    match word("to") {
        Some(to) => socket.send_to(&packet, to).unwrap(),
        None => socket.send_to(&packet, (BROADCAST, 67)).unwrap(),
    };
    let mut buf = [0; 2048];
    let len = socket.recv(&mut buf).expect("an answer");
    let message = Message::parse(&buf[..len]).unwrap();
    let text = |code| {
        let value = message.options.get(code).unwrap_or_default();
        String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
    };
    let field = &buf[108..236];
    let field =
        String::from_utf8_lossy(field.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    let routers = message.options.address(code::ROUTER).map(|router| router.to_string()).unwrap_or_default();
    println!(
        "kind={:?} address={} next={} file={field} option67={} option43={:?} router={routers}",
        message.kind().unwrap(),
        message.head.yiaddr,
        message.head.siaddr,
        text(code::BOOT_FILE),
        message.options.get(code::VENDOR_SPECIFIC).unwrap_or_default(),
    );
}

/// As firmware over IPv6 that hangs in the middle of a file and is switched off and on: asks by DHCPv6, opens a connection from the
/// address it is offered, asks again. Prints what becomes of the connection.
pub(crate) fn solicit_twice() {
    let text = std::fs::read_to_string("/sys/class/net/eth0/address").unwrap();
    let mac: Vec<u8> = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let index = std::fs::read_to_string("/sys/class/net/eth0/ifindex").unwrap().trim().parse().unwrap();
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 546)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let all: Ipv6Addr = "ff02::1:2".parse().unwrap();
    let solicit = |xid: u8| {
        let mut packet = vec![1, 0, 0, xid];
        let mut option = |code: u16, value: &[u8]| {
            packet.extend(code.to_be_bytes());
            packet.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            packet.extend(value);
        };
        option(1, &[&[0, 3, 0, 1][..], &mac].concat());
        option(3, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        option(61, &[0, 7]);
        option(16, &[&[0, 0, 1, 87, 0, 32][..], b"PXEClient:Arch:00007:UNDI:003000"].concat());
        // The link-local address may still be under test: not even sending works until then.
        for _ in 0..30 {
            let _ = socket.send_to(&packet, SocketAddrV6::new(all, 547, 0, index));
            let mut buf = [0; 2048];
            while let Ok(len) = socket.recv(&mut buf) {
                if buf[..4] == [2, 0, 0, xid] {
                    return buf[..len].to_vec();
                }
            }
        }
        panic!("no answer to a SOLICIT");
    };
    let advertise = solicit(1);
    // The address behind the head of an IA address: code 5, length 24.
    let at = advertise.windows(4).position(|window| window == [0, 5, 0, 24]).expect("an address") + 4;
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(&advertise[at..at + 16]).unwrap());
    let mut ip = std::process::Command::new("ip");
    ip.args(["address", "add", &format!("{address}/64"), "dev", "eth0", "nodad"]);
    assert!(ip.status().unwrap().success());
    let mut stream = TcpStream::connect("[fd77::1]:80").unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), address);
    stream.write_all(b"GET /boot/vmlinuz HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    println!("first: {:?}", stream.read(&mut [0]).map_err(|error| error.kind()));
    solicit(2);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    println!("second: {:?}", stream.read(&mut [0]).map_err(|error| error.kind()));
}
