//! Writing DHCPv4 messages the way old ROMs need them: 53 first, 82 last, padded, never longer than asked.
//!
//! Options come in two ranks: what the answer cannot do without, and what is left out, last wish first, when the
//! client's limit (option 57) is reached. `sname` and `file` are never overloaded with options on output.

use core::net::Ipv4Addr;

use super::code;
use super::message::Head;

/// BOOTP's fixed size: some ROMs and relays drop anything shorter (RFC 1542 section 2.1).
const MIN_BYTES: usize = 300;
/// What every client takes (RFC 2131 section 2): a 576-byte IP datagram less the IP and UDP headers.
const SMALLEST_LIMIT: usize = 576 - IP_UDP_BYTES;
/// Never beyond one Ethernet frame, whatever option 57 says (edk2 says 65280): firmware may not reassemble fragments.
const LARGEST_LIMIT: usize = 1500 - IP_UDP_BYTES;
const IP_UDP_BYTES: usize = 28;
/// Longest value of one option; longer ones are split (RFC 3396).
const PIECE_BYTES: usize = 255;

/// A message being put together.
#[derive(Debug)]
pub(crate) struct Composer {
    head: Head,
    file: Vec<u8>,
    needs: Vec<u8>,
    wishes: Vec<(u8, Vec<u8>)>,
    relay: Vec<u8>,
}

/// A finished message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Composed {
    pub(crate) bytes: Vec<u8>,
    /// Options for which there was no room.
    pub(crate) left_out: Vec<u8>,
}

impl Composer {
    /// Starts a message of type `kind` (option 53 goes first).
    pub(crate) fn new(head: Head, kind: super::MessageKind) -> Self {
        let mut needs = Vec::new();
        push_option(&mut needs, code::MESSAGE_TYPE, &[kind.number()]);
        Self { head, file: Vec::new(), needs, wishes: Vec::new(), relay: Vec::new() }
    }

    pub(crate) fn head(&mut self) -> &mut Head {
        &mut self.head
    }

    /// Fills the `file` field; at most 127 bytes count.
    pub(crate) fn file(&mut self, name: &[u8]) {
        self.file = name.to_vec();
    }

    /// Adds an option the message is useless without.
    pub(crate) fn need(&mut self, code: u8, value: &[u8]) {
        push_option(&mut self.needs, code, value);
    }

    /// Adds an option if there is room.
    pub(crate) fn wish(&mut self, code: u8, value: &[u8]) {
        self.wishes.push((code, value.to_vec()));
    }

    /// Adds a list of addresses if there is room; an empty list is no option.
    pub(crate) fn wish_addresses(&mut self, code: u8, addresses: &[Ipv4Addr]) {
        if !addresses.is_empty() {
            self.wish(code, &addresses.iter().flat_map(|address| address.octets()).collect::<Vec<_>>());
        }
    }

    /// Repeats the relay's option 82, unchanged and after everything else.
    pub(crate) fn relay(&mut self, value: &[u8]) {
        push_option(&mut self.relay, code::RELAY_AGENT, value);
    }

    /// The bytes within `limit`; `None` when even the needed options do not fit.
    pub(crate) fn finish(self, limit: usize) -> Option<Composed> {
        let mut bytes = self.head.to_bytes(&self.file);
        bytes.extend(&self.needs);
        // The relay's option and the end mark are spoken for before any wish.
        let room = limit.checked_sub(self.relay.len())?.checked_sub(1)?;
        if bytes.len() > room {
            return None;
        }
        let mut left_out = Vec::new();
        for (code, value) in &self.wishes {
            let before = bytes.len();
            push_option(&mut bytes, *code, value);
            if bytes.len() > room {
                bytes.truncate(before);
                left_out.push(*code);
            }
        }
        bytes.extend(&self.relay);
        bytes.push(code::END);
        bytes.resize(bytes.len().max(MIN_BYTES), code::PAD);
        Some(Composed { bytes, left_out })
    }
}

/// The longest reply for a client whose option 57 is `asked`.
pub(crate) fn reply_limit(asked: Option<u16>) -> usize {
    let asked = asked.map_or(SMALLEST_LIMIT, |asked| usize::from(asked).saturating_sub(IP_UDP_BYTES));
    asked.clamp(SMALLEST_LIMIT, LARGEST_LIMIT)
}

fn push_option(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    let mut rest = value;
    loop {
        let (piece, tail) = rest.split_at_checked(PIECE_BYTES).unwrap_or((rest, &[]));
        out.push(code);
        out.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
        out.extend(piece);
        rest = tail;
        if rest.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MessageKind;
    use super::super::message::{Direction, HardwareAddress, Message};
    use super::*;

    fn composer() -> Composer {
        let head = Head {
            direction: Direction::Reply,
            hardware: HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]),
            hops: 0,
            xid: 1,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
        };
        Composer::new(head, MessageKind::Offer)
    }

    #[test]
    fn message_type_comes_first_relay_last_and_padding_reaches_300() {
        let mut composer = composer();
        composer.relay(&[1, 1, 9]);
        composer.need(code::SERVER_IDENTIFIER, &[10, 0, 0, 1]);
        composer.wish(code::DOMAIN_NAME, b"lab");
        let bytes = composer.finish(548).unwrap().bytes;
        assert_eq!(bytes.len(), 300);
        assert_eq!(
            bytes[240..264],
            [53, 1, 2, 54, 4, 10, 0, 0, 1, 15, 3, b'l', b'a', b'b', 82, 3, 1, 1, 9, 255, 0, 0, 0, 0]
        );
    }

    #[test]
    fn leaves_out_wishes_that_do_not_fit_and_keeps_later_smaller_ones() {
        let mut composer = composer();
        composer.wish(code::ROUTER, &[1; 200]);
        composer.wish(code::DNS, &[2; 200]);
        composer.wish(code::DOMAIN_NAME, b"x");
        composer.relay(&[7; 50]);
        let done = composer.finish(548).unwrap();
        assert_eq!(done.left_out, [code::DNS]);
        let message = Message::parse(&done.bytes).unwrap();
        assert_eq!(message.options.get(code::DOMAIN_NAME), Some(&b"x"[..]));
        assert_eq!(message.options.get(code::RELAY_AGENT), Some(&[7; 50][..]));
        assert!(done.bytes.len() <= 548);
    }

    #[test]
    fn gives_up_when_the_needed_options_do_not_fit() {
        let mut composer = composer();
        composer.need(code::CLIENT_IDENTIFIER, &[1; 250]);
        composer.relay(&[1; 250]);
        assert_eq!(composer.finish(548), None);
    }

    #[test]
    fn splits_values_beyond_255_bytes() {
        let mut composer = composer();
        let url: Vec<u8> = (0..300).map(|index| b'a' + (index % 26) as u8).collect();
        composer.need(code::BOOT_FILE, &url);
        let message = Message::parse(&composer.finish(1472).unwrap().bytes).unwrap();
        assert_eq!(message.options.get(code::BOOT_FILE), Some(&url[..]));
    }

    #[test]
    fn limit_follows_option_57_within_one_frame() {
        let cases = [(None, 548), (Some(0), 548), (Some(576), 548), (Some(1472), 1444), (Some(65280), 1472)];
        for (asked, limit) in cases {
            assert_eq!(reply_limit(asked), limit, "{asked:?}");
        }
    }
}
