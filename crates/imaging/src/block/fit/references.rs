//! Who names partitions by the identifiers of the table, and gets the new ones: boot stores of Windows, boot menus, file system tables. Old and
//! new are of one length, so contents are changed in place and nothing else of a file moves.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::fs::FileExt;
use std::path::Path;

use gravure_disk::Guid;
use gravure_disk::fat::FatVolume;
use gravure_io::ReadAt;
use gravure_linux::Dir;

use crate::Error;

/// Text files that may name partitions, from the root of a system or of its boot partition.
const FILES: [&str; 14] = [
    "etc/fstab",
    "etc/crypttab",
    "etc/default/grub",
    "etc/kernel/cmdline",
    "boot/grub/grub.cfg",
    "boot/grub/grubenv",
    "boot/grub2/grub.cfg",
    "boot/grub2/grubenv",
    "grub/grub.cfg",
    "grub2/grub.cfg",
    "boot/cmdline.txt",
    "cmdline.txt",
    "boot/refind_linux.conf",
    "refind_linux.conf",
];
/// Directories of which every file may.
const DIRECTORIES: [&str; 2] = ["boot/loader/entries", "loader/entries"];
/// Boot stores: registry hives with identifiers as bytes.
const STORES: [&str; 2] = ["EFI/Microsoft/Boot/BCD", "Boot/BCD"];
/// Largest file looked at.
const MAX_BYTES: u64 = 4 << 20;

/// Replaces every old identifier in a text; says whether there was one. Case does not count.
fn rename_text(bytes: &mut [u8], renamed: &[(String, String)]) -> bool {
    let mut found = false;
    for (old, new) in renamed.iter().filter(|(old, new)| old.len() == new.len() && !old.is_empty()) {
        let mut at = 0;
        while let Some(window) = bytes.get(at..at + old.len()) {
            if window.eq_ignore_ascii_case(old.as_bytes()) {
                bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
                (found, at) = (true, at + old.len());
            } else {
                at += 1;
            }
        }
    }
    found
}

/// The same for identifiers as bytes.
fn rename_bytes(bytes: &mut [u8], renamed: &[(String, String)]) -> bool {
    let mut found = false;
    for (old, new) in renamed {
        let (Ok(old), Ok(new)) = (old.parse::<Guid>(), new.parse::<Guid>()) else { continue };
        let mut at = 0;
        while let Some(window) = bytes.get(at..at + 16) {
            if window == old.0 {
                bytes[at..at + 16].copy_from_slice(&new.0);
                (found, at) = (true, at + 16);
            } else {
                at += 1;
            }
        }
    }
    found
}

/// Changed pieces of a FAT volume (offset on it and bytes), and files they are of.
#[derive(Debug, Default)]
pub(super) struct FatChanges {
    pub(super) pieces: Vec<(u64, Vec<u8>)>,
    pub(super) files: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Looks for old identifiers on a FAT volume. Nothing is written.
pub(super) fn on_fat(volume: &dyn ReadAt, renamed: &[(String, String)]) -> Result<FatChanges, Error> {
    let failed = |source: gravure_disk::Error| Error::Other {
        what: "look for identifiers on the system partition".to_owned(),
        source: source.into(),
        kind: crate::ErrorKind::Integrity,
    };
    let fat = FatVolume::open(volume).map_err(failed)?;
    let mut out = FatChanges::default();
    let mut paths: Vec<String> = FILES.iter().chain(&STORES).map(|path| (*path).to_owned()).collect();
    for directory in DIRECTORIES {
        if fat.contains(directory).map_err(failed)? {
            let listed = fat.list(directory).map_err(failed)?;
            paths.extend(listed.iter().map(|entry| format!("{directory}/{}", entry.name)));
        }
    }
    // Every vendor has its own directory with its own menu.
    if fat.contains("EFI").map_err(failed)? {
        for entry in fat.list("EFI").map_err(failed)?.iter().filter(|entry| entry.directory) {
            paths.push(format!("EFI/{}/grub.cfg", entry.name));
        }
    }
    for path in paths {
        if !fat.contains(&path).map_err(failed)? {
            continue;
        }
        let Ok(mut content) = fat.read_file(&path, MAX_BYTES) else { continue };
        let is_store = STORES.contains(&path.as_str());
        // Both counters of a hive are equal when all of it is in the file, and none in its log.
        if is_store && content.get(4..8) != content.get(8..12) {
            out.notes.push(format!(
                "{path} was not left in order and is not changed: start it once on the source"
            ));
            continue;
        }
        let is_changed =
            if is_store { rename_bytes(&mut content, renamed) } else { rename_text(&mut content, renamed) };
        if !is_changed {
            continue;
        }
        let mut at = 0;
        for range in fat.file_ranges(&path).map_err(failed)? {
            let len = (range.end - range.start) as usize;
            out.pieces.push((range.start, content[at..at + len].to_vec()));
            at += len;
        }
        out.files.push(path);
    }
    Ok(out)
}

/// Changes the files of a mounted Linux system; links are not followed out of it. Returns what was changed.
pub(super) fn in_tree(root: &Path, renamed: &[(String, String)]) -> Result<Vec<String>, Error> {
    let linux = |path: &str, source| Error::Linux { path: path.to_owned(), source };
    let name = root.display().to_string();
    let root = Dir::open_root(root).map_err(|error| linux(&name, error))?;
    let mut paths: Vec<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
    for directory in DIRECTORIES {
        let Ok(dir) = root.open_dir_in_root(Path::new(directory)) else { continue };
        for entry in dir.entries().map_err(|error| linux(directory, error))? {
            paths.extend(entry.name.to_str().map(|name| format!("{directory}/{name}")));
        }
    }
    let mut changed = Vec::new();
    for path in paths {
        let (dir, file) = path.rsplit_once('/').unwrap_or((".", path.as_str()));
        let Ok(dir) = root.open_dir_in_root(Path::new(dir)) else { continue };
        let Ok(file) = dir.open_file_rw(OsStr::new(file)) else { continue };
        let io = |what| Error::io(what, &path);
        let is_file = file.metadata().map_err(io("look at"))?.is_file();
        let mut content = Vec::new();
        if !is_file
            || (&file).take(MAX_BYTES + 1).read_to_end(&mut content).map_err(io("read"))? as u64 > MAX_BYTES
        {
            continue;
        }
        if rename_text(&mut content, renamed) {
            file.write_all_at(&content, 0).map_err(io("write"))?;
            file.sync_all().map_err(io("write"))?;
            changed.push(path);
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed() -> Vec<(String, String)> {
        vec![(
            "0fc63daf-8483-4772-8e79-3d69d8477de4".to_owned(),
            "11111111-2222-3333-4444-555555555555".to_owned(),
        )]
    }

    #[test]
    fn identifiers_are_renamed_in_any_case_and_as_bytes() {
        let mut text =
            b"PARTUUID=0FC63DAF-8483-4772-8E79-3D69D8477DE4 / ext4\nUUID=0fc63daf-8483 /x\n".to_vec();
        assert!(rename_text(&mut text, &renamed()));
        assert_eq!(text, b"PARTUUID=11111111-2222-3333-4444-555555555555 / ext4\nUUID=0fc63daf-8483 /x\n");
        assert!(!rename_text(&mut text, &renamed()));
        let old: Guid = renamed()[0].0.parse().unwrap();
        let new: Guid = renamed()[0].1.parse().unwrap();
        let mut bytes = [&[1, 2, 3][..], &old.0, &[4], &old.0].concat();
        assert!(rename_bytes(&mut bytes, &renamed()));
        assert_eq!(bytes, [&[1, 2, 3][..], &new.0, &[4], &new.0].concat());
    }

    #[test]
    fn files_of_a_system_are_changed_and_links_out_of_it_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir_all(root.join("boot/loader/entries")).unwrap();
        let (old, new) = renamed().remove(0);
        std::fs::write(root.join("etc/fstab"), format!("PARTUUID={old} / xfs\n")).unwrap();
        std::fs::write(root.join("boot/loader/entries/a.conf"), format!("options root=PARTUUID={old}\n"))
            .unwrap();
        std::fs::write(dir.path().join("outside"), &old).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), root.join("etc/crypttab")).unwrap();
        let mut changed = in_tree(&root, &renamed()).unwrap();
        changed.sort();
        assert_eq!(changed, ["boot/loader/entries/a.conf", "etc/fstab"]);
        assert_eq!(
            std::fs::read_to_string(root.join("etc/fstab")).unwrap(),
            format!("PARTUUID={new} / xfs\n")
        );
        assert_eq!(std::fs::read_to_string(dir.path().join("outside")).unwrap(), old);
    }
}
