//! The client's states (RFC 2131 figure 5): selecting, requesting, bound, renewing, rebinding.

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;

use super::grant::Grant;
use super::pace::{Chance, Pace};
use crate::Millis;
use crate::dhcp::{Composer, Direction, HardwareAddress, Head, MachineUuid, Message, MessageKind, code};

/// Longest message we take; one Ethernet frame.
const OUR_LIMIT: usize = 1472;
/// RFC 2131 section 4.4.5: renewals are not repeated more often than once a minute.
const RENEWAL_SPACING: Duration = Duration::from_secs(60);
/// What we would like to be told.
const PARAMETERS: [u8; 11] = [
    code::SUBNET_MASK,
    code::STATIC_ROUTES,
    code::ROUTER,
    code::DNS,
    code::HOST_NAME,
    code::DOMAIN_NAME,
    code::INTERFACE_MTU,
    code::BROADCAST,
    code::NTP,
    code::SERVER_IDENTIFIER,
    code::TFTP_SERVER,
];

/// Settings of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// The interface's address.
    pub hardware: HardwareAddress,
    /// The machine's UUID, sent as option 97 so that the server knows it from firmware and from us alike.
    pub uuid: Option<MachineUuid>,
    /// Option 60.
    pub vendor_class: Option<String>,
    /// Option 12.
    pub host_name: Option<String>,
    /// Option 61. Without it the server goes by the link-layer address, as it did for the firmware.
    pub identifier: Option<Vec<u8>>,
    /// An address to ask for first, such as the one the firmware had.
    pub requested: Option<Ipv4Addr>,
    /// How answers can reach us.
    pub replies: Replies,
    /// Waiting times.
    pub pace: Pace,
    /// Randomness for transaction ids and waits; a different one for every client.
    pub seed: u64,
}

impl ClientConfig {
    /// The defaults for the interface `hardware`.
    #[must_use]
    pub fn new(hardware: HardwareAddress, seed: u64) -> Self {
        Self {
            hardware,
            uuid: None,
            vendor_class: None,
            host_name: None,
            identifier: None,
            requested: None,
            replies: Replies::Broadcast,
            pace: Pace::default(),
            seed,
        }
    }
}

/// How answers can reach an interface that has no address yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// Only by broadcast: an ordinary UDP socket. Sets the broadcast flag.
    Broadcast,
    /// Also in frames for us: a packet socket.
    Unicast,
}

/// What happens to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientInput<'a> {
    /// The link is up: get an address, the same as before if there was one.
    Start,
    /// A UDP payload that arrived on port 68.
    Packet(&'a [u8]),
    /// The deadline has come. Early and late calls do no harm.
    Timeout,
    /// Somebody else answers for the granted address (ARP): give it up and get another.
    Conflict,
    /// Give the address back and stop.
    Release,
}

/// What to do now. The event comes first: after [`Event::Lost`] the interface has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOutput {
    /// What happened.
    pub event: Option<Event>,
    /// What to send, and whereto (port 67).
    pub send: Option<(Vec<u8>, ClientTarget)>,
    /// When to call with [`ClientInput::Timeout`]; `None` when nothing is awaited.
    pub deadline: Option<Millis>,
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTarget {
    /// From 0.0.0.0 (or our address, while rebinding) to 255.255.255.255.
    Broadcast,
    /// From our address to this server.
    Unicast(Ipv4Addr),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An address is ours.
    Bound(Box<Grant>),
    /// The lease goes on; parameters may have changed.
    Renewed(Box<Grant>),
    /// The address is no longer ours.
    Lost(LostBecause),
}

/// Why an address was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostBecause {
    /// The server refused to renew it, with this text.
    Refused(String),
    /// Nobody renewed it in time.
    Expired,
    /// Somebody else uses it.
    Conflict,
    /// We gave it back.
    Released,
}

impl fmt::Display for LostBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) if text.is_empty() => write!(f, "the server refused it"),
            Self::Refused(text) => write!(f, "the server refused it: {text}"),
            Self::Expired => write!(f, "no server renewed it in time"),
            Self::Conflict => write!(f, "another machine uses it"),
            Self::Released => write!(f, "given back"),
        }
    }
}

/// A DHCP client.
#[derive(Debug, Clone)]
pub struct DhcpClient {
    config: ClientConfig,
    chance: Chance,
    state: State,
    /// When the present effort began, for `secs`.
    began: Millis,
    /// Refusals in a row; spaces out fresh starts.
    refusals: u32,
    deadline: Option<Millis>,
}

#[derive(Debug, Clone)]
enum State {
    /// Nothing is wanted, or a fresh start waits for its deadline.
    Idle {
        restart: bool,
    },
    Selecting {
        xid: u32,
        sent: u32,
    },
    Requesting {
        xid: u32,
        sent: u32,
        first_sent: Millis,
        offer: Box<Grant>,
    },
    Bound {
        grant: Box<Grant>,
    },
    Renewing {
        xid: u32,
        sent_at: Millis,
        grant: Box<Grant>,
    },
    Rebinding {
        xid: u32,
        sent_at: Millis,
        grant: Box<Grant>,
    },
}

impl DhcpClient {
    /// A client that does nothing before [`ClientInput::Start`].
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self {
            chance: Chance::new(config.seed),
            state: State::Idle { restart: false },
            began: Millis(0),
            refusals: 0,
            deadline: None,
            config,
        }
    }

    /// The lease, while there is one.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        match &self.state {
            State::Bound { grant } | State::Renewing { grant, .. } | State::Rebinding { grant, .. } => {
                Some(grant)
            }
            State::Idle { .. } | State::Selecting { .. } | State::Requesting { .. } => None,
        }
    }

    /// Takes one input.
    pub fn on(&mut self, input: ClientInput<'_>, now: Millis) -> ClientOutput {
        match input {
            ClientInput::Start => {
                if let Some(address) = self.grant().map(|grant| grant.address) {
                    self.config.requested = Some(address);
                }
                self.refusals = 0;
                self.discover(None, now)
            }
            ClientInput::Timeout if self.deadline.is_some_and(|deadline| now >= deadline) => {
                self.timeout(now)
            }
            ClientInput::Timeout => self.idle(),
            ClientInput::Packet(bytes) => match Message::parse(bytes) {
                Ok(message) => self.message(&message, now),
                Err(_) => self.idle(),
            },
            ClientInput::Conflict => self.conflict(now),
            ClientInput::Release => self.release(now),
        }
    }

    // ---- packets in -----------------------------------------------------------------------------------------------

    fn message(&mut self, message: &Message, now: Millis) -> ClientOutput {
        let xid = match &self.state {
            State::Selecting { xid, .. }
            | State::Requesting { xid, .. }
            | State::Renewing { xid, .. }
            | State::Rebinding { xid, .. } => *xid,
            State::Idle { .. } | State::Bound { .. } => return self.idle(),
        };
        let head = &message.head;
        if head.direction != Direction::Reply || head.xid != xid || head.hardware != self.config.hardware {
            return self.idle();
        }
        match (message.kind(), &self.state) {
            (Some(MessageKind::Offer), State::Selecting { .. }) => match Grant::of(message, now) {
                Some(offer) => self.take_offer(offer, xid, now),
                None => self.idle(),
            },
            (Some(MessageKind::Ack), State::Requesting { first_sent, offer, .. }) => {
                match Grant::of(message, *first_sent).filter(|grant| grant.server == offer.server) {
                    Some(grant) => self.bind(grant, Event::Bound),
                    None => self.idle(),
                }
            }
            (
                Some(MessageKind::Ack),
                State::Renewing { sent_at, grant: old, .. } | State::Rebinding { sent_at, grant: old, .. },
            ) => match Grant::of(message, *sent_at).filter(|grant| grant.address == old.address) {
                Some(grant) => self.bind(grant, Event::Renewed),
                None => self.idle(),
            },
            (Some(MessageKind::Nak), State::Requesting { offer, .. }) if names(message, offer.server) => {
                self.start_over(None, now)
            }
            (Some(MessageKind::Nak), State::Renewing { grant, .. }) if names(message, grant.server) => {
                self.refused(message, now)
            }
            (Some(MessageKind::Nak), State::Rebinding { .. }) => self.refused(message, now),
            _ => self.idle(),
        }
    }

    fn take_offer(&mut self, offer: Grant, xid: u32, now: Millis) -> ClientOutput {
        self.state = State::Requesting { xid, sent: 0, first_sent: now, offer: Box::new(offer) };
        self.request(now)
    }

    fn bind(&mut self, grant: Grant, event: fn(Box<Grant>) -> Event) -> ClientOutput {
        self.refusals = 0;
        self.config.requested = Some(grant.address);
        self.deadline = (grant.renew_at != Millis::NEVER).then_some(grant.renew_at);
        self.state = State::Bound { grant: Box::new(grant.clone()) };
        ClientOutput { event: Some(event(Box::new(grant))), send: None, deadline: self.deadline }
    }

    fn refused(&mut self, message: &Message, now: Millis) -> ClientOutput {
        let text = message.options.text(code::MESSAGE).unwrap_or_default();
        let text = text.chars().filter(|sign| !sign.is_control()).collect();
        self.start_over(Some(LostBecause::Refused(text)), now)
    }

    // ---- time passes ----------------------------------------------------------------------------------------------

    fn timeout(&mut self, now: Millis) -> ClientOutput {
        match &self.state {
            State::Idle { restart: true } => self.discover(None, now),
            State::Idle { restart: false } => self.idle(),
            State::Selecting { .. } => self.repeat_discover(now),
            State::Requesting { sent, .. } if *sent >= self.config.pace.request_tries => {
                self.discover(None, now)
            }
            State::Requesting { .. } => self.request(now),
            State::Bound { grant } | State::Renewing { grant, .. } if now < grant.rebind_at => {
                let (grant, until) = (grant.clone(), grant.rebind_at);
                let target = ClientTarget::Unicast(grant.server);
                let (xid, send) = self.renewal(&grant, target, now);
                self.state = State::Renewing { xid, sent_at: now, grant };
                self.after_renewal(send, until, now)
            }
            State::Bound { grant } | State::Renewing { grant, .. } | State::Rebinding { grant, .. }
                if now < grant.expires =>
            {
                let (grant, until) = (grant.clone(), grant.expires);
                let (xid, send) = self.renewal(&grant, ClientTarget::Broadcast, now);
                self.state = State::Rebinding { xid, sent_at: now, grant };
                self.after_renewal(send, until, now)
            }
            State::Bound { .. } | State::Renewing { .. } | State::Rebinding { .. } => {
                self.discover(Some(Event::Lost(LostBecause::Expired)), now)
            }
        }
    }

    /// RFC 2131 section 4.4.5: half of what is left, but not more than once a minute.
    fn after_renewal(&mut self, send: (Vec<u8>, ClientTarget), until: Millis, now: Millis) -> ClientOutput {
        let left = until.since(now);
        let half = left.checked_div(2).unwrap_or_default();
        self.deadline = Some(now.after(half.max(RENEWAL_SPACING).min(left)));
        ClientOutput { event: None, send: Some(send), deadline: self.deadline }
    }

    // ---- the other side -------------------------------------------------------------------------------------------

    fn conflict(&mut self, now: Millis) -> ClientOutput {
        let Some(grant) = self.grant().cloned() else { return self.idle() };
        let xid = self.chance.xid();
        let mut composer = self.compose(MessageKind::Decline, xid, now);
        composer.need(code::REQUESTED_ADDRESS, &grant.address.octets());
        composer.need(code::SERVER_IDENTIFIER, &grant.server.octets());
        self.config.requested = None;
        self.state = State::Idle { restart: true };
        self.deadline = Some(now.after(self.config.pace.after_conflict));
        let event = Some(Event::Lost(LostBecause::Conflict));
        ClientOutput { event, send: finish(composer, ClientTarget::Broadcast), deadline: self.deadline }
    }

    fn release(&mut self, now: Millis) -> ClientOutput {
        let grant = self.grant().cloned();
        self.state = State::Idle { restart: false };
        self.deadline = None;
        let Some(grant) = grant else { return self.idle() };
        let xid = self.chance.xid();
        let mut composer = self.compose(MessageKind::Release, xid, now);
        composer.head().ciaddr = grant.address;
        composer.head().broadcast = false;
        composer.need(code::SERVER_IDENTIFIER, &grant.server.octets());
        let event = Some(Event::Lost(LostBecause::Released));
        ClientOutput { event, send: finish(composer, ClientTarget::Unicast(grant.server)), deadline: None }
    }

    // ---- packets out ----------------------------------------------------------------------------------------------

    fn discover(&mut self, event: Option<Event>, now: Millis) -> ClientOutput {
        self.began = now;
        self.state = State::Selecting { xid: self.chance.xid(), sent: 0 };
        ClientOutput { event, ..self.repeat_discover(now) }
    }

    fn repeat_discover(&mut self, now: Millis) -> ClientOutput {
        let State::Selecting { xid, sent } = &mut self.state else { return self.idle() };
        *sent = sent.saturating_add(1);
        let (xid, sent) = (*xid, *sent);
        let mut composer = self.compose(MessageKind::Discover, xid, now);
        if let Some(address) = self.config.requested {
            composer.need(code::REQUESTED_ADDRESS, &address.octets());
        }
        self.deadline = Some(now.after(self.config.pace.wait(sent, &mut self.chance)));
        ClientOutput { event: None, send: finish(composer, ClientTarget::Broadcast), deadline: self.deadline }
    }

    fn request(&mut self, now: Millis) -> ClientOutput {
        let State::Requesting { xid, sent, offer, .. } = &mut self.state else { return self.idle() };
        *sent = sent.saturating_add(1);
        let (xid, sent, address, server) = (*xid, *sent, offer.address, offer.server);
        let mut composer = self.compose(MessageKind::Request, xid, now);
        composer.need(code::REQUESTED_ADDRESS, &address.octets());
        composer.need(code::SERVER_IDENTIFIER, &server.octets());
        self.deadline = Some(now.after(self.config.pace.wait(sent, &mut self.chance)));
        ClientOutput { event: None, send: finish(composer, ClientTarget::Broadcast), deadline: self.deadline }
    }

    /// A REQUEST for an address in use: `ciaddr` set, neither option 50 nor 54 (RFC 2131 table 4).
    fn renewal(
        &mut self,
        grant: &Grant,
        target: ClientTarget,
        now: Millis,
    ) -> (u32, (Vec<u8>, ClientTarget)) {
        let xid = self.chance.xid();
        if matches!(self.state, State::Bound { .. }) {
            self.began = now;
        }
        let mut composer = self.compose(MessageKind::Request, xid, now);
        composer.head().ciaddr = grant.address;
        // With an address in use, answers find us without a broadcast.
        composer.head().broadcast = false;
        let bytes = finish(composer, target).map(|(bytes, _)| bytes).unwrap_or_default();
        (xid, (bytes, target))
    }

    /// Waits a little, longer after each refusal, and starts over.
    fn start_over(&mut self, lost: Option<LostBecause>, now: Millis) -> ClientOutput {
        self.refusals = self.refusals.saturating_add(1);
        self.config.requested = None;
        self.state = State::Idle { restart: true };
        self.deadline = Some(now.after(self.config.pace.wait(self.refusals, &mut self.chance)));
        ClientOutput { event: lost.map(Event::Lost), send: None, deadline: self.deadline }
    }

    fn compose(&self, kind: MessageKind, xid: u32, now: Millis) -> Composer {
        let config = &self.config;
        let head = Head {
            direction: Direction::Request,
            hardware: config.hardware,
            hops: 0,
            xid,
            secs: u16::try_from(now.since(self.began).as_secs()).unwrap_or(u16::MAX),
            broadcast: config.replies == Replies::Broadcast,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
        };
        let mut composer = Composer::new(head, kind);
        if let Some(identifier) = &config.identifier {
            composer.need(code::CLIENT_IDENTIFIER, identifier);
        }
        if let Some(uuid) = config.uuid {
            let mut value = vec![0];
            value.extend(uuid.wire_bytes());
            composer.need(code::CLIENT_MACHINE, &value);
        }
        if matches!(kind, MessageKind::Discover | MessageKind::Request) {
            let limit = u16::try_from(OUR_LIMIT).unwrap_or(u16::MAX);
            composer.need(code::MAX_MESSAGE_SIZE, &limit.to_be_bytes());
            composer.need(code::PARAMETER_REQUEST, &PARAMETERS);
            for (code, text) in
                [(code::VENDOR_CLASS, &config.vendor_class), (code::HOST_NAME, &config.host_name)]
            {
                if let Some(text) = text {
                    composer.wish(code, text.as_bytes());
                }
            }
        }
        composer
    }

    fn idle(&self) -> ClientOutput {
        ClientOutput { event: None, send: None, deadline: self.deadline }
    }
}

/// The packet and its target; `None` only for settings too long for one packet.
fn finish(composer: Composer, target: ClientTarget) -> Option<(Vec<u8>, ClientTarget)> {
    composer.finish(OUR_LIMIT).map(|composed| (composed.bytes, target))
}

/// Whether a server's message is from `server`; one that does not name itself is taken at its word.
fn names(message: &Message, server: Ipv4Addr) -> bool {
    message.options.address(code::SERVER_IDENTIFIER).is_none_or(|named| named == server)
}
