//! What client and server agree on: RFC 2347 (negotiation), 2348 (blksize), 2349 (timeout, tsize), 7440 (windowsize).
//!
//! Only options the client sent are answered, in its order, never with more than it asked. An unknown option or a value
//! that makes no sense is left out of the OACK; it never costs the request.

use core::time::Duration;

use super::packet::{Mode, Request, oack_packet};

/// Bounds a server sets on one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest block. 1468 fills an Ethernet frame; lower it for clients behind tunnels that lose fragments.
    pub block_bytes: u16,
    /// Most blocks between two acknowledgements.
    pub window_blocks: u16,
    /// Most bytes between two acknowledgements: what an engine may have to hold per client.
    pub window_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { block_bytes: 1468, window_blocks: 64, window_bytes: 1 << 20 }
    }
}

/// RFC 2348.
const BLOCK_RANGE: core::ops::RangeInclusive<u64> = 8..=65464;
/// RFC 1350: without an option.
const DEFAULT_BLOCK: u16 = 512;

/// The agreed terms of one transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) block: u16,
    pub(super) window: u16,
    /// The client's own retransmission interval.
    pub(super) timeout: Option<Duration>,
    pub(super) size_asked: bool,
    /// The answer; `None` when there is nothing to agree on and data starts at once.
    pub(super) oack: Option<Vec<u8>>,
}

impl Terms {
    pub(super) fn agree(request: &Request, limits: &Limits, size: u64) -> Self {
        let mut terms =
            Self { block: DEFAULT_BLOCK, window: 1, timeout: None, size_asked: false, oack: None };
        let limit = u64::from(limits.block_bytes).clamp(*BLOCK_RANGE.start(), *BLOCK_RANGE.end());
        if let Some(asked) = number(request, "blksize").filter(|asked| *asked >= *BLOCK_RANGE.start()) {
            terms.block = u16::try_from(asked.min(limit)).unwrap_or(DEFAULT_BLOCK);
        }
        // The window depends on the block, whichever the client named first.
        let fitting = u64::from(limits.window_bytes).checked_div(terms.block.into()).unwrap_or(1);
        let most = fitting.min(limits.window_blocks.into()).max(1);
        let window = number(request, "windowsize").filter(|asked| (1..=65535).contains(asked));
        if let Some(asked) = window {
            terms.window = u16::try_from(asked.min(most)).unwrap_or(1);
        }
        let mut answer = Vec::new();
        for (name, _) in &request.options {
            let Some(asked) = number(request, name) else { continue };
            match name.as_str() {
                "blksize" if asked >= *BLOCK_RANGE.start() => answer.push(("blksize", terms.block.into())),
                "windowsize" if window.is_some() => answer.push(("windowsize", terms.window.into())),
                "timeout" if (1..=255).contains(&asked) => {
                    terms.timeout = Some(Duration::from_secs(asked));
                    answer.push(("timeout", asked));
                }
                // The size of netascii text depends on its line ends; nobody asks for it.
                "tsize" if request.mode == Mode::Octet => {
                    terms.size_asked = true;
                    answer.push(("tsize", size));
                }
                _ => {}
            }
        }
        terms.oack = (!answer.is_empty()).then(|| oack_packet(&answer));
        terms
    }
}

/// A decimal option value; `None` for anything else.
fn number(request: &Request, name: &str) -> Option<u64> {
    let digits = request.option(name)?;
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| core::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::packet::parse_request;
    use super::*;

    fn agree(options: &str, limits: Limits) -> Terms {
        let request = format!("\0\u{1}f\0octet\0{}", options.replace(' ', "\0") + "\0");
        Terms::agree(&parse_request(request.as_bytes()).unwrap(), &limits, 70_000)
    }

    fn oack(terms: &Terms) -> String {
        let bytes = terms.oack.as_deref().unwrap_or_default();
        String::from_utf8(bytes.get(2..).unwrap_or_default().to_vec())
            .unwrap()
            .replace('\0', " ")
            .trim()
            .to_owned()
    }

    #[test]
    fn answers_what_was_asked_in_order_and_never_more() {
        let cases = [
            // what real clients send, then what they could
            ("tsize 0 blksize 1468 windowsize 4", "tsize 70000 blksize 1468 windowsize 4", 1468, 4),
            ("blksize 512 windowsize 4", "blksize 512 windowsize 4", 512, 4),
            ("blksize 1024 tsize 0", "blksize 1024 tsize 70000", 1024, 1),
            ("blksize 1432 tsize 0", "blksize 1432 tsize 70000", 1432, 1),
            ("windowsize 65535 blksize 65464", "windowsize 64 blksize 1468", 1468, 64),
            ("blksize 99999", "blksize 1468", 1468, 1),
            ("blksize 8", "blksize 8", 8, 1),
            ("timeout 3", "timeout 3", 512, 1),
            ("multicast  blksize 600", "blksize 600", 600, 1),
            // nothing sensible: no OACK at all, RFC 1350 defaults
            ("blksize 7", "", 512, 1),
            ("blksize 0x200", "", 512, 1),
            ("blksize ", "", 512, 1),
            ("blksize -1", "", 512, 1),
            ("blksize 99999999999999999999999", "", 512, 1),
            ("windowsize 0", "", 512, 1),
            ("windowsize 65536", "", 512, 1),
            ("timeout 0", "", 512, 1),
            ("timeout 256", "", 512, 1),
            ("utimeout 5", "", 512, 1),
        ];
        for (options, answer, block, window) in cases {
            let terms = agree(options, Limits::default());
            assert_eq!(
                (oack(&terms).as_str(), terms.block, terms.window),
                (answer, block, window),
                "{options}"
            );
            assert_eq!(terms.oack.is_none(), answer.is_empty(), "{options}");
        }
    }

    #[test]
    fn memory_bounds_the_window_and_the_path_the_block() {
        let big = Limits { block_bytes: 65464, window_blocks: 64, window_bytes: 1 << 20 };
        let terms = agree("windowsize 64 blksize 65464", big);
        assert_eq!((terms.block, terms.window), (65464, 16));
        let tiny = Limits { window_bytes: 100, ..big };
        assert_eq!(agree("windowsize 64 blksize 65464", tiny).window, 1);
        let tunnel = Limits { block_bytes: 1428, ..Limits::default() };
        assert_eq!(oack(&agree("blksize 1468", tunnel)), "blksize 1428");
        assert_eq!(agree("blksize 1468", Limits { block_bytes: 0, ..tunnel }).block, 8);
    }

    #[test]
    fn netascii_has_no_size() {
        let request = parse_request(b"\0\x01f\0netascii\0tsize\x000\0").unwrap();
        assert_eq!(Terms::agree(&request, &Limits::default(), 9).oack, None);
    }
}
