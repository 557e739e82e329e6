//! The private root itself: its directories, its apt configuration, and the apt programs run against it.
//!
//! Layout below the root: `apt.conf`, `sources.list.d/`, `state/` (lists), `cache/`, `status` (an empty dpkg
//! database, so that dependencies resolve from nothing) and `archives/` (verified package files). Of the host's
//! apt configuration only `Acquire` settings are taken over (proxies, retries); its hooks never run.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::sources::Source;
use crate::{Candidate, Error, Lock, PackageFile, host_sources};

/// Groups of the host's `Acquire` settings that concern how things are fetched, not what.
const INHERITED: [&str; 5] =
    ["Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::ForceIPv", "Acquire::Check-"];

/// Error lines of a failed program that are kept.
const KEPT_LINES: usize = 8;

/// What is going on, for whoever shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The package lists are being fetched and verified.
    Refreshing,
    /// A package file is being fetched.
    Downloading {
        /// Its name.
        name: &'a str,
        /// Its length.
        bytes: u64,
        /// One-based position among those that must be fetched.
        number: usize,
        /// How many must be fetched.
        count: usize,
    },
}

/// A prepared private root for one suite.
#[derive(Debug)]
pub struct AptRoot {
    dir: PathBuf,
    suite: String,
    sources: Vec<Source>,
    acquire: Vec<String>,
}

impl AptRoot {
    /// The usual cache directory: `gravure` below `$XDG_CACHE_HOME` or `$HOME/.cache`.
    pub fn default_cache_dir() -> PathBuf {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| PathBuf::from("/var/cache"))
            .join("gravure")
    }

    /// Makes the root for `suite` below `cache_dir` from the host's own sources. Cheap, and safe to repeat.
    pub fn prepare(cache_dir: &Path, suite: &str) -> Result<Self, Error> {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("");
        let sources = host_sources(Path::new("/etc/apt"), codename.trim_matches('"'), suite)?;
        let dump = checked(Command::new("apt-config").arg("dump"), "apt-config", "dump")?;
        Self::with_sources(cache_dir, suite, sources, inherited(&String::from_utf8_lossy(&dump)))
    }

    /// Makes the root from given sources and `Acquire` settings.
    fn with_sources(
        cache_dir: &Path,
        suite: &str,
        sources: Vec<Source>,
        acquire: Vec<String>,
    ) -> Result<Self, Error> {
        // apt wants absolute paths; the caller's current directory may change.
        let cache_dir = std::path::absolute(cache_dir).map_err(Error::io("cannot resolve", cache_dir))?;
        let root =
            Self { dir: cache_dir.join(format!("apt-{suite}")), suite: suite.to_owned(), sources, acquire };
        for sub in ["state/lists/partial", "cache/archives/partial", "sources.list.d", "empty", "archives"] {
            let path = root.dir.join(sub);
            fs::create_dir_all(&path).map_err(Error::io("cannot create", path))?;
        }
        let _lock = root.lock()?;
        let stanzas: Vec<String> = root.sources.iter().map(Source::stanza).collect();
        root.write_if_changed("sources.list.d/debian.sources", &stanzas.join("\n"))?;
        root.write_if_changed("apt.conf", &root.configuration())?;
        root.write_if_changed("status", "")?;
        Ok(root)
    }

    fn configuration(&self) -> String {
        let dir = self.dir.display();
        let mut text = format!(
            "APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
             APT::Install-Recommends \"false\";\nAPT::Update::Error-Mode \"any\";\n\
             # The root may lie below a home directory that apt's own user cannot enter.\n\
             APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
             Dir::State \"{dir}/state\";\nDir::State::status \"{dir}/status\";\nDir::Cache \"{dir}/cache\";\n\
             Dir::Etc::SourceList \"/dev/null\";\nDir::Etc::SourceParts \"{dir}/sources.list.d\";\n\
             Dir::Etc::Preferences \"/dev/null\";\nDir::Etc::PreferencesParts \"{dir}/empty\";\n\
             Dir::Etc::Main \"/dev/null\";\nDir::Etc::Parts \"{dir}/empty\";\n"
        );
        for setting in &self.acquire {
            text.push_str(setting);
            text.push('\n');
        }
        text
    }

    fn write_if_changed(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.dir.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        fs::write(&path, text).map_err(Error::io("cannot write", path))
    }

    /// Waits until no other process uses the root; released when dropped.
    fn lock(&self) -> Result<File, Error> {
        let path = self.dir.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io("cannot open", &path))?;
        file.lock().map_err(Error::io("cannot lock", &path))?;
        Ok(file)
    }

    /// Suite this root serves.
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// Directory of this root.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The archives in one-line form, for `mmdebstrap` (each is one mirror argument) and `sources.list`.
    pub fn sources_for_mmdebstrap(&self) -> Vec<String> {
        self.sources.iter().map(Source::one_line).collect()
    }

    /// The host's `Acquire` settings in the syntax of apt.conf, one per entry; for `mmdebstrap --aptopt`.
    pub fn apt_options(&self) -> &[String] {
        &self.acquire
    }

    /// Fetches the package lists unless they are younger than `max_age`; apt verifies their signatures.
    pub fn update(&self, max_age: Duration, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), Error> {
        let _lock = self.lock()?;
        let stamp = self.dir.join("updated");
        // A change of sources or of the key makes old lists useless.
        let conditions = format!("{}{}", self.configuration(), self.sources_for_mmdebstrap().join("\n"));
        let same = fs::read_to_string(&stamp).is_ok_and(|text| text == conditions);
        let age = fs::metadata(&stamp)
            .and_then(|m| m.modified())
            .ok()
            .and_then(|t| SystemTime::now().duration_since(t).ok());
        if same && age.is_some_and(|age| age < max_age) {
            return Ok(());
        }
        progress(Progress::Refreshing);
        checked(self.program("apt-get").arg("update"), "apt-get", "update")?;
        fs::write(&stamp, conditions).map_err(Error::io("cannot write", stamp))
    }

    /// The named packages with everything they depend on (no recommendations), by name.
    pub fn closure(&self, names: &[&str]) -> Result<Vec<String>, Error> {
        let mut command = self.program("apt-get");
        command.args(["install", "--simulate", "--no-install-recommends"]).args(names);
        let printed = checked(&mut command, "apt-get", &format!("install --simulate {}", names.join(" ")))?;
        let text = String::from_utf8_lossy(&printed);
        let mut found: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next().map(str::to_owned))
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// What the suite offers for each name: the version of `lock` if it still has it, else the newest. The order is
    /// that of `names`.
    pub fn candidates(&self, names: &[&str], lock: Option<&Lock>) -> Result<Vec<Candidate>, Error> {
        let newest = self.show(names, "--no-all-versions")?;
        let all = if lock.is_some() { self.show(names, "--all-versions")? } else { Vec::new() };
        names
            .iter()
            .map(|name| {
                let pinned = lock.and_then(|lock| lock.version_of(name));
                let kept = pinned.and_then(|v| all.iter().find(|c| c.name == *name && c.version == v));
                kept.or_else(|| newest.iter().find(|c| c.name == *name))
                    .cloned()
                    .ok_or_else(|| Error::NotFound { package: (*name).to_owned(), suite: self.suite.clone() })
            })
            .collect()
    }

    fn show(&self, names: &[&str], versions: &str) -> Result<Vec<Candidate>, Error> {
        let mut command = self.program("apt-cache");
        command.args(["show", versions]).args(names);
        let action = format!("show {}", names.join(" "));
        match checked(&mut command, "apt-cache", &action) {
            Ok(text) => Candidate::parse_all(&String::from_utf8_lossy(&text)),
            // With no hit at all apt-cache fails; the caller names the package that is missing.
            Err(Error::Program { said, .. }) if said.contains("No packages found") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Fetches the packages that are not in the archive directory yet, and verifies every one against the index.
    pub fn download(
        &self,
        wanted: &[Candidate],
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Vec<PackageFile>, Error> {
        let _lock = self.lock()?;
        let path = |c: &Candidate| {
            let version = c.version.replace(':', "%3a");
            self.dir.join("archives").join(format!("{}_{version}_{}.deb", c.name, c.architecture))
        };
        let absent: Vec<&Candidate> =
            wanted.iter().filter(|c| PackageFile::verify(c, &path(c)).is_err()).collect();
        if !absent.is_empty() {
            let incoming = self.dir.join("incoming");
            fs::create_dir_all(&incoming).map_err(Error::io("cannot create", &incoming))?;
            self.fetch(&absent, &incoming, progress)?;
            for candidate in &absent {
                let to = path(candidate);
                let from = incoming.join(to.file_name().unwrap_or_default());
                PackageFile::verify(candidate, &from)?;
                fs::rename(&from, &to).map_err(Error::io("cannot move", from))?;
            }
        }
        wanted.iter().map(|candidate| PackageFile::verify(candidate, &path(candidate))).collect()
    }

    /// One `apt-get download` for all of `absent` into `incoming`.
    fn fetch(
        &self,
        absent: &[&Candidate],
        incoming: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        let mut command = self.program("apt-get");
        command.current_dir(incoming).args(["-q", "download"]);
        command.args(absent.iter().map(|c| format!("{}={}", c.name, c.version)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|_| Error::ProgramMissing { program: "apt-get" })?;
        let mut number = 0;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // `Get:3 ADDRESS SUITE/main amd64 NAME amd64 VERSION [SIZE]`
                let named = line.strip_prefix("Get:").and_then(|rest| {
                    let words: Vec<&str> = rest.split_whitespace().collect();
                    absent
                        .iter()
                        .find(|c| words.contains(&c.name.as_str()) && words.contains(&c.version.as_str()))
                });
                if let Some(candidate) = named {
                    number += 1;
                    let (name, bytes, count) = (candidate.name.as_str(), candidate.size, absent.len());
                    progress(Progress::Downloading { name, bytes, number, count });
                }
            }
        }
        let output = child.wait_with_output().map_err(Error::io("cannot wait for apt-get in", incoming))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Program {
            program: "apt-get",
            action: "download".into(),
            said: last_lines(&output.stderr),
        })
    }

    /// An apt program that sees this root only.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("APT_CONFIG", self.dir.join("apt.conf")).env("LC_ALL", "C.UTF-8");
        command
    }
}

/// The lines of `apt-config dump` that say how to fetch.
fn inherited(dump: &str) -> Vec<String> {
    let wanted = |line: &&str| {
        let value_follows = !line.ends_with("\"\";");
        value_follows && INHERITED.iter().any(|group| line.starts_with(group))
    };
    dump.lines().filter(wanted).map(str::to_owned).collect()
}

/// Runs a program quietly; its standard output, or an error with its last words.
pub(crate) fn checked(command: &mut Command, program: &'static str, action: &str) -> Result<Vec<u8>, Error> {
    let output = command.stdin(Stdio::null()).output().map_err(|_| Error::ProgramMissing { program })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Program { program, action: action.to_owned(), said: last_lines(&output.stderr) })
}

fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(KEPT_LINES)..).unwrap_or_default().join("; ")
}

#[cfg(test)]
mod tests;
