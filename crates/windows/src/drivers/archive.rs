//! Driver packs in archives: CAB and ZIP files unpacked into a directory, so that packages are found in it as in any other.
//! Files come under the names they have in the archive; names that would leave the directory are refused.

use std::fs;
use std::io::{Read, Seek, Write as _};
use std::path::{Path, PathBuf};

use super::cabinet;
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
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    files_of(file, kind, path, &mut |name, content| out.put(name, content))?;
    Ok(out.files)
}

/// Gives every file of an archive to `put`. `path` is for messages.
fn files_of<S: Read + Seek>(
    source: S,
    kind: ArchiveKind,
    path: &Path,
    put: &mut dyn FnMut(&str, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    match kind {
        ArchiveKind::Cab => cabinet::read(source, put, &|found| damaged(path, &found)),
        ArchiveKind::Zip => files_of_zip(source, path, put),
    }
}

fn files_of_zip<S: Read + Seek>(
    source: S,
    path: &Path,
    put: &mut dyn FnMut(&str, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    let damaged = |error: zip::result::ZipError| damaged(path, &error.to_string());
    let mut archive = zip::ZipArchive::new(source).map_err(damaged)?;
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
        put(&name, &mut entry)?;
    }
    Ok(())
}

/// Body for fuzzing: what is in an archive is read, up to a bound.
pub(crate) fn fuzz(bytes: &[u8]) {
    const MOST: u64 = 4 << 20;
    for kind in [ArchiveKind::Cab, ArchiveKind::Zip] {
        let path = Path::new("archive");
        let mut read = 0u64;
        let _ = files_of(std::io::Cursor::new(bytes), kind, path, &mut |_, content| {
            let limit = MOST.saturating_sub(read);
            let len = std::io::copy(&mut content.take(limit), &mut std::io::sink());
            read = read.saturating_add(len.map_err(|error| damaged(path, &error.to_string()))?);
            Ok(())
        });
    }
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
        // Which of two the INF file means cannot be told. Names that differ in case only are two files here and one in Windows; the
        // second is refused by itself there.
        let mut to = match fs::File::create_new(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(refused("two files of one name".to_owned()));
            }
            to => to.map_err(Error::io("create", &path))?,
        };
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

    /// Counts what is read, and how.
    struct Counted {
        inner: std::io::Cursor<Vec<u8>>,
        bytes: std::rc::Rc<std::cell::Cell<u64>>,
    }

    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = self.inner.read(buffer)?;
            self.bytes.set(self.bytes.get() + u64::try_from(len).unwrap());
            Ok(len)
        }
    }

    impl Seek for Counted {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            self.inner.seek(to)
        }
    }

    #[test]
    fn a_cabinet_is_decoded_once_however_many_files_it_has() {
        let mut random = gravure_testkit::Random::new(1);
        let contents: Vec<(String, Vec<u8>)> = (0..100)
            .map(|number| {
                // What does not compress makes the count of bytes that of the files.
                let mut content = vec![0; 20_000 + number];
                random.fill(&mut content);
                (format!("driver{number}.sys"), content)
            })
            .collect();
        let files: Vec<(&str, &[u8])> =
            contents.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let cab = cab_of(&files);
        let len = u64::try_from(cab.len()).unwrap();
        let bytes = std::rc::Rc::new(std::cell::Cell::new(0));
        let source = Counted { inner: std::io::Cursor::new(cab), bytes: bytes.clone() };
        let mut found = Vec::new();
        let path = Path::new("pack.cab");
        files_of(source, ArchiveKind::Cab, path, &mut |name, content| {
            let mut out = Vec::new();
            content.read_to_end(&mut out).unwrap();
            found.push((name.to_owned(), out));
            Ok(())
        })
        .unwrap();
        assert!(found == contents, "files are as they were packed");
        assert!(bytes.get() < len + (64 << 10), "{} bytes read of a cabinet of {len}", bytes.get());
    }

    /// The decoder itself steps out of its list of blocks for these.
    #[test]
    fn a_file_that_lies_behind_its_folder_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("pack");
        let mut cab = cab_of(&[("a.inf", b"[Version]")]);
        let file = usize::try_from(u32::from_le_bytes(cab[16..20].try_into().unwrap())).unwrap();
        for (at, value) in [(file + 4, 70_000u32), (file, 70_000), (file + 4, u32::MAX)] {
            let before = cab.clone();
            cab[at..at + 4].copy_from_slice(&value.to_le_bytes());
            fs::write(&path, &cab).unwrap();
            let out = tempfile::tempdir().unwrap();
            let error = unpack(&path, ArchiveKind::Cab, out.path()).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            cab = before;
        }
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("pack");
        fs::write(&path, cab_of(&[("x\\a.inf", b"one"), ("x\\a.inf", b"two")])).unwrap();
        let out = tempfile::tempdir().unwrap();
        let error = unpack(&path, ArchiveKind::Cab, out.path()).unwrap_err();
        assert!(error.to_string().contains("two files of one name"), "{error}");
    }
}
