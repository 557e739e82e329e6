//! Driver packs in archives: CAB and ZIP files unpacked into a directory, so that packages are found in it as in any other.
//! Files come under the names they have in the archive; names that would leave the directory are refused.

use std::fs;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

use crate::Error;

/// Most files of an archive. The largest packs of vendors have some 20,000.
const MAX_FILES: usize = 200_000;
/// Most bytes that an archive becomes. The largest packs of vendors have 6 GiB.
const MAX_BYTES: u64 = 64 << 30;
const CAB_MAGIC: &[u8] = b"MSCF";
const ZIP_MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// Kinds of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// Microsoft cabinet.
    Cab,
    /// ZIP.
    Zip,
}

impl ArchiveKind {
    /// What the file at `path` is, by its first bytes; `None` when it is no archive.
    pub fn of(path: &Path) -> Result<Option<Self>, Error> {
        let mut head = Vec::new();
        let file = fs::File::open(path).map_err(Error::io("read", path))?;
        file.take(4).read_to_end(&mut head).map_err(Error::io("read", path))?;
        Ok(if head == CAB_MAGIC {
            Some(Self::Cab)
        } else {
            ZIP_MAGICS.contains(&head.as_slice()).then_some(Self::Zip)
        })
    }
}

/// Unpacks the archive at `path` into the empty directory `dir`; says how many files came out.
pub fn unpack(path: &Path, kind: ArchiveKind, dir: &Path) -> Result<usize, Error> {
    let mut out = Output { archive: path, dir, files: 0, bytes: 0 };
    match kind {
        ArchiveKind::Cab => unpack_cab(path, &mut out)?,
        ArchiveKind::Zip => unpack_zip(path, &mut out)?,
    }
    Ok(out.files)
}

fn unpack_cab(path: &Path, out: &mut Output<'_>) -> Result<(), Error> {
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let damaged = |error: std::io::Error| damaged(path, &error.to_string());
    let mut cabinet = cab::Cabinet::new(file).map_err(damaged)?;
    let names: Vec<String> = cabinet
        .folder_entries()
        .flat_map(|folder| folder.file_entries())
        .map(|entry| entry.name().to_owned())
        .collect();
    for name in names {
        let mut reader = cabinet.read_file(&name).map_err(damaged)?;
        out.put(&name, &mut reader)?;
    }
    Ok(())
}

fn unpack_zip(path: &Path, out: &mut Output<'_>) -> Result<(), Error> {
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let damaged = |error: zip::result::ZipError| damaged(path, &error.to_string());
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        if entry.is_dir() {
            continue;
        }
        // A link would lead elsewhere, and drivers have none.
        if entry.is_symlink() {
            return Err(Error::Refused {
                path: path.display().to_string(),
                why: format!("{}: a link", entry.name()),
            });
        }
        let name = entry.name().to_owned();
        out.put(&name, &mut entry)?;
    }
    Ok(())
}

struct Output<'a> {
    archive: &'a Path,
    dir: &'a Path,
    files: usize,
    bytes: u64,
}

impl Output<'_> {
    fn put(&mut self, name: &str, content: &mut dyn Read) -> Result<(), Error> {
        let refused = |why: String| Error::Refused {
            path: self.archive.display().to_string(),
            why: format!("{name}: {why}"),
        };
        self.files = self.files.saturating_add(1);
        if self.files > MAX_FILES {
            return Err(refused(format!("more than {MAX_FILES} files")));
        }
        let parts: Vec<&str> = name.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.is_empty() || parts.iter().any(|part| *part == ".." || part.contains([':', '\0'])) {
            return Err(refused("a name that would leave the archive".to_owned()));
        }
        let path: PathBuf = self.dir.join(parts.iter().collect::<PathBuf>());
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).map_err(Error::io("create", above))?;
        }
        // Names that differ in case only are two files here and one in Windows; the second is refused by itself there.
        let mut to = fs::File::create_new(&path).map_err(Error::io("create", &path))?;
        let mut limited = content.take(MAX_BYTES.saturating_sub(self.bytes).saturating_add(1));
        let mut buffer = vec![0; 1 << 16];
        loop {
            let len = limited
                .read(&mut buffer)
                .map_err(|error| damaged(self.archive, &format!("{name}: {error}")))?;
            let Some(part) = buffer.get(..len).filter(|part| !part.is_empty()) else { break };
            self.bytes = self.bytes.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
            if self.bytes > MAX_BYTES {
                return Err(Error::Refused {
                    path: self.archive.display().to_string(),
                    why: format!("it becomes more than {MAX_BYTES} bytes"),
                });
            }
            to.write_all(part).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }
}

fn damaged(path: &Path, found: &str) -> Error {
    Error::Corrupt {
        path: path.display().to_string(),
        expected: "a whole archive".to_owned(),
        found: found.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in files {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn cab_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = cab::CabinetBuilder::new();
        let folder = builder.add_folder(cab::CompressionType::MsZip);
        for (name, _) in files {
            folder.add_file(*name);
        }
        let mut writer = builder.build(std::io::Cursor::new(Vec::new())).unwrap();
        let mut contents = files.iter();
        while let Some(mut file) = writer.next_file().unwrap() {
            file.write_all(contents.next().unwrap().1).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn archives_become_directories_and_nothing_leaves_them() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("pack");
        let large = vec![7; 100_000];
        let files: [(&str, &[u8]); 3] =
            [("a.inf", b"[Version]"), ("x64\\a.sys", &large), ("x64\\b\\c", b"c")];
        for (bytes, kind) in [(zip_of(&files), ArchiveKind::Zip), (cab_of(&files), ArchiveKind::Cab)] {
            fs::write(&path, &bytes).unwrap();
            assert_eq!(ArchiveKind::of(&path).unwrap(), Some(kind));
            let out = tempfile::tempdir().unwrap();
            assert_eq!(unpack(&path, kind, out.path()).unwrap(), 3);
            assert_eq!(fs::read(out.path().join("x64/a.sys")).unwrap(), large);
            assert_eq!(fs::read(out.path().join("x64/b/c")).unwrap(), b"c");
            for len in (0..bytes.len()).step_by(11) {
                fs::write(&path, &bytes[..len]).unwrap();
                let out = tempfile::tempdir().unwrap();
                let found = unpack(&path, kind, out.path());
                assert!(found.is_err(), "{kind:?} {len}: {found:?}");
            }
        }
        for name in ["../x", "a/../../x", "c:\\x", ".."] {
            for (bytes, kind) in
                [(zip_of(&[(name, b"x")]), ArchiveKind::Zip), (cab_of(&[(name, b"x")]), ArchiveKind::Cab)]
            {
                fs::write(&path, bytes).unwrap();
                let out = tempfile::tempdir().unwrap();
                let error = unpack(&path, kind, out.path()).unwrap_err();
                assert!(matches!(error, Error::Refused { .. }), "{name}: {error}");
            }
        }
        fs::write(&path, b"text").unwrap();
        assert_eq!(ArchiveKind::of(&path).unwrap(), None);
    }
}
