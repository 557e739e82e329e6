//! What installing a model does: files, registry entries, services; followed through `Needs` within the file, and into files of
//! Windows' own that are given (WDD "inf-ddinstall-section" and those of its directives). Nothing is done here, only described.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::error::{Note, Severity, shown};
use crate::inf::Inf;
use crate::limits::{MAX_ENTRIES_OF_INSTALL, MAX_SECTIONS_OF_INSTALL};
use crate::lines::{Line, Section};
use crate::models::Model;
use crate::places::{Place, directory};
use crate::rank::DEFAULT_FEATURE_SCORE;
use crate::registry::{RegEntry, number};
use crate::services::{ASSOCIATED, EVENT_LOG, EventSource, Service};
use crate::target::{Arch, Target};

/// A file that is copied.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct FileCopy {
    /// Path within the package, with backslashes.
    pub source: String,
    /// Where it goes.
    pub destination: Place,
    /// Flags of the entry.
    pub flags: u32,
}

/// What an install section does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Install {
    /// The section that was taken, decoration and all.
    pub section: String,
    /// Files of the package, each once. Those of included files come with Windows.
    pub files: Vec<FileCopy>,
    /// `AddReg` of the section: below the driver's key when relative.
    pub registry: Vec<RegEntry>,
    /// `AddReg` of `.HW`: below the device's key when relative.
    pub hardware_registry: Vec<RegEntry>,
    /// Services in order.
    pub services: Vec<Service>,
    /// `FeatureScore`, 0xff without one.
    pub feature_score: u8,
    /// `ExcludeID`: devices with such an ID do not get this driver.
    pub exclude_ids: Vec<String>,
    /// `AddComponent`: hardware IDs of the software components that Windows makes below the device, `SWC\...`; packages of their own drive
    /// them.
    pub components: Vec<String>,
    /// Files named by `Include`, in lower case, and those that included files name in turn.
    pub includes: Vec<String>,
    /// Sections named by `Needs` that are neither in this file nor in an included one that was given.
    pub needs_elsewhere: Vec<String>,
    /// Directives that are there and are not described here, each once: `CoInstallers32`, `AddInterface`, `DelReg`...
    pub other_directives: Vec<String>,
    /// What the file names and does not have, and what cannot be understood.
    pub notes: Vec<Note>,
}

impl Install {
    /// The service that drives the device.
    pub fn function_driver(&self) -> Option<&Service> {
        self.services.iter().find(|service| service.is_function_driver && !service.name.is_empty())
    }

    /// Whether the boot loader must load something of it.
    pub fn is_boot_critical(&self) -> bool {
        self.services.iter().any(Service::is_boot_start)
    }
}

/// A file that `Include` names: its name in lower case, and what it is.
pub type Included<'a> = (&'a str, &'a Inf);

/// The section `name` decorated for a processor, for NT, or plain.
pub(crate) fn install_section<'a>(inf: &'a Inf, name: &str, arch: Arch) -> Option<&'a Section> {
    inf.section(&format!("{name}.nt{arch}"))
        .or_else(|| inf.section(&format!("{name}.nt")))
        .or_else(|| inf.section(name))
}

impl Inf {
    /// What installing `model` on `target` does; `None` when its install section is missing.
    pub fn install(&self, model: &Model, target: &Target) -> Option<Install> {
        self.install_named(&model.install, target)
    }

    /// The same, with what sections of `included` add, as far as `Include` names these files.
    pub fn install_with(&self, model: &Model, target: &Target, included: &[Included<'_>]) -> Option<Install> {
        let mut budget = MAX_ENTRIES_OF_INSTALL;
        let sources = Sources::new(self, target.arch);
        self.describe(&model.install, target.arch, &sources, included, &mut budget)
    }

    /// The same by the name of an install section without decoration.
    pub fn install_named(&self, name: &str, target: &Target) -> Option<Install> {
        let mut budget = MAX_ENTRIES_OF_INSTALL;
        self.install_within(name, target.arch, &Sources::new(self, target.arch), &mut budget)
    }

    /// The same with at most `budget` entries, which are counted down.
    pub(crate) fn install_within(
        &self,
        name: &str,
        arch: Arch,
        sources: &Sources<'_>,
        budget: &mut usize,
    ) -> Option<Install> {
        self.describe(name, arch, sources, &[], budget)
    }

    fn describe(
        &self,
        name: &str,
        arch: Arch,
        sources: &Sources<'_>,
        included: &[Included<'_>],
        budget: &mut usize,
    ) -> Option<Install> {
        let section = install_section(self, name, arch)?;
        let mut work = Work {
            own: self,
            inf: self,
            from: None,
            included,
            sources,
            out: Install {
                section: section.name.clone(),
                feature_score: DEFAULT_FEATURE_SCORE,
                ..Install::default()
            },
            seen: HashSet::new(),
            sections: 0,
            budget,
            files: HashSet::new(),
        };
        work.follow(section, Part::Main);
        let main = section.name.clone();
        for (suffix, part) in [("HW", Part::Hardware), ("Services", Part::Services)] {
            if let Some(section) = self.section(&format!("{main}.{suffix}")) {
                work.follow(section, part);
            }
        }
        for suffix in [
            "CoInstallers",
            "Interfaces",
            "Components",
            "Software",
            "Events",
            "Filters",
            "Wmi",
            "LogConfigOverride",
            "FactDef",
            "Wdf",
        ] {
            if let Some(section) =
                self.section(&format!("{main}.{suffix}")).filter(|section| !section.lines.is_empty())
            {
                work.other_section(section);
            }
        }
        Some(work.out)
    }
}

/// Which part of an installation a section belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Main,
    Hardware,
    Services,
}

/// A section and the file it is in.
struct Owned<'a> {
    inf: &'a Inf,
    /// Name of an included file.
    from: Option<&'a str>,
    section: &'a Section,
}

struct Work<'a> {
    /// The file itself.
    own: &'a Inf,
    /// The file whose section is described: itself, or an included one.
    inf: &'a Inf,
    /// Name of the included one.
    from: Option<&'a str>,
    included: &'a [Included<'a>],
    sources: &'a Sources<'a>,
    out: Install,
    /// Sections that were followed, so that circles end.
    seen: HashSet<(Option<&'a str>, String, Part)>,
    sections: usize,
    /// Entries that may still come.
    budget: &'a mut usize,
    files: HashSet<FileCopy>,
}

impl<'a> Work<'a> {
    fn note(&mut self, line: u32, text: String) {
        self.note_as(Severity::Error, line, text);
    }

    fn note_as(&mut self, severity: Severity, line: u32, text: String) {
        let text = match self.from {
            Some(from) => format!("{from}: {text}"),
            None => text,
        };
        self.out.notes.push(Note { severity, line, text });
    }

    /// Counts a section against the limit; false when it is one too many.
    fn counted(&mut self, line: u32) -> bool {
        self.sections = self.sections.saturating_add(1);
        if self.sections == MAX_SECTIONS_OF_INSTALL {
            self.note(
                line,
                format!("more than {MAX_SECTIONS_OF_INSTALL} sections, the rest is not followed"),
            );
        }
        self.sections < MAX_SECTIONS_OF_INSTALL
    }

    /// Counts an entry against the limit; false when it is one too many.
    fn room(&mut self, line: u32) -> bool {
        if *self.budget == 1 {
            self.note(line, format!("more than {MAX_ENTRIES_OF_INSTALL} entries, the rest is not followed"));
        }
        *self.budget = self.budget.saturating_sub(1);
        *self.budget > 0
    }

    /// Values of a line, tokens replaced, blanks cut.
    fn values(&self, line: &Line) -> Vec<String> {
        (0..line.values.len()).map(|index| self.inf.value(line, index).trim().to_owned()).collect()
    }

    /// The names in a line.
    fn names(&self, line: &Line) -> Vec<String> {
        self.values(line).into_iter().filter(|name| !name.is_empty()).collect()
    }

    /// A section that `Needs` names: in the file itself, or else in those that were included so far.
    fn needed(&self, name: &str) -> Option<Owned<'a>> {
        if let Some(section) = self.inf.section(name) {
            return Some(Owned { inf: self.inf, from: self.from, section });
        }
        let named = |file: &str| self.out.includes.iter().any(|name| name == file);
        self.included
            .iter()
            .filter(|(file, _)| named(file))
            .find_map(|(file, inf)| inf.section(name).map(|section| Owned { inf, from: Some(file), section }))
    }

    fn follow(&mut self, section: &'a Section, part: Part) {
        let mut open = vec![Owned { inf: self.own, from: None, section }];
        while let Some(Owned { inf, from, section }) = open.pop() {
            (self.inf, self.from) = (inf, from);
            let new = self.seen.insert((from, section.name.to_lowercase(), part));
            if !new || !self.counted(section.number) {
                continue;
            }
            // Before `Needs`, wherever it stands.
            for line in self.inf.entries(section, "Include") {
                for name in self.names(line) {
                    push_once(&mut self.out.includes, name.to_lowercase());
                }
            }
            for line in &section.lines {
                let Some(key) = line.key.as_deref() else { continue };
                let key = key.trim().to_ascii_lowercase();
                match (key.as_str(), part) {
                    ("needs", _) => {
                        for name in self.names(line) {
                            match self.needed(&name) {
                                Some(needed) => open.push(needed),
                                None => push_once(&mut self.out.needs_elsewhere, name),
                            }
                        }
                    }
                    ("include", _) => {}
                    // Of the package they are; Windows brings its own. Ranks are the model's own, too.
                    ("copyfiles" | "featurescore", Part::Main) if self.from.is_some() => {}
                    ("copyfiles", Part::Main) => self.copy_files(line),
                    ("addreg", Part::Main | Part::Hardware) => {
                        let entries = self.registry(line);
                        if part == Part::Main {
                            self.out.registry.extend(entries);
                        } else {
                            self.out.hardware_registry.extend(entries);
                        }
                    }
                    ("addservice", Part::Services) => self.add_service(line),
                    ("featurescore", Part::Main) => {
                        let text = self.inf.value(line, 0);
                        let digits = text.trim().trim_start_matches("0x").trim_start_matches("0X");
                        match u8::from_str_radix(digits, 16) {
                            Ok(score) => self.out.feature_score = score,
                            Err(_) => {
                                let found = shown(&text);
                                self.note(
                                    line.number,
                                    format!(
                                        "FeatureScore: expected a byte in hexadecimal, found \"{found}\""
                                    ),
                                );
                            }
                        }
                    }
                    ("excludeid", Part::Main) => {
                        let names = self.names(line);
                        self.out.exclude_ids.extend(names);
                    }
                    // Without meaning since Windows XP, or for people only.
                    ("driverver" | "provider" | "logconfig", _) => {}
                    _ => push_once(&mut self.out.other_directives, line.key.clone().unwrap_or_default()),
                }
            }
        }
        (self.inf, self.from) = (self.own, None);
    }

    /// Directives of a section that is not described.
    fn other_section(&mut self, section: &Section) {
        let is_components = section.name.to_ascii_lowercase().ends_with(".components");
        for line in &section.lines {
            let is_component =
                line.key.as_deref().is_some_and(|key| key.trim().eq_ignore_ascii_case("AddComponent"));
            if is_components && is_component {
                self.add_component(line);
            }
            match line.key.as_deref().map(str::to_ascii_lowercase).as_deref() {
                Some("include" | "needs") | None => {}
                // Co-installers copy files and set values: that is what they are.
                Some(_) if section.name.to_ascii_lowercase().ends_with(".coinstallers") => {
                    push_once(&mut self.out.other_directives, "CoInstallers".to_owned());
                    match line.key.as_deref().map(str::to_ascii_lowercase).as_deref() {
                        Some("copyfiles") => self.copy_files(line),
                        _ => {
                            let entries = self.registry(line);
                            self.out.registry.extend(entries);
                        }
                    }
                }
                Some(_) => push_once(&mut self.out.other_directives, line.key.clone().unwrap_or_default()),
            }
        }
    }

    /// `AddComponent=name,flags,section` (WDD "inf-addcomponent-directive"): the section has the IDs without their bus.
    fn add_component(&mut self, line: &Line) {
        let values = self.values(line);
        let name: Vec<String> = values.get(2).filter(|name| !name.is_empty()).cloned().into_iter().collect();
        for section in self.named(line, "AddComponent", &name) {
            if !self.counted(line.number) {
                break;
            }
            for line in &section.lines {
                let is_ids =
                    line.key.as_deref().is_some_and(|key| key.trim().eq_ignore_ascii_case("ComponentIDs"));
                for id in if is_ids { self.names(line) } else { Vec::new() } {
                    if !self.room(line.number) {
                        return;
                    }
                    push_once(&mut self.out.components, format!("SWC\\{id}"));
                }
            }
        }
    }

    /// The sections named by a line; missing ones are noted.
    fn named(&mut self, line: &Line, what: &str, names: &[String]) -> Vec<&'a Section> {
        let mut out = Vec::new();
        for name in names {
            match self.inf.section(name) {
                Some(section) => out.push(section),
                None => self.note(line.number, format!("{what}: section [{}] is missing", shown(name))),
            }
        }
        out
    }

    fn registry(&mut self, line: &Line) -> Vec<RegEntry> {
        let names = self.names(line);
        let mut out = Vec::new();
        for section in self.named(line, "AddReg", &names) {
            if !self.counted(line.number) {
                break;
            }
            for line in &section.lines {
                if !self.room(line.number) {
                    break;
                }
                // `HKR = ...` is no entry; Windows skips it too.
                if line.key.is_some() {
                    continue;
                }
                match self.inf.add_reg(line) {
                    Ok(entry) => out.push(entry),
                    Err(problem) => self.note(line.number, problem),
                }
            }
        }
        out
    }

    fn copy_files(&mut self, line: &Line) {
        let (single, lists): (Vec<String>, Vec<String>) =
            self.names(line).into_iter().partition(|name| name.starts_with('@'));
        for name in single {
            if !self.room(line.number) {
                return;
            }
            let name = name.get(1..).unwrap_or_default().trim();
            let to = self.destination(None);
            self.copy(line.number, name, name, 0, &to);
        }
        for section in self.named(line, "CopyFiles", &lists) {
            if !self.counted(line.number) {
                break;
            }
            let to = self.destination(Some(&section.name));
            for line in &section.lines {
                if !self.room(line.number) {
                    return;
                }
                let values = self.values(line);
                let field = |index: usize| values.get(index).map_or("", String::as_str);
                let name = field(0);
                if line.key.is_some() || name.is_empty() {
                    continue;
                }
                let from = if field(1).is_empty() { name } else { field(1) };
                let flags = number(field(3)).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
                self.copy(line.number, from, name, flags, &to);
            }
        }
    }

    fn copy(&mut self, line: u32, from: &str, to: &str, flags: u32, dir: &Place) {
        let source = match self.sources.path(self.inf, from) {
            Some(source) => source,
            None if self.sources.has_layout => from.to_owned(),
            None => {
                self.note(line, format!("\"{}\" is copied and not in [SourceDisksFiles]", shown(from)));
                from.to_owned()
            }
        };
        let file = FileCopy { source, destination: dir.join(to), flags };
        if self.files.insert(file.clone()) {
            self.out.files.push(file);
        }
    }

    /// `[DestinationDirs]` of a list of files.
    fn destination(&mut self, list: Option<&str>) -> Place {
        let Some(section) = self.inf.section("DestinationDirs") else { return directory(11, "") };
        let line = list
            .and_then(|list| self.inf.entries(section, list).next())
            .or_else(|| self.inf.entries(section, "DefaultDestDir").next());
        // Without an entry: System32.
        let Some(line) = line else { return directory(11, "") };
        let values = self.values(line);
        let text = values.first().map_or("", String::as_str);
        let below = values.get(1).map_or("", String::as_str);
        match text.trim_matches('%').parse::<i64>() {
            Ok(number) => directory(number, below),
            Err(_) => match number(text).and_then(|number| i64::try_from(number).ok()) {
                Some(number) => directory(number, below),
                None => {
                    self.note(
                        line.number,
                        format!("[DestinationDirs]: expected a number, found \"{}\"", shown(text)),
                    );
                    Place::Elsewhere(below.to_owned())
                }
            },
        }
    }

    /// Section, log and name of an event source.
    fn event_source(&mut self, line: &'a Line, fields: [String; 3], service: &str) -> Option<EventSource> {
        let [section, log, name] = fields;
        if section.is_empty() {
            return None;
        }
        let or = |text: String, usual: &str| if text.is_empty() { usual.to_owned() } else { text };
        let mut registry = Vec::new();
        let found = self.inf.section(&section);
        if found.is_none() {
            // The driver works without.
            let text = format!("AddService: section [{}] for the event log is missing", shown(&section));
            self.note_as(Severity::Warning, line.number, text);
        }
        for line in found.map(|found| found.lines.as_slice()).unwrap_or_default() {
            match line.key.as_deref().map(str::trim) {
                Some(key) if key.eq_ignore_ascii_case("AddReg") => {
                    let entries = self.registry(line);
                    registry.extend(entries);
                }
                Some(other) => push_once(&mut self.out.other_directives, other.to_owned()),
                None => {}
            }
        }
        Some(EventSource { section, log: or(log, EVENT_LOG), name: or(name, service), registry })
    }

    fn add_service(&mut self, line: &'a Line) {
        if !self.room(line.number) {
            return;
        }
        let values = self.values(line);
        let field = |index: usize| values.get(index).cloned().unwrap_or_default();
        let flags = match field(1).as_str() {
            "" => 0,
            text => number(text).and_then(|n| u32::try_from(n).ok()).unwrap_or_else(|| {
                self.note(line.number, format!("AddService: expected flags, found \"{}\"", shown(text)));
                0
            }),
        };
        let mut service = Service {
            name: field(0),
            flags,
            is_function_driver: flags & ASSOCIATED != 0,
            section: field(2),
            kind: None,
            start: None,
            error_control: None,
            binary: None,
            display_name: None,
            description: None,
            group: None,
            dependencies: Vec::new(),
            security: None,
            boot_flags: None,
            registry: Vec::new(),
            event_source: None,
            from: self.from.map(str::to_owned),
            line: line.number,
        };
        service.event_source = self.event_source(line, [field(3), field(4), field(5)], &service.name);
        if service.section.is_empty() {
            if !service.name.is_empty() {
                self.note(
                    line.number,
                    format!("AddService: service {} has no section", shown(&service.name)),
                );
            }
        } else if let [section] =
            self.named(line, "AddService", std::slice::from_ref(&service.section)).as_slice()
        {
            self.inf.service(section, &mut service);
            for line in self.inf.entries(section, "AddReg").collect::<Vec<_>>() {
                let entries = self.registry(line);
                service.registry.extend(entries);
            }
            if service.binary.is_none() {
                self.note(line.number, format!("service {} has no ServiceBinary", shown(&service.name)));
            }
        }
        self.out.services.push(service);
    }
}

/// Where files lie in a package: `[SourceDisksFiles]` and `[SourceDisksNames]`, those of the processor first. Made once
/// for all install sections of a file.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    files: HashMap<String, &'a Line>,
    /// Path of each medium.
    roots: HashMap<String, String>,
    /// Files that are not listed are on Windows' own media.
    has_layout: bool,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(inf: &'a Inf, arch: Arch) -> Self {
        let both = |name: &str| [format!("{name}.{arch}"), name.to_owned()];
        let lines = |name: &str| {
            let sections = both(name).into_iter().filter_map(|name| inf.section(&name));
            sections.flat_map(|section| &section.lines).collect::<Vec<_>>()
        };
        let key = |line: &Line| {
            let raw = line.key.as_ref().or(line.values.first()).map_or("", String::as_str);
            inf.text(raw).trim().to_lowercase()
        };
        let mut out = Self { files: HashMap::new(), roots: HashMap::new(), has_layout: false };
        for line in lines("SourceDisksFiles") {
            out.files.entry(key(line)).or_insert(line);
        }
        for line in lines("SourceDisksNames") {
            out.roots.entry(key(line)).or_insert_with(|| inf.value(line, 3).trim().to_owned());
        }
        out.has_layout =
            inf.section("Version").is_some_and(|section| inf.entries(section, "LayoutFile").next().is_some());
        out
    }

    /// Whether the file at the end of this path is listed.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(&path.rsplit('\\').next().unwrap_or(path).to_lowercase())
    }

    /// Path within the package; `None` when the file is not listed.
    fn path(&self, inf: &Inf, file: &str) -> Option<String> {
        let line = self.files.get(&file.to_lowercase())?;
        let disk = inf.value(line, 0).trim().to_lowercase();
        let below = inf.value(line, 1);
        let root = self.roots.get(&disk).map_or("", String::as_str);
        let parts = [root, below.trim(), file].map(|part| part.trim_matches(['\\', '/']));
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty() && *part != ".").collect();
        Some(parts.join("\\"))
    }
}

fn push_once(list: &mut Vec<String>, text: String) {
    if !list.iter().any(|found| found.eq_ignore_ascii_case(&text)) {
        list.push(text);
    }
}

#[cfg(test)]
mod tests;
