//! The third-party INF files that tests read where they are.
#![expect(clippy::disallowed_types, clippy::unwrap_used, reason = "tests read files")]

use std::path::{Path, PathBuf};

/// A file of the corpus.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// All INF and INX files below the shared directory, sorted; `None` after a loud skip.
pub(crate) fn corpus() -> Option<Vec<File>> {
    let dir = gravure_testkit::shared_dir()?.join("corpus/inf");
    let mut paths = Vec::new();
    collect(&dir, &mut paths);
    paths.sort();
    let read = |path: PathBuf| File { bytes: std::fs::read(&path).unwrap(), path };
    Some(paths.into_iter().map(read).collect())
}

fn collect(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, out);
        } else if path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("inf") || end.eq_ignore_ascii_case("inx"))
        {
            out.push(path);
        }
    }
}
