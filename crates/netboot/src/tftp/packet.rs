//! TFTP packets (RFC 1350 section 5, RFC 2347): requests in, errors and acknowledgements both ways.

use core::fmt;

use crate::Error;

/// RFC 2347 allows 512; one Ethernet frame leaves room for long names.
pub const MAX_REQUEST_BYTES: usize = 1468;
/// Options looked at; real clients send three.
const MAX_OPTIONS: usize = 16;
/// Text of an ERROR that is kept for the journal.
const MAX_ERROR_TEXT: usize = 200;

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// RRQ.
    Read,
    /// WRQ.
    Write,
}

/// How content is put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As it is.
    Octet,
    /// Line ends as CR LF; see [`super::to_netascii`].
    Netascii,
}

/// A request as it came; names and values are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Read or write.
    pub access: Access,
    /// File name, not normalised.
    pub name: Vec<u8>,
    /// Transfer mode.
    pub mode: Mode,
    /// Options in the client's order, names in lower case; of a repeated one only the first.
    pub options: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// The value of option `name` (lower case).
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&[u8]> {
        self.options.iter().find(|option| option.0 == name).map(|option| &option.1[..])
    }
}

/// Reads a packet that arrived on port 69.
///
/// An option without its closing NUL, and what follows, does not count; everything before it does.
pub fn parse_request(bytes: &[u8]) -> Result<Request, Error> {
    let corrupt = |what, offset, expected, found: String| Error::Corrupt { what, offset, expected, found };
    if bytes.len() > MAX_REQUEST_BYTES {
        return Err(corrupt("request", MAX_REQUEST_BYTES, "at most 1468 bytes", bytes.len().to_string()));
    }
    let access = match opcode(bytes) {
        Some(READ) => Access::Read,
        Some(WRITE) => Access::Write,
        Some(other) => return Err(corrupt("opcode", 0, "1 or 2", other.to_string())),
        None => return Err(corrupt("opcode", 0, "2 bytes", format!("{} bytes", bytes.len()))),
    };
    let mut rest = bytes.get(2..).unwrap_or_default();
    let at = |rest: &[u8]| bytes.len().saturating_sub(rest.len());
    let name = take_text(&mut rest).ok_or_else(|| corrupt("file name", 2, "a closing NUL", "none".into()))?;
    if name.is_empty() {
        return Err(corrupt("file name", 2, "at least one byte", "none".into()));
    }
    let mode_offset = at(rest);
    let mode =
        take_text(&mut rest).ok_or_else(|| corrupt("mode", mode_offset, "a closing NUL", "none".into()))?;
    let mode = match mode.to_ascii_lowercase().as_slice() {
        b"octet" => Mode::Octet,
        b"netascii" => Mode::Netascii,
        _ => {
            let value = mode.escape_ascii().to_string();
            return Err(Error::Unsupported { what: "transfer mode", value });
        }
    };
    let mut options: Vec<(String, Vec<u8>)> = Vec::new();
    while options.len() < MAX_OPTIONS {
        let (Some(name), Some(value)) = (take_text(&mut rest), take_text(&mut rest)) else { break };
        let Ok(name) = core::str::from_utf8(name).map(str::to_ascii_lowercase) else { continue };
        if !name.is_empty() && !options.iter().any(|option| option.0 == name) {
            options.push((name, value.to_vec()));
        }
    }
    Ok(Request { access, name: name.to_vec(), mode, options })
}

/// Bytes up to the next NUL, which is taken too.
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (text, tail) = rest.split_at_checked(end)?;
    *rest = tail.get(1..).unwrap_or_default();
    Some(text)
}

fn opcode(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|two| u16::from_be_bytes(*two))
}

/// Codes of an ERROR packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// 0: see the text.
    NotDefined,
    /// 1: no such file.
    FileNotFound,
    /// 2: not allowed.
    AccessViolation,
    /// 3: no room at the receiver; shim says so when its buffer is too small, and starts again.
    DiskFull,
    /// 4: illegal operation.
    IllegalOperation,
    /// 5: not a transfer of ours.
    UnknownTransfer,
    /// 8: options refused; what firmware sends after it has read the size it came for.
    OptionsRefused,
    /// Any other number.
    Other(u16),
}

impl ErrorCode {
    const KNOWN: [(u16, Self); 7] = [
        (0, Self::NotDefined),
        (1, Self::FileNotFound),
        (2, Self::AccessViolation),
        (3, Self::DiskFull),
        (4, Self::IllegalOperation),
        (5, Self::UnknownTransfer),
        (8, Self::OptionsRefused),
    ];

    fn from_number(number: u16) -> Self {
        Self::KNOWN.iter().find(|row| row.0 == number).map_or(Self::Other(number), |row| row.1)
    }

    fn number(self) -> u16 {
        match self {
            Self::Other(number) => number,
            known => Self::KNOWN.iter().find(|row| row.1 == known).map_or(0, |row| row.0),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}", self.number())
    }
}

/// An ERROR packet. Send it once and forget the transfer; it is never acknowledged.
#[must_use]
pub fn error_packet(code: ErrorCode, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len().saturating_add(5));
    out.extend(ERROR.to_be_bytes());
    out.extend(code.number().to_be_bytes());
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
    out
}

/// The four bytes before a block's content.
pub(super) fn data_header(number: u16) -> [u8; 4] {
    let [op_high, op_low] = DATA.to_be_bytes();
    let [high, low] = number.to_be_bytes();
    [op_high, op_low, high, low]
}

/// An OACK with `options` in order.
pub(super) fn oack_packet(options: &[(&str, u64)]) -> Vec<u8> {
    let mut out = OACK.to_be_bytes().to_vec();
    for (name, value) in options {
        out.extend(name.bytes());
        out.push(0);
        out.extend(value.to_string().bytes());
        out.push(0);
    }
    out
}

/// What a client says during a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FromClient {
    Ack(u16),
    Error {
        code: ErrorCode,
        text: String,
    },
    /// Nothing a reader would say.
    Stray,
}

pub(super) fn parse_from_client(bytes: &[u8]) -> FromClient {
    let number = bytes.get(2..).and_then(opcode);
    match (opcode(bytes), number) {
        (Some(ACK), Some(number)) => FromClient::Ack(number),
        (Some(ERROR), number) => {
            let text = bytes.get(4..).unwrap_or_default();
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            let text = text.get(..MAX_ERROR_TEXT).unwrap_or(text);
            let code = ErrorCode::from_number(number.unwrap_or(0));
            FromClient::Error { code, text: text.escape_ascii().to_string() }
        }
        _ => FromClient::Stray,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(request: &Request) -> Vec<&str> {
        request.options.iter().map(|option| &option.0[..]).collect()
    }

    #[test]
    fn requests_keep_bytes_and_order_and_fold_option_names() {
        let request =
            parse_request(b"\0\x01\\Boot\\B\xe4\0OcTeT\0TSize\x000\0blkSIZE\x001468\0tsize\x009\0").unwrap();
        assert_eq!(
            (request.access, request.mode, &request.name[..]),
            (Access::Read, Mode::Octet, &b"\\Boot\\B\xe4"[..])
        );
        assert_eq!(names(&request), ["tsize", "blksize"]);
        assert_eq!(request.option("tsize"), Some(&b"0"[..]));
        assert_eq!(request.option("windowsize"), None);
        let request = parse_request(b"\0\x02a\0NETASCII\0").unwrap();
        assert_eq!((request.access, request.mode), (Access::Write, Mode::Netascii));
    }

    #[test]
    fn torn_or_nameless_options_are_dropped_alone() {
        let request = parse_request(b"\0\x01a\0octet\0\0x\0\xff\0x\0blksize\x00512\0tsize\x000").unwrap();
        assert_eq!(names(&request), ["blksize"]);
        let many: Vec<u8> = (0..40).flat_map(|index| format!("o{index}\0v\0").into_bytes()).collect();
        let request = parse_request(&[&b"\0\x01a\0octet\0"[..], &many].concat()).unwrap();
        assert_eq!(request.options.len(), 16);
    }

    #[test]
    fn refuses_what_is_no_request() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "opcode at 0x0: 2 bytes expected, found 0 bytes"),
            (b"\0\x04\0\x01", "opcode at 0x0: 1 or 2 expected, found 4"),
            (b"\0\x01name", "file name at 0x2: a closing NUL expected, found none"),
            (b"\0\x01\0octet\0", "file name at 0x2: at least one byte expected, found none"),
            (b"\0\x01a\0octet", "mode at 0x4: a closing NUL expected, found none"),
            (b"\0\x01a\0", "mode at 0x4: a closing NUL expected, found none"),
            (b"\0\x01a\0mail\0", "transfer mode mail is not supported"),
            (&[0; 1469], "request at 0x5bc: at most 1468 bytes expected, found 1469"),
        ];
        for (bytes, text) in cases {
            assert_eq!(parse_request(bytes).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn packets_look_as_rfc_1350_draws_them() {
        assert_eq!(error_packet(ErrorCode::FileNotFound, "no\0ne"), b"\0\x05\0\x01none\0");
        assert_eq!(data_header(0x1234), [0, 3, 0x12, 0x34]);
        assert_eq!(
            oack_packet(&[("tsize", 70_000), ("blksize", 8)]),
            b"\0\x06tsize\x0070000\0blksize\x008\0"
        );
        let error = FromClient::Error { code: ErrorCode::OptionsRefused, text: "no\\x1b".into() };
        assert_eq!(parse_from_client(b"\0\x05\0\x08no\x1b\0junk"), error);
        assert_eq!(parse_from_client(b"\0\x04\xff\xff"), FromClient::Ack(65535));
        let nameless = FromClient::Error { code: ErrorCode::NotDefined, text: String::new() };
        assert_eq!(parse_from_client(b"\0\x05"), nameless);
        for stray in [&b"\0\x04\xff"[..], b"", b"\0\x03\0\x01data", b"\0\x01a\0octet\0"] {
            assert_eq!(parse_from_client(stray), FromClient::Stray);
        }
    }
}
