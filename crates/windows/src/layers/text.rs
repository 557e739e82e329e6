//! Rules for text files.

use serde::Deserialize;

use super::document::TextFile;
use super::target::Target;
use super::{MAX_TEXT_BYTES, When, invalid};
use crate::Error;

/// A change of a text file: exactly one of the actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TextRule {
    pub(super) file: String,
    /// What `with` takes the place of, everywhere.
    find: Option<String>,
    with: Option<String>,
    /// A line that must be there; it is appended when it is not.
    ensure_line: Option<String>,
    /// Lines put behind the end.
    append: Option<String>,
    /// Lines put before the start.
    prepend: Option<String>,
    /// Lines that go.
    delete_line: Option<String>,
    /// `if-present` passes over files that are not there; otherwise they are made.
    #[serde(default)]
    when: When,
}

impl TextRule {
    pub(super) fn check(&self) -> Result<(), Error> {
        let actions = [&self.find, &self.ensure_line, &self.append, &self.prepend, &self.delete_line];
        if actions.iter().filter(|action| action.is_some()).count() != 1 {
            let expected = "exactly one of find, ensure-line, append, prepend, delete-line";
            return Err(invalid(&self.file, expected, "none or several"));
        }
        if self.when.is_of_files() {
            return Err(invalid(&self.file, "always, if-absent or if-present", "another condition"));
        }
        if self.find.is_some() != self.with.is_some() {
            return Err(invalid(&self.file, "find and with", "one of them"));
        }
        if self.find.as_deref() == Some("") {
            return Err(invalid(&self.file, "a text to find", ""));
        }
        Ok(())
    }

    /// Whether the rule's condition held.
    pub(super) fn apply(&self, image: &mut dyn Target) -> Result<bool, Error> {
        let platform = image.platform();
        let path = platform.path(&self.file)?;
        let old = image.read_file(&path, MAX_TEXT_BYTES)?;
        if matches!((self.when, &old), (When::IfPresent, None) | (When::IfAbsent, Some(_))) {
            return Ok(false);
        }
        let mut file = match &old {
            Some(bytes) => TextFile::parse(bytes, platform),
            None => TextFile::empty(platform),
        };
        let before = file.clone();
        self.change(&mut file);
        if file != before {
            image.write_file(&path, file.to_bytes(&path)?, None)?;
        }
        Ok(true)
    }

    fn change(&self, file: &mut TextFile) {
        let lines = |text: &str| {
            text.trim_end_matches(['\r', '\n'])
                .split('\n')
                .map(|line| line.trim_end_matches('\r').to_owned())
                .collect::<Vec<_>>()
        };
        if let (Some(find), Some(with)) = (&self.find, &self.with) {
            let text = file.text();
            if text.contains(find.as_str()) {
                file.set_text(&text.replace(find.as_str(), with));
            }
        }
        if let Some(line) = &self.ensure_line
            && !file.lines.iter().any(|known| known.trim() == line.trim())
        {
            file.lines.push(line.clone());
        }
        if let Some(text) = &self.append {
            file.lines.extend(lines(text));
        }
        if let Some(text) = &self.prepend {
            let old = std::mem::replace(&mut file.lines, lines(text));
            file.lines.extend(old);
        }
        if let Some(line) = &self.delete_line {
            file.lines.retain(|known| known.trim() != line.trim());
        }
    }
}
