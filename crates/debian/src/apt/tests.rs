//! The private root against small archives made here: no network, the whole way from sources to files.

use super::*;

/// A directory with packages and the index apt reads; unsigned, which only the tests that say so accept.
struct Archive {
    dir: tempfile::TempDir,
    index: String,
}

impl Archive {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("pool")).unwrap();
        Self { dir, index: String::new() }
    }

    /// Builds package `name` with one file that says `content`, and lists it.
    fn add(&mut self, name: &str, version: &str, depends: &str, content: &str) {
        let root = self.dir.path().join(format!("{name}-{version}"));
        fs::create_dir_all(root.join("DEBIAN")).unwrap();
        fs::create_dir_all(root.join("usr/share/sample")).unwrap();
        fs::write(root.join("usr/share/sample").join(name), content).unwrap();
        let mut control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n\
             Description: sample\n"
        );
        if !depends.is_empty() {
            control.push_str(&format!("Depends: {depends}\n"));
        }
        fs::write(root.join("DEBIAN/control"), &control).unwrap();
        let file = format!("pool/{name}_{version}_all.deb");
        let path = self.dir.path().join(&file);
        checked(Command::new("dpkg-deb").arg("--build").arg(&root).arg(&path), "dpkg-deb", "--build")
            .unwrap();
        let size = fs::metadata(&path).unwrap().len();
        let sha256 = crate::package::sha256_file(&path).unwrap();
        self.index.push_str(&format!("{control}Filename: {file}\nSize: {size}\nSHA256: {sha256}\n\n"));
    }

    /// Writes the index and returns the source that points here.
    fn publish(&self) -> Source {
        let lists = self.dir.path().join("dists/trixie/main/binary-amd64");
        fs::create_dir_all(&lists).unwrap();
        fs::write(lists.join("Packages"), &self.index).unwrap();
        let sha256 = crate::package::sha256_file(&lists.join("Packages")).unwrap();
        let release = format!(
            "Suite: trixie\nCodename: trixie\nArchitectures: amd64\nComponents: main\n\
             Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {sha256} {} main/binary-amd64/Packages\n",
            self.index.len()
        );
        fs::write(self.dir.path().join("dists/trixie/Release"), release).unwrap();
        Source {
            uri: format!("file:{}", self.dir.path().display()),
            suite: "trixie".into(),
            components: vec!["main".into()],
            signed_by: None,
        }
    }
}

fn unsigned_allowed() -> Vec<String> {
    let settings =
        ["Acquire::AllowInsecureRepositories \"true\";", "APT::Get::AllowUnauthenticated \"true\";"];
    settings.map(str::to_owned).to_vec()
}

/// Says loudly when this system has no apt; a failure where oracles are required.
fn apt_is_here() -> bool {
    let here = Command::new("apt-get").arg("--version").output().is_ok();
    if !here {
        assert!(std::env::var_os("GRAVURE_REQUIRE_ORACLES").is_none(), "apt-get is required");
        eprintln!("SKIPPED: apt-get is not installed");
    }
    here
}

#[test]
fn packages_are_resolved_downloaded_verified_and_extracted() {
    if !apt_is_here() {
        return;
    }
    let mut archive = Archive::new();
    archive.add("tool", "1.0-1", "library (>= 2)", "a tool");
    archive.add("library", "2.0-1", "", "a library");
    archive.add("other", "1.0-1", "", "not asked for");
    let cache = tempfile::tempdir().unwrap();
    let source = archive.publish();
    let root = AptRoot::with_sources(cache.path(), "trixie", vec![source], unsigned_allowed()).unwrap();
    let mut said = Vec::new();
    root.update(Duration::ZERO, &mut |p| said.push(format!("{p:?}"))).unwrap();
    assert_eq!(root.closure(&["tool"]).unwrap(), ["library", "tool"]);
    let found = root.candidates(&["tool", "library"], None).unwrap();
    assert_eq!(found[0].depends, "library (>= 2)");
    let files = root.download(&found, &mut |p| said.push(format!("{p:?}"))).unwrap();
    let out = cache.path().join("out");
    for file in &files {
        file.extract(&out).unwrap();
    }
    assert_eq!(fs::read_to_string(out.join("usr/share/sample/library")).unwrap(), "a library");
    assert_eq!(said[0], "Refreshing");

    // A second run takes everything from the archive directory.
    said.clear();
    root.update(Duration::from_secs(3600), &mut |p| said.push(format!("{p:?}"))).unwrap();
    assert_eq!(root.download(&found, &mut |p| said.push(format!("{p:?}"))).unwrap(), files);
    assert_eq!(said, [""; 0]);

    // A file that was changed on disk is fetched again, not trusted.
    fs::write(&files[0].path, b"changed").unwrap();
    let again = root.download(&found, &mut |_| {}).unwrap();
    assert_eq!(fs::read(&again[0].path).unwrap().get(..8), Some(b"!<arch>\n".as_slice()));

    let error = root.candidates(&["absent"], None).unwrap_err().to_string();
    assert_eq!(error, "package absent is not in suite trixie");
}

#[test]
fn the_locked_version_is_kept_while_the_suite_has_it() {
    if !apt_is_here() {
        return;
    }
    let mut archive = Archive::new();
    archive.add("tool", "1.0-1", "", "old");
    archive.add("tool", "2.0-1", "", "new");
    let cache = tempfile::tempdir().unwrap();
    let source = archive.publish();
    let root = AptRoot::with_sources(cache.path(), "trixie", vec![source], unsigned_allowed()).unwrap();
    root.update(Duration::ZERO, &mut |_| {}).unwrap();
    let version = |lock: Option<&Lock>| root.candidates(&["tool"], lock).unwrap()[0].version.clone();
    assert_eq!(version(None), "2.0-1");
    let mut old = root.candidates(&["tool"], None).unwrap();
    old[0].version = "1.0-1".into();
    assert_eq!(version(Some(&Lock::of("trixie", &old))), "1.0-1");
    old[0].version = "0.9-1".into();
    assert_eq!(version(Some(&Lock::of("trixie", &old))), "2.0-1");
}

#[test]
fn an_archive_without_a_valid_signature_is_refused() {
    if !apt_is_here() {
        return;
    }
    let archive = Archive::new();
    let cache = tempfile::tempdir().unwrap();
    let root = AptRoot::with_sources(cache.path(), "trixie", vec![archive.publish()], Vec::new()).unwrap();
    let error = root.update(Duration::ZERO, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("is not signed"), "{error}");
}

#[test]
fn only_settings_about_fetching_are_inherited() {
    let dump = "APT::Update::Post-Invoke:: \"touch something\";\nAcquire \"\";\nAcquire::http \"\";\n\
        Acquire::http::Proxy \"http://proxy.example:3128\";\nAcquire::Retries \"3\";\n\
        Acquire::IndexTargets::deb::DEP-11::MetaKey \"x\";\nDir::State \"var/lib/apt\";\n";
    assert_eq!(
        inherited(dump),
        ["Acquire::http::Proxy \"http://proxy.example:3128\";", "Acquire::Retries \"3\";"]
    );
}

#[test]
fn the_configuration_keeps_everything_below_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source {
        uri: "http://mirror.example/debian".into(),
        suite: "trixie".into(),
        components: vec!["main".into()],
        signed_by: None,
    };
    let root =
        AptRoot::with_sources(dir.path(), "trixie", vec![source], vec!["Acquire::Retries \"3\";".into()])
            .unwrap();
    let text = fs::read_to_string(root.dir().join("apt.conf")).unwrap();
    for line in text.lines().filter(|line| line.starts_with("Dir::")) {
        let value = line.split('"').nth(1).unwrap();
        assert!(value == "/dev/null" || value.starts_with(root.dir().to_str().unwrap()), "{line}");
    }
    assert!(text.contains("Acquire::Retries \"3\";"));
    assert_eq!(root.sources_for_mmdebstrap(), ["deb http://mirror.example/debian trixie main"]);
    assert_eq!(fs::read_to_string(root.dir().join("status")).unwrap(), "");
}

#[test]
fn a_failed_program_is_told_with_its_last_words() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo E: no such suite >&2; exit 100"]);
    let error = checked(&mut command, "apt-get", "update").unwrap_err().to_string();
    assert_eq!(error, "apt-get update failed: E: no such suite");
    let missing = checked(&mut Command::new("no-such-program"), "apt-get", "update").unwrap_err().to_string();
    assert_eq!(missing, "apt-get is not installed");
}
