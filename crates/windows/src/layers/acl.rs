//! Rules for who may do what with files, directories and keys, in SDDL.

use gravure_nttypes::SecurityDescriptor;
use serde::Deserialize;

use super::platform::path_in_windows;
use super::{invalid, registry};
use crate::Error;
use crate::image::WindowsImage;
use crate::system::System;

/// A security descriptor that is set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AclRule {
    /// File or directory.
    path: Option<String>,
    /// Key, as in rules for the registry.
    key: Option<String>,
    /// Owner, group and access in SDDL: `O:BAG:SYD:(A;OICI;FA;;;BA)`.
    sddl: String,
    /// All that is in the directory gets it too.
    #[serde(default)]
    recursive: bool,
}

impl AclRule {
    /// What it is for.
    pub(super) fn name(&self) -> &str {
        self.path.as_ref().or(self.key.as_ref()).map_or("acl", String::as_str)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let shown = self.name();
        match (&self.path, &self.key) {
            (Some(path), None) => drop(path_in_windows(path)?),
            (None, Some(key)) => drop(registry::place(key, "ControlSet001")?),
            _ => return Err(invalid("acl", "either a path or a key", "both or none")),
        }
        if self.recursive && self.key.is_some() {
            return Err(invalid(shown, "recursive for directories", "a key"));
        }
        self.descriptor(shown).map(drop)
    }

    fn descriptor(&self, shown: &str) -> Result<Vec<u8>, Error> {
        let parsed = SecurityDescriptor::from_sddl(&self.sddl);
        let parsed = parsed.map_err(|error| invalid(shown, "SDDL", &format!("{}: {error}", self.sddl)))?;
        parsed
            .to_bytes()
            .map_err(|error| invalid(shown, "a descriptor that can be stored", &error.to_string()))
    }

    /// Whether what it is for is there.
    pub(super) fn apply(&self, image: &mut WindowsImage<'_>, system: &System) -> Result<bool, Error> {
        if let Some(path) = &self.path {
            let path = path_in_windows(path)?;
            if image.find(&path).is_none() {
                return Ok(false);
            }
            let descriptor = self.descriptor(&path)?;
            let mut open = vec![path];
            while let Some(path) = open.pop() {
                image.set_security(&path, &descriptor)?;
                if self.recursive {
                    open.extend(image.names(&path).into_iter().map(|name| format!("{path}\\{name}")));
                }
            }
            return Ok(true);
        }
        let Some(key) = &self.key else { return Ok(false) };
        let (hive, place) = registry::place(key, &system.control_set)?;
        if !image.has_key(hive, &place)? {
            return Ok(false);
        }
        image.set_key_security(hive, &place, &self.descriptor(key)?)?;
        Ok(true)
    }
}
