//! `[Manufacturer]` and the models sections it leads to: which devices a file is for, on which Windows.

use std::collections::{BTreeSet, HashSet};

use gravure_nttypes::Guid;
use serde::Serialize;

use crate::decoration::Decoration;
use crate::inf::Inf;
use crate::lines::Section;
use crate::target::{Arch, Target};

/// A device that a file installs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Name for people.
    pub description: String,
    /// Manufacturer for people.
    pub manufacturer: String,
    /// Install section, without the decoration that it may have in the file.
    pub install: String,
    /// Hardware ID; `None` where the file has none, which is allowed before compatible IDs.
    pub hardware_id: Option<String>,
    /// Compatible IDs, best first.
    pub compatible_ids: Vec<String>,
    /// Models section it stands in.
    pub section: String,
    /// One-based line.
    pub line: u32,
}

impl Model {
    /// Hardware ID and compatible IDs.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.hardware_id.iter().chain(&self.compatible_ids).map(String::as_str)
    }
}

/// A line of `[Manufacturer]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manufacturer {
    /// Name for people.
    pub(crate) name: String,
    /// Models section without decoration.
    pub(crate) base: String,
    /// What stands behind it, as written.
    pub(crate) decorations: Vec<String>,
    pub(crate) line: u32,
}

impl Manufacturer {
    /// Decoration as written (none: the bare name) and name of all models sections this line allows.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (Option<&str>, String)> {
        let decorated = self.decorations.iter();
        let decorated = decorated.map(|text| (Some(text.as_str()), format!("{}.{text}", self.base)));
        std::iter::once((None, self.base.clone())).chain(decorated)
    }

    /// The same with decorations that can be read; the bare name has the empty one.
    fn choices(&self) -> impl Iterator<Item = (Decoration, String)> {
        self.sections().filter_map(|(text, name)| {
            Some((text.map_or(Some(Decoration::default()), Decoration::parse)?, name))
        })
    }

    /// Name of the section for `target`; `None` when none fits. Only what is listed counts, and an empty section is an
    /// answer too: such devices are excluded.
    pub(crate) fn section_for(&self, target: &Target) -> Option<String> {
        let fitting = self.choices().filter_map(|(decoration, name)| Some((decoration.fit(target)?, name)));
        // Of two that fit alike, the first counts.
        let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, name)| name)
    }
}

impl Inf {
    pub(crate) fn manufacturers(&self) -> Vec<Manufacturer> {
        let Some(section) = self.section("Manufacturer") else { return Vec::new() };
        let read = |line: &crate::lines::Line| {
            let values: Vec<String> =
                (0..line.values.len()).map(|i| self.value(line, i).trim().to_owned()).collect();
            let (base, decorations) = values.split_first()?;
            // `%name%` alone: the section has the name of the manufacturer.
            let name = self.text(line.key.as_deref().unwrap_or(base)).into_owned();
            let decorations = decorations.iter().filter(|text| !text.is_empty()).cloned().collect();
            (!base.is_empty()).then(|| Manufacturer {
                name,
                base: base.clone(),
                decorations,
                line: line.number,
            })
        };
        section.lines.iter().filter_map(read).collect()
    }

    /// Models of one section.
    pub(crate) fn models_in(&self, manufacturer: &Manufacturer, section: &Section, out: &mut Vec<Model>) {
        for line in &section.lines {
            let Some(key) = line.key.as_deref() else { continue };
            let install = self.value(line, 0).trim().to_owned();
            let id =
                |index: usize| Some(self.value(line, index).trim().to_owned()).filter(|id| !id.is_empty());
            let hardware_id = id(1);
            let compatible_ids: Vec<String> = (2..line.values.len()).filter_map(id).collect();
            if hardware_id.is_none() && compatible_ids.is_empty() {
                continue;
            }
            out.push(Model {
                description: self.text(key).into_owned(),
                manufacturer: manufacturer.name.clone(),
                install,
                hardware_id,
                compatible_ids,
                section: section.name.clone(),
                line: line.number,
            });
        }
    }

    /// Devices that this file installs on `target`: of each line of `[Manufacturer]` one section at most. A section that
    /// two lines name counts once.
    pub fn models(&self, target: &Target) -> Vec<Model> {
        let mut out = Vec::new();
        let mut seen = HashSet::new();
        for manufacturer in self.manufacturers() {
            let section = manufacturer.section_for(target).and_then(|name| self.section(&name));
            if let Some(section) = section.filter(|section| seen.insert(section.number)) {
                self.models_in(&manufacturer, section, &mut out);
            }
        }
        out
    }

    /// Devices of all sections that `[Manufacturer]` lists, whatever Windows they are for. A section that two lines
    /// name counts once.
    pub fn all_models(&self) -> Vec<Model> {
        let mut out = Vec::new();
        let mut seen = HashSet::new();
        for manufacturer in self.manufacturers() {
            for (_, name) in manufacturer.sections() {
                if let Some(section) = self.section(&name).filter(|section| seen.insert(section.number)) {
                    self.models_in(&manufacturer, section, &mut out);
                }
            }
        }
        out
    }

    /// Processors that some models section with devices in it is for.
    pub fn architectures(&self) -> Vec<Arch> {
        let mut out = BTreeSet::new();
        for manufacturer in self.manufacturers() {
            for (decoration, name) in manufacturer.choices() {
                if self.section(&name).is_some_and(|section| !section.lines.is_empty()) {
                    out.insert(decoration.arch.unwrap_or(Arch::X86));
                }
            }
        }
        out.into_iter().collect()
    }

    /// Device class of the file: `ClassGuid`, which is not always there in old files.
    pub fn class_guid(&self) -> Option<Guid> {
        self.version().class_guid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[Version]\nSignature=$Chicago$\n[Manufacturer]\n%m%=M,NTamd64,NTamd64.10.0...17763,NTamd64.6.1\n\
        Second=N,NTamd64\nM3\n[M]\nold=Old,PCI\\VEN_1\n[M.NTamd64]\n%d%=I64,PCI\\VEN_2,,PCI\\VEN_3\n[M.NTamd64.6.1]\n\
        [M.NTamd64.10.0...17763]\nd=New , PCI\\VEN_4&DEV_1\n[M.NTamd64.10.0]\nd=Unlisted,PCI\\VEN_5\n\
        [N.NTamd64]\nno=NoId\nd=,X\nd=C,,PCI\\CC_01\n[M3]\nd=M3I,Y\n[Strings]\nm=Maker\nd=Device\n";

    fn models(arch: Arch, version: &str) -> Vec<String> {
        let inf = Inf::parse(TEXT.as_bytes()).unwrap();
        let models = inf.models(&Target::client(arch, version.parse().unwrap()));
        models.iter().map(|m| format!("{}:{}", m.install, m.ids().collect::<Vec<_>>().join("|"))).collect()
    }

    #[test]
    fn each_manufacturer_gives_one_section() {
        assert_eq!(models(Arch::Amd64, "10.0.22631"), ["New:PCI\\VEN_4&DEV_1", ":X", "C:PCI\\CC_01"]);
        // An empty section excludes: there is no falling back.
        assert_eq!(models(Arch::Amd64, "10.0.10240"), [":X", "C:PCI\\CC_01"]);
        assert_eq!(models(Arch::Amd64, "5.2"), ["I64:PCI\\VEN_2|PCI\\VEN_3", ":X", "C:PCI\\CC_01"]);
        assert_eq!(models(Arch::X86, "10.0"), ["Old:PCI\\VEN_1", "M3I:Y"]);
        assert_eq!(models(Arch::Arm64, "10.0"), [""; 0]);
    }

    #[test]
    fn everything_that_is_listed_is_found() {
        let inf = Inf::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(inf.all_models().len(), 6);
        assert_eq!(inf.architectures(), [Arch::X86, Arch::Amd64]);
        let first = &inf.all_models()[1];
        assert_eq!((first.description.as_str(), first.manufacturer.as_str()), ("Device", "Maker"));
        assert_eq!((first.section.as_str(), first.line), ("M.NTamd64", 10));
        let bare = &inf.all_models()[4];
        assert_eq!(
            (bare.hardware_id.as_deref(), bare.compatible_ids.as_slice()),
            (None, &["PCI\\CC_01".to_owned()][..])
        );
    }
}
