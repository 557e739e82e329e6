//! Rules for shortcuts.

use serde::Deserialize;

use super::platform::path_in_windows;
use super::{FileAction, When, invalid};
use crate::Error;
use crate::image::WindowsImage;
use crate::shortcut::{MAX_BYTES, Shortcut};

/// A shortcut that is made or goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShortcutRule {
    /// Where it is, with `.lnk` at its end.
    path: String,
    /// What it starts: `C:\...` or `%SystemRoot%\...`.
    target: Option<String>,
    arguments: Option<String>,
    working_dir: Option<String>,
    description: Option<String>,
    /// File with its icon.
    icon: Option<String>,
    /// Number of the icon in that file.
    #[serde(default)]
    icon_index: i32,
    #[serde(default)]
    when: When,
    #[serde(default)]
    action: FileAction,
}

impl ShortcutRule {
    /// What it is for.
    pub(super) fn name(&self) -> &str {
        &self.path
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let path = path_in_windows(&self.path)?;
        if !path.to_lowercase().ends_with(".lnk") {
            return Err(invalid(&self.path, "a path that ends with .lnk", &self.path));
        }
        if self.when.is_of_files() {
            return Err(invalid(&self.path, "always, if-absent or if-present", "another condition"));
        }
        match (self.action, &self.target) {
            (FileAction::Delete, None) => self.when.check_for_delete(&self.path),
            (FileAction::Copy, Some(_)) => self.shortcut().check(),
            _ => Err(invalid(&self.path, "a target, or nothing for what is deleted", "the other")),
        }
    }

    fn shortcut(&self) -> Shortcut {
        Shortcut {
            target: self.target.clone().unwrap_or_default(),
            arguments: self.arguments.clone(),
            working_dir: self.working_dir.clone(),
            description: self.description.clone(),
            icon: self.icon.clone().map(|file| (file, self.icon_index)),
        }
    }

    /// Whether the rule's condition held.
    pub(super) fn apply(&self, image: &mut WindowsImage<'_>) -> Result<bool, Error> {
        let path = path_in_windows(&self.path)?;
        let is_there = image.exists(&path);
        if self.action == FileAction::Delete {
            return image.remove_file(&path);
        }
        if matches!((self.when, is_there), (When::IfAbsent, true) | (When::IfPresent, false)) {
            return Ok(false);
        }
        let wanted = self.shortcut();
        // One that says the same stays, with what else Windows has put into it.
        let there = image.content_of(&path).is_some_and(|content| content.size <= MAX_BYTES);
        let there = if there { image.read_file(&path, MAX_BYTES)? } else { None };
        if there.and_then(|bytes| Shortcut::parse(&bytes).ok()).is_some_and(|there| there == wanted) {
            return Ok(true);
        }
        image.write_file(&path, wanted.to_bytes())?;
        Ok(true)
    }
}
