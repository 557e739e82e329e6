//! Rules for services: how one starts, and new ones.

use gravure_hive::Data;
use serde::Deserialize;

use super::{FileAction, When, invalid};
use crate::Error;
use crate::image::{HiveFile, WindowsImage};
use crate::system::System;

/// `SERVICE_WIN32_OWN_PROCESS`.
const OWN_PROCESS: u32 = 0x10;
/// `SERVICE_ERROR_NORMAL`.
const ERROR_NORMAL: u32 = 1;

/// When a service starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Loaded by the boot loader; drivers only.
    Boot,
    /// Loaded while the kernel starts; drivers only.
    System,
    /// With Windows.
    Auto,
    /// With Windows, after all others.
    AutoDelayed,
    /// When it is asked for.
    Demand,
    /// Never.
    Disabled,
}

impl Start {
    fn number(self) -> u32 {
        match self {
            Self::Boot => 0,
            Self::System => 1,
            Self::Auto | Self::AutoDelayed => 2,
            Self::Demand => 3,
            Self::Disabled => 4,
        }
    }
}

/// A service that is changed, made or goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceRule {
    /// Its key's name.
    name: String,
    start: Option<Start>,
    /// Program with its arguments; makes the service when it is not there.
    binary: Option<String>,
    display_name: Option<String>,
    description: Option<String>,
    /// Account it runs as; `LocalSystem` for new ones.
    account: Option<String>,
    /// Services that must run first.
    depends_on: Option<Vec<String>>,
    #[serde(default)]
    when: When,
    #[serde(default)]
    action: FileAction,
}

impl ServiceRule {
    /// What it is for.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let is_name = (1..=256).contains(&self.name.chars().count())
            && !self.name.contains(['\\', '/'])
            && !self.name.contains(char::is_control);
        if !is_name {
            return Err(invalid("service", "a name of 1 to 256 characters without strokes", &self.name));
        }
        if self.when.is_of_files() {
            return Err(invalid(&self.name, "always, if-absent or if-present", "another condition"));
        }
        let says = self.start.is_some()
            || self.binary.is_some()
            || self.display_name.is_some()
            || self.description.is_some()
            || self.account.is_some()
            || self.depends_on.is_some();
        match self.action {
            FileAction::Delete if says => {
                Err(invalid(&self.name, "nothing else for what is deleted", "settings"))
            }
            FileAction::Delete => self.when.check_for_delete(&self.name),
            FileAction::Copy if !says => Err(invalid(&self.name, "a setting", "none")),
            _ => Ok(()),
        }
    }

    /// Whether the rule's condition held.
    pub(super) fn apply(&self, image: &mut WindowsImage<'_>, system: &System) -> Result<bool, Error> {
        let key = system.control(&format!("Services\\{}", self.name));
        let hive = HiveFile::System;
        let is_there = image.has_key(hive, &key)?;
        if self.action == FileAction::Delete {
            return image.remove_key(hive, &key);
        }
        if matches!((self.when, is_there), (When::IfAbsent, true) | (When::IfPresent, false)) {
            return Ok(false);
        }
        if !is_there {
            // A service without a program is none: a change of one that is not there did not hold.
            if self.binary.is_none() {
                return Ok(false);
            }
            image.set_value(hive, &key, "Type", &Data::dword(OWN_PROCESS))?;
            image.set_value(hive, &key, "ErrorControl", &Data::dword(ERROR_NORMAL))?;
            if self.start.is_none() {
                image.set_value(hive, &key, "Start", &Data::dword(Start::Demand.number()))?;
            }
            if self.account.is_none() {
                image.set_value(hive, &key, "ObjectName", &Data::sz("LocalSystem"))?;
            }
        }
        if let Some(binary) = &self.binary {
            image.set_value(hive, &key, "ImagePath", &Data::expand_sz(binary))?;
        }
        if let Some(start) = self.start {
            image.set_value(hive, &key, "Start", &Data::dword(start.number()))?;
            match start {
                Start::AutoDelayed => image.set_value(hive, &key, "DelayedAutostart", &Data::dword(1))?,
                _ => drop(image.remove_value(hive, &key, "DelayedAutostart")?),
            }
            // What Windows noted of a machine without the device.
            image.remove_key(hive, &format!("{key}\\StartOverride"))?;
        }
        let texts = [
            ("DisplayName", &self.display_name),
            ("Description", &self.description),
            ("ObjectName", &self.account),
        ];
        for (value, text) in texts {
            if let Some(text) = text {
                image.set_value(hive, &key, value, &Data::sz(text))?;
            }
        }
        if let Some(services) = &self.depends_on {
            image.set_value(hive, &key, "DependOnService", &Data::multi_sz(services))?;
        }
        Ok(true)
    }
}
