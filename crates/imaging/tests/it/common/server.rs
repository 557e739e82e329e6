//! A web server in the process of the test: one file in ranges, counted, and broken off when it is told to.
#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests, of which each file uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gravure_io::ReadAt;

/// Bytes written at a time.
const STEP_BYTES: usize = 64 << 10;

/// What the server did, and when it is to break off.
#[derive(Default)]
pub(crate) struct Log {
    /// Bytes of bodies sent.
    pub(crate) sent: AtomicU64,
    /// At so many bytes sent, ascending, all connections break.
    pub(crate) cuts: Mutex<Vec<u64>>,
    /// So many connections are closed as soon as they are made.
    pub(crate) deaf: AtomicU64,
}

/// Serves one file in ranges until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    address: std::net::SocketAddr,
    closed: Arc<AtomicBool>,
    pub(crate) log: Arc<Log>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(content: Vec<u8>) -> Self {
        Self::start_with(content, Log::default())
    }

    pub(crate) fn start_with(content: impl ReadAt + 'static, log: Log) -> Self {
        let log = Arc::new(log);
        let told = Arc::clone(&log);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (closed, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stop, open) = (Arc::clone(&closed), Arc::clone(&streams));
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let (stream, content) = (stream.unwrap(), &content);
                    let deaf = told.deaf.load(Ordering::SeqCst);
                    if deaf > 0 {
                        told.deaf.store(deaf - 1, Ordering::SeqCst);
                        continue;
                    }
                    open.lock().unwrap().push(stream.try_clone().unwrap());
                    let (log, open) = (Arc::clone(&told), Arc::clone(&open));
                    scope.spawn(move || serve(&stream, content, &log, &open).unwrap_or(()));
                }
            });
        });
        let url = format!("http://{address}/images/x.wim");
        Self { url, address, closed, log, streams, thread: Some(thread) }
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

fn serve(
    stream: &TcpStream,
    content: &dyn ReadAt,
    log: &Log,
    streams: &Mutex<Vec<TcpStream>>,
) -> std::io::Result<()> {
    let (mut reader, mut out) = (BufReader::new(stream), stream);
    loop {
        let mut range = (0, 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(text) = line.to_ascii_lowercase().trim_end().strip_prefix("range: bytes=") {
                let (first, last) = text.split_once('-').unwrap();
                range = (first.parse::<u64>().unwrap(), last.parse::<u64>().unwrap());
            }
            if line == "\r\n" {
                break;
            }
        }
        let (first, last) = range;
        write!(
            out,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
            last + 1 - first,
            content.size()
        )?;
        let mut buffer = vec![0; STEP_BYTES];
        for at in (first..=last).step_by(STEP_BYTES) {
            let len = (last + 1 - at).min(STEP_BYTES as u64);
            let step = &mut buffer[..len as usize];
            content.read_exact_at(at, step)?;
            out.write_all(step)?;
            let sent = log.sent.fetch_add(len, Ordering::SeqCst) + len;
            let mut cuts = log.cuts.lock().unwrap();
            if cuts.first().is_some_and(|at| sent >= *at) {
                cuts.remove(0);
                log.deaf.store(2, Ordering::SeqCst);
                for stream in streams.lock().unwrap().drain(..) {
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                }
            }
        }
    }
}
