//! The sockets of DHCP and ProxyDHCP: ports 67 and 4011 of one interface, decisions by `gravure_netboot::dhcp::reply`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gravure_linux::packet::{PacketSocket, UdpPacket};
use gravure_linux::udp::{self, UdpOptions};
use gravure_netboot::dhcp::{
    BootPolicy, Destination, DhcpConfig, DhcpMode, LeaseEntry, LeaseTable, MAX_PACKET_BYTES, OfferWatch,
    Outcome, PacketSource, Reply, ServerPort, reply,
};
use gravure_netboot::{Admission, Millis, Throttle};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::journal::WatchedInterface;
use crate::{Error, Interface, Presence, Seen, backlog};

const SERVICE: &str = "DHCP";
const DHCP_PORT: u16 = 67;
const BOOT_SERVER_PORT: u16 = 4011;
const CLIENT_PORT: u16 = 68;
/// The field `chaddr`, padding included (RFC 2131, section 2).
const CLIENT_ADDRESS: std::ops::Range<usize> = 28..44;
/// How often machines are looked at that should have done something.
const WATCH_EVERY: Duration = Duration::from_secs(3);

/// Receives leases that changed, to keep them. Called on the event loop: must only pass them on.
pub trait LeaseKeeper: Send + Sync + 'static {
    /// Takes changed leases.
    fn keep(&self, changed: Vec<LeaseEntry>);
}

/// What all interfaces share.
#[derive(Debug)]
pub struct Leases<K> {
    table: Mutex<LeaseTable>,
    keeper: K,
}

impl<K: LeaseKeeper> Leases<K> {
    /// Starts with `table`, as it was kept.
    pub fn new(table: LeaseTable, keeper: K) -> Self {
        Self { table: Mutex::new(table), keeper }
    }
}

/// The service on one interface, listening but not yet answering.
pub struct Service<K> {
    interface: Interface,
    config: DhcpConfig,
    policy: Arc<dyn BootPolicy + Send + Sync>,
    leases: Arc<Leases<K>>,
    presence: Arc<Presence>,
    throttle: Mutex<Throttle>,
    watch: Option<WatchedInterface>,
    dhcp: UdpSocket,
    boot_server: UdpSocket,
    raw: PacketSocket,
}

impl<K> std::fmt::Debug for Service<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dhcp::Service({})", self.interface.name)
    }
}

impl<K: LeaseKeeper> Service<K> {
    /// Takes the ports. In proxy mode they are shared, for a DHCP server on the same machine.
    pub fn open(
        interface: Interface,
        config: DhcpConfig,
        policy: Arc<dyn BootPolicy + Send + Sync>,
        leases: Arc<Leases<K>>,
        presence: Arc<Presence>,
    ) -> Result<Self, Error> {
        config.check()?;
        let shared = config.mode == DhcpMode::Proxy;
        let dhcp = listen(&interface, DHCP_PORT, shared)?;
        let boot_server = listen(&interface, BOOT_SERVER_PORT, shared)?;
        let raw = PacketSocket::open(interface.index)?;
        let watch = presence.journal().map(|journal| journal.watch(OfferWatch::new(config.server), shared));
        let throttle = Mutex::default();
        Ok(Self { interface, config, policy, leases, presence, throttle, watch, dhcp, boot_server, raw })
    }

    /// Answers for ever; end it by dropping the future.
    pub async fn run(self) {
        tokio::join!(
            self.answer(&self.dhcp, ServerPort::Dhcp),
            self.answer(&self.boot_server, ServerPort::BootServer),
            self.look_after()
        );
    }

    /// Notes what machines should have done by now.
    async fn look_after(&self) {
        let Some(watch) = &self.watch else { return };
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            for (mac, finding) in watch.due(wall_clock()) {
                watch.trouble(mac, &finding);
                // A room full of machines must not keep others waiting for their answers.
                tokio::task::yield_now().await;
            }
        }
    }

    async fn answer(&self, socket: &UdpSocket, arrived_on: ServerPort) {
        let mut buf = vec![0; MAX_PACKET_BYTES];
        loop {
            let received = socket.async_io(Interest::READABLE, || udp::receive(socket, &mut buf)).await;
            let (received, packet) = match received {
                Ok(received) => (received, buf.get(..received.len).unwrap_or_default()),
                Err(error) => {
                    // Errors of single datagrams (an unreachable client) come up here too; the socket stays good.
                    tracing::debug!(interface = self.interface.name, %error, "DHCP receive");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    continue;
                }
            };
            let from = PacketSource { address: *received.from.ip(), port: received.from.port(), arrived_on };
            if self.admits(packet) {
                let outcome = self.decide(packet, from);
                self.follow(socket, outcome).await;
            }
        }
    }

    /// Whether the client is not asking too often. What is too short to name one is for `reply` to explain.
    fn admits(&self, packet: &[u8]) -> bool {
        let Some(client) = packet.get(CLIENT_ADDRESS) else { return true };
        let admission =
            self.throttle.lock().unwrap_or_else(PoisonError::into_inner).admit(client, wall_clock());
        if admission == Admission::RefuseAndSay {
            let client = client.get(..6).unwrap_or_default();
            let interface = self.interface.name.as_str();
            tracing::warn!(
                interface,
                "a client asks by DHCP without end and is not answered for some seconds; the first bytes of its hardware \
                 address are {client:02x?}"
            );
        }
        admission == Admission::Answer
    }

    fn decide(&self, packet: &[u8], from: PacketSource) -> Outcome {
        let (outcome, changed) = {
            let mut table = self.leases.table.lock().unwrap_or_else(PoisonError::into_inner);
            let outcome = reply(&self.config, &*self.policy, &mut *table, packet, from, wall_clock());
            (outcome, table.take_changes())
        };
        if !changed.is_empty() {
            self.leases.keeper.keep(changed);
        }
        outcome
    }

    async fn follow(&self, socket: &UdpSocket, outcome: Outcome) {
        let interface = self.interface.name.as_str();
        // Before the answer, since the client may ask for its file as soon as it has that.
        if let Some(mac) = outcome.restarted.and_then(|hardware| hardware.mac()) {
            let ended = self.presence.restarted(mac);
            if ended > 0 {
                tracing::debug!(interface, ended, "ended connections of the machine's last boot");
            }
        }
        if let Some(sighting) = outcome.sighting
            && let Some(mac) = sighting.hardware.mac()
        {
            let address = sighting.address.into();
            self.presence.saw(address, Seen { mac, uuid: sighting.uuid });
            let class = outcome.journal.saw.as_ref().and_then(|saw| saw.client.vendor_class.as_deref());
            self.presence.saw_class(address, class);
        }
        // The client need not wait for what is written about it.
        if let Some(reply) = &outcome.reply {
            let to = reply.destination;
            if let Err(error) = self.send(socket, reply).await {
                tracing::warn!(interface, %to, %error, "cannot send a DHCP answer");
            }
        }
        if outcome.journal.is_noise() {
            tracing::debug!(interface, "{}", outcome.journal);
        } else {
            tracing::info!(interface, "{}", outcome.journal);
        }
        if let Some(watch) = &self.watch {
            watch.decided(&outcome, wall_clock());
        }
    }

    async fn send(&self, socket: &UdpSocket, reply: &Reply) -> std::io::Result<()> {
        let local = self.interface.address;
        let index = self.interface.index;
        let to = match reply.destination {
            Destination::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
            Destination::Unicast(to) => to,
            Destination::BeforeArp { hardware, address } => {
                let to = SocketAddrV4::new(address, CLIENT_PORT);
                if let Some(mac) = hardware.mac() {
                    let from = SocketAddrV4::new(local, DHCP_PORT);
                    let payload = reply.bytes.clone();
                    return self.raw.send_udp(mac, &UdpPacket { from, to, payload });
                }
                SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
            }
        };
        socket.async_io(Interest::WRITABLE, || udp::send(socket, &reply.bytes, to, index, local)).await
    }
}

fn listen(interface: &Interface, port: u16, shared: bool) -> Result<UdpSocket, Error> {
    // The any address: broadcasts of clients without an address arrive nowhere else.
    let local = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    let address = SocketAddr::V4(local);
    let socket = udp::open(UdpOptions { local, interface: Some(&interface.name), shared });
    let socket = socket.map_err(|error| match error {
        gravure_linux::Error::Io { source, .. } => Error::listen(SERVICE, address, source),
        other => Error::Kernel(other),
    })?;
    backlog::widen(SERVICE, &socket);
    let socket = socket.set_nonblocking(true).and_then(|()| UdpSocket::from_std(socket));
    socket.map_err(|source| Error::listen(SERVICE, address, source))
}

/// Leases are kept over restarts, so their times are of the wall clock.
fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
