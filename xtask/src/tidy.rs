//! `cargo xtask tidy`: the rules of DESIGN section 3 and STYLE, checked on manifests and files.
//!
//! Each rule is a pure function from facts to violations, so each has samples that pass and samples that do not.

mod dependencies;
mod layers;
mod layout;
mod sources;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{console, process, workspace};

const EXAMPLES: &str = "Examples:
  cargo xtask tidy            check everything; exit code 1 when a rule is broken
  cargo xtask tidy --rules    list the rules";

/// Options of `tidy`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// List the rules instead of checking them
    #[arg(long)]
    rules: bool,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// File the rule is broken in, relative to the root.
    pub(crate) path: PathBuf,
    /// One-based line; 0 when the whole file is meant.
    pub(crate) line: usize,
    /// Short name of the rule.
    pub(crate) rule: &'static str,
    /// What was expected and what was found.
    pub(crate) message: String,
}

impl Violation {
    pub(crate) fn new(path: &Path, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": [{}] {}", self.rule, self.message)
    }
}

/// Every rule with the sentence that explains it.
const RULES: &[(&str, &str)] = &[
    (
        "layer",
        "each crate states its layer; edges go down, sideways only where listed; dev crates serve tests only",
    ),
    ("cycle", "no crate depends on itself through others"),
    ("licence", "nothing under the GPL, LGPL or AGPL is linked; every dependency states a licence"),
    ("banned", "no dependency that DESIGN section 6 or STYLE rules out, or only where it is allowed"),
    ("payload", "the payload is built without crates that only other programs need"),
    ("header", "every Rust file opens with a `//!` line that says what it is"),
    ("length", "at most 800 lines that are not tests; generated tables say `//! Generated: <why>`"),
    ("unfinished", "no task markers, no ignored tests"),
    ("doc-test", "no example that rustdoc would compile: none is run"),
    ("machine-path", "no path of one developer's machine"),
    ("forbid-unsafe", "every crate but `linux` forbids unsafe code"),
    ("architecture", "every crate is named in crates/ARCHITECTURE.md"),
    ("paperwork", "every crate has a README.md, every format crate a FORMAT.md and a clippy.toml"),
    ("top-level", "the top level of the repository is fixed"),
];

/// Checks everything and prints what is broken.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.rules {
        console::table(
            &RULES.iter().map(|(name, text)| vec![(*name).into(), (*text).into()]).collect::<Vec<_>>(),
        );
        return Ok(());
    }
    let violations = check(workspace::root())?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    if !violations.is_empty() {
        bail!(
            "tidy: {} violation{} (`cargo xtask tidy --rules` explains)",
            violations.len(),
            plural(violations.len())
        );
    }
    console::note(format!("tidy: {} rules hold", RULES.len()));
    Ok(())
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// All violations in the checkout at `root`, sorted.
fn check(root: &Path) -> Result<Vec<Violation>> {
    let metadata = workspace::metadata()?;
    let mut found = layers::check(&layers::graph(&metadata, root));
    found.extend(dependencies::check(&metadata, root));
    found.extend(dependencies::check_payload(&workspace::tree_of("gravure-payload")?));
    found.extend(layout::check(&metadata, root)?);
    for path in tracked_files(root)? {
        let full = root.join(&path);
        // A file that is not UTF-8 is data, not text; rules about text do not apply to it.
        if let Ok(text) = std::fs::read_to_string(&full) {
            found.extend(sources::check(&path, &text));
        }
    }
    found.sort();
    Ok(found)
}

/// Files git knows or would add, relative to `root`.
fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = process::output(&mut git)?;
    Ok(listed
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
        .filter(|path| root.join(path).is_file())
        .collect())
}
