//! A PostgreSQL server of a test's own: its cluster in a temporary directory, reached by a socket there and by nothing else.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::oracle::find;
use crate::skipped;

/// Whom the cluster is of: its programs refuse to run as root.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// Where Debian has its programs, below a directory for each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A running server, which ends with this value.
#[derive(Debug)]
pub struct Postgres {
    dir: tempfile::TempDir,
    programs: PathBuf,
    /// User and group that its programs run as, when this is root.
    user: Option<(u32, u32)>,
}

impl Postgres {
    /// Starts one; `None` after a loud skip where it is not installed.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            skipped("PostgreSQL is not installed (package postgresql)");
            return None;
        };
        let user = match rustix::process::geteuid().is_root() {
            true => Some(USERS.iter().find_map(|name| ids_of(name)).expect("a user beside root")),
            false => None,
        };
        // Names of sockets are at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("pg").tempdir().expect("a temporary directory");
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).expect("root may give files away");
        }
        let this = Self { dir, programs, user };
        this.run("initdb", &["-D", "data", "-A", "trust", "-U", "gravure", "-E", "UTF8", "--no-sync"]);
        let settings = format!("-c listen_addresses='' -c fsync=off -k {}", this.dir.path().display());
        this.run("pg_ctl", &["start", "-w", "-s", "-D", "data", "-l", "log", "-o", &settings]);
        Some(this)
    }

    /// Its address for programs that take one; the database is empty.
    pub fn url(&self) -> String {
        format!("postgres://gravure@localhost/postgres?host={}", self.dir.path().display())
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir(self.dir.path()).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        // The server goes on with what it was given: no pipe of ours, or reading it would never end.
        let output = std::fs::File::create(self.dir.path().join("output")).expect("a file of our own");
        let errors = output.try_clone().expect("a second handle");
        let status = self.command(program, arguments).stdout(output).stderr(errors).status();
        let is_done = status.is_ok_and(|status| status.success());
        let told = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        assert!(is_done, "{program}: {}{}", told("output"), told("log"));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // What is in it goes with the directory.
        let stopped = self.command("pg_ctl", &["stop", "-m", "immediate", "-s", "-D", "data"]).status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("PostgreSQL in {} was not stopped", self.dir.path().display());
        }
    }
}

/// Directory of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().filter_map(Result::ok);
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut found: Vec<(u32, PathBuf)> =
        versions.filter_map(|entry| Some((number(&entry.path())?, entry.path().join("bin")))).collect();
    found.retain(|(_, dir)| dir.join("initdb").is_file());
    found.sort();
    let newest = found.pop().map(|(_, dir)| dir);
    newest.or_else(|| find("initdb")?.parent().map(Path::to_owned))
}

/// User and group of a name.
fn ids_of(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2).map(str::parse);
    Some((ids.next()?.ok()?, ids.next()?.ok()?))
}
