//! DHCPv6 messages as bytes (RFC 8415 sections 8, 9 and 21.1): reading any, through relays, and writing answers.
//!
//! A damaged option ends the reading, and what stood before it counts, as with DHCPv4.

use core::fmt;
use core::net::Ipv6Addr;

use super::code;
use crate::Error;

/// Longest packet looked at; a client's messages stay below the minimum MTU of 1280.
pub const MAX_PACKET_BYTES: usize = 9216;
/// RFC 8415 section 7.6: HOP_COUNT_LIMIT.
pub(super) const MAX_RELAYS: usize = 8;
/// Options read out of one message; a client sends about ten.
const MAX_OPTIONS: usize = 128;
/// Type and transaction.
const HEADER_BYTES: usize = 4;
/// Type, hop count, link and peer address.
const RELAY_HEADER_BYTES: usize = 34;

const RELAY_FORWARD: u8 = 12;
pub(super) const RELAY_REPLY: u8 = 13;

/// What a message asks or says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind6 {
    /// Looking for servers.
    Solicit,
    /// A server's offer.
    Advertise,
    /// Taking an offer.
    Request,
    /// Are these addresses good here?
    Confirm,
    /// Longer, from the same server.
    Renew,
    /// Longer, from any server.
    Rebind,
    /// A server's answer.
    Reply,
    /// Given back.
    Release,
    /// Found in use by somebody else.
    Decline,
    /// Parameters only.
    InformationRequest,
    /// Anything else.
    Other(u8),
}

impl MessageKind6 {
    const NUMBERS: [(u8, Self, &'static str); 10] = [
        (1, Self::Solicit, "SOLICIT"),
        (2, Self::Advertise, "ADVERTISE"),
        (3, Self::Request, "REQUEST"),
        (4, Self::Confirm, "CONFIRM"),
        (5, Self::Renew, "RENEW"),
        (6, Self::Rebind, "REBIND"),
        (7, Self::Reply, "REPLY"),
        (8, Self::Release, "RELEASE"),
        (9, Self::Decline, "DECLINE"),
        (11, Self::InformationRequest, "INFORMATION-REQUEST"),
    ];

    pub(super) fn of(number: u8) -> Self {
        let known = Self::NUMBERS.iter().find(|(other, ..)| *other == number);
        known.map_or(Self::Other(number), |(_, kind, _)| *kind)
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Other(number) => number,
            known => {
                Self::NUMBERS.iter().find(|(_, kind, _)| *kind == known).map_or(0, |(number, ..)| *number)
            }
        }
    }
}

impl fmt::Display for MessageKind6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "DHCPv6 message {number}"),
            known => {
                let row = Self::NUMBERS.iter().find(|(_, kind, _)| kind == known);
                f.write_str(row.map_or("", |(.., name)| name))
            }
        }
    }
}

/// Options of a message or inside an option, in the order they came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options6<'a> {
    list: Vec<(u16, &'a [u8])>,
    /// Something was left over that is no option.
    pub(super) damaged: bool,
}

impl<'a> Options6<'a> {
    pub(super) fn parse(mut bytes: &'a [u8]) -> Self {
        let mut options = Self::default();
        while !bytes.is_empty() {
            let Some((code, value, rest)) = next_option(bytes) else {
                options.damaged = true;
                break;
            };
            if options.list.len() >= MAX_OPTIONS {
                options.damaged = true;
                break;
            }
            options.list.push((code, value));
            bytes = rest;
        }
        options
    }

    /// The first option with this code.
    pub(super) fn get(&self, code: u16) -> Option<&'a [u8]> {
        self.all(code).next()
    }

    /// All options with this code.
    pub(super) fn all(&self, code: u16) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.list.iter().filter(move |(other, _)| *other == code).map(|(_, value)| *value)
    }
}

fn next_option(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (code, rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    Some((u16::from_be_bytes(*code), value, rest))
}

/// A relay a message came through; the outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relay6<'a> {
    pub(super) hops: u8,
    /// An address of the client's link, unspecified when only the relay's mark tells it.
    pub(super) link: Ipv6Addr,
    pub(super) peer: Ipv6Addr,
    pub(super) interface: Option<&'a [u8]>,
    /// Link-layer address of the client (RFC 6939): hardware type, then the address.
    pub(super) client_link_layer: Option<&'a [u8]>,
}

/// A client's message with the relays it came through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message6<'a> {
    /// Its type.
    pub kind: MessageKind6,
    /// Its transaction, 24 bits.
    pub xid: u32,
    pub(super) options: Options6<'a>,
    pub(super) relays: Vec<Relay6<'a>>,
}

impl<'a> Message6<'a> {
    /// Reads a packet. An error means that there is no client's message in it.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Error> {
        if packet.len() > MAX_PACKET_BYTES {
            return Err(corrupt("DHCPv6 packet", "at most 9216 bytes", packet.len()));
        }
        let mut relays = Vec::new();
        let mut bytes = packet;
        while bytes.first() == Some(&RELAY_FORWARD) {
            if relays.len() >= MAX_RELAYS {
                return Err(corrupt("relays of a DHCPv6 packet", "at most 8", MAX_RELAYS.saturating_add(1)));
            }
            let (relay, inner) = relay(bytes)?;
            relays.push(relay);
            bytes = inner;
        }
        let short = || corrupt("DHCPv6 message", "a header of 4 bytes", bytes.len());
        let ([kind, a, b, c], rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(short)?;
        Ok(Self {
            kind: MessageKind6::of(*kind),
            xid: u32::from_be_bytes([0, *a, *b, *c]),
            options: Options6::parse(rest),
            relays,
        })
    }
}

fn relay(bytes: &[u8]) -> Result<(Relay6<'_>, &[u8]), Error> {
    let short = || corrupt("DHCPv6 relay message", "a header of 34 bytes", bytes.len());
    let (header, rest) = bytes.split_first_chunk::<RELAY_HEADER_BYTES>().ok_or_else(short)?;
    let [_, hops, addresses @ ..] = header;
    let (link, peer) = addresses.split_at(16);
    let address = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from);
    let options = Options6::parse(rest);
    let missing = || corrupt("DHCPv6 relay message", "option 9 with the client's message", 0);
    let inner = options.get(code::RELAY_MESSAGE).ok_or_else(missing)?;
    let relay = Relay6 {
        hops: *hops,
        link: address(link),
        peer: address(peer),
        interface: options.get(code::INTERFACE_ID),
        client_link_layer: options.get(code::CLIENT_LINK_LAYER),
    };
    Ok((relay, inner))
}

fn corrupt(what: &'static str, expected: &'static str, found: usize) -> Error {
    Error::Corrupt { what, offset: 0, expected, found: found.to_string() }
}

/// Writes options, each with code and length.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A message of `kind` in transaction `xid`.
    pub(super) fn message(kind: MessageKind6, xid: u32) -> Self {
        let [_, a, b, c] = xid.to_be_bytes();
        Self { bytes: vec![kind.number(), a, b, c] }
    }

    /// A relay's message.
    pub(super) fn relay_reply(relay: &Relay6<'_>) -> Self {
        let mut bytes = vec![RELAY_REPLY, relay.hops];
        bytes.extend(relay.link.octets());
        bytes.extend(relay.peer.octets());
        Self { bytes }
    }

    /// Adds an option. Ours are far below 64 KiB; an echo that is not is left out.
    pub(super) fn option(&mut self, code: u16, value: &[u8]) {
        if let Ok(len) = u16::try_from(value.len()) {
            self.bytes.extend(code.to_be_bytes());
            self.bytes.extend(len.to_be_bytes());
            self.bytes.extend(value);
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_numbers_and_names() {
        for number in 0..=20 {
            let kind = MessageKind6::of(number);
            assert_eq!(kind.number(), number);
            assert!(!kind.to_string().is_empty());
        }
        assert_eq!(MessageKind6::of(11).to_string(), "INFORMATION-REQUEST");
        assert_eq!(MessageKind6::of(12).to_string(), "DHCPv6 message 12");
    }

    #[test]
    fn torn_options_end_the_reading_and_what_stood_before_counts() {
        let options = Options6::parse(&[0, 1, 0, 2, 7, 8, 0, 2, 0, 9, 1]);
        assert_eq!((options.get(1), options.get(2), options.damaged), (Some(&[7, 8][..]), None, true));
        assert!(!Options6::parse(&[0, 1, 0, 0]).damaged);
        let many = [0, 1, 0, 0].repeat(MAX_OPTIONS + 1);
        let options = Options6::parse(&many);
        assert_eq!((options.list.len(), options.damaged), (MAX_OPTIONS, true));
    }

    #[test]
    fn relays_are_counted() {
        let mut packet = vec![1, 0, 0, 1];
        for hops in 0..9u8 {
            assert_eq!(Message6::parse(&packet).unwrap().relays.len(), usize::from(hops));
            let mut writer = Writer { bytes: vec![RELAY_FORWARD, hops] };
            writer.bytes.extend([0; 32]);
            writer.option(code::RELAY_MESSAGE, &packet);
            packet = writer.finish();
        }
        let error = Message6::parse(&packet).unwrap_err().to_string();
        assert!(error.contains("at most 8 expected, found 9"), "{error}");
    }
}
