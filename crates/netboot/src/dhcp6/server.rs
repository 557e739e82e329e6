//! The server's decisions: RFC 8415 section 18.3, with addresses that follow from the machine.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::client::client_of;
use super::code;
use super::message::{Message6, MessageKind6, Options6, Writer};
use crate::Error;
use crate::dhcp::{BootClient, BootFile, BootPolicy, ClientClass, HardwareAddress, NoBoot, decide_boot};

/// Length of the network part, bits: addresses are made of the other 64.
pub const PREFIX_LEN: u8 = 64;
/// Identity associations answered in one message; firmware asks for one.
const MAX_ASSOCIATIONS: usize = 8;
/// Second 16 bits of our addresses' lower half, so that they never meet those that hosts make of their MAC themselves
/// (those have `fffe` in the middle) nor hand-set small numbers.
const MARK: u16 = 0x67;

/// The service on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp6Config {
    /// Our address on this interface; its first 64 bits are the network's.
    pub server: Ipv6Addr,
    /// Link-layer address of the interface: our DUID is made of it.
    pub hardware: [u8; 6],
    /// Seconds an address may be used without asking again.
    pub lifetime_seconds: u32,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
}

impl Dhcp6Config {
    /// The address of the machine with this MAC: the network, a mark, the MAC.
    #[must_use]
    pub fn address_for(&self, mac: [u8; 6]) -> Ipv6Addr {
        let [a, b, c, d, e, f] = mac;
        let [n1, n2, n3, n4, ..] = self.server.segments();
        let pair = |high, low| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(n1, n2, n3, n4, MARK, pair(a, b), pair(c, d), pair(e, f))
    }

    fn duid(&self) -> Vec<u8> {
        [&[0, 3, 0, 1][..], &self.hardware].concat()
    }

    fn is_on_link(&self, address: Ipv6Addr) -> bool {
        address.segments().iter().zip(self.server.segments()).take(4).all(|(one, other)| *one == other)
    }
}

/// What came of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome6 {
    /// The answer, to be sent where the packet came from: port 546 of a client, 547 of a relay.
    pub reply: Option<Vec<u8>>,
    /// The decision in words and data.
    pub journal: JournalEntry6,
    /// The machine and the address it has from now on.
    pub sighting: Option<(BootClient, Ipv6Addr)>,
    /// A machine whose firmware or loader begins to boot: what is left of its last boot is dead.
    pub restarted: Option<HardwareAddress>,
}

/// The decision as data; `Display` gives the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry6 {
    /// The message's type and its sender, as far as they could be read.
    pub saw: Option<(MessageKind6, BootClient)>,
    /// What was answered, or why nothing was.
    pub decided: Result<Given6, Why6>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given6 {
    /// Its type.
    pub kind: MessageKind6,
    /// The address in it.
    pub address: Option<Ipv6Addr>,
    /// Boot file and rule, or why there is none.
    pub boot: Result<(String, String), NoBoot>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why6 {
    /// It could not be read.
    Unreadable(Error),
    /// Nothing in it names a machine.
    Anonymous,
    /// It names another server, or lacks or has an identifier against the rules (RFC 8415 section 16).
    NotForUs,
    /// Not a client's message.
    NotARequest,
    /// Nothing in it that could be answered.
    Empty,
}

/// Decides about one packet that came from `from`.
pub fn reply(config: &Dhcp6Config, policy: &dyn BootPolicy, packet: &[u8], from: Ipv6Addr) -> Outcome6 {
    let silent = |saw, why| Outcome6 {
        reply: None,
        journal: JournalEntry6 { saw, decided: Err(why) },
        sighting: None,
        restarted: None,
    };
    let message = match Message6::parse(packet) {
        Ok(message) => message,
        Err(error) => return silent(None, Why6::Unreadable(error)),
    };
    let Some(client) = client_of(&message, from) else { return silent(None, Why6::Anonymous) };
    let Some(mac) = client.hardware.mac() else { return silent(None, Why6::Anonymous) };
    let saw = Some((message.kind, client.clone()));
    let address = config.address_for(mac);
    let plan = match plan(config, &message, address) {
        Ok(plan) => plan,
        Err(why) => return silent(saw, why),
    };
    let boot = boot_file(config, policy, &client);
    let bytes =
        write(config, &message, &plan, address, boot.as_ref().ok().map(|file| file.0.as_str()), &client);
    let uses_address = matches!(plan.associations, Associations::Give { .. });
    let given = Given6 { kind: plan.kind, address: uses_address.then_some(address), boot };
    Outcome6 {
        reply: Some(bytes),
        journal: JournalEntry6 { saw, decided: Ok(given) },
        restarted: (message.kind == MessageKind6::Solicit && client.boots()).then_some(client.hardware),
        sighting: uses_address.then_some((client, address)),
    }
}

/// What is to be said about the addresses a message names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Associations {
    /// The machine's address; with others that the client named set to end at once.
    Give { ends_others: bool },
    /// One status for the whole message.
    Status(u16, &'static str),
    /// None were asked for.
    Without,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    kind: MessageKind6,
    rapid: bool,
    associations: Associations,
    /// Boot file and other parameters belong into it.
    parameters: bool,
}

fn plan(config: &Dhcp6Config, message: &Message6<'_>, address: Ipv6Addr) -> Result<Plan, Why6> {
    use MessageKind6::{
        Advertise, Confirm, Decline, InformationRequest, Rebind, Release, Renew, Reply, Request, Solicit,
    };
    let options = &message.options;
    let named = options.get(code::SERVER_ID);
    let ours = named.is_some_and(|id| id == config.duid());
    let has_client = options.get(code::CLIENT_ID).is_some();
    let allowed = match message.kind {
        Solicit | Confirm | Rebind => has_client && named.is_none(),
        Request | Renew | Release | Decline => has_client && ours,
        InformationRequest => named.is_none() || ours,
        _ => return Err(Why6::NotARequest),
    };
    if !allowed {
        return Err(Why6::NotForUs);
    }
    let asks = options.get(code::IA_NA).is_some();
    let give = if asks { Associations::Give { ends_others: false } } else { Associations::Without };
    let rapid = options.get(code::RAPID_COMMIT).is_some();
    let reply = |associations| Plan { kind: Reply, rapid: false, associations, parameters: true };
    match message.kind {
        Solicit if rapid => Ok(Plan { rapid, ..reply(give) }),
        Solicit => Ok(Plan { kind: Advertise, ..reply(give) }),
        Request => Ok(reply(give)),
        Renew | Rebind if asks => Ok(reply(Associations::Give { ends_others: true })),
        Confirm => {
            let named: Vec<Ipv6Addr> = options.all(code::IA_NA).flat_map(addresses_in).collect();
            if named.is_empty() {
                return Err(Why6::Empty);
            }
            let (status, text) = if named.iter().all(|address| config.is_on_link(*address)) {
                (code::STATUS_SUCCESS, "good on this link")
            } else {
                (code::STATUS_NOT_ON_LINK, "not of this link")
            };
            Ok(Plan { parameters: false, ..reply(Associations::Status(status, text)) })
        }
        Release | Decline => {
            let known = options.all(code::IA_NA).flat_map(addresses_in).any(|named| named == address);
            let (status, text) = if known {
                (code::STATUS_SUCCESS, "noted")
            } else {
                (code::STATUS_NO_BINDING, "never given to this machine")
            };
            Ok(Plan { parameters: false, ..reply(Associations::Status(status, text)) })
        }
        InformationRequest => Ok(reply(Associations::Without)),
        _ => Err(Why6::Empty),
    }
}

/// Addresses inside an identity association; behind its number and two times.
fn addresses_in(association: &[u8]) -> Vec<Ipv6Addr> {
    let Some((_, options)) = association.split_first_chunk::<12>() else { return Vec::new() };
    let read = |value: &[u8]| value.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes));
    Options6::parse(options).all(code::IA_ADDRESS).filter_map(read).collect()
}

/// The boot file as a URL, and the rule that chose it.
fn boot_file(
    config: &Dhcp6Config,
    policy: &dyn BootPolicy,
    client: &BootClient,
) -> Result<(String, String), NoBoot> {
    // Where plain names are to be had is ours to say: the policy's server is an IPv4 matter.
    let BootFile { name, rule, .. } = decide_boot(policy, client, Ipv4Addr::UNSPECIFIED)?;
    let url = if name.contains("://") { name } else { format!("tftp://[{}]/{name}", config.server) };
    Ok((url, rule))
}

fn write(
    config: &Dhcp6Config,
    message: &Message6<'_>,
    plan: &Plan,
    address: Ipv6Addr,
    boot: Option<&str>,
    client: &BootClient,
) -> Vec<u8> {
    let mut writer = Writer::message(plan.kind, message.xid);
    if let Some(id) = message.options.get(code::CLIENT_ID) {
        writer.option(code::CLIENT_ID, id);
    }
    writer.option(code::SERVER_ID, &config.duid());
    if plan.rapid {
        writer.option(code::RAPID_COMMIT, &[]);
    }
    match plan.associations {
        Associations::Give { ends_others } => {
            for (index, wanted) in message.options.all(code::IA_NA).take(MAX_ASSOCIATIONS).enumerate() {
                writer.option(code::IA_NA, &association(config, wanted, address, index == 0, ends_others));
            }
        }
        Associations::Status(status, text) => writer.option(code::STATUS, &status_value(status, text)),
        Associations::Without => {}
    }
    if plan.parameters {
        if !config.dns.is_empty() {
            let list: Vec<u8> = config.dns.iter().flat_map(Ipv6Addr::octets).collect();
            writer.option(code::DNS, &list);
        }
        if let Some(url) = boot {
            writer.option(code::BOOT_FILE_URL, url.as_bytes());
            // HTTP boot firmware takes no answer without it. To PXE firmware the same option says "a proxy's offer, the
            // address comes from elsewhere", and it gives its address back at once (seen with OVMF).
            if client.class == ClientClass::Http {
                writer.option(code::VENDOR_CLASS, &http_class());
            }
        }
    }
    // From the relay next to the client outwards (RFC 8415 section 19.3).
    message.relays.iter().rev().fold(writer.finish(), |inner, relay| {
        let mut outer = Writer::relay_reply(relay);
        if let Some(mark) = relay.interface {
            outer.option(code::INTERFACE_ID, mark);
        }
        outer.option(code::RELAY_MESSAGE, &inner);
        outer.finish()
    })
}

/// The answer to one identity association. One machine has one address: further associations get none.
fn association(
    config: &Dhcp6Config,
    wanted: &[u8],
    address: Ipv6Addr,
    first: bool,
    ends_others: bool,
) -> Vec<u8> {
    let id = wanted.first_chunk::<4>().copied().unwrap_or_default();
    let lifetime = config.lifetime_seconds;
    let mut value = id.to_vec();
    // T1 at a half, T2 at four fifths (section 21.4).
    let rebind = lifetime.saturating_sub(lifetime.checked_div(5).unwrap_or(0));
    for seconds in [lifetime >> 1, rebind] {
        value.extend(seconds.to_be_bytes());
    }
    let mut inner = Writer::default();
    let mut give = |address: Ipv6Addr, seconds: u32| {
        let mut value = address.octets().to_vec();
        value.extend(seconds.to_be_bytes());
        value.extend(seconds.to_be_bytes());
        inner.option(code::IA_ADDRESS, &value);
    };
    if first {
        give(address, lifetime);
        if ends_others {
            let others = addresses_in(wanted).into_iter().filter(|other| *other != address);
            others.take(MAX_ASSOCIATIONS).for_each(|other| give(other, 0));
        }
    } else {
        inner.option(code::STATUS, &status_value(code::STATUS_NO_ADDRESSES, "one address for a machine"));
    }
    value.extend(inner.finish());
    value
}

fn status_value(status: u16, text: &str) -> Vec<u8> {
    [&status.to_be_bytes()[..], text.as_bytes()].concat()
}

/// `HTTPClient` as a vendor class, to the letter.
fn http_class() -> Vec<u8> {
    let text = b"HTTPClient";
    let len = u16::try_from(text.len()).unwrap_or(0);
    [&code::UEFI_ENTERPRISE.to_be_bytes()[..], &len.to_be_bytes(), text].concat()
}

impl JournalEntry6 {
    /// Whether it is everyday noise that a log of boots can do without.
    #[must_use]
    pub fn is_noise(&self) -> bool {
        let boots = self.saw.as_ref().is_some_and(|(_, client)| client.boots());
        !boots && matches!(self.decided, Err(Why6::NotARequest | Why6::NotForUs | Why6::Empty))
    }
}

impl fmt::Display for JournalEntry6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((kind, client)) = &self.saw {
            write!(f, "saw {kind} by IPv6 from {client}: ")?;
        }
        match &self.decided {
            Ok(given) => write!(f, "{given}"),
            Err(why) => write!(f, "ignored: {why}"),
        }
    }
}

impl fmt::Display for Given6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent {}", self.kind)?;
        if let Some(address) = self.address {
            write!(f, " of {address}")?;
        }
        match &self.boot {
            Ok((file, rule)) => write!(f, " with {file} because of rule \"{rule}\""),
            Err(NoBoot::NotABootClient) => Ok(()),
            Err(why) => write!(f, " without a boot file: {why}"),
        }
    }
}

impl fmt::Display for Why6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::Anonymous => write!(f, "neither its addresses nor its DUID name a link-layer address"),
            Self::NotForUs => write!(f, "meant for another server"),
            Self::NotARequest => write!(f, "not a client's DHCPv6 message"),
            Self::Empty => write!(f, "it names no address"),
        }
    }
}
