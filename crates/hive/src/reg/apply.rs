//! Applying `.reg` text to a hive.

use gravure_nttypes::NtName;

use super::{RegFile, RegKey};
use crate::edit::Editor;
use crate::error::{Error, invalid};
use crate::hive::KeyId;
use crate::name;

/// Long and short names of the trees that hives hang in, and how many names of a path lead to a hive's root.
const TREES: &[(&str, &str, usize)] = &[
    ("HKEY_LOCAL_MACHINE", "HKLM", 2),
    ("HKEY_USERS", "HKU", 2),
    ("HKEY_CURRENT_USER", "HKCU", 1),
    ("HKEY_CLASSES_ROOT", "HKCR", 1),
    ("HKEY_CURRENT_CONFIG", "HKCC", 1),
];

/// What a text calls the root of the hive, e.g. `HKEY_LOCAL_MACHINE\SYSTEM`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount(Vec<NtName>);

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Keys that were not there before, those above them included.
    pub keys_created: usize,
    /// Keys deleted, without those below them.
    pub keys_deleted: usize,
    /// Values set.
    pub values_set: usize,
    /// Values deleted.
    pub values_deleted: usize,
    /// Keys and values that were to be deleted and were not there.
    pub not_there: usize,
}

impl Mount {
    /// From a path; short names of trees become long ones. Empty: paths in the text start at the hive's root.
    pub fn new(path: &NtName) -> Self {
        Self(names(path))
    }

    /// What the first key of a text says: the machine's and users' hives are two names deep, the current user's one; any
    /// other path starts at the hive's root.
    pub fn guess(file: &RegFile) -> Self {
        let first = file.keys.first().map(|key| names(&key.path)).unwrap_or_default();
        let tree = first.first().map(ToString::to_string).unwrap_or_default();
        let depth = TREES.iter().find(|(long, ..)| *long == tree).map_or(0, |(.., depth)| *depth);
        Self(first.into_iter().take(depth).collect())
    }

    /// The names below the root of the hive.
    fn strip(&self, key: &RegKey) -> Result<Vec<NtName>, Error> {
        let path = names(&key.path);
        let is_below = path.len() >= self.0.len() && self.0.iter().zip(&path).all(|(a, b)| same(a, b));
        if is_below {
            return Ok(path.into_iter().skip(self.0.len()).collect());
        }
        let mount = self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\\");
        let expected = format!("keys below {mount}");
        Err(Error::Text { line: key.line, expected: expected.into(), found: key.path.to_string() })
    }
}

fn same(a: &NtName, b: &NtName) -> bool {
    name::compare(a.units().iter().copied(), b.units().iter().copied()).is_eq()
}

/// The names of a path, with the tree's name in its long form.
fn names(path: &NtName) -> Vec<NtName> {
    let parts = path.units().split(|unit| *unit == u16::from(b'\\')).filter(|part| !part.is_empty());
    let mut out: Vec<NtName> = parts.map(NtName::from_units).collect();
    if let Some(first) = out.first_mut() {
        let text = first.to_string();
        let known = TREES
            .iter()
            .find(|(long, short, _)| [*long, *short].iter().any(|n| n.eq_ignore_ascii_case(&text)));
        if let Some((long, ..)) = known {
            *first = NtName::from(*long);
        }
    }
    out
}

impl RegFile {
    /// Does to the hive what the text says, in its order. `CurrentControlSet`, which exists in a running system only,
    /// becomes the control set that `Select` names.
    pub fn apply(&self, editor: &mut Editor, mount: &Mount) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        let control_set = control_set(editor)?;
        for key in &self.keys {
            let mut path = mount.strip(key)?;
            if let (Some(first), Some(set)) = (path.first_mut(), &control_set)
                && same(first, &NtName::from("CurrentControlSet"))
            {
                *first = NtName::from(set.as_str());
            }
            if key.is_deletion {
                delete(editor, &path, key, &mut applied)?;
                continue;
            }
            let id = create(editor, &path, &mut applied)?;
            for value in &key.values {
                match &value.data {
                    Some(data) => {
                        editor.set_value(id, &value.name, data)?;
                        applied.values_set = applied.values_set.saturating_add(1);
                    }
                    None if editor.delete_value(id, &value.name)? => {
                        applied.values_deleted = applied.values_deleted.saturating_add(1);
                    }
                    None => applied.not_there = applied.not_there.saturating_add(1),
                }
            }
        }
        Ok(applied)
    }
}

fn delete(editor: &mut Editor, path: &[NtName], key: &RegKey, applied: &mut Applied) -> Result<(), Error> {
    if path.is_empty() {
        let found = key.path.to_string();
        return Err(invalid(
            format!("line {}: key to delete", key.line),
            "a key below the hive's root",
            found,
        ));
    }
    let mut id = editor.root();
    for part in path {
        match editor.subkey(id, part)? {
            Some(next) => id = next,
            None => {
                applied.not_there = applied.not_there.saturating_add(1);
                return Ok(());
            }
        }
    }
    editor.delete_key(id)?;
    applied.keys_deleted = applied.keys_deleted.saturating_add(1);
    Ok(())
}

fn create(editor: &mut Editor, path: &[NtName], applied: &mut Applied) -> Result<KeyId, Error> {
    let mut id = editor.root();
    for part in path {
        id = match editor.subkey(id, part)? {
            Some(next) => next,
            None => {
                applied.keys_created = applied.keys_created.saturating_add(1);
                editor.create_subkey(id, part)?
            }
        };
    }
    Ok(id)
}

/// `ControlSet001` or another, when the hive is a SYSTEM hive.
fn control_set(editor: &Editor) -> Result<Option<String>, Error> {
    let hive = editor.hive();
    if hive.find("CurrentControlSet")?.is_some() {
        return Ok(None);
    }
    let Some(select) = hive.find("Select")? else { return Ok(None) };
    let number = select.data("Current")?.and_then(|data| data.as_number());
    Ok(number.map(|number| format!("ControlSet{number:03}")))
}
