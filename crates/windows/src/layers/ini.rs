//! Rules for INI files: comments, order and encoding stay.

use serde::Deserialize;

use super::document::TextFile;
use super::target::Target;
use super::{MAX_TEXT_BYTES, Platform, When, invalid};
use crate::Error;

/// What happens with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IniAction {
    /// It gets the value.
    #[default]
    Set,
    /// The value is put behind what it has.
    Append,
    /// The value is put before what it has.
    Prepend,
    /// It goes; without a key the whole section does.
    Delete,
}

/// A change of an INI file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IniRule {
    pub(super) file: String,
    section: String,
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    action: IniAction,
    /// Whether the entry is there already.
    #[serde(default)]
    when: When,
}

impl IniRule {
    pub(super) fn check(&self) -> Result<(), Error> {
        let wants_value = self.action != IniAction::Delete;
        if wants_value && (self.key.is_none() || self.value.is_none()) {
            return Err(invalid(&self.file, "a key and a value", "one of them or none"));
        }
        if !wants_value && self.value.is_some() {
            return Err(invalid(&self.file, "no value for what is deleted", "one"));
        }
        let texts = [Some(&self.section), self.key.as_ref(), self.value.as_ref()];
        if texts.into_iter().flatten().any(|text| text.contains(['\r', '\n'])) {
            return Err(invalid(&self.file, "texts of one line", "several lines"));
        }
        if self.when.is_of_files() {
            return Err(invalid(&self.file, "always, if-absent or if-present", "another condition"));
        }
        Ok(())
    }

    /// Whether the rule's condition held.
    pub(super) fn apply(&self, image: &mut dyn Target) -> Result<bool, Error> {
        let platform = image.platform();
        let path = platform.path(&self.file)?;
        let old = image.read_file(&path, MAX_TEXT_BYTES)?;
        if old.is_none() && (self.action == IniAction::Delete || self.when == When::IfPresent) {
            return Ok(false);
        }
        let mut file = match &old {
            Some(bytes) => TextFile::parse(bytes, platform),
            None => TextFile::empty(platform),
        };
        let before = file.clone();
        let held = self.change(&mut file, platform);
        if file != before {
            image.write_file(&path, file.to_bytes(&path)?, None)?;
        }
        Ok(held)
    }

    fn change(&self, file: &mut TextFile, platform: Platform) -> bool {
        let range = section_of(&file.lines, &self.section, platform);
        let Some(key) = &self.key else {
            let Some((start, end)) = range else { return false };
            file.lines.drain(start..end);
            return true;
        };
        let entry = range.and_then(|(start, end)| {
            let inside = file.lines.get(start.saturating_add(1)..end)?;
            let is_it = |line: &String| key_of(line).is_some_and(|known| platform.is_same_name(known, key));
            let at = inside.iter().position(is_it)?;
            Some(start.saturating_add(1).saturating_add(at))
        });
        if matches!((self.when, entry), (When::IfAbsent, Some(_)) | (When::IfPresent, None)) {
            return false;
        }
        if self.action == IniAction::Delete {
            return entry.is_some_and(|at| {
                file.lines.remove(at);
                true
            });
        }
        let value = self.value.as_deref().unwrap_or_default();
        if let Some(line) = entry.and_then(|at| file.lines.get_mut(at)) {
            let (name, old) = line.split_once('=').unwrap_or((line.as_str(), ""));
            let old = old.trim();
            let new = match self.action {
                IniAction::Append => format!("{old}{value}"),
                IniAction::Prepend => format!("{value}{old}"),
                IniAction::Set | IniAction::Delete => value.to_owned(),
            };
            *line = format!("{name}={new}");
            return true;
        }
        let line = format!("{key}={value}");
        match range {
            Some((start, end)) => {
                // Before blank lines that part it from the next section.
                let blank = |at: usize| file.lines.get(at).is_some_and(|line| line.trim().is_empty());
                let mut at = end;
                while at > start.saturating_add(1) && blank(at.saturating_sub(1)) {
                    at = at.saturating_sub(1);
                }
                file.lines.insert(at, line);
            }
            None => {
                if file.lines.last().is_some_and(|line| !line.trim().is_empty()) {
                    file.lines.push(String::new());
                }
                file.lines.push(format!("[{}]", self.section));
                file.lines.push(line);
            }
        }
        true
    }
}

/// Lines of a section, its head included.
fn section_of(lines: &[String], name: &str, platform: Platform) -> Option<(usize, usize)> {
    let head = |line: &str| {
        let inside = line.trim().strip_prefix('[')?.split_once(']')?.0;
        Some(inside.trim().to_owned())
    };
    let is_it = |line: &String| head(line).is_some_and(|found| platform.is_same_name(&found, name));
    let start = lines.iter().position(is_it)?;
    let rest = lines.iter().skip(start.saturating_add(1));
    let len = rest.take_while(|line| head(line).is_none()).count();
    Some((start, start.saturating_add(1).saturating_add(len)))
}

/// Key of a line that is no comment.
fn key_of(line: &str) -> Option<&str> {
    let line = line.trim();
    if line.starts_with([';', '#']) {
        return None;
    }
    Some(line.split_once('=').map_or(line, |(key, _)| key).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(before: &str, rule: &str) -> (bool, String) {
        changed_on(Platform::Windows, before, rule)
    }

    fn changed_on(platform: Platform, before: &str, rule: &str) -> (bool, String) {
        let rule: IniRule = toml::from_str(&format!("file='x'\n{rule}")).unwrap();
        rule.check().unwrap();
        let mut file = TextFile::parse(before.as_bytes(), platform);
        let held = rule.change(&mut file, platform);
        (held, String::from_utf8(file.to_bytes("x").unwrap()).unwrap())
    }

    #[test]
    fn the_seven_rules() {
        let before = "; head\n[A]\nx = 1\n; y=2\n\n[B]\nz=3\n";
        for (rule, held, after) in [
            ("section='a'\nkey='X'\nvalue='9'", true, "; head\n[A]\nx =9\n; y=2\n\n[B]\nz=3\n"),
            ("section='A'\nkey='y'\nvalue='9'", true, "; head\n[A]\nx = 1\n; y=2\ny=9\n\n[B]\nz=3\n"),
            ("section='A'\nkey='x'\nvalue='9'\nwhen='if-absent'", false, before),
            ("section='A'\nkey='y'\nvalue='9'\nwhen='if-present'", false, before),
            (
                "section='B'\nkey='z'\nvalue=',4'\naction='append'",
                true,
                "; head\n[A]\nx = 1\n; y=2\n\n[B]\nz=3,4\n",
            ),
            (
                "section='B'\nkey='z'\nvalue='2,'\naction='prepend'",
                true,
                "; head\n[A]\nx = 1\n; y=2\n\n[B]\nz=2,3\n",
            ),
            ("section='B'\nkey='z'\naction='delete'", true, "; head\n[A]\nx = 1\n; y=2\n\n[B]\n"),
            ("section='A'\naction='delete'", true, "; head\n[B]\nz=3\n"),
            ("section='C'\nkey='k'\nvalue='v'", true, "; head\n[A]\nx = 1\n; y=2\n\n[B]\nz=3\n\n[C]\nk=v\n"),
            ("section='C'\naction='delete'", false, before),
        ] {
            assert_eq!(changed(before, rule), (held, after.to_owned()), "{rule}");
        }
        assert_eq!(changed("", "section='C'\nkey='k'\nvalue='v'"), (true, "[C]\r\nk=v\r\n".to_owned()));
    }

    #[test]
    fn on_linux_names_are_as_they_are_spelled_and_lines_end_there_as_usual() {
        let rule = "section='unit'\nkey='After'\nvalue='b'";
        let on = |before: &str| changed_on(Platform::Linux, before, rule).1;
        assert_eq!(on("[Unit]\nAfter=a\n"), "[Unit]\nAfter=a\n\n[unit]\nAfter=b\n");
        assert_eq!(on("[unit]\nafter=a\nAfter=c\n"), "[unit]\nafter=a\nAfter=b\n");
        assert_eq!(on(""), "[unit]\nAfter=b\n");
    }
}
