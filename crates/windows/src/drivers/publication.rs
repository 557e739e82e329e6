//! What the driver database says of a published package (windows-servicing 1.2), worked out from its INF file. Nothing is
//! written here: the records are compared with those of real registries, and put into an image by `inject`.
//!
//! Types of values below `Configurations` have more than the registry's type in them: 0x20000 says that a value that is
//! there stays, 0x40000 that a list is appended to (seen in real hives: `AutoRun` of cdrom.inf, flags 0x10003, is of type
//! 0x20004; `AutoRunAlwaysDisable`, flags 0x10008, of type 0x40007).

use std::collections::BTreeMap;

use gravure_hive::{Data, ValueType};
use gravure_inf::{Arch, Inf, Install, Model, Place, RegData, RegEntry, Root, Service, Target, reg_flags};
use gravure_nttypes::{FileTime, Guid, SecurityDescriptor};

use super::database::{DATABASE, VersionRecord};

/// `SignerScore` of a package that Microsoft's hardware program signed.
const SIGNER_SCORE_HARDWARE: u32 = 0x0d00_0005;
/// `SignerScore` of a package with another signature.
const SIGNER_SCORE_OTHER: u32 = 0x0f00_0000;
const STATUS_FLAGS: u32 = 0x12;
/// Bit of `StatusFlags`: a configuration has `IncludedInfs`. In a real hive of Windows 10 all 54 such packages have it.
const STATUS_INCLUDES: u32 = 0x100;
/// Bits of `ConfigScope`: the install section itself, `.HW`, `.Services`.
const SCOPE_DRIVER: u32 = 1;
const SCOPE_DEVICE: u32 = 2;
const SCOPE_SERVICES: u32 = 4;
/// Beyond this another version of Windows means something else by it (0xf7f was seen).
pub(super) const MAX_KNOWN_SCOPE: u32 = 0x1ff;
/// Property that holds the number under which a package was signed, and the type of its value.
const SUBMISSION_PROPERTY: &str = "Properties\\{4da162c1-5eb1-4140-a444-5064c9814e76}\\0009";
const SUBMISSION_TYPE: ValueType = ValueType(0xffff_0012);
/// Sets of properties of a device, and of its driver, below `Properties`.
const DEVICE_PROPERTIES: &str = "{a45c254e-df1c-4efd-8020-67d146a850e0}";
const DRIVER_PROPERTIES: &str = "{a8b865dd-2e3d-4094-ad97-e593a70c75d6}";
/// Types of their values: `DEVPROP_TYPE_UINT32`, `_STRING`, `_SECURITY_DESCRIPTOR`.
const PROPERTY_NUMBER: ValueType = ValueType(0xffff_0007);
const PROPERTY_STRING: ValueType = SUBMISSION_TYPE;
const PROPERTY_SECURITY: ValueType = ValueType(0xffff_0013);
/// Value types below `Configurations`.
const KEEP_WHAT_IS_THERE: u32 = 0x2_0000;
const APPEND_TO_LIST: u32 = 0x4_0000;

/// A key, and a value in it unless the key alone is meant. Keys are from the root of the hive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordEntry {
    pub(super) key: String,
    pub(super) value: Option<(String, Data)>,
}

/// A package as it is to be published.
#[derive(Debug, Clone)]
pub(super) struct Publication<'a> {
    pub(super) inf: &'a Inf,
    pub(super) target: Target,
    /// Name in `Windows\INF`.
    pub(super) published: String,
    /// Name of the package's own file.
    pub(super) original: String,
    /// Name in the driver store.
    pub(super) package: String,
    /// Catalogue, by its name in the package.
    pub(super) catalog: Option<String>,
    /// Who signed it.
    pub(super) signer: Option<String>,
    /// Microsoft's hardware program signed it.
    pub(super) is_hardware_signed: bool,
    /// The number under which it was signed.
    pub(super) submission: Option<String>,
    /// Where it came from, for people.
    pub(super) origin: String,
    pub(super) now: FileTime,
    /// `ConfigScope` as the image's other packages have it; `None` where it follows from the sections of each.
    pub(super) config_scope: Option<u32>,
    /// Models that are published, with what installing each does.
    pub(super) models: Vec<(Model, Install)>,
}

impl Publication<'_> {
    /// Entries of the database, for one hive.
    pub(super) fn entries(&self) -> Vec<RecordEntry> {
        let mut out = Vec::new();
        self.inf_file(&mut out);
        self.device_ids(&mut out);
        self.package_values(&mut out);
        let package = format!("{DATABASE}\\DriverPackages\\{}", self.package);
        let mut done = Vec::new();
        for (_, install) in &self.models {
            if !done.contains(&&install.section) {
                done.push(&install.section);
                self.configuration(
                    &format!("{package}\\Configurations\\{}", install.section),
                    install,
                    &mut out,
                );
            }
        }
        let mut strings = BTreeMap::new();
        for (model, install) in &self.models {
            let description = self.token(&self.raw_description(model), &mut strings);
            let manufacturer = self.token(&self.raw_manufacturer(model), &mut strings);
            for id in model.ids() {
                let key = format!("{package}\\Descriptors\\{id}");
                set(&mut out, &key, "Configuration", Data::sz(&install.section));
                set(&mut out, &key, "Manufacturer", Data::sz(&manufacturer));
                set(&mut out, &key, "Description", Data::sz(&description));
            }
        }
        for (token, text) in &strings {
            set(&mut out, &format!("{package}\\Strings"), token, Data::sz(text));
        }
        out
    }

    fn inf_file(&self, out: &mut Vec<RecordEntry>) {
        let key = format!("{DATABASE}\\DriverInfFiles\\{}", self.published);
        set(out, &key, "", Data::multi_sz([&self.package]));
        set(out, &key, "Active", Data::sz(&self.package));
        let mut sections: Vec<&str> = Vec::new();
        for (_, install) in &self.models {
            if !sections.contains(&install.section.as_str()) {
                sections.push(&install.section);
            }
        }
        set(out, &key, "Configurations", Data::multi_sz(sections));
    }

    /// `DeviceIds`: one row an ID, whatever number of models name it.
    fn device_ids(&self, out: &mut Vec<RecordEntry>) {
        let mut rows: BTreeMap<String, (String, [u8; 4])> = BTreeMap::new();
        let mut add = |id: &str, mask: u8, score: u8, index: u8| {
            let row = rows.entry(id.to_uppercase()).or_insert_with(|| (id.to_owned(), [0, score, index, 0]));
            let [known_mask, known_score, known_index, _] = &mut row.1;
            *known_index = if mask & 2 != 0 && *known_mask & 2 != 0 {
                (*known_index).min(index)
            } else {
                (*known_index).max(index)
            };
            *known_mask |= mask;
            *known_score = (*known_score).min(score);
        };
        for (model, install) in &self.models {
            if let Some(id) = &model.hardware_id {
                add(id, 1, install.feature_score, 0);
            }
            for (id, index) in model.compatible_ids.iter().zip(0u8..=u8::MAX) {
                add(id, 2, install.feature_score, index);
            }
        }
        for (id, row) in rows.values() {
            set(out, &format!("{DATABASE}\\DeviceIds\\{id}"), &self.published, Data::binary(row.to_vec()));
        }
        let none = Data { kind: ValueType::NONE, bytes: Vec::new() };
        set(out, &format!("{DATABASE}\\DeviceIds\\{{{}}}", self.class()), &self.published, none);
    }

    fn package_values(&self, out: &mut Vec<RecordEntry>) {
        let key = format!("{DATABASE}\\DriverPackages\\{}", self.package);
        let version = self.inf.version();
        let record = VersionRecord {
            is_inbox: false,
            class: self.class(),
            date: version.date.and_then(filetime_of).unwrap_or(0),
            version: version.version.map_or([0; 4], |version| version.0),
        };
        let architecture = architecture_number(self.target.arch);
        set(out, &key, "", Data::sz(&self.published));
        set(out, &key, "Version", Data::binary(record.to_bytes(architecture)));
        if let Some(provider) = &version.provider {
            set(out, &key, "Provider", Data::sz(provider));
        }
        set(out, &key, "InfName", Data::sz(&self.original));
        set(out, &key, "OemPath", Data::sz(&self.origin));
        set(out, &key, "ImportDate", Data::binary(self.now.0.to_le_bytes().to_vec()));
        if let Some(catalog) = &self.catalog {
            set(out, &key, "Catalog", Data::sz(catalog));
        }
        if let Some(signer) = &self.signer {
            set(out, &key, "SignerName", Data::sz(signer));
        }
        let score = if self.is_hardware_signed { SIGNER_SCORE_HARDWARE } else { SIGNER_SCORE_OTHER };
        set(out, &key, "SignerScore", Data::dword(score));
        let includes = self.models.iter().any(|(_, install)| !install.includes.is_empty());
        let status = if includes { STATUS_FLAGS | STATUS_INCLUDES } else { STATUS_FLAGS };
        set(out, &key, "StatusFlags", Data::dword(status));
        if let Some(number) = &self.submission {
            let data = Data { kind: SUBMISSION_TYPE, ..Data::sz(number) };
            set(out, &format!("{key}\\{SUBMISSION_PROPERTY}"), "", data);
        }
        if let Some(id) = &version.extension_id {
            set(out, &key, "ExtensionId", Data::binary(id.0.to_vec()));
        }
    }

    fn configuration(&self, key: &str, install: &Install, out: &mut Vec<RecordEntry>) {
        if let Some(service) = install.function_driver() {
            set(out, key, "Service", Data::sz(&service.name));
        }
        set(
            out,
            key,
            "ConfigScope",
            Data::dword(self.config_scope.unwrap_or_else(|| config_scope_of(install))),
        );
        set(out, key, "ConfigFlags", Data::dword(0));
        if !install.includes.is_empty() {
            set(out, key, "IncludedInfs", Data::multi_sz(&install.includes));
        }
        if !install.exclude_ids.is_empty() {
            set(out, key, "ExcludeIds", Data::multi_sz(&install.exclude_ids));
        }
        for (entries, part) in [(&install.hardware_registry, Part::Device), (&install.registry, Part::Driver)]
        {
            let mut plain = Vec::new();
            for entry in entries {
                match kept_apart(entry, part) {
                    None => plain.push(entry),
                    Some(Apart::At(below, name, data)) => {
                        set(out, format!("{key}\\{below}").trim_end_matches('\\'), &name, data);
                    }
                    // Such packages are not published. What a controller needs to start is, and has the rest when it is installed.
                    Some(Apart::Unknown) => {}
                }
            }
            relative(&format!("{key}\\{}", part.key()), plain, out);
        }
        for service in &install.services {
            relative(&format!("{key}\\Services\\{}", service.name), &service.registry, out);
        }
    }

    fn class(&self) -> Guid {
        self.inf.version().class_guid.unwrap_or_default()
    }

    /// The left side of a model's line, with its token.
    fn raw_description(&self, model: &Model) -> String {
        let line = self
            .inf
            .section(&model.section)
            .and_then(|section| section.lines.iter().find(|line| line.number == model.line));
        let raw = line.and_then(|line| line.key.clone().or_else(|| line.values.first().cloned()));
        raw.map_or_else(|| model.description.clone(), |raw| raw.trim().to_owned())
    }

    fn raw_manufacturer(&self, model: &Model) -> String {
        let lines = self.inf.section("Manufacturer").into_iter().flat_map(|section| &section.lines);
        let raw = lines
            .map(|line| line.key.as_deref().or(line.values.first().map(String::as_str)).unwrap_or("").trim())
            .find(|raw| self.inf.text(raw) == model.manufacturer);
        raw.map_or_else(|| model.manufacturer.clone(), str::to_owned)
    }

    /// A token in lower case, whose text is then needed; anything else with its tokens replaced.
    fn token(&self, raw: &str, strings: &mut BTreeMap<String, String>) -> String {
        let name = raw.strip_prefix('%').and_then(|rest| rest.strip_suffix('%'));
        match name.filter(|name| !name.is_empty() && !name.contains('%')) {
            Some(name) => {
                let lower = name.to_lowercase();
                strings.entry(lower.clone()).or_insert_with(|| self.inf.text(raw).into_owned());
                format!("%{lower}%")
            }
            None => self.inf.text(raw).into_owned(),
        }
    }
}

/// `ConfigScope` of a package on Windows 10: which sections its configuration has. In a real hive every configuration with a service has
/// the bit 4, all but three with settings of the device the bit 2 (`the_scope_of_a_configuration_says_which_sections_it_has`); 8 and
/// 0x100 stand for interfaces and more, which what is published here has none of.
fn config_scope_of(install: &Install) -> u32 {
    let of_device = if install.hardware_registry.is_empty() { 0 } else { SCOPE_DEVICE };
    let of_services = if install.services.is_empty() { 0 } else { SCOPE_SERVICES };
    SCOPE_DRIVER | of_device | of_services
}

/// A service's values as Windows writes them; its key is theirs to choose.
pub(super) fn service_values(
    inf: &Inf,
    service: &Service,
    published: &str,
    image_path: Option<&str>,
) -> Vec<(String, Data)> {
    let mut out = vec![
        ("Type".to_owned(), Data::dword(service.kind.unwrap_or(1))),
        ("Start".to_owned(), Data::dword(service.start.unwrap_or(3))),
        ("ErrorControl".to_owned(), Data::dword(service.error_control.unwrap_or(1))),
    ];
    if let Some(path) = image_path {
        out.push(("ImagePath".to_owned(), Data::expand_sz(path)));
    }
    if let Some(group) = &service.group {
        out.push(("Group".to_owned(), Data::sz(group)));
    }
    if !service.dependencies.is_empty() {
        let (groups, services): (Vec<&String>, Vec<&String>) =
            service.dependencies.iter().partition(|name| name.starts_with('+'));
        if !services.is_empty() {
            out.push(("DependOnService".to_owned(), Data::multi_sz(services)));
        }
        if !groups.is_empty() {
            let bare = groups.iter().map(|name| name.trim_start_matches('+'));
            out.push(("DependOnGroup".to_owned(), Data::multi_sz(bare)));
        }
    }
    if let Some(flags) = service.boot_flags {
        out.push(("BootFlags".to_owned(), Data::dword(flags)));
    }
    if let Some(name) = &service.display_name {
        let raw = inf.section(&service.section).and_then(|section| {
            inf.entries(section, "DisplayName").next().and_then(|line| line.values.first())
        });
        let text = match raw.map(|raw| raw.trim()) {
            Some(raw) if raw.len() > 2 && raw.starts_with('%') && raw.ends_with('%') => {
                format!("@{published},{raw};{name}")
            }
            _ => name.clone(),
        };
        out.push(("DisplayName".to_owned(), Data::sz(&text)));
    }
    out
}

/// The part of an installation whose key entries are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The device, `.HW`.
    Device,
    /// Its driver.
    Driver,
}

impl Part {
    fn key(self) -> &'static str {
        match self {
            Self::Device => "Device",
            Self::Driver => "Driver",
        }
    }
}

/// A value that Windows does not keep with the others of its part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Apart {
    /// Key below the configuration, name and data.
    At(String, String, Data),
    /// Where it is kept, or how, is not known.
    Unknown,
}

/// Whether a value is a property of the device or of its driver, or names filters (WDD "inf-addreg-directive"). Places and types are those of
/// all configurations of two real hives: of such values none is below `Device` there, and page providers none below `Driver`.
pub(super) fn kept_apart(entry: &RegEntry, part: Part) -> Option<Apart> {
    let data = entry
        .data
        .as_ref()
        .filter(|_| entry.root == Root::Relative && entry.key.trim_matches('\\').is_empty())?;
    let name = entry.value.to_lowercase();
    let property = |set: &str, number: &str, data: Option<Data>| match data {
        Some(data) => Apart::At(format!("Properties\\{set}\\{number}"), String::new(), data),
        None => Apart::Unknown,
    };
    let number = || match data {
        RegData::Dword(number) => Some(Data { kind: PROPERTY_NUMBER, bytes: number.to_le_bytes().to_vec() }),
        _ => None,
    };
    let string = || match data {
        RegData::Sz(text) => Some(Data { kind: PROPERTY_STRING, ..Data::sz(text) }),
        _ => None,
    };
    let security = || match data {
        RegData::Sz(text) => {
            let bytes = SecurityDescriptor::from_sddl(text).ok()?.to_bytes().ok()?;
            Some(Data { kind: PROPERTY_SECURITY, bytes })
        }
        _ => None,
    };
    let is_odd = entry.flags & (reg_flags::NO_CLOBBER | reg_flags::APPEND) != 0;
    let apart = match (part, name.as_str()) {
        (Part::Device, "upperfilters" | "lowerfilters") => match data {
            RegData::MultiSz(names) => Apart::At(String::new(), entry.value.clone(), Data::multi_sz(names)),
            RegData::Sz(name) => Apart::At(String::new(), entry.value.clone(), Data::multi_sz([name])),
            _ => Apart::Unknown,
        },
        (Part::Device, "security") => property(DEVICE_PROPERTIES, "0019", security()),
        (Part::Device, "devicecharacteristics") => property(DEVICE_PROPERTIES, "001D", number()),
        (Part::Device, "removalpolicy") => property(DEVICE_PROPERTIES, "0023", number()),
        (Part::Device, "devicetype" | "exclusive" | "friendlyname" | "uinumberdescformat") => Apart::Unknown,
        (Part::Driver, "enumproppages32") => property(DRIVER_PROPERTIES, "000A", string()),
        (Part::Driver, "resourcepickertags" | "resourcepickerexceptions") => Apart::Unknown,
        _ => return None,
    };
    Some(if is_odd { Apart::Unknown } else { apart })
}

/// Entries below `HKR`.
fn relative<'a>(key: &str, entries: impl IntoIterator<Item = &'a RegEntry>, out: &mut Vec<RecordEntry>) {
    for entry in entries.into_iter().filter(|entry| entry.root == Root::Relative) {
        let below = entry.key.trim_matches('\\');
        let key = if below.is_empty() { key.to_owned() } else { format!("{key}\\{below}") };
        match &entry.data {
            None => out.push(RecordEntry { key, value: None }),
            Some(data) => {
                let mut data = data_of(data);
                if entry.flags & reg_flags::NO_CLOBBER != 0 {
                    data.kind = ValueType(data.kind.0 | KEEP_WHAT_IS_THERE);
                }
                if entry.flags & reg_flags::APPEND != 0 {
                    data.kind = ValueType(data.kind.0 | APPEND_TO_LIST);
                }
                out.push(RecordEntry { key, value: Some((entry.value.clone(), data)) });
            }
        }
    }
}

/// Data of an entry as the registry holds it.
pub(super) fn data_of(data: &RegData) -> Data {
    match data {
        RegData::Sz(text) => Data::sz(text),
        RegData::ExpandSz(text) => Data::expand_sz(text),
        RegData::MultiSz(texts) => Data::multi_sz(texts),
        RegData::Dword(number) => Data::dword(*number),
        RegData::Qword(number) => Data::qword(*number),
        RegData::Binary(bytes) => Data::binary(bytes.clone()),
        RegData::Other(kind, bytes) => Data { kind: ValueType(*kind), bytes: bytes.clone() },
    }
}

/// File name of a place.
pub(super) fn file_name(place: &Place) -> &str {
    let path = place.path();
    path.rsplit_once('\\').map_or(path, |(_, name)| name)
}

fn set(out: &mut Vec<RecordEntry>, key: &str, name: &str, data: Data) {
    out.push(RecordEntry { key: key.to_owned(), value: Some((name.to_owned(), data)) });
}

/// `PROCESSOR_ARCHITECTURE_*`.
fn architecture_number(arch: Arch) -> u16 {
    match arch {
        Arch::X86 => 0,
        Arch::Arm => 5,
        Arch::Ia64 => 6,
        Arch::Amd64 => 9,
        Arch::Arm64 => 12,
    }
}

fn filetime_of(date: gravure_inf::Date) -> Option<u64> {
    let day = jiff::civil::Date::new(
        i16::try_from(date.year).ok()?,
        i8::try_from(date.month).ok()?,
        i8::try_from(date.day).ok()?,
    );
    let time = day.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(FileTime::from_unix(time.timestamp().as_second(), 0).0)
}

#[cfg(test)]
mod tests;
