//! Values of `gravure hive`: from words of the command line, and printed.

use std::process::ExitCode;
use std::str::FromStr;

use gravure_hive::{Data, Error, Key, ValueType};
use gravure_imaging::ErrorKind;
use gravure_nttypes::SecurityDescriptor;
use serde::Serialize;

use super::GetOptions;
use crate::Common;
use crate::exit::Failure;
use crate::hive_file::HiveFile;
use crate::output::{self, Row};

/// Bytes that a value takes in a hive at least.
const MIN_VALUE_BYTES: usize = 24;

/// `--type`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind(ValueType);

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = ValueType::from_text(text);
        kind.map(Self)
            .ok_or_else(|| "expected sz, expand_sz, multi_sz, dword, qword, binary, none or a number".into())
    }
}

/// Data of a type from words.
pub(super) fn data(kind: Kind, words: &[String]) -> Result<Data, Failure> {
    let usage = |message: String| Failure::new(ErrorKind::Usage, message);
    let one = || match words {
        [] => Ok(""),
        [word] => Ok(word.as_str()),
        _ => Err(usage(format!("{} takes one DATA, found {}", kind.0, words.len()))),
    };
    let number = |most: u64| {
        let word = one()?;
        let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => word.parse(),
        };
        let number = parsed.ok().filter(|number| *number <= most);
        number.ok_or_else(|| usage(format!("{}: expected a number up to {most}, found {word:?}", kind.0)))
    };
    Ok(match kind.0 {
        ValueType::SZ => Data::sz(one()?),
        ValueType::EXPAND_SZ => Data::expand_sz(one()?),
        ValueType::MULTI_SZ => Data::multi_sz(words),
        ValueType::DWORD => Data::dword(u32::try_from(number(u32::MAX.into())?).unwrap_or(u32::MAX)),
        ValueType::QWORD => Data::qword(number(u64::MAX)?),
        other => {
            let bytes = from_hex(one()?);
            let bytes =
                bytes.ok_or_else(|| usage(format!("{other}: expected pairs of hexadecimal digits")))?;
            Data { kind: other, bytes }
        }
    })
}

/// Pairs of digits, with or without commas and blanks between them.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b',' | b' ')).collect();
    let (pairs, odd) = digits.as_chunks::<2>();
    let pair = |[high, low]: &[u8; 2]| {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
    };
    if odd.is_empty() { pairs.iter().map(pair).collect() } else { None }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key or a value.
#[derive(Debug, Serialize)]
struct Line {
    key: String,
    /// `None` for the key itself.
    value: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// For people: text, number or hexadecimal digits.
    data: Option<serde_json::Value>,
    /// The exact bytes.
    hex: Option<String>,
    modified_unix_seconds: Option<i64>,
    class: Option<String>,
    sddl: Option<String>,
}

impl Row for Line {
    fn columns() -> &'static [&'static str] {
        &["key", "value", "type", "data", "hex"]
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.key.clone(),
            self.value.clone().unwrap_or_default(),
            self.kind.clone().unwrap_or_default(),
            self.data.as_ref().map(text_of).unwrap_or_default(),
            self.hex.clone().unwrap_or_default(),
        ]
    }
}

/// JSON without its quotes.
fn text_of(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn shown(data: &Data) -> serde_json::Value {
    if let Some(number) = data.as_number() {
        return number.into();
    }
    if let Some(text) = data.as_text() {
        return text.to_string().into();
    }
    match data.as_multi() {
        Some(texts) => texts.iter().map(ToString::to_string).collect::<Vec<_>>().into(),
        None => hex(&data.bytes).into(),
    }
}

pub(super) fn get(options: &GetOptions, common: &Common) -> Result<ExitCode, Failure> {
    let file = HiveFile::open_as_is(&options.file)?;
    let failed = |error: Error| file.failure(&error);
    let top = file.hive.open(&options.key).map_err(failed)?;
    if let Some(name) = &options.value {
        let data = top.data(name).map_err(failed)?;
        let data = data.ok_or_else(|| failed(Error::NotFound { what: "value", name: name.clone() }))?;
        let line = value_line(options.key.trim_matches('\\'), name.clone(), &data);
        output::document(common.format, &line, |line| line.data.as_ref().map(text_of).unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = Vec::new();
    // A damaged hive may list values many times: no more is printed than a hive of that size can hold.
    let mut left = file.hive.as_bytes().len() / MIN_VALUE_BYTES;
    let top_path = options.key.trim_matches('\\').to_owned();
    if options.recursive {
        // Paths of the keys above, by level.
        let mut paths: Vec<String> = Vec::new();
        for step in file.hive.walk_from(top.id()) {
            let (key, level) = step.map_err(failed)?;
            paths.truncate(level);
            let path = paths.last().map_or_else(|| top_path.clone(), |above| join(above, &key));
            key_lines(&key, &path, &mut left, &mut lines).map_err(failed)?;
            paths.push(path);
        }
    } else {
        key_lines(&top, &top_path, &mut left, &mut lines).map_err(failed)?;
        for key in top.subkeys().map_err(failed)? {
            let key = key.map_err(failed)?;
            lines.push(plain_line(&key, &join(&top_path, &key)));
        }
    }
    output::listing(common.format, lines.into_iter(), |line| match (&line.value, &line.kind, &line.data) {
        (Some(name), Some(kind), Some(data)) => {
            let name = if name.is_empty() { "(default)" } else { name };
            format!("  {name}  {kind}  {}", text_of(data))
        }
        _ => format!("[{}]", line.key),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn join(above: &str, key: &Key<'_>) -> String {
    if above.is_empty() { key.name().to_string() } else { format!("{above}\\{}", key.name()) }
}

fn key_lines(key: &Key<'_>, path: &str, left: &mut usize, lines: &mut Vec<Line>) -> Result<(), Error> {
    let mut line = plain_line(key, path);
    line.class = Some(key.class()?.to_string()).filter(|class| !class.is_empty());
    line.sddl = SecurityDescriptor::parse(key.security()?).ok().and_then(|security| security.to_sddl().ok());
    lines.push(line);
    for value in key.values()? {
        let value = value?;
        *left = left.checked_sub(1 + value.len() / MIN_VALUE_BYTES).ok_or_else(|| Error::Unsupported {
            what: "hive that lists more data than it has bytes",
            value: path.to_owned(),
        })?;
        lines.push(value_line(path, value.name().to_string(), &value.data()?));
    }
    Ok(())
}

fn plain_line(key: &Key<'_>, path: &str) -> Line {
    Line {
        key: path.to_owned(),
        value: None,
        kind: None,
        data: None,
        hex: None,
        modified_unix_seconds: Some(key.written().to_unix().0),
        class: None,
        sddl: None,
    }
}

fn value_line(path: &str, name: String, data: &Data) -> Line {
    Line {
        key: path.to_owned(),
        value: Some(name),
        kind: Some(data.kind.to_string()),
        data: Some(shown(data)),
        hex: Some(hex(&data.bytes)),
        modified_unix_seconds: None,
        class: None,
        sddl: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_data() {
        let make = |kind: &str, words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            data(kind.parse().unwrap(), &words).map_err(|failure| failure.code)
        };
        assert_eq!(make("sz", &["a b"]), Ok(Data::sz("a b")));
        assert_eq!(make("sz", &[]), Ok(Data::sz("")));
        assert_eq!(make("multi_sz", &["a", "b"]), Ok(Data::multi_sz(["a", "b"])));
        assert_eq!(make("dword", &["0x10"]), Ok(Data::dword(16)));
        assert_eq!(make("qword", &["18446744073709551615"]), Ok(Data::qword(u64::MAX)));
        assert_eq!(make("binary", &["01,ff"]), Ok(Data::binary([1, 255])));
        assert_eq!(make("0xffff0012", &["41 00"]).unwrap().kind, ValueType(0xffff_0012));
        for (kind, words) in
            [("dword", vec!["4294967296"]), ("sz", vec!["a", "b"]), ("binary", vec!["0"]), ("dword", vec![])]
        {
            assert_eq!(make(kind, &words), Err(2), "{kind} {words:?}");
        }
        assert!("what".parse::<Kind>().is_err());
    }
}
