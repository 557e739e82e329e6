//! Request heads as they come in, one after the other on a connection (RFC 9112). Only what a file service looks at is
//! kept; a request with a body is answered and its connection ended, so that no body is ever taken for a request.

use std::io;

use super::channel::Channel;

/// Request line and headers of firmware stay below 1 KiB.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Bytes read at once: a whole head, as nearly all are.
const READ_BYTES: usize = 2048;

/// What a request wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// As written: path and query.
    pub(super) target: String,
    pub(super) range: Option<Vec<u8>>,
    pub(super) if_range: Option<Vec<u8>>,
    /// What is kept here is to be looked at again.
    pub(super) afresh: bool,
    /// Whether the client may ask more on this connection.
    pub(super) keep: bool,
    /// Whether it wants to be told that it may; RFC 9112 clients take it for granted.
    pub(super) old: bool,
}

/// What came next on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Request(Request),
    /// Something that is no request; the status that says so.
    Refused(u16),
    /// The client has nothing more to ask.
    End,
}

/// Bytes that were received and not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Heads {
    bytes: Vec<u8>,
}

impl Heads {
    /// Waits for the next request. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, channel: &mut Channel) -> io::Result<Next> {
        let mut searched = 0;
        loop {
            // Empty lines before a request are old clients' habit (RFC 9112 section 2.2).
            let blank = self.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.bytes.drain(..blank);
            searched = if blank > 0 { 0 } else { searched };
            if let Some(end) = head_end(&self.bytes, searched) {
                let head: Vec<u8> = self.bytes.drain(..end).collect();
                return Ok(parse(&head));
            }
            if self.bytes.len() > MAX_HEAD_BYTES {
                return Ok(Next::Refused(431));
            }
            // The end may have begun in what is there.
            searched = self.bytes.len().saturating_sub(3);
            let before = self.bytes.len();
            let mut buf = [0; READ_BYTES];
            let len = channel.read(&mut buf).await?;
            self.bytes.extend_from_slice(buf.get(..len).unwrap_or_default());
            if self.bytes.len() == before {
                return Ok(Next::End);
            }
        }
    }
}

/// Length of the head at the beginning of `bytes` with the empty line that ends it.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let found = bytes.get(from..)?;
    found
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .find_map(|(at, _)| match found.get(at.saturating_add(1)..)? {
            [b'\n', ..] => Some(at.saturating_add(2)),
            [b'\r', b'\n', ..] => Some(at.saturating_add(3)),
            _ => None,
        })
        .map(|end| from.saturating_add(end))
}

fn parse(head: &[u8]) -> Next {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Next::Refused(431),
        Err(httparse::Error::Version) => return Next::Refused(505),
        Ok(httparse::Status::Partial) | Err(_) => return Next::Refused(400),
    }
    let method = match parsed.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => Method::Other,
    };
    let old = parsed.version == Some(0);
    let mut request = Request {
        method,
        target: parsed.path.unwrap_or("/").to_owned(),
        range: None,
        if_range: None,
        afresh: false,
        keep: !old,
        old,
    };
    let (mut body, mut close) = (false, false);
    for header in parsed.headers.iter() {
        let named = |name: &str| header.name.eq_ignore_ascii_case(name);
        if named("range") {
            request.range = Some(header.value.to_vec());
        } else if named("if-range") {
            request.if_range = Some(header.value.to_vec());
        } else if named("cache-control") {
            request.afresh |= has_word(header.value, "no-cache");
        } else if named("connection") {
            close |= has_word(header.value, "close");
            request.keep |= has_word(header.value, "keep-alive");
        } else if named("transfer-encoding") || (named("content-length") && header.value != b"0") {
            body = true;
        }
    }
    request.keep &= !body && !close;
    Next::Request(request)
}

fn has_word(list: &[u8], word: &str) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Fuzz body: no head makes the parser panic, and what it takes names a target.
#[cfg(test)]
pub(super) fn look(bytes: &[u8]) {
    let mut from = 0;
    while let Some(len) = bytes.get(from..).and_then(|rest| head_end(rest, 0)) {
        let head = bytes.get(from..from.saturating_add(len)).unwrap_or_default();
        if let Next::Request(request) = parse(head) {
            assert!(!request.target.is_empty());
        }
        from = from.saturating_add(len);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Next::Request(request) => request,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn connections_last_as_long_as_both_sides_say() {
        for (text, keep) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nConnection: TE, Close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nconnection: close\r\nConnection: keep-alive\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\nConnection: Keep-Alive\n\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", true),
            // What follows is no request.
            ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ] {
            assert_eq!(request(text).keep, keep, "{text:?}");
        }
        let head =
            request("HEAD //a?b=c:d HTTP/1.1\r\nHost: x\r\nRANGE: bytes=1-2\r\nIf-Range: \"e\"\r\n\r\n");
        assert_eq!((head.method, head.target.as_str()), (Method::Head, "//a?b=c:d"));
        assert!(!head.afresh);
        assert!(request("GET / HTTP/1.1\r\nCache-Control: max-age=0, No-Cache\r\n\r\n").afresh);
        assert_eq!(
            (head.range.as_deref(), head.if_range.as_deref()),
            (Some(&b"bytes=1-2"[..]), Some(&b"\"e\""[..]))
        );
    }

    /// What real clients sent (recorded/INDEX.md): each request in its order.
    #[test]
    fn recorded_clients_are_understood() {
        let recorded: [(&[u8], &[&str]); 4] = [
            (
                include_bytes!("recorded/ipxe-bios.http"),
                &[
                    "GET /boot.ipxe?mac=52%3A54%3A00%3Aeb%3A0e%3Ae1&uuid=&arch=i386-pc",
                    "GET /boot/vmlinuz",
                    "GET /boot/site.cpio",
                    "GET /boot/initramfs.cpio.zst",
                ],
            ),
            (
                include_bytes!("recorded/grub-after-pxe.http"),
                &[
                    "GET /boot/grub.cfg?mac=52:54:00:34:ca:22&uuid=00000000-0000-0000-0000-000000000000&arch=x86_64-efi",
                    "GET /boot/vmlinuz",
                    "GET /boot/site.cpio",
                    "GET /boot/initramfs.cpio.zst",
                ],
            ),
            (
                include_bytes!("recorded/ovmf-shim-grub.http"),
                &[
                    "HEAD /shimx64.efi",
                    "GET /shimx64.efi",
                    "GET /revocations_sku.efi",
                    "GET /revocations_sbat.efi",
                    "GET /shim_certificate_0.efi",
                    "GET //grubx64.efi",
                    "HEAD /grub/x86_64-efi/command.lst",
                    "HEAD /grub/x86_64-efi/fs.lst",
                    "HEAD /grub/x86_64-efi/crypto.lst",
                    "HEAD /grub/x86_64-efi/terminal.lst",
                    "HEAD /grub/grub.cfg",
                    "GET /grub/grub.cfg",
                    "HEAD /boot/grub.cfg?mac=52:54:00:42:25:85&uuid=00000000-0000-0000-0000-000000000000&arch=x86_64-efi",
                    "GET /boot/grub.cfg?mac=52:54:00:42:25:85&uuid=00000000-0000-0000-0000-000000000000&arch=x86_64-efi",
                    "HEAD /boot/vmlinuz",
                    "GET /boot/vmlinuz",
                    "HEAD /boot/site.cpio",
                    "GET /boot/site.cpio",
                    "HEAD /boot/initramfs.cpio.zst",
                    "GET /boot/initramfs.cpio.zst",
                ],
            ),
            (
                include_bytes!("recorded/ovmf-shim-image.http"),
                &[
                    "HEAD /uki/shimx64.efi",
                    "GET /uki/shimx64.efi",
                    "GET /uki/revocations_sku.efi",
                    "GET /uki/revocations_sbat.efi",
                    "GET /uki/shim_certificate_0.efi",
                    "GET /uki//grubx64.efi",
                ],
            ),
        ];
        for (mut sent, expected) in recorded {
            let mut found = Vec::new();
            while let Some(len) = head_end(sent, 0) {
                let (head, rest) = sent.split_at(len);
                let Next::Request(request) = parse(head) else { panic!("{}", head.escape_ascii()) };
                assert!(request.keep && !request.old && request.range.is_none(), "{request:?}");
                found.push(format!("{} {}", format!("{:?}", request.method).to_uppercase(), request.target));
                sent = rest;
            }
            assert!(sent.is_empty(), "{}", sent.escape_ascii());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        for (text, status) in
            [("\0\0\r\n\r\n", 400), ("GET /\r\n\r\n", 400), ("GET / HTTP/3.0\r\n\r\n", 505), (&many, 431)]
        {
            assert_eq!(parse(text.as_bytes()), Next::Refused(status), "{text:?}");
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_comes() {
        assert_eq!(head_end(b"a\r\n\r\nb", 0), Some(5));
        assert_eq!(head_end(b"a\n\nb", 0), Some(3));
        assert_eq!(head_end(b"a\r\nb\r\n", 0), None);
        for from in 0..=2 {
            assert_eq!(head_end(b"a\r\n\r\n", from), Some(5));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            look(&bytes);
        }

        #[test]
        fn no_change_of_a_request_panics(at in 0usize..120, byte in any::<u8>(), cut in 0usize..120) {
            let mut bytes = b"GET //boot/grub.cfg?mac=52:54:00:00:00:01 HTTP/1.1\r\nHost: 10.0.0.1\r\nRange: bytes=0-1\r\n\r\n".to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut.max(1));
            look(&bytes);
            bytes.extend(b"\r\n\r\n");
            look(&bytes);
        }
    }
}
