//! What an installation of Windows is known by: the SID of the machine, which its accounts and access lists are made of, and its name
//! (windows-servicing 5.2). Copies of an installation that was not generalised have the SID of the first one.
//!
//! The SID stands twice: at the end of the value `V` of the account domain in SAM, and as the account domain's SID in SECURITY.

use gravure_hive::{Data, Error as HiveError, Hive};
use gravure_io::ReadAt;
use gravure_model::inventory::InstalledWindows;
use gravure_nttypes::Sid;

use crate::Error;
use crate::answer::AnswerSettings;
use crate::image::{HiveFile, WindowsImage};
use crate::names::check_computer_name;
use crate::system::{SetupState, System, computer_name_keys};

/// Largest hives read: SAM and SECURITY of machines with thousands of accounts have some megabytes, SYSTEM reaches 100 MB.
const MAX_SMALL_HIVE_BYTES: u64 = 64 << 20;
const MAX_SYSTEM_BYTES: u64 = 512 << 20;
/// A SID of a machine: revision, count, authority, four sub-authorities.
const SID_BYTES: usize = 24;
/// Where SAM and SECURITY have it.
const ACCOUNT_DOMAIN: &str = "SAM\\Domains\\Account";
const ACCOUNT_DOMAIN_SID: &str = "Policy\\PolAcDmS";

/// Reads the SID out of a hive.
type Reader = fn(&Hive) -> Result<Option<Sid>, HiveError>;
/// Hives that have it, the one that Windows goes by first.
const READERS: [(HiveFile, Reader); 2] = [(HiveFile::Sam, of_sam), (HiveFile::Security, of_security)];

/// By the hive SAM; `None` when it does not say.
fn of_sam(hive: &Hive) -> Result<Option<Sid>, HiveError> {
    let Some(key) = hive.find(ACCOUNT_DOMAIN)? else { return Ok(None) };
    let Some(data) = key.data("V")? else { return Ok(None) };
    let start = data.bytes.len().checked_sub(SID_BYTES);
    Ok(sid(start.and_then(|start| data.bytes.get(start..))))
}

/// By the hive SECURITY.
fn of_security(hive: &Hive) -> Result<Option<Sid>, HiveError> {
    let Some(key) = hive.find(ACCOUNT_DOMAIN_SID)? else { return Ok(None) };
    Ok(sid(key.data("")?.as_ref().map(|data| data.bytes.as_slice())))
}

fn sid(bytes: Option<&[u8]>) -> Option<Sid> {
    bytes.and_then(|bytes| Sid::parse(bytes).ok()).filter(Sid::is_of_domain)
}

impl WindowsImage<'_> {
    /// The SID of the machine that the image is of; `None` when it has none. Setup of a generalised image makes a new one.
    pub fn machine_sid(&mut self) -> Result<Option<Sid>, Error> {
        for (file, read) in READERS {
            if !self.has_hive(file) {
                continue;
            }
            let found = read(self.hive(file)?.hive()).map_err(Error::hive(file.path()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Gives the machine a name. A system that goes through setup takes it from its answer file; in the registry of one in use it
    /// stands three times. What the members of a domain know each other by is not changed.
    pub fn name_machine(&mut self, name: &str, system: &System) -> Result<(), Error> {
        check_computer_name(name)?;
        if system.setup != SetupState::InUse {
            let settings =
                AnswerSettings { computer_name: Some(name.to_owned()), ..AnswerSettings::default() };
            return self.apply_settings(&settings, system).map(drop);
        }
        let (key, value) = computer_name_keys(&system.control_set);
        // As Windows' own dialog writes it: NetBIOS names are upper-case.
        self.set_value(HiveFile::System, &key, value, &Data::sz(&name.to_ascii_uppercase()))?;
        let key = system.control("Services\\Tcpip\\Parameters");
        for value in ["Hostname", "NV Hostname"] {
            self.set_value(HiveFile::System, &key, value, &Data::sz(name))?;
        }
        Ok(())
    }
}

/// Directories that servicing looks into on every Windows, where they are: hives, drivers, answer files, our own. Who reads them before
/// ([`WindowsImage::open_partial`]) is seldom asked for more.
pub const SERVICED_DIRECTORIES: [&str; 9] = [
    "Windows\\System32\\config",
    "Windows\\System32\\drivers",
    "Windows\\System32\\Sysprep",
    "Windows\\INF",
    "Windows\\Panther\\Unattend",
    "Windows\\Setup\\Scripts",
    "Windows\\Gravure\\changes",
    "Windows\\Gravure\\Drivers",
    "Users\\Default",
];

/// The Windows installed on a volume, by what its hives say as they stand: logs are not applied, as neither name nor SID change in
/// daily use. `None` when there is no NTFS or no Windows on it. `partition` is how the volume is called in the answer.
pub fn installed_on(volume: &dyn ReadAt, partition: &str) -> Result<Option<InstalledWindows>, Error> {
    let failed = |what: &str| {
        let path = format!("{partition}: {what}");
        move |source: gravure_ntfs::Error| Error::Content { path, source: Box::new(source) }
    };
    if volume.read_vec_at(3, 8).ok().as_deref() != Some(b"NTFS    ".as_slice()) {
        return Ok(None);
    }
    let ntfs = gravure_ntfs::Volume::open(volume).map_err(failed("NTFS volume"))?;
    let hive = |file: HiveFile, max: u64| -> Result<Option<Hive>, Error> {
        let bytes = ntfs.read_file(volume, file.path(), max).map_err(failed(file.path()))?;
        bytes.map(|bytes| Hive::parse(bytes).map_err(Error::hive(file.path()))).transpose()
    };
    let Some(system) = hive(HiveFile::System, MAX_SYSTEM_BYTES)? else { return Ok(None) };
    let mut machine_sid = None;
    for (file, read) in READERS {
        if machine_sid.is_none()
            && let Some(hive) = hive(file, MAX_SMALL_HIVE_BYTES)?
        {
            machine_sid = read(&hive).map_err(Error::hive(file.path()))?;
        }
    }
    let computer_name = computer_name(&system).map_err(Error::hive(HiveFile::System.path()))?;
    Ok(Some(InstalledWindows {
        partition: partition.to_owned(),
        computer_name,
        machine_sid: machine_sid.map(|sid| sid.to_string()),
    }))
}

/// The name by the control set that the next start uses.
fn computer_name(system: &Hive) -> Result<Option<String>, HiveError> {
    let Some(select) = system.find("Select")? else { return Ok(None) };
    for value in ["Default", "Current"] {
        let Some(number) = select.data(value)?.and_then(|data| data.as_number()) else { continue };
        let (key, value) = computer_name_keys(&format!("ControlSet{number:03}"));
        let Some(key) = system.find(&key)? else { continue };
        let name = key.data(value)?.and_then(|data| data.as_text()).map(|text| text.to_string());
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
