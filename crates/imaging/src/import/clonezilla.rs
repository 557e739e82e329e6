//! Folders of Clonezilla: `disk` and `parts` name what is in them, tables and boot code are beside the images of partitions.

use std::path::{Path, PathBuf};

use super::sfdisk::Dump;
use super::{Expanded, Job, incomplete, names, part, parts_of, small_text};
use crate::Error;

/// What stands between the name of a partition and the form of its image.
const PARTCLONE: &str = "-ptcl-img";
const RAW: &str = "dd-img";
/// Forms of other programs.
const FOREIGN: [&str; 3] = ["-ntfs-img", "-partimage-img", "-ntfs-tmp"];
/// Sectors of the table in front: protective MBR, header, 128 entries.
const SECTOR: u64 = 512;
/// Bytes of a file with boot code and a table at most.
const MAX_HEAD_BYTES: u64 = 4 << 20;

/// Whether the folder is one of Clonezilla.
pub(super) fn is_folder(dir: &Path) -> bool {
    dir.join("parts").is_file() && (dir.join("disk").is_file() || dir.join("clonezilla-img").is_file())
        || dir.join("clonezilla-img").is_file()
}

/// What the folder holds.
struct Folder<'a> {
    dir: &'a Path,
    names: Vec<String>,
}

/// The image of a partition.
enum Form {
    /// Of partclone, or byte for byte.
    Image(Vec<PathBuf>),
    /// Only that it is swap, its UUID and label.
    Swap(String, String),
    Nothing,
}

impl Folder<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name)
    }

    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        if self.has(name) { small_text(&self.dir.join(name)).map(Some) } else { Ok(None) }
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        if !self.has(name) {
            return Ok(None);
        }
        let path = self.dir.join(name);
        let len = std::fs::metadata(&path).map_err(Error::io("read", path.display()))?.len();
        if len > MAX_HEAD_BYTES {
            let (what, expected) = (path.display().to_string(), format!("at most {MAX_HEAD_BYTES} bytes"));
            return Err(Error::Usage { what, expected, found: len.to_string() });
        }
        std::fs::read(&path).map(Some).map_err(Error::io("read", path.display()))
    }

    fn form(&self, name: &str) -> Result<Form, Error> {
        let prefix = format!("{name}.");
        for file in self.names.iter().filter(|file| file.starts_with(&prefix)) {
            let rest = &file[prefix.len()..];
            if FOREIGN.iter().any(|foreign| rest.contains(foreign))
                || rest == "img"
                || rest.starts_with("img.")
            {
                let what = "image of a program other than partclone and dd";
                return Err(Error::Unsupported { what, value: self.dir.join(file).display().to_string() });
            }
            let image = rest.find(PARTCLONE).map(|at| at + PARTCLONE.len());
            let image = image.or_else(|| rest.starts_with(RAW).then_some(RAW.len()));
            let Some(end) = image else { continue };
            // `.gz.aa`, `.zst.aa`, `.aa`, `.uncomp`, or nothing.
            let tail = &rest[end..];
            let is_piece = |word: &str| {
                word.len() >= 2
                    && word.bytes().all(|byte| byte.is_ascii_lowercase())
                    && !super::stream::is_extension(word)
                    && word != "uncomp"
            };
            let stem = match tail.rsplit_once('.') {
                Some((before, last)) if is_piece(last) => format!("{prefix}{}{before}", &rest[..end]),
                _ => file.clone(),
            };
            return Ok(Form::Image(parts_of(self.dir, &stem, &self.names)));
        }
        if let Some(text) = self.text(&format!("swappt-{name}.info"))? {
            let field = |key: &str| {
                let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
                line.map_or_else(String::new, |value| value.trim_matches('"').to_owned())
            };
            return Ok(Form::Swap(field("UUID="), field("LABEL=")));
        }
        Ok(Form::Nothing)
    }
}

/// Names of partitions or disks in a file of words.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn expand(dir: &Path, job: &mut Job<'_>) -> Result<Expanded, Error> {
    let folder = Folder { dir, names: names(dir)? };
    if let Some(name) =
        folder.names.iter().find(|name| name.starts_with("ecryptfs") || *name == "luks_mapper")
    {
        let value = dir.join(name).display().to_string();
        return Err(Error::Unsupported { what: "encrypted image of Clonezilla", value });
    }
    if folder.has("lvm_vg_dev.list") {
        let value = dir.display().to_string();
        return Err(Error::Unsupported { what: "image of Clonezilla with LVM", value });
    }
    let parts = words(&folder.text("parts")?.ok_or_else(|| incomplete(dir, "parts"))?);
    match folder.text("disk")?.map(|text| words(&text)).as_deref() {
        Some([disk]) => whole_disk(&folder, disk, &parts, job),
        Some([_, _, ..]) => {
            let what = "image of several disks in one folder";
            Err(Error::Unsupported { what, value: dir.display().to_string() })
        }
        _ => match parts.as_slice() {
            [only] => match folder.form(only)? {
                Form::Image(paths) => {
                    let part = part::expand(&paths, 0, None, job)?;
                    Ok(Expanded {
                        size_bytes: part.size,
                        sector_bytes: SECTOR as u32,
                        is_partial: part.is_partial,
                        notes: vec![format!("partition {only}")],
                    })
                }
                _ => Err(incomplete(dir, &format!("an image of {only}"))),
            },
            _ => {
                let what = "several partitions without a disk";
                Err(Error::Unsupported { what, value: dir.display().to_string() })
            }
        },
    }
}

/// Sectors of the disk, and bytes of one, as parted said.
fn parted(text: &str) -> Option<(u64, u32)> {
    let field = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key));
    let disk = text.lines().find(|line| line.starts_with("Disk /dev/"))?;
    let sectors = disk.rsplit(':').next()?.trim().strip_suffix('s')?.parse().ok()?;
    let sector = field("Sector size (logical/physical):").and_then(|value| value.trim().split('B').next());
    Some((sectors, sector.and_then(|value| value.parse().ok()).unwrap_or(512)))
}

fn whole_disk(
    folder: &Folder<'_>,
    disk: &str,
    parts: &[String],
    job: &mut Job<'_>,
) -> Result<Expanded, Error> {
    let dump = folder
        .text(&format!("{disk}-pt.sf"))?
        .ok_or_else(|| incomplete(folder.dir, &format!("{disk}-pt.sf")))?;
    let dump = Dump::parse(&dump);
    let said = folder.text(&format!("{disk}-pt.parted"))?.and_then(|text| parted(&text));
    let sector_bytes = dump.sector_bytes.or(said.map(|(_, sector)| sector)).unwrap_or(512);
    let sector = u64::from(sector_bytes);
    // Behind the last usable sector of a GPT are 33 more.
    let least = dump.last_lba.map_or(dump.end(), |last| last.saturating_add(34).max(dump.end()));
    let sectors = said.map_or(least, |(sectors, _)| sectors.max(dump.end()));
    let size_bytes = sectors.saturating_mul(sector);
    let mut notes = Vec::new();
    if said.is_none() {
        notes.push(
            "the folder does not say how large the disk was: as large as its partitions need".to_owned(),
        );
    }
    let mut is_partial = false;
    for name in parts {
        let Some(entry) = dump.entries.iter().find(|entry| entry.name == *name) else {
            return Err(incomplete(folder.dir, &format!("{name} in the table of {disk}")));
        };
        let (offset, len) = (entry.start.saturating_mul(sector), entry.sectors.saturating_mul(sector));
        match folder.form(name)? {
            Form::Image(paths) => {
                let part = part::expand(&paths, offset, Some(len), job)?;
                is_partial |= part.is_partial;
            }
            Form::Swap(uuid, label) => job.write(offset, &super::swap_header(len, &uuid, &label))?,
            Form::Nothing => return Err(incomplete(folder.dir, &format!("an image of {name}"))),
        }
    }
    // The table comes last, and what is in front of the first partition.
    let mut has_table = false;
    if let Some(mbr) = folder.bytes(&format!("{disk}-mbr"))? {
        job.write(0, &mbr[..mbr.len().min(512)])?;
        has_table = !dump.is_gpt;
    }
    if let Some(hidden) = folder.bytes(&format!("{disk}-hidden-data-after-mbr"))?.filter(|_| !dump.is_gpt) {
        let first =
            dump.entries.iter().map(|entry| entry.start.saturating_mul(sector)).min().unwrap_or(u64::MAX);
        let room = first.saturating_sub(SECTOR).min(hidden.len() as u64) as usize;
        job.write(SECTOR, &hidden[..room])?;
    }
    if let Some(first) = folder.bytes(&format!("{disk}-gpt-1st"))?.filter(|_| dump.is_gpt) {
        job.write(0, &first)?;
        has_table = true;
        let last = folder.bytes(&format!("{disk}-gpt-2nd"))?;
        has_table &= last.is_some_and(|last| super::write_backup(&last, size_bytes, sector, job).is_ok());
    }
    if !has_table {
        let what = if dump.is_gpt { "gpt-1st and gpt-2nd" } else { "mbr" };
        return Err(incomplete(folder.dir, &format!("{disk}-{what}")));
    }
    Ok(Expanded { size_bytes, sector_bytes, is_partial, notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parted_says() {
        let text = "Model: ATA (scsi)\nDisk /dev/sda: 131072s\nSector size (logical/physical): 512B/4096B\n";
        assert_eq!(parted(text), Some((131_072, 512)));
        assert_eq!(parted("Disk /dev/sda: 64GB\n"), None);
        assert_eq!(words(" sda1  sda2\n"), ["sda1", "sda2"]);
    }
}
