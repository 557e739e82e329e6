//! A client that does what no client should, run inside a namespace of its own: it asks without end, asks for what is
//! nobody's business, and holds connections with half a request in each.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// More than a server should answer one client in one go.
const DISCOVERS: usize = 400;
/// To all of the lab's network; the client has no route for 255.255.255.255.
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 255);
/// How long nothing must come until the answers count as over.
const QUIET: Duration = Duration::from_secs(1);

/// Runs all of it against `server`; panics when the server gives in.
pub(crate) fn abuse(server: Ipv4Addr) {
    storm();
    odd_requests(server);
    odd_transfers(server);
    silence(server);
    let held = hold_connections(server);
    println!("holding connections: {}", held.len());
    // Until the test ends this process.
    loop {
        std::thread::park();
    }
}

/// Half a request in each connection, and no more; those beyond what one client may hold are closed by the server.
fn hold_connections(server: Ipv4Addr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect((server, 80)).unwrap();
        // The server may have closed it already.
        let _ = stream.write_all(b"GET /boot/vmlinuz HTTP/1.1\r\nHost: x\r\nX-Slow: ");
        held.push(stream);
    }
    let mut closed = 0;
    for stream in &mut held {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let is_open = stream.read(&mut [0]).is_err_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        });
        closed += usize::from(!is_open);
    }
    assert!(closed >= 100, "only {closed} of 200 connections of one client were refused");
    held
}

/// The same DHCPDISCOVER again and again: the answers end.
fn storm() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(QUIET)).unwrap();
    let mut discover = vec![0; 300];
    discover[..4].copy_from_slice(&[1, 1, 6, 0]);
    discover[4..8].copy_from_slice(b"STRM");
    discover[10] = 0x80; // answers by broadcast
    discover[28..34].copy_from_slice(&[2, 0, 0, 0, 0xbe, 0xef]);
    discover[236..244].copy_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    let mut answers = 0;
    for _ in 0..DISCOVERS {
        socket.send_to(&discover, (BROADCAST, 67)).unwrap();
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut [0; 2048]).is_ok() {
            answers += 1;
        }
        socket.set_nonblocking(false).unwrap();
    }
    while socket.recv(&mut [0; 2048]).is_ok() {
        answers += 1;
    }
    // A window may end while the storm lasts, so twice its 60 are in order.
    assert!((1..=120).contains(&answers), "{answers} answers to {DISCOVERS} discovers");
}

/// Requests for what lies outside, and such as are out of all proportion. Each gets its answer or the end of its connection,
/// and none a byte of a file that is not served.
fn odd_requests(server: Ipv4Addr) {
    let ranges: String = (0..4000).map(|at| format!("{at}-{at},")).collect();
    let long = "x".repeat(100_000);
    let requests: [(String, &[&str]); 12] = [
        ("GET /../site/gravure.toml HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["404"]),
        ("GET /boot/%2e%2e/%2e%2e/gravure.toml HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["404"]),
        ("GET /boot\\..\\gravure.toml HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["404", "400"]),
        ("GET /boot/vmlinuz%00.txt HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["404"]),
        ("GET /%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["404"]),
        (
            format!("GET /shimx64.efi HTTP/1.1\r\nHost: x\r\nRange: bytes={ranges}0-0\r\n\r\n"),
            &["200", "416", "431"],
        ),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), &["404", "414", "431", ""]),
        ("\0\0\0\0\0\0\0\0\r\n\r\n".into(), &["400", ""]),
        ("GET /leak HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["404"]),
        ("GET /boot/pxe/leak HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["404"]),
        ("GET /circle HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["404"]),
        ("GET /shimx64.efi/below HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["404"]),
    ];
    let from: SocketAddr = (server, 80).into();
    for (request, expected) in requests {
        let said = answer(from, request.as_bytes());
        let status = said.split(' ').nth(1).unwrap_or_default().to_owned();
        let asked = request.chars().take(60).collect::<String>();
        assert!(expected.contains(&status.as_str()), "{asked:?}: {said:.200}");
        assert!(!said.contains("listen") && !said.contains("[database"), "{asked:?}: {said:.200}");
    }
}

/// What comes back until the server ends the connection or has nothing more to say.
fn answer(server: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = stream.write_all(request);
    let (mut said, mut buf) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = stream.read(&mut buf) {
        said.extend_from_slice(&buf[..len]);
        if said.len() > 64 << 10 {
            break;
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// In somebody else's name, who asked for nothing and answers nothing: three packets, then quiet.
fn silence(server: Ipv4Addr) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"\0\x01shimx64.efi\0octet\0", (server, 69)).unwrap();
    let (mut packets, start) = (0, Instant::now());
    while socket.recv(&mut [0; 2048]).is_ok() {
        packets += 1;
    }
    assert!((1..=3).contains(&packets), "{packets} packets in {:?}", start.elapsed());
}

/// TFTP requests for what lies outside, and options out of all proportion.
fn odd_transfers(server: Ipv4Addr) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let ask = |name: &[u8], options: &[u8]| {
        let packet = [b"\0\x01".as_slice(), name, b"\0octet\0", options].concat();
        socket.send_to(&packet, (server, 69)).unwrap();
        let mut buf = [0; 70_000];
        let (len, from) = socket.recv_from(&mut buf).unwrap();
        // Ends what was begun.
        socket.send_to(b"\0\x05\0\0bye\0", from).unwrap();
        buf[..len].to_vec()
    };
    let names: [&[u8]; 9] = [
        b"../gravure.toml",
        b"..\\..\\gravure.toml",
        b"/boot/../../gravure.toml",
        b"a\xff/b",
        b"leak",
        b"boot/pxe/leak",
        b"circle",
        b"shimx64.efi/below",
        // A NUL ends the name, so that what follows stands where the mode should.
        b"shimx64.efi\0../../site/gravure.toml",
    ];
    for name in names {
        let said = ask(name, b"");
        assert_eq!(said[..2], [0, 5], "{name:?}: {said:?}");
        assert!(!said.windows(6).any(|part| part == b"listen"), "{name:?}");
    }
    socket.send_to(b"\0\x02shimx64.efi\0octet\0", (server, 69)).unwrap();
    let mut buf = [0; 600];
    let len = socket.recv(&mut buf).unwrap();
    assert_eq!(buf[..4], [0, 5, 0, 2], "a file is not taken: {:?}", &buf[..len]);
    let said = ask(b"shimx64.efi", b"blksize\x0065535\0windowsize\x0065535\0");
    assert_eq!(said[..2], [0, 6], "options are answered");
    let text = String::from_utf8_lossy(&said[2..]).into_owned();
    let mut fields = text.split('\0');
    let (mut block, mut window) = (512, 1);
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match name {
            "blksize" => block = value.parse::<usize>().unwrap(),
            "windowsize" => window = value.parse::<usize>().unwrap(),
            _ => {}
        }
    }
    assert!(block * window <= 4 << 20, "{block} bytes x {window} may be under way at once");
    let flood: Vec<u8> = (0..4000).flat_map(|number: u32| format!("o{number}\x001\0").into_bytes()).collect();
    let said = ask(b"shimx64.efi", &flood);
    assert!(matches!(said[1], 3 | 5 | 6), "{said:?}");
    let start = Instant::now();
    assert_eq!(ask(b"none", b"")[..2], [0, 5]);
    assert!(start.elapsed() < Duration::from_secs(10), "still answered");
}
