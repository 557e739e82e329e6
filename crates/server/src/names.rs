//! The site's table of machines: `names.csv`, as spreadsheets save it. Its first line names the columns. `uuid`, `serial` and `mac` say
//! which machine a line is of; all others are what host name templates and layers may name: `name`, `room`, whatever a site keeps.

use std::collections::BTreeMap;
use std::path::Path;

use gravure_model::identity::{Mac, MachineIdentity};

/// Columns that say which machine is meant.
const KEYS: [&str; 3] = ["uuid", "serial", "mac"];
/// Largest table read: a hundred thousand machines.
const MAX_BYTES: u64 = 64 << 20;

/// The table, read when it is asked for: people edit it while the server runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NameTable {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl NameTable {
    /// Reads the file; an empty table where there is none.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Ok(facts) if facts.len() > MAX_BYTES => {
                return Err(format!("{shown}: expected at most {MAX_BYTES} bytes, found {}", facts.len()));
            }
            _ => {}
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        Self::parse(&text).map_err(|why| format!("{shown}: {why}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let head = text.lines().next().unwrap_or_default();
        // Spreadsheets of many countries write semicolons.
        let separator = if head.contains(';') && !head.contains(',') { ';' } else { ',' };
        let mut rows = records(text, separator)?;
        rows.retain(|(_, row)| row.iter().any(|field| !field.is_empty()));
        let mut rows = rows.into_iter();
        let Some((_, columns)) = rows.next() else { return Ok(Self::default()) };
        let columns: Vec<String> = columns.iter().map(|name| name.to_lowercase()).collect();
        let is_name =
            |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if let Some(bad) = columns.iter().find(|name| !is_name(name)) {
            return Err(format!("column {bad:?}: expected letters, digits and underscores"));
        }
        if !columns.iter().any(|name| KEYS.contains(&name.as_str())) {
            return Err(format!(
                "columns {}: expected one of {} among them",
                columns.join(" "),
                KEYS.join(" ")
            ));
        }
        let mut out = Self { columns, rows: Vec::new() };
        for (line, row) in rows {
            if row.len() != out.columns.len() {
                return Err(format!(
                    "line {line}: expected {} fields, found {}",
                    out.columns.len(),
                    row.len()
                ));
            }
            out.rows.push(row);
        }
        Ok(out)
    }

    /// What may be named beside the machine's own facts.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str).filter(|name| !KEYS.contains(name))
    }

    /// The fields of a machine: of the first line that names it. Empty ones are left out.
    pub(crate) fn of(&self, identity: &MachineIdentity) -> BTreeMap<String, String> {
        let is_it = |row: &&Vec<String>| {
            self.columns.iter().zip(row.iter()).any(|(column, value)| match column.as_str() {
                "uuid" => identity.uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(value)),
                "serial" => identity.serial.as_ref().is_some_and(|serial| serial.eq_ignore_ascii_case(value)),
                "mac" => value.parse::<Mac>().is_ok_and(|mac| identity.macs.contains(&mac)),
                _ => false,
            })
        };
        let Some(row) = self.rows.iter().find(is_it) else { return BTreeMap::new() };
        let fields = self
            .columns
            .iter()
            .zip(row)
            .filter(|(name, value)| !KEYS.contains(&name.as_str()) && !value.is_empty());
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Records with the lines they begin in (RFC 4180): fields may be quoted, and then hold separators and ends of lines.
fn records(text: &str, separator: char) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut out = Vec::new();
    let (mut row, mut field, mut line, mut began) = (Vec::new(), String::new(), 1usize, 1usize);
    let mut chars = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' if is_quoted => is_quoted = false,
            '"' if field.trim().is_empty() => {
                field.clear();
                is_quoted = true;
            }
            '\n' if !is_quoted => {
                row.push(field.trim().to_owned());
                field.clear();
                out.push((began, std::mem::take(&mut row)));
                line = line.saturating_add(1);
                began = line;
            }
            '\n' => {
                line = line.saturating_add(1);
                field.push(c);
            }
            c if c == separator && !is_quoted => {
                row.push(field.trim().to_owned());
                field.clear();
            }
            c => field.push(c),
        }
    }
    if is_quoted {
        return Err(format!("line {began}: a quotation mark is not closed"));
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field.trim().to_owned());
        out.push((began, row));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_found_by_any_of_their_names() {
        let text = "\u{feff}Serial;MAC;Name;Room\r\nSN1;;\"B7;01\";\"the \"\"big\"\" one\"\r\n\r\n;52:54:00:00:00:02;b7-02;\n";
        let table = NameTable::parse(text).unwrap();
        assert_eq!(table.fields().collect::<Vec<_>>(), ["name", "room"]);
        let identity =
            |serial, mac| MachineIdentity::new(None, Some(serial), [Mac([0x52, 0x54, 0, 0, 0, mac])]);
        let pairs = |identity: &MachineIdentity| table.of(identity).into_iter().collect::<Vec<_>>();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs(&identity("sn1", 9)), [pair("name", "B7;01"), pair("room", "the \"big\" one")]);
        assert_eq!(pairs(&identity("SN9", 2)), [pair("name", "b7-02")]);
        assert_eq!(pairs(&identity("SN9", 9)), []);
        assert_eq!(NameTable::parse("").unwrap(), NameTable::default());
    }

    #[test]
    fn what_is_no_table_says_where() {
        for (text, expected) in [
            ("name,room\na,b", "columns name room: expected one of uuid serial mac among them"),
            ("serial,na me\n", "column \"na me\": expected letters, digits and underscores"),
            ("serial,name\na,b\nc\n", "line 3: expected 2 fields, found 1"),
            ("serial,name\n\"a,b\n", "line 2: a quotation mark is not closed"),
        ] {
            assert_eq!(NameTable::parse(text).unwrap_err(), expected);
        }
    }
}
