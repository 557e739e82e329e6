//! A directory against the image it was made from: everything is read back, contents from the medium and not from
//! memory, and compared.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_nttypes::NtName;
use gravure_tree::{ExtendedAttribute, Node, NodeId, Origin, Sha1Hash, SourceId, Tree};

use crate::apply::ApplyReport;
use crate::capture::{Content, Reader, hash_all};
use crate::chain::sha1_of;
use crate::directory::{
    DirectorySource, Mounts, ScanOptions, UnixKind, kind_of, link_target, mode_of, os_name,
};
use crate::meter::{Context, Meter, default_threads};
use crate::reading::gather;
use crate::uses::{Part, Use};
use crate::{Error, Image};

/// Longest name on Linux file systems, bytes; longer ones cannot have been applied.
const MAX_NAME_BYTES: usize = 255;
/// Set by the kernel where a security module is active, whatever was asked for.
const SELINUX_LABEL: &[u8] = b"security.selinux";

/// How a directory is checked.
pub struct VerifyOptions<'a> {
    /// Name of the stage in events.
    pub stage: String,
    /// Paths (from the root, with a leading slash) that may differ: what was changed after the image was applied.
    /// Directories that hold such an entry may have another time.
    pub except: &'a (dyn Fn(&str) -> bool + Sync),
}

impl std::fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyOptions").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Default for VerifyOptions<'_> {
    fn default() -> Self {
        Self { stage: "verify".to_owned(), except: &|_| false }
    }
}

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Files, directories and links.
    pub files: u64,
    /// Bytes of content read back.
    pub bytes: u64,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

/// What is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tolerance {
    owners: bool,
    xattrs: bool,
}

/// Compares the directory `path` with `image`: names, kinds, contents, owners, modes, times, links, devices and extended
/// attributes. Every difference is told to the observer; any makes this an error, which names the first.
pub fn verify_directory(
    image: &Image,
    path: &Path,
    options: &VerifyOptions<'_>,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<VerifyReport, Error> {
    verify(image, path, options, Tolerance::default(), ctl, observer)
}

/// As [`verify_directory`], right after an apply whose `report` says what this user or file system could not set.
pub fn verify_applied(
    image: &Image,
    path: &Path,
    report: &ApplyReport,
    options: &VerifyOptions<'_>,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<VerifyReport, Error> {
    let lost = |what: &str| report.losses.iter().any(|loss| loss.what.starts_with(what));
    let tolerance = Tolerance { owners: lost("owners"), xattrs: lost("extended attributes") };
    verify(image, path, options, tolerance, ctl, observer)
}

fn verify(
    image: &Image,
    path: &Path,
    options: &VerifyOptions<'_>,
    tolerance: Tolerance,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<VerifyReport, Error> {
    let context = Context { ctl, observer, threads: default_threads() };
    let meter = Meter::start(&context, &options.stage);
    let id = SourceId(u32::MAX);
    let scan = ScanOptions { mounts: Mounts::Skip, ..ScanOptions::default() };
    gravure_linux::Dir::open_root(path)
        .and_then(|root| root.sync_volume())
        .map_err(Error::linux(path.display()))?;
    let (found, source) = DirectorySource::scan(path, id, &scan, &meter, ctl)?;
    let mut comparison = Comparison {
        image: image.tree(),
        found: &found,
        except: options.except,
        tolerance,
        meter: &meter,
        differences: Differences::default(),
        partners: HashMap::new(),
        back: HashMap::new(),
        contents: Vec::new(),
        links: Vec::new(),
        files: 0,
        threads: context.threads,
    };
    comparison.walk(ctl)?;
    comparison.links(image, ctl)?;
    let Comparison { mut differences, contents, files, .. } = comparison;
    let (list, expected): (Vec<Content>, Vec<Expected>) = contents.into_iter().unzip();
    meter.expect(list.iter().map(|content| content.size).sum());
    let reader = Reader { directories: vec![(id, &source)], is_fresh: true, ..Reader::default() };
    hash_all(&context, &meter, &reader, &list, |number, result| {
        let Expected { path, sha1 } = &expected[number];
        let found = result?;
        if found != *sha1 {
            differences.add(&meter, path, "SHA-1", sha1, &found);
        }
        Ok(())
    })?;
    let totals = meter.finish();
    differences.into_result()?;
    Ok(VerifyReport { files, bytes: totals.bytes, milliseconds: totals.milliseconds })
}

/// What a content must be.
struct Expected {
    path: String,
    sha1: Sha1Hash,
}

#[derive(Default)]
struct Differences {
    first: Option<Error>,
    more: u64,
}

impl Differences {
    fn add(
        &mut self,
        meter: &Meter<'_>,
        path: &str,
        what: &'static str,
        expected: &dyn ToString,
        found: &dyn ToString,
    ) {
        let path = if path.is_empty() { "/" } else { path };
        let (expected, found) = (expected.to_string(), found.to_string());
        meter.warn(|| format!("{path}: {what}: expected {expected}, found {found}"));
        if self.first.is_some() {
            self.more += 1;
        } else {
            self.first = Some(Error::Differs { path: path.to_owned(), what, expected, found, more: 0 });
        }
    }

    fn into_result(self) -> Result<(), Error> {
        match self.first {
            Some(Error::Differs { path, what, expected, found, .. }) => {
                Err(Error::Differs { path, what, expected, found, more: self.more })
            }
            Some(other) => Err(other),
            None => Ok(()),
        }
    }
}

struct Comparison<'a> {
    image: &'a Tree,
    found: &'a Tree,
    except: &'a dyn Fn(&str) -> bool,
    tolerance: Tolerance,
    meter: &'a Meter<'a>,
    differences: Differences,
    /// Which found node each image node is, and back: hard links must agree.
    partners: HashMap<NodeId, NodeId>,
    back: HashMap<NodeId, NodeId>,
    contents: Vec<(Content, Expected)>,
    /// Links whose reparse data differs in form; their targets are compared by reading the image.
    links: Vec<(NodeId, NodeId, String)>,
    files: u64,
    threads: usize,
}

impl Comparison<'_> {
    fn walk(&mut self, ctl: &Ctl) -> Result<(), Error> {
        let mut todo = vec![(self.image.root(), self.found.root(), String::new())];
        while let Some((wanted, found, path)) = todo.pop() {
            ctl.check()?;
            let mut holds_exception = false;
            let mut here: HashMap<&NtName, NodeId> =
                self.found.children(found).iter().map(|entry| (&entry.name, entry.node)).collect();
            for entry in self.image.children(wanted) {
                let below = format!("{path}/{}", entry.name);
                let partner = here.remove(&entry.name);
                if (self.except)(&below) {
                    holds_exception = true;
                    // What is below an excepted directory is still compared.
                    if let Some(partner) =
                        partner.filter(|partner| self.both_directories(entry.node, *partner))
                    {
                        todo.push((entry.node, partner, below));
                    }
                    continue;
                }
                match partner {
                    None if !is_made(self.image.node(entry.node), &entry.name) => {}
                    None => self.differ(&below, "entry", &"present", &"missing"),
                    Some(partner) => {
                        self.files += 1;
                        self.compare(entry.node, partner, &below);
                        if self.both_directories(entry.node, partner) {
                            todo.push((entry.node, partner, below));
                        }
                    }
                }
            }
            for name in here.into_keys() {
                let below = format!("{path}/{name}");
                if (self.except)(&below) {
                    holds_exception = true;
                } else if below != "/lost+found" {
                    self.differ(&below, "entry", &"none", &"present");
                }
            }
            if !holds_exception && !(self.except)(if path.is_empty() { "/" } else { &path }) {
                self.compare_time(wanted, found, &path);
            }
        }
        self.files += 1;
        let (wanted, found) = (self.image.root(), self.found.root());
        if !(self.except)("/") {
            self.compare(wanted, found, "");
        }
        Ok(())
    }

    fn both_directories(&self, wanted: NodeId, found: NodeId) -> bool {
        kind_of(self.image.node(wanted)) == UnixKind::Directory && self.found.node(found).is_directory()
    }

    fn differ(&mut self, path: &str, what: &'static str, expected: &dyn ToString, found: &dyn ToString) {
        self.differences.add(self.meter, path, what, expected, found);
    }

    /// Everything but names, and but the times of directories.
    fn compare(&mut self, wanted: NodeId, found: NodeId, path: &str) {
        let (image, here) = (self.image.node(wanted), self.found.node(found));
        let (kind, found_kind) = (kind_of(image), kind_of(here));
        if kind != found_kind {
            self.differ(path, "kind", &format!("{kind:?}"), &format!("{found_kind:?}"));
            return;
        }
        if kind != UnixKind::Link {
            let is_first = !self.partners.contains_key(&wanted);
            let partner = *self.partners.entry(wanted).or_insert(found);
            let back = *self.back.entry(found).or_insert(wanted);
            if partner != found || back != wanted {
                let (expected, seen) = if back == wanted {
                    ("the same file", "another file")
                } else {
                    ("a file of its own", "one file for both")
                };
                self.differ(path, "hard link", &expected, &seen);
                return;
            }
            // Further names of a file that was compared under its first one.
            if !is_first {
                return;
            }
            let (mode, seen) = (mode_of(image), mode_of(here));
            if mode != seen {
                self.differ(path, "mode", &format!("{mode:04o}"), &format!("{seen:04o}"));
            }
        }
        if let (Some(unix), Some(seen), false) = (image.unix, here.unix, self.tolerance.owners)
            && (unix.uid, unix.gid) != (seen.uid, seen.gid)
        {
            let text = |uid: u32, gid: u32| format!("{uid}:{gid}");
            self.differ(path, "owner", &text(unix.uid, unix.gid), &text(seen.uid, seen.gid));
        }
        if !self.tolerance.xattrs {
            self.compare_xattrs(image, here, path);
        }
        if kind != UnixKind::Directory {
            self.compare_time(wanted, found, path);
        }
        match kind {
            UnixKind::File => self.compare_content(image, here, found, path),
            UnixKind::Link => self.compare_link(wanted, found, path),
            _ => {}
        }
    }

    fn compare_time(&mut self, wanted: NodeId, found: NodeId, path: &str) {
        let time = self.image.node(wanted).times.written;
        let seen = self.found.node(found).times.written;
        if time != seen {
            let text = |time: gravure_nttypes::FileTime| {
                let (seconds, nanos) = time.to_unix();
                format!("{seconds}.{nanos:09}")
            };
            self.differ(path, "time of last write", &text(time), &text(seen));
        }
    }

    fn compare_xattrs(&mut self, image: &Node, here: &Node, path: &str) {
        let by_name = |list: &[ExtendedAttribute]| {
            list.iter()
                .map(|attribute| (attribute.name.clone(), attribute.value.clone()))
                .collect::<HashMap<_, _>>()
        };
        let wanted = by_name(&image.extended_attributes);
        let mut seen = by_name(&here.extended_attributes);
        if !wanted.contains_key(SELINUX_LABEL) {
            seen.remove(SELINUX_LABEL);
        }
        if wanted != seen {
            let names = |map: &HashMap<Vec<u8>, Vec<u8>>| {
                let mut names: Vec<_> = map
                    .iter()
                    .map(|(name, value)| format!("{} ({} bytes)", String::from_utf8_lossy(name), value.len()))
                    .collect();
                names.sort_unstable();
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            };
            self.differ(path, "extended attributes", &names(&wanted), &names(&seen));
        }
    }

    fn compare_content(&mut self, image: &Node, here: &Node, found: NodeId, path: &str) {
        let size = image.data.as_ref().map_or(0, |data| data.size);
        let seen = here.data.as_ref().map_or(0, |data| data.size);
        if size != seen {
            self.differ(path, "size", &size, &seen);
            return;
        }
        let (Some(wanted), Some(data)) = (&image.data, &here.data) else { return };
        let sha1 = match (&wanted.origin, wanted.sha1) {
            (Origin::Inline(bytes), _) => sha1_of(bytes),
            (_, Some(sha1)) => sha1,
            (_, None) => return,
        };
        if size > 0 {
            let uses = vec![Use { node: found, part: Part::Data }];
            let content = Content { origin: data.origin.clone(), size, sha1: None, uses };
            self.contents.push((content, Expected { path: path.to_owned(), sha1 }));
        }
    }

    fn compare_link(&mut self, wanted: NodeId, found: NodeId, path: &str) {
        let data = |node: &Node| node.reparse.as_ref().map(|reparse| reparse.content.clone());
        let (Some(image), Some(here)) = (data(self.image.node(wanted)), data(self.found.node(found))) else {
            return;
        };
        let Origin::Inline(bytes) = &here.origin else { return };
        if image.sha1 != Some(sha1_of(bytes)) {
            self.links.push((wanted, found, path.to_owned()));
        }
    }

    /// Compares the targets of links whose data in the image has another form than ours, or another target.
    fn links(&mut self, image: &Image, ctl: &Ctl) -> Result<(), Error> {
        let links = std::mem::take(&mut self.links);
        let wanted: HashSet<NodeId> = links.iter().map(|(wanted, ..)| *wanted).collect();
        let wants = |one: Use| one.part == Part::Reparse && wanted.contains(&one.node);
        let contents = gather(image, self.threads, ctl, wants)?;
        for (wanted, found, path) in links {
            let (Some(reparse), Some(here)) =
                (&self.image.node(wanted).reparse, &self.found.node(found).reparse)
            else {
                continue;
            };
            let data = contents.get(&Use { node: wanted, part: Part::Reparse });
            let data = data.map_or(&[][..], |data| data);
            let target = link_target(reparse.tag, data).unwrap_or_default();
            let seen = match &here.content.origin {
                Origin::Inline(bytes) => link_target(here.tag, bytes).unwrap_or_default(),
                _ => std::ffi::OsString::new(),
            };
            if target != seen {
                self.differ(&path, "link target", &target.to_string_lossy(), &seen.to_string_lossy());
            }
        }
        Ok(())
    }
}

/// Whether an apply makes this node at all.
fn is_made(node: &Node, name: &NtName) -> bool {
    kind_of(node) != UnixKind::Opaque && os_name(name).len() <= MAX_NAME_BYTES
}
