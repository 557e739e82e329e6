//! The DHCP and ProxyDHCP decision: one packet and a moment in, at most one packet and a journal entry out.
//!
//! RFC 2131 section 4.3 for addresses, PXE 2.1 section 2 for proxies and port 4011, RFC 3046/3527/5107 for relays. How
//! a reply is filled stands in `answer`, where it goes in `delivery`.

use core::net::Ipv4Addr;
use core::time::Duration;

use super::answer::Answer;
use super::client::{BootClient, ClientClass, Loader};
use super::config::{Authority, DhcpConfig, DhcpMode, FullDhcp, Identify, MIN_LEASE, ProxyStyle, Subnet};
use super::delivery::{Reply, destination};
use super::journal::{
    Decided, Given, IgnoredBecause, JournalEntry, LeaseChange, NoBoot, Note, RefusedBecause, Saw,
};
use super::lease::{AddressRequest, ClientKey, LeaseStore, Standing};
use super::message::{Direction, HardwareAddress, Message, MessageKind, sub_options};
use super::offer::{BootFile, decide_boot};
use super::policy::BootPolicy;
use super::{client::MachineUuid, code};
use crate::Millis;

/// RFC 1542 section 4.1.1: a message that passed more relays goes in circles.
const MAX_HOPS: u8 = 16;

/// Where a packet came from and which of our ports took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketSource {
    /// Source address.
    pub address: Ipv4Addr,
    /// Source port.
    pub port: u16,
    /// Our port.
    pub arrived_on: ServerPort,
}

/// The two ports of a boot server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerPort {
    /// 67: DHCP and ProxyDHCP.
    Dhcp,
    /// 4011: the second phase of ProxyDHCP.
    BootServer,
}

/// What to do about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub reply: Option<Reply>,
    /// The decision, explained.
    pub journal: JournalEntry,
    /// This machine has just begun to boot: its connections and transfers of the last boot are dead.
    pub restarted: Option<HardwareAddress>,
    /// This machine uses this address, so that requests by TFTP and HTTP can be told apart.
    pub sighting: Option<Sighting>,
}

/// A machine seen with an address, also one that another server gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The machine.
    pub hardware: HardwareAddress,
    /// Its UUID, if it told.
    pub uuid: Option<MachineUuid>,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Decides about `packet`, which arrived `from` somewhere at `now`.
///
/// `config` must have passed [`DhcpConfig::check`]. `leases` is not touched in proxy mode.
pub fn reply(
    config: &DhcpConfig,
    policy: &dyn BootPolicy,
    leases: &mut dyn LeaseStore,
    packet: &[u8],
    from: PacketSource,
    now: Millis,
) -> Outcome {
    let ignored = |saw, why| Outcome {
        reply: None,
        journal: JournalEntry { saw, decided: Decided::Ignored(why), notes: Vec::new() },
        restarted: None,
        sighting: None,
    };
    let message = match Message::parse(packet) {
        Ok(message) => message,
        Err(error) => return ignored(None, IgnoredBecause::Unreadable(error)),
    };
    let kind = match (message.head.direction, message.kind()) {
        (Direction::Request, Some(kind)) if is_from_client(kind) => kind,
        _ => return ignored(None, IgnoredBecause::NotARequest),
    };
    let client = BootClient::of(&message);
    let saw = Some(Saw { kind, port: from.arrived_on, xid: message.head.xid, client: client.clone() });
    if message.head.hops > MAX_HOPS {
        return ignored(saw, IgnoredBecause::TooManyHops(message.head.hops));
    }
    let Some(key) = client_key(config.identify, &message) else {
        return ignored(saw, IgnoredBecause::Anonymous);
    };
    let mut exchange =
        Exchange { config, policy, message: &message, client: &client, key, from, now, notes: Vec::new() };
    exchange.notes.extend(message.defect.map(Note::Damaged));
    if client.architectures.len() > 1 {
        exchange.notes.push(Note::ManyArchitectures(client.architectures.len()));
    }
    let (decided, reply) = match (from.arrived_on, &config.mode) {
        (ServerPort::BootServer, _) => exchange.boot_server(kind),
        (ServerPort::Dhcp, DhcpMode::Proxy) => exchange.proxy(kind),
        (ServerPort::Dhcp, DhcpMode::Full(full)) => exchange.full(kind, full, leases),
    }
    .unwrap_or_else(|why| (Decided::Ignored(why), None));
    Outcome {
        restarted: (kind == MessageKind::Discover && client.boots()).then_some(client.hardware),
        sighting: sighting(kind, &client, &decided),
        journal: JournalEntry { saw, decided, notes: exchange.notes },
        reply,
    }
}

fn is_from_client(kind: MessageKind) -> bool {
    !matches!(kind, MessageKind::Offer | MessageKind::Ack | MessageKind::Nak)
}

fn client_key(identify: Identify, message: &Message) -> Option<ClientKey> {
    let identifier = message.options.get(code::CLIENT_IDENTIFIER).filter(|bytes| !bytes.is_empty());
    let identifier = || identifier.map(|bytes| ClientKey::Identifier(bytes.to_vec()));
    let hardware =
        || message.head.hardware.identifies().then_some(ClientKey::Hardware(message.head.hardware));
    match identify {
        Identify::Hardware => hardware().or_else(identifier),
        Identify::ClientIdentifier => identifier().or_else(hardware),
    }
}

/// A client that renews, informs, or has just been told its address uses that address. The address of a REQUEST counts
/// even when another server will answer it: that is how a proxy learns who is who.
fn sighting(kind: MessageKind, client: &BootClient, decided: &Decided) -> Option<Sighting> {
    let address = match decided {
        Decided::Answered { kind: MessageKind::Ack, address: Some(address), .. } => Some(*address),
        Decided::Refused { .. } => None,
        _ if matches!(kind, MessageKind::Request | MessageKind::Inform) => client.address,
        _ => None,
    }?;
    Some(Sighting { hardware: client.hardware, uuid: client.uuid, address })
}

type Decision = Result<(Decided, Option<Reply>), IgnoredBecause>;

/// One packet under decision.
struct Exchange<'a> {
    config: &'a DhcpConfig,
    policy: &'a dyn BootPolicy,
    message: &'a Message,
    client: &'a BootClient,
    key: ClientKey,
    from: PacketSource,
    now: Millis,
    notes: Vec<Note>,
}

/// What an answer says besides its boot file.
#[derive(Clone, Copy)]
struct Address<'a> {
    subnet: &'a Subnet,
    /// `None` answers an INFORM: parameters without a lease.
    lease: Option<(Ipv4Addr, Duration)>,
}

impl<'m> Exchange<'m> {
    // ---- beside another DHCP server -------------------------------------------------------------------------------

    fn proxy(&mut self, kind: MessageKind) -> Decision {
        match kind {
            MessageKind::Discover => {
                let file = self.boot().map_err(IgnoredBecause::NotForUs)?;
                // iPXE and HTTP boot know no second phase worth the round trip.
                let may_wait =
                    self.client.class == ClientClass::Pxe && self.client.loader == Loader::Firmware;
                let style = file.quirks.proxy_style.unwrap_or(self.config.proxy_style);
                let complete = !(may_wait && style == ProxyStyle::TwoPhase);
                self.answer_proxy(MessageKind::Offer, &file, complete)
            }
            MessageKind::Request => match self.chosen_server() {
                Some(server) if self.is_us(server) => self.boot_server(kind),
                Some(server) => Err(IgnoredBecause::OtherServerChosen(server)),
                None => Err(IgnoredBecause::UnknownLease),
            },
            _ => Err(IgnoredBecause::UnknownLease),
        }
    }

    /// Port 4011, and REQUESTs that name us as a proxy.
    fn boot_server(&mut self, kind: MessageKind) -> Decision {
        if !matches!(kind, MessageKind::Request | MessageKind::Inform) {
            return Err(IgnoredBecause::UnknownLease);
        }
        let file = self.boot().map_err(IgnoredBecause::NotForUs)?;
        self.answer_proxy(MessageKind::Ack, &file, true)
    }

    fn answer_proxy(&mut self, kind: MessageKind, file: &BootFile, complete: bool) -> Decision {
        let mut answer = self.answer(kind);
        answer.composer.head().ciaddr = self.message.head.ciaddr;
        answer.boot_class(self.client.class);
        answer.pxe_menu(kind == MessageKind::Offer && complete);
        if complete {
            answer.boot_file(file, &mut self.notes);
        }
        let decided = Decided::Answered { kind, address: None, boot: Ok(file.given(complete)) };
        self.send(answer, decided, kind)
    }

    // ---- full DHCP ------------------------------------------------------------------------------------------------

    fn full(&mut self, kind: MessageKind, full: &FullDhcp, leases: &mut dyn LeaseStore) -> Decision {
        let link = self.link();
        let subnet = full.subnet_of(link).ok_or(IgnoredBecause::NoNetwork(link))?;
        match kind {
            MessageKind::Discover => self.discover(subnet, leases),
            MessageKind::Request => self.request(subnet, full.authority, leases),
            MessageKind::Inform => self.answer_address(MessageKind::Ack, Address { subnet, lease: None }),
            MessageKind::Release => {
                let address = self.message.head.ciaddr;
                let known = leases.release(&self.key, address, self.now);
                known.then_some(()).ok_or(IgnoredBecause::UnknownLease)?;
                Ok((Decided::Noted(LeaseChange::Released(address)), None))
            }
            MessageKind::Decline => {
                let address = self.requested().ok_or(IgnoredBecause::NoAddress)?;
                let known = leases.decline(&self.key, address, self.now);
                known.then_some(()).ok_or(IgnoredBecause::UnknownLease)?;
                Ok((Decided::Noted(LeaseChange::Declined(address)), None))
            }
            MessageKind::Offer | MessageKind::Ack | MessageKind::Nak => Err(IgnoredBecause::NotARequest),
        }
    }

    fn discover(&mut self, subnet: &Subnet, leases: &mut dyn LeaseStore) -> Decision {
        let picked = leases.reserve(&self.ask(subnet), self.now);
        let address = picked.ok_or(IgnoredBecause::PoolExhausted)?;
        self.answer_address(
            MessageKind::Offer,
            Address { subnet, lease: Some((address, self.lease(subnet))) },
        )
    }

    /// RFC 2131 section 4.3.2: SELECTING names a server, INIT-REBOOT an address, RENEWING and REBINDING use one.
    fn request(&mut self, subnet: &Subnet, authority: Authority, leases: &mut dyn LeaseStore) -> Decision {
        let chosen = self.chosen_server();
        if let Some(server) = chosen.filter(|server| !self.is_us(*server)) {
            leases.withdraw(&self.key);
            return Err(IgnoredBecause::OtherServerChosen(server));
        }
        let ciaddr = self.message.head.ciaddr;
        let in_use = (!ciaddr.is_unspecified()).then_some(ciaddr);
        let address = self.requested().or(in_use).ok_or(IgnoredBecause::NoAddress)?;
        let standing = leases.standing(&self.ask(subnet), address, self.now);
        // What another server may have given is left alone, unless we are the only one or were named.
        let ours = chosen.is_some() || authority == Authority::Sole;
        let refusal = match standing {
            Standing::Own => None,
            Standing::Free if ours => None,
            Standing::Free => return Err(IgnoredBecause::UnknownLease),
            Standing::Taken => Some(RefusedBecause::Taken),
            Standing::Outside if !ours => return Err(IgnoredBecause::UnknownLease),
            Standing::Outside if subnet.network.contains(address) => Some(RefusedBecause::Outside),
            Standing::Outside => Some(RefusedBecause::WrongNetwork),
        };
        if let Some(why) = refusal {
            return self.refuse(address, why);
        }
        let lease = self.lease(subnet);
        match leases.commit(&self.ask(subnet), address, lease, self.now) {
            Ok(()) => {
                self.answer_address(MessageKind::Ack, Address { subnet, lease: Some((address, lease)) })
            }
            Err(_) => self.refuse(address, RefusedBecause::Taken),
        }
    }

    fn answer_address(&mut self, kind: MessageKind, given: Address<'_>) -> Decision {
        let file = self.boot();
        let mut answer = self.answer(kind);
        if kind == MessageKind::Ack {
            answer.composer.head().ciaddr = self.message.head.ciaddr;
        }
        answer.network(given.subnet, given.lease);
        if let Ok(file) = &file {
            // An address from us makes us the PXE client's only server: no option 60 and 43, it would turn to port 4011.
            if self.client.class == ClientClass::Http {
                answer.boot_class(ClientClass::Http);
            }
            answer.boot_file(file, &mut self.notes);
            if self.client.loader == Loader::Ipxe {
                answer.no_proxy_wait();
            }
        }
        let address = given.lease.map(|(address, _)| address);
        let decided = Decided::Answered { kind, address, boot: file.map(|file| file.given(true)) };
        self.send(answer, decided, kind)
    }

    fn refuse(&mut self, address: Ipv4Addr, why: RefusedBecause) -> Decision {
        let mut answer = self.answer(MessageKind::Nak);
        answer.refusal(why);
        self.send(answer, Decided::Refused { address, why }, MessageKind::Nak)
    }

    // ---- shared ---------------------------------------------------------------------------------------------------

    /// The boot file for this client, or why it gets none.
    fn boot(&self) -> Result<BootFile, NoBoot> {
        decide_boot(self.policy, self.client, self.config.server)
    }

    fn answer(&self, kind: MessageKind) -> Answer<'m> {
        Answer::new(self.message, kind, self.server_identifier())
    }

    fn send(&mut self, mut answer: Answer<'_>, decided: Decided, kind: MessageKind) -> Decision {
        let limit = answer.limit();
        let yiaddr = answer.yiaddr();
        let composed = answer.finish().ok_or(IgnoredBecause::ReplyTooLarge(limit))?;
        if !composed.left_out.is_empty() {
            self.notes.push(Note::LeftOut(composed.left_out));
        }
        let destination = destination(&self.message.head, self.from, kind, yiaddr);
        Ok((decided, Some(Reply { bytes: composed.bytes, destination })))
    }

    fn ask<'b>(&'b self, subnet: &'b Subnet) -> AddressRequest<'b> {
        AddressRequest {
            client: &self.key,
            hardware: &self.client.hardware,
            host_name: self.client.host_name.as_deref(),
            subnet,
            requested: self.requested(),
        }
    }

    fn requested(&self) -> Option<Ipv4Addr> {
        let requested = self.message.options.address(code::REQUESTED_ADDRESS);
        requested.filter(|address| !address.is_unspecified())
    }

    fn chosen_server(&self) -> Option<Ipv4Addr> {
        self.message.options.address(code::SERVER_IDENTIFIER)
    }

    fn is_us(&self, server: Ipv4Addr) -> bool {
        server == self.config.server || server == self.server_identifier()
    }

    /// What we call ourselves: normally our address, for a relay that wants renewals to pass through it, the relay's.
    fn server_identifier(&self) -> Ipv4Addr {
        self.relay_option(code::relay::SERVER_OVERRIDE).unwrap_or(self.config.server)
    }

    fn relay_option(&self, wanted: u8) -> Option<Ipv4Addr> {
        let value = self.message.options.get(code::RELAY_AGENT)?;
        let (_, address) = sub_options(value).find(|(code, _)| *code == wanted)?;
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?))
    }

    /// An address on the link the client sits on: the relay's link selection, the client's own wish, the relay, the
    /// address in use, and without all those our own.
    fn link(&self) -> Ipv4Addr {
        let head = &self.message.head;
        let given = |address: Ipv4Addr| (!address.is_unspecified()).then_some(address);
        self.relay_option(code::relay::LINK_SELECTION)
            .or_else(|| self.message.options.address(code::SUBNET_SELECTION))
            .or_else(|| given(head.giaddr))
            .or_else(|| given(head.ciaddr))
            .unwrap_or(self.config.server)
    }

    /// The configured lease, or what the client asks for if that is less.
    fn lease(&self, subnet: &Subnet) -> Duration {
        let asked = self.message.options.number32(code::LEASE_TIME);
        let asked = asked.map_or(subnet.lease, |seconds| Duration::from_secs(seconds.into()));
        asked.min(subnet.lease).max(MIN_LEASE)
    }
}

impl BootFile {
    fn given(&self, complete: bool) -> Given {
        Given { file: self.name.clone(), rule: self.rule.clone(), next_server: self.next_server, complete }
    }
}
