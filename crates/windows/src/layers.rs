//! Layers: ordered rules, written in TOML, that are applied to an image as a whole or not at all: registry, files,
//! directories, INI files, text files, commands at first boot.
//!
//! Rules run in the order: directories, files, text, INI, registry, commands; rules of one kind in the order of the file.
//! Everything is checked before the first rule runs. What ran leaves a stamp in the image, `SOFTWARE\Gravure\Layers`; a
//! layer of the same or a lower version is not applied again.

mod document;
mod ini;
mod registry;
mod text;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use gravure_hive::Data;
use serde::Deserialize;

use crate::Error;
use crate::answer::Position;
use crate::image::{HiveFile, WindowsImage};
use crate::system::{SetupState, System};

pub use ini::{IniAction, IniRule};
pub use registry::{RegistryAction, RegistryRule};
pub use text::TextRule;

/// Where stamps are.
const STAMPS: &str = "Gravure\\Layers";
/// Largest file that a rule puts in, and largest that one changes.
const MAX_FILE_BYTES: u64 = 4 << 30;
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Whether a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Whatever is there.
    #[default]
    Always,
    /// What it makes is not there yet.
    IfAbsent,
    /// What it changes is there.
    IfPresent,
    /// What it puts in is of a later time than what is there, or nothing is there. Files only.
    IfNewer,
    /// What it puts in has another content than what is there, or nothing is there. Files only.
    IfDifferent,
}

/// Who a layer is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Head {
    /// Name that stays over all versions: letters, digits, dots, dashes.
    id: String,
    /// Higher ones replace lower ones.
    version: u32,
    /// Apply it again, whatever the stamp says.
    #[serde(default)]
    always: bool,
}

/// What happens with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileAction {
    /// It is put there.
    #[default]
    Copy,
    /// It goes.
    Delete,
}

/// A file that is put into the image or goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileRule {
    /// Path in the image, `C:\` in front or not.
    to: String,
    /// File beside the layer.
    from: Option<PathBuf>,
    /// Content, instead of a file.
    text: Option<String>,
    #[serde(default)]
    when: When,
    #[serde(default)]
    action: FileAction,
}

/// A directory that is made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRule {
    path: String,
}

/// A command that runs as SYSTEM while the machine is made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRule {
    run: String,
    #[serde(default)]
    description: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    layer: Head,
    #[serde(default)]
    directory: Vec<DirectoryRule>,
    #[serde(default)]
    file: Vec<FileRule>,
    #[serde(default)]
    text: Vec<TextRule>,
    #[serde(default)]
    ini: Vec<IniRule>,
    #[serde(default)]
    registry: Vec<RegistryRule>,
    #[serde(default)]
    command: Vec<CommandRule>,
}

/// A layer, its macros filled in, ready to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    document: Document,
    /// Where its files are.
    base: PathBuf,
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LayerReport {
    /// Which layer.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// Whether it was applied; not when the image has it already.
    pub applied: bool,
    /// Rules whose condition did not hold.
    pub passed_over: usize,
    /// What could not be done.
    pub not_done: Vec<String>,
}

impl Layer {
    /// Reads a layer whose files are in `base`. `facts` are what `${NAME}` stands for; a name that is not among them is an
    /// error, as is anything else that would only show when rules run.
    pub fn parse(text: &str, base: &Path, facts: &BTreeMap<String, String>) -> Result<Self, Error> {
        let corrupt = |found: String| Error::Corrupt {
            path: "layer".to_owned(),
            expected: "a layer in TOML".to_owned(),
            found,
        };
        let mut value: toml::Value =
            toml::from_str(text).map_err(|error| corrupt(error.message().to_owned()))?;
        fill(&mut value, facts)?;
        let document: Document =
            value.try_into().map_err(|error: toml::de::Error| corrupt(error.message().to_owned()))?;
        let layer = Self { document, base: base.to_owned() };
        layer.check()?;
        Ok(layer)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.document.layer.id
    }

    fn check(&self) -> Result<(), Error> {
        let id = self.id();
        let is_fine = (1..=64).contains(&id.len())
            && id.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
        if !is_fine {
            return Err(invalid("id", "1 to 64 letters, digits, dots and dashes", id));
        }
        for rule in &self.document.directory {
            path_in_image(&rule.path)?;
        }
        for rule in &self.document.file {
            path_in_image(&rule.to)?;
            match (rule.action, &rule.from, &rule.text) {
                (FileAction::Delete, None, None) => {}
                (FileAction::Delete, ..) => {
                    return Err(invalid(&rule.to, "nothing to delete it with", "a content"));
                }
                (FileAction::Copy, Some(from), None) => drop(self.source(from)?),
                (FileAction::Copy, None, Some(_)) => {}
                (FileAction::Copy, ..) => {
                    return Err(invalid(&rule.to, "either from or text", "both or none"));
                }
            }
            if rule.when == When::IfNewer && rule.from.is_none() {
                return Err(invalid(&rule.to, "a file with a time for if-newer", "a text"));
            }
        }
        let files = self
            .document
            .text
            .iter()
            .map(|rule| &rule.file)
            .chain(self.document.ini.iter().map(|rule| &rule.file));
        for file in files {
            path_in_image(file)?;
        }
        self.document.text.iter().try_for_each(TextRule::check)?;
        self.document.ini.iter().try_for_each(IniRule::check)?;
        self.document.registry.iter().try_for_each(RegistryRule::check)
    }

    /// A file beside the layer, which is there.
    fn source(&self, from: &Path) -> Result<PathBuf, Error> {
        let stays = from.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !stays {
            return Err(invalid(
                &from.display().to_string(),
                "a file beside the layer",
                "a path that leads elsewhere",
            ));
        }
        let path = self.base.join(from);
        if !path.is_file() {
            return Err(Error::NotFound { what: "file of a layer", name: path.display().to_string() });
        }
        Ok(path)
    }

    /// Applies the layer. After an error the image is to be dropped: nothing of the layer was written then.
    pub fn apply(&self, image: &mut WindowsImage<'_>, system: &System) -> Result<LayerReport, Error> {
        let Document { layer: Head { id, version, always }, .. } = &self.document;
        let stamp = format!("{STAMPS}\\{id}");
        let there = image.number(HiveFile::Software, &stamp, "Version")?;
        let mut report = LayerReport {
            id: id.clone(),
            version: *version,
            applied: false,
            passed_over: 0,
            not_done: Vec::new(),
        };
        if !always && there.is_some_and(|there| there >= u64::from(*version)) {
            return Ok(report);
        }
        report.applied = true;
        for rule in &self.document.directory {
            image.make_directory(&path_in_image(&rule.path)?)?;
        }
        for rule in &self.document.file {
            report.passed_over += usize::from(!self.apply_file(image, rule)?);
        }
        for rule in &self.document.text {
            report.passed_over += usize::from(!rule.apply(image)?);
        }
        for rule in &self.document.ini {
            report.passed_over += usize::from(!rule.apply(image)?);
        }
        for rule in &self.document.registry {
            report.passed_over += usize::from(!rule.apply(image, system)?);
        }
        if !self.document.command.is_empty() {
            image.edit_answer_file(|answers| {
                for rule in &self.document.command {
                    answers.run_in_specialize(system.arch, &rule.description, &rule.run, Position::Last);
                }
            })?;
            if system.setup == SetupState::InUse {
                report.not_done.push(format!(
                    "{id}: commands do not run: the image is of a system in use and runs no setup"
                ));
            }
        }
        image.set_value(HiveFile::Software, &stamp, "Version", &Data::dword(*version))?;
        Ok(report)
    }

    /// Whether the rule's condition held.
    fn apply_file(&self, image: &mut WindowsImage<'_>, rule: &FileRule) -> Result<bool, Error> {
        let path = path_in_image(&rule.to)?;
        let is_there = image.exists(&path);
        if rule.action == FileAction::Delete {
            return image.remove_file(&path);
        }
        if matches!((rule.when, is_there), (When::IfAbsent, true) | (When::IfPresent, false)) {
            return Ok(false);
        }
        let Some(from) = &rule.from else {
            let text = rule.text.clone().unwrap_or_default();
            let same = rule.when == When::IfDifferent
                && is_there
                && image.read_file(&path, MAX_FILE_BYTES)?.as_deref() == Some(text.as_bytes());
            if !same {
                image.write_file(&path, text)?;
            }
            return Ok(!same);
        };
        let source = self.source(from)?;
        let io = |error| Error::Io { what: "read", path: source.display().to_string(), source: error };
        if rule.when == When::IfNewer && is_there {
            let changed = std::fs::metadata(&source).and_then(|meta| meta.modified()).map_err(io)?;
            let changed = changed.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
            let seconds = i64::try_from(changed.as_secs()).unwrap_or(i64::MAX);
            let time = gravure_nttypes::FileTime::from_unix(seconds, changed.subsec_nanos());
            if image.written(&path).is_some_and(|there| there >= time) {
                return Ok(false);
            }
        }
        if rule.when == When::IfDifferent && is_there {
            let size = std::fs::metadata(&source).map_err(io)?.len();
            let same_size = image.content_of(&path).is_some_and(|content| content.size == size);
            if same_size
                && image.read_file(&path, MAX_FILE_BYTES)? == Some(std::fs::read(&source).map_err(io)?)
            {
                return Ok(false);
            }
        }
        image.add_outside(&path, &source)?;
        Ok(true)
    }
}

/// A path of the Windows volume: `C:\` goes, and nothing leads out of it.
fn path_in_image(path: &str) -> Result<String, Error> {
    let bare = path
        .get(..2)
        .filter(|start| start.eq_ignore_ascii_case("c:"))
        .map_or(path, |_| path.get(2..).unwrap_or(""));
    let parts: Vec<&str> = bare.split(['\\', '/']).filter(|part| !part.is_empty()).collect();
    let is_bad =
        |part: &&str| matches!(*part, "." | "..") || part.contains([':', '*', '?', '"', '<', '>', '|', '\0']);
    if parts.is_empty() || parts.iter().any(is_bad) {
        return Err(invalid("path", "one of the Windows volume, e.g. C:\\Windows\\x.txt", path));
    }
    Ok(parts.join("\\"))
}

fn invalid(what: &str, expected: &str, found: &str) -> Error {
    Error::Invalid {
        what: format!("layer, {what}"),
        expected: expected.to_owned(),
        found: format!("{found:?}"),
    }
}

/// Puts facts in the place of `${NAME}` in every text; `$$` is a dollar.
fn fill(value: &mut toml::Value, facts: &BTreeMap<String, String>) -> Result<(), Error> {
    match value {
        toml::Value::String(text) => {
            *text = filled(text, facts)?;
            Ok(())
        }
        toml::Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, facts)),
        toml::Value::Table(table) => table.iter_mut().try_for_each(|(_, item)| fill(item, facts)),
        _ => Ok(()),
    }
}

fn filled(text: &str, facts: &BTreeMap<String, String>) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            let known = facts.get(name).ok_or_else(|| {
                let names: Vec<&str> = facts.keys().map(String::as_str).collect();
                invalid("macro", &format!("one of {}", names.join(" ")), name)
            })?;
            out.push_str(known);
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}
