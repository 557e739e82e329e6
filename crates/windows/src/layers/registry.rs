//! Rules for the registry.

use gravure_hive::{Data, ValueType};
use serde::Deserialize;

use super::{When, invalid};
use crate::Error;
use crate::image::{HiveFile, WindowsImage};
use crate::journal::unhex;
use crate::system::System;

/// What happens with a value or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryAction {
    /// The value gets the data; without a value the key is made.
    #[default]
    Set,
    /// Texts are put behind those of a list, what it has already left out; a text behind a text, bytes behind bytes.
    Append,
    /// The same at the front.
    Prepend,
    /// The value goes; without one the key with all below it does.
    Delete,
}

/// A change of the registry.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistryRule {
    /// `HKLM\SOFTWARE\...`, `HKLM\SYSTEM\CurrentControlSet\...`, `HKU\.DEFAULT\...`, `HKCU\...` for new users.
    key: String,
    /// Name of a value, empty for the default one.
    value: Option<String>,
    /// `sz` `expand-sz` `multi-sz` `dword` `qword` `binary` `none`, and `hex(N)` for the type of any number, as `.reg` files write it; found by
    /// the data when it is left out.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Text, number, list of texts; bytes as hexadecimal text.
    data: Option<toml::Value>,
    #[serde(default)]
    action: RegistryAction,
    #[serde(default)]
    when: When,
}

impl Eq for RegistryRule {}

impl RegistryRule {
    /// What it is for.
    pub(super) fn name(&self) -> &str {
        &self.key
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        place(&self.key, "ControlSet001")?;
        if self.when.is_of_files() {
            return Err(invalid(&self.key, "always, if-absent or if-present", "another condition"));
        }
        match (self.action, &self.value, &self.data) {
            (RegistryAction::Delete, _, None) | (RegistryAction::Set, None, None) => Ok(()),
            (RegistryAction::Delete, ..) => Err(invalid(&self.key, "no data for what is deleted", "some")),
            (_, Some(_), Some(_)) => self.parsed().map(|_| ()),
            _ => Err(invalid(&self.key, "a value and data", "one of them or none")),
        }
    }

    fn parsed(&self) -> Result<Data, Error> {
        let data = self.data.as_ref().ok_or_else(|| invalid(&self.key, "data", "none"))?;
        let kind = self.kind.as_deref().map(|kind| kind.to_lowercase().replace('-', "_"));
        let bad = || invalid(&self.key, "data of its type", &format!("{data}"));
        let texts = |items: &[toml::Value]| {
            items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(bad)
        };
        match (kind.as_deref(), data) {
            (None | Some("sz"), toml::Value::String(text)) => Ok(Data::sz(text)),
            (Some("expand_sz"), toml::Value::String(text)) => Ok(Data::expand_sz(text)),
            (None | Some("multi_sz"), toml::Value::Array(items)) => Ok(Data::multi_sz(texts(items)?)),
            (None | Some("dword"), toml::Value::Integer(number)) => {
                u32::try_from(*number).map(Data::dword).map_err(|_| bad())
            }
            (Some("qword"), toml::Value::Integer(number)) => {
                u64::try_from(*number).map(Data::qword).map_err(|_| bad())
            }
            (Some(kind), toml::Value::String(text)) => {
                let kind = type_of_bytes(kind).ok_or_else(bad)?;
                let bare: String = text.chars().filter(|c| !c.is_whitespace() && *c != ',').collect();
                let bytes = unhex(&bare).ok_or_else(bad)?;
                Ok(Data { kind, bytes })
            }
            _ => Err(bad()),
        }
    }

    /// Whether the rule's condition held.
    pub(super) fn apply(&self, image: &mut WindowsImage<'_>, system: &System) -> Result<bool, Error> {
        let (hive, key) = place(&self.key, &system.control_set)?;
        let Some(value) = &self.value else {
            let is_there = image.has_key(hive, &key)?;
            if matches!((self.when, is_there), (When::IfAbsent, true) | (When::IfPresent, false)) {
                return Ok(false);
            }
            return match self.action {
                RegistryAction::Delete => image.remove_key(hive, &key),
                _ => image.create_key(hive, &key).map(|_| true),
            };
        };
        let there = image.value(hive, &key, value)?;
        if matches!((self.when, &there), (When::IfAbsent, Some(_)) | (When::IfPresent, None)) {
            return Ok(false);
        }
        if self.action == RegistryAction::Delete {
            return image.remove_value(hive, &key, value);
        }
        let new = self.parsed()?;
        let data = match there {
            Some(old) if self.action != RegistryAction::Set => self.joined(&old, &new)?,
            _ => new,
        };
        image.set_value(hive, &key, value, &data)?;
        Ok(true)
    }

    fn joined(&self, old: &Data, new: &Data) -> Result<Data, Error> {
        let is_append = self.action == RegistryAction::Append;
        if let (Some(old), Some(new)) = (old.as_multi(), new.as_multi()) {
            let texts =
                |list: &[gravure_nttypes::NtName]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
            let old = texts(&old);
            let is_new = |text: &String| !old.iter().any(|known| known.eq_ignore_ascii_case(text));
            let new: Vec<String> = texts(&new).into_iter().filter(is_new).collect();
            return Ok(Data::multi_sz(if is_append { [old, new].concat() } else { [new, old].concat() }));
        }
        if old.kind == ValueType::BINARY && new.kind == ValueType::BINARY {
            let [first, second] = if is_append { [old, new] } else { [new, old] };
            return Ok(Data { kind: old.kind, bytes: [&first.bytes[..], &second.bytes].concat() });
        }
        if let (Some(old_text), Some(new_text)) = (old.as_text(), new.as_text()) {
            let text =
                if is_append { format!("{old_text}{new_text}") } else { format!("{new_text}{old_text}") };
            let data = Data::sz(&text);
            return Ok(Data { kind: old.kind, ..data });
        }
        Err(invalid(
            &self.key,
            "texts, lists of texts or bytes to put together",
            &format!("{} and {}", old.kind, new.kind),
        ))
    }
}

/// Type of data that is written as bytes.
fn type_of_bytes(kind: &str) -> Option<ValueType> {
    match kind {
        "binary" => Some(ValueType::BINARY),
        "none" => Some(ValueType::NONE),
        other => {
            let number = other.strip_prefix("hex(")?.strip_suffix(')')?;
            let is_number = !number.is_empty() && number.bytes().all(|c| c.is_ascii_hexdigit());
            is_number.then(|| u32::from_str_radix(number, 16).ok()).flatten().map(ValueType)
        }
    }
}

/// Hive and key in it of a key as people write it.
pub(super) fn place(key: &str, control_set: &str) -> Result<(HiveFile, String), Error> {
    let bad = || invalid("key", "HKLM\\SOFTWARE, HKLM\\SYSTEM, HKU\\.DEFAULT or HKCU in front", key);
    let (root, rest) = key.split_once('\\').ok_or_else(bad)?;
    let (hive, rest) = match root.to_uppercase().as_str() {
        "HKLM" | "HKEY_LOCAL_MACHINE" => {
            let (name, rest) = rest.split_once('\\').ok_or_else(bad)?;
            match name.to_uppercase().as_str() {
                "SOFTWARE" => (HiveFile::Software, rest.to_owned()),
                "SYSTEM" => match rest.split_once('\\') {
                    Some((set, below)) if set.eq_ignore_ascii_case("CurrentControlSet") => {
                        (HiveFile::System, format!("{control_set}\\{below}"))
                    }
                    _ => (HiveFile::System, rest.to_owned()),
                },
                _ => return Err(bad()),
            }
        }
        "HKU" | "HKEY_USERS" => {
            let (name, rest) = rest.split_once('\\').ok_or_else(bad)?;
            if !name.eq_ignore_ascii_case(".DEFAULT") {
                return Err(bad());
            }
            (HiveFile::Default, rest.to_owned())
        }
        "HKCU" | "HKEY_CURRENT_USER" => (HiveFile::DefaultUser, rest.to_owned()),
        _ => return Err(bad()),
    };
    let rest = rest.trim_matches('\\').to_owned();
    if rest.is_empty() { Err(bad()) } else { Ok((hive, rest)) }
}
