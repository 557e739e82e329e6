//! Kernel module lists as depmod writes them (modules.dep(5)): which modules serve a device, and in what order they
//! are loaded.

mod pattern;

use std::collections::{BTreeMap, BTreeSet};

use pattern::PatternIndex;

/// Deepest chain of soft and firm dependencies followed; depmod's lists have some ten. Bounds a made-up list.
const MAX_DEPTH: usize = 64;

/// The lists, as the texts of their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModuleTexts<'a> {
    /// `modules.dep`.
    pub dep: &'a str,
    /// `modules.alias`.
    pub alias: &'a str,
    /// `modules.softdep`.
    pub softdep: &'a str,
    /// `modules.builtin`.
    pub builtin: &'a str,
}

/// A module to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load<'a> {
    /// Name, with underscores.
    pub name: &'a str,
    /// Path below the directory of modules, e.g. `kernel/fs/ext4/ext4.ko`.
    pub path: &'a str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Module {
    path: String,
    /// Names of modules it needs.
    needs: Vec<String>,
    /// Names or aliases that should be loaded before it, and after it.
    before: Vec<String>,
    after: Vec<String>,
}

/// All modules of a kernel.
#[derive(Debug, Clone, Default)]
pub struct Modules {
    by_name: BTreeMap<String, Module>,
    aliases: PatternIndex,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Reads the lists. Lines that make no sense are stepped over, as the kernel's own tools do.
    pub fn parse(texts: ModuleTexts<'_>) -> Self {
        let mut by_name: BTreeMap<String, Module> = BTreeMap::new();
        for line in texts.dep.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_whitespace().map(name_of).collect();
            by_name
                .insert(name_of(path), Module { path: path.trim().to_owned(), needs, ..Module::default() });
        }
        for line in texts.softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            let Some(module) = words.next().and_then(|name| by_name.get_mut(&underscored(name))) else {
                continue;
            };
            let mut list = None;
            for word in words {
                match word {
                    "pre:" => list = Some(true),
                    "post:" => list = Some(false),
                    _ => match list {
                        Some(true) => module.before.push(word.to_owned()),
                        Some(false) => module.after.push(word.to_owned()),
                        None => {}
                    },
                }
            }
        }
        let aliases = texts.alias.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (word, pattern, name) = (words.next()?, words.next()?, words.next()?);
            (word == "alias").then(|| (pattern.to_owned(), underscored(name)))
        });
        Self {
            by_name,
            aliases: PatternIndex::new(aliases),
            builtin: texts.builtin.lines().filter(|line| !line.trim().is_empty()).map(name_of).collect(),
        }
    }

    /// Number of modules.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether the kernel itself contains `name`.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&underscored(name))
    }

    /// Names of the modules that `wanted` stands for: a module's name, or an alias such as a device's `modalias`.
    /// Sorted, each once.
    pub fn resolve(&self, wanted: &str) -> Vec<&str> {
        if let Some((name, _)) = self.by_name.get_key_value(&underscored(wanted)) {
            return vec![name];
        }
        let mut names: Vec<&str> = self.aliases.matches(wanted).collect();
        names.retain(|name| self.by_name.contains_key(*name));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What to load for the module `name`, in order, each once: soft predecessors, what it needs, itself, soft
    /// successors. Empty for an unknown name.
    pub fn load_order(&self, name: &str) -> Vec<Load<'_>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        if let Some((name, _)) = self.by_name.get_key_value(&underscored(name)) {
            self.visit(name, 0, &mut seen, &mut order);
        }
        order
    }

    fn visit<'a>(
        &'a self,
        name: &'a str,
        depth: usize,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<Load<'a>>,
    ) {
        let Some(module) = self.by_name.get(name) else { return };
        if depth >= MAX_DEPTH || !seen.insert(name) {
            return;
        }
        let deeper = depth.saturating_add(1);
        for wanted in &module.before {
            for name in self.resolve(wanted) {
                self.visit(name, deeper, seen, order);
            }
        }
        for needed in &module.needs {
            self.visit(needed, deeper, seen, order);
        }
        order.push(Load { name, path: &module.path });
        for wanted in &module.after {
            for name in self.resolve(wanted) {
                self.visit(name, deeper, seen, order);
            }
        }
    }
}

/// `kernel/drivers/usb/host/xhci-hcd.ko.xz` is module `xhci_hcd`.
fn name_of(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    underscored(file.split(".ko").next().unwrap_or(file))
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests;
