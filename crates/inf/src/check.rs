//! What is wrong with a file that can be read, and what it is, in short.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use crate::decoration::Decoration;
use crate::error::{Note, Severity, shown};
use crate::inf::Inf;
use crate::install::{Sources, install_section};
use crate::limits::{MAX_ENTRIES_OF_INSTALL, MAX_NOTES};
use crate::models::{Manufacturer, Model};
use crate::target::Arch;
use crate::text::Encoding;
use crate::version::Version;

/// A file in short, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How the file is encoded.
    pub encoding: Encoding,
    /// `[Version]`.
    pub version: Version,
    /// Processors it has devices for.
    pub architectures: Vec<Arch>,
    /// Languages with texts of their own.
    pub languages: Vec<u16>,
    /// Number of sections.
    pub sections: usize,
    /// Number of lines in them.
    pub lines: usize,
    /// Number of models in all listed sections.
    pub models: usize,
    /// Number of different hardware and compatible IDs.
    pub ids: usize,
    /// Whether some model's service is loaded by the boot loader.
    pub boot_critical: bool,
    /// What is wrong, by line.
    pub notes: Vec<Note>,
    /// Notes beyond the limit.
    pub more_notes: usize,
}

impl Report {
    /// Whether nothing that a device needs is missing.
    pub fn is_sound(&self) -> bool {
        self.more_notes == 0 && self.notes.iter().all(|note| note.severity < Severity::Error)
    }
}

impl Inf {
    /// Checks everything that some Windows would use.
    pub fn check(&self) -> Report {
        let models = self.all_models();
        let ids: HashSet<String> = models.iter().flat_map(|m| m.ids()).map(str::to_lowercase).collect();
        let mut out = Report {
            encoding: self.encoding(),
            version: self.version(),
            architectures: self.architectures(),
            languages: self.languages(),
            sections: self.sections().len(),
            lines: self.sections().iter().map(|section| section.lines.len()).sum(),
            models: models.len(),
            ids: ids.len(),
            boot_critical: false,
            notes: Vec::new(),
            more_notes: 0,
        };
        let mut notes = Notes::default();
        if let Some(line) = self.stray().first() {
            let count = self.stray().len();
            notes.warn(*line, format!("{count} lines before the first section are ignored"));
        }
        self.check_version(&out.version, !models.is_empty(), &mut notes);
        self.check_manufacturers(&mut notes);
        out.boot_critical = self.check_installs(&mut notes);
        self.check_tokens(&mut notes);
        (out.notes, out.more_notes) = notes.finish();
        out
    }

    fn check_version(&self, version: &Version, has_models: bool, notes: &mut Notes) {
        let Some(section) = self.section("Version") else { return };
        let line_of = |key: &str| self.entries(section, key).next().map(|line| line.number);
        let mut missing = |key: &str, is_read: bool, expected: &str| {
            if is_read {
                return;
            }
            match line_of(key) {
                Some(line) => {
                    let found = self.value_of(section, key).unwrap_or_default();
                    notes.error(line, format!("{key}: expected {expected}, found \"{}\"", shown(&found)));
                }
                None if has_models => notes.error(section.number, format!("[Version] has no {key}")),
                None => {}
            }
        };
        missing("ClassGuid", version.class_guid.is_some(), "a GUID");
        missing("Provider", version.provider.is_some(), "a name");
        missing("DriverVer", version.date.is_some(), "mm/dd/yyyy,w.x.y.z");
        if version.date.is_some() && version.version.is_none() {
            notes.warn(
                line_of("DriverVer").unwrap_or(section.number),
                "DriverVer has no version of four numbers".into(),
            );
        }
        if version.is_extension() && version.extension_id.is_none() {
            notes.error(section.number, "an extension without ExtensionId".into());
        }
        if has_models && version.catalogs.is_empty() {
            notes.warn(section.number, "no CatalogFile: the package cannot be signed".into());
        }
    }

    fn check_manufacturers(&self, notes: &mut Notes) {
        let manufacturers = self.manufacturers();
        let listed: HashSet<String> = manufacturers
            .iter()
            .flat_map(Manufacturer::sections)
            .map(|(_, name)| name.to_lowercase())
            .collect();
        for manufacturer in &manufacturers {
            for decoration in &manufacturer.decorations {
                if Decoration::parse(decoration).is_none() {
                    let found = shown(decoration);
                    notes.error(
                        manufacturer.line,
                        format!("expected a decoration as in NTamd64.10.0, found \"{found}\""),
                    );
                }
            }
            for (_, name) in manufacturer.sections().skip(usize::from(!manufacturer.decorations.is_empty())) {
                if self.section(&name).is_none() {
                    notes
                        .warn(manufacturer.line, format!("section [{}] is listed and missing", shown(&name)));
                }
            }
        }
        let bases: BTreeSet<String> = manufacturers.iter().map(|m| m.base.to_lowercase()).collect();
        for section in self.sections() {
            let name = section.name.to_lowercase();
            let decorated = name.split_once(".nt").is_some_and(|(base, _)| bases.contains(base));
            if decorated && !listed.contains(&name) {
                notes.warn(
                    section.number,
                    format!(
                        "section [{}] is not listed in [Manufacturer], so it has no effect",
                        shown(&section.name)
                    ),
                );
            }
        }
    }

    /// Names of the install sections of all models with the processor each is for.
    fn install_names(&self, mut missing: impl FnMut(&Model, Arch)) -> BTreeSet<(Arch, String)> {
        let mut wanted: BTreeSet<(Arch, String)> = BTreeSet::new();
        let mut seen = HashSet::new();
        for manufacturer in self.manufacturers() {
            for (text, name) in manufacturer.sections() {
                let Some(section) = self.section(&name) else { continue };
                let arch = text.and_then(Decoration::parse).and_then(|d| d.arch).unwrap_or(Arch::X86);
                if !seen.insert((section.number, arch)) {
                    continue;
                }
                let mut models = Vec::new();
                self.models_in(&manufacturer, section, &mut models);
                for model in models {
                    let key = (arch, model.install.to_lowercase());
                    if wanted.insert(key) && install_section(self, &model.install, arch).is_none() {
                        missing(&model, arch);
                    }
                }
            }
        }
        wanted
    }

    /// Files of the package that some device on a processor of this kind needs: paths within the package, sorted. Files
    /// that are not in `[SourceDisksFiles]` are left out: Windows' own media have them.
    pub fn files(&self, arch: Arch) -> Vec<String> {
        let sources = Sources::new(self, arch);
        let mut budget = MAX_ENTRIES_OF_INSTALL;
        let mut out = BTreeSet::new();
        for (_, name) in self.install_names(|_, _| {}).iter().filter(|(wanted, _)| *wanted == arch) {
            if budget == 0 {
                break;
            }
            budget = budget.saturating_sub(1);
            if let Some(install) = self.install_within(name, arch, &sources, &mut budget) {
                out.extend(
                    install.files.into_iter().map(|file| file.source).filter(|path| sources.has(path)),
                );
            }
        }
        out.into_iter().collect()
    }

    /// Whether the boot loader must load something of it, on some processor: what [`Inf::check`] says too, without its checks.
    pub fn is_boot_critical(&self) -> bool {
        self.check_installs(&mut Notes::default())
    }

    /// Checks install sections of all models for the processors these are for; tells whether one is boot critical.
    fn check_installs(&self, notes: &mut Notes) -> bool {
        let wanted = self.install_names(|model, arch| {
            let install = shown(&model.install);
            notes.error(model.line, format!("install section [{install}] for {arch} is missing"));
        });
        let mut boot_critical = false;
        let mut budget = MAX_ENTRIES_OF_INSTALL;
        let architectures: BTreeSet<Arch> = wanted.iter().map(|(arch, _)| *arch).collect();
        for arch in architectures {
            let sources = Sources::new(self, arch);
            for (_, name) in wanted.iter().filter(|(wanted, _)| *wanted == arch) {
                if budget == 0 {
                    break;
                }
                // Sections cost too, not only what stands in them.
                budget = budget.saturating_sub(1);
                if let Some(install) = self.install_within(name, arch, &sources, &mut budget) {
                    boot_critical |= install.is_boot_critical();
                    install.notes.into_iter().for_each(|note| notes.add(note));
                }
            }
        }
        boot_critical
    }

    fn check_tokens(&self, notes: &mut Notes) {
        for section in self.sections() {
            let name = section.name.to_lowercase();
            if name == "strings" || name.starts_with("strings.") {
                continue;
            }
            for line in &section.lines {
                for raw in line.key.iter().chain(&line.values).filter(|raw| raw.contains('%')) {
                    for token in self.strings().undefined(raw) {
                        notes.warn(line.number, format!("%{}% is not in [Strings]", shown(token)));
                    }
                }
            }
        }
    }
}

/// Notes, each once, up to the limit.
#[derive(Debug, Default)]
struct Notes {
    notes: Vec<Note>,
    seen: HashSet<(u32, String)>,
    more: usize,
}

impl Notes {
    fn add(&mut self, note: Note) {
        if self.notes.len() >= MAX_NOTES {
            self.more = self.more.saturating_add(1);
        } else if self.seen.insert((note.line, note.text.clone())) {
            self.notes.push(note);
        }
    }

    fn warn(&mut self, line: u32, text: String) {
        self.add(Note { severity: Severity::Warning, line, text });
    }

    fn error(&mut self, line: u32, text: String) {
        self.add(Note { severity: Severity::Error, line, text });
    }

    fn finish(mut self) -> (Vec<Note>, usize) {
        self.notes.sort_by_key(|note| note.line);
        (self.notes, self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_is_told_with_its_line() {
        let text = "stray\n[Version]\nSignature=$Chicago$\nClassGuid=x\nDriverVer=1/2/2020\n\
            [Manufacturer]\nm=M,NTamd64,NT$ARCH$,NTx86\n[M.NTamd64]\nd=I,A\nd=Gone,B\nd=I,a\n[M.NTamd64.6.1]\nd=I,C\n\
            [I]\nCopyFiles=L,Missing\nAddReg=R\n[I.Services]\nAddService=S,2,SS\nAddService=T,x\n\
            [L]\nf.sys\n[R]\nHKX,a\n[SS]\nStartType=0\nServiceBinary=%nope%\n";
        let report = Inf::parse(text.as_bytes()).unwrap().check();
        assert!(!report.is_sound() && report.boot_critical);
        assert_eq!((report.models, report.ids, report.architectures.as_slice()), (3, 2, &[Arch::Amd64][..]));
        let shown: Vec<String> = report.notes.iter().map(|n| format!("{:?} {n}", n.severity)).collect();
        let expected = [
            "Warning line 1: 1 lines before the first section are ignored",
            "Error line 2: [Version] has no Provider",
            "Warning line 2: no CatalogFile: the package cannot be signed",
            "Error line 4: ClassGuid: expected a GUID, found \"x\"",
            "Warning line 5: DriverVer has no version of four numbers",
            "Error line 7: expected a decoration as in NTamd64.10.0, found \"NT$ARCH$\"",
            "Warning line 7: section [M.NT$ARCH$] is listed and missing",
            "Warning line 7: section [M.NTx86] is listed and missing",
            "Error line 10: install section [Gone] for amd64 is missing",
            "Warning line 12: section [M.NTamd64.6.1] is not listed in [Manufacturer], so it has no effect",
            "Error line 15: CopyFiles: section [Missing] is missing",
            "Error line 19: AddService: expected flags, found \"x\"",
            "Error line 19: AddService: service T has no section",
            "Error line 21: \"f.sys\" is copied and not in [SourceDisksFiles]",
            "Error line 23: registry entry: expected HKR, HKLM, HKCR, HKCU or HKU, found \"HKX\"",
            "Warning line 26: %nope% is not in [Strings]",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_number_of_notes_is_bounded() {
        let text = format!("[Version]\nSignature=$Chicago$\n[A]\n{}", "%x%\n".repeat(MAX_NOTES + 5));
        let report = Inf::parse(text.as_bytes()).unwrap().check();
        assert_eq!((report.notes.len(), report.more_notes), (MAX_NOTES, 5));
    }
}
