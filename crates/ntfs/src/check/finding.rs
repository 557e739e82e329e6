//! What a check finds, and who is told.

use std::collections::HashMap;
use std::fmt;

use crate::read::fault::Fault;
use crate::rule::{Rule, Severity};

/// Findings of one rule that are told when nobody says otherwise.
const USUALLY_TOLD: u64 = 1000;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// How bad that is here.
    pub severity: Severity,
    /// File record in which it is.
    pub record: Option<u32>,
    /// Attribute of that record, such as `$DATA` or `$DATA:name`.
    pub attribute: Option<String>,
    /// Absolute byte on the volume.
    pub offset: Option<u64>,
    /// As it must be.
    pub expected: String,
    /// As it is.
    pub found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(record) = self.record {
            write!(f, "record {record}")?;
            if let Some(attribute) = &self.attribute {
                write!(f, ", {attribute}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.rule.text())?;
        if let Some(offset) = self.offset {
            write!(f, " at {offset:#x}")?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)
    }
}

/// Who watches a check.
pub trait CheckObserver {
    /// Something was found.
    fn finding(&mut self, finding: &Finding);

    /// Asked again and again; false ends the check with [`crate::Error::Stopped`]. Records are gone through twice, first all,
    /// then those of directories.
    fn goes_on(&mut self, done: u32, all: u32) -> bool {
        let _ = (done, all);
        true
    }

    /// How many findings of one rule are told; the rest is counted. Asked once, before the check.
    fn most_of_a_rule(&self) -> u64 {
        USUALLY_TOLD
    }
}

/// Where something was found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spot<'a> {
    record: Option<u32>,
    attribute: Option<(u32, &'a [u16])>,
    offset: Option<u64>,
}

impl<'a> Spot<'a> {
    pub(super) fn volume(offset: u64) -> Self {
        Self { offset: Some(offset), ..Self::default() }
    }

    pub(super) fn record(record: u32) -> Self {
        Self { record: Some(record), ..Self::default() }
    }

    pub(super) fn attribute(self, kind: u32, name: &'a [u16]) -> Self {
        Self { attribute: Some((kind, name)), ..self }
    }

    pub(super) fn at(self, offset: u64) -> Self {
        Self { offset: Some(offset), ..self }
    }
}

/// Counts findings and passes them on.
pub(super) struct Teller<'a> {
    observer: &'a mut dyn CheckObserver,
    /// Notes count as errors.
    is_strict: bool,
    pub(super) errors: u64,
    pub(super) notes: u64,
    told: HashMap<Rule, u64>,
    /// Findings of one rule that are told.
    most: u64,
}

impl<'a> Teller<'a> {
    pub(super) fn new(observer: &'a mut dyn CheckObserver, is_strict: bool) -> Self {
        let most = observer.most_of_a_rule();
        Self { observer, is_strict, errors: 0, notes: 0, told: HashMap::new(), most }
    }

    pub(super) fn goes_on(&mut self, done: u32, all: u32) -> bool {
        self.observer.goes_on(done, all)
    }

    /// Whether notes count as errors, as on a volume that was just made.
    pub(super) fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// Whether one more finding of the rule would be told, and so is worth finding the details of.
    pub(super) fn is_told(&self, rule: Rule) -> bool {
        self.told.get(&rule).is_none_or(|count| *count < self.most)
    }

    pub(super) fn tell(
        &mut self,
        rule: Rule,
        spot: Spot<'_>,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        let severity = if self.is_strict { Severity::Error } else { rule.severity() };
        let count = match severity {
            Severity::Note => &mut self.notes,
            Severity::Error => &mut self.errors,
        };
        *count = count.saturating_add(1);
        let told = self.told.entry(rule).or_default();
        *told = told.saturating_add(1);
        if *told > self.most {
            return;
        }
        let attribute = spot.attribute.map(|(kind, name)| match name {
            [] => attribute_name(kind),
            name => format!("{}:{}", attribute_name(kind), String::from_utf16_lossy(name)),
        });
        self.observer.finding(&Finding {
            rule,
            severity,
            record: spot.record,
            attribute,
            offset: spot.offset,
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }

    /// A fault whose position counts from the absolute offset `start`.
    pub(super) fn fault(&mut self, spot: Spot<'_>, start: u64, fault: &Fault) {
        let offset = start.saturating_add(crate::read::bytes::wide(fault.pos));
        self.tell(fault.rule, spot.at(offset), &fault.expected, &fault.found);
    }
}

/// Name of a type of attributes.
pub(super) fn attribute_name(kind: u32) -> String {
    let name = match kind {
        0x10 => "$STANDARD_INFORMATION",
        0x20 => "$ATTRIBUTE_LIST",
        0x30 => "$FILE_NAME",
        0x40 => "$OBJECT_ID",
        0x50 => "$SECURITY_DESCRIPTOR",
        0x60 => "$VOLUME_NAME",
        0x70 => "$VOLUME_INFORMATION",
        0x80 => "$DATA",
        0x90 => "$INDEX_ROOT",
        0xa0 => "$INDEX_ALLOCATION",
        0xb0 => "$BITMAP",
        0xc0 => "$REPARSE_POINT",
        0xd0 => "$EA_INFORMATION",
        0xe0 => "$EA",
        0x100 => "$LOGGED_UTILITY_STREAM",
        other => return format!("attribute of type {other:#x}"),
    };
    name.to_owned()
}
