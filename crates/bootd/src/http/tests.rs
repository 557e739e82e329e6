//! Connections as clients see them, over the loopback.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{Ask, Found};

/// Longer than one turn of sending, and not a multiple of anything.
const LARGE_BYTES: usize = (1 << 20) + 12_345;

/// `large` and `shrunk` on disk, `made` in memory.
struct Files(tempfile::TempDir);

fn large() -> Vec<u8> {
    (0..LARGE_BYTES).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

impl Library for Files {
    fn find(&self, ask: Ask) -> Pin<Box<dyn Future<Output = Found> + Send + '_>> {
        let name = ask.name.as_str().unwrap_or_default().to_owned();
        Box::pin(async move {
            match name.as_str() {
                "made" => Found::Bytes(Bytes::from_static(b"made for this request")),
                "large" | "shrunk" => {
                    let file = File::open(self.0.path().join("large")).unwrap();
                    let more = if name == "shrunk" { 100_000 } else { 0 };
                    let modified = SystemTime::UNIX_EPOCH;
                    Found::File { file, len: LARGE_BYTES as u64 + more, modified }
                }
                _ => Found::Nothing,
            }
        })
    }
}

/// Adds four to every byte, as no cipher does.
struct Shifted;

impl Cover for Shifted {
    fn cover(&self, stream: TcpStream) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Covered>>> + Send>> {
        // A pipe between the service and the network.
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let (mut reader, mut writer) = stream.into_split();
        Box::pin(async move {
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(&mut theirs);
                let incoming = async {
                    let mut buf = [0; 1000];
                    while let Ok(len @ 1..) = reader.read(&mut buf).await {
                        buf[..len].iter_mut().for_each(|byte| *byte = byte.wrapping_sub(4));
                        to.write_all(&buf[..len]).await.unwrap_or_default();
                    }
                };
                // Ends the network's side when the service is done.
                let outgoing = async move {
                    let mut buf = [0; 1000];
                    while let Ok(len @ 1..) = from.read(&mut buf).await {
                        buf[..len].iter_mut().for_each(|byte| *byte = byte.wrapping_add(4));
                        writer.write_all(&buf[..len]).await.unwrap_or_default();
                    }
                };
                tokio::join!(incoming, outgoing);
            });
            Ok(Box::new(ours) as Box<dyn Covered>)
        })
    }
}

/// A running service; gives its address. It ends with the runtime.
async fn start(cover: Option<Arc<dyn Cover>>) -> SocketAddr {
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join("large")).unwrap().write_all(&large()).unwrap();
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Service::new(listener, Arc::new(Files(dir)), Arc::default());
    let service = match cover {
        Some(cover) => service.covered(cover),
        None => service,
    };
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        service.run(stopping).await;
        drop(stop);
    });
    address
}

/// Sends and reads until the service ends the connection, whichever way.
async fn talk(to: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(request).await.unwrap();
    let (mut said, mut buf) = (Vec::new(), vec![0; 65536]);
    while let Ok(len @ 1..) = stream.read(&mut buf).await {
        said.extend_from_slice(&buf[..len]);
    }
    said
}

/// The answers in what was said: status and body, by their stated lengths. `lengths_only` for HEAD.
fn answers(mut said: &[u8], lengths_only: &[bool]) -> Vec<(u16, usize, Vec<u8>)> {
    let mut found = Vec::new();
    for only in lengths_only {
        let end = said.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
        let head = std::str::from_utf8(&said[..end]).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let len =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
        assert!(head.contains("\r\nDate: "), "{head}");
        said = &said[end..];
        let body = if *only { 0 } else { len };
        found.push((status, len, said[..body.min(said.len())].to_vec()));
        said = &said[body.min(said.len())..];
    }
    assert!(said.is_empty(), "{} bytes more", said.len());
    found
}

#[tokio::test]
async fn requests_in_one_write_are_answered_in_their_order() {
    let to = start(None).await;
    let request = b"GET /made HTTP/1.1\r\n\r\nHEAD //large HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET /none HTTP/1.1\r\n\r\n\
        GET /large HTTP/1.1\r\nRange: bytes=1000000-1000099\r\n\r\nGET /large HTTP/1.1\r\nConnection: close\r\n\r\n";
    let said = talk(to, request).await;
    let found = answers(&said, &[false, true, false, false, false]);
    assert_eq!(found[0], (200, 21, b"made for this request".to_vec()));
    assert_eq!((found[1].0, found[1].1), (200, LARGE_BYTES));
    assert_eq!(found[2].0, 404);
    assert_eq!(found[3], (206, 100, large()[1_000_000..1_000_100].to_vec()));
    assert!(found[4].0 == 200 && found[4].2 == large());
}

#[tokio::test]
async fn old_clients_get_one_answer_and_the_end() {
    let to = start(None).await;
    for request in
        [&b"GET /made HTTP/1.0\r\n\r\n"[..], b"\r\n\nGET http://host/made?x=1 HTTP/1.0\nHost: y\n\n"]
    {
        let found = answers(&talk(to, request).await, &[false]);
        assert_eq!((found[0].0, found[0].1), (200, 21));
    }
}

#[tokio::test]
async fn what_a_request_brings_is_never_another_request() {
    let to = start(None).await;
    let inner = "GET /made HTTP/1.1\r\n\r\n";
    for head in [
        format!("POST /made HTTP/1.1\r\nContent-Length: {}\r\n\r\n", inner.len()),
        "PUT /made HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
    ] {
        let found = answers(&talk(to, format!("{head}{inner}").as_bytes()).await, &[false]);
        assert_eq!(found[0].0, 405, "{head}");
    }
    let found = answers(&talk(to, format!("nonsense\r\n\r\n{inner}").as_bytes()).await, &[false]);
    assert_eq!(found[0].0, 400);
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(40_000));
    assert_eq!(answers(&talk(to, endless.as_bytes()).await, &[false])[0].0, 431);
}

#[tokio::test]
async fn a_file_that_became_shorter_ends_the_connection_and_never_the_next_answer() {
    let to = start(None).await;
    let said = talk(to, b"GET /shrunk HTTP/1.1\r\n\r\nGET /made HTTP/1.1\r\n\r\n").await;
    let found = answers(&said, &[false]);
    assert_eq!((found[0].0, found[0].1), (200, LARGE_BYTES + 100_000));
    assert!(found[0].2.len() <= LARGE_BYTES && large().starts_with(&found[0].2));
}

#[tokio::test]
async fn a_covered_connection_carries_the_same() {
    let to = start(Some(Arc::new(Shifted))).await;
    let request = b"GET /made HTTP/1.1\r\n\r\nGET /large HTTP/1.1\r\nConnection: close\r\n\r\n";
    let request: Vec<u8> = request.iter().map(|byte| byte.wrapping_add(4)).collect();
    let said: Vec<u8> = talk(to, &request).await.iter().map(|byte| byte.wrapping_sub(4)).collect();
    let found = answers(&said, &[false, false]);
    assert_eq!(found[0].2, b"made for this request");
    assert!(found[1].2 == large());
}
