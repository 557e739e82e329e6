//! Who names the disk and its partitions, and gets the new names: boot stores and drive letters of Windows, boot menus, file system tables.
//! Names are identifiers of the table, or where a partition begins. Old and new are of one length, so contents are changed in place and nothing
//! else of a file moves.

use std::ffi::OsStr;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use gravure_disk::Guid;
use gravure_disk::fat::FatVolume;
use gravure_io::ReadAt;
use gravure_linux::Dir;

use crate::Error;

/// Text files that may name partitions, from the root of a system or of its boot partition.
const FILES: [&str; 16] = [
    "etc/fstab",
    "etc/crypttab",
    "etc/default/grub",
    "etc/kernel/cmdline",
    "etc/lilo.conf",
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
    "limine.conf",
];
/// Directories of which every file may.
const DIRECTORIES: [&str; 13] = [
    "boot/loader/entries",
    "loader/entries",
    "boot/grub",
    "boot/grub2",
    "boot/extlinux",
    "boot/syslinux",
    "extlinux",
    "syslinux",
    "etc/default/grub.d",
    "etc/grub.d",
    "etc/dracut.conf.d",
    "etc/initramfs-tools/conf.d",
    "etc/systemd/system",
];
/// Boot stores: registry hives with identifiers as bytes.
const STORES: [&str; 2] = ["EFI/Microsoft/Boot/BCD", "Boot/BCD"];
/// Where Windows keeps which letter is which partition, as bytes, too.
const LETTERS: &str = "Windows/System32/config/SYSTEM";
/// What starts a unified kernel brings its command line, which is signed with it.
const KERNELS: &str = "EFI/Linux";
/// Largest file looked at.
const MAX_BYTES: u64 = 4 << 20;
/// Largest hive: SYSTEM reaches 100 MB.
const MAX_HIVE_BYTES: u64 = 512 << 20;
/// What is written of a changed file at a time.
const PIECE_BYTES: usize = 4096;
/// Directories of a file system in which roots of systems are looked for: subvolumes, and snapshots of them.
const MAX_ROOTS: usize = 256;
/// Snapshots are made by snapper in such a directory of each subvolume, one directory each.
const SNAPSHOTS: &str = ".snapshots";

/// What is different about the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changed<'a> {
    /// Identifiers as texts, old and new.
    pub(super) renamed: &'a [(String, String)],
    /// Of a disk with an MBR, where partitions have no identifiers.
    pub(super) mbr: Option<&'a MbrChanged>,
}

/// What stands for identifiers on a disk with an MBR.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MbrChanged {
    /// Signature of the disk, old and new.
    pub(super) signature: [u32; 2],
    /// First bytes of the partitions, old and new.
    pub(super) starts: Vec<[u64; 2]>,
}

impl MbrChanged {
    fn is_any(&self) -> bool {
        self.signature[0] != self.signature[1] || self.starts.iter().any(|[old, new]| old != new)
    }
}

impl Changed<'_> {
    /// Whether there is anything to look for.
    pub(super) fn is_any(&self) -> bool {
        !self.renamed.is_empty() || self.mbr.is_some_and(MbrChanged::is_any)
    }
}

/// Replaces every old identifier in a text; says whether there was one. Case does not count, and an identifier within a longer word is none.
fn rename_text(bytes: &mut [u8], renamed: &[(String, String)]) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let mut found = false;
    for (old, new) in renamed.iter().filter(|(old, new)| old.len() == new.len() && !old.is_empty()) {
        let mut at = 0;
        while let Some(window) = bytes.get(at..at + old.len()) {
            let is_alone = || {
                !is_word(at.checked_sub(1).and_then(|before| bytes.get(before)))
                    && !is_word(bytes.get(at + old.len()))
            };
            if window.eq_ignore_ascii_case(old.as_bytes()) && is_alone() {
                bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
                (found, at) = (true, at + old.len());
            } else {
                at += 1;
            }
        }
    }
    found
}

/// The same for identifiers as bytes: GUIDs, and on a disk with an MBR its signature beside the first byte of a partition.
fn rename_bytes(bytes: &mut [u8], changed: Changed<'_>) -> bool {
    let mut found = false;
    for (old, new) in changed.renamed {
        let (Ok(old), Ok(new)) = (old.parse::<Guid>(), new.parse::<Guid>()) else { continue };
        found |= replace(bytes, &old.0, &new.0);
    }
    let Some(mbr) = changed.mbr else { return found };
    // One pass: a new place may be the old one of another partition.
    let mut at = 0;
    while at < bytes.len() {
        let rest = &mut bytes[at..];
        let step = mbr.starts.iter().find_map(|[old, new]| {
            replace_element(rest, mbr.signature, [*old, *new])
                .or_else(|| replace_letter(rest, mbr.signature, [*old, *new]))
        });
        found |= step.is_some();
        at += step.unwrap_or(1);
    }
    found
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) -> bool {
    let (mut at, mut found) = (0, false);
    while let Some(window) = bytes.get(at..at + old.len()) {
        if window == old {
            bytes[at..at + old.len()].copy_from_slice(new);
            (found, at) = (true, at + old.len());
        } else {
            at += 1;
        }
    }
    found
}

/// A partition in an element of a boot store (`hive/FORMAT.md`): first byte in a field of 16, kind of what it is on, style of the table, and the
/// signature in a field of 16. Bytes of it, if that is what stands there.
fn replace_element(bytes: &mut [u8], signature: [u32; 2], start: [u64; 2]) -> Option<usize> {
    let of = |signature: u32, start: u64| {
        let mut out = [0; 40];
        out[..8].copy_from_slice(&start.to_le_bytes());
        out[20..24].copy_from_slice(&1u32.to_le_bytes());
        out[24..28].copy_from_slice(&signature.to_le_bytes());
        out
    };
    replace_first(bytes, &of(signature[0], start[0]), &of(signature[1], start[1]))
}

/// What `MountedDevices` has of a partition: signature, first byte.
fn replace_letter(bytes: &mut [u8], signature: [u32; 2], start: [u64; 2]) -> Option<usize> {
    let of = |signature: u32, start: u64| {
        let mut out = [0; 12];
        out[..4].copy_from_slice(&signature.to_le_bytes());
        out[4..].copy_from_slice(&start.to_le_bytes());
        out
    };
    replace_first(bytes, &of(signature[0], start[0]), &of(signature[1], start[1]))
}

fn replace_first(bytes: &mut [u8], old: &[u8], new: &[u8]) -> Option<usize> {
    // Most places differ in the first byte.
    let place = bytes.get_mut(..old.len()).filter(|place| place.first() == old.first() && *place == old)?;
    place.copy_from_slice(new);
    Some(old.len())
}

/// Changed pieces of a volume (offset on it and bytes), and files they are of.
#[derive(Debug, Default)]
pub(super) struct VolumeChanges {
    pub(super) pieces: Vec<(u64, Vec<u8>)>,
    pub(super) files: Vec<String>,
    /// What was not searched or changed, and why.
    pub(super) undone: Vec<String>,
}

impl VolumeChanges {
    /// Takes what differs between a file and what it is to be. `ranges` is where the file stands.
    fn add(&mut self, path: &str, old: &[u8], new: &[u8], ranges: &[Range<u64>]) {
        let mut at = 0;
        for range in ranges {
            let end = at + (range.end - range.start) as usize;
            let mut first = at;
            while first < end {
                let next = (first + PIECE_BYTES).min(end);
                if old[first..next] != new[first..next] {
                    self.pieces.push((range.start + (first - at) as u64, new[first..next].to_vec()));
                }
                first = next;
            }
            at = end;
        }
        self.files.push(path.to_owned());
    }
}

/// A hive as it is with what its logs have, when that is no longer than it was. Says in words why there is none.
fn completed(hive: &[u8], logs: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    // Both counters are equal when all of it is in the file, and none in its log.
    if hive.get(4..8) == hive.get(8..12) {
        return Ok(hive.to_vec());
    }
    let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
    let recovered = gravure_hive::recover(hive, &logs).map_err(|error| error.to_string())?;
    let bytes = recovered.hive.as_bytes();
    match bytes.len() == hive.len() {
        true => Ok(bytes.to_vec()),
        false => Err("its log makes it longer".to_owned()),
    }
}

/// Files of an unmounted volume.
trait Files {
    /// The file, when there is one.
    fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error>;
    /// Where its bytes stand, in its order.
    fn ranges(&self, path: &str) -> Result<Vec<Range<u64>>, Error>;
}

/// Changes a hive where it lies.
fn change_hive(
    files: &dyn Files,
    path: &str,
    changed: Changed<'_>,
    out: &mut VolumeChanges,
) -> Result<(), Error> {
    let Some(old) = files.read(path, MAX_HIVE_BYTES)? else { return Ok(()) };
    let mut logs = Vec::new();
    for suffix in [".LOG", ".LOG1", ".LOG2"] {
        logs.extend(files.read(&format!("{path}{suffix}"), MAX_HIVE_BYTES)?);
    }
    let mut new = match completed(&old, &logs) {
        Ok(new) => new,
        Err(why) => {
            out.undone.push(format!(
                "{path} was not left in order and is not changed: start it once on the source ({why})"
            ));
            return Ok(());
        }
    };
    if rename_bytes(&mut new, changed) {
        out.add(path, &old, &new, &files.ranges(path)?);
    }
    Ok(())
}

struct FatFiles<'a>(FatVolume<'a>);

fn fat_error(source: gravure_disk::Error) -> Error {
    Error::Other {
        what: "look for identifiers on the system partition".to_owned(),
        source: source.into(),
        kind: crate::ErrorKind::Integrity,
    }
}

impl Files for FatFiles<'_> {
    fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.0.contains(path).map_err(fat_error)? {
            true => self.0.read_file(path, max).map(Some).map_err(fat_error),
            false => Ok(None),
        }
    }

    fn ranges(&self, path: &str) -> Result<Vec<Range<u64>>, Error> {
        self.0.file_ranges(path).map_err(fat_error)
    }
}

/// Looks for old names on a FAT volume. Nothing is written.
pub(super) fn on_fat(volume: &dyn ReadAt, changed: Changed<'_>) -> Result<VolumeChanges, Error> {
    let fat = FatVolume::open(volume).map_err(fat_error)?;
    let mut out = VolumeChanges::default();
    let mut paths: Vec<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
    for directory in DIRECTORIES {
        if fat.contains(directory).map_err(fat_error)? {
            let listed = fat.list(directory).map_err(fat_error)?;
            let files = listed.iter().filter(|entry| !entry.directory);
            paths.extend(files.map(|entry| format!("{directory}/{}", entry.name)));
        }
    }
    // Every vendor has its own directory with its own menu.
    if fat.contains("EFI").map_err(fat_error)? {
        for entry in fat.list("EFI").map_err(fat_error)?.iter().filter(|entry| entry.directory) {
            paths.push(format!("EFI/{}/grub.cfg", entry.name));
        }
    }
    let mut kernels = Vec::new();
    if fat.contains(KERNELS).map_err(fat_error)? {
        let listed = fat.list(KERNELS).map_err(fat_error)?;
        kernels.extend(listed.iter().map(|entry| format!("{KERNELS}/{}", entry.name)));
    }
    let files = FatFiles(fat);
    paths.sort();
    paths.dedup();
    for path in paths {
        // What is longer is no menu.
        let Ok(Some(old)) = files.read(&path, MAX_BYTES) else { continue };
        let mut new = old.clone();
        if rename_text(&mut new, changed.renamed) {
            out.add(&path, &old, &new, &files.ranges(&path)?);
        }
    }
    for path in STORES {
        change_hive(&files, path, changed, &mut out)?;
    }
    for path in kernels {
        let Ok(Some(mut kernel)) = files.read(&path, MAX_HIVE_BYTES) else { continue };
        if rename_text(&mut kernel, changed.renamed) {
            out.undone.push(format!("{path} names an old identifier, and is signed as a whole"));
        }
    }
    Ok(out)
}

struct NtfsFiles<'a> {
    volume: gravure_ntfs::Volume,
    source: &'a dyn ReadAt,
}

fn ntfs_error(source: gravure_ntfs::Error) -> Error {
    Error::Other {
        what: "look for identifiers on an NTFS volume".to_owned(),
        source: source.into(),
        kind: crate::ErrorKind::Integrity,
    }
}

impl Files for NtfsFiles<'_> {
    fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        self.volume.read_file(self.source, path, max).map_err(ntfs_error)
    }

    fn ranges(&self, path: &str) -> Result<Vec<Range<u64>>, Error> {
        let ranges = self.volume.file_ranges(self.source, path).map_err(ntfs_error)?;
        ranges.ok_or_else(|| Error::NotFound { what: "file", which: path.to_owned() })
    }
}

/// Looks for old names on an NTFS volume. Nothing is written.
pub(super) fn on_ntfs(volume: &dyn ReadAt, changed: Changed<'_>) -> Result<VolumeChanges, Error> {
    let files = NtfsFiles { volume: gravure_ntfs::Volume::open(volume).map_err(ntfs_error)?, source: volume };
    let mut out = VolumeChanges::default();
    for path in STORES.into_iter().chain([LETTERS]) {
        // One file that cannot be changed is no reason to leave the others.
        if let Err(error) = change_hive(&files, path, changed, &mut out) {
            out.undone.push(format!("{path} is not changed: {}", crate::capture::chain(&error)));
        }
    }
    Ok(out)
}

/// What was changed below a directory.
#[derive(Debug, Default)]
pub(super) struct TreeChanges {
    /// Paths from the root of the file system.
    pub(super) files: Vec<String>,
    /// What names an old identifier and was not changed, and why.
    pub(super) undone: Vec<String>,
}

/// Changes the files of a mounted Linux system; links are not followed out of it.
pub(super) fn in_tree(root: &Path, renamed: &[(String, String)]) -> Result<TreeChanges, Error> {
    let name = root.display().to_string();
    let root = Dir::open_root(root).map_err(Error::linux(&name))?;
    let mut out = TreeChanges::default();
    in_root(&root, "", renamed, &mut out)?;
    Ok(out)
}

/// The same for every system below the top of a file system: subvolumes and their snapshots are directories there.
pub(super) fn in_subvolumes(top: &Path, renamed: &[(String, String)]) -> Result<TreeChanges, Error> {
    let name = top.display().to_string();
    let top = Dir::open_root(top).map_err(Error::linux(&name))?;
    let mut out = TreeChanges::default();
    let mut roots = vec![(String::new(), top)];
    let mut next = 0;
    while let Some((path, root)) = roots.get(next) {
        next += 1;
        in_root(root, path, renamed, &mut out)?;
        let mut below = Vec::new();
        let depth = path.matches('/').count();
        for entry in root.entries().map_err(Error::linux(&name))? {
            let Ok(dir) = root.open_dir(&entry.name) else { continue };
            let Some(entry) = entry.name.to_str() else { continue };
            if entry == SNAPSHOTS {
                for number in dir.entries().map_err(Error::linux(&name))? {
                    let snapshot = Path::new(&number.name).join("snapshot");
                    let Ok(snapshot) = dir.open_dir_in_root(&snapshot) else { continue };
                    below.push((format!("{path}{entry}/{}/snapshot/", number.name.display()), snapshot));
                }
            } else if depth == 0 {
                below.push((format!("{path}{entry}/"), dir));
            }
        }
        if roots.len() + below.len() > MAX_ROOTS {
            out.undone.push(format!("more than {MAX_ROOTS} subvolumes: the others were not searched"));
            below.truncate(MAX_ROOTS.saturating_sub(roots.len()));
        }
        roots.extend(below);
    }
    Ok(out)
}

fn in_root(
    root: &Dir,
    above: &str,
    renamed: &[(String, String)],
    out: &mut TreeChanges,
) -> Result<(), Error> {
    let mut paths: Vec<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
    for directory in DIRECTORIES {
        let Ok(dir) = root.open_dir_in_root(Path::new(directory)) else { continue };
        for entry in dir.entries().map_err(Error::linux(directory))? {
            paths.extend(entry.name.to_str().map(|name| format!("{directory}/{name}")));
        }
    }
    paths.sort();
    paths.dedup();
    for path in paths {
        let (dir, name) = path.rsplit_once('/').unwrap_or((".", path.as_str()));
        let Ok(dir) = root.open_dir_in_root(Path::new(dir)) else { continue };
        let Ok(file) = dir.open_file(OsStr::new(name)) else { continue };
        let io = |what| Error::io(what, &path);
        let mut content = Vec::new();
        if file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(io("read"))? as u64 > MAX_BYTES
            || !rename_text(&mut content, renamed)
        {
            continue;
        }
        let shown = format!("{above}{path}");
        match dir.open_file_rw(OsStr::new(name)) {
            Ok(file) => {
                file.write_all_at(&content, 0).map_err(io("write"))?;
                file.sync_all().map_err(io("write"))?;
                out.files.push(shown);
            }
            // A snapshot that is never written.
            Err(error) => {
                out.undone.push(format!("{shown} names an old identifier: {error}"));
            }
        }
    }
    Ok(())
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
        let renamed = renamed();
        let changed = Changed { renamed: &renamed, mbr: None };
        assert!(rename_bytes(&mut bytes, changed));
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
        let changed = in_tree(&root, &renamed()).unwrap();
        assert_eq!(changed.files, ["boot/loader/entries/a.conf", "etc/fstab"]);
        assert_eq!(changed.undone, Vec::<String>::new());
        assert_eq!(
            std::fs::read_to_string(root.join("etc/fstab")).unwrap(),
            format!("PARTUUID={new} / xfs\n")
        );
        assert_eq!(std::fs::read_to_string(dir.path().join("outside")).unwrap(), old);
    }

    #[test]
    fn identifiers_within_longer_words_are_others() {
        let renamed = vec![("1a2b3c4d-01".to_owned(), "ffffffff-01".to_owned())];
        let mut text =
            b"PARTUUID=1A2B3C4D-01 / ext4\nUUID=1a2b3c4d-01ab-4000-8000-000000000000 /x\n01a2b3c4d-01 \n"
                .to_vec();
        assert!(rename_text(&mut text, &renamed));
        let expected =
            "PARTUUID=ffffffff-01 / ext4\nUUID=1a2b3c4d-01ab-4000-8000-000000000000 /x\n01a2b3c4d-01 \n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn partitions_of_an_mbr_are_renamed_in_boot_stores_and_letters() {
        use gravure_hive::bcd::Device;
        let device = |signature, offset| Device::Mbr { signature, offset }.to_bytes().unwrap();
        let letter =
            |signature: u32, offset: u64| [&signature.to_le_bytes()[..], &offset.to_le_bytes()].concat();
        // The second moves to where the first was.
        let mbr = MbrChanged {
            signature: [0x1122_3344, 0x5566_7788],
            starts: vec![[1 << 20, 1 << 19], [1 << 30, 1 << 20]],
        };
        let content = |signature, first, second| {
            [
                b"xx".to_vec(),
                device(signature, first),
                device(0x0bad_0bad, 1 << 20),
                letter(signature, second),
                device(signature, second),
                letter(signature, 7),
            ]
            .concat()
        };
        let mut bytes = content(0x1122_3344, 1 << 20, 1 << 30);
        let expected = [content(0x5566_7788, 1 << 19, 1 << 20)].concat();
        assert!(rename_bytes(&mut bytes, Changed { renamed: &[], mbr: Some(&mbr) }));
        let end = bytes.len() - 12;
        assert_eq!(bytes[..end], expected[..end]);
        assert_eq!(bytes[end..], letter(0x1122_3344, 7), "another disk, or none of its partitions");
        assert!(!rename_bytes(&mut bytes, Changed::default()));
        assert!(Changed { renamed: &[], mbr: Some(&mbr) }.is_any());
        let same = MbrChanged { signature: [1, 1], starts: vec![[5, 5]] };
        assert!(!Changed { renamed: &[], mbr: Some(&same) }.is_any());
    }

    #[test]
    fn subvolumes_and_snapshots_are_searched() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = renamed().remove(0);
        let roots = ["@", "root", "@/.snapshots/1/snapshot", "@/.snapshots/22/snapshot"];
        for root in roots {
            std::fs::create_dir_all(dir.path().join(root).join("etc")).unwrap();
            std::fs::write(dir.path().join(root).join("etc/fstab"), format!("PARTUUID={old} / btrfs\n"))
                .unwrap();
        }
        // What lies deeper is of the system, not beside it.
        std::fs::create_dir_all(dir.path().join("@/srv/etc")).unwrap();
        std::fs::write(dir.path().join("@/srv/etc/fstab"), &old).unwrap();
        let mut changed = in_subvolumes(dir.path(), &renamed()).unwrap();
        changed.files.sort();
        let mut wanted: Vec<String> = roots.iter().map(|root| format!("{root}/etc/fstab")).collect();
        wanted.sort();
        assert_eq!(changed.files, wanted);
        let text = std::fs::read_to_string(dir.path().join("@/.snapshots/22/snapshot/etc/fstab")).unwrap();
        assert_eq!(text, format!("PARTUUID={new} / btrfs\n"));
        assert_eq!(std::fs::read_to_string(dir.path().join("@/srv/etc/fstab")).unwrap(), old);
    }
}
