//! rtnetlink messages (rtnetlink(7)): building requests, walking answers. Bytes only; the socket is in `link`.
//!
//! A few messages of four kinds do not justify a library: `rtnetlink` wants tokio, which the payload's PID 1 has
//! not, and `neli` and `netlink-packet-route` are each larger than all of this crate.

use std::io;

use gravure_io::Cursor;

/// Length of `nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Messages and attributes start at multiples of this.
const ALIGN_BYTES: usize = 4;

/// A request in the making: header, fixed part, attributes.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Starts a request of `kind` with `flags` besides `NLM_F_REQUEST`; `fixed` is the kind's own structure.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4]; // length, set in `finish`
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // sequence, set in `finish`; port 0: the kernel fills it in
        bytes.extend_from_slice(fixed);
        let mut request = Self { bytes };
        request.pad();
        request
    }

    /// Adds an attribute; `value` is far below 64 KiB.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN_BYTES), 0);
    }

    /// The message with its length and `sequence` filled in.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

const REQUEST: u16 = 1; // NLM_F_REQUEST

/// A message from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// End of a dump.
    Done,
    /// Answer to a request: 0 or a negative error number.
    Answer(i32),
    /// Data of `kind`: the bytes after the header.
    Data { kind: u16, body: &'a [u8] },
}

/// Walks the messages of one datagram. Each comes with its sequence number (0 for notifications).
pub(crate) fn messages(datagram: &[u8]) -> io::Result<Vec<(u32, Message<'_>)>> {
    let mut out = Vec::new();
    let mut rest = Cursor::new(datagram);
    while !rest.rest().is_empty() {
        let (sequence, message) = read_message(&mut rest).ok_or_else(|| corrupt("message"))?;
        out.push((sequence, message));
        rest.align(ALIGN_BYTES);
    }
    Ok(out)
}

fn read_message<'a>(rest: &mut Cursor<'a>) -> Option<(u32, Message<'a>)> {
    let len = usize::try_from(u32::from_ne_bytes(rest.array().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(rest.array().ok()?);
    rest.take(2).ok()?; // flags
    let sequence = u32::from_ne_bytes(rest.array().ok()?);
    rest.take(4).ok()?; // port
    let body = rest.take(len.checked_sub(HEADER_BYTES)?).ok()?;
    let message = match kind {
        2 => Message::Answer(i32::from_ne_bytes(Cursor::new(body).array().ok()?)), // NLMSG_ERROR
        3 => Message::Done,
        _ => Message::Data { kind, body },
    };
    Some((sequence, message))
}

/// Walks attributes: kind (without the flag bits) and value.
pub(crate) fn attributes(bytes: &[u8]) -> io::Result<Vec<(u16, &[u8])>> {
    let mut out = Vec::new();
    let mut rest = Cursor::new(bytes);
    while !rest.rest().is_empty() {
        let attribute = read_attribute(&mut rest).ok_or_else(|| corrupt("attribute"))?;
        out.push(attribute);
        rest.align(ALIGN_BYTES);
    }
    Ok(out)
}

fn read_attribute<'a>(rest: &mut Cursor<'a>) -> Option<(u16, &'a [u8])> {
    let len = usize::from(u16::from_ne_bytes(rest.array().ok()?));
    let kind = u16::from_ne_bytes(rest.array().ok()?) & 0x3fff; // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
    Some((kind, rest.take(len.checked_sub(4)?).ok()?))
}

fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("netlink {what} is cut or states a wrong length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let bytes =
            Request::new(20, 0x500, &[1, 2, 3, 4, 5]).attribute(7, b"abc").attribute(8, b"").finish(9);
        assert_eq!(bytes.len(), 16 + 8 + 8 + 4);
        let all = messages(&bytes).unwrap();
        let (9, Message::Data { kind: 20, body }) = all[0] else { panic!("{all:?}") };
        assert_eq!(&body[..5], &[1, 2, 3, 4, 5]);
        assert_eq!(attributes(&body[8..]).unwrap(), [(7, &b"abc"[..]), (8, &b""[..])]);
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = Request::new(20, 0, &[0; 8]).attribute(1, b"four").finish(1);
        for len in 1..bytes.len() {
            assert!(messages(&bytes[..len]).is_err(), "{len}");
        }
        let body = &bytes[24..];
        for len in 1..body.len() {
            assert!(attributes(&body[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn lengths_below_the_header_are_refused() {
        assert!(messages(&[15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(attributes(&[3, 0, 0, 0]).is_err());
    }
}
