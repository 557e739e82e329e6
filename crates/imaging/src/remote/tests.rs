//! Against a server of our own that misbehaves as told.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use gravure_model::descriptor::{DESCRIPTOR_VERSION, Digest};

use super::*;
use crate::ErrorKind;

/// What the server does to a request for the byte at which a range starts.
type Fault = fn(u64, usize) -> Reply;

enum Reply {
    Fine,
    /// Close after half of the bytes.
    Half,
    Busy,
    /// Flip a bit in the first byte.
    Flip,
    Missing,
    WholeFile,
}

struct Server {
    url: String,
    address: std::net::SocketAddr,
    closed: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<(u64, u64)>>>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(content: Arc<Vec<u8>>, fault: Fault) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let closed = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (stop, seen, open) = (Arc::clone(&closed), Arc::clone(&requests), Arc::clone(&streams));
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let (stream, content, seen) = (stream.unwrap(), &content, &seen);
                    open.lock().unwrap().push(stream.try_clone().unwrap());
                    // A client that goes away ends its connection.
                    scope.spawn(move || serve(&stream, content, seen, fault).unwrap_or(()));
                }
            });
        });
        let url = format!("http://{address}/x.wim");
        Self { url, address, closed, requests, streams, thread: Some(thread) }
    }

    fn requests(&self) -> Vec<(u64, u64)> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(stream: &TcpStream, content: &[u8], seen: &Mutex<Vec<(u64, u64)>>, fault: Fault) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut out = stream;
    loop {
        let mut range = None;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("range: bytes=") {
                let (a, b) = text.split_once('-').unwrap();
                range = Some((a.parse::<u64>().unwrap(), b.parse::<u64>().unwrap()));
            }
            if line.is_empty() {
                break;
            }
        }
        let (first, last) = range.unwrap();
        let earlier = {
            let mut seen = seen.lock().unwrap();
            seen.push((first, last));
            seen.iter().filter(|(start, _)| *start == first).count() - 1
        };
        let mut body = content[first as usize..=last as usize].to_vec();
        let size = content.len();
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n",
            body.len()
        );
        match fault(first, earlier) {
            Reply::Fine => {}
            Reply::Half => {
                out.write_all(head.as_bytes())?;
                out.write_all(&body[..body.len() / 2])?;
                return stream.shutdown(std::net::Shutdown::Both);
            }
            Reply::Busy => {
                out.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            Reply::Missing => {
                out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            Reply::WholeFile => {
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")?;
                continue;
            }
            Reply::Flip => body[0] ^= 1,
        }
        out.write_all(head.as_bytes())?;
        out.write_all(&body)?;
    }
}

const RANGE: u32 = 10_000;

fn content(len: usize) -> Arc<Vec<u8>> {
    Arc::new((0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect())
}

fn descriptor(content: &[u8]) -> ImageDescriptor {
    ImageDescriptor {
        version: DESCRIPTOR_VERSION,
        format: "wim".into(),
        size_bytes: content.len() as u64,
        range_bytes: RANGE,
        ranges: content.chunks(RANGE as usize).map(|part| Digest(*blake3::hash(part).as_bytes())).collect(),
        tables: Digest([0; 32]),
        contents_checked: true,
        images: Vec::new(),
    }
}

fn open(server: &Server, content: &[u8], options: &RemoteOptions) -> HttpAt {
    HttpAt::verified(agent(), &server.url, &descriptor(content), options).unwrap()
}

fn error_of(result: io::Result<()>) -> Error {
    result.unwrap_err().downcast::<Error>().unwrap()
}

#[test]
fn any_range_comes_as_it_is() {
    let content = content(123_456);
    let server = Server::start(Arc::clone(&content), |_, _| Reply::Fine);
    let remote = open(&server, &content, &RemoteOptions::default());
    assert_eq!(remote.size(), 123_456);
    for (offset, len) in
        [(0, 1), (9_999, 2), (0, 123_456), (123_455, 1), (50_000, 30_000), (7, 0), (123_456, 0)]
    {
        let mut buf = vec![0; len];
        remote.read_exact_at(offset as u64, &mut buf).unwrap();
        assert_eq!(buf, content[offset..offset + len], "{offset} {len}");
    }
    let past = remote.read_exact_at(123_450, &mut [0; 7]).unwrap_err();
    assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_sequential_reader_fetches_each_range_once() {
    let content = content(300_000);
    let server = Server::start(Arc::clone(&content), |_, _| Reply::Fine);
    let remote = open(&server, &content, &RemoteOptions::default());
    let mut buf = vec![0; 1000];
    for at in (0..300_000).step_by(1000) {
        remote.read_exact_at(at as u64, &mut buf).unwrap();
        assert_eq!(buf, content[at..at + 1000]);
    }
    let mut starts: Vec<u64> = server.requests().into_iter().map(|(first, _)| first).collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..30).map(|n| n * u64::from(RANGE)).collect::<Vec<_>>());
}

#[test]
fn broken_connections_are_resumed_and_busy_servers_asked_again() {
    let content = content(50_000);
    let server = Server::start(Arc::clone(&content), |start, earlier| match (start, earlier) {
        (0, 0 | 1) => Reply::Busy,
        (10_000, 0) => Reply::Half,
        _ => Reply::Fine,
    });
    let remote = open(&server, &content, &RemoteOptions::default());
    let mut buf = vec![0; 50_000];
    remote.read_exact_at(0, &mut buf).unwrap();
    assert_eq!(buf, **content);
    // The second half alone was asked for again.
    assert!(server.requests().contains(&(15_000, 19_999)), "{:?}", server.requests());
}

#[test]
fn a_server_that_comes_back_is_found_again() {
    let content = content(50_000);
    let server = Server::start(Arc::clone(&content), |_, _| Reply::Fine);
    let address = server.address;
    let remote = open(&server, &content, &RemoteOptions { read_ahead: 0, ..RemoteOptions::default() });
    let mut buf = vec![0; 10_000];
    remote.read_exact_at(0, &mut buf).unwrap();
    drop(server);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut buf = vec![0; 10_000];
            remote.read_exact_at(40_000, &mut buf).map(|()| buf)
        });
        // The reader finds nobody at first; the address is free, as nothing was accepted there since.
        let listener = loop {
            match TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse),
            }
        };
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        serve(&stream, &content, &Mutex::default(), |_, _| Reply::Fine).unwrap_or(());
        assert_eq!(reading.join().unwrap().unwrap(), content[40_000..]);
        drop(stream);
    });
}

#[test]
fn a_changed_byte_names_its_range_and_nothing_of_it_is_handed_out() {
    let content = content(50_000);
    let server = Server::start(
        Arc::clone(&content),
        |start, _| if start == 20_000 { Reply::Flip } else { Reply::Fine },
    );
    let remote = open(&server, &content, &RemoteOptions::default());
    let mut buf = vec![0; 10];
    remote.read_exact_at(19_000, &mut buf).unwrap();
    let error = error_of(remote.read_exact_at(29_990, &mut buf));
    assert_eq!(error.kind(), ErrorKind::Integrity);
    let expected = blake3::hash(&content[20_000..30_000]).to_hex();
    let message = error.to_string();
    assert!(message.starts_with("range 2 at 0x4e20 of http://127.0.0.1:"), "{message}");
    assert!(message.contains(&format!("expected BLAKE3 {expected}, found ")), "{message}");
    // A proxy's mistake that is gone at the second attempt does no harm.
    let server = Server::start(
        Arc::clone(&content),
        |_, earlier| if earlier == 0 { Reply::Flip } else { Reply::Fine },
    );
    let remote = open(&server, &content, &RemoteOptions::default());
    let mut buf = vec![0; 50_000];
    remote.read_exact_at(0, &mut buf).unwrap();
    assert_eq!(buf, **content);
}

#[test]
fn refusals_say_which() {
    let content = content(50_000);
    for (fault, kind, text) in [
        ((|_, _| Reply::Missing) as Fault, ErrorKind::NotFound, "not found"),
        (|_, _| Reply::WholeFile, ErrorKind::Network, "does not send ranges"),
    ] {
        let server = Server::start(Arc::clone(&content), fault);
        let remote = open(&server, &content, &RemoteOptions::default());
        let error = error_of(remote.read_exact_at(0, &mut [0; 4]));
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(text), "{error}");
    }
    let server = Server::start(Arc::clone(&content), |_, _| Reply::Busy);
    let options = RemoteOptions { patience: Duration::from_millis(250), ..RemoteOptions::default() };
    let error = error_of(open(&server, &content, &options).read_exact_at(0, &mut [0; 4]));
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.to_string().contains("503"), "{error}");
    let other_size = descriptor(&content[..49_999]);
    let remote = HttpAt::verified(agent(), &server.url, &other_size, &options).unwrap();
    assert_eq!(error_of(remote.read_exact_at(0, &mut [0; 4])).kind(), ErrorKind::Network);
}

#[test]
fn without_descriptor_the_size_is_asked_for() {
    let content = content(50_000);
    let server = Server::start(Arc::clone(&content), |_, _| Reply::Fine);
    let remote = HttpAt::unverified(agent(), &server.url, &RemoteOptions::default()).unwrap();
    assert_eq!(remote.size(), 50_000);
    let mut buf = vec![0; 50_000];
    remote.read_exact_at(0, &mut buf).unwrap();
    assert_eq!(buf, **content);
}

#[test]
fn a_request_to_stop_ends_the_wait() {
    let content = content(50_000);
    let server = Server::start(Arc::clone(&content), |_, _| Reply::Busy);
    let options = RemoteOptions::default();
    let remote = open(&server, &content, &options);
    options.ctl.cancel();
    assert_eq!(error_of(remote.read_exact_at(0, &mut [0; 4])).kind(), ErrorKind::Interrupted);
}
