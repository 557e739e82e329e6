//! Host names from a template: `pc-{serial}` and the like, made into a name that every system accepts.

use std::collections::BTreeMap;

use gravure_model::identity::MachineIdentity;
use gravure_model::inventory::Inventory;

use super::Refusal;

/// What a template may name.
const FIELDS: &str = "{serial} {uuid} {mac} {model} {asset} {n}";
/// Widest part that is asked for; names have 63 characters.
const MAX_WIDTH: usize = 63;
/// RFC 1123: one label.
const MAX_NAME_BYTES: usize = 63;
/// Stands for a number in a name that is not complete; no name has it.
const NUMBER: char = '\u{1}';

/// A template filled for one machine, but for its numbers: `b7-{n}`. Machines whose patterns are equal are counted together, so that
/// a template with `{room}` counts each room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    /// With [`NUMBER`] for each number.
    text: String,
    /// How wide each of them is asked for.
    widths: Vec<Option<String>>,
}

impl NamePattern {
    /// Whether there is a number in it.
    pub fn is_numbered(&self) -> bool {
        !self.widths.is_empty()
    }

    /// The name of the machine of this number.
    pub fn name(&self, number: u32) -> String {
        let mut widths = self.widths.iter();
        let mut name = String::new();
        for c in self.text.chars() {
            if c != NUMBER {
                name.push(c);
                continue;
            }
            let number = number.to_string();
            match widths.next().and_then(Option::as_ref) {
                // Checked when the pattern was made.
                Some(width) => name.push_str(&cut("n", &number, width).unwrap_or(number)),
                None => name.push_str(&number),
            }
        }
        name
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text.replace(NUMBER, "{n}"))
    }
}

/// What is known of a machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) identity: &'a MachineIdentity,
    /// What the site's table says, by column.
    pub(super) table: &'a BTreeMap<String, String>,
}

/// The name of the machine that has this number, checked.
pub(super) fn fill(template: &str, facts: Facts<'_>, number: u32) -> Result<String, Refusal> {
    let name = pattern(template, facts)?.name(number);
    let refuse = |why: String| Refusal::HostName { template: template.into(), found: name.clone(), why };
    if name.len() > MAX_NAME_BYTES {
        return Err(refuse(format!("{} characters, {MAX_NAME_BYTES} are allowed", name.len())));
    }
    if name.bytes().all(|c| c.is_ascii_digit()) {
        return Err(refuse("a name of digits only is taken for an address".into()));
    }
    Ok(name)
}

/// Fills the template's fields but for numbers and cleans the result: letters, digits and inner dashes, lower case.
pub(super) fn pattern(template: &str, facts: Facts<'_>) -> Result<NamePattern, Refusal> {
    let Facts { inventory, identity, table } = facts;
    let refuse =
        |found: &str, why: String| Refusal::HostName { template: template.into(), found: found.into(), why };
    let mut filled = String::new();
    let mut widths = Vec::new();
    if template.contains(NUMBER) {
        return Err(refuse(template, "a control character stands in it".into()));
    }
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (field, after) =
            after.split_once('}').ok_or_else(|| refuse(&filled, "a brace is not closed".into()))?;
        let (name, width) = match field.split_once(':') {
            Some((name, width)) => (name, Some(width)),
            None => (field, None),
        };
        let value = match name {
            "serial" => identity.serial.clone(),
            "uuid" => identity.uuid.clone(),
            // Without separators, as asset labels print it.
            "mac" => identity.macs.first().map(|mac| mac.to_string().replace(':', "")),
            "model" => inventory.smbios.system.product.clone(),
            "asset" => inventory.smbios.chassis.asset_tag.clone(),
            "n" => {
                if let Some(width) = width {
                    cut(name, "1", width).map_err(|why| refuse(&filled, why))?;
                }
                widths.push(width.map(str::to_owned));
                filled.push(NUMBER);
                rest = after;
                continue;
            }
            other => match table.get(other) {
                Some(value) => Some(value.clone()),
                None => {
                    let why = format!(
                        "{{{other}}} is not one of {FIELDS}, and the site's names.csv has none for this machine"
                    );
                    return Err(refuse(&filled, why));
                }
            },
        };
        let value = value.ok_or_else(|| refuse(&filled, format!("the machine has no {name}")))?;
        let value = match width {
            Some(width) => cut(name, &value, width).map_err(|why| refuse(&filled, why))?,
            None => value,
        };
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    let text = clean(&filled);
    if text.is_empty() {
        return Err(refuse(&filled, "nothing is left of it as a host name".into()));
    }
    Ok(NamePattern { text, widths })
}

/// A part of a value: `8` its first characters, `-8` its last ones, of letters and digits alone. Of an address the last ones
/// are meant either way, as the first are its maker's. Numbers are filled up: `3` with blanks that vanish, `03` with zeros.
fn cut(field: &str, value: &str, width: &str) -> Result<String, String> {
    let digits = width.strip_prefix('-').unwrap_or(width);
    let count = digits.parse::<usize>().ok().filter(|count| (1..=MAX_WIDTH).contains(count));
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    let count = count.filter(|_| is_plain).ok_or_else(|| {
        format!("{{{field}:{width}}}: expected a number of characters, 1 to {MAX_WIDTH}, found {width:?}")
    })?;
    if field == "n" {
        let fill = if digits.starts_with('0') {
            "0".repeat(count.saturating_sub(value.len()))
        } else {
            String::new()
        };
        return Ok(fill + value);
    }
    let plain: Vec<char> = value.chars().filter(char::is_ascii_alphanumeric).collect();
    let from_end = width.starts_with('-') || field == "mac";
    let start = if from_end { plain.len().saturating_sub(count) } else { 0 };
    Ok(plain.into_iter().skip(start).take(count).collect())
}

/// Anything else becomes a dash; runs of dashes become one, and none stands at an end.
fn clean(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == NUMBER {
            name.push(c.to_ascii_lowercase());
        } else if !name.ends_with('-') && !name.is_empty() {
            name.push('-');
        }
    }
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use gravure_model::identity::Mac;

    use super::*;

    #[test]
    fn fills_and_cleans() {
        let mut inventory = Inventory::default();
        inventory.smbios.system.product = Some("OptiPlex 7090 (SFF)".into());
        inventory.smbios.chassis.asset_tag = Some("INV-00815".into());
        let identity = MachineIdentity::new(None, Some("ABC/123 "), [Mac([0x52, 0x54, 0, 1, 2, 3])]);
        let table = BTreeMap::from([("room".to_owned(), "B7".to_owned())]);
        let facts = Facts { inventory: &inventory, identity: &identity, table: &table };
        let cases = [
            ("pc-{serial}", Ok("pc-abc-123")),
            ("{model}", Ok("optiplex-7090-sff")),
            ("Lab {n}", Ok("lab-7")),
            ("x{mac}", Ok("x525400010203")),
            ("pc-{uuid}", Err("the machine has no uuid")),
            (
                "pc-{owner}",
                Err(
                    "{owner} is not one of {serial} {uuid} {mac} {model} {asset} {n}, and the site's names.csv has none for this machine",
                ),
            ),
            ("{room}-{n:02}", Ok("b7-07")),
            ("{room:1}{mac:4}", Ok("b0203")),
            ("pc-{serial:-3}", Ok("pc-123")),
            ("pc-{serial:2}", Ok("pc-ab")),
            ("pc-{serial:-20}", Ok("pc-abc123")),
            ("x{mac:6}", Ok("x010203")),
            ("x{mac:-4}", Ok("x0203")),
            ("room7-{n:03}", Ok("room7-007")),
            ("room7-{n:3}", Ok("room7-7")),
            ("pc-{asset:4}", Ok("pc-inv0")),
            ("{serial:x}", Err("{serial:x}: expected a number of characters, 1 to 63, found \"x\"")),
            ("{serial:0}", Err("{serial:0}: expected a number of characters, 1 to 63, found \"0\"")),
            ("{serial:+1}", Err("{serial:+1}: expected a number of characters, 1 to 63, found \"+1\"")),
            ("pc-{serial", Err("a brace is not closed")),
            ("--", Err("nothing is left of it as a host name")),
            ("{n}", Err("a name of digits only is taken for an address")),
        ];
        for (template, wanted) in cases {
            let found = fill(template, facts, 7);
            match (wanted, found) {
                (Ok(wanted), Ok(found)) => assert_eq!(found, wanted),
                (Err(wanted), Err(Refusal::HostName { why, .. })) => assert_eq!(why, wanted),
                (_, found) => panic!("{template}: {found:?}"),
            }
        }
        let long = "a".repeat(64);
        let refused = fill(&long, facts, 1).unwrap_err().to_string();
        assert!(refused.ends_with("64 characters, 63 are allowed"), "{refused}");
    }

    #[test]
    fn machines_of_one_pattern_are_counted_together() {
        let inventory = Inventory::default();
        let identity = MachineIdentity::new(None, Some("SN1"), []);
        let of = |template: &str, room: &str| {
            let table = BTreeMap::from([("room".to_owned(), room.to_owned())]);
            pattern(template, Facts { inventory: &inventory, identity: &identity, table: &table }).unwrap()
        };
        assert_eq!(of("{room}-{n:03}", "B7").to_string(), "b7-{n}");
        assert_eq!(of("{room}-{n:03}", "B7"), of("{room}-{n:03}", "b7"));
        assert_ne!(of("{room}-{n:03}", "B7"), of("{room}-{n:03}", "B8"));
        // Another width is another way to write the same names.
        assert_eq!(of("{room}-{n}", "B7").to_string(), of("B7 {n:03}", "x").to_string());
        assert_eq!(of("{room}-{n:03}", "B7").name(12), "b7-012");
        assert_eq!(of("{n}-{room}-{n:02}", "B7").name(3), "3-b7-03");
        assert!(of("{room}-{n}", "B7").is_numbered() && !of("{room}", "B7").is_numbered());
        // What is left of an empty room is no dash in front.
        assert_eq!(of("{room}-{n}", "").name(4), "4");
        let table = BTreeMap::new();
        let facts = Facts { inventory: &inventory, identity: &identity, table: &table };
        assert!(pattern("a\u{1}b", facts).is_err() && pattern("{n:x}", facts).is_err());
    }
}
