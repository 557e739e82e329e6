//! SDDL: security descriptors as text ([MS-DTYP] 2.5.1).

use super::{Ace, AceBody, Acl, ObjectTypes, SecurityDescriptor, Sid};
use crate::Guid;

/// Why text is no descriptor, or a descriptor has no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: expected {expected}, found {found:?}")]
pub struct SddlError {
    /// Which part.
    pub what: &'static str,
    /// What may stand there.
    pub expected: &'static str,
    /// What stands there.
    pub found: String,
}

fn error(what: &'static str, expected: &'static str, found: impl Into<String>) -> SddlError {
    SddlError { what, expected, found: found.into() }
}

/// Entries of a list at most: more cannot fit into its size field.
const MAX_ENTRIES: usize = 8000;

/// Identifiers with two letters. Those that depend on a domain are not among them: the text has no domain.
const SIDS: &[(&str, u64, &[u32])] = &[
    ("WD", 1, &[0]),
    ("CO", 3, &[0]),
    ("CG", 3, &[1]),
    ("OW", 3, &[4]),
    ("NU", 5, &[2]),
    ("IU", 5, &[4]),
    ("SU", 5, &[6]),
    ("AN", 5, &[7]),
    ("ED", 5, &[9]),
    ("PS", 5, &[10]),
    ("AU", 5, &[11]),
    ("RC", 5, &[12]),
    ("SY", 5, &[18]),
    ("LS", 5, &[19]),
    ("NS", 5, &[20]),
    ("WR", 5, &[33]),
    ("BA", 5, &[32, 544]),
    ("BU", 5, &[32, 545]),
    ("BG", 5, &[32, 546]),
    ("PU", 5, &[32, 547]),
    ("AO", 5, &[32, 548]),
    ("SO", 5, &[32, 549]),
    ("PO", 5, &[32, 550]),
    ("BO", 5, &[32, 551]),
    ("RE", 5, &[32, 552]),
    ("RU", 5, &[32, 554]),
    ("RD", 5, &[32, 555]),
    ("NO", 5, &[32, 556]),
    ("MU", 5, &[32, 558]),
    ("LU", 5, &[32, 559]),
    ("IS", 5, &[32, 568]),
    ("CY", 5, &[32, 569]),
    ("ER", 5, &[32, 573]),
    ("CD", 5, &[32, 574]),
    ("AC", 15, &[2, 1]),
    ("LW", 16, &[4096]),
    ("ME", 16, &[8192]),
    ("MP", 16, &[8448]),
    ("HI", 16, &[12288]),
    ("SI", 16, &[16384]),
];

/// Kinds of entries.
const KINDS: &[(&str, u8)] =
    &[("A", 0), ("D", 1), ("AU", 2), ("AL", 3), ("OA", 5), ("OD", 6), ("OU", 7), ("ML", 17)];

/// Flags of entries.
const FLAGS: &[(&str, u8)] =
    &[("OI", 1), ("CI", 2), ("NP", 4), ("IO", 8), ("ID", 0x10), ("SA", 0x40), ("FA", 0x80)];

/// Rights with a name for the whole mask; the first that fits is printed.
const WHOLE_RIGHTS: &[(&str, u32)] = &[
    ("KA", 0xf003f),
    ("KR", 0x20019),
    ("KW", 0x20006),
    ("KX", 0x20019),
    ("FA", 0x1f01ff),
    ("FR", 0x120089),
    ("FW", 0x120116),
    ("FX", 0x1200a0),
];

/// Rights of one bit, in the order Windows prints them.
const RIGHTS: &[(&str, u32)] = &[
    ("CC", 1),
    ("DC", 2),
    ("LC", 4),
    ("SW", 8),
    ("RP", 0x10),
    ("WP", 0x20),
    ("DT", 0x40),
    ("LO", 0x80),
    ("CR", 0x100),
    ("SD", 0x10000),
    ("RC", 0x20000),
    ("WD", 0x40000),
    ("WO", 0x80000),
    ("GA", 0x1000_0000),
    ("GX", 0x2000_0000),
    ("GW", 0x4000_0000),
    ("GR", 0x8000_0000),
];

/// Rights of mandatory labels.
const LABEL_RIGHTS: &[(&str, u32)] = &[("NW", 1), ("NR", 2), ("NX", 4)];
const LABEL_KIND: u8 = 17;

/// Control bits in the flags of a list: protected, inheritance asked for, inherited.
const DACL_FLAGS: &[(&str, u16)] = &[("P", 0x1000), ("AR", 0x0100), ("AI", 0x0400)];
const SACL_FLAGS: &[(&str, u16)] = &[("P", 0x2000), ("AR", 0x0200), ("AI", 0x0800)];
const NULL_LIST: &str = "NO_ACCESS_CONTROL";

/// `S-1-...` or two letters.
pub(super) fn sid(text: &str) -> Result<Sid, SddlError> {
    let bad = || error("identifier", "S-1-... or a known pair of letters", text);
    if let Some((_, authority, subs)) = SIDS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(text)) {
        return Sid::new(*authority, subs).ok_or_else(bad);
    }
    let mut parts = text.split('-');
    let head = (parts.next(), parts.next());
    if !matches!(head, (Some("S" | "s"), Some("1"))) {
        return Err(bad());
    }
    let authority = parts.next().ok_or_else(bad)?;
    let authority = match authority.strip_prefix("0x").or_else(|| authority.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => authority.parse(),
    };
    let subs: Result<Vec<u32>, _> = parts.take(16).map(str::parse).collect();
    match (authority, subs) {
        (Ok(authority), Ok(subs)) => Sid::new(authority, &subs).ok_or_else(bad),
        _ => Err(bad()),
    }
}

fn sid_text(sid: &Sid) -> String {
    let known = SIDS.iter().find(|(_, authority, subs)| sid.authority == *authority && sid.subs == *subs);
    known.map_or_else(|| sid.to_string(), |(name, ..)| (*name).to_owned())
}

pub(super) fn parse(text: &str) -> Result<SecurityDescriptor, SddlError> {
    let mut out = SecurityDescriptor::default();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let part = ["O:", "G:", "D:", "S:"].into_iter().find(|part| starts(rest, part));
        let part = part.ok_or_else(|| error("descriptor", "O:, G:, D: or S:", rest))?;
        rest = rest.get(2..).unwrap_or_default();
        let len = part_len(rest);
        let (content, after) = rest.split_at_checked(len).unwrap_or((rest, ""));
        let is_new = match part {
            "O:" => out.owner.replace(sid(content)?).is_none(),
            "G:" => out.group.replace(sid(content)?).is_none(),
            "D:" => out.dacl.replace(list(content, DACL_FLAGS, &mut out.control)?).is_none(),
            _ => out.sacl.replace(list(content, SACL_FLAGS, &mut out.control)?).is_none(),
        };
        if !is_new {
            return Err(error("descriptor", "each part once", part));
        }
        rest = after;
    }
    Ok(out)
}

fn starts(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Bytes up to the next part: a letter and a colon outside of parentheses.
fn part_len(text: &str) -> usize {
    let mut depth = 0usize;
    let mut previous = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => return previous,
            _ => {}
        }
        previous = at;
    }
    text.len()
}

fn list(text: &str, names: &[(&str, u16)], control: &mut u16) -> Result<Option<Acl>, SddlError> {
    let (flags, entries) = match text.find('(') {
        Some(at) => text.split_at_checked(at).unwrap_or((text, "")),
        None => (text, ""),
    };
    let mut rest = flags.trim();
    let mut is_null = false;
    while !rest.is_empty() {
        if starts(rest, NULL_LIST) {
            is_null = true;
            rest = rest.get(NULL_LIST.len()..).unwrap_or_default();
            continue;
        }
        let found = names.iter().find(|(name, _)| starts(rest, name));
        let (name, bit) =
            found.ok_or_else(|| error("flags of a list", "P, AR, AI or NO_ACCESS_CONTROL", rest))?;
        *control |= bit;
        rest = rest.get(name.len()..).unwrap_or_default();
    }
    if is_null {
        return if entries.is_empty() { Ok(None) } else { Err(error("null list", "no entries", entries)) };
    }
    let mut out = Acl { revision: 2, entries: Vec::new() };
    let mut rest = entries.trim();
    while !rest.is_empty() {
        let inner = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (inner, after) =
            inner.ok_or_else(|| error("access entry", "(kind;flags;rights;;;whom)", rest))?;
        let entry = ace(inner)?;
        if matches!(&entry.body, AceBody::Rights { types: Some(_), .. }) {
            out.revision = 4;
        }
        out.entries.push(entry);
        if out.entries.len() > MAX_ENTRIES {
            return Err(error("access list", "at most 8000 entries", "more"));
        }
        rest = after.trim_start();
    }
    Ok(Some(out))
}

fn ace(text: &str) -> Result<Ace, SddlError> {
    let fields: Vec<&str> = text.split(';').map(str::trim).collect();
    let [kind, flags, rights, object, inherited, whom] = fields.as_slice() else {
        return Err(error("access entry", "six fields", text));
    };
    let known = KINDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
    let (_, kind) =
        known.ok_or_else(|| error("kind of access entry", "A, D, AU, AL, OA, OD, OU or ML", *kind))?;
    let mut bits = 0;
    for pair in pairs(flags)? {
        let known = FLAGS.iter().find(|(name, _)| name.eq_ignore_ascii_case(pair));
        let known = known.ok_or_else(|| error("flags of access entry", "OI CI NP IO ID SA FA", pair))?;
        bits |= known.1;
    }
    let types = ObjectTypes { object: guid(object)?, inherited: guid(inherited)? };
    let has_types = Ace::has_types(*kind);
    if !has_types && types != ObjectTypes::default() {
        return Err(error("access entry", "GUIDs in OA, OD and OU only", text));
    }
    let body = AceBody::Rights {
        mask: mask(rights)?,
        types: has_types.then_some(types),
        sid: sid(whom)?,
        extra: Vec::new(),
    };
    Ok(Ace { kind: *kind, flags: bits, body })
}

fn pairs(text: &str) -> Result<Vec<&str>, SddlError> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(error("access entry", "pairs of letters", text));
    }
    Ok((0..text.len()).step_by(2).filter_map(|at| text.get(at..at.saturating_add(2))).collect())
}

fn mask(text: &str) -> Result<u32, SddlError> {
    let bad = |found: &str| error("rights", "pairs of letters or a number", found);
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(hex, 16).map_err(|_| bad(text));
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.parse().map_err(|_| bad(text));
    }
    pairs(text)?.into_iter().try_fold(0, |mask, pair| {
        let mut known = RIGHTS.iter().chain(WHOLE_RIGHTS).chain(LABEL_RIGHTS);
        let found = known.find(|(name, _)| name.eq_ignore_ascii_case(pair));
        found.map(|(_, bits)| mask | bits).ok_or_else(|| bad(pair))
    })
}

fn guid(text: &str) -> Result<Option<Guid>, SddlError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| error("GUID", "8-4-4-4-12 hexadecimal digits", text))
}

pub(super) fn print(descriptor: &SecurityDescriptor) -> Result<String, SddlError> {
    let mut out = String::new();
    for (part, sid) in [("O:", &descriptor.owner), ("G:", &descriptor.group)] {
        if let Some(sid) = sid {
            out.push_str(part);
            out.push_str(&sid_text(sid));
        }
    }
    let lists = [("D:", &descriptor.dacl, DACL_FLAGS), ("S:", &descriptor.sacl, SACL_FLAGS)];
    for (part, list, names) in lists {
        let Some(list) = list else { continue };
        out.push_str(part);
        let set = names.iter().filter(|(_, bit)| descriptor.control & bit != 0);
        set.for_each(|(name, _)| out.push_str(name));
        match list {
            Some(list) => list.entries.iter().try_for_each(|entry| print_ace(entry, &mut out))?,
            None => out.push_str(NULL_LIST),
        }
    }
    Ok(out)
}

fn print_ace(ace: &Ace, out: &mut String) -> Result<(), SddlError> {
    let no_text = |found: String| error("access entry", "a kind that has a text", found);
    let kind = KINDS.iter().find(|(_, kind)| *kind == ace.kind);
    let (kind, _) = kind.ok_or_else(|| no_text(format!("kind {}", ace.kind)))?;
    let AceBody::Rights { mask, types, sid, extra } = &ace.body else {
        return Err(no_text(format!("kind {}", ace.kind)));
    };
    if extra.iter().any(|byte| *byte != 0) {
        return Err(no_text(format!("{} bytes behind the identifier", extra.len())));
    }
    let known = FLAGS.iter().fold(0, |all, (_, bit)| all | bit);
    if ace.flags & !known != 0 {
        return Err(no_text(format!("flags {:#04x}", ace.flags)));
    }
    let flags: String = FLAGS.iter().filter(|(_, bit)| ace.flags & bit != 0).map(|(name, _)| *name).collect();
    let types = types.clone().unwrap_or_default();
    let guid = |guid: Option<Guid>| guid.map(|guid| guid.to_string()).unwrap_or_default();
    let rights = mask_text(*mask, ace.kind);
    let (object, inherited) = (guid(types.object), guid(types.inherited));
    out.push_str(&format!("({kind};{flags};{rights};{object};{inherited};{})", sid_text(sid)));
    Ok(())
}

fn mask_text(mask: u32, kind: u8) -> String {
    if kind != LABEL_KIND
        && let Some((name, _)) = WHOLE_RIGHTS.iter().find(|(_, bits)| *bits == mask)
    {
        return (*name).to_owned();
    }
    let names = if kind == LABEL_KIND { LABEL_RIGHTS } else { RIGHTS };
    if mask & !names.iter().fold(0, |all, (_, bit)| all | bit) != 0 {
        return format!("{mask:#x}");
    }
    names.iter().filter(|(_, bit)| mask & bit != 0).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_the_way_through_bytes() {
        for text in [
            "O:BAG:SYD:PAI(A;CI;KA;;;BA)(A;CIIO;GA;;;CO)(A;CI;KR;;;AC)",
            "D:NO_ACCESS_CONTROL",
            "O:S-1-5-21-1-2-3-500D:(D;OICI;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;WD)",
            "D:AI(OA;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;PS)S:(ML;;NW;;;HI)",
            "D:(A;;0x200;;;AU)",
            "D:",
            "",
        ] {
            let descriptor = parse(text).unwrap();
            let again = SecurityDescriptor::parse(&descriptor.to_bytes().unwrap()).unwrap();
            assert_eq!(print(&again).unwrap(), text);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, what) in [
            ("X:BA", "descriptor"),
            ("O:DA", "identifier"),
            ("O:BAO:SY", "descriptor"),
            ("D:Q(A;;KA;;;BA)", "flags of a list"),
            ("D:(A;;KA;;BA)", "access entry"),
            ("D:(Z;;KA;;;BA)", "kind of access entry"),
            ("D:(A;XX;KA;;;BA)", "flags of access entry"),
            ("D:(A;;QQ;;;BA)", "rights"),
            ("D:(A;;KA;;;BA", "access entry"),
            ("D:(OA;;KA;12;;BA)", "GUID"),
            ("D:NO_ACCESS_CONTROL(A;;KA;;;BA)", "null list"),
            ("D:(A;;KA;;;é)", "identifier"),
            ("D:(A;é;KA;;;BA)", "access entry"),
        ] {
            assert_eq!(parse(text).map_err(|error| error.what), Err(what), "{text}");
        }
    }
}
