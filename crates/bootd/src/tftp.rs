//! The sockets of TFTP: port 69 for requests, one port and task for each client, decisions by `gravure_netboot::tftp`.

mod content;
mod session;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gravure_linux::udp::{self, UdpOptions};
use gravure_netboot::tftp::{
    Access, ErrorCode, Limits, MAX_REQUEST_BYTES, Patience, Request, error_packet, parse_request,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::{Error, Library, Presence};

const SERVICE: &str = "TFTP";
/// Bytes of requests the kernel holds while we are busy: a room full of PCs switched on at once asks within milliseconds.
const REQUEST_BUFFER_BYTES: usize = 4 << 20;
/// Transfers at once. Each holds 8 KiB or a window; a window is at most 92 KiB, so this bounds memory at 184 MiB.
const MAX_TRANSFERS: usize = 2048;
/// Repeated requests waiting for one transfer; a client that sends more is answered by its own retries.
const MAX_REPEATS: usize = 4;

/// What a server offers and how long it waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct TftpOptions {
    /// Bounds of block and window.
    pub limits: Limits,
    /// Waiting times.
    pub patience: Patience,
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
    sessions: Mutex<HashMap<SocketAddr, mpsc::Sender<Request>>>,
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, HashMap<SocketAddr, mpsc::Sender<Request>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
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
            // The kernel gives what it allows; less only costs retries.
            let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(REQUEST_BUFFER_BYTES);
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        let socket = prepare().map_err(refused)?;
        let shared = Shared { library, presence, options, sessions: Mutex::default() };
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
        let request = parse_request(packet).map_err(|error| {
            tracing::debug!(%from, %error, "TFTP request");
            error_packet(ErrorCode::IllegalOperation, &error.to_string())
        })?;
        if request.access == Access::Write {
            tracing::info!(%from, "refused to take a file by TFTP");
            return Err(error_packet(ErrorCode::AccessViolation, "this server takes no files"));
        }
        let mut sessions = self.shared.sessions();
        if let Some(running) = sessions.get(&from) {
            // Full: the session has enough to think about; the client asks again.
            let _ = running.try_send(request);
            return Ok(());
        }
        if sessions.len() >= MAX_TRANSFERS {
            tracing::warn!(%from, limit = MAX_TRANSFERS, "too many TFTP transfers at once");
            return Ok(());
        }
        let (sender, repeats) = mpsc::channel(MAX_REPEATS);
        sessions.insert(from, sender);
        drop(sessions);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(session::run(shared, request, repeats, from, local));
        Ok(())
    }
}
