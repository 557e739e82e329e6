//! Recipes: what a Debian system in an image consists of, written in TOML (`images/*.toml`).
//!
//! Reading checks everything that can be checked without building, so that a typing error costs a second and not a
//! minute. Unknown fields are refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;

/// A system to be built.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the image.
    pub name: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Debian suite, e.g. `trixie`.
    pub suite: String,
    /// What is installed before `packages`.
    #[serde(default)]
    pub base: Base,
    /// Debian packages, without the kernel.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Paths never unpacked from packages, with `*`, e.g. `/usr/share/doc/*`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Paths removed when all is done, with `*` in the last component.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Name the system has until a plan gives it its own.
    #[serde(default = "default_host_name")]
    pub host_name: String,
    /// `builder`: the package sources of the building machine, suite replaced; `none`: no sources.
    #[serde(default)]
    pub apt_sources: AptSources,
    /// The kernel; `None` makes a system for containers, which cannot be deployed.
    pub kernel: Option<Kernel>,
    /// Boot loaders prepared in the image.
    #[serde(default)]
    pub boot: Boot,
    /// Accounts.
    #[serde(default)]
    pub users: Vec<User>,
    /// Files written over what packages bring.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// systemd units.
    #[serde(default)]
    pub services: Services,
}

fn default_host_name() -> String {
    "localhost".to_owned()
}

/// What is installed before the recipe's own packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Packages marked essential only; no apt.
    Essential,
    /// Essential packages and apt.
    #[default]
    Minbase,
    /// All packages of priority important and above.
    Important,
}

/// Where the deployed system gets packages from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AptSources {
    /// As the building machine does, with the suite of the recipe.
    #[default]
    Builder,
    /// From nowhere until somebody configures it.
    None,
}

/// The kernel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Debian package, e.g. `linux-image-amd64`.
    pub package: String,
    /// Keep only these modules and what they need, in the system and in its initrd; all when absent.
    pub modules: Option<Vec<String>>,
    /// Added to the kernel's command line, in `/etc/default/grub`.
    #[serde(default)]
    pub command_line: String,
}

/// Boot loaders prepared in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Signed shim and GRUB.
    #[serde(default)]
    pub uefi: bool,
    /// GRUB's core image for BIOS machines, made now because its place on the disk is all that is missing.
    #[serde(default)]
    pub bios: bool,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Name.
    pub name: String,
    /// `locked`, or a hash as `/etc/shadow` holds it (`$...`). Plain passwords have no place in a recipe.
    #[serde(default = "locked")]
    pub password: String,
    /// Supplementary groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Login shell.
    #[serde(default = "default_shell")]
    pub shell: String,
    /// Lines of `~/.ssh/authorized_keys`.
    #[serde(default)]
    pub authorized_keys: Vec<String>,
}

fn locked() -> String {
    "locked".to_owned()
}

fn default_shell() -> String {
    "/bin/bash".to_owned()
}

/// A file written over what packages bring.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Absolute path in the system.
    pub path: String,
    /// Its text; or
    pub content: Option<String>,
    /// a file beside the recipe.
    pub source: Option<PathBuf>,
    /// Mode in octal digits.
    #[serde(default = "default_mode")]
    pub mode: String,
}

fn default_mode() -> String {
    "644".to_owned()
}

/// systemd units.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// Enabled.
    #[serde(default)]
    pub enable: Vec<String>,
    /// Disabled.
    #[serde(default)]
    pub disable: Vec<String>,
    /// Made impossible to start.
    #[serde(default)]
    pub mask: Vec<String>,
}

impl Recipe {
    /// Reads a recipe; `source` paths of files are made relative to its directory.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
        let mut recipe = Self::parse(&text).map_err(|reason| Error::Recipe { path: path.into(), reason })?;
        let dir = path.parent().unwrap_or_else(|| Path::new("."));
        for file in &mut recipe.files {
            file.source = file.source.take().map(|source| dir.join(source));
        }
        Ok(recipe)
    }

    /// Parses and checks the text of a recipe. The error is in words, with line and column where there is one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let recipe: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Every package that is asked for by name, sorted.
    pub fn all_packages(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = self.packages.iter().cloned().collect();
        if let Some(kernel) = &self.kernel {
            names.extend([kernel.package.clone(), "initramfs-tools".into(), "zstd".into()]);
        }
        if !self.users.is_empty() {
            names.insert("passwd".into());
        }
        if self.boot.uefi {
            names.extend(["shim-signed".into(), "grub-efi-amd64-signed".into()]);
        }
        if self.boot.bios {
            names.extend(["grub-pc-bin".into(), "grub2-common".into()]);
        }
        names.into_iter().collect()
    }

    fn check(&self) -> Result<(), String> {
        let word = |what: &str, text: &str, extra: &str| {
            let good = !text.is_empty()
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
            if good {
                Ok(())
            } else {
                Err(format!("{what} {text:?}: expected letters, digits and {extra:?}"))
            }
        };
        if self.name.trim().is_empty() {
            return Err("name is empty".into());
        }
        word("suite", &self.suite, "-.")?;
        word("host_name", &self.host_name, "-")?;
        self.packages.iter().try_for_each(|name| word("package", name, "+-.:"))?;
        if let Some(kernel) = &self.kernel {
            word("kernel package", &kernel.package, "+-.")?;
            kernel.modules.iter().flatten().try_for_each(|name| word("kernel module", name, "_-"))?;
            if kernel.command_line.contains(['"', '\'', '\n', '`', '$', '\\']) {
                return Err(format!(
                    "kernel command_line {:?}: quotes, $ and \\ are not allowed",
                    kernel.command_line
                ));
            }
        } else if self.boot.bios || self.boot.uefi {
            return Err("boot loaders are asked for, but no kernel".into());
        }
        for user in &self.users {
            word("user", &user.name, "_-")?;
            user.groups.iter().try_for_each(|group| word("group", group, "_-"))?;
            absolute("shell", &user.shell)?;
            let hashed = user.password.starts_with('$') && !user.password.contains([':', '\n']);
            if user.password != "locked" && !hashed {
                return Err(format!("user {}: password must be \"locked\" or a hash ($...)", user.name));
            }
        }
        for file in &self.files {
            absolute("file", &file.path)?;
            if file.content.is_some() == file.source.is_some() {
                return Err(format!("file {}: expected either content or source", file.path));
            }
            file.mode_bits()
                .ok_or_else(|| format!("file {}: mode {:?} is not octal", file.path, file.mode))?;
        }
        for path in self.exclude.iter().chain(&self.remove) {
            absolute("path", path)?;
        }
        let services = self.services.enable.iter().chain(&self.services.disable).chain(&self.services.mask);
        services.into_iter().try_for_each(|name| word("service", name, "@_-."))
    }
}

impl FileEntry {
    /// The mode as a number; `None` when the text is no octal number of at most 12 bits.
    pub fn mode_bits(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok().filter(|mode| *mode <= 0o7777)
    }
}

fn absolute(what: &str, path: &str) -> Result<(), String> {
    let clean = path.starts_with('/') && path.len() > 1 && !path.contains(['\n', '\0']);
    if clean && path.split('/').all(|part| part != ".." && part != ".") {
        return Ok(());
    }
    Err(format!("{what} {path:?}: expected an absolute path without . and .."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "Test"
        suite = "trixie"
        packages = ["systemd"]
        [kernel]
        package = "linux-image-amd64"
        [boot]
        uefi = true
        [[users]]
        name = "root"
        [[files]]
        path = "/etc/motd"
        content = "hello\n"
    "#;

    #[test]
    fn a_recipe_names_all_its_packages() {
        let recipe = Recipe::parse(GOOD).unwrap();
        let wanted = [
            "grub-efi-amd64-signed",
            "initramfs-tools",
            "linux-image-amd64",
            "passwd",
            "shim-signed",
            "systemd",
            "zstd",
        ];
        assert_eq!(recipe.all_packages(), wanted);
        assert_eq!(recipe.users[0].password, "locked");
        assert_eq!(recipe.files[0].mode_bits(), Some(0o644));
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("suite = \"trixie\"", "suite = \"tri xie\"", "suite \"tri xie\": expected letters"),
            ("\"systemd\"", "\"-o Evil\"", "package \"-o Evil\""),
            ("/etc/motd", "/etc/../motd", "without . and .."),
            ("content = \"hello\\n\"", "mode = \"644\"", "expected either content or source"),
            ("content = \"hello\\n\"", "content = \"\"\nmode = \"9\"", "mode \"9\" is not octal"),
            ("name = \"root\"", "name = \"root\"\npassword = \"secret\"", "must be \"locked\" or a hash"),
            ("uefi = true", "efi = true", "unknown field `efi`"),
        ];
        for (old, new, wanted) in cases {
            let error = Recipe::parse(&GOOD.replace(old, new)).unwrap_err();
            assert!(error.contains(wanted), "{new}: {error}");
        }
    }

    #[test]
    fn boot_loaders_need_a_kernel() {
        let text = "name = \"x\"\nsuite = \"trixie\"\n[boot]\nbios = true\n";
        assert_eq!(Recipe::parse(text).unwrap_err(), "boot loaders are asked for, but no kernel");
    }
}
