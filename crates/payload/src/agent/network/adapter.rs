//! One adapter: cable, DHCP client, packets.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use gravure_linux::link::{Link, Links};
use gravure_linux::packet::{BROADCAST_MAC, PacketSocket, UdpPacket};
use gravure_linux::{Error, kernel};
use gravure_model::messages::Message;
use gravure_netboot::Millis;
use gravure_netboot::dhcp::HardwareAddress;
use gravure_netboot::dhcp_client::{
    ClientConfig, ClientInput, ClientOutput, ClientTarget, DhcpClient, Event, Grant, Replies,
};

use super::{Address, Shared, configure};
use crate::agent::screen::Screen;
use crate::files::chain;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// How often the cable is looked at while nothing else happens.
const LOOK: Duration = Duration::from_secs(3);
/// Wait after an error of the kernel before everything starts anew.
const AFTER_ERROR: Duration = Duration::from_secs(3);

/// Serves the adapter as long as it exists.
pub(super) fn serve(link: &Link, shared: &Shared, screen: &Screen) {
    loop {
        match round(link, shared, screen) {
            Ok(()) => {}
            Err(error) => {
                shared.lose(&link.name);
                shared.waits(&link.name, chain(&error));
                std::thread::sleep(AFTER_ERROR);
            }
        }
    }
}

/// From the cable to the loss of cable or turn.
fn round(link: &Link, shared: &Shared, screen: &Screen) -> Result<(), Error> {
    let mut links = Links::open()?;
    links.set_up(link.index)?;
    while !links.wait_for_carrier(link.index, LOOK)? {
        shared.waits(&link.name, "no cable".to_owned());
    }
    if !shared.may_try(&link.name) {
        shared.waits(&link.name, "another adapter is in use".to_owned());
        std::thread::sleep(LOOK);
        return Ok(());
    }
    shared.waits(&link.name, "no DHCP server answers".to_owned());
    let mut lease = Lease {
        link,
        shared,
        screen,
        links,
        socket: PacketSocket::open(link.index)?,
        client: DhcpClient::new(config(link)),
        granted: None,
    };
    let result = lease.keep();
    // Whatever ended it: an address without a lease must not stay.
    shared.lose(&link.name);
    let cleared = configure::clear(&mut lease.links, link.index);
    result.and(cleared)
}

fn config(link: &Link) -> ClientConfig {
    let mut seed = [0; 8];
    // Without randomness the hardware address still tells machines apart.
    if getrandom::fill(&mut seed).is_err() {
        let [a, b, c, d, e, f] = link.mac.unwrap_or_default();
        seed = [a, b, c, d, e, f, 0, 0];
    }
    let hardware = HardwareAddress::ethernet(link.mac.unwrap_or_default());
    let mut config = ClientConfig::new(hardware, u64::from_le_bytes(seed));
    config.vendor_class = Some("gravure-payload".to_owned());
    config.replies = Replies::Unicast;
    config
}

fn now() -> Millis {
    Millis(u64::try_from(kernel::uptime().as_millis()).unwrap_or(u64::MAX))
}

struct Lease<'a> {
    link: &'a Link,
    shared: &'a Shared,
    screen: &'a Screen,
    links: Links,
    socket: PacketSocket,
    client: DhcpClient,
    granted: Option<Grant>,
}

impl Lease<'_> {
    /// Gets and keeps an address. Ends when the cable is out or another adapter is to be used.
    fn keep(&mut self) -> Result<(), Error> {
        let mut output = self.client.on(ClientInput::Start, now());
        loop {
            let deadline = output.deadline;
            if !self.obey(output)? {
                return Ok(());
            }
            output = loop {
                let wait = deadline.map_or(LOOK, |at| at.since(now()).min(LOOK));
                if let Some((_, packet)) = self.socket.receive_udp(CLIENT_PORT, wait)? {
                    break self.client.on(ClientInput::Packet(&packet.payload), now());
                }
                if deadline.is_some_and(|at| now() >= at) {
                    break self.client.on(ClientInput::Timeout, now());
                }
                if !self.goes_on()? {
                    let output = self.client.on(ClientInput::Release, now());
                    self.obey(output)?;
                    return Ok(());
                }
            };
        }
    }

    /// The cable is in, and it is still this adapter's turn.
    fn goes_on(&mut self) -> Result<bool, Error> {
        let there = self.links.list()?.iter().any(|link| link.index == self.link.index && link.carrier);
        Ok(there && self.shared.may_try(&self.link.name))
    }

    /// Carries out what the client says; false when another adapter was faster.
    fn obey(&mut self, output: ClientOutput) -> Result<bool, Error> {
        match output.event {
            Some(Event::Bound(grant)) => {
                let address = Address {
                    interface: self.link.name.clone(),
                    address: grant.address,
                    prefix_len: grant.network.prefix(),
                    boot_servers: grant.boot_servers.clone(),
                };
                // Before others see the address it must work.
                configure::apply(&mut self.links, self.link.index, &grant)?;
                if !self.shared.claim(address.clone()) {
                    return Ok(false);
                }
                self.screen.say(&Message::NetworkUp {
                    interface: address.interface,
                    address: format!("{}/{}", address.address, address.prefix_len),
                });
                self.granted = Some(*grant);
            }
            Some(Event::Renewed(grant)) => {
                configure::apply(&mut self.links, self.link.index, &grant)?;
                self.granted = Some(*grant);
            }
            Some(Event::Lost(why)) => {
                self.granted = None;
                self.shared.lose(&self.link.name);
                configure::clear(&mut self.links, self.link.index)?;
                self.shared.waits(&self.link.name, format!("the address was lost: {why}"));
            }
            None => {}
        }
        if let Some((bytes, target)) = output.send {
            self.send(bytes, target);
        }
        Ok(true)
    }

    /// Sends a packet. One that cannot be sent is lost like any other: the client repeats it.
    fn send(&self, payload: Vec<u8>, target: ClientTarget) {
        let ours = self.granted.as_ref().map_or(Ipv4Addr::UNSPECIFIED, |grant| grant.address);
        let from = SocketAddrV4::new(ours, CLIENT_PORT);
        let _ = match target {
            ClientTarget::Broadcast => {
                let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
                self.socket.send_udp(BROADCAST_MAC, &UdpPacket { from, to, payload })
            }
            // The kernel finds the server's hardware address; the answer is seen by the packet socket as well.
            ClientTarget::Unicast(server) => UdpSocket::bind(from)
                .and_then(|socket| socket.send_to(&payload, (server, SERVER_PORT)))
                .map(drop),
        };
    }
}
