//! Layers: ordered rules, written in TOML, that are applied to an image as a whole or not at all: registry, files,
//! directories, shortcuts, INI files, text files, services, access, commands at first boot.
//!
//! Rules run in the order: directories, files, shortcuts, text, INI, registry, services, access, commands; rules of one kind in
//! the order of the file.
//! Everything is checked before the first rule runs. What ran leaves a stamp in the image, `SOFTWARE\Gravure\Layers`; a
//! layer of the same or a lower version is not applied again.

mod acl;
mod document;
mod ini;
mod registry;
mod service;
mod shortcut;
mod text;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use gravure_hive::Data;
use gravure_nttypes::FileTime;
use gravure_tree::{ContentRef, Tree};
use serde::Deserialize;

use crate::Error;
use crate::answer::Position;
use crate::drivers::{Placed, content_at, node_at, read_limited};
use crate::file_version::file_version;
use crate::image::{HiveFile, ReadContent, WindowsImage};
use crate::system::{SetupState, System};

pub use acl::AclRule;
pub use ini::{IniAction, IniRule};
pub use registry::{RegistryAction, RegistryRule};
pub use service::{ServiceRule, Start};
pub use shortcut::ShortcutRule;
pub use text::TextRule;

/// The rules of a layer in a directory of its own.
pub const LAYER_FILE: &str = "layer.toml";
/// Where stamps are.
const STAMPS: &str = "Gravure\\Layers";
/// Largest file that a rule puts in, and largest that one changes.
const MAX_FILE_BYTES: u64 = 4 << 30;
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// Largest program whose version is looked at.
const MAX_PROGRAM_BYTES: u64 = 1 << 30;

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
    /// What it puts in is of a later time than what is there, and something is there. Files only.
    IfNewerAndPresent,
    /// What it puts in is a program of a higher version than what is there, or nothing of a version is there. Files only.
    IfVersionNewer,
    /// What it puts in has another content than what is there, or nothing is there. Files only.
    IfDifferent,
}

impl When {
    /// Whether it compares files, which other rules have none of.
    fn is_of_files(self) -> bool {
        matches!(self, Self::IfNewer | Self::IfNewerAndPresent | Self::IfVersionNewer | Self::IfDifferent)
    }
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
    shortcut: Vec<ShortcutRule>,
    #[serde(default)]
    text: Vec<TextRule>,
    #[serde(default)]
    ini: Vec<IniRule>,
    #[serde(default)]
    registry: Vec<RegistryRule>,
    #[serde(default)]
    service: Vec<ServiceRule>,
    #[serde(default)]
    acl: Vec<AclRule>,
    #[serde(default)]
    command: Vec<CommandRule>,
}

/// A layer, its macros filled in, ready to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    document: Document,
    files: Files,
}

/// Where the files of a layer are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Files {
    /// In a directory of this machine.
    Directory(PathBuf),
    /// In a bundle: those that rules name, with their times.
    Bundle(BTreeMap<PathBuf, (ContentRef, FileTime)>),
}

/// A file of a layer.
struct Source {
    place: Placed,
    size: u64,
    written: FileTime,
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
        let layer = Self::unchecked(text, base, facts)?;
        layer.check()?;
        Ok(layer)
    }

    fn unchecked(text: &str, base: &Path, facts: &BTreeMap<String, String>) -> Result<Self, Error> {
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
        let layer = Self { document, files: Files::Directory(base.to_owned()) };
        Ok(layer)
    }

    /// As [`Layer::parse`] for a layer in the tree of a bundle: [`LAYER_FILE`] in its root, with its files beside it.
    pub fn of_bundle(
        tree: &Tree,
        read: &ReadContent<'_>,
        facts: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let corrupt = |found: String| Error::Corrupt {
            path: LAYER_FILE.to_owned(),
            expected: "a layer in TOML".to_owned(),
            found,
        };
        let content = content_at(tree, LAYER_FILE).ok_or_else(|| corrupt("nothing".to_owned()))?;
        let bytes = read_limited(read, content, LAYER_FILE, MAX_TEXT_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|error| corrupt(error.to_string()))?;
        let mut layer = Self::unchecked(&text, Path::new(""), facts)?;
        let mut files = BTreeMap::new();
        for from in layer.document.file.iter().filter_map(|rule| rule.from.as_ref()) {
            let found = from.to_str().and_then(|path| node_at(tree, path.trim_start_matches("./")));
            if let Some((node, content)) =
                found.and_then(|id| Some((tree.node(id), tree.node(id).data.as_ref()?)))
            {
                files.insert(from.clone(), (content.clone(), node.times.written));
            }
        }
        layer.files = Files::Bundle(files);
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
            let compares =
                [When::IfNewer, When::IfNewerAndPresent, When::IfVersionNewer].contains(&rule.when);
            if compares && rule.from.is_none() {
                return Err(invalid(&rule.to, "a file with a time or version to compare", "a text"));
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
        self.document.shortcut.iter().try_for_each(ShortcutRule::check)?;
        self.document.service.iter().try_for_each(ServiceRule::check)?;
        self.document.acl.iter().try_for_each(AclRule::check)?;
        self.document.registry.iter().try_for_each(RegistryRule::check)
    }

    /// A file beside the layer, which is there.
    fn source(&self, from: &Path) -> Result<Source, Error> {
        let stays = from.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !stays {
            return Err(invalid(
                &from.display().to_string(),
                "a file beside the layer",
                "a path that leads elsewhere",
            ));
        }
        let missing =
            |name: &Path| Error::NotFound { what: "file of a layer", name: name.display().to_string() };
        match &self.files {
            Files::Bundle(files) => {
                let (content, written) = files.get(from).ok_or_else(|| missing(from))?;
                let place = Placed::Content(content.clone());
                Ok(Source { place, size: content.size, written: *written })
            }
            Files::Directory(base) => {
                let path = base.join(from);
                let facts = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file);
                let facts = facts.ok_or_else(|| missing(&path))?;
                let written = facts.modified().map_err(Error::io("read", &path))?;
                let since = written.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
                let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
                let written = FileTime::from_unix(seconds, since.subsec_nanos());
                Ok(Source { place: Placed::File(path), size: facts.len(), written })
            }
        }
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
        for rule in &self.document.shortcut {
            report.passed_over += usize::from(!rule.apply(image)?);
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
        for rule in &self.document.service {
            report.passed_over += usize::from(!rule.apply(image, system)?);
        }
        for rule in &self.document.acl {
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
        let is_passed_over = match rule.when {
            When::IfAbsent => is_there,
            When::IfPresent | When::IfNewerAndPresent => !is_there,
            _ => false,
        };
        if is_passed_over {
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
        let is_older = |there: FileTime| there < source.written;
        if rule.when == When::IfVersionNewer && is_there {
            let there = image.read_file(&path, MAX_PROGRAM_BYTES)?.and_then(|bytes| file_version(&bytes));
            // What has no version is older than what has one.
            if file_version(&source.bytes(image)?) <= there {
                return Ok(false);
            }
        }
        if matches!(rule.when, When::IfNewer | When::IfNewerAndPresent)
            && is_there
            && !image.written(&path).is_none_or(is_older)
        {
            return Ok(false);
        }
        if rule.when == When::IfDifferent && is_there {
            let same_size = image.content_of(&path).is_some_and(|content| content.size == source.size);
            if same_size && image.read_file(&path, MAX_FILE_BYTES)? == Some(source.bytes(image)?) {
                return Ok(false);
            }
        }
        image.add_placed(&path, source.place)?;
        Ok(true)
    }
}

impl Source {
    fn bytes(&self, image: &WindowsImage<'_>) -> Result<Vec<u8>, Error> {
        match &self.place {
            Placed::File(path) => std::fs::read(path).map_err(Error::io("read", path)),
            Placed::Content(content) => image.bytes_of(content, "file of a layer", MAX_FILE_BYTES),
        }
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
