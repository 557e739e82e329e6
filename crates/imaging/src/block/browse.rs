//! What is in a partition of a block image, read from its chunks without restoring it: NTFS, FAT, exFAT, ext2/3/4, XFS and Btrfs.

use std::sync::Arc;

use gravure_disk::fat::{FatEntry, FatVolume};
use gravure_fsmap::{ListKind, Listed};
use gravure_io::{ReadAt, Window};
use gravure_model::Ctl;
use gravure_tree::{NodeId, Tree};

use super::at::BlockImageAt;
use crate::{Error, ErrorKind};

impl BlockImageAt {
    /// The entries of the directory `path` on partition `number`, or of the one volume, ascending by name; the file itself when it is one.
    pub fn list(self: &Arc<Self>, number: Option<u32>, path: &str, ctl: &Ctl) -> Result<Vec<Listed>, Error> {
        let facts = self.image().facts();
        let volume = match number {
            Some(number) => facts.volumes.iter().find(|volume| volume.number == Some(number)),
            None if facts.volumes.len() == 1 => facts.volumes.first(),
            None => {
                let found = format!("{} partitions", facts.volumes.len());
                let (what, expected) =
                    (self.image().name().to_owned(), "the number of a partition".to_owned());
                return Err(Error::Usage { what, expected, found });
            }
        };
        let image = self.image().name();
        let volume = volume.ok_or_else(|| {
            let numbers: Vec<String> =
                facts.volumes.iter().filter_map(|volume| Some(volume.number?.to_string())).collect();
            let has = match numbers.as_slice() {
                [] => "it is of one volume, which has no number".to_owned(),
                numbers => format!("it has {}", numbers.join(", ")),
            };
            let number = number.map_or_else(String::new, |number| format!("{number} "));
            Error::NotFound { what: "partition", which: format!("{number}of {image} ({has})") }
        })?;
        let which = number.map_or_else(|| "volume".to_owned(), |number| format!("partition {number}"));
        let name = format!("{which} of {image}");
        let window = Window::new(Arc::clone(self), volume.offset_bytes, volume.size_bytes);
        let not_found = || Error::NotFound { what: "path", which: format!("{path} on {name}") };
        match volume.content.to_ascii_lowercase().as_str() {
            "ntfs" => {
                let tree = crate::ntfs_check::source_tree(Box::new(window), &name, ctl)?;
                of_tree(&tree, path).ok_or_else(not_found)
            }
            "fat12" | "fat16" | "fat32" => of_fat(&window, path, &name)?.ok_or_else(not_found),
            "ext2" | "ext3" | "ext4" | "exfat" | "xfs" | "btrfs" => {
                let listed = gravure_fsmap::list(&window, path, &|| ctl.check().is_ok());
                ctl.check()?;
                let listed = listed.map_err(|error| {
                    let kind = match &error {
                        gravure_fsmap::Error::Io { .. } => ErrorKind::Io,
                        gravure_fsmap::Error::Unsupported { .. } => ErrorKind::Unsupported,
                        gravure_fsmap::Error::Refused { .. } => ErrorKind::Refused,
                        _ => ErrorKind::Integrity,
                    };
                    Error::Other { what: name.clone(), source: error.into(), kind }
                });
                listed?.ok_or_else(not_found)
            }
            other => Err(Error::Unsupported {
                what: "listing of a file system",
                value: format!("{other} on {name}"),
            }),
        }
    }
}

fn of_tree(tree: &Tree, path: &str) -> Option<Vec<Listed>> {
    let wanted = format!("/{}", path.trim_matches('/'));
    let node = tree.lookup(&wanted)?;
    let listed = |name: String, id: NodeId| {
        let node = tree.node(id);
        let kind = match (node.reparse.is_some(), node.is_directory()) {
            (true, _) => ListKind::Link,
            (false, true) => ListKind::Directory,
            (false, false) => ListKind::File,
        };
        let size = node.data.as_ref().map_or(0, |data| data.size);
        Listed { name, kind, size: if kind == ListKind::File { size } else { 0 } }
    };
    if !tree.node(node).is_directory() {
        return Some(vec![listed(wanted.rsplit('/').next().unwrap_or_default().to_owned(), node)]);
    }
    let mut out: Vec<Listed> =
        tree.children(node).iter().map(|entry| listed(entry.name.to_string(), entry.node)).collect();
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Some(out)
}

fn of_fat(source: &dyn ReadAt, path: &str, name: &str) -> Result<Option<Vec<Listed>>, Error> {
    let failed = |error: gravure_disk::Error| Error::Other {
        what: name.to_owned(),
        source: error.into(),
        kind: ErrorKind::Integrity,
    };
    let volume = FatVolume::open(source).map_err(failed)?;
    let path = path.trim_matches('/');
    let listed = |entry: &FatEntry| Listed {
        name: entry.name.clone(),
        kind: if entry.directory { ListKind::Directory } else { ListKind::File },
        size: entry.size.into(),
    };
    let sorted = |mut list: Vec<Listed>| {
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    };
    if path.is_empty() {
        return Ok(Some(sorted(volume.list("").map_err(failed)?.iter().map(listed).collect())));
    }
    let (above, last) = path.rsplit_once('/').unwrap_or(("", path));
    if !above.is_empty() && !volume.contains(above).map_err(failed)? {
        return Ok(None);
    }
    let found = volume.list(above).map_err(failed)?;
    let Some(entry) = found.iter().find(|entry| entry.name.eq_ignore_ascii_case(last)) else {
        return Ok(None);
    };
    if !entry.directory {
        return Ok(Some(vec![listed(entry)]));
    }
    Ok(Some(sorted(volume.list(path).map_err(failed)?.iter().map(listed).collect())))
}
