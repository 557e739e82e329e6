//! An apply from a web server that is killed and started again goes on where it was.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{contents, json, ok};

/// Bytes written at a time.
const STEP_BYTES: usize = 64 << 10;

/// Serves one file in ranges, counts what it sends, and waits at a mark until it is let go.
struct Server {
    url: String,
    sent: Arc<AtomicU64>,
    /// Tells when the mark was reached.
    reached: Receiver<()>,
    /// Lets everything go on when it is dropped.
    gate: Option<Sender<()>>,
}

impl Server {
    fn start(content: Vec<u8>, mark: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/x.wim", listener.local_addr().unwrap());
        let sent = Arc::new(AtomicU64::new(0));
        let (tell, reached) = channel();
        let (gate, wait) = channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let (content, count) = (Arc::new(content), Arc::clone(&sent));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (content, count) = (Arc::clone(&content), Arc::clone(&count));
                let (tell, wait) = (tell.clone(), Arc::clone(&wait));
                std::thread::spawn(move || {
                    let pause = || {
                        let _ = tell.send(());
                        // An error, as nobody sends: the other end was dropped.
                        let _ = wait.lock().unwrap().recv();
                    };
                    serve(&stream.unwrap(), &content, &count, mark, &pause).unwrap_or(())
                });
            }
        });
        Self { url, sent, reached, gate: Some(gate) }
    }
}

fn serve(
    stream: &TcpStream,
    content: &[u8],
    sent: &AtomicU64,
    mark: u64,
    pause: &dyn Fn(),
) -> std::io::Result<()> {
    let (mut reader, mut out) = (BufReader::new(stream), stream);
    loop {
        let (mut first, mut last) = (0, content.len() - 1);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(text) = line.to_ascii_lowercase().trim_end().strip_prefix("range: bytes=") {
                let (from, to) = text.split_once('-').unwrap();
                (first, last) = (from.parse().unwrap(), to.parse().unwrap());
            }
            if line == "\r\n" {
                break;
            }
        }
        let last = last.min(content.len() - 1);
        write!(
            out,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\nETag: \"x\"\r\n\r\n",
            last + 1 - first,
            content.len()
        )?;
        for step in content[first..=last].chunks(STEP_BYTES) {
            if sent.load(Ordering::SeqCst) >= mark {
                pause();
            }
            out.write_all(step)?;
            sent.fetch_add(step.len() as u64, Ordering::SeqCst);
        }
    }
}

/// Files that do not shrink.
fn source(dir: &Path) -> u64 {
    let mut state = 5u64;
    let mut total = 0;
    for number in 0..100 {
        let len = [700, 90_000, 400_000, 1_300_000][number % 4];
        let next = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let path = dir.join("in").join(format!("d{}", number % 5));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(format!("file{number}")), next.take(len).collect::<Vec<u8>>()).unwrap();
        total += len as u64;
    }
    total
}

#[test]
fn a_killed_apply_over_http_fetches_only_what_is_still_needed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let total = source(dir);
    ok(dir, &["capture", "in", "x.wim", "--compress=none", "--progress", "none"]);
    let image = std::fs::read(dir.join("x.wim")).unwrap();
    let tables = image.len() as u64 - total;
    let mut server = Server::start(image, total / 2);
    let mut client = Command::new(env!("CARGO_BIN_EXE_gravure"))
        .current_dir(dir)
        .args(["apply", &server.url, "out", "--progress", "none"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    server.reached.recv().unwrap();
    // What was sent arrives, is written, and waits for more.
    let deadline = Instant::now() + Duration::from_secs(120);
    let written = || contents(&dir.join("out")).iter().map(|(_, content)| content.len() as u64).sum::<u64>();
    while written() < total / 4 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    client.kill().unwrap();
    client.wait().unwrap();
    drop(server.gate.take());

    let expected = contents(&dir.join("in"));
    let there = contents(&dir.join("out"));
    let is_there = |one: &&(String, Vec<u8>)| there.contains(one);
    let present: u64 = expected.iter().filter(is_there).map(|(_, content)| content.len() as u64).sum();
    assert!(present > total / 8 && present < total * 3 / 4, "{present} of {total}");
    // What is there refuses an apply that does not say what to do with it.
    let plain = ["apply", &server.url, "out", "--progress", "none"];
    assert_eq!(crate::support::fails(dir, &plain).0, 4);

    server.sent.store(0, Ordering::SeqCst);
    // Past the mark nobody waits any more.
    let again = json(dir, &["apply", &server.url, "out", "--existing", "keep"]);
    let sent = server.sent.load(Ordering::SeqCst);
    let needed = total - present + tables;
    assert_eq!(again["kept_bytes"].as_u64(), Some(present), "{again}");
    assert!(sent * 100 <= needed * 101, "{sent} bytes were sent, {needed} were needed");
    assert!(again["verified_files"].as_u64() > Some(100), "{again}");
    assert!(contents(&dir.join("out")) == expected);
    eprintln!("resumed: {sent} bytes sent, {needed} needed, {total} in all");

    // Nothing is left to fetch but the tables.
    server.sent.store(0, Ordering::SeqCst);
    let last = json(dir, &["apply", &server.url, "out", "--existing", "keep"]);
    assert_eq!((last["bytes"].as_u64(), last["kept_bytes"].as_u64()), (Some(0), Some(total)), "{last}");
    assert!(server.sent.load(Ordering::SeqCst) < 400_000);
}
