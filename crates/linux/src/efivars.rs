//! Firmware variables through efivarfs: read, write, delete. What the bytes of a variable mean is not known here.
//!
//! The kernel protects variables with the immutable flag, since deleting some bricks some boards; it is lifted for the
//! one variable that is written and for nothing else.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::IFlags;

use crate::{Error, sysfs};

/// Where efivarfs is mounted.
pub const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// GUID of the variables that the UEFI specification defines, `BootOrder` and `SecureBoot` among them.
pub const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// GUID of the variables that say which programs firmware starts: `db`, `dbx`.
pub const SECURITY_DATABASE: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";

/// Kept without power, visible before and after the operating system starts: what boot variables are.
pub const NON_VOLATILE_BOOT_RUNTIME: u32 = 7;
/// Largest variable read. Firmware stores some tens of KiB in all.
const MAX_VARIABLE_BYTES: u64 = 1 << 20;

/// A store of firmware variables.
#[derive(Debug, Clone)]
pub struct EfiVariables {
    root: PathBuf,
}

/// A variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EfiValue {
    /// `EFI_VARIABLE_*` bits.
    pub attributes: u32,
    /// Content.
    pub data: Vec<u8>,
}

impl EfiVariables {
    /// The machine's own; `None` when it was not started by UEFI or efivarfs is not mounted.
    pub fn open() -> Option<Self> {
        Self::at(Path::new(EFIVARS))
    }

    /// Those below `root`; `None` when there is no such directory or it is empty.
    pub fn at(root: &Path) -> Option<Self> {
        let filled = sysfs::names(root).is_ok_and(|names| !names.is_empty());
        filled.then(|| Self { root: root.to_owned() })
    }

    /// Names of all variables as `name`, `guid`, sorted.
    pub fn list(&self) -> Result<Vec<(String, String)>, Error> {
        let names = sysfs::names(&self.root)?;
        // The GUID has 36 characters and stands after the last hyphen that is not its own.
        Ok(names
            .iter()
            .filter_map(|file| {
                let at = file.len().checked_sub(37).filter(|at| file.is_char_boundary(*at))?;
                let (name, guid) = file.split_at(at);
                Some((name.to_owned(), guid.strip_prefix('-')?.to_owned()))
            })
            .collect())
    }

    /// Reads a variable; `None` when it does not exist.
    pub fn read(&self, name: &str, guid: &str) -> Result<Option<EfiValue>, Error> {
        let path = self.path(name, guid)?;
        let bytes = match sysfs::read_bounded(&path, MAX_VARIABLE_BYTES) {
            Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(None),
            other => other?,
        };
        let Some((attributes, data)) = bytes.split_first_chunk::<4>() else {
            return Err(Error::Corrupt {
                what: "firmware variable",
                on: name.to_owned(),
                expected: "at least 4 bytes of attributes",
                found: format!("{} bytes", bytes.len()),
            });
        };
        Ok(Some(EfiValue { attributes: u32::from_le_bytes(*attributes), data: data.to_vec() }))
    }

    /// Writes a variable, replacing an old value.
    pub fn write(&self, name: &str, guid: &str, value: &EfiValue) -> Result<(), Error> {
        let path = self.path(name, guid)?;
        if value.data.is_empty() {
            // The firmware takes an empty value for a deletion.
            return Err(Error::Unsupported { what: "empty firmware variable", value: name.to_owned() });
        }
        lift_protection(&path)?;
        let bytes = [&value.attributes.to_le_bytes()[..], &value.data].concat();
        // One write call is one SetVariable; O_TRUNC is not supported and not needed.
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::on_path("open firmware variable", &path))?;
        match file.write(&bytes).map_err(Error::on_path("write firmware variable", &path))? {
            len if len == bytes.len() => Ok(()),
            len => {
                let source = std::io::Error::other(format!("{len} of {} bytes taken", bytes.len()));
                Err(Error::io("write firmware variable", path.display().to_string(), source))
            }
        }
    }

    /// Deletes a variable; an absent one is no error.
    pub fn delete(&self, name: &str, guid: &str) -> Result<(), Error> {
        let path = self.path(name, guid)?;
        lift_protection(&path)?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::on_path("delete firmware variable", &path)),
        }
    }

    fn path(&self, name: &str, guid: &str) -> Result<PathBuf, Error> {
        let sound = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if name.is_empty() || guid.len() != 36 || !sound(name) || !sound(guid) {
            return Err(Error::Unsupported {
                what: "firmware variable name",
                value: format!("{name}-{guid}"),
            });
        }
        Ok(self.root.join(format!("{name}-{guid}")))
    }
}

/// Clears the immutable flag of an existing variable. A directory without such flags (tests) is left as it is.
fn lift_protection(path: &Path) -> Result<(), Error> {
    let what = "lift protection of";
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::on_path(what, path))?,
    };
    let flags = match rustix::fs::ioctl_getflags(&file) {
        Err(rustix::io::Errno::NOTTY | rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        other => other.map_err(Error::on_path(what, path))?,
    };
    if !flags.contains(IFlags::IMMUTABLE) {
        return Ok(());
    }
    rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE).map_err(Error::on_path(what, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, EfiVariables) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join(format!("SecureBoot-{GLOBAL}")), [6, 0, 0, 0, 1]).unwrap();
        let store = EfiVariables::at(temp.path()).unwrap();
        (temp, store)
    }

    #[test]
    fn attributes_come_first() {
        let (_temp, store) = store();
        let value = store.read("SecureBoot", GLOBAL).unwrap();
        assert_eq!(value, Some(EfiValue { attributes: 6, data: vec![1] }));
        assert_eq!(store.read("BootNext", GLOBAL).unwrap(), None);
        assert_eq!(store.list().unwrap(), [("SecureBoot".to_owned(), GLOBAL.to_owned())]);
    }

    #[test]
    fn writes_attributes_and_data_as_one_file() {
        let (temp, store) = store();
        let value = EfiValue { attributes: NON_VOLATILE_BOOT_RUNTIME, data: vec![1, 0, 2, 0] };
        store.write("BootOrder", GLOBAL, &value).unwrap();
        let bytes = std::fs::read(temp.path().join(format!("BootOrder-{GLOBAL}"))).unwrap();
        assert_eq!(bytes, [7, 0, 0, 0, 1, 0, 2, 0]);
        store.delete("BootOrder", GLOBAL).unwrap();
        store.delete("BootOrder", GLOBAL).unwrap();
        assert_eq!(store.read("BootOrder", GLOBAL).unwrap(), None);
    }

    #[test]
    fn an_immutable_variable_is_unlocked_first() {
        let (temp, store) = store();
        let path = temp.path().join(format!("SecureBoot-{GLOBAL}"));
        let file = File::open(&path).unwrap();
        let locked = rustix::fs::ioctl_getflags(&file)
            .and_then(|flags| rustix::fs::ioctl_setflags(&file, flags | IFlags::IMMUTABLE));
        if let Err(e) = locked {
            eprintln!("SKIPPED: cannot set the immutable flag here: {e}");
            return;
        }
        store.write("SecureBoot", GLOBAL, &EfiValue { attributes: 7, data: vec![0] }).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [7, 0, 0, 0, 0]);
    }

    #[test]
    fn refuses_names_that_leave_the_directory_and_short_files() {
        let (temp, store) = store();
        assert!(store.read("../x", GLOBAL).is_err());
        assert!(store.read("x", "short").is_err());
        assert!(store.write("x", GLOBAL, &EfiValue { attributes: 7, data: vec![] }).is_err());
        std::fs::write(temp.path().join(format!("Cut-{GLOBAL}")), [1, 2, 3]).unwrap();
        assert!(matches!(store.read("Cut", GLOBAL), Err(Error::Corrupt { .. })));
        assert!(EfiVariables::at(&temp.path().join("absent")).is_none());
    }
}
