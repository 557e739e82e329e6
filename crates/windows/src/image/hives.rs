//! The registry of an image: hives read out of the tree, completed from their logs, edited with a record, put back.

use std::fmt;

use gravure_hive::{Data, Editor, KeyId, recover};
use gravure_nttypes::NtName;
use gravure_tree::ContentRef;
use serde::{Deserialize, Serialize};

use super::{OpenHive, WindowsImage};
use crate::Error;
use crate::journal::{Change, StoredData, hex};

/// Largest hive read. SOFTWARE of a long-lived machine reaches 300 MB; the format ends at 2 GiB.
const MAX_HIVE_BYTES: u64 = 1 << 30;
/// Bytes of a base block that are in use.
const BASE_BLOCK_BYTES: usize = 512;

/// A hive of a Windows volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HiveFile {
    /// `HKLM\SYSTEM`.
    System,
    /// `HKLM\SOFTWARE`.
    Software,
    /// The driver database of classes that are not needed to boot; since Windows 8.
    Drivers,
    /// `HKU\.DEFAULT`.
    Default,
    /// What new users get.
    DefaultUser,
    /// `HKLM\SAM`.
    Sam,
    /// `HKLM\SECURITY`.
    Security,
}

impl HiveFile {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::System,
        Self::Software,
        Self::Drivers,
        Self::Default,
        Self::DefaultUser,
        Self::Sam,
        Self::Security,
    ];

    /// Where it lies on the volume.
    pub fn path(self) -> &'static str {
        match self {
            Self::System => "Windows\\System32\\config\\SYSTEM",
            Self::Software => "Windows\\System32\\config\\SOFTWARE",
            Self::Drivers => "Windows\\System32\\config\\DRIVERS",
            Self::Default => "Windows\\System32\\config\\DEFAULT",
            Self::DefaultUser => "Users\\Default\\NTUSER.DAT",
            Self::Sam => "Windows\\System32\\config\\SAM",
            Self::Security => "Windows\\System32\\config\\SECURITY",
        }
    }
}

impl fmt::Display for HiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DefaultUser => "DEFAULT-USER",
            other => other.path().rsplit_once('\\').map_or("", |(_, name)| name),
        })
    }
}

impl WindowsImage<'_> {
    /// Whether the image has the hive.
    pub fn has_hive(&self, hive: HiveFile) -> bool {
        self.find(hive.path()).is_some()
    }

    /// The hive, read and completed from its logs the first time.
    pub fn hive(&mut self, hive: HiveFile) -> Result<&Editor, Error> {
        self.open_hive(hive).map(|open| &open.editor)
    }

    fn open_hive(&mut self, hive: HiveFile) -> Result<&mut OpenHive, Error> {
        if !self.hives.contains_key(&hive) {
            let open = self.load(hive)?;
            self.hives.insert(hive, open);
        }
        self.hives
            .get_mut(&hive)
            .ok_or_else(|| Error::NotFound { what: "registry hive", name: hive.path().to_owned() })
    }

    fn load(&self, hive: HiveFile) -> Result<OpenHive, Error> {
        let path = hive.path();
        let not_found = || Error::NotFound { what: "registry hive", name: path.to_owned() };
        let bytes = self.read_file(path, MAX_HIVE_BYTES)?.ok_or_else(not_found)?;
        let mut logs = Vec::new();
        for log in log_paths(path) {
            logs.extend(self.read_file(&log, MAX_HIVE_BYTES)?);
        }
        let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
        let recovered = recover(&bytes, &logs).map_err(Error::hive(path))?;
        let is_replayed = recovered.replay.entries > 0;
        let editor = Editor::new(recovered.hive, self.now).map_err(Error::hive(path))?;
        Ok(OpenHive { editor, is_replayed })
    }

    /// The value of a key, or `None` when either is not there.
    pub fn value(&mut self, hive: HiveFile, key: &str, value: &str) -> Result<Option<Data>, Error> {
        let editor = self.hive(hive)?;
        let found = editor.find(key).and_then(|id| match id {
            Some(id) => editor.key(id)?.data(value),
            None => Ok(None),
        });
        found.map_err(Error::hive(hive.path()))
    }

    /// The text of a value.
    pub fn text(&mut self, hive: HiveFile, key: &str, value: &str) -> Result<Option<String>, Error> {
        Ok(self.value(hive, key, value)?.and_then(|data| data.as_text()).map(|text| text.to_string()))
    }

    /// The number of a value.
    pub fn number(&mut self, hive: HiveFile, key: &str, value: &str) -> Result<Option<u64>, Error> {
        Ok(self.value(hive, key, value)?.and_then(|data| data.as_number()))
    }

    /// Whether a key is there.
    pub fn has_key(&mut self, hive: HiveFile, key: &str) -> Result<bool, Error> {
        Ok(self.hive(hive)?.find(key).map_err(Error::hive(hive.path()))?.is_some())
    }

    /// Names of the keys below a key; none when it is not there.
    pub fn subkeys(&mut self, hive: HiveFile, key: &str) -> Result<Vec<String>, Error> {
        let editor = self.hive(hive)?;
        let read = || {
            let Some(id) = editor.find(key)? else { return Ok(Vec::new()) };
            editor.key(id)?.subkeys()?.map(|key| key.map(|key| key.name().to_string())).collect()
        };
        read().map_err(Error::hive(hive.path()))
    }

    /// Names and data of the values of a key; none when it is not there.
    pub fn values(&mut self, hive: HiveFile, key: &str) -> Result<Vec<(String, Data)>, Error> {
        let editor = self.hive(hive)?;
        let read = || {
            let Some(id) = editor.find(key)? else { return Ok(Vec::new()) };
            let values = editor.key(id)?.values()?;
            values
                .map(|value| value.and_then(|value| Ok((value.name().to_string(), value.data()?))))
                .collect()
        };
        read().map_err(Error::hive(hive.path()))
    }

    /// Makes a key and all above it that are missing.
    pub fn create_key(&mut self, hive: HiveFile, key: &str) -> Result<KeyId, Error> {
        let wrap = Error::hive(hive.path());
        let mut added = Vec::new();
        let open = self.open_hive(hive)?;
        let made = (|| {
            let (mut at, mut path) = (open.editor.root(), String::new());
            for name in key.split('\\').filter(|name| !name.is_empty()) {
                path = if path.is_empty() { name.to_owned() } else { format!("{path}\\{name}") };
                let name = NtName::from(name);
                at = match open.editor.subkey(at, &name)? {
                    Some(found) => found,
                    None => {
                        added.push(path.clone());
                        open.editor.create_subkey(at, &name)?
                    }
                };
            }
            Ok(at)
        })()
        .map_err(wrap)?;
        self.changes.extend(added.into_iter().map(|key| Change::KeyAdded { hive, key }));
        Ok(made)
    }

    /// Sets a value; the key is made when it is missing. Nothing happens when the value is so already.
    pub fn set_value(&mut self, hive: HiveFile, key: &str, value: &str, data: &Data) -> Result<(), Error> {
        let before = self.value(hive, key, value)?;
        if before.as_ref() == Some(data) {
            return Ok(());
        }
        let id = self.create_key(hive, key)?;
        let open = self.open_hive(hive)?;
        open.editor.set_value(id, &NtName::from(value), data).map_err(Error::hive(hive.path()))?;
        self.changes.push(Change::ValueSet {
            hive,
            key: key.to_owned(),
            value: value.to_owned(),
            before: before.as_ref().map(StoredData::of),
            after: Some(StoredData::of(data)),
        });
        Ok(())
    }

    /// Takes a value away; says whether it was there.
    pub fn remove_value(&mut self, hive: HiveFile, key: &str, value: &str) -> Result<bool, Error> {
        let Some(before) = self.value(hive, key, value)? else { return Ok(false) };
        let open = self.open_hive(hive)?;
        let removed = open.editor.find(key).and_then(|id| match id {
            Some(id) => open.editor.delete_value(id, &NtName::from(value)),
            None => Ok(false),
        });
        removed.map_err(Error::hive(hive.path()))?;
        let (key, value, before) = (key.to_owned(), value.to_owned(), StoredData::of(&before));
        self.changes.push(Change::ValueRemoved { hive, key, value, before });
        Ok(true)
    }

    /// Takes a key away with everything below it; says whether it was there.
    pub fn remove_key(&mut self, hive: HiveFile, key: &str) -> Result<bool, Error> {
        if !self.has_key(hive, key)? {
            return Ok(false);
        }
        // Parents before children; what goes last is recorded last.
        let mut todo = vec![key.to_owned()];
        let mut all = Vec::new();
        while let Some(key) = todo.pop() {
            todo.extend(self.subkeys(hive, &key)?.into_iter().map(|name| format!("{key}\\{name}")));
            all.push(key);
        }
        for key in all.into_iter().rev() {
            for (value, _) in self.values(hive, &key)? {
                self.remove_value(hive, &key, &value)?;
            }
            let wrap = Error::hive(hive.path());
            let open = self.open_hive(hive)?;
            let gone = (|| {
                let Some(id) = open.editor.find(&key)? else { return Ok(None) };
                let found = open.editor.key(id)?;
                let kept = (hex(found.security()?), found.class()?.to_string());
                open.editor.delete_key(id)?;
                Ok(Some(kept))
            })()
            .map_err(wrap)?;
            if let Some((security, class)) = gone {
                self.changes.push(Change::KeyRemoved { hive, key, security, class });
            }
        }
        Ok(true)
    }

    /// Gives a key that is there another security descriptor.
    pub fn set_key_security(&mut self, hive: HiveFile, key: &str, descriptor: &[u8]) -> Result<(), Error> {
        let wrap = Error::hive(hive.path());
        let open = self.open_hive(hive)?;
        let changed = (|| {
            let Some(id) = open.editor.find(key)? else { return Ok(None) };
            let before = open.editor.key(id)?.security()?.to_vec();
            if before == descriptor {
                return Ok(None);
            }
            open.editor.set_security(id, descriptor)?;
            Ok(Some(hex(&before)))
        })()
        .map_err(wrap)?;
        if let Some(before) = changed {
            self.changes.push(Change::KeySecuritySet { hive, key: key.to_owned(), before });
        }
        Ok(())
    }

    pub(super) fn edit_unrecorded<T>(
        &mut self,
        hive: HiveFile,
        edit: impl FnOnce(&mut Editor) -> Result<T, gravure_hive::Error>,
    ) -> Result<T, Error> {
        edit(&mut self.open_hive(hive)?.editor).map_err(Error::hive(hive.path()))
    }

    /// Puts changed hives back into the tree. Logs of a hive that was completed from them are emptied: what they hold is
    /// in the hive now.
    pub(super) fn store_hives(&mut self) -> Result<(), Error> {
        for (hive, open) in std::mem::take(&mut self.hives) {
            let path = hive.path();
            let Some(node) = self.find(path) else { continue };
            // Every edit changes the base block.
            let base = |bytes: &[u8]| bytes.get(..BASE_BLOCK_BYTES).map(<[u8]>::to_vec);
            let before = base(open.editor.hive().as_bytes());
            let bytes = open.editor.finish().map_err(Error::hive(path))?;
            if base(&bytes) == before && !open.is_replayed {
                continue;
            }
            self.tree.node_mut(node).data = Some(ContentRef::inline(bytes));
            if open.is_replayed {
                for log in log_paths(path) {
                    if let Some(node) = self.find(&log) {
                        self.tree.node_mut(node).data = Some(ContentRef::empty());
                    }
                }
            }
        }
        Ok(())
    }
}

fn log_paths(path: &str) -> [String; 3] {
    [".LOG", ".LOG1", ".LOG2"].map(|suffix| format!("{path}{suffix}"))
}
