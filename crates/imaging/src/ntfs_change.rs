//! Volumes that exist given another label, serial number or size: claimed for it, checked before and after where that matters.

use std::path::Path;

use gravure_io::ReadAt;
use gravure_model::Ctl;
use gravure_ntfs::{
    CheckObserver, Finding, Severity, Strictness, Volume, check, grow, set_label, set_serial,
};
use gravure_nttypes::NtName;

use crate::ntfs_source::ntfs_error;
use crate::volume::{VolumeDevice, VolumeFile};
use crate::{Error, ErrorKind};

/// What became of a volume that was to grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrownVolume {
    /// Bytes of its clusters before.
    pub old_bytes: u64,
    /// The same now.
    pub bytes: u64,
    /// How often the size was changed; 0 when it filled its partition already.
    pub steps: u32,
}

/// Gives the volume at `path`, a partition that is not in use or a file, another label; none when it is empty.
pub fn set_volume_label(path: &Path, label: &NtName) -> Result<(), Error> {
    let device = VolumeFile::open(path, None)?;
    set_label(&device, label).map_err(|error| failed(device.name(), error))
}

/// Gives the volume at `path` another serial number.
pub fn set_volume_serial(path: &Path, serial: u64) -> Result<(), Error> {
    let device = VolumeFile::open(path, None)?;
    set_serial(&device, serial).map_err(|error| failed(device.name(), error))
}

/// Makes the volume at `path` as large as its partition or file; a file is made `size` bytes long first, when that is more than it has.
/// Refused when the volume is damaged, dirty or hibernated. It is checked afterwards.
pub fn grow_volume(path: &Path, size: Option<u64>, ctl: &Ctl) -> Result<GrownVolume, Error> {
    let device = VolumeFile::open(path, None)?;
    refuse_damage(&device, ctl)?;
    if let Some(size) = size {
        if size < device.size() {
            return Err(Error::Usage {
                what: format!("size of {}", device.name()),
                expected: format!("{} bytes, as it has, or more", device.size()),
                found: size.to_string(),
            });
        }
        drop(device);
        return grow_to_end(&VolumeFile::open(path, Some(size))?, ctl);
    }
    grow_to_end(&device, ctl)
}

/// Grows the volume on `device`, which is sound, to its end.
pub fn grow_to_end(device: &dyn VolumeDevice, ctl: &Ctl) -> Result<GrownVolume, Error> {
    let opened = Volume::open(&device).map_err(|error| failed(device.name(), error))?;
    let sector = u64::from(opened.boot().sector_bytes);
    let grown = grow(device, device.size() / sector).map_err(|error| failed(device.name(), error))?;
    device.drop_cache()?;
    if let Some(finding) = first_error(device, ctl)? {
        return Err(damage(device.name(), &finding, ErrorKind::Integrity, "grown volume"));
    }
    let bytes = |clusters: u64| clusters.saturating_mul(grown.cluster_bytes);
    Ok(GrownVolume { old_bytes: bytes(grown.old_clusters), bytes: bytes(grown.clusters), steps: grown.steps })
}

fn refuse_damage(device: &VolumeFile, ctl: &Ctl) -> Result<(), Error> {
    match first_error(device, ctl)? {
        Some(finding) => Err(damage(device.name(), &finding, ErrorKind::Refused, "damaged volume")),
        None => Ok(()),
    }
}

fn damage(name: &str, finding: &Finding, kind: ErrorKind, what: &str) -> Error {
    Error::Other { what: format!("{name}: {what}"), source: finding.to_string().into(), kind }
}

fn first_error(device: &dyn VolumeDevice, ctl: &Ctl) -> Result<Option<Finding>, Error> {
    struct First<'a>(Option<Finding>, &'a Ctl);
    impl CheckObserver for First<'_> {
        fn finding(&mut self, finding: &Finding) {
            if finding.severity == Severity::Error {
                self.0.get_or_insert_with(|| finding.clone());
            }
        }
        fn goes_on(&mut self, _: u32, _: u32) -> bool {
            self.1.check().is_ok()
        }
    }
    let mut first = First(None, ctl);
    let checked = check(&device, Strictness::Usual, &mut first);
    ctl.check()?;
    checked.map_err(|error| failed(device.name(), error))?;
    Ok(first.0)
}

fn failed(name: &str, error: gravure_ntfs::Error) -> Error {
    use gravure_ntfs::Error as Ntfs;
    let kind = match &error {
        Ntfs::Invalid { .. } => ErrorKind::Usage,
        Ntfs::NoRoom { .. } => ErrorKind::Refused,
        Ntfs::Write { .. } => ErrorKind::Io,
        _ => return ntfs_error(name, error),
    };
    Error::Other { what: name.to_owned(), source: Box::new(error), kind }
}
