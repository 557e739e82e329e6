//! One client's transfers: from its request to the end, on a port of its own.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket as StdSocket};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gravure_linux::udp::{self, UdpOptions};
use gravure_netboot::Millis;
use gravure_netboot::http::parse_target;
use gravure_netboot::names::{is_expected_probe, normalise_name};
use gravure_netboot::tftp::{
    Blocks, End, ErrorCode, Input, Mode, Output, Repeat, Request, Send, Transfer, error_packet, to_netascii,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};

use super::Shared;
use super::content::Content;
use crate::refusals::Refused;
use crate::{Ask, Asking, Connection, Found, NoteKind, Presence, Via};

/// Longest packet a client sends during a read: an ERROR with text.
const MAX_PACKET_BYTES: usize = 1024;
/// How long a busy interface is left alone.
const BUSY: Duration = Duration::from_millis(1);
/// Strangers told in one transfer that its port is another client's. More are not worth a packet.
const MAX_TURNED_AWAY: u32 = 16;
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
                sessions.end(&peer);
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
    let socket = connected(local, peer)?;
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
            socket.send(&error_packet(ErrorCode::FileNotFound, "no such file"))?;
            return Ok(None);
        }
    };
    let port = Port::of(socket)?;
    let limits = shared.limits(peer.ip());
    let transfer = Transfer::new(request, &limits, shared.options.patience, content.len());
    let connection = shared.presence.connection(peer.ip(), Via::Tftp);
    let (packet, origin) = (Vec::new(), Instant::now());
    let mut running = Running { port, transfer, content, packet, origin };
    let (end, replaced) = running.run(repeats, connection).await?;
    if end.is_some() && !running.transfer.is_answered() {
        shared.went_unanswered(peer.ip());
    }
    running.log(&name, peer, end.as_ref());
    running.note(&shared.presence, &name, peer, end.as_ref());
    Ok(replaced)
}

/// A port of our own for one client, which is what RFC 1350 calls a transfer identifier.
struct Port {
    /// Connected to the client: sends without a look at the routes, and hears when its port is closed. Waited for to be readable
    /// alone: the kernel makes it writable with each packet that leaves, and that would wake us for each block once more.
    socket: AsyncFd<StdSocket>,
    /// The same port for everybody else, whose packets the kernel gives to `socket` never.
    strangers: UdpSocket,
}

/// A socket on a free port, for the client alone.
fn connected(local: IpAddr, peer: SocketAddr) -> io::Result<StdSocket> {
    let socket = match local {
        IpAddr::V4(local) => {
            let options = UdpOptions { local: SocketAddrV4::new(local, 0), interface: None, shared: false };
            let socket = udp::open(options).map_err(io::Error::other)?;
            udp::allow_fragments(&socket)?;
            socket
        }
        // With IPv6 the sender fragments, and learns the path's MTU from routers of this network only.
        IpAddr::V6(_) => StdSocket::bind(SocketAddr::new(local, 0))?,
    };
    socket.connect(peer)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Port {
    /// Takes the port of `socket` for others as well.
    fn of(socket: StdSocket) -> io::Result<Self> {
        let own = socket.local_addr()?;
        // Shared from here on, when the port that was chosen is nobody else's.
        SockRef::from(&socket).set_reuse_address(true)?;
        let strangers = Socket::new(Domain::for_address(own), Type::DGRAM, Some(Protocol::UDP))?;
        strangers.set_reuse_address(true)?;
        strangers.set_nonblocking(true)?;
        strangers.bind(&own.into())?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may not own their descriptor; a socket owns its own"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { socket, strangers: UdpSocket::from_std(strangers.into())? })
    }

    fn poll_receive(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = std::task::ready!(self.socket.poll_read_ready(cx))?;
            if let Ok(received) = ready.try_io(|socket| socket.get_ref().recv(buf)) {
                return Poll::Ready(received);
            }
        }
    }

    /// Takes the socket for empty without asking the kernel.
    fn is_empty_now(&self) {
        let nothing: io::Result<()> =
            self.socket.try_io(Interest::READABLE, |_| Err(io::ErrorKind::WouldBlock.into()));
        debug_assert!(nothing.is_err(), "nothing was read");
    }

    /// What is in the socket although it was taken for empty, or that the client's port is closed.
    fn left(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.get_ref().recv(buf)
    }

    async fn send(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.get_ref().send(packet) {
                Ok(_) => return Ok(()),
                // The send buffer holds more than a window, so it is the interface that is busy.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(BUSY).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Says to a stranger that this port is another client's (RFC 1350 section 4). The transfer is not disturbed.
    fn turn_away(&self, stranger: SocketAddr) {
        let packet = error_packet(ErrorCode::UnknownTransfer, "this port serves another transfer");
        // When it is lost the stranger asks again.
        let _ = self.strangers.try_send_to(&packet, stranger);
    }
}

async fn find(shared: &Shared, request: &Request, socket: &StdSocket, peer: SocketAddr) -> io::Result<Found> {
    // GRUB writes the query of its configuration file into the name here too.
    let (path, query) = split_query(&request.name);
    let name = match normalise_name(path) {
        Ok(name) => name,
        Err(error) => {
            let text = || format!("the name {}: {error}", request.name.escape_ascii());
            shared.presence.refused(peer.ip(), Via::Tftp, Refused::Name, text);
            return Ok(Found::Nothing);
        }
    };
    let text = name.to_string();
    let query = query.and_then(|query| parse_target(&format!("/x?{query}")).ok());
    let ask = Ask {
        name,
        query: query.map(|target| target.query).unwrap_or_default(),
        peer: peer.ip(),
        local: socket.local_addr()?,
        via: Via::Tftp,
        asking: Asking::Content,
        afresh: false,
    };
    let found = shared.library.find(ask).await;
    if let Found::Refused(refusal) = &found {
        shared.presence.refused(peer.ip(), Via::Tftp, refusal.kind(), || format!("{text}: {refusal}"));
    }
    Ok(found)
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
        Found::Nothing | Found::Refused(_) | Found::Elsewhere(_) => return Ok(None),
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
    port: Port,
    transfer: Transfer,
    content: Content,
    /// The block being sent, kept to spare an allocation each.
    packet: Vec<u8>,
    origin: Instant,
}

/// What a transfer waits for.
enum Event {
    Packet(io::Result<usize>),
    Stranger(SocketAddr),
    Alarm,
    Restarted,
    Request(Request),
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
        let mut ended = pin!(connection.ended());
        let mut turned_away = 0;
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
            // By hand, since this is done for each block: what is waited for keeps its place between the blocks.
            let event = poll_fn(|cx| {
                if let Poll::Ready(received) = self.port.poll_receive(cx, &mut buf) {
                    return Poll::Ready(Event::Packet(received));
                }
                if alarm.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Alarm);
                }
                if ended.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Restarted);
                }
                if let Poll::Ready(Some(request)) = repeats.poll_recv(cx) {
                    return Poll::Ready(Event::Request(request));
                }
                let mut stray = [0; 4];
                if turned_away < MAX_TURNED_AWAY
                    && let Poll::Ready(Ok(stranger)) =
                        self.port.strangers.poll_recv_from(cx, &mut ReadBuf::new(&mut stray))
                {
                    return Poll::Ready(Event::Stranger(stranger));
                }
                Poll::Pending
            });
            output = match event.await {
                Event::Packet(Ok(len)) => self.packet(buf.get(..len).unwrap_or_default()),
                Event::Packet(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.transfer.on(Input::Unreachable, self.now())
                }
                Event::Packet(Err(error)) => return Err(error),
                Event::Alarm if self.now() < deadline => {
                    Output { send: Send::Nothing, deadline: Some(deadline), end: None }
                }
                Event::Alarm => match self.port.left(&mut buf) {
                    Ok(len) => {
                        self.transfer.on(Input::Packet(buf.get(..len).unwrap_or_default()), self.now())
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        self.transfer.on(Input::Unreachable, self.now())
                    }
                    Err(_) => self.transfer.on(Input::Timeout, self.now()),
                },
                Event::Restarted => self
                    .transfer
                    .on(Input::Stop(ErrorCode::NotDefined, "the machine has restarted"), self.now()),
                Event::Request(request) => match self.transfer.on_request(&request) {
                    Repeat::Resend => self.transfer.on(Input::Repeated, self.now()),
                    Repeat::Replace => return Ok((None, Some(request))),
                },
                Event::Stranger(stranger) => {
                    turned_away += 1;
                    self.port.turn_away(stranger);
                    Output { send: Send::Nothing, deadline: Some(deadline), end: None }
                }
            };
        }
    }

    /// Takes a packet of the client.
    fn packet(&mut self, packet: &[u8]) -> Output {
        let output = self.transfer.on(Input::Packet(packet), self.now());
        // A lock-step client says nothing more until it has the next block. To ask the kernel whether it has would be a
        // call in vain for each block, so the socket counts as empty; if something is left there after all, it comes out
        // with the next packet or when the time is up.
        if self.transfer.terms().1 == 1 && matches!(output.send, Send::Blocks(_)) {
            self.port.is_empty_now();
        }
        output
    }

    /// Sends, or gives the input that says why that is impossible.
    async fn send(&mut self, send: Send) -> io::Result<Option<Input<'static>>> {
        let sent = match send {
            Send::Nothing => Ok(()),
            Send::Packet(bytes) => self.port.send(&bytes).await,
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

    async fn send_blocks(&mut self, blocks: Blocks) -> io::Result<()> {
        for block in blocks {
            self.packet.clear();
            self.packet.extend(block.header());
            let content = self.content.get(block.offset, block.len.into());
            self.packet.extend_from_slice(content.ok_or(io::ErrorKind::UnexpectedEof)?);
            self.port.send(&self.packet).await?;
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
