//! Layers: ordered rules, written in TOML, that are applied to an image as a whole or not at all: registry, files,
//! directories, shortcuts, INI files, text files, services, access, commands at first boot. Linux images take those for files and
//! commands; a layer with others is refused before anything is done.
//!
//! Rules run in the order: directories, files, shortcuts, text, INI, registry, services, access, commands; rules of one kind in
//! the order of the file.
//! Everything is checked before the first rule runs. What ran leaves a stamp in the image, `SOFTWARE\Gravure\Layers` or
//! `/var/lib/gravure/layers`; a layer of the same or a lower version is not applied again.

mod acl;
mod document;
mod first_boot;
mod ini;
mod macros;
mod platform;
mod registry;
mod service;
mod shortcut;
mod target;
mod text;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
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
use crate::linux_image::LinuxImage;
use crate::system::{SetupState, System};
use target::Target;

pub use acl::AclRule;
pub use ini::{IniAction, IniRule};
pub use platform::Platform;
pub use registry::{RegistryAction, RegistryRule};
pub use service::{ServiceRule, Start};
pub use shortcut::ShortcutRule;
pub use text::TextRule;

/// The rules of a layer in a directory of its own.
pub const LAYER_FILE: &str = "layer.toml";
/// Where stamps are.
const STAMPS: &str = "Gravure\\Layers";
const LINUX_STAMPS: &str = "/var/lib/gravure/layers";
const MAX_STAMP_BYTES: u64 = 4096;
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

    /// Refuses a condition that deleting has no use for: what is not there is deleted already, and nothing is put in its place.
    fn check_for_delete(self, what: &str) -> Result<(), Error> {
        match self {
            Self::Always | Self::IfPresent => Ok(()),
            _ => Err(invalid(what, "always or if-present for what is deleted", "another condition")),
        }
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
    /// Mode in octal digits, for Linux; without one what is there keeps its own, and a new file may be run when the layer's may.
    mode: Option<String>,
}

/// A directory that is made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRule {
    path: String,
    /// Mode in octal digits, for Linux.
    mode: Option<String>,
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
    platform: Platform,
    document: Document,
    files: Files,
}

/// Where the files of a layer are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Files {
    /// In a directory of this machine.
    Directory(PathBuf),
    /// In a bundle: those that rules name, with their times.
    Bundle(BTreeMap<PathBuf, Bundled>),
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bundled {
    content: ContentRef,
    written: FileTime,
    is_program: bool,
}

/// A file of a layer.
struct Source {
    place: Placed,
    size: u64,
    written: FileTime,
    /// The layer's file may be run.
    is_program: bool,
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
    /// Reads a layer for Windows whose files are in `base`. `facts` are what `${NAME}` stands for, beside the places of the system; a
    /// name that is not among them is an error, as is anything else that would only show when rules run.
    pub fn parse(text: &str, base: &Path, facts: &BTreeMap<String, String>) -> Result<Self, Error> {
        Self::parse_for(Platform::Windows, text, base, facts)
    }

    /// The same for either system. A rule that the system does not know is an error.
    pub fn parse_for(
        platform: Platform,
        text: &str,
        base: &Path,
        facts: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let layer = Self::unchecked(platform, text, base, facts)?;
        layer.check()?;
        Ok(layer)
    }

    fn unchecked(
        platform: Platform,
        text: &str,
        base: &Path,
        facts: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let corrupt = |found: String| Error::Corrupt {
            path: "layer".to_owned(),
            expected: "a layer in TOML".to_owned(),
            found,
        };
        let mut value: toml::Value =
            toml::from_str(text).map_err(|error| corrupt(error.message().to_owned()))?;
        let mut known = platform.places();
        known.extend(facts.clone());
        macros::fill(&mut value, &known)?;
        let document: Document =
            value.try_into().map_err(|error: toml::de::Error| corrupt(error.message().to_owned()))?;
        Ok(Self { platform, document, files: Files::Directory(base.to_owned()) })
    }

    /// As [`Layer::parse_for`] for a layer in the tree of a bundle: [`LAYER_FILE`] in its root, with its files beside it.
    pub fn of_bundle(
        platform: Platform,
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
        let mut layer = Self::unchecked(platform, &text, Path::new(""), facts)?;
        let mut files = BTreeMap::new();
        for from in layer.document.file.iter().filter_map(|rule| rule.from.as_ref()) {
            let found = from.to_str().and_then(|path| node_at(tree, path.trim_start_matches("./")));
            if let Some((node, content)) =
                found.and_then(|id| Some((tree.node(id), tree.node(id).data.as_ref()?)))
            {
                let is_program = node.unix.is_some_and(|unix| unix.mode & 0o111 != 0);
                let bundled = Bundled { content: content.clone(), written: node.times.written, is_program };
                files.insert(from.clone(), bundled);
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
        self.check_platform()?;
        for rule in &self.document.directory {
            self.platform.path(&rule.path)?;
            mode_of(&rule.path, rule.mode.as_ref(), self.platform)?;
        }
        for rule in &self.document.file {
            self.platform.path(&rule.to)?;
            mode_of(&rule.to, rule.mode.as_ref(), self.platform)?;
            match (rule.action, &rule.from, &rule.text) {
                (FileAction::Delete, None, None) => rule.when.check_for_delete(&rule.to)?,
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
            self.platform.path(file)?;
        }
        self.document.text.iter().try_for_each(TextRule::check)?;
        self.document.ini.iter().try_for_each(IniRule::check)?;
        self.document.shortcut.iter().try_for_each(ShortcutRule::check)?;
        self.document.service.iter().try_for_each(ServiceRule::check)?;
        self.document.acl.iter().try_for_each(AclRule::check)?;
        self.document.registry.iter().try_for_each(RegistryRule::check)
    }

    /// Rules that the system does not know are named before anything else is said of them.
    fn check_platform(&self) -> Result<(), Error> {
        if self.platform == Platform::Windows {
            return Ok(());
        }
        let Document { shortcut, registry, service, acl, .. } = &self.document;
        let first = [
            ("shortcut", shortcut.first().map(ShortcutRule::name)),
            ("registry", registry.first().map(RegistryRule::name)),
            ("service", service.first().map(ServiceRule::name)),
            ("acl", acl.first().map(AclRule::name)),
        ];
        match first.into_iter().find_map(|(kind, name)| Some((kind, name?))) {
            None => Ok(()),
            Some((kind, name)) => Err(Error::Invalid {
                what: format!("layer {}, rule [[{kind}]] {name:?}", self.id()),
                expected: "a rule that a Linux image takes: directory, file, text, ini, command".to_owned(),
                found: "one for Windows".to_owned(),
            }),
        }
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
                let Bundled { content, written, is_program } =
                    files.get(from).ok_or_else(|| missing(from))?;
                let place = Placed::Content(content.clone());
                Ok(Source { place, size: content.size, written: *written, is_program: *is_program })
            }
            Files::Directory(base) => {
                let path = base.join(from);
                let facts = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file);
                let facts = facts.ok_or_else(|| missing(&path))?;
                let written = facts.modified().map_err(Error::io("read", &path))?;
                let since = written.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
                let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
                let written = FileTime::from_unix(seconds, since.subsec_nanos());
                let is_program = facts.permissions().mode() & 0o111 != 0;
                Ok(Source { place: Placed::File(path), size: facts.len(), written, is_program })
            }
        }
    }

    /// Applies the layer to Windows. After an error the image is to be dropped: nothing of the layer was written then.
    pub fn apply(&self, image: &mut WindowsImage<'_>, system: &System) -> Result<LayerReport, Error> {
        self.check_is_for(Platform::Windows)?;
        let Document { layer: Head { id, version, .. }, .. } = &self.document;
        let stamp = format!("{STAMPS}\\{id}");
        let there = image.number(HiveFile::Software, &stamp, "Version")?;
        let mut report = self.report();
        if !self.is_due(there) {
            return Ok(report);
        }
        report.applied = true;
        report.passed_over += self.place_files(image)?;
        for rule in &self.document.shortcut {
            report.passed_over += usize::from(!rule.apply(image)?);
        }
        report.passed_over += self.edit_files(image)?;
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

    /// Applies the layer to Linux. After an error the image is to be dropped: nothing of the layer was written then.
    pub fn apply_to_linux(&self, image: &mut LinuxImage<'_>) -> Result<LayerReport, Error> {
        self.check_is_for(Platform::Linux)?;
        let Document { layer: Head { id, version, .. }, command, directory, file, .. } = &self.document;
        let stamp = format!("{LINUX_STAMPS}/{id}");
        let there = image.read_file(&stamp, MAX_STAMP_BYTES)?;
        let there = there.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok());
        let mut report = self.report();
        if !self.is_due(there) {
            return Ok(report);
        }
        if let Some(first) = command.first()
            && !first_boot::has_systemd(image)?
        {
            return Err(Error::Invalid {
                what: format!("layer {id}, rule [[command]] {:?}", first.run),
                expected: "an image with systemd, which runs it".to_owned(),
                found: "none".to_owned(),
            });
        }
        report.applied = true;
        report.passed_over = self.place_files(image)?.saturating_add(self.edit_files(image)?);
        if !command.is_empty() {
            first_boot::install(image, id, command)?;
        }
        let has_modes =
            directory.iter().any(|rule| rule.mode.is_some()) || file.iter().any(|rule| rule.mode.is_some());
        if has_modes && !image.has_modes() {
            report
                .not_done
                .push(format!("{id}: modes are not set: the image has none (captured without Unix data)"));
        }
        image.put(&stamp, ContentRef::inline(format!("{version}\n").into_bytes()), None)?;
        Ok(report)
    }

    fn check_is_for(&self, platform: Platform) -> Result<(), Error> {
        if self.platform == platform {
            return Ok(());
        }
        Err(invalid(self.id(), &format!("a layer read for {}", platform.as_str()), self.platform.as_str()))
    }

    fn report(&self) -> LayerReport {
        let Head { id, version, .. } = &self.document.layer;
        LayerReport {
            id: id.clone(),
            version: *version,
            applied: false,
            passed_over: 0,
            not_done: Vec::new(),
        }
    }

    /// Whether the layer goes over the version that is there.
    fn is_due(&self, there: Option<u64>) -> bool {
        let Head { version, always, .. } = &self.document.layer;
        *always || there.is_none_or(|there| there < u64::from(*version))
    }

    /// Directories and files; gives the number of rules whose condition did not hold.
    fn place_files(&self, image: &mut dyn Target) -> Result<usize, Error> {
        for rule in &self.document.directory {
            let mode = mode_of(&rule.path, rule.mode.as_ref(), self.platform)?;
            image.make_directory(&self.platform.path(&rule.path)?, mode)?;
        }
        let mut passed_over = 0usize;
        for rule in &self.document.file {
            passed_over += usize::from(!self.apply_file(image, rule)?);
        }
        Ok(passed_over)
    }

    /// Text and INI files; the same.
    fn edit_files(&self, image: &mut dyn Target) -> Result<usize, Error> {
        let mut passed_over = 0usize;
        for rule in &self.document.text {
            passed_over += usize::from(!rule.apply(image)?);
        }
        for rule in &self.document.ini {
            passed_over += usize::from(!rule.apply(image)?);
        }
        Ok(passed_over)
    }

    /// Whether the rule's condition held.
    fn apply_file(&self, image: &mut dyn Target, rule: &FileRule) -> Result<bool, Error> {
        let path = self.platform.path(&rule.to)?;
        let mode = mode_of(&rule.to, rule.mode.as_ref(), self.platform)?;
        let is_there = image.exists(&path)?;
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
                image.write_file(&path, text.into_bytes(), mode)?;
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
            && !image.written(&path)?.is_none_or(is_older)
        {
            return Ok(false);
        }
        if rule.when == When::IfDifferent && is_there {
            let same_size = image.size(&path)? == Some(source.size);
            if same_size && image.read_file(&path, MAX_FILE_BYTES)? == Some(source.bytes(image)?) {
                return Ok(false);
            }
        }
        let mode = mode.or((source.is_program && !is_there).then_some(0o755));
        image.put(&path, source.place, mode)?;
        Ok(true)
    }
}

impl Source {
    fn bytes(&self, image: &dyn Target) -> Result<Vec<u8>, Error> {
        match &self.place {
            Placed::File(path) => std::fs::read(path).map_err(Error::io("read", path)),
            Placed::Content(content) => image.bytes_of(content, MAX_FILE_BYTES),
        }
    }
}

/// A mode in octal digits, of a rule for `path`.
fn mode_of(path: &str, mode: Option<&String>, platform: Platform) -> Result<Option<u32>, Error> {
    let Some(mode) = mode else { return Ok(None) };
    if platform == Platform::Windows {
        return Err(invalid(path, "no mode, which Windows does not know", mode));
    }
    let number = u32::from_str_radix(mode, 8).ok();
    let number = number.filter(|_| (3..=4).contains(&mode.len()) && mode.bytes().all(|c| c.is_ascii_digit()));
    number.map(Some).ok_or_else(|| invalid(path, "a mode of three or four octal digits, e.g. 0644", mode))
}

fn invalid(what: &str, expected: &str, found: &str) -> Error {
    Error::Invalid {
        what: format!("layer, {what}"),
        expected: expected.to_owned(),
        found: format!("{found:?}"),
    }
}
