//! DHCPv4 messages as bytes (RFC 2131 section 2, RFC 2132, RFC 3396): reading any, and the header shared with writing.
//!
//! Layout and checks only; what a message asks for is read in `client`, what is answered is decided in `server`.
//! A damaged option ends the reading of its field and is reported as a [`Defect`]; what stood before it counts, as
//! every server in the field does it. Only a packet whose header makes no sense is refused.

use core::fmt;
use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use super::code;
use crate::Error;

/// Longest packet looked at. Clients keep to an Ethernet frame; 9216 leaves room for any jumbo frame.
pub const MAX_PACKET_BYTES: usize = 9216;
/// Header, magic cookie and nothing else.
const MIN_PACKET_BYTES: usize = MAGIC_OFFSET + 4;
/// Offset of the magic cookie, which follows the fixed BOOTP header.
const MAGIC_OFFSET: usize = 236;
/// RFC 2131 section 3: these four bytes start the options.
const MAGIC: [u8; 4] = [99, 130, 83, 99];

const OP_REQUEST: u8 = 1;
const OP_REPLY: u8 = 2;
const FLAG_BROADCAST: u16 = 0x8000;
const HARDWARE_ETHERNET: u8 = 1;

/// Offsets of the fixed fields (RFC 2131, figure 1).
mod at {
    pub(super) const OP: usize = 0;
    pub(super) const HTYPE: usize = 1;
    pub(super) const HLEN: usize = 2;
    pub(super) const HOPS: usize = 3;
    pub(super) const XID: usize = 4;
    pub(super) const SECS: usize = 8;
    pub(super) const FLAGS: usize = 10;
    pub(super) const CIADDR: usize = 12;
    pub(super) const YIADDR: usize = 16;
    pub(super) const SIADDR: usize = 20;
    pub(super) const GIADDR: usize = 24;
    pub(super) const CHADDR: usize = 28;
    pub(super) const SNAME: usize = 44;
    pub(super) const FILE: usize = 108;
}
const _: () = assert!(at::FILE + FILE_BYTES == MAGIC_OFFSET);
const _: () = assert!(at::SNAME + SNAME_BYTES == at::FILE);

/// Length of the `sname` field.
pub(super) const SNAME_BYTES: usize = 64;
/// Length of the `file` field; a name in it ends with a NUL.
pub(super) const FILE_BYTES: usize = 128;

/// A link-layer address with its kind (`htype`, `hlen`, `chaddr`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HardwareAddress {
    kind: u8,
    len: u8,
    bytes: [u8; 16],
}

impl HardwareAddress {
    /// An Ethernet MAC.
    #[must_use]
    pub fn ethernet(mac: [u8; 6]) -> Self {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        Self { kind: HARDWARE_ETHERNET, len: 6, bytes }
    }

    /// An address of ARP hardware type `kind`; `None` when it is longer than the 16 bytes of `chaddr`.
    #[must_use]
    pub fn new(kind: u8, address: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes.get_mut(..address.len())?.copy_from_slice(address);
        Some(Self { kind, len: u8::try_from(address.len()).ok()?, bytes })
    }

    /// The MAC, when this is Ethernet.
    #[must_use]
    pub fn mac(&self) -> Option<[u8; 6]> {
        (self.kind == HARDWARE_ETHERNET).then(|| self.bytes().try_into().ok()).flatten()
    }

    /// ARP hardware type.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The address itself, without padding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// Whether it can tell two machines apart: neither empty nor all zeros.
    #[must_use]
    pub fn identifies(&self) -> bool {
        self.bytes().iter().any(|byte| *byte != 0)
    }
}

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.bytes().iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HardwareAddress({}/{self})", self.kind)
    }
}

/// Who speaks: `op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Client to server.
    Request,
    /// Server to client.
    Reply,
}

/// The DHCP message type (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Client looks for servers.
    Discover,
    /// Server proposes.
    Offer,
    /// Client takes one proposal, checks or renews its lease.
    Request,
    /// Client found the address in use.
    Decline,
    /// Server grants.
    Ack,
    /// Server refuses.
    Nak,
    /// Client gives its address back.
    Release,
    /// Client has an address and wants the rest.
    Inform,
}

impl MessageKind {
    const ALL: [(u8, Self, &'static str); 8] = [
        (1, Self::Discover, "DISCOVER"),
        (2, Self::Offer, "OFFER"),
        (3, Self::Request, "REQUEST"),
        (4, Self::Decline, "DECLINE"),
        (5, Self::Ack, "ACK"),
        (6, Self::Nak, "NAK"),
        (7, Self::Release, "RELEASE"),
        (8, Self::Inform, "INFORM"),
    ];

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().find(|row| row.0 == number).map(|row| row.1)
    }

    pub(super) fn number(self) -> u8 {
        Self::ALL.iter().find(|row| row.1 == self).map_or(0, |row| row.0)
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|row| row.1 == *self).map_or("", |row| row.2))
    }
}

/// The fixed header, in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `op`: who speaks.
    pub direction: Direction,
    /// `htype`, `hlen`, `chaddr`: the client's link-layer address.
    pub hardware: HardwareAddress,
    /// Relays passed so far.
    pub hops: u8,
    /// Ties replies to their request.
    pub xid: u32,
    /// Seconds since the client started; iPXE puts something else here.
    pub secs: u16,
    /// The client cannot take unicast before it has an address.
    pub broadcast: bool,
    /// Address the client has and uses.
    pub ciaddr: Ipv4Addr,
    /// Address the server gives.
    pub yiaddr: Ipv4Addr,
    /// Server to fetch the boot file from.
    pub siaddr: Ipv4Addr,
    /// Relay that received the request; unspecified without one.
    pub giaddr: Ipv4Addr,
}

impl Head {
    /// The header of an answer to this request: same client, transaction, flags and relay, all addresses open.
    #[must_use]
    pub(super) fn answer(&self) -> Self {
        Self {
            direction: Direction::Reply,
            hops: 0,
            secs: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            ..self.clone()
        }
    }

    /// Header bytes with `sname` empty, `file` filled and the magic cookie at the end. `file` longer than the field
    /// is the caller's mistake and is left out.
    pub(crate) fn to_bytes(&self, file: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(MIN_PACKET_BYTES);
        out.push(match self.direction {
            Direction::Request => OP_REQUEST,
            Direction::Reply => OP_REPLY,
        });
        out.extend([self.hardware.kind, self.hardware.len, self.hops]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend((if self.broadcast { FLAG_BROADCAST } else { 0 }).to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(address.octets());
        }
        out.extend(self.hardware.bytes);
        out.resize(at::FILE, 0);
        if file.len() < FILE_BYTES {
            out.extend(file);
        }
        out.resize(MAGIC_OFFSET, 0);
        out.extend(MAGIC);
        out
    }
}

/// The options of a message by code, split ones joined (RFC 3396).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// The value of option `code`.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// A value of exactly one address.
    #[must_use]
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.get(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    }

    /// A list of addresses; a torn last one is dropped.
    pub fn addresses(&self, code: u8) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let octets = self.get(code).unwrap_or_default().as_chunks::<4>().0;
        octets.iter().map(|octets| Ipv4Addr::from(*octets))
    }

    /// A value of exactly one byte.
    #[must_use]
    pub fn byte(&self, code: u8) -> Option<u8> {
        let [byte]: [u8; 1] = self.get(code)?.try_into().ok()?;
        Some(byte)
    }

    /// A value of exactly two bytes.
    #[must_use]
    pub fn number16(&self, code: u8) -> Option<u16> {
        Some(u16::from_be_bytes(self.get(code)?.try_into().ok()?))
    }

    /// A value of exactly four bytes.
    #[must_use]
    pub fn number32(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(code)?.try_into().ok()?))
    }

    /// A text, its trailing NULs cut; `None` when absent or empty.
    #[must_use]
    pub fn text(&self, code: u8) -> Option<String> {
        let bytes = self.get(code)?;
        let end = bytes.iter().rposition(|byte| *byte != 0)?;
        bytes.get(..=end).map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// Codes present, ascending.
    pub fn codes(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.keys().copied()
    }
}

/// A place where the options could not be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defect {
    /// The option whose length runs over its field.
    pub code: u8,
    /// Where it starts, in bytes from the start of the packet.
    pub offset: usize,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option {} at {:#x} runs past its field", self.code, self.offset)
    }
}

/// A message that passed the header checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The fixed header.
    pub head: Head,
    /// Boot file name of the `file` field up to its NUL; empty when the field holds options.
    pub file: Vec<u8>,
    /// All options, overloaded fields included.
    pub options: Options,
    /// The first damaged option, if any.
    pub defect: Option<Defect>,
}

impl Message {
    /// Reads the UDP payload `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |what, offset, expected, found| Error::Corrupt { what, offset, expected, found };
        if bytes.len() < MIN_PACKET_BYTES {
            return Err(corrupt("packet", bytes.len(), "at least 240 bytes", bytes.len().to_string()));
        }
        if bytes.len() > MAX_PACKET_BYTES {
            return Err(corrupt("packet", MAX_PACKET_BYTES, "at most 9216 bytes", bytes.len().to_string()));
        }
        if array::<4>(bytes, MAGIC_OFFSET) != MAGIC {
            let found = format!("{:02x?}", array::<4>(bytes, MAGIC_OFFSET));
            return Err(corrupt("magic cookie", MAGIC_OFFSET, "63 82 53 63 (DHCP, not plain BOOTP)", found));
        }
        let direction = match array::<1>(bytes, at::OP) {
            [OP_REQUEST] => Direction::Request,
            [OP_REPLY] => Direction::Reply,
            [other] => return Err(corrupt("op", at::OP, "1 or 2", other.to_string())),
        };
        let [kind] = array::<1>(bytes, at::HTYPE);
        let [len] = array::<1>(bytes, at::HLEN);
        let chaddr = array::<16>(bytes, at::CHADDR);
        let hardware = chaddr
            .get(..usize::from(len))
            .and_then(|address| HardwareAddress::new(kind, address))
            .ok_or_else(|| corrupt("hlen", at::HLEN, "at most 16", len.to_string()))?;
        let head = Head {
            direction,
            hardware,
            hops: array::<1>(bytes, at::HOPS)[0],
            xid: u32::from_be_bytes(array(bytes, at::XID)),
            secs: u16::from_be_bytes(array(bytes, at::SECS)),
            broadcast: u16::from_be_bytes(array(bytes, at::FLAGS)) & FLAG_BROADCAST != 0,
            ciaddr: array::<4>(bytes, at::CIADDR).into(),
            yiaddr: array::<4>(bytes, at::YIADDR).into(),
            siaddr: array::<4>(bytes, at::SIADDR).into(),
            giaddr: array::<4>(bytes, at::GIADDR).into(),
        };
        let mut reader = OptionReader::default();
        reader.field(bytes, MIN_PACKET_BYTES, bytes.len());
        // RFC 2131 section 4.1: the options field first, then `file`, then `sname`.
        let overload = reader.options.byte(code::OVERLOAD).unwrap_or(0);
        if overload & 1 != 0 {
            reader.field(bytes, at::FILE, MAGIC_OFFSET);
        }
        if overload & 2 != 0 {
            reader.field(bytes, at::SNAME, at::FILE);
        }
        let file = if overload & 1 == 0 { until_nul(bytes, at::FILE, MAGIC_OFFSET) } else { Vec::new() };
        Ok(Self { head, file, options: reader.options, defect: reader.defect })
    }

    /// The DHCP message type; `None` for plain BOOTP or an unknown number.
    #[must_use]
    pub fn kind(&self) -> Option<MessageKind> {
        self.options.byte(code::MESSAGE_TYPE).and_then(MessageKind::from_number)
    }

    /// The boot file the client shall load: option 67 wins over the `file` field, as edk2 and iPXE have it.
    #[must_use]
    pub fn boot_file(&self) -> Option<Vec<u8>> {
        let named = self.options.get(code::BOOT_FILE).map(cut_at_nul).filter(|name| !name.is_empty());
        named.map(<[u8]>::to_vec).or_else(|| (!self.file.is_empty()).then(|| self.file.clone()))
    }
}

/// Collects the options of one field after the other.
#[derive(Default)]
struct OptionReader {
    options: Options,
    defect: Option<Defect>,
}

impl OptionReader {
    fn field(&mut self, bytes: &[u8], start: usize, end: usize) {
        let mut rest = bytes.get(start..end).unwrap_or_default();
        while let Some((&code, after)) = rest.split_first() {
            match code {
                code::PAD => rest = after,
                code::END => return,
                _ => {
                    let value =
                        after.split_first().and_then(|(len, tail)| tail.split_at_checked(usize::from(*len)));
                    let Some((value, tail)) = value else {
                        let offset = end.saturating_sub(rest.len());
                        self.defect = self.defect.or(Some(Defect { code, offset }));
                        return;
                    };
                    self.options.0.entry(code).or_default().extend(value);
                    rest = tail;
                }
            }
        }
    }
}

/// `N` bytes at `offset`; zeros where there are none (the callers have checked the length).
fn array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn until_nul(bytes: &[u8], start: usize, end: usize) -> Vec<u8> {
    cut_at_nul(bytes.get(start..end).unwrap_or_default()).to_vec()
}

/// `bytes` up to the first NUL.
pub(crate) fn cut_at_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The sub-options of an encapsulating option (43, 82, 175) in order, up to an end mark or the first torn one.
pub(crate) fn sub_options(value: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = value;
    core::iter::from_fn(move || {
        loop {
            let (&code, after) = rest.split_first()?;
            match code {
                code::PAD => rest = after,
                code::END => return None,
                _ => {
                    let (&len, tail) = after.split_first()?;
                    let (value, tail) = tail.split_at_checked(usize::from(len))?;
                    rest = tail;
                    return Some((code, value));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(options: &[u8]) -> Vec<u8> {
        let head = Head {
            direction: Direction::Request,
            hardware: HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]),
            hops: 1,
            xid: 0x0102_0304,
            secs: 9,
            broadcast: true,
            ciaddr: [10, 0, 0, 1].into(),
            yiaddr: [10, 0, 0, 2].into(),
            siaddr: [10, 0, 0, 3].into(),
            giaddr: [10, 0, 0, 4].into(),
        };
        let mut bytes = head.to_bytes(b"boot.efi");
        bytes.extend(options);
        bytes
    }

    #[test]
    fn header_survives_both_ways() {
        let message = Message::parse(&packet(&[53, 1, 3, 255])).unwrap();
        assert_eq!(message.head.xid, 0x0102_0304);
        assert_eq!(message.head.secs, 9);
        assert!(message.head.broadcast);
        assert_eq!(message.head.giaddr, Ipv4Addr::new(10, 0, 0, 4));
        assert_eq!(message.head.hardware.to_string(), "02:00:00:00:00:07");
        assert_eq!(message.file, b"boot.efi");
        assert_eq!(message.kind(), Some(MessageKind::Request));
        assert_eq!(message.head.to_bytes(b"boot.efi"), packet(&[])[..]);
    }

    #[test]
    fn joins_split_options_and_stops_at_the_end_mark() {
        let message =
            Message::parse(&packet(&[67, 2, b'a', b'b', 0, 0, 67, 1, b'c', 255, 60, 1, b'x'])).unwrap();
        assert_eq!(message.options.get(67), Some(&b"abc"[..]));
        assert_eq!(message.options.get(60), None);
        assert_eq!(message.defect, None);
        assert_eq!(message.boot_file().unwrap(), b"abc");
    }

    #[test]
    fn reads_overloaded_fields_after_the_options() {
        let mut bytes = packet(&[52, 1, 3, 12, 1, b'a', 255]);
        bytes[at::FILE..at::FILE + 5].copy_from_slice(&[12, 1, b'b', 255, 9]);
        bytes[at::SNAME..at::SNAME + 4].copy_from_slice(&[12, 1, b'c', 255]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.options.get(12), Some(&b"abc"[..]));
        assert_eq!(message.file, b"");
    }

    #[test]
    fn keeps_what_stands_before_a_torn_option() {
        let message = Message::parse(&packet(&[53, 1, 1, 60, 9, b'P'])).unwrap();
        assert_eq!(message.kind(), Some(MessageKind::Discover));
        assert_eq!(message.defect, Some(Defect { code: 60, offset: 243 }));
        assert_eq!(message.defect.unwrap().to_string(), "option 60 at 0xf3 runs past its field");
    }

    #[test]
    fn refuses_packets_whose_header_makes_no_sense() {
        let good = packet(&[255]);
        type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
        let cases: [(Damage, &str); 4] = [
            (&|bytes| bytes.truncate(239), "packet at 0xef: at least 240 bytes expected, found 239"),
            (&|bytes| bytes.resize(9217, 0), "packet at 0x2400: at most 9216 bytes expected, found 9217"),
            (&|bytes| bytes[0] = 7, "op at 0x0: 1 or 2 expected, found 7"),
            (&|bytes| bytes[2] = 17, "hlen at 0x2: at most 16 expected, found 17"),
        ];
        for (damage, text) in cases {
            let mut bytes = good.clone();
            damage(&mut bytes);
            assert_eq!(Message::parse(&bytes).unwrap_err().to_string(), text);
        }
        let mut bytes = good;
        bytes[236] = 0;
        assert!(Message::parse(&bytes).unwrap_err().to_string().starts_with("magic cookie at 0xec"));
    }

    #[test]
    fn sub_options_end_at_the_mark_or_a_torn_one() {
        let list = |value| sub_options(value).map(|(code, value)| (code, value.to_vec())).collect::<Vec<_>>();
        assert_eq!(list(&[6, 1, 8, 0, 71, 2, 1, 2, 255, 9, 0]), [(6, vec![8]), (71, vec![1, 2])]);
        assert_eq!(list(&[6, 1, 8, 71, 9, 0]), [(6, vec![8])]);
        assert_eq!(list(&[]), []);
    }

    #[test]
    fn texts_lose_only_trailing_nuls() {
        let message = Message::parse(&packet(&[12, 4, b'p', b'c', 0, 0, 15, 1, 0])).unwrap();
        assert_eq!(message.options.text(12).as_deref(), Some("pc"));
        assert_eq!(message.options.text(15), None);
    }
}
