//! Request targets: percent-encoded path to a [`RelativeName`], query to pairs.
//!
//! Firmware writes `//grubx64.efi`, GRUB puts `:` into queries (`?mac=52:54:...`) without encoding it; neither is a mistake
//! worth a 400.

use crate::Error;
use crate::names::{RelativeName, normalise_name};

/// Query pairs looked at; boot configurations use three.
pub const MAX_QUERY_PAIRS: usize = 16;
/// Longest target looked at; more than any boot program can send.
const MAX_TARGET_BYTES: usize = 4096;

/// A request target taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The path below the root.
    pub name: RelativeName,
    /// Query pairs in order, decoded; a part without `=` has an empty value.
    pub query: Vec<(String, String)>,
}

impl Target {
    /// The first value of `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|pair| pair.0 == key).map(|pair| &pair.1[..])
    }
}

/// Takes an origin-form target (`/path?query`) or an absolute one (`http://host/path`) apart.
pub fn parse_target(target: &str) -> Result<Target, Error> {
    let corrupt = |what, offset, expected, found| Error::Corrupt { what, offset, expected, found };
    if target.len() > MAX_TARGET_BYTES {
        let found = target.len().to_string();
        return Err(corrupt("request target", MAX_TARGET_BYTES, "at most 4096 bytes", found));
    }
    let target = target.split('#').next().unwrap_or_default();
    // RFC 9112 section 3.2.2: servers take the absolute form too.
    let local = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    };
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    let name = normalise_name(&decode(path, Plus::Literal))?;
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).take(MAX_QUERY_PAIRS);
    let text = |part| String::from_utf8_lossy(&decode(part, Plus::Space)).into_owned();
    let query = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (text(key), text(value)));
    Ok(Target { name, query: query.collect() })
}

/// What `+` stands for.
#[derive(Clone, Copy, PartialEq)]
enum Plus {
    Literal,
    Space,
}

/// Percent-decoding; a `%` without two digits stands for itself.
fn decode(text: &str, plus: Plus) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let code = (byte == b'%').then(|| Some((digit(0)? << 4) | digit(1)?)).flatten();
        if let Some(code) = code.and_then(|code| u8::try_from(code).ok()) {
            out.push(code);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            out.push(if byte == b'+' && plus == Plus::Space { b' ' } else { byte });
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_firmware_and_grub_are_understood() {
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let cases: [(&str, &str, Pairs); 8] = [
            ("//grubx64.efi", "grubx64.efi", &[]),
            ("/grub.cfg?mac=52:54:00:aa:00:01", "grub.cfg", &[("mac", "52:54:00:aa:00:01")]),
            ("/b%6fot/a%20b?x=1+2&y&z=%41%zz", "boot/a b", &[("x", "1 2"), ("y", ""), ("z", "A%zz")]),
            ("/a+b", "a+b", &[]),
            ("/100%", "100%", &[]),
            ("http://10.0.0.1:8080/x/y?k=v#frag", "x/y", &[("k", "v")]),
            ("HTTP://host/x", "x", &[]),
            ("/b\\x", "b/x", &[]),
        ];
        for (target, name, query) in cases {
            let parsed = parse_target(target).unwrap();
            assert_eq!(parsed.name.to_string(), name);
            let pairs: Vec<_> = parsed.query.iter().map(|(key, value)| (&key[..], &value[..])).collect();
            assert_eq!(pairs, query, "{target}");
        }
        assert_eq!(parse_target("/a?k=1&k=2").unwrap().value("k"), Some("1"));
        let many = format!("/a?{}", "k&".repeat(40));
        assert_eq!(parse_target(&many).unwrap().query.len(), 16);
    }

    #[test]
    fn encoded_ways_out_of_the_root_are_seen() {
        for target in [
            "/../x",
            "/%2e%2e/x",
            "/a/..%2fb",
            "/a%5c..%5cb",
            "http://host/..",
            "/",
            "",
            "http://host",
            "/a%00b",
        ] {
            assert!(parse_target(target).is_err(), "{target}");
        }
        assert!(parse_target(&"/x".repeat(2049)).is_err());
    }
}
