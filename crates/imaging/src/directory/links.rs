//! Absolute symbolic links of a captured directory, and what they become where the image is applied.
//!
//! A link to `/srv/ref/etc/x` inside the captured `/srv/ref` is of use elsewhere only as `/etc/x` below the place where
//! the image is applied. Captured so, a link loses the flag "target unchanged" (wim-container 6.9), and the file gets a
//! flag in its header; on apply the path of the target directory is put before such targets.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Error;

/// The directory that is captured, by identity: links may reach it by another path than the capture did.
#[derive(Debug)]
pub(super) struct Rebase {
    root: (u64, u64),
}

impl Rebase {
    pub(super) fn to(root: &Path) -> Result<Self, Error> {
        let metadata = std::fs::metadata(root).map_err(Error::io("read", root.display()))?;
        Ok(Self { root: (metadata.dev(), metadata.ino()) })
    }

    /// The target of a link as seen from the captured root; `None` for links that are relative or lead elsewhere.
    pub(super) fn target(&self, target: &OsStr) -> Option<OsString> {
        let bytes = target.as_bytes();
        if bytes.first() != Some(&b'/') {
            return None;
        }
        let mut end = 1;
        loop {
            let metadata = std::fs::metadata(OsStr::from_bytes(&bytes[..end])).ok()?;
            if (metadata.dev(), metadata.ino()) == self.root {
                // What is captured is the root itself: nothing to take away.
                let rest = if end == 1 { bytes } else { &bytes[end..] };
                let rest = if rest.is_empty() { b"/" } else { rest };
                return Some(OsString::from_vec(rest.to_owned()));
            }
            let start = end + bytes[end..].iter().position(|byte| *byte != b'/')?;
            end = start + bytes[start..].iter().position(|byte| *byte == b'/').unwrap_or(bytes.len() - start);
        }
    }
}

/// The target of a link that was captured so, where the image is applied: below `root`, an absolute path.
pub(crate) fn below(root: &Path, target: &OsStr) -> OsString {
    let mut path = root.as_os_str().to_owned();
    if path == "/" {
        path.clear();
    }
    path.push(target);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_below_the_root_start_there() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        let root = base.join("in");
        std::fs::create_dir_all(root.join("d")).unwrap();
        std::fs::create_dir(base.join("out")).unwrap();
        std::os::unix::fs::symlink(&root, base.join("way")).unwrap();
        let rebase = Rebase::to(&root).unwrap();
        let (base, root) = (base.display().to_string(), root.display().to_string());
        let cases = [
            (root.clone(), Some("/")),
            (format!("{root}////"), Some("////")),
            (format!("{root}/file"), Some("/file")),
            (format!("{root}/file///"), Some("/file///")),
            (format!("{base}/way/d"), Some("/d")),
            (format!("/{root}/d/../d"), Some("/d/../d")),
            (format!("{base}/out"), None),
            (format!("{base}/inside"), None),
            ("/___nothing___".to_owned(), None),
            ("file".to_owned(), None),
            ("/".to_owned(), None),
        ];
        for (target, expected) in cases {
            assert_eq!(rebase.target(OsStr::new(&target)).as_deref(), expected.map(OsStr::new), "{target}");
        }
        let whole = Rebase::to(Path::new("/")).unwrap();
        assert_eq!(whole.target(OsStr::new("/etc/x")).as_deref(), Some(OsStr::new("/etc/x")));
    }

    #[test]
    fn targets_are_put_below_the_place_of_an_apply() {
        for (root, target, expected) in
            [("/mnt", "/etc/x", "/mnt/etc/x"), ("/mnt", "/", "/mnt/"), ("/", "/etc", "/etc")]
        {
            assert_eq!(below(Path::new(root), OsStr::new(target)), expected);
        }
    }
}
