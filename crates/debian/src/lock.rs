//! The lock file: which versions were taken, with hashes, so that a change is seen (DESIGN section 6).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Candidate, Error};

/// Version of the file's layout.
const LOCK_VERSION: u32 = 1;

/// Packages and the suite they were taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// Suite, for instance `trixie`.
    pub suite: String,
    /// Sorted by name.
    #[serde(default, rename = "package")]
    pub packages: Vec<LockedPackage>,
}

/// One package of a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Binary package name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the package file, lower-case hexadecimal.
    pub sha256: String,
    /// Source package, `name=version`.
    pub source: String,
}

/// A package that is not what the lock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Another version, because the locked one is gone from the suite or a newer one was wanted.
    Version {
        /// Package name.
        name: String,
        /// Version in the lock.
        locked: String,
        /// Version that was taken.
        taken: String,
    },
    /// The same version with other content; never legitimate in one archive.
    Content {
        /// Package name.
        name: String,
        /// The version both have.
        version: String,
    },
    /// Not in the lock.
    Added {
        /// Package name.
        name: String,
    },
    /// In the lock, but not taken.
    Removed {
        /// Package name.
        name: String,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version { name, locked, taken } => write!(f, "{name}: locked {locked}, taken {taken}"),
            Self::Content { name, version } => write!(f, "{name} {version}: same version, other content"),
            Self::Added { name } => write!(f, "{name}: not in the lock"),
            Self::Removed { name } => write!(f, "{name}: in the lock, not taken"),
        }
    }
}

impl Lock {
    /// A lock of what was taken from `suite`.
    pub fn of<'a>(suite: &str, taken: impl IntoIterator<Item = &'a Candidate>) -> Self {
        let mut packages: Vec<_> = taken
            .into_iter()
            .map(|c| LockedPackage {
                name: c.name.clone(),
                version: c.version.clone(),
                sha256: c.sha256.clone(),
                source: c.source.clone(),
            })
            .collect();
        packages.sort();
        packages.dedup();
        Self { version: LOCK_VERSION, suite: suite.to_owned(), packages }
    }

    /// Reads a lock file; `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("cannot read", path)(error)),
        };
        let bad = |reason: String| Error::Lock { path: path.to_owned(), reason };
        let lock: Self = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if lock.version != LOCK_VERSION {
            return Err(bad(format!("version {} found, {LOCK_VERSION} expected", lock.version)));
        }
        Ok(Some(lock))
    }

    /// Writes the lock file; the same packages give the same bytes.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bad = |reason: String| Error::Lock { path: path.to_owned(), reason };
        let body = toml::to_string(self).map_err(|e| bad(e.to_string()))?;
        let text = format!("# Debian packages that were taken, with the hashes of the signed index.\n{body}");
        std::fs::write(path, text).map_err(Error::io("cannot write", path))
    }

    /// The version the lock holds for `name`.
    pub fn version_of(&self, name: &str) -> Option<&str> {
        self.packages.iter().find(|p| p.name == name).map(|p| p.version.as_str())
    }

    /// What differs between this lock and `taken`, by name.
    pub fn differences(&self, taken: &Self) -> Vec<Difference> {
        let ours: BTreeMap<&str, _> = self.packages.iter().map(|p| (p.name.as_str(), p)).collect();
        let theirs: BTreeMap<&str, _> = taken.packages.iter().map(|p| (p.name.as_str(), p)).collect();
        let mut found = Vec::new();
        for (name, new) in &theirs {
            let name = (*name).to_owned();
            match ours.get(name.as_str()) {
                None => found.push(Difference::Added { name }),
                Some(old) if old.version != new.version => {
                    let (locked, taken) = (old.version.clone(), new.version.clone());
                    found.push(Difference::Version { name, locked, taken });
                }
                Some(old) if old.sha256 != new.sha256 => {
                    found.push(Difference::Content { name, version: new.version.clone() });
                }
                Some(_) => {}
            }
        }
        let gone = ours.keys().filter(|name| !theirs.contains_key(**name));
        found.extend(gone.map(|name| Difference::Removed { name: (*name).to_owned() }));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str, &str)]) -> Lock {
        let packages = packages
            .iter()
            .map(|(name, version, sha256)| LockedPackage {
                name: (*name).into(),
                version: (*version).into(),
                sha256: (*sha256).into(),
                source: format!("{name}={version}"),
            })
            .collect();
        Lock { version: LOCK_VERSION, suite: "trixie".into(), packages }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("payload.lock");
        assert_eq!(Lock::read(&path).unwrap(), None);
        let written = lock(&[("a", "1", "aa"), ("b", "2:1-1", "bb")]);
        written.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), Some(written));
    }

    #[test]
    fn a_lock_of_another_version_or_with_unknown_fields_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("payload.lock");
        for (text, expected) in [
            ("version = 2\nsuite = \"x\"\n", "version 2 found, 1 expected"),
            ("version = 1\nsuite = \"x\"\nextra = 1\n", "unknown field"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Lock::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let old = lock(&[("a", "1", "aa"), ("b", "1", "bb"), ("c", "1", "cc"), ("d", "1", "dd")]);
        let new = lock(&[("a", "1", "aa"), ("b", "2", "xx"), ("c", "1", "xx"), ("e", "1", "ee")]);
        let told: Vec<String> = old.differences(&new).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "b: locked 1, taken 2",
                "c 1: same version, other content",
                "e: not in the lock",
                "d: in the lock, not taken",
            ]
        );
        assert_eq!(old.differences(&old), []);
    }
}
