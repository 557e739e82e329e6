//! A restored Windows gets the machine's name: by its answer file, where setup goes on at the next start, or else by its registry.
//! Files are changed where they lie on the mounted volume, by what services images of files, too; new ones are added.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;

use gravure_linux::mount::MountOptions;
use gravure_linux::{BlockDevice, Dir};
use gravure_model::event::Known;
use gravure_nttypes::{FileAttributes, FileTime, NtName};
use gravure_tree::{ContentRef, Node, NodeId, Origin, Tree};
use gravure_windows::{ContentResult, SetupState, WindowsImage, naming_files};

use super::super::root::RootEditor;
use super::super::{Change, Expected, Run};
use super::Candidate;
use crate::failure::{StepError, chain, code};

/// Largest file read: a SOFTWARE hive of a long-lived machine.
const MAX_FILE_BYTES: u64 = 512 << 20;

impl Run<'_> {
    /// Whether there was a Windows, which has the machine's name now.
    pub(super) fn personalise_windows(
        &mut self,
        one: &Candidate<'_>,
        stage: &str,
    ) -> Result<bool, StepError> {
        let device = BlockDevice::open_read(one.device)?;
        match gravure_windows::installed_on(&device, one.name) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            Err(error) => {
                self.warn(
                    stage,
                    format!("{} was not searched for a Windows to name: {}", one.name, chain(&error)),
                );
                return Ok(false);
            }
        }
        drop(device);
        if !self.mount_candidate(one, MountOptions::default(), stage)? {
            return Ok(false);
        }
        let root = Dir::open_root(&self.machine.mount_point)?;
        let name = self.plan.personality.host_name.clone();
        let now = FileTime::from_unix(self.plan.created.seconds(), 0);
        let named = match name_windows(&root, &name, now, &self.plan.id) {
            Ok(named) => named,
            // Nothing was written yet.
            Err(error) => {
                let message = format!("the Windows on {} keeps the name it has: {}", one.name, error.message);
                self.warn(stage, message);
                return Ok(false);
            }
        };
        write_files(&root, &named.files)?;
        drop(root);
        let change = |(path, content)| Change { path, content: Expected::Bytes(content) };
        self.changes = named.files.into_iter().map(change).collect();
        self.verify_mounted(one, "", |mounted| Ok(Some(RootEditor::new(Dir::open_root(mounted)?))))?;
        for note in named.notes {
            self.warn(stage, format!("{}: {note}", one.name));
        }
        self.restored_windows.push(named.known_by);
        Ok(true)
    }
}

struct Named {
    /// What is to be written: paths and contents.
    files: Vec<(String, Vec<u8>)>,
    /// What people should know.
    notes: Vec<String>,
    known_by: Known,
}

/// What gives the Windows on the volume mounted at `root` its name. Nothing is written.
fn name_windows(root: &Dir, name: &str, now: FileTime, plan: &str) -> Result<Named, StepError> {
    let (mut tree, before) = read_files(root)?;
    let read = |_: &ContentRef| -> ContentResult { Err("not among the files that were read".into()) };
    let mut windows = WindowsImage::open(&mut tree, &read, now)?;
    let system = windows.system()?;
    let mut notes = Vec::new();
    let keeps_sid = system.setup != SetupState::Generalized;
    let machine_sid = windows.machine_sid()?.filter(|_| keeps_sid).map(|sid| sid.to_string());
    windows.name_machine(name, &system)?;
    if system.setup == SetupState::InUse {
        notes.push(
            "the Windows was in use when the image was made: its accounts and its SID are those of the machine that it was made of"
                .to_owned(),
        );
        if let Some(domain) = &system.domain {
            notes.push(format!("it has to be joined to {domain} again, which knows it by its old name"));
        }
    }
    windows.finish(&format!("deployment {plan}"))?;
    let mut files = files_of(&tree);
    files.retain(|(path, content)| before.get(path) != Some(content));
    let known_by = Known::Windows { machine_sid, computer_name: Some(name.to_owned()) };
    Ok(Named { files, notes, known_by })
}

fn write_files(root: &Dir, files: &[(String, Vec<u8>)]) -> Result<(), StepError> {
    for (path, content) in files {
        write_in_place(root, path, content)?;
    }
    Ok(root.sync_volume()?)
}

/// The files that naming reads, as a tree of their own, and their contents by path. Names are found in any case, and kept.
fn read_files(root: &Dir) -> Result<(Tree, BTreeMap<String, Vec<u8>>), StepError> {
    let directory =
        || Node { attributes: FileAttributes::DIRECTORY, children: Some(Vec::new()), ..Node::default() };
    let failed = |error: gravure_tree::TreeError| StepError::new(code::FAILED, error.to_string());
    let mut tree = Tree::new(directory());
    let mut contents = BTreeMap::new();
    for path in naming_files() {
        let mut at = root.try_clone()?;
        let mut node = tree.root();
        let mut shown = Vec::new();
        let mut parts = path.split('\\').peekable();
        while let Some(part) = parts.next() {
            let Some(found) = entry(&at, part)? else { break };
            shown.push(found.clone());
            let name = NtName::from(found.as_str());
            if parts.peek().is_some() {
                let Ok(next) = at.open_dir(OsStr::new(&found)) else { break };
                at = next;
                let known = tree.child(node, &name).map(|entry| entry.node);
                node = match known {
                    Some(known) => known,
                    None => tree.add(node, name, directory()).map_err(failed)?,
                };
                continue;
            }
            let Ok(file) = at.open_file(OsStr::new(&found)) else { break };
            let mut bytes = Vec::new();
            let read = file.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes);
            read.map_err(|error| StepError::new(code::IO, format!("read {}: {error}", shown.join("/"))))?;
            if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
                let message =
                    format!("{}: expected at most {MAX_FILE_BYTES} bytes, found more", shown.join("/"));
                return Err(StepError::new(code::REFUSED, message));
            }
            let content = ContentRef::inline(bytes.clone());
            tree.add(node, name, Node { data: Some(content), ..Node::default() }).map_err(failed)?;
            contents.insert(shown.join("/"), bytes);
        }
    }
    Ok((tree, contents))
}

/// The name of an entry as the directory spells it.
fn entry(dir: &Dir, name: &str) -> Result<Option<String>, StepError> {
    if dir.has_entry(OsStr::new(name))? {
        return Ok(Some(name.to_owned()));
    }
    let wanted = NtName::from(name);
    let names = dir.entries()?.into_iter().filter_map(|entry| entry.name.into_string().ok());
    let mut same = names.filter(|found| NtName::from(found.as_str()).folded().eq(wanted.folded()));
    Ok(same.next())
}

/// Paths and contents of the files that are in the tree itself.
fn files_of(tree: &Tree) -> Vec<(String, Vec<u8>)> {
    fn walk(tree: &Tree, at: NodeId, above: &str, out: &mut Vec<(String, Vec<u8>)>) {
        for entry in tree.children(at) {
            let path = format!("{above}{}", entry.name);
            let node = tree.node(entry.node);
            if node.is_directory() {
                walk(tree, entry.node, &format!("{path}/"), out);
            } else if let Some(data) = &node.data {
                match &data.origin {
                    Origin::Inline(bytes) => out.push((path, bytes.to_vec())),
                    Origin::Empty => out.push((path, Vec::new())),
                    _ => {}
                }
            }
        }
    }
    let mut out = Vec::new();
    walk(tree, tree.root(), "", &mut out);
    out
}

/// Gives a file this content; one that is there keeps everything else that it has, its owner and access list above all.
fn write_in_place(root: &Dir, path: &str, content: &[u8]) -> Result<(), StepError> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut dir = root.try_clone()?;
    for part in above.split('/').filter(|part| !part.is_empty()) {
        dir = dir.ensure_dir(OsStr::new(part), 0o755)?;
    }
    let name = OsStr::new(name);
    let failed = |error: std::io::Error| StepError::new(code::IO, format!("write {path}: {error}"));
    if !dir.has_entry(name)? {
        let mut file = dir.create_file(name, 0o600)?;
        return file.write_all(content).and_then(|()| file.sync_all()).map_err(failed);
    }
    let file = dir.open_file_rw(name)?;
    let len = u64::try_from(content.len()).unwrap_or(u64::MAX);
    file.write_all_at(content, 0)
        .and_then(|()| file.set_len(len))
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use gravure_hive::{CreateOptions, Data, Editor, Hive};
    use gravure_nttypes::SecurityDescriptor;

    use super::*;

    fn hive(values: &[(&str, &str, Data)]) -> Vec<u8> {
        let options = CreateOptions {
            minor: 5,
            root_name: "ROOT".into(),
            security: SecurityDescriptor::from_sddl("O:BAG:BAD:(A;CI;KA;;;BA)").unwrap(),
            now: FileTime(1),
        };
        let mut editor = Editor::new(Hive::create(&options).unwrap(), FileTime(1)).unwrap();
        for (key, name, data) in values {
            let id = editor.create(key).unwrap();
            editor.set_value(id, &NtName::from(*name), data).unwrap();
        }
        editor.finish().unwrap()
    }

    fn system(setup: u32) -> Vec<u8> {
        hive(&[
            ("Select", "Default", Data::dword(1)),
            ("Setup", "SetupType", Data::dword(setup)),
            (
                "ControlSet001\\Control\\Session Manager\\Environment",
                "PROCESSOR_ARCHITECTURE",
                Data::sz("AMD64"),
            ),
            ("ControlSet001\\Control\\ComputerName\\ComputerName", "ComputerName", Data::sz("GOLDEN")),
            ("ControlSet001\\Services\\Tcpip\\Parameters", "Domain", Data::sz("school.example")),
            ("DriverDatabase", "Version", Data::dword(0x0a00_0000)),
        ])
    }

    fn volume(setup: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        // As Windows 7 spells it.
        let config = dir.path().join("Windows/system32/Config");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("SYSTEM"), system(setup)).unwrap();
        dir
    }

    fn computer_name(root: &Path) -> String {
        let bytes = fs::read(root.join("Windows/system32/Config/SYSTEM")).unwrap();
        let hive = Hive::parse(bytes).unwrap();
        let key = hive.find("ControlSet001\\Control\\ComputerName\\ComputerName").unwrap().unwrap();
        key.data("ComputerName").unwrap().unwrap().as_text().unwrap().to_string()
    }

    #[test]
    fn a_windows_in_use_is_named_in_its_registry_where_it_lies() {
        let dir = volume(0);
        let path = dir.path().join("Windows/system32/Config/SYSTEM");
        let inode = fs::metadata(&path).unwrap().ino();
        let root = Dir::open_root(dir.path()).unwrap();
        let named = name_windows(&root, "pc-7", FileTime(1 << 56), "p1").unwrap();
        assert_eq!(computer_name(dir.path()), "GOLDEN", "decided, not written");
        write_files(&root, &named.files).unwrap();
        assert_eq!(computer_name(dir.path()), "PC-7");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "the file keeps who may read it");
        assert!(!dir.path().join("Windows/System32").exists(), "directories are found in any case");
        assert_eq!(named.notes.len(), 2);
        assert!(named.notes[1].contains("joined to school.example again"), "{:?}", named.notes);
        let mut paths: Vec<&str> = named.files.iter().map(|(path, _)| path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["Windows/Gravure/changes/0001.json", "Windows/system32/Config/SYSTEM"]);
    }

    #[test]
    fn a_windows_in_setup_is_named_by_its_answer_file() {
        let dir = volume(2);
        let root = Dir::open_root(dir.path()).unwrap();
        let named = name_windows(&root, "pc-7", FileTime(1 << 56), "p1").unwrap();
        write_files(&root, &named.files).unwrap();
        assert_eq!(computer_name(dir.path()), "GOLDEN", "setup gives the name");
        let answers = fs::read_to_string(dir.path().join("Windows/Panther/unattend.xml")).unwrap();
        assert!(answers.contains("<ComputerName>pc-7</ComputerName>"), "{answers}");
        assert_eq!(named.notes, Vec::<String>::new());
        assert_eq!(
            named.known_by,
            Known::Windows { machine_sid: None, computer_name: Some("pc-7".to_owned()) }
        );
    }
}
