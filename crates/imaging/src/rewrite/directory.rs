//! A directory with a system in it, a mounted volume, changed in memory as an image is and then where it lies.
//!
//! The kernel's file system writes; this gives it the order. New directories and all new contents come first, under names of their own and
//! flushed; a failure until then takes them away again and leaves the directory as it was. Then files take their places one by one: what is kept
//! for the record moves, new files get their names, what goes is removed. A crash in the middle leaves some files old and some new, each of
//! them whole.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_linux::{Dir, NodeKind};
use gravure_model::Ctl;
use gravure_nttypes::{FileAttributes, FileTime, NtName};
use gravure_tree::{ContentRef, Node, NodeId, Origin, SourceId, Times, Tree};

use crate::Error;

/// Deepest directory that is looked into; Windows' own go to some thirty.
const MAX_DEPTH: usize = 200;
/// Mode of what is made, where the file system has modes.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// What NTFS drivers of Linux call a file's security descriptor (ntfs3, ntfs-3g) and its attributes.
const SECURITY: [&str; 2] = ["system.ntfs_security", "system.ntfs_acl"];
const ATTRIBUTES: &str = "system.ntfs_attrib";
/// Start of names that new contents have until they take their places.
const NEW: &str = ".gravure-new-";

/// Names from the root down.
type Names = Vec<OsString>;

/// A directory that is to be changed.
#[derive(Debug)]
pub struct ServicedDirectory {
    root: Arc<Dir>,
    /// Its structure, to change as one likes: names, contents, access. Links are in it as what they are, and are not followed.
    pub tree: Tree,
    files: Arc<Vec<Names>>,
    before: HashMap<NodeId, (Names, Option<ContentRef>)>,
}

/// Gives the contents of files as they were when the directory was looked at.
#[derive(Debug, Clone)]
pub struct DirectoryReader {
    root: Arc<Dir>,
    files: Arc<Vec<Names>>,
}

impl DirectoryReader {
    /// All bytes of a content.
    pub fn read(&self, content: &ContentRef) -> Result<Vec<u8>, Error> {
        match &content.origin {
            Origin::Empty => Ok(Vec::new()),
            Origin::Inline(bytes) => Ok(bytes.to_vec()),
            Origin::Source { key, .. } => {
                let names = usize::try_from(*key).ok().and_then(|at| self.files.get(at));
                let names = names.ok_or_else(|| missing("content"))?;
                let mut out = Vec::new();
                let mut file = open_file(&self.root, names)?;
                file.read_to_end(&mut out).map_err(Error::io("read", shown(names)))?;
                Ok(out)
            }
            _ => Err(missing("content")),
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Default)]
struct Plan {
    directories: Vec<Names>,
    contents: Vec<(Names, New)>,
    moves: Vec<(Names, Names)>,
    removals: Vec<(Names, Kind)>,
    descriptors: Vec<(Names, Arc<[u8]>)>,
}

/// Where a new content comes from.
#[derive(Debug, Clone)]
enum New {
    Content(ContentRef),
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

impl ServicedDirectory {
    /// Looks at everything in `path`.
    pub fn open(path: &Path, ctl: &Ctl) -> Result<Self, Error> {
        let root = Dir::open_root(path).map_err(Error::linux(path.display()))?;
        let directory =
            || Node { attributes: FileAttributes::DIRECTORY, children: Some(Vec::new()), ..Node::default() };
        let mut out = Self {
            root: Arc::new(root),
            tree: Tree::new(directory()),
            files: Arc::new(Vec::new()),
            before: HashMap::new(),
        };
        let mut files = Vec::new();
        let mut open: Vec<(NodeId, Names)> = vec![(out.tree.root(), Vec::new())];
        while let Some((id, names)) = open.pop() {
            ctl.check()?;
            if names.len() > MAX_DEPTH {
                let value = format!("{}: deeper than {MAX_DEPTH}", shown(&names));
                return Err(Error::Unsupported { what: "directory", value });
            }
            let dir = open_dir(&out.root, &names)?;
            for entry in dir.entries().map_err(Error::linux(shown(&names)))? {
                let path: Names = names.iter().cloned().chain([entry.name.clone()]).collect();
                let Some(name) = entry.name.to_str() else {
                    return Err(Error::Unsupported { what: "name that is not UTF-8", value: shown(&path) });
                };
                let stat = dir.stat_entry(&entry.name).map_err(Error::linux(shown(&path)))?;
                let written = FileTime::from_unix(stat.modified.seconds, stat.modified.nanos);
                let times = Times { created: written, accessed: written, written };
                let node = match stat.kind {
                    NodeKind::Directory => Node { times, ..directory() },
                    NodeKind::File => {
                        let key = u64::try_from(files.len()).unwrap_or(u64::MAX);
                        files.push(path.clone());
                        let origin = if stat.size == 0 {
                            Origin::Empty
                        } else {
                            Origin::Source { source: SourceId(0), key }
                        };
                        let data = Some(ContentRef { size: stat.size, sha1: None, origin });
                        Node { times, data, ..Node::default() }
                    }
                    _ => Node { times, ..Node::default() },
                };
                let data = node.data.clone();
                let added = out.tree.add(id, NtName::from(name), node);
                let added = added.map_err(|error| Error::Unsupported {
                    what: "name",
                    value: format!("{}: {error}", shown(&path)),
                })?;
                if stat.kind == NodeKind::Directory {
                    open.push((added, path.clone()));
                }
                out.before.insert(added, (path, data));
            }
        }
        out.files = Arc::new(files);
        Ok(out)
    }

    /// What gives the contents of the tree.
    pub fn reader(&self) -> DirectoryReader {
        DirectoryReader { root: self.root.clone(), files: self.files.clone() }
    }

    /// Makes the directory what the tree says, with files of this machine at `additions` (paths with `/`). Says what could not be done.
    pub fn write(self, additions: &[(PathBuf, String)]) -> Result<Vec<String>, Error> {
        let plan = self.plan(additions);
        let reader = self.reader();
        let mut made = Vec::new();
        let prepared = prepare(&self.root, &reader, &plan, &mut made);
        let new = match prepared {
            Ok(new) => new,
            Err(error) => {
                // As it was, as far as that goes: what failed is what is told.
                for (names, kind) in made.iter().rev() {
                    let _ = remove(&self.root, names, *kind);
                }
                return Err(error);
            }
        };
        for (from, to) in &plan.moves {
            rename(&self.root, from, to)?;
        }
        for (from, to) in &new {
            rename(&self.root, from, to)?;
        }
        for (names, kind) in &plan.removals {
            remove(&self.root, names, *kind)?;
        }
        let mut not_done = Vec::new();
        for (names, descriptor) in &plan.descriptors {
            if let Err(why) = set_descriptor(&self.root, names, descriptor)? {
                not_done.push(format!("{}: access is not set: {why}", shown(names)));
            }
        }
        self.root.sync_volume().map_err(Error::linux("directory"))?;
        Ok(not_done)
    }

    /// What is different between directory and tree.
    fn plan(&self, additions: &[(PathBuf, String)]) -> Plan {
        let mut plan = Plan::default();
        let mut seen: HashSet<NodeId> = HashSet::new();
        let descriptors = self.tree.security_descriptors();
        for step in self.tree.walk() {
            let id = step.entry.node;
            let node = self.tree.node(id);
            let path: Names = step.path.iter().map(|name| OsString::from(name.to_string())).collect();
            seen.insert(id);
            let before = self.before.get(&id);
            if let Some((old, _)) = before
                && *old != path
                && !node.is_directory()
            {
                plan.moves.push((old.clone(), path.clone()));
            }
            let descriptor = node.security.and_then(|id| descriptors.get(usize::try_from(id.0).ok()?));
            plan.descriptors.extend(descriptor.map(|bytes| (path.clone(), bytes.clone())));
            match (before, &node.data) {
                (None, None) if node.is_directory() => plan.directories.push(path),
                (Some((_, old)), Some(new)) if old.as_ref() == Some(new) => {}
                (_, Some(new)) => plan.contents.push((path, New::Content(new.clone()))),
                (_, None) => {}
            }
        }
        for (source, to) in additions {
            let path: Names = to.split('/').filter(|part| !part.is_empty()).map(OsString::from).collect();
            plan.contents.push((path, New::File(source.clone())));
        }
        let kind = |data: &Option<ContentRef>| if data.is_some() { Kind::File } else { Kind::Directory };
        let gone = self.before.iter().filter(|(id, _)| !seen.contains(id));
        let mut gone: Vec<(Names, Kind)> = gone.map(|(_, (path, data))| (path.clone(), kind(data))).collect();
        // What another file takes the place of needs no removing; directories go after what is in them.
        gone.retain(|(path, _)| {
            !plan.contents.iter().any(|(new, _)| new == path) && !plan.moves.iter().any(|(_, to)| to == path)
        });
        gone.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        plan.removals = gone;
        plan
    }
}

/// Makes directories and writes contents under names of their own; gives these and the names they are to have. `made` is what is there by
/// now, also after a failure.
fn prepare(
    root: &Dir,
    reader: &DirectoryReader,
    plan: &Plan,
    made: &mut Vec<(Names, Kind)>,
) -> Result<Vec<(Names, Names)>, Error> {
    for names in &plan.directories {
        let (dir, name) = parent(root, names)?;
        dir.make_dir(name, DIRECTORY_MODE).map_err(Error::linux(shown(names)))?;
        made.push((names.clone(), Kind::Directory));
    }
    let mut out = Vec::new();
    for (number, (names, new)) in plan.contents.iter().enumerate() {
        let (dir, name) = parent(root, names)?;
        let own = OsString::from(format!("{NEW}{number}"));
        let mut place = names.clone();
        place.pop();
        place.push(own.clone());
        let mut file = dir.create_file(&own, FILE_MODE).map_err(Error::linux(shown(&place)))?;
        made.push((place.clone(), Kind::File));
        match new {
            New::Content(content) => {
                file.write_all(&reader.read(content)?).map_err(Error::io("write", shown(&place)))?;
            }
            New::File(source) => {
                let mut from = File::open(source).map_err(Error::io("open", source.display()))?;
                std::io::copy(&mut from, &mut file).map_err(Error::io("write", shown(&place)))?;
            }
        }
        take_access(&dir, name, &own, names)?;
        file.sync_all().map_err(Error::io("flush", shown(&place)))?;
        out.push((place, names.clone()));
    }
    Ok(out)
}

/// A new file gets security descriptor and attributes of the one whose place it takes, or the descriptor of one beside it: nobody works out
/// inherited entries for it later.
fn take_access(dir: &Dir, name: &OsStr, own: &OsStr, names: &[OsString]) -> Result<(), Error> {
    let failed = || Error::linux(shown(names));
    // Nothing has moved by now: what is kept for the record is still here.
    let replaced = dir.has_entry(name).map_err(failed())?;
    let model = if replaced {
        Some(name.to_owned())
    } else {
        let beside = dir.entries().map_err(failed())?.into_iter().find(|entry| {
            entry.kind == Some(NodeKind::File) && !entry.name.to_string_lossy().starts_with(NEW)
        });
        beside.map(|entry| entry.name)
    };
    let Some(model) = model else { return Ok(()) };
    let keys = SECURITY.into_iter().chain(replaced.then_some(ATTRIBUTES));
    for key in keys.map(OsStr::new) {
        if let Some(value) = dir.xattr(&model, key).map_err(failed())? {
            dir.set_xattr(own, key, &value).map_err(failed())?;
        }
    }
    Ok(())
}

/// `Ok(Err(why))` when the file system has no security descriptors.
fn set_descriptor(root: &Dir, names: &[OsString], descriptor: &[u8]) -> Result<Result<(), String>, Error> {
    let (dir, name) = parent(root, names)?;
    for key in SECURITY.map(OsStr::new) {
        if dir.xattr(name, key).map_err(Error::linux(shown(names)))?.is_some() {
            dir.set_xattr(name, key, descriptor).map_err(Error::linux(shown(names)))?;
            return Ok(Ok(()));
        }
    }
    Ok(Err("the directory is on a file system without Windows' access rules".to_owned()))
}

fn open_dir(root: &Dir, names: &[OsString]) -> Result<Dir, Error> {
    let start = root.try_clone().map_err(Error::linux("directory"))?;
    names.iter().try_fold(start, |dir, name| dir.open_dir(name)).map_err(Error::linux(shown(names)))
}

/// Directory and name of a path.
fn parent<'n>(root: &Dir, names: &'n [OsString]) -> Result<(Dir, &'n OsStr), Error> {
    let (name, above) = names.split_last().ok_or_else(|| missing("name"))?;
    Ok((open_dir(root, above)?, name))
}

fn open_file(root: &Dir, names: &[OsString]) -> Result<File, Error> {
    let (dir, name) = parent(root, names)?;
    dir.open_file(name).map_err(Error::linux(shown(names)))
}

fn rename(root: &Dir, from: &[OsString], to: &[OsString]) -> Result<(), Error> {
    let ((old, name), (new, new_name)) = (parent(root, from)?, parent(root, to)?);
    old.rename(name, &new, new_name).map_err(Error::linux(shown(to)))
}

fn remove(root: &Dir, names: &[OsString], kind: Kind) -> Result<(), Error> {
    let (dir, name) = parent(root, names)?;
    let done = match kind {
        Kind::File => dir.remove_file(name),
        Kind::Directory => dir.remove_dir(name),
    };
    done.map_err(Error::linux(shown(names)))
}

fn shown(names: &[OsString]) -> String {
    names.iter().map(|name| format!("/{}", name.to_string_lossy())).collect()
}

fn missing(what: &'static str) -> Error {
    Error::NotFound { what, which: "in the directory".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn listing(dir: &Path) -> Vec<(String, Option<Vec<u8>>)> {
        let mut out = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(at) = open.pop() {
            for entry in fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                let content = path.is_file().then(|| fs::read(&path).unwrap());
                if content.is_none() {
                    open.push(path);
                }
                out.push((name, content));
            }
        }
        out.sort();
        out
    }

    /// A directory in which one file is replaced and kept, one goes, one comes in a new directory, one is changed.
    fn changed(dir: &Path) -> ServicedDirectory {
        fs::create_dir_all(dir.join("a/b")).unwrap();
        for (name, content) in
            [("a/old", "old"), ("a/b/gone", "gone"), ("a/hive", "hive"), ("a/stays", "stays")]
        {
            fs::write(dir.join(name), content).unwrap();
        }
        let mut serviced = ServicedDirectory::open(dir, &Ctl::default()).unwrap();
        let tree = &mut serviced.tree;
        let (a, b) = (tree.lookup("/a").unwrap(), tree.lookup("/a/b").unwrap());
        let folder =
            || Node { attributes: FileAttributes::DIRECTORY, children: Some(Vec::new()), ..Node::default() };
        let file =
            |text: &str| Node { data: Some(ContentRef::inline(text.as_bytes().to_vec())), ..Node::default() };
        let kept = tree.add(a, NtName::from("kept"), folder()).unwrap();
        tree.rename(a, &NtName::from("old"), kept, NtName::from("0")).unwrap();
        tree.add(a, NtName::from("old"), file("new")).unwrap();
        tree.remove(b, &NtName::from("gone")).unwrap();
        tree.remove(a, &NtName::from("b")).unwrap();
        let hive = tree.lookup("/a/hive").unwrap();
        tree.node_mut(hive).data = Some(ContentRef::inline(b"changed".to_vec()));
        serviced
    }

    #[test]
    fn the_directory_becomes_what_the_tree_says() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, source) = (temp.path().join("root"), temp.path().join("driver"));
        fs::write(&source, "driver").unwrap();
        let serviced = changed(&dir);
        let reader = serviced.reader();
        let content = |path: &str| {
            let node = serviced.tree.node(serviced.tree.lookup(path).unwrap());
            reader.read(node.data.as_ref().unwrap()).unwrap()
        };
        assert_eq!((content("/a/kept/0"), content("/a/old")), (b"old".to_vec(), b"new".to_vec()));
        assert_eq!(serviced.write(&[(source, "a/kept/driver".to_owned())]).unwrap(), [""; 0]);
        let text = |content: &Option<Vec<u8>>| {
            content
                .as_ref()
                .map_or_else(|| "/".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let found: Vec<String> =
            listing(&dir).iter().map(|(name, content)| format!("{name} {}", text(content))).collect();
        let expected = [
            "a /",
            "a/hive changed",
            "a/kept /",
            "a/kept/0 old",
            "a/kept/driver driver",
            "a/old new",
            "a/stays stays",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_failure_before_files_take_their_places_leaves_everything_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("root");
        let serviced = changed(&dir);
        let before = listing(&dir);
        let nothing = temp.path().join("nothing");
        let error = serviced.write(&[(nothing, "a/kept/driver".to_owned())]).unwrap_err();
        assert!(matches!(error, Error::Io { what: "open", .. }), "{error}");
        assert_eq!(listing(&dir), before);
    }
}
