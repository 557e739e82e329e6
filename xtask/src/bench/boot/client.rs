//! The client side of `bench boot`, in a process of its own inside the client's network namespace.
//!
//! A TFTP client as firmware is (one socket, one file, a window), with a delay before each acknowledgement and losses of its
//! own; a plain HTTP client; a DHCP client that only counts answers. Results go to standard output as JSON.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gravure_testkit::Random;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

/// A transfer that stands still for so long has failed.
const STALLED: Duration = Duration::from_secs(20);
/// Firmware repeats its last acknowledgement after about a second.
const REPEAT_AFTER: Duration = Duration::from_secs(1);
/// Latency of answers that never came; JSON knows no infinity.
const NEVER_MILLISECONDS: f64 = 1e9;
/// Where a neighbour without a default route can broadcast to.
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 255);
/// Stack of a client's thread: its buffers are on the heap.
const STACK_BYTES: usize = 256 << 10;

const EXAMPLES: &str = "Examples:
  cargo xtask bench-client tftp 10.77.0.1 --file small.bin --window 16

`cargo xtask bench boot` starts it; it prints what it measured as JSON.";

/// What to fetch and how.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// `tftp`, `http` or `dhcp`
    protocol: String,
    /// The server
    server: Ipv4Addr,
    /// Port of HTTP
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// Name of the file
    #[arg(long, default_value = "")]
    file: String,
    /// TFTP block size
    #[arg(long, default_value_t = 1468)]
    block: usize,
    /// TFTP window
    #[arg(long, default_value_t = 1)]
    window: u16,
    /// Microseconds before each acknowledgement
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Packets of a million that are dropped
    #[arg(long, default_value_t = 0)]
    loss: u64,
    /// Clients at once, or discovers a second
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Fetches of each HTTP client
    #[arg(long, default_value_t = 1)]
    times: usize,
    /// Addresses that HTTP clients come from, in turn; of DHCP's relay, the first
    #[arg(long, value_name = "ADDRESS,...", value_delimiter = ',')]
    from: Vec<Ipv4Addr>,
    /// What losses are drawn from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The network of DHCP's clients, who ask through a relay and take what they are offered
    #[arg(long, value_name = "NETWORK")]
    relay_for: Option<Ipv4Addr>,
}

/// What was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Bytes fetched by all clients that got everything.
    pub(super) bytes: u64,
    /// Seconds from the first request to the last byte.
    pub(super) seconds: f64,
    /// Clients that got everything.
    pub(super) finished: usize,
    /// Packets dropped on purpose.
    pub(super) dropped: u64,
    /// Longest time from a dropped packet to its repetition, seconds.
    pub(super) slowest_recovery: f64,
    /// Clients of DHCP that got what they asked for, and the latency that 99 of 100 answers stayed below, milliseconds.
    pub(super) answers: usize,
    pub(super) p99_milliseconds: f64,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let outcome = match options.protocol.as_str() {
        "tftp" => many(options, fetch_tftp)?,
        "http" => many(options, fetch_http)?,
        "dhcp" => discover(options)?,
        other => bail!("protocol {other:?}, expected tftp, http or dhcp"),
    };
    println!("{}", serde_json::to_string(&outcome).context("cannot write the result")?);
    Ok(())
}

/// One client's part.
#[derive(Debug, Default)]
struct Fetched {
    bytes: u64,
    dropped: u64,
    slowest_recovery: f64,
}

fn many(options: &Options, fetch: fn(&Options, u64) -> Result<Fetched>) -> Result<Outcome> {
    let start = Instant::now();
    let results: Vec<Result<Fetched>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.clients)
            .map(|number| {
                std::thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn_scoped(scope, move || fetch(options, number as u64))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| bail!("a client panicked")),
            Err(error) => Err(error.into()),
        });
        joined.collect()
    });
    let mut outcome = Outcome { seconds: start.elapsed().as_secs_f64(), ..Outcome::default() };
    for result in results {
        match result {
            Ok(fetched) => {
                outcome.finished += 1;
                outcome.bytes += fetched.bytes;
                outcome.dropped += fetched.dropped;
                outcome.slowest_recovery = outcome.slowest_recovery.max(fetched.slowest_recovery);
            }
            Err(error) if options.clients == 1 => return Err(error),
            Err(error) => eprintln!("{error:#}"),
        }
    }
    Ok(outcome)
}

fn fetch_tftp(options: &Options, number: u64) -> Result<Fetched> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot open a socket")?;
    let text =
        format!("{}\0octet\0blksize\0{}\0windowsize\0{}\0", options.file, options.block, options.window);
    let request = [&[0, 1][..], text.as_bytes()].concat();
    // No repetition: a request that a busy server loses is a machine that waits for its firmware's timeout.
    socket.send_to(&request, (options.server, 69)).context("cannot send the request")?;
    let mut random = Random::new(0x5eed ^ number ^ (options.seed << 32));
    let (mut window, mut block) = (1u16, 512usize);
    let mut expected = 1u16;
    let mut in_window = 0u16;
    let mut peer: Option<SocketAddr> = None;
    let mut fetched = Fetched::default();
    let mut lost: Option<(u16, Instant)> = None;
    let mut gap_told = None;
    let mut progress = Instant::now();
    let mut buf = vec![0; options.block + 64];
    socket.set_read_timeout(Some(REPEAT_AFTER)).context("cannot set a timeout")?;
    loop {
        let (len, from) = match socket.recv_from(&mut buf) {
            Ok(received) => received,
            Err(_) if progress.elapsed() > STALLED => bail!("no progress at block {expected}"),
            Err(_) => {
                if let Some(peer) = peer {
                    acknowledge(&socket, peer, expected.wrapping_sub(1))?;
                }
                continue;
            }
        };
        let packet = &buf[..len];
        peer.get_or_insert(from);
        match packet {
            [0, 6, options_text @ ..] => {
                let words: Vec<&[u8]> = options_text.split(|byte| *byte == 0).collect();
                for pair in words.chunks_exact(2) {
                    let value = std::str::from_utf8(pair[1]).unwrap_or_default().parse::<usize>();
                    match (pair[0].to_ascii_lowercase().as_slice(), value) {
                        (b"blksize", Ok(value)) => block = value,
                        (b"windowsize", Ok(value)) => window = u16::try_from(value).unwrap_or(1),
                        _ => {}
                    }
                }
                acknowledge(&socket, from, 0)?;
                progress = Instant::now();
            }
            [0, 3, high, low, data @ ..] => {
                if options.loss > 0 && random.below(1_000_000) < options.loss {
                    fetched.dropped += 1;
                    lost.get_or_insert((u16::from_be_bytes([*high, *low]), Instant::now()));
                    continue;
                }
                let found = u16::from_be_bytes([*high, *low]);
                if found != expected {
                    // A gap is told once (RFC 7440 section 4); what came twice is not worth a word.
                    if found.wrapping_sub(expected) < window && gap_told != Some(expected) {
                        gap_told = Some(expected);
                        in_window = 0;
                        acknowledge(&socket, from, expected.wrapping_sub(1))?;
                    }
                    continue;
                }
                if let Some((which, at)) = lost
                    && which == found
                {
                    fetched.slowest_recovery = fetched.slowest_recovery.max(at.elapsed().as_secs_f64());
                    lost = None;
                }
                progress = Instant::now();
                fetched.bytes += data.len() as u64;
                expected = expected.wrapping_add(1);
                in_window += 1;
                let last = data.len() < block;
                if last || in_window >= window {
                    in_window = 0;
                    wait(options.delay, options.clients);
                    acknowledge(&socket, from, found)?;
                }
                if last {
                    return Ok(fetched);
                }
            }
            [0, 5, ..] => bail!("refused: {}", String::from_utf8_lossy(packet.get(4..).unwrap_or_default())),
            _ => {}
        }
    }
}

fn acknowledge(socket: &UdpSocket, peer: SocketAddr, block: u16) -> Result<()> {
    let [high, low] = block.to_be_bytes();
    socket.send_to(&[0, 4, high, low], peer).map(drop).context("cannot acknowledge")
}

/// Waits as a network would. One client spins, since a sleep is longer than such delays; many sleep.
fn wait(microseconds: u64, clients: usize) {
    let delay = Duration::from_micros(microseconds);
    if microseconds == 0 {
        return;
    }
    if clients > 1 {
        std::thread::sleep(delay);
        return;
    }
    let start = Instant::now();
    while start.elapsed() < delay {
        std::hint::spin_loop();
    }
}

/// Connects from the address whose turn it is.
fn connect(options: &Options, number: u64) -> Result<TcpStream> {
    let server = SocketAddr::from((options.server, options.port));
    let turn = usize::try_from(number).unwrap_or(0) % options.from.len().max(1);
    let Some(from) = options.from.get(turn) else {
        return TcpStream::connect(server).context("cannot connect to the HTTP server");
    };
    let socket =
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).context("cannot open a socket")?;
    socket.bind(&SocketAddr::from((*from, 0)).into()).with_context(|| format!("cannot come from {from}"))?;
    socket.connect(&server.into()).context("cannot connect to the HTTP server")?;
    Ok(socket.into())
}

fn fetch_http(options: &Options, number: u64) -> Result<Fetched> {
    let mut stream = connect(options, number)?;
    stream.set_read_timeout(Some(STALLED)).context("cannot set a timeout")?;
    let mut fetched = Fetched::default();
    let mut buf = vec![0; 256 << 10];
    for _ in 0..options.times {
        let request = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", options.file, options.server);
        stream.write_all(request.as_bytes()).context("cannot ask")?;
        let mut head = Vec::new();
        let mut left = loop {
            let len = stream.read(&mut buf).context("no answer")?;
            if len == 0 {
                bail!("the server closed the connection");
            }
            head.extend_from_slice(&buf[..len]);
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: u64 = length.context("no length")?.trim().parse().context("length")?;
                fetched.bytes += length;
                break length - (head.len() - end - 4) as u64;
            }
        };
        while left > 0 {
            let len = stream.read(&mut buf).context("the answer broke off")?;
            if len == 0 {
                bail!("the answer broke off, {left} bytes are missing");
            }
            left -= len as u64;
        }
    }
    Ok(fetched)
}

/// Sends `clients` discovers a second for three seconds, each from another machine, and times the answers. Through a relay each
/// offer is taken at once, and what acknowledges it is timed too.
fn discover(options: &Options) -> Result<Outcome> {
    const SECONDS: usize = 3;
    let relay = options.relay_for.map(|network| {
        let own = options.from.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        Relay { own, network, server: options.server }
    });
    let port = if relay.is_some() { 67 } else { 68 };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("cannot take the port")?;
    socket.set_broadcast(true).context("cannot broadcast")?;
    let receiver = socket.try_clone().context("cannot share the socket")?;
    receiver.set_read_timeout(Some(Duration::from_millis(500))).context("cannot set a timeout")?;
    let count = options.clients * SECONDS;
    let start = Instant::now();
    let done = std::sync::atomic::AtomicBool::new(false);
    let (sent, heard) = std::thread::scope(|scope| {
        let listening = scope.spawn(|| listen(&receiver, relay, start, &done));
        let mut sent = Vec::with_capacity(count);
        let pace = Duration::from_secs(1) / u32::try_from(options.clients.max(1)).unwrap_or(1);
        for number in 0..count {
            let due = pace * u32::try_from(number).unwrap_or(u32::MAX);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            let id = u32::try_from(number).unwrap_or(u32::MAX);
            let [_, b, c, d] = id.to_be_bytes();
            let packet = gravure_netboot::dhcp::probe(id, [2, 0x67, 0, b, c, d]);
            let (packet, to) = match relay {
                Some(relay) => (relay.through(packet, &[]), relay.server),
                None => (packet, BROADCAST),
            };
            sent.push(start.elapsed());
            if let Err(error) = socket.send_to(&packet, (to, 67)) {
                eprintln!("discover {number}: {error}");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        (sent, listening.join().unwrap_or_default())
    });
    let since_discover = |(id, at): &(u32, Duration)| {
        let sent = sent.get(usize::try_from(*id).ok()?)?;
        Some((at.saturating_sub(*sent)).as_secs_f64() * 1000.0)
    };
    let mut latencies: Vec<f64> = heard.offers.iter().filter_map(since_discover).collect();
    latencies.extend(heard.acknowledged.iter().map(|latency| latency.as_secs_f64() * 1000.0));
    let answers = if relay.is_some() { heard.acknowledged.len() } else { heard.offers.len() };
    latencies.sort_by(f64::total_cmp);
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or(NEVER_MILLISECONDS);
    Ok(Outcome { answers, p99_milliseconds: p99, finished: count, ..Outcome::default() })
}

/// The relay that DHCP's clients ask through.
#[derive(Debug, Clone, Copy)]
struct Relay {
    own: Ipv4Addr,
    network: Ipv4Addr,
    server: Ipv4Addr,
}

impl Relay {
    /// A client's message as the relay passes it on: with its address, further options, and option 82.5, which names the network.
    fn through(self, mut packet: Vec<u8>, options: &[u8]) -> Vec<u8> {
        packet[24..28].copy_from_slice(&self.own.octets());
        let end = packet.iter().rposition(|byte| *byte == 255).unwrap_or(packet.len());
        packet.truncate(end);
        packet.extend_from_slice(options);
        packet.extend([82, 6, 5, 4]);
        packet.extend(self.network.octets());
        packet.push(255);
        packet
    }

    /// The request that takes an offer.
    fn take(self, offer: &[u8]) -> Option<Vec<u8>> {
        let id = u32::from_be_bytes(offer.get(4..8)?.try_into().ok()?);
        let mac: [u8; 6] = offer.get(28..34)?.try_into().ok()?;
        let mut packet = gravure_netboot::dhcp::probe(id, mac);
        // Option 53 comes first.
        *packet.get_mut(242)? = 3;
        let address = offer.get(16..20)?;
        let options = [&[50, 4][..], address, &[54, 4], &self.server.octets()].concat();
        Some(self.through(packet, &options))
    }
}

#[derive(Debug, Default)]
struct Heard {
    /// Transaction and time of each offer.
    offers: Vec<(u32, Duration)>,
    /// From the request to what acknowledged it.
    acknowledged: Vec<Duration>,
}

fn listen(
    socket: &UdpSocket,
    relay: Option<Relay>,
    start: Instant,
    done: &std::sync::atomic::AtomicBool,
) -> Heard {
    const ACKNOWLEDGED: u8 = 5;
    let mut heard = Heard::default();
    let mut asked = std::collections::HashMap::new();
    let mut buf = vec![0; 2048];
    loop {
        let packet = match socket.recv_from(&mut buf) {
            Ok((len, _)) if len > 242 => &buf[..len],
            Ok(_) => continue,
            Err(_) if done.load(std::sync::atomic::Ordering::Acquire) => return heard,
            Err(_) => continue,
        };
        let (id, now) = (u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]), start.elapsed());
        if relay.is_some() && packet[242] == ACKNOWLEDGED {
            heard.acknowledged.extend(asked.remove(&id).map(|at| now.saturating_sub(at)));
            continue;
        }
        heard.offers.push((id, now));
        let Some((relay, request)) = relay.and_then(|relay| Some((relay, relay.take(packet)?))) else {
            continue;
        };
        asked.insert(id, start.elapsed());
        if let Err(error) = socket.send_to(&request, (relay.server, 67)) {
            eprintln!("request {id}: {error}");
        }
    }
}
