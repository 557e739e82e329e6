//! Images applied straight from a web server, checked range by range.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::{apply, capture, sample, snapshot, verify};
use gravure_imaging::{CaptureOptions, Error, ErrorKind, HttpAt, Image, RemoteOptions, agent, describe};
use gravure_model::Ctl;
use gravure_model::descriptor::ImageDescriptor;
use gravure_model::event::Silent;

/// Serves one file in ranges until it is dropped.
struct Server {
    url: String,
    address: std::net::SocketAddr,
    closed: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(content: Vec<u8>) -> Self {
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
                    open.lock().unwrap().push(stream.try_clone().unwrap());
                    scope.spawn(move || serve(&stream, content).unwrap_or(()));
                }
            });
        });
        let url = format!("http://{address}/images/x.wim");
        Self { url, address, closed, streams, thread: Some(thread) }
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

fn serve(stream: &TcpStream, content: &[u8]) -> std::io::Result<()> {
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
                range = (first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap());
            }
            if line == "\r\n" {
                break;
            }
        }
        let (first, last) = range;
        let body = &content[first..=last];
        write!(
            out,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
            body.len(),
            content.len()
        )?;
        out.write_all(body)?;
    }
}

fn open(server: &Server, descriptor: &ImageDescriptor) -> Result<Image, Error> {
    let remote = HttpAt::verified(agent(), &server.url, descriptor, &RemoteOptions::default()).unwrap();
    Image::open(Arc::new(remote), 0)
}

#[test]
fn an_image_is_applied_and_verified_from_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "s", 5);
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions { compression: None, ..CaptureOptions::default() });
    let descriptor = describe(&image, &Ctl::default(), &Silent).unwrap();
    let bytes = std::fs::read(&image).unwrap();
    assert_eq!(descriptor.size_bytes, bytes.len() as u64);
    assert!(descriptor.ranges.len() > 2, "too small to show anything: {} bytes", bytes.len());
    let server = Server::start(bytes);
    let opened = open(&server, &descriptor).unwrap();
    let target = dir.path().join("t");
    apply(&opened, &target).unwrap();
    snapshot(&source).assert_same(&snapshot(&target));
    verify(&opened, &target).unwrap();
}

#[test]
fn a_changed_byte_is_told_with_range_blob_and_path() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    std::fs::create_dir(&source).unwrap();
    for number in 0..12 {
        let mut bytes = vec![0; 1_000_000];
        gravure_testkit::Random::new(number).fill(&mut bytes);
        std::fs::write(source.join(format!("f{number:02}")), bytes).unwrap();
    }
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let descriptor = describe(&image, &Ctl::default(), &Silent).unwrap();
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[5_500_000] ^= 4;
    let server = Server::start(bytes);
    let opened = open(&server, &descriptor).unwrap();
    let error = apply(&opened, &dir.path().join("t")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    let Error::RangeMismatch { index: 1, offset: 0x40_0000, hits, .. } = &error else { panic!("{error:?}") };
    assert!(hits.iter().any(|hit| hit.contains("blob ") && hit.ends_with("/f05")), "{hits:?}");
    assert!(!hits.iter().any(|hit| hit.ends_with("/f00") || hit.ends_with("/f11")), "{hits:?}");
    // In the tables at the end of the file: already opening fails.
    let mut bytes = std::fs::read(&image).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    let server = Server::start(bytes);
    let error = open(&server, &descriptor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().starts_with("range 2 at 0x800000"), "{error}");
}

#[test]
fn descriptors_of_equal_files_are_equal_and_of_others_not() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "s", 6);
    let options =
        CaptureOptions { name: "n".into(), source_date_epoch: Some(1), ..CaptureOptions::default() };
    let of = |name: &str, options: &CaptureOptions| {
        let image = dir.path().join(name);
        capture(&source, &image, options);
        describe(&image, &Ctl::default(), &Silent).unwrap()
    };
    let first = of("a.wim", &options);
    assert_eq!(first, of("b.wim", &options));
    let other = of("c.wim", &CaptureOptions { source_date_epoch: Some(2), ..options });
    assert_ne!(first.tables, other.tables);
    assert_eq!(first.images.len(), 1);
    assert_eq!((first.images[0].name.as_str(), first.images[0].file_count > 50), ("n", true));
}
