//! The sockets of TFTP: port 69 for requests, one port and task for each client, decisions by `gravure_netboot::tftp`.

mod content;
mod session;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gravure_linux::udp::{self, UdpOptions};
use gravure_netboot::tftp::{
    Access, ErrorCode, Limits, MAX_REQUEST_BYTES, Patience, Request, error_packet, parse_request,
};
use gravure_netboot::{Millis, Throttle};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::refusals::Refused;
use crate::{Error, Library, Presence, Seen, Via, backlog};

const SERVICE: &str = "TFTP";
/// Transfers at once. Each holds 8 KiB or a window; a window is at most 92 KiB, so this bounds memory at 184 MiB.
const MAX_TRANSFERS: usize = 2048;
/// Transfers one address may have at once: a room full of machines behind one translated address, but never all there are.
const MAX_TRANSFERS_OF_ONE: usize = 512;
/// Transfers of one address that may end in ten seconds without a word from there, before it gets nothing until those are over:
/// its requests are forged, and what is sent there is what somebody else is being flooded with.
const MAX_UNANSWERED: u32 = 64;
/// Repeated requests waiting for one transfer; a client that sends more is answered by its own retries.
const MAX_REPEATS: usize = 4;

/// What a server offers and how long it waits.
#[derive(Debug, Clone, Default)]
pub struct TftpOptions {
    /// Bounds of block and window.
    pub limits: Limits,
    /// Waiting times.
    pub patience: Patience,
    /// Lower bounds for single clients.
    pub blocks: Option<Arc<dyn BlockLimits>>,
}

/// Knows clients that need shorter blocks than others: behind tunnels that lose fragments, say. Asked on the event loop.
pub trait BlockLimits: std::fmt::Debug + Send + Sync {
    /// The longest block for `peer`: the machine DHCP `seen` there, and what its firmware calls itself.
    fn longest_block(&self, peer: IpAddr, seen: Option<Seen>, class: Option<&str>) -> Option<u16>;
}

/// The TFTP service, listening but not yet answering.
pub struct Service {
    socket: UdpSocket,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tftp::Service({:?})", self.socket.local_addr())
    }
}

/// A request's circumstances; its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy)]
struct Received {
    len: usize,
    from: SocketAddr,
    /// Our address it was sent to.
    local: IpAddr,
    interface: u32,
}

/// What the transfers share.
struct Shared {
    library: Arc<dyn Library>,
    presence: Arc<Presence>,
    options: TftpOptions,
    sessions: Mutex<Sessions>,
    /// Transfers that ended without a word from their client.
    unanswered: Mutex<Throttle>,
    origin: Instant,
}

/// The transfers that run, by address and port of their client.
#[derive(Default)]
struct Sessions {
    running: HashMap<SocketAddr, mpsc::Sender<Request>>,
    of_address: HashMap<IpAddr, usize>,
}

/// Why no more is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Server,
    Client,
}

impl Sessions {
    fn begin(&mut self, peer: SocketAddr, sender: mpsc::Sender<Request>) -> Result<(), Full> {
        if self.running.len() >= MAX_TRANSFERS {
            return Err(Full::Server);
        }
        let count = self.of_address.entry(peer.ip()).or_default();
        if *count >= MAX_TRANSFERS_OF_ONE {
            return Err(Full::Client);
        }
        *count = count.saturating_add(1);
        self.running.insert(peer, sender);
        Ok(())
    }

    fn end(&mut self, peer: &SocketAddr) {
        if self.running.remove(peer).is_none() {
            return;
        }
        if let Some(count) = self.of_address.get_mut(&peer.ip()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_address.remove(&peer.ip());
            }
        }
    }
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Notes a transfer whose client never said a word.
    fn went_unanswered(&self, peer: IpAddr) {
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        unanswered.admit(&id(peer), self.now());
    }

    /// Whether what goes to this address is likely what nobody there asked for.
    fn is_silent(&self, peer: IpAddr) -> bool {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).is_spent(&id(peer), self.now())
    }

    /// Bounds for one client.
    fn limits(&self, peer: IpAddr) -> Limits {
        let mut limits = self.options.limits;
        if let Some(blocks) = &self.options.blocks {
            let (seen, class) = (self.presence.who(peer), self.presence.class(peer));
            let most = blocks.longest_block(peer, seen, class.as_deref());
            limits.block_bytes = most.map_or(limits.block_bytes, |most| most.min(limits.block_bytes));
        }
        limits
    }
}

fn id(peer: IpAddr) -> [u8; 16] {
    match peer {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl Service {
    /// Listens on `local` (port 69 in earnest; 0 for any free one).
    pub fn open(
        local: SocketAddr,
        library: Arc<dyn Library>,
        presence: Arc<Presence>,
        options: TftpOptions,
    ) -> Result<Self, Error> {
        let refused = |source| Error::listen(SERVICE, local, source);
        let socket = match local {
            SocketAddr::V4(local) => udp::open(UdpOptions { local, interface: None, shared: false }),
            // Bound to one address, so that an answer needs no word about where its request came in.
            SocketAddr::V6(_) => Ok(std::net::UdpSocket::bind(local).map_err(refused)?),
        };
        let socket = socket.map_err(|error| match error {
            gravure_linux::Error::Io { source, .. } => refused(source),
            other => Error::Kernel(other),
        })?;
        let prepare = || {
            backlog::widen(SERVICE, &socket);
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        let socket = prepare().map_err(refused)?;
        let unanswered = Mutex::new(Throttle::new(MAX_UNANSWERED));
        let sessions = Mutex::default();
        let shared = Shared { library, presence, options, sessions, unanswered, origin: Instant::now() };
        Ok(Self { socket, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers for ever; transfers that run go on when the future is dropped, until the runtime ends.
    pub async fn run(self) {
        let mut buf = vec![0; MAX_REQUEST_BYTES + 1];
        loop {
            let received = match self.receive(&mut buf).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "TFTP receive");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let packet = buf.get(..received.len).unwrap_or_default();
            if let Err(refusal) = self.take(packet, received.from, received.local) {
                // A refusal that is lost is asked for again.
                let _ = self.refuse(&refusal, &received).await;
            }
        }
    }

    async fn receive(&self, buf: &mut [u8]) -> std::io::Result<Received> {
        match self.socket.local_addr()? {
            SocketAddr::V4(_) => {
                let received =
                    self.socket.async_io(Interest::READABLE, || udp::receive(&self.socket, buf)).await?;
                let udp::Received { len, from, interface, local, .. } = received;
                Ok(Received { len, from: from.into(), local: local.into(), interface })
            }
            SocketAddr::V6(local) => {
                let (len, from) = self.socket.recv_from(buf).await?;
                Ok(Received { len, from, local: (*local.ip()).into(), interface: 0 })
            }
        }
    }

    async fn refuse(&self, refusal: &[u8], request: &Received) -> std::io::Result<()> {
        match (request.from, request.local) {
            (SocketAddr::V4(to), IpAddr::V4(local)) => {
                let send = || udp::send(&self.socket, refusal, to, request.interface, local);
                self.socket.async_io(Interest::WRITABLE, send).await
            }
            (to, _) => self.socket.send_to(refusal, to).await.map(drop),
        }
    }

    /// Hands a request to its session, or gives the packet that refuses it.
    fn take(&self, packet: &[u8], from: SocketAddr, local: IpAddr) -> Result<(), Vec<u8>> {
        let refused = |what, text: &dyn Fn() -> String| {
            self.shared.presence.refused(from.ip(), Via::Tftp, what, text);
        };
        let request = match parse_request(packet) {
            Ok(request) => request,
            Err(error) => {
                refused(Refused::Malformed, &|| format!("a request: {error}"));
                // An error answered by an error would be answered by another, for ever where two servers are made to talk.
                let asks = matches!(packet, [0, 1 | 2, ..]);
                let answer = || error_packet(ErrorCode::IllegalOperation, &error.to_string());
                return if asks { Err(answer()) } else { Ok(()) };
            }
        };
        if request.access == Access::Write {
            refused(Refused::Write, &|| format!("to take the file {}", request.name.escape_ascii()));
            return Err(error_packet(ErrorCode::AccessViolation, "this server takes no files"));
        }
        let mut sessions = self.shared.sessions();
        if let Some(running) = sessions.running.get(&from) {
            // Full: the session has enough to think about; the client asks again.
            let _ = running.try_send(request);
            return Ok(());
        }
        if self.shared.is_silent(from.ip()) {
            drop(sessions);
            refused(Refused::Unanswered, &|| {
                format!(
                    "to go on: {MAX_UNANSWERED} transfers went unanswered, so the requests are likely forged"
                )
            });
            return Ok(());
        }
        let (sender, repeats) = mpsc::channel(MAX_REPEATS);
        let begun = sessions.begin(from, sender);
        drop(sessions);
        if let Err(full) = begun {
            // Not even a word: who is not real needs none, and who is asks again.
            refused(Refused::TooMany, &|| match full {
                Full::Server => format!("another transfer: {MAX_TRANSFERS} run at once"),
                Full::Client => {
                    format!("another transfer: {MAX_TRANSFERS_OF_ONE} of this address run at once")
                }
            });
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(session::run(shared, request, repeats, from, local));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
