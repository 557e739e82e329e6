//! The socket of DHCPv6 on one interface; decisions by `gravure_netboot::dhcp6`.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use gravure_netboot::dhcp::BootPolicy;
use gravure_netboot::dhcp6::{Dhcp6Config, MAX_PACKET_BYTES, MessageKind6, reply};
use gravure_netboot::{Admission, Millis, Stage, Throttle};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::{Error, Interface6, NoteKind, Presence, Seen, backlog};

const SERVICE: &str = "DHCPv6";
const SERVER_PORT: u16 = 547;
/// RFC 8415 section 7.1: where clients and relays of a link find every server.
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// How long an address holds without being asked for again. It is the same at each boot anyway.
pub const LIFETIME_SECONDS: u32 = 3600;

/// The service on one interface, listening but not yet answering.
pub struct Service {
    interface: Interface6,
    config: Dhcp6Config,
    policy: Arc<dyn BootPolicy + Send + Sync>,
    presence: Arc<Presence>,
    socket: UdpSocket,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dhcp6::Service({})", self.interface.name)
    }
}

impl Service {
    /// Takes the port on `interface`.
    pub fn open(
        interface: Interface6,
        policy: Arc<dyn BootPolicy + Send + Sync>,
        presence: Arc<Presence>,
    ) -> Result<Self, Error> {
        let local = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0));
        let open = || -> io::Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_only_v6(true)?;
            // Several interfaces have a socket each.
            socket.set_reuse_address(true)?;
            socket.bind_device(Some(interface.name.as_bytes()))?;
            socket.join_multicast_v6(&ALL_SERVERS, interface.index)?;
            socket.set_nonblocking(true)?;
            socket.bind(&local.into())?;
            backlog::widen(SERVICE, &socket);
            UdpSocket::from_std(socket.into())
        };
        let socket = open().map_err(|source| Error::listen(SERVICE, local, source))?;
        let config = Dhcp6Config {
            server: interface.address,
            hardware: interface.mac,
            lifetime_seconds: LIFETIME_SECONDS,
            dns: Vec::new(),
        };
        Ok(Self { interface, config, policy, presence, socket })
    }

    /// Answers for ever; end it by dropping the future.
    pub async fn run(self) {
        let mut buf = vec![0; MAX_PACKET_BYTES];
        let (mut throttle, started) = (Throttle::default(), std::time::Instant::now());
        loop {
            let (len, from) = match self.socket.recv_from(&mut buf).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(interface = self.interface.name, %error, "DHCPv6 receive");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    continue;
                }
            };
            let SocketAddr::V6(from) = from else { continue };
            let packet = buf.get(..len).unwrap_or_default();
            let client = client_address(packet, *from.ip());
            match throttle.admit(&client.octets(), Millis(millis(started.elapsed()))) {
                Admission::Answer => self.answer(packet, from).await,
                Admission::RefuseAndSay => tracing::warn!(
                    interface = self.interface.name,
                    %client,
                    "a client asks by DHCPv6 without end and is not answered for some seconds"
                ),
                Admission::Refuse => {}
            }
        }
    }

    async fn answer(&self, packet: &[u8], from: SocketAddrV6) {
        let interface = self.interface.name.as_str();
        let outcome = reply(&self.config, &*self.policy, packet, *from.ip());
        if outcome.journal.is_noise() {
            tracing::debug!(interface, "{}", outcome.journal);
        } else {
            tracing::info!(interface, "{}", outcome.journal);
        }
        if let Some(mac) = outcome.restarted.and_then(|hardware| hardware.mac()) {
            let ended = self.presence.restarted(mac);
            if ended > 0 {
                tracing::debug!(interface, ended, "ended connections of the machine's last boot");
            }
        }
        if let Some((client, address)) = &outcome.sighting
            && let Some(mac) = client.hardware.mac()
        {
            // The UUID in a DUID is firmware's and need not be that of SMBIOS, so it names nobody here.
            self.presence.saw((*address).into(), Seen { mac, uuid: None });
            self.presence.saw_class((*address).into(), client.vendor_class.as_deref());
            if let Some(journal) = self.presence.journal().filter(|_| client.boots()) {
                journal.note(mac, NoteKind::Dhcp, &outcome.journal.to_string(), None);
                // The address is the machine's with this answer, and the boot file is asked for next.
                let given = outcome.journal.decided.as_ref().ok().filter(|given| given.boot.is_ok());
                if given.is_some_and(|given| given.kind == MessageKind6::Reply) {
                    journal.reached(mac, Stage::Address);
                }
            }
        }
        if let Some(bytes) = outcome.reply
            && let Err(error) = self.socket.send_to(&bytes, from).await
        {
            tracing::warn!(interface, to = %from, %error, "cannot send a DHCPv6 answer");
        }
    }
}

/// Who asks: the sender, or for a relayed message the one it got it from (RFC 8415, section 9).
fn client_address(packet: &[u8], from: Ipv6Addr) -> Ipv6Addr {
    const RELAY_FORWARD: u8 = 12;
    match (packet.first(), packet.get(18..34).and_then(|peer| peer.first_chunk::<16>())) {
        (Some(&RELAY_FORWARD), Some(peer)) => Ipv6Addr::from(*peer),
        _ => from,
    }
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
