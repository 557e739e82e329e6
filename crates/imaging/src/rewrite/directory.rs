//! A directory with a system in it, a mounted volume, changed in memory as an image is and then where it lies.
//!
//! The kernel's file system writes; this gives it the order. New directories and all new contents come first, under names of their own and
//! flushed; a failure until then takes them away again and leaves the directory as it was. Then files take their places one by one: what is kept
//! for the record moves, new files get their names, what goes is removed. A crash in the middle leaves some files old and some new, each of
//! them whole.
//!
//! Of a Unix system owners, modes and links are read and written, too; a file that is replaced hands its extended attributes on.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_linux::{Dir, NodeKind};
use gravure_model::Ctl;
use gravure_tree::{ContentRef, Node, NodeId, Origin, Tree, UnixData};

use super::partial::{Before, PartialTree, Round};
use crate::Error;
use crate::directory::link_target;

/// Mode of what is made, where the file system has modes.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// Mode of a file until it has its content and its own.
const PRIVATE_MODE: u32 = 0o600;
/// Permissions, set-id and sticky bits.
const MODE_BITS: u32 = 0o7777;
/// What NTFS drivers of Linux call a file's security descriptor (ntfs3, ntfs-3g) and its attributes.
const SECURITY: [&str; 2] = ["system.ntfs_security", "system.ntfs_acl"];
const ATTRIBUTES: &str = "system.ntfs_attrib";
/// Start of names that new contents have until they take their places.
const NEW: &str = ".gravure-new-";
/// Bytes hashed at once.
const READ_BYTES: usize = 1 << 20;

/// Names from the root down.
pub(super) type Names = Vec<String>;

/// Gives contents that are not of the directory.
pub type Elsewhere<'a> = dyn Fn(&ContentRef) -> Result<Vec<u8>, Error> + 'a;

/// A directory that is to be changed. Of it is read what somebody looks into.
#[derive(Debug)]
pub struct ServicedDirectory {
    root: Arc<Dir>,
    read: PartialTree,
    changed: Option<Tree>,
}

/// How a file that is there gets another content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rewriting {
    /// By another file that takes its place when it is complete: old or new it is, whatever happens.
    #[default]
    Replace,
    /// Where it lies, so that it keeps all that it has. For directories that nobody uses when this does not come to its end.
    InPlace,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WrittenDirectory {
    /// Files that are new, moved, or have another content.
    pub files: Vec<WrittenFile>,
    /// Symbolic links that are new, by path and text.
    pub links: Vec<(String, String)>,
    /// Files and directories that are not there any more, from the root with strokes between.
    pub gone: Vec<String>,
    /// What could not be done.
    pub not_done: Vec<String>,
}

/// A file that was written, for who reads it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// From the root, with strokes between.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// BLAKE3 of its content.
    pub blake3: [u8; 32],
    /// Its 12 mode bits, where it was given any.
    pub mode: Option<u32>,
}

/// What is to be done, in this order.
#[derive(Debug, Default)]
struct Plan {
    directories: Vec<(Names, Option<UnixData>)>,
    contents: Vec<(Names, New, Option<UnixData>)>,
    links: Vec<(Names, String, Option<UnixData>)>,
    moves: Vec<(Names, Names)>,
    in_place: Vec<(Names, ContentRef)>,
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
    /// Takes `path`; of what is in it nothing is read yet.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let root = Arc::new(Dir::open_root(path).map_err(Error::linux(path.display()))?);
        Ok(Self { read: PartialTree::of_directory(root.clone()), root, changed: None })
    }

    /// Takes a directory with a Unix system: with owners, modes and symbolic links.
    pub fn open_unix(root: Dir) -> Result<Self, Error> {
        let root = Arc::new(root);
        Ok(Self { read: PartialTree::of_unix_directory(root.clone())?, root, changed: None })
    }

    /// As [`PartialTree::read_ahead`].
    pub fn read_ahead(&mut self, paths: &[&str], ctl: &Ctl) -> Result<(), Error> {
        self.read.read_ahead(paths, ctl)
    }

    /// As [`PartialTree::service`]; the last run's tree is what [`ServicedDirectory::write`] makes of the directory. It starts from what is
    /// there, whatever an earlier call did.
    pub fn service<T, E: From<Error>>(
        &mut self,
        ctl: &Ctl,
        work: impl FnMut(Round<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (done, tree) = self.read.service(ctl, work)?;
        self.changed = Some(tree);
        Ok(done)
    }

    /// Makes the directory what the tree says, with files of this machine at `additions` (paths with `/`). Contents that are not of the
    /// directory come from `elsewhere`.
    pub fn write(
        self,
        additions: &[(PathBuf, String)],
        elsewhere: &Elsewhere<'_>,
        rewriting: Rewriting,
    ) -> Result<WrittenDirectory, Error> {
        let Some(tree) = &self.changed else { return Ok(WrittenDirectory::default()) };
        let plan = self.plan(tree, additions, rewriting)?;
        for (from, to) in &plan.moves {
            check_one_file_system(&self.root, from, to)?;
        }
        let content = |content: &ContentRef| match PartialTree::is_own(content) {
            true => self.read.read(content),
            false => match &content.origin {
                Origin::Empty => Ok(Vec::new()),
                Origin::Inline(bytes) => Ok(bytes.to_vec()),
                _ => elsewhere(content),
            },
        };
        let mut out = WrittenDirectory::default();
        let mut made = Vec::new();
        let prepared = prepare(&self.root, &content, &plan, &mut made, &mut out);
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
        for (names, new) in &plan.in_place {
            let bytes = content(new)?;
            write_in_place(&self.root, names, &bytes)?;
            out.files.push(WrittenFile::of(names, &bytes));
        }
        for (names, kind) in &plan.removals {
            remove(&self.root, names, *kind)?;
            out.gone.push(names.join("/"));
        }
        for (names, descriptor) in &plan.descriptors {
            if let Err(why) = set_descriptor(&self.root, names, descriptor)? {
                out.not_done.push(format!("{}: access is not set: {why}", shown(names)));
            }
        }
        for (_, to) in &plan.moves {
            let (dir, name) = parent(&self.root, to)?;
            if dir.stat_entry(name).map_err(Error::linux(shown(to)))?.kind == NodeKind::File {
                out.files.push(hashed(&self.root, to)?);
            }
        }
        self.root.sync_volume().map_err(Error::linux("directory"))?;
        Ok(out)
    }

    /// What is different between directory and tree.
    fn plan(
        &self,
        tree: &Tree,
        additions: &[(PathBuf, String)],
        rewriting: Rewriting,
    ) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        let mut seen: HashSet<NodeId> = HashSet::new();
        let descriptors = tree.security_descriptors();
        for step in tree.walk() {
            let id = step.entry.node;
            let node = tree.node(id);
            let path: Names = step.path.iter().map(ToString::to_string).collect();
            seen.insert(id);
            let before = self.read.before.get(&id);
            if let Some(before) = before.filter(|before| before.path != path && !node.is_directory()) {
                plan.moves.push((before.path.clone(), path.clone()));
            }
            let descriptor = node.security.and_then(|id| descriptors.get(usize::try_from(id.0).ok()?));
            plan.descriptors.extend(descriptor.map(|bytes| (path.clone(), bytes.clone())));
            match (before, &node.data) {
                (None, None) if node.is_directory() => plan.directories.push((path, node.unix)),
                (None, None) if node.reparse.is_some() => {
                    let text = link_text(node, &path)?;
                    plan.links.push((path, text, node.unix));
                }
                (Some(before), Some(new)) if before.content.as_ref() == Some(new) => {}
                (Some(before), Some(new)) if rewriting == Rewriting::InPlace && before.path == path => {
                    plan.in_place.push((path, new.clone()));
                }
                (_, Some(new)) => plan.contents.push((path, New::Content(new.clone()), node.unix)),
                (_, None) => {}
            }
        }
        for (source, to) in additions {
            let path: Names = to.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
            plan.contents.push((path, New::File(source.clone()), None));
        }
        let kind = |before: &Before| if before.is_directory { Kind::Directory } else { Kind::File };
        let gone = self.read.before.iter().filter(|(id, _)| !seen.contains(id));
        let mut gone: Vec<(Names, Kind)> =
            gone.map(|(_, before)| (before.path.clone(), kind(before))).collect();
        // What another file takes the place of needs no removing; directories go after what is in them.
        gone.retain(|(path, _)| {
            let is_new = plan.contents.iter().any(|(new, ..)| new == path)
                || plan.links.iter().any(|(new, ..)| new == path);
            !is_new && !plan.moves.iter().any(|(_, to)| to == path)
        });
        gone.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        plan.removals = gone;
        Ok(plan)
    }
}

/// What a link says.
fn link_text(node: &Node, path: &[String]) -> Result<String, Error> {
    let text = node.reparse.as_ref().and_then(|reparse| match &reparse.content.origin {
        Origin::Inline(bytes) => link_target(reparse.tag, bytes).ok()?.into_string().ok(),
        _ => None,
    });
    text.ok_or_else(|| Error::Unsupported {
        what: "link",
        value: format!("{}: one whose text is not known", shown(path)),
    })
}

/// A file cannot be moved from one to another, and that must not show half-way.
fn check_one_file_system(root: &Dir, from: &[String], to: &[String]) -> Result<(), Error> {
    let (on, onto) = (device_of(root, from)?, device_of(root, to)?);
    if on == onto {
        return Ok(());
    }
    let value = format!("{} and {} are not on the same one", shown(from), shown(to));
    Err(Error::Unsupported { what: "changes that are on several file systems", value })
}

/// What the directory of a path lies on, or the nearest one above that is there.
fn device_of(root: &Dir, names: &[String]) -> Result<gravure_linux::DeviceNumber, Error> {
    let mut at = root.try_clone().map_err(Error::linux("directory"))?;
    for name in names.iter().take(names.len().saturating_sub(1)) {
        match at.open_dir(OsStr::new(name)) {
            Ok(dir) => at = dir,
            Err(_) => break,
        }
    }
    Ok(at.stat().map_err(Error::linux(shown(names)))?.device)
}

/// Makes directories and writes contents and links under names of their own; gives these and the names they are to have. `made` is what is
/// there by now, also after a failure.
fn prepare(
    root: &Dir,
    content: &Elsewhere<'_>,
    plan: &Plan,
    made: &mut Vec<(Names, Kind)>,
    written: &mut WrittenDirectory,
) -> Result<Vec<(Names, Names)>, Error> {
    for (names, unix) in &plan.directories {
        let (dir, name) = parent(root, names)?;
        let failed = || Error::linux(shown(names));
        dir.make_dir(name, DIRECTORY_MODE).map_err(failed())?;
        made.push((names.clone(), Kind::Directory));
        if let Some(UnixData { uid, gid, mode, .. }) = *unix {
            dir.set_owner(name, uid, gid).map_err(failed())?;
            dir.set_mode(name, mode & MODE_BITS).map_err(failed())?;
        }
    }
    let mut out = Vec::new();
    for (number, (names, text, unix)) in plan.links.iter().enumerate() {
        let (dir, _) = parent(root, names)?;
        let (place, own) = place_beside(names, &format!("{NEW}link-{number}"));
        let (own, failed) = (OsStr::new(&own), || Error::linux(shown(&place)));
        dir.make_symlink(OsStr::new(text), own).map_err(failed())?;
        made.push((place.clone(), Kind::File));
        if let Some(UnixData { uid, gid, .. }) = *unix {
            dir.set_owner(own, uid, gid).map_err(failed())?;
        }
        written.links.push((names.join("/"), text.clone()));
        out.push((place, names.clone()));
    }
    for (number, (names, new, unix)) in plan.contents.iter().enumerate() {
        let (dir, name) = parent(root, names)?;
        let (place, own) = place_beside(names, &format!("{NEW}{number}"));
        let own = OsStr::new(&own);
        let first_mode = if unix.is_some() { PRIVATE_MODE } else { FILE_MODE };
        let mut file = dir.create_file(own, first_mode).map_err(Error::linux(shown(&place)))?;
        made.push((place.clone(), Kind::File));
        let mode = unix.map(|unix| unix.mode & MODE_BITS);
        match new {
            New::Content(new) => {
                let bytes = content(new)?;
                file.write_all(&bytes).map_err(Error::io("write", shown(&place)))?;
                written.files.push(WrittenFile { mode, ..WrittenFile::of(names, &bytes) });
            }
            New::File(source) => {
                let from = File::open(source).map_err(Error::io("open", source.display()))?;
                let copy = |part: &[u8]| file.write_all(part);
                let (bytes, blake3) = hash(from, copy).map_err(Error::io("write", shown(&place)))?;
                written.files.push(WrittenFile { path: names.join("/"), bytes, blake3, mode });
            }
        }
        match *unix {
            // Capabilities and set-id bits go when the owner changes.
            Some(UnixData { uid, gid, mode, .. }) => {
                let failed = || Error::linux(shown(&place));
                gravure_linux::dir::set_file_owner(&file, uid, gid).map_err(failed())?;
                take_attributes(&dir, name, own, names)?;
                gravure_linux::dir::set_file_mode(&file, mode & MODE_BITS).map_err(failed())?;
            }
            None => take_access(&dir, name, own, names)?,
        }
        file.sync_all().map_err(Error::io("flush", shown(&place)))?;
        out.push((place, names.clone()));
    }
    Ok(out)
}

/// A name of its own beside where a file is to be, with the path.
fn place_beside(names: &[String], own: &str) -> (Names, String) {
    let mut place = names.to_vec();
    place.pop();
    place.push(own.to_owned());
    (place, own.to_owned())
}

/// A file that takes the place of one of a Unix system gets its extended attributes: labels, rules of access, capabilities.
fn take_attributes(dir: &Dir, name: &OsStr, own: &OsStr, names: &[String]) -> Result<(), Error> {
    let failed = || Error::linux(shown(names));
    if !dir.has_entry(name).map_err(failed())? {
        return Ok(());
    }
    for (key, value) in dir.xattrs(name).map_err(failed())? {
        dir.set_xattr(own, &key, &value).map_err(failed())?;
    }
    Ok(())
}

/// A new file gets security descriptor and attributes of the one whose place it takes, or the descriptor of one beside it: nobody works out
/// inherited entries for it later.
fn take_access(dir: &Dir, name: &OsStr, own: &OsStr, names: &[String]) -> Result<(), Error> {
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
fn set_descriptor(root: &Dir, names: &[String], descriptor: &[u8]) -> Result<Result<(), String>, Error> {
    let (dir, name) = parent(root, names)?;
    for key in SECURITY.map(OsStr::new) {
        if dir.xattr(name, key).map_err(Error::linux(shown(names)))?.is_some() {
            dir.set_xattr(name, key, descriptor).map_err(Error::linux(shown(names)))?;
            return Ok(Ok(()));
        }
    }
    Ok(Err("the directory is on a file system without Windows' access rules".to_owned()))
}

pub(super) fn open_dir(root: &Dir, names: &[String]) -> Result<Dir, Error> {
    let start = root.try_clone().map_err(Error::linux("directory"))?;
    let opened = names.iter().try_fold(start, |dir, name| dir.open_dir(OsStr::new(name)));
    opened.map_err(Error::linux(shown(names)))
}

/// Directory and name of a path.
fn parent<'n>(root: &Dir, names: &'n [String]) -> Result<(Dir, &'n OsStr), Error> {
    let no_name = || Error::NotFound { what: "name", which: "of the directory itself".to_owned() };
    let (name, above) = names.split_last().ok_or_else(no_name)?;
    Ok((open_dir(root, above)?, OsStr::new(name)))
}

pub(super) fn open_file(root: &Dir, names: &[String]) -> Result<File, Error> {
    let (dir, name) = parent(root, names)?;
    dir.open_file(name).map_err(Error::linux(shown(names)))
}

fn rename(root: &Dir, from: &[String], to: &[String]) -> Result<(), Error> {
    let ((old, name), (new, new_name)) = (parent(root, from)?, parent(root, to)?);
    old.rename(name, &new, new_name).map_err(Error::linux(shown(to)))
}

fn remove(root: &Dir, names: &[String], kind: Kind) -> Result<(), Error> {
    let (dir, name) = parent(root, names)?;
    let done = match kind {
        Kind::File => dir.remove_file(name),
        Kind::Directory => dir.remove_dir(name),
    };
    done.map_err(Error::linux(shown(names)))
}

/// Gives a file this content; all else of it stays: who may read it, its attributes, its other names.
fn write_in_place(root: &Dir, names: &[String], content: &[u8]) -> Result<(), Error> {
    let (dir, name) = parent(root, names)?;
    let file = dir.open_file_rw(name).map_err(Error::linux(shown(names)))?;
    let len = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let written =
        file.write_all_at(content, 0).and_then(|()| file.set_len(len)).and_then(|()| file.sync_all());
    written.map_err(Error::io("write", shown(names)))
}

fn hashed(root: &Dir, names: &[String]) -> Result<WrittenFile, Error> {
    let found = hash(open_file(root, names)?, |_| Ok(()));
    let (bytes, blake3) = found.map_err(Error::io("read", shown(names)))?;
    Ok(WrittenFile { path: names.join("/"), bytes, blake3, mode: None })
}

/// Length and hash of all that is left in `file`, each part of which `each` gets.
fn hash(
    mut file: File,
    mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<(u64, [u8; 32])> {
    let mut hasher = blake3::Hasher::new();
    let mut part = vec![0; READ_BYTES];
    loop {
        match file.read(&mut part)? {
            0 => return Ok((hasher.count(), *hasher.finalize().as_bytes())),
            len => {
                hasher.update(&part[..len]);
                each(&part[..len])?;
            }
        }
    }
}

impl WrittenFile {
    fn of(names: &[String], content: &[u8]) -> Self {
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        Self { path: names.join("/"), bytes, blake3: *blake3::hash(content).as_bytes(), mode: None }
    }
}

pub(super) fn shown(names: &[String]) -> String {
    names.iter().map(|name| format!("/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use gravure_nttypes::{FileAttributes, NtName};
    use gravure_tree::Node;

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

    fn folder() -> Node {
        Node { attributes: FileAttributes::DIRECTORY, children: Some(Vec::new()), ..Node::default() }
    }

    fn file(text: &str) -> Node {
        Node { data: Some(ContentRef::inline(text.as_bytes().to_vec())), ..Node::default() }
    }

    /// A directory in which one file is replaced and kept, one goes, one comes in a new directory, one is changed.
    fn changed(dir: &Path) -> ServicedDirectory {
        fs::create_dir_all(dir.join("a/b")).unwrap();
        for (name, content) in
            [("a/old", "old"), ("a/b/gone", "gone"), ("a/hive", "hive"), ("a/stays", "stays")]
        {
            fs::write(dir.join(name), content).unwrap();
        }
        let mut serviced = ServicedDirectory::open(dir).unwrap();
        serviced.read_ahead(&["A\\B"], &Ctl::default()).unwrap();
        let change = |Round { tree, .. }: Round<'_>| -> Result<(), Error> {
            let (a, b) = (tree.lookup("/a").unwrap(), tree.lookup("/a/b").unwrap());
            let kept = tree.add(a, NtName::from("kept"), folder()).unwrap();
            tree.rename(a, &NtName::from("old"), kept, NtName::from("0")).unwrap();
            tree.add(a, NtName::from("old"), file("new")).unwrap();
            tree.remove(b, &NtName::from("gone")).unwrap();
            tree.remove(a, &NtName::from("b")).unwrap();
            let hive = tree.lookup("/a/hive").unwrap();
            tree.node_mut(hive).data = Some(ContentRef::inline(b"changed".to_vec()));
            Ok(())
        };
        serviced.service(&Ctl::default(), change).unwrap();
        serviced
    }

    fn nothing(_: &ContentRef) -> Result<Vec<u8>, Error> {
        Err(Error::NotFound { what: "content", which: "of these tests".to_owned() })
    }

    #[test]
    fn the_directory_becomes_what_the_tree_says() {
        let temp = tempfile::tempdir().unwrap();
        for (rewriting, same_file) in [(Rewriting::Replace, false), (Rewriting::InPlace, true)] {
            let (dir, source) = (temp.path().join(format!("{rewriting:?}")), temp.path().join("driver"));
            fs::write(&source, "driver").unwrap();
            let serviced = changed(&dir);
            let inode = fs::metadata(dir.join("a/hive")).unwrap().ino();
            let additions = [(source, "a/kept/driver".to_owned())];
            let written = serviced.write(&additions, &nothing, rewriting).unwrap();
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
            assert_eq!(fs::metadata(dir.join("a/hive")).unwrap().ino() == inode, same_file);
            // What is told is what is there.
            let mut told = written.files.clone();
            told.sort_by(|a, b| a.path.cmp(&b.path));
            let names =
                [("a/hive", "changed"), ("a/kept/0", "old"), ("a/kept/driver", "driver"), ("a/old", "new")];
            let wanted = names.map(|(name, content)| WrittenFile::of(&[name.to_owned()], content.as_bytes()));
            assert_eq!(told, wanted);
            assert_eq!(
                (written.gone, written.not_done),
                (vec!["a/b/gone".to_owned(), "a/b".to_owned()], vec![])
            );
        }
    }

    #[test]
    fn contents_of_elsewhere_are_asked_for_and_nothing_is_written_unless_something_was_changed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        fs::write(dir.join("a"), "a").unwrap();
        let mut serviced = ServicedDirectory::open(dir).unwrap();
        let foreign = ContentRef {
            size: 7,
            sha1: None,
            origin: Origin::Source { source: gravure_tree::SourceId(0), key: 3 },
        };
        let change = |part: Round<'_>| -> Result<(), Error> {
            let node = Node { data: Some(foreign.clone()), ..Node::default() };
            part.tree.add(part.tree.root(), NtName::from("b"), node).map(drop).unwrap();
            Ok(())
        };
        serviced.service(&Ctl::default(), change).unwrap();
        let elsewhere = |content: &ContentRef| {
            assert_eq!(*content, foreign);
            Ok(b"foreign".to_vec())
        };
        serviced.write(&[], &elsewhere, Rewriting::Replace).unwrap();
        assert_eq!(fs::read(dir.join("b")).unwrap(), b"foreign");
        let untouched = ServicedDirectory::open(dir).unwrap();
        assert_eq!(untouched.write(&[], &nothing, Rewriting::InPlace).unwrap(), WrittenDirectory::default());
    }

    #[test]
    fn a_failure_before_files_take_their_places_leaves_everything_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("root");
        for rewriting in [Rewriting::Replace, Rewriting::InPlace] {
            let serviced = changed(&dir);
            let before = listing(&dir);
            let missing = temp.path().join("nothing");
            let additions = [(missing, "a/kept/driver".to_owned())];
            let error = serviced.write(&additions, &nothing, rewriting).unwrap_err();
            assert!(matches!(error, Error::Io { what: "open", .. }), "{error}");
            assert_eq!(listing(&dir), before);
        }
    }
}
