//! `[Version]`: class, provider, date and version, catalogue (WDD "inf-version-section").

use std::fmt;
use std::str::FromStr;

use gravure_nttypes::Guid;
use serde::{Serialize, Serializer};

use crate::error::{Error, invalid, shown};
use crate::inf::Inf;
use crate::target::Target;

/// Class of extension INFs, which add to a driver that another INF installs.
pub const EXTENSION_CLASS: &str = "e2f84ce7-8efa-411c-aa69-97454ca4cb57";

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Year.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day, 1 to 31.
    pub day: u8,
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Date {
    type Err = Error;

    /// `mm/dd/yyyy`; some files have hyphens for the strokes, some years of two digits.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || invalid("date", "mm/dd/yyyy", format!("\"{}\"", shown(text)));
        let parts: Vec<&str> = text.split(['/', '-']).map(str::trim).collect();
        let [month, day, year] = parts.as_slice() else { return Err(bad()) };
        let number = |text: &str, max: u16| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>().ok().filter(|value| plain && *value <= max).ok_or_else(bad)
        };
        let (month, day) = (number(month, 12)?, number(day, 31)?);
        let year = match (number(year, 9999)?, year.len()) {
            (short, 2) => short.saturating_add(if short < 80 { 2000 } else { 1900 }),
            (year, _) => year,
        };
        if month == 0 || day == 0 {
            return Err(bad());
        }
        let narrow = |value: u16| u8::try_from(value).map_err(|_| bad());
        Ok(Self { year, month: narrow(month)?, day: narrow(day)? })
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A driver's version, `w.x.y.z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DriverVersion(pub [u16; 4]);

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a}.{b}.{c}.{d}")
    }
}

impl FromStr for DriverVersion {
    type Err = Error;

    /// One to four numbers; missing ones are 0.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || invalid("driver version", "w.x.y.z, each at most 65535", format!("\"{}\"", shown(text)));
        let mut out = [0; 4];
        let mut slots = out.iter_mut();
        for part in text.trim().split('.') {
            let plain = part.bytes().all(|b| b.is_ascii_digit());
            *slots.next().ok_or_else(bad)? = part.parse().ok().filter(|_| plain).ok_or_else(bad)?;
        }
        Ok(Self(out))
    }
}

impl Serialize for DriverVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A GUID as text of a document.
pub(crate) fn guid_text<S: Serializer>(guid: &Option<Guid>, serializer: S) -> Result<S::Ok, S::Error> {
    match guid {
        Some(guid) => serializer.collect_str(guid),
        None => serializer.serialize_none(),
    }
}

/// A catalogue that a file names, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Catalog {
    /// `None`, `nt`, or `ntamd64` and the like: what it is for.
    pub decoration: Option<String>,
    /// File name.
    pub file: String,
}

/// `[Version]`, as far as drivers need it. What is missing or cannot be read is `None`; [`Inf::check`] says why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Version {
    /// Name of the device class.
    pub class: Option<String>,
    /// Device class.
    #[serde(serialize_with = "guid_text")]
    pub class_guid: Option<Guid>,
    /// Who made the package.
    pub provider: Option<String>,
    /// Date of `DriverVer`.
    pub date: Option<Date>,
    /// Version of `DriverVer`.
    pub version: Option<DriverVersion>,
    /// `CatalogFile` entries.
    pub catalogs: Vec<Catalog>,
    /// Extension INFs: which extension this is.
    #[serde(serialize_with = "guid_text")]
    pub extension_id: Option<Guid>,
    /// `PnpLockdown=1`: only the installer may change the files.
    pub pnp_lockdown: bool,
}

impl Version {
    /// The catalogue for `target`: the one for its processor, else the one for NT, else the plain one.
    pub fn catalog(&self, target: &Target) -> Option<&str> {
        let of = |decoration: Option<&str>| {
            self.catalogs.iter().find(|catalog| catalog.decoration.as_deref() == decoration)
        };
        let arch = format!("nt{}", target.arch);
        let found = of(Some(&arch)).or_else(|| of(Some("nt"))).or_else(|| of(None));
        found.map(|catalog| catalog.file.as_str())
    }

    /// Whether this is an extension INF.
    pub fn is_extension(&self) -> bool {
        self.class_guid.is_some_and(|guid| guid.to_string() == EXTENSION_CLASS)
    }
}

impl Inf {
    /// Reads `[Version]`.
    pub fn version(&self) -> Version {
        let Some(section) = self.section("Version") else { return Version::default() };
        let text = |key: &str| {
            self.value_of(section, key).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let guid = |key: &str| text(key).and_then(|text| text.parse().ok());
        let mut out = Version {
            class: text("Class"),
            class_guid: guid("ClassGuid"),
            provider: text("Provider"),
            extension_id: guid("ExtensionId"),
            pnp_lockdown: text("PnpLockdown").is_some_and(|text| text == "1"),
            ..Version::default()
        };
        if let Some(line) = self.entries(section, "DriverVer").next() {
            out.date = self.value(line, 0).parse().ok();
            out.version = self.value(line, 1).parse().ok();
        }
        for line in &section.lines {
            let Some(key) = line.key.as_deref().map(str::to_ascii_lowercase) else { continue };
            let Some(rest) = key.strip_prefix("catalogfile") else { continue };
            let decoration = match rest.strip_prefix('.') {
                None if rest.is_empty() => None,
                Some(decoration) => Some(decoration.to_owned()),
                None => continue,
            };
            let file = self.value(line, 0).trim().to_owned();
            if !file.is_empty() {
                out.catalogs.push(Catalog { decoration, file });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Arch, OsVersion};

    #[test]
    fn dates_and_versions() {
        for (text, expected) in [
            ("09/16/2020", Some("2020-09-16")),
            ("9-6-2020", Some("2020-09-06")),
            (" 1 / 2 / 98 ", Some("1998-01-02")),
            ("13/01/2020", None),
            ("00/01/2020", None),
            ("1/2", None),
            ("+1/2/2020", None),
            ("", None),
        ] {
            assert_eq!(
                text.parse::<Date>().ok().map(|date| date.to_string()).as_deref(),
                expected,
                "{text:?}"
            );
        }
        for (text, expected) in [
            ("18.0.4.1146", Some([18, 0, 4, 1146])),
            ("1", Some([1, 0, 0, 0])),
            ("1.001.0414.2020", Some([1, 1, 414, 2020])),
            ("1.2.3.4.5", None),
            ("1.2.x", None),
            ("65536", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<DriverVersion>().ok().map(|v| v.0), expected, "{text:?}");
        }
    }

    #[test]
    fn version_sections() {
        let text = "[Version]\nSignature=$Chicago$\nClass=Extension\nClassGUID={E2F84CE7-8efa-411c-aa69-97454ca4cb57}\n\
            Provider=%p%\nDriverVer=09/16/2020,18.0\nCatalogFile=a.cat\nCatalogFile.NT=b.cat\ncatalogfile.ntAMD64 = c.cat\n\
            ExtensionId={00000000-10ec-8168-ffff-00000000816d}\nPnpLockdown=1\n[Strings]\np=Us\n";
        let version = Inf::parse(text.as_bytes()).unwrap().version();
        assert!(version.is_extension() && version.pnp_lockdown);
        assert_eq!((version.provider.as_deref(), version.class.as_deref()), (Some("Us"), Some("Extension")));
        assert_eq!(version.extension_id.unwrap().to_string(), "00000000-10ec-8168-ffff-00000000816d");
        assert_eq!(
            (version.date.unwrap().year, version.version.unwrap()),
            (2020, DriverVersion([18, 0, 0, 0]))
        );
        let os: OsVersion = "10.0".parse().unwrap();
        assert_eq!(version.catalog(&Target::client(Arch::Amd64, os)), Some("c.cat"));
        assert_eq!(version.catalog(&Target::client(Arch::X86, os)), Some("b.cat"));
        let bare = Inf::parse(b"[Version]\nSignature=$Chicago$\nDriverVer=x,y\nClassGuid=z\nCatalogFile=\n")
            .unwrap();
        assert_eq!(bare.version(), Version::default());
    }
}
