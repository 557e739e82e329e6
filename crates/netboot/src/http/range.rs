//! Which bytes to send: `Range` and `If-Range` (RFC 9110 sections 13.1.5 and 14).
//!
//! One part or everything: several ranges are answered by one part when they touch, else by the whole content, which
//! section 14.2 allows and which no client of ours minds. `multipart/byteranges` is never produced.

use core::fmt;

/// Ranges looked at in one header; more are answered with the whole content (section 17.15: egregious requests).
const MAX_RANGES: usize = 16;

/// What a decision needs to know. Only for GET; other methods have no ranges (section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RangeQuery<'a> {
    /// The `Range` header.
    pub range: Option<&'a [u8]>,
    /// The `If-Range` header.
    pub if_range: Option<&'a [u8]>,
    /// The current entity tag with its quotes, as sent in `ETag`. A weak one never satisfies `If-Range`.
    pub etag: Option<&'a str>,
    /// Length of the content in bytes.
    pub size: u64,
}

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeDecision {
    /// 200 with everything.
    Whole,
    /// 206 with `len` bytes from `start`; `len` is never 0 and the part lies inside the content.
    Part {
        /// First byte.
        start: u64,
        /// How many.
        len: u64,
    },
    /// 416 with no content.
    Unsatisfiable,
}

impl RangeDecision {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Whole => 200,
            Self::Part { .. } => 206,
            Self::Unsatisfiable => 416,
        }
    }

    /// The `Content-Range` header, where one is due.
    #[must_use]
    pub fn content_range(&self, size: u64) -> Option<String> {
        match *self {
            Self::Whole => None,
            Self::Part { start, len } => {
                let last = start.saturating_add(len).saturating_sub(1);
                Some(format!("bytes {start}-{last}/{size}"))
            }
            Self::Unsatisfiable => Some(format!("bytes */{size}")),
        }
    }

    /// What to send of content of `size` bytes: its start and length.
    #[must_use]
    pub fn extent(&self, size: u64) -> (u64, u64) {
        match *self {
            Self::Whole => (0, size),
            Self::Part { start, len } => (start, len),
            Self::Unsatisfiable => (0, 0),
        }
    }
}

impl fmt::Display for RangeDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(f, "whole"),
            Self::Part { start, len } => write!(f, "{len} bytes from {start}"),
            Self::Unsatisfiable => write!(f, "unsatisfiable"),
        }
    }
}

/// Decides what to send.
#[must_use]
pub fn decide_range(query: &RangeQuery<'_>) -> RangeDecision {
    let Some(ranges) = query.range.and_then(parse_ranges) else { return RangeDecision::Whole };
    if !if_range_holds(query) {
        return RangeDecision::Whole;
    }
    let mut there: Vec<(u64, u64)> = ranges.iter().filter_map(|range| range.resolve(query.size)).collect();
    there.sort_unstable();
    let mut there = there.into_iter();
    let Some((start, mut end)) = there.next() else {
        // Nothing can be a part of nothing: the empty content is sent whole.
        let suffix = ranges.iter().any(|range| matches!(range, Spec::Last(1..)));
        return if query.size == 0 && suffix { RangeDecision::Whole } else { RangeDecision::Unsatisfiable };
    };
    for (next_start, next_end) in there {
        if next_start > end {
            return RangeDecision::Whole;
        }
        end = end.max(next_end);
    }
    RangeDecision::Part { start, len: end.saturating_sub(start) }
}

/// One range as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-last`, both included.
    Between(u64, u64),
    /// `first-`.
    From(u64),
    /// `-count`: so many at the end.
    Last(u64),
}

impl Spec {
    /// Start and end (excluded) inside content of `size` bytes; `None` when nothing of it is there.
    fn resolve(self, size: u64) -> Option<(u64, u64)> {
        let (start, end) = match self {
            Self::Between(first, last) => (first, last.saturating_add(1).min(size)),
            Self::From(first) => (first, size),
            Self::Last(count) => (size.saturating_sub(count), size),
        };
        (start < end).then_some((start, end))
    }
}

/// The ranges of a header; `None` when it is to be ignored: another unit, bad syntax (section 14.2), or too many.
fn parse_ranges(header: &[u8]) -> Option<Vec<Spec>> {
    let header = core::str::from_utf8(header).ok()?;
    let (unit, list) = header.split_once('=')?;
    if !unit.trim_matches(blank).eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = Vec::new();
    for item in list.split(',') {
        let item = item.trim_matches(blank);
        // Empty elements of a list count for nothing (section 5.6.1.2).
        if item.is_empty() {
            continue;
        }
        if ranges.len() == MAX_RANGES {
            return None;
        }
        ranges.push(match item.split_once('-')? {
            ("", count) => Spec::Last(position(count)?),
            (first, "") => Spec::From(position(first)?),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(Spec::Between(first, last))?
            }
        });
    }
    (!ranges.is_empty()).then_some(ranges)
}

fn blank(sign: char) -> bool {
    matches!(sign, ' ' | '\t')
}

/// A decimal number; those beyond 64 bits are beyond every content and saturate.
fn position(digits: &str) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.bytes().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit & 0x0f))?;
        Some(value.saturating_mul(10).saturating_add(digit))
    })
}

/// Whether the client's copy is current. Only a strong entity tag proves it; a date never does, because two versions may
/// share a second, and then the whole content is right in any case.
fn if_range_holds(query: &RangeQuery<'_>) -> bool {
    let Some(condition) = query.if_range else { return true };
    let current = query.etag.filter(|tag| tag.starts_with('"'));
    current.is_some_and(|tag| condition.trim_ascii() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::RangeDecision::{Unsatisfiable, Whole};
    use super::*;

    fn part(start: u64, len: u64) -> RangeDecision {
        RangeDecision::Part { start, len }
    }

    fn decide(range: &str, size: u64) -> RangeDecision {
        decide_range(&RangeQuery { range: Some(range.as_bytes()), size, ..RangeQuery::default() })
    }

    #[test]
    fn single_ranges_are_clipped_to_the_content() {
        let cases = [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-99", part(0, 100)),
            ("bytes=10-", part(10, 90)),
            ("bytes=10-1000", part(10, 90)),
            ("bytes=99-99", part(99, 1)),
            ("bytes=-1", part(99, 1)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=100-", Unsatisfiable),
            ("bytes=100-200", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=0-99999999999999999999999", part(0, 100)),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=0-18446744073709551615", part(0, 100)),
            ("BYTES=1-2", part(1, 2)),
            ("bytes= 1-2 ", part(1, 2)),
            ("bytes=,1-2,", part(1, 2)),
        ];
        for (range, decision) in cases {
            assert_eq!(decide(range, 100), decision, "{range}");
        }
    }

    #[test]
    fn what_is_not_a_range_is_ignored() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=1-2-3",
            "bytes=0x1-2",
            "lines=1-2",
            "bytes=1-2,x",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes:1-2",
            "\u{661}=1-2",
        ] {
            assert_eq!(decide(range, 100), Whole, "{range}");
        }
        let bytes = RangeQuery { range: Some(b"bytes=\xff"), size: 100, ..RangeQuery::default() };
        assert_eq!(decide_range(&bytes), Whole);
        assert_eq!(decide_range(&RangeQuery { size: 100, ..RangeQuery::default() }), Whole);
    }

    #[test]
    fn several_ranges_are_one_part_when_they_touch_else_the_whole() {
        let cases = [
            ("bytes=0-9,10-19", part(0, 20)),
            ("bytes=5-15,0-9", part(0, 16)),
            ("bytes=0-9,20-29,10-19", part(0, 30)),
            ("bytes=30-39,0-9,10-19", Whole),
            ("bytes=0-9,20-29", Whole),
            ("bytes=0-0,-1", Whole),
            ("bytes=0-9,200-300", part(0, 10)),
            ("bytes=200-300,400-", Unsatisfiable),
            ("bytes=0-,0-,0-", part(0, 100)),
            ("bytes=50-,-60", part(40, 60)),
        ];
        for (range, decision) in cases {
            assert_eq!(decide(range, 100), decision, "{range}");
        }
        let many = format!("bytes={}", "0-9,".repeat(17));
        assert_eq!(decide(&many, 100), Whole);
        assert_eq!(decide(&many.replacen("0-9,", "", 1), 100), part(0, 10));
    }

    #[test]
    fn empty_content_has_no_parts() {
        for (range, decision) in
            [("bytes=0-", Unsatisfiable), ("bytes=-5", Whole), ("bytes=-0", Unsatisfiable)]
        {
            assert_eq!(decide(range, 0), decision, "{range}");
        }
    }

    #[test]
    fn if_range_needs_the_same_strong_tag() {
        let cases = [
            (None, Some("\"a\""), part(0, 1)),
            (Some("\"a\""), Some("\"a\""), part(0, 1)),
            (Some(" \"a\" "), Some("\"a\""), part(0, 1)),
            (Some("\"b\""), Some("\"a\""), Whole),
            (Some("W/\"a\""), Some("\"a\""), Whole),
            (Some("W/\"a\""), Some("W/\"a\""), Whole),
            (Some("\"a\""), None, Whole),
            (Some("Tue, 01 Jul 2025 10:00:00 GMT"), Some("\"a\""), Whole),
        ];
        for (condition, etag, decision) in cases {
            let if_range = condition.map(str::as_bytes);
            let query = RangeQuery { range: Some(b"bytes=0-0"), if_range, etag, size: 9 };
            assert_eq!(decide_range(&query), decision, "{condition:?} {etag:?}");
        }
        // A changed file is sent whole even where the old range would not be there any more.
        let query =
            RangeQuery { range: Some(b"bytes=50-"), if_range: Some(b"\"b\""), etag: Some("\"a\""), size: 9 };
        assert_eq!(decide_range(&query), Whole);
    }

    #[test]
    fn headers_follow_the_decision() {
        let cases = [
            (Whole, 200, None, (0, 100)),
            (part(10, 5), 206, Some("bytes 10-14/100"), (10, 5)),
            (Unsatisfiable, 416, Some("bytes */100"), (0, 0)),
        ];
        for (decision, status, header, extent) in cases {
            assert_eq!(decision.status(), status);
            assert_eq!(decision.content_range(100).as_deref(), header);
            assert_eq!(decision.extent(100), extent);
        }
    }
}
