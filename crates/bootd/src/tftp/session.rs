//! One client's transfers: from its request to the end, on a port of its own.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gravure_linux::udp::{self, UdpOptions};
use gravure_netboot::Millis;
use gravure_netboot::http::parse_target;
use gravure_netboot::names::{is_expected_probe, normalise_name};
use gravure_netboot::tftp::{
    Blocks, End, ErrorCode, Input, Mode, Output, Repeat, Request, Send, Transfer, error_packet, to_netascii,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::Shared;
use super::content::Content;
use crate::{Ask, Asking, Connection, Found, NoteKind, Presence, Via};

/// Longest packet a client sends during a read: an ERROR with text.
const MAX_PACKET_BYTES: usize = 1024;
/// Largest file converted to netascii, which happens in memory.
const MAX_NETASCII_BYTES: u64 = 1 << 20;

/// Serves `request` and whatever this client asks next from the same port.
pub(super) async fn run(
    shared: Arc<Shared>,
    request: Request,
    mut repeats: mpsc::Receiver<Request>,
    peer: SocketAddr,
    local: IpAddr,
) {
    let mut next = Some(request);
    loop {
        while let Some(request) = next.take() {
            let name = request.name.escape_ascii().to_string();
            match transfer(&shared, request, &mut repeats, peer, local).await {
                Ok(Some(other)) => next = Some(other),
                Ok(None) => {}
                Err(error) => tracing::warn!(%peer, name, %error, "TFTP transfer"),
            }
        }
        let mut sessions = shared.sessions();
        // Under the lock nobody can hand over another request between this look and the removal.
        match repeats.try_recv() {
            Ok(request) => next = Some(request),
            Err(_) => {
                sessions.remove(&peer);
                return;
            }
        }
    }
}

/// One transfer; gives the request that replaced it, if one did.
async fn transfer(
    shared: &Arc<Shared>,
    request: Request,
    repeats: &mut mpsc::Receiver<Request>,
    peer: SocketAddr,
    local: IpAddr,
) -> io::Result<Option<Request>> {
    let socket = open(local, peer)?;
    let name = request.name.escape_ascii().to_string();
    let found = find(shared, &request, &socket, peer).await?;
    let content = match content(found, request.mode).await? {
        Some(content) => content,
        None => {
            // Firmware and loaders probe for files that are rarely there: no news.
            tracing::debug!(%peer, name, "TFTP: no such file");
            if !normalise_name(name.as_bytes()).is_ok_and(|name| is_expected_probe(&name)) {
                let text = || format!("asked for {name} by TFTP, which is not there");
                shared.presence.note(peer.ip(), NoteKind::Missing, text);
            }
            socket.send(&error_packet(ErrorCode::FileNotFound, "no such file")).await?;
            return Ok(None);
        }
    };
    let options = &shared.options;
    let transfer = Transfer::new(request, &options.limits, options.patience, content.len());
    let connection = shared.presence.connection(peer.ip());
    let mut running = Running { socket, transfer, content, origin: Instant::now() };
    let (end, replaced) = running.run(repeats, connection).await?;
    running.log(&name, peer, end.as_ref());
    running.note(&shared.presence, &name, peer, end.as_ref());
    Ok(replaced)
}

fn open(local: IpAddr, peer: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match local {
        IpAddr::V4(local) => {
            let options = UdpOptions { local: SocketAddrV4::new(local, 0), interface: None, shared: false };
            let socket = udp::open(options).map_err(io::Error::other)?;
            udp::allow_fragments(&socket)?;
            socket
        }
        // With IPv6 the sender fragments, and learns the path's MTU from routers of this network only.
        IpAddr::V6(_) => std::net::UdpSocket::bind(SocketAddr::new(local, 0))?,
    };
    // Connected: strangers are refused by the kernel, and a closed client port comes back as an error.
    socket.connect(peer)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

async fn find(shared: &Shared, request: &Request, socket: &UdpSocket, peer: SocketAddr) -> io::Result<Found> {
    // GRUB writes the query of its configuration file into the name here too.
    let (path, query) = split_query(&request.name);
    let Ok(name) = normalise_name(path) else { return Ok(Found::Nothing) };
    let query = query.and_then(|query| parse_target(&format!("/x?{query}")).ok());
    let ask = Ask {
        name,
        query: query.map(|target| target.query).unwrap_or_default(),
        peer: peer.ip(),
        local: socket.local_addr()?,
        via: Via::Tftp,
        asking: Asking::Content,
    };
    Ok(shared.library.find(ask).await)
}

/// The path and the query of a name.
fn split_query(name: &[u8]) -> (&[u8], Option<&str>) {
    match name.iter().position(|byte| *byte == b'?') {
        Some(at) => {
            let (path, query) = name.split_at(at);
            (path, query.get(1..).and_then(|query| std::str::from_utf8(query).ok()))
        }
        None => (name, None),
    }
}

async fn content(found: Found, mode: Mode) -> io::Result<Option<Content>> {
    let content = match found {
        Found::Nothing => return Ok(None),
        Found::Bytes(bytes) => Content::Bytes(bytes),
        Found::File { file, len, .. } => Content::file(file, len),
    };
    if mode == Mode::Octet {
        return Ok(Some(content));
    }
    if content.len() > MAX_NETASCII_BYTES {
        return Ok(None);
    }
    let mut content = content;
    let len = usize::try_from(content.len()).unwrap_or(usize::MAX);
    content.load(0, len).await?;
    let text = to_netascii(content.get(0, len).unwrap_or_default());
    Ok(Some(Content::Bytes(Bytes::from(text))))
}

struct Running {
    socket: UdpSocket,
    transfer: Transfer,
    content: Content,
    origin: Instant,
}

impl Running {
    async fn run(
        &mut self,
        repeats: &mut mpsc::Receiver<Request>,
        mut connection: Connection,
    ) -> io::Result<(Option<End>, Option<Request>)> {
        let mut buf = vec![0; MAX_PACKET_BYTES];
        let mut output = self.transfer.on(Input::Start, self.now());
        // Deadlines move on with each packet. The alarm stays where it is until it rings, which spares two changes of the
        // timers' list for each block of a lock-step client.
        let mut alarm = pin!(sleep_until(self.origin.into()));
        loop {
            let Output { send, deadline, end } = output;
            let failed = self.send(send).await?;
            if let Some(end) = end {
                return Ok((Some(end), None));
            }
            if let Some(input) = failed {
                output = self.transfer.on(input, self.now());
                continue;
            }
            let Some(deadline) = deadline else { return Ok((None, None)) };
            let wake = Instant::into(self.origin + Duration::from_millis(deadline.0));
            if alarm.is_elapsed() || alarm.deadline() > wake {
                alarm.as_mut().reset(wake);
            }
            output = tokio::select! {
                received = self.socket.recv(&mut buf) => {
                    let now = self.now();
                    match received {
                        Ok(len) => self.transfer.on(Input::Packet(buf.get(..len).unwrap_or_default()), now),
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                            self.transfer.on(Input::Unreachable, now)
                        }
                        Err(error) => return Err(error),
                    }
                }
                () = alarm.as_mut() => match self.now() {
                    now if now < deadline => Output { send: Send::Nothing, deadline: Some(deadline), end: None },
                    now => self.transfer.on(Input::Timeout, now),
                },
                () = connection.ended() => {
                    self.transfer.on(Input::Stop(ErrorCode::NotDefined, "the machine has restarted"), self.now())
                }
                Some(request) = repeats.recv() => match self.transfer.on_request(&request) {
                    Repeat::Resend => self.transfer.on(Input::Repeated, self.now()),
                    Repeat::Replace => return Ok((None, Some(request))),
                },
            };
        }
    }

    /// Sends, or gives the input that says why that is impossible.
    async fn send(&mut self, send: Send) -> io::Result<Option<Input<'static>>> {
        let sent = match send {
            Send::Nothing => Ok(()),
            Send::Packet(bytes) => self.socket.send(&bytes).await.map(drop),
            Send::Blocks(blocks) => {
                if let Err(error) = self.load(blocks).await {
                    tracing::warn!(%error, "cannot read a file that is being sent by TFTP");
                    return Ok(Some(Input::Stop(ErrorCode::NotDefined, "the file cannot be read")));
                }
                self.send_blocks(blocks).await
            }
        };
        match sent {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Some(Input::Unreachable)),
            Err(error) => Err(error),
        }
    }

    async fn load(&mut self, mut blocks: Blocks) -> io::Result<()> {
        let Some(first) = blocks.next() else { return Ok(()) };
        let last = blocks.last().unwrap_or(first);
        let end = last.offset.saturating_add(last.len.into());
        let len = usize::try_from(end.saturating_sub(first.offset)).map_err(io::Error::other)?;
        self.content.load(first.offset, len).await
    }

    async fn send_blocks(&self, blocks: Blocks) -> io::Result<()> {
        let mut packet = Vec::new();
        for block in blocks {
            packet.clear();
            packet.extend(block.header());
            let content = self.content.get(block.offset, block.len.into());
            packet.extend_from_slice(content.ok_or(io::ErrorKind::UnexpectedEof)?);
            self.socket.send(&packet).await?;
        }
        Ok(())
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// For the machine's journal: what it got, or why a transfer broke off.
    fn note(&self, presence: &Presence, name: &str, peer: SocketAddr, end: Option<&End>) {
        let bytes = self.transfer.acknowledged_bytes();
        match end {
            Some(End::Done) => {
                let ms = self.now().0;
                presence
                    .fetched(peer.ip(), name, || format!("fetched {name} by TFTP, {bytes} bytes in {ms} ms"));
            }
            Some(end) if !end.is_success() => {
                let text = || format!("did not get {name} by TFTP, {bytes} bytes arrived: {end}");
                presence.note(peer.ip(), NoteKind::Trouble, text);
            }
            _ => {}
        }
    }

    fn log(&self, name: &str, peer: SocketAddr, end: Option<&End>) {
        let stats = self.transfer.stats();
        let bytes = self.transfer.acknowledged_bytes();
        let ms = self.now().0;
        let (resent, gaps) = (stats.blocks_resent, stats.gaps);
        match end {
            Some(End::Done) => tracing::info!(%peer, name, bytes, ms, resent, gaps, "sent by TFTP"),
            Some(end) if end.is_success() => tracing::debug!(%peer, name, bytes, ms, "TFTP: {end}"),
            Some(end) => tracing::info!(%peer, name, bytes, ms, resent, "TFTP: {end}"),
            None => tracing::debug!(%peer, name, bytes, "TFTP: replaced by a new request"),
        }
    }
}
