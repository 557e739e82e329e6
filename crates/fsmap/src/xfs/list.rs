//! Directories listed by path, for whoever looks into an image without restoring it.

use gravure_io::ReadAt;

use super::inode::{Files, Inode};
use crate::Error;
use crate::list::{ListKind, Listed};

/// The entries of the directory at `path`, or the file itself; `None` when there is none.
pub(crate) fn list(
    dev: &dyn ReadAt,
    path: &str,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Vec<Listed>>, Error> {
    let files = Files::open(dev, goes_on)?;
    let mut inode = files.inode(files.root)?;
    let mut name = "/".to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if !inode.is_directory() {
            return Ok(None);
        }
        let found = files.entries(&inode)?.into_iter().find(|entry| shown(&entry.name) == part);
        let Some(entry) = found else { return Ok(None) };
        inode = files.inode(entry.inode)?;
        name = part.to_owned();
    }
    if !inode.is_directory() {
        return Ok(Some(vec![listed(name, &inode)]));
    }
    let mut out = Vec::new();
    for entry in files.entries(&inode)? {
        files.go_on()?;
        out.push(listed(shown(&entry.name), &files.inode(entry.inode)?));
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(out))
}

/// A name for people.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn listed(name: String, inode: &Inode) -> Listed {
    let kind = match inode {
        inode if inode.is_directory() => ListKind::Directory,
        inode if inode.is_file() => ListKind::File,
        inode if inode.is_link() => ListKind::Link,
        _ => ListKind::Other,
    };
    Listed { name, kind, size: if kind == ListKind::File { inode.size } else { 0 } }
}
