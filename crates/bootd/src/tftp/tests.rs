//! Transfers as clients see them, over the loopback.

use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;

use bytes::Bytes;
use tokio::time::timeout;

use super::*;
use crate::{Ask, Found};

/// A file of several blocks, in memory.
struct Files;

const LEN: usize = 3 * 512 + 7;

impl Library for Files {
    fn find(&self, ask: Ask) -> Pin<Box<dyn Future<Output = Found> + Send + '_>> {
        let is_there = ask.name.as_str() == Some("file");
        let found = if is_there { Found::Bytes(Bytes::from(vec![7; LEN])) } else { Found::Nothing };
        Box::pin(std::future::ready(found))
    }
}

#[derive(Debug)]
struct Short;

impl BlockLimits for Short {
    fn longest_block(&self, peer: IpAddr, seen: Option<Seen>, class: Option<&str>) -> Option<u16> {
        let slow = seen.is_some_and(|seen| seen.mac == [2, 0, 0, 0, 0, 7]) && class == Some("Slow ROM");
        (peer.is_loopback() && slow).then_some(600)
    }
}

const QUICK: Patience = Patience {
    first: Duration::from_millis(20),
    shortest: Duration::from_millis(20),
    longest: Duration::from_millis(200),
    give_up: Duration::from_secs(5),
    give_up_unanswered: Duration::from_millis(50),
};

/// A running service; it ends with the runtime.
fn start(options: TftpOptions) -> (SocketAddr, Arc<Presence>) {
    let presence = Arc::new(Presence::default());
    let local = (Ipv4Addr::LOCALHOST, 0).into();
    let service = Service::open(local, Arc::new(Files), Arc::clone(&presence), options).unwrap();
    let address = service.local_addr().unwrap();
    tokio::spawn(service.run());
    (address, presence)
}

async fn client() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// What comes within `patience`.
async fn receive(client: &UdpSocket, patience: Duration) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buf = vec![0; 2048];
    let (len, from) = timeout(patience, client.recv_from(&mut buf)).await.ok()?.unwrap();
    buf.truncate(len);
    Some((buf, from))
}

const SOON: Duration = Duration::from_secs(10);

async fn next(client: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    receive(client, SOON).await.expect("an answer")
}

fn acknowledgement(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 4, high, low]
}

#[tokio::test]
async fn a_stranger_gets_error_5_and_the_transfer_goes_on() {
    let (server, _) = start(TftpOptions::default());
    let (client, stranger) = (client().await, client().await);
    client.send_to(b"\0\x01file\0octet\0", server).await.unwrap();
    let mut whole = Vec::new();
    for block in 1u16.. {
        let (data, port) = next(&client).await;
        assert_eq!(data[..4], [0, 3, 0, u8::try_from(block).unwrap()]);
        whole.extend_from_slice(&data[4..]);
        if block == 2 {
            // In the client's place, from another port.
            stranger.send_to(&acknowledgement(2), port).await.unwrap();
            let (said, from) = next(&stranger).await;
            assert_eq!((&said[..4], from), (&[0, 5, 0, 5][..], port), "{said:?}");
        }
        client.send_to(&acknowledgement(block), port).await.unwrap();
        if data.len() < 516 {
            break;
        }
    }
    assert_eq!(whole, vec![7; LEN]);
}

#[tokio::test]
async fn what_is_left_in_the_socket_is_found_when_the_time_is_up() {
    let patience =
        Patience { first: Duration::from_millis(100), shortest: Duration::from_millis(100), ..QUICK };
    let (server, presence) = start(TftpOptions { patience, ..TftpOptions::default() });
    let client = client().await;
    client.send_to(b"\0\x01file\0octet\0", server).await.unwrap();
    let (_, port) = next(&client).await;
    // Both lie there before the server looks; the second ends the transfer.
    client.send_to(&acknowledgement(1), port).await.unwrap();
    client.send_to(b"\0\x05\0\0enough\0", port).await.unwrap();
    let (second, _) = next(&client).await;
    assert_eq!(second[..4], [0, 3, 0, 2]);
    while presence.connections(Ipv4Addr::LOCALHOST.into(), Via::Tftp) > 0 {
        assert!(receive(&client, SOON).await.is_none_or(|(packet, _)| packet[..4] == [0, 3, 0, 2]));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_never_answers_gets_three_packets_and_soon_none() {
    let (server, _) = start(TftpOptions { patience: QUICK, ..TftpOptions::default() });
    let forged = client().await;
    forged.send_to(b"\0\x01file\0octet\0", server).await.unwrap();
    let mut packets = 0;
    while receive(&forged, Duration::from_millis(400)).await.is_some() {
        packets += 1;
    }
    assert!((1..=3).contains(&packets), "{packets} packets to somebody who asked for nothing");
    // In one address's name, from many ports.
    let mut silent = Vec::new();
    for _ in 0..MAX_UNANSWERED {
        let socket = client().await;
        socket.send_to(b"\0\x01file\0octet\0timeout\x00255\0", server).await.unwrap();
        silent.push(socket);
    }
    for socket in &silent {
        next(socket).await;
    }
    // Until those have been given up.
    let later = client().await;
    let refused = async {
        loop {
            later.send_to(b"\0\x01file\0octet\0", server).await.unwrap();
            if receive(&later, Duration::from_millis(300)).await.is_none() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(60), refused).await.expect("no answer any more");
}

#[test]
fn one_address_never_has_all_transfers() {
    let mut sessions = Sessions::default();
    let (sender, _receiver) = mpsc::channel(1);
    let mut begin = |last: u8, port: usize| {
        let peer = SocketAddr::from(([10, 0, 0, last], u16::try_from(port).unwrap()));
        sessions.begin(peer, sender.clone())
    };
    for port in 0..MAX_TRANSFERS_OF_ONE {
        assert_eq!(begin(1, port), Ok(()));
    }
    assert_eq!(begin(1, MAX_TRANSFERS_OF_ONE), Err(Full::Client));
    for (last, port) in (2..5).flat_map(|last| (0..MAX_TRANSFERS_OF_ONE).map(move |port| (last, port))) {
        assert_eq!(begin(last, port), Ok(()));
    }
    assert_eq!(begin(9, 1), Err(Full::Server));
    for port in 0..MAX_TRANSFERS_OF_ONE {
        sessions.end(&SocketAddr::from(([10, 0, 0, 1], u16::try_from(port).unwrap())));
    }
    assert_eq!(sessions.of_address.len(), 3, "nothing is kept of who is gone");
    assert_eq!(sessions.begin(([10, 0, 0, 1], 1).into(), sender), Ok(()));
}

#[tokio::test]
async fn blocks_are_as_short_as_a_client_needs_them() {
    let (server, presence) = start(TftpOptions { blocks: Some(Arc::new(Short)), ..TftpOptions::default() });
    for (class, agreed) in [(None, "1468"), (Some("Slow ROM"), "600")] {
        let address = Ipv4Addr::LOCALHOST.into();
        presence.saw(address, Seen { mac: [2, 0, 0, 0, 0, 7], uuid: None });
        presence.saw_class(address, class);
        let client = client().await;
        client.send_to(b"\0\x01file\0octet\0blksize\x001468\0", server).await.unwrap();
        let (said, port) = next(&client).await;
        assert_eq!(said, [&b"\0\x06blksize\0"[..], agreed.as_bytes(), b"\0"].concat());
        client.send_to(b"\0\x05\0\0\0", port).await.unwrap();
    }
}

#[tokio::test]
async fn only_requests_are_answered_on_the_port_of_requests() {
    let (server, _) = start(TftpOptions::default());
    let client = client().await;
    let strays: [&[u8]; 5] = [b"\0\x05\0\x04why\0", b"\0\x04\0\x01", b"\0\x03\0\x01data", b"", b"\0\x09x\0"];
    for packet in strays {
        client.send_to(packet, server).await.unwrap();
    }
    client.send_to(b"\0\x01file\0nonsense\0", server).await.unwrap();
    let (said, _) = next(&client).await;
    assert_eq!(said[..4], [0, 5, 0, 4], "the first answer is to the only request: {said:?}");
}

#[tokio::test]
async fn a_transfer_ends_when_its_clients_port_is_closed() {
    let patience =
        Patience { give_up: Duration::from_secs(600), give_up_unanswered: Duration::from_secs(600), ..QUICK };
    let (server, presence) = start(TftpOptions { patience, ..TftpOptions::default() });
    // Hung up after some blocks, and at once.
    for blocks in [2u16, 0] {
        let client = client().await;
        client.send_to(b"\0\x01file\0octet\0", server).await.unwrap();
        for block in 1..=blocks {
            let (_, port) = next(&client).await;
            client.send_to(&acknowledgement(block), port).await.unwrap();
        }
        next(&client).await;
        drop(client);
        let gone = async {
            while presence.connections(Ipv4Addr::LOCALHOST.into(), Via::Tftp) > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), gone).await.expect("the transfer is over");
    }
}
