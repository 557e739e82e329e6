//! A package as the signed index describes it, and as a verified file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::Error;
use crate::apt::checked;

/// A version the suite offers, from apt's verified index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Binary package name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Architecture: `amd64` or `all`.
    pub architecture: String,
    /// Name and version of the source package, `name (version)` reduced to `name=version`.
    pub source: String,
    /// SHA-256 of the package file, lower-case hexadecimal.
    pub sha256: String,
    /// Length of the package file, bytes.
    pub size: u64,
    /// `Depends` and `Pre-Depends` as written, joined with a comma.
    pub depends: String,
}

impl Candidate {
    /// Reads the stanzas `apt-cache show` prints.
    pub(crate) fn parse_all(text: &str) -> Result<Vec<Self>, Error> {
        text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()).map(Self::parse).collect()
    }

    fn parse(stanza: &str) -> Result<Self, Error> {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|v| v.trim().to_owned())
        };
        let name = field("Package").unwrap_or_default();
        let must = |key: &'static str| {
            field(key).ok_or_else(|| Error::Field { program: "apt-cache", field: key, package: name.clone() })
        };
        let version = must("Version")?;
        let sha256 = must("SHA256")?.to_ascii_lowercase();
        let size = must("Size")?;
        let size = size.parse().map_err(|_| Error::Field {
            program: "apt-cache",
            field: "Size",
            package: name.clone(),
        })?;
        let architecture = must("Architecture")?;
        let depends = ["Pre-Depends", "Depends"].into_iter().filter_map(field).collect::<Vec<_>>().join(", ");
        // `Source` is left out when it equals the package, its version when it equals the package's.
        let source = match field("Source") {
            None => format!("{name}={version}"),
            Some(text) => match text.split_once(" (") {
                Some((source, rest)) => format!("{source}={}", rest.trim_end_matches(')')),
                None => format!("{text}={version}"),
            },
        };
        Ok(Self { name, version, architecture, source, sha256, size, depends })
    }
}

/// A package file whose hash was compared with the signed index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// What the index says about it.
    pub candidate: Candidate,
    /// The `.deb` file.
    pub path: PathBuf,
}

impl PackageFile {
    /// Takes the file at `path` when it has the length and the hash of `candidate`.
    pub(crate) fn verify(candidate: &Candidate, path: &Path) -> Result<Self, Error> {
        let found = sha256_file(path)?;
        if found != candidate.sha256 {
            let package = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Error::Hash { package, expected: candidate.sha256.clone(), found });
        }
        Ok(Self { candidate: candidate.clone(), path: path.to_owned() })
    }

    /// Unpacks the package's files into `dir`, which is created; no maintainer script runs.
    pub fn extract(&self, dir: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(dir).map_err(Error::io("cannot create", dir))?;
        let mut command = Command::new("dpkg-deb");
        command.arg("--extract").arg(&self.path).arg(dir);
        checked(&mut command, "dpkg-deb", &format!("--extract {}", self.candidate.name)).map(drop)
    }
}

/// SHA-256 of a file as lower-case hexadecimal.
pub(crate) fn sha256_file(path: &Path) -> Result<String, Error> {
    const STEP_BYTES: usize = 1 << 16;
    let mut file = File::open(path).map_err(Error::io("cannot open", path))?;
    let (mut hasher, mut buf) = (Sha256::new(), vec![0; STEP_BYTES]);
    loop {
        let count = file.read(&mut buf).map_err(Error::io("cannot read", path))?;
        if count == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(buf.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZA: &str = "Package: libuuid1\nSource: util-linux (2.41-5)\nVersion: 2.41-5+b1\nArchitecture: amd64\n\
        Pre-Depends: dpkg (>= 1)\nDepends: libc6 (>= 2.34)\nSize: 37284\nSHA256: AB12\nDescription: ids\n more\n";

    #[test]
    fn a_stanza_names_its_source_package() {
        let cases = [
            (STANZA.to_owned(), "util-linux=2.41-5"),
            (STANZA.replace("Source: util-linux (2.41-5)", "Source: util-linux"), "util-linux=2.41-5+b1"),
            (STANZA.replace("Source: util-linux (2.41-5)\n", ""), "libuuid1=2.41-5+b1"),
        ];
        for (text, source) in cases {
            let found = Candidate::parse_all(&text).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(
                (found[0].source.as_str(), found[0].sha256.as_str(), found[0].size),
                (source, "ab12", 37284)
            );
            assert_eq!(found[0].depends, "dpkg (>= 1), libc6 (>= 2.34)");
        }
    }

    #[test]
    fn a_missing_or_odd_field_is_named() {
        for (from, to, field) in [("SHA256: AB12\n", "", "SHA256"), ("Size: 37284", "Size: many", "Size")] {
            let error = Candidate::parse_all(&STANZA.replace(from, to)).unwrap_err().to_string();
            assert_eq!(error, format!("apt-cache printed no {field} for libuuid1"));
        }
    }

    #[test]
    fn a_changed_file_is_refused_with_both_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.deb");
        std::fs::write(&path, b"abc").unwrap();
        let mut candidate = Candidate::parse_all(STANZA).unwrap().remove(0);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let error = PackageFile::verify(&candidate, &path).unwrap_err().to_string();
        assert_eq!(error, format!("package a.deb: sha256 expected ab12, found {abc}"));
        candidate.sha256 = abc.to_owned();
        assert_eq!(PackageFile::verify(&candidate, &path).unwrap().path, path);
    }
}
