//! What the XML document says of the Windows installation in a tree: `IMAGE/WINDOWS`, and the names that Windows Setup shows
//! (wim-container section 7). Everything is read out of the tree itself: the processor from the head of `kernel32.dll`, the rest from
//! the hives SOFTWARE and SYSTEM, completed from their logs.
//!
//! Nothing here ends a capture: what cannot be read or understood is a warning, and stays unsaid.

use gravure_hive::{Hive, Key, recover};
use gravure_io::ReadAt;
use gravure_model::descriptor::DescribedWindows;
use gravure_tree::Tree;
use gravure_wim::ImageInfo;

use super::contents::{Content, Reader, ReaderHandles};
use crate::describe::find_folded;
use crate::meter::Meter;
use crate::uses::{Part, Use};
use crate::{Error, ErrorKind};

/// Largest hive that is read: it stands in memory as a whole. Those of used systems have 50 to 200 MB.
const MAX_HIVE_BYTES: u64 = 512 << 20;
/// Bytes of `kernel32.dll` that are looked at; its headers start within.
const PROGRAM_HEAD_BYTES: u64 = 4096;
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

const CURRENT_VERSION: &str = "Microsoft\\Windows NT\\CurrentVersion";
/// The first device of the class of computers, below a control set.
const COMPUTER: &str = "Control\\Class\\{4d36e966-e325-11ce-bfc1-08002be10318}\\0000";
const SETUP_STATE: &str = "Microsoft\\Windows\\CurrentVersion\\Setup\\State";

/// Machine numbers of PE headers, and what this document calls them (`PROCESSOR_ARCHITECTURE_*`).
const MACHINES: [(u16, u64); 7] =
    [(0x014c, 0), (0x01c0, 5), (0x01c2, 5), (0x01c4, 5), (0x0200, 6), (0x8664, 9), (0xaa64, 12)];

/// Languages of Windows by the number that `InstallLanguage` has, for systems whose own list does not say.
const LANGUAGES: [(u64, &str); 41] = [
    (0x0401, "ar-SA"),
    (0x0402, "bg-BG"),
    (0x0403, "ca-ES"),
    (0x0404, "zh-TW"),
    (0x0405, "cs-CZ"),
    (0x0406, "da-DK"),
    (0x0407, "de-DE"),
    (0x0408, "el-GR"),
    (0x0409, "en-US"),
    (0x040b, "fi-FI"),
    (0x040c, "fr-FR"),
    (0x040d, "he-IL"),
    (0x040e, "hu-HU"),
    (0x0410, "it-IT"),
    (0x0411, "ja-JP"),
    (0x0412, "ko-KR"),
    (0x0413, "nl-NL"),
    (0x0414, "nb-NO"),
    (0x0415, "pl-PL"),
    (0x0416, "pt-BR"),
    (0x0418, "ro-RO"),
    (0x0419, "ru-RU"),
    (0x041a, "hr-HR"),
    (0x041b, "sk-SK"),
    (0x041d, "sv-SE"),
    (0x041e, "th-TH"),
    (0x041f, "tr-TR"),
    (0x0421, "id-ID"),
    (0x0422, "uk-UA"),
    (0x0424, "sl-SI"),
    (0x0425, "et-EE"),
    (0x0426, "lv-LV"),
    (0x0427, "lt-LT"),
    (0x042a, "vi-VN"),
    (0x0804, "zh-CN"),
    (0x0809, "en-GB"),
    (0x080a, "es-MX"),
    (0x0816, "pt-PT"),
    (0x0c0a, "es-ES"),
    (0x0c0c, "fr-CA"),
    (0x241a, "sr-Latn-RS"),
];

/// What is known of one value after another; `None` where nothing is.
type Found = Vec<(String, Option<String>)>;

/// Says in `info` what `reader` finds of Windows in `tree`. What `info` has already stays as it is.
pub(crate) fn describe_windows(tree: &Tree, reader: &Reader<'_>, info: &mut ImageInfo, meter: &Meter<'_>) {
    if info.text("WINDOWS/ARCH").is_some() && info.text("WINDOWS/VERSION/BUILD").is_some() {
        return;
    }
    let mut source = Source { tree, reader, handles: reader.handles(), meter };
    let architecture = source.architecture();
    let software = source.hive("SOFTWARE");
    let system = source.hive("SYSTEM");
    if architecture.is_none() && software.is_none() && system.is_none() {
        return;
    }
    let software = software.as_ref().map(Software::read).unwrap_or_default();
    let system = system.as_ref().map(System::read).unwrap_or_default();
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let one = |path: &str, value: Option<String>| (format!("WINDOWS/{path}"), value);
    let mut found: Found = vec![
        one("ARCH", number(architecture)),
        one("PRODUCTNAME", software.product_name.clone()),
        one("EDITIONID", software.edition.clone()),
        one("INSTALLATIONTYPE", software.installation_type),
        one("SERVICINGDATA/IMAGESTATE", software.image_state),
        one("HAL", system.hal),
        one("PRODUCTTYPE", system.product_type),
        one("PRODUCTSUITE", system.product_suite),
    ];
    if info.element().at("WINDOWS/LANGUAGES").is_none() {
        for (index, language) in system.languages.iter().enumerate() {
            found.push(one(&format!("LANGUAGES/LANGUAGE[{}]", index + 1), Some(language.clone())));
        }
        found.push(one("LANGUAGES/DEFAULT", system.default_language));
    }
    found.extend([
        one("VERSION/MAJOR", number(software.major)),
        one("VERSION/MINOR", number(software.minor)),
        one("VERSION/BUILD", number(software.build)),
        one("VERSION/SPBUILD", number(system.service_pack_build)),
        one("VERSION/SPLEVEL", number(system.service_pack_level)),
        one("VERSION/BRANCH", software.branch),
        one("SYSTEMROOT", Some("WINDOWS".to_owned())),
        ("FLAGS".to_owned(), software.edition),
        ("DISPLAYNAME".to_owned(), software.product_name.clone()),
        ("DISPLAYDESCRIPTION".to_owned(), software.product_name),
    ]);
    for (path, value) in found {
        if let Some(value) = value.filter(|_| info.element().at(&path).is_none()) {
            info.set_text(&path, value);
        }
    }
}

/// What contents are read from.
struct Source<'a> {
    tree: &'a Tree,
    reader: &'a Reader<'a>,
    handles: ReaderHandles,
    meter: &'a Meter<'a>,
}

impl Source<'_> {
    /// The first bytes of a file, `most` or as many as it has; `None` when there is no such file.
    fn head(&mut self, path: &[&str], most: u64) -> Option<Result<Vec<u8>, Error>> {
        let node = find_folded(self.tree, path)?;
        let data = self.tree.node(node).data.as_ref().filter(|data| !data.is_empty())?;
        let content = Content {
            origin: data.origin.clone(),
            size: data.size,
            sha1: data.sha1,
            uses: vec![Use { node, part: Part::Data }],
        };
        Some(self.read(&content, data.size.min(most)))
    }

    fn read(&mut self, content: &Content, len: u64) -> Result<Vec<u8>, Error> {
        let len = usize::try_from(len)
            .map_err(|_| Error::Unsupported { what: "content in memory", value: format!("{len} bytes") })?;
        let open = self.reader.open(content, &mut self.handles)?;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let start = bytes.len();
            bytes.resize(start.saturating_add(READ_BYTES).min(len), 0);
            let part = &mut bytes[start..];
            // A hive that changes under its reader is one that does not parse, at worst.
            self.reader.read(content, &open, start as u64, part, &mut self.handles)?;
        }
        Ok(bytes)
    }

    fn architecture(&mut self) -> Option<u64> {
        let bytes = self.head(&["Windows", "System32", "kernel32.dll"], PROGRAM_HEAD_BYTES)?;
        match bytes {
            Ok(bytes) => machine(&bytes),
            Err(error) => {
                self.meter.warn(|| format!("kernel32.dll: {error}; the processor is not noted"));
                None
            }
        }
    }

    /// A hive of the system, made whole by its logs.
    fn hive(&mut self, name: &str) -> Option<Hive> {
        let folder = ["Windows", "System32", "config"];
        let found = |this: &mut Self, name: &str| {
            let path = [&folder[..], &[name]].concat();
            this.head(&path, MAX_HIVE_BYTES + 1)
        };
        let bytes = found(self, name)?;
        let hive = bytes.and_then(|bytes| {
            if bytes.len() as u64 > MAX_HIVE_BYTES {
                let value = format!("more than {MAX_HIVE_BYTES} bytes");
                return Err(Error::Unsupported { what: "hive in memory", value });
            }
            let logs = ["LOG1", "LOG2", "LOG"].map(|log| found(self, &format!("{name}.{log}")));
            let logs: Vec<Vec<u8>> = logs.into_iter().flatten().filter_map(Result::ok).collect();
            let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
            // What a lost log would have changed is none of what is looked for, as a rule.
            let hive = match recover(&bytes, &logs) {
                Ok(recovered) => Ok(recovered.hive),
                Err(_) => Hive::parse(bytes),
            };
            hive.map_err(|error| Error::Other {
                what: name.to_owned(),
                source: Box::new(error),
                kind: ErrorKind::Integrity,
            })
        });
        match hive {
            Ok(hive) => Some(hive),
            Err(error) => {
                let error = super::write::chain(&error);
                self.meter.warn(|| {
                    format!("Windows/System32/config/{error}; what it says of Windows is not noted")
                });
                None
            }
        }
    }
}

/// What the Windows of an NTFS volume is, by its hives as they stand: logs are not applied, as none of this changes in daily use. `None` when
/// there is none, or it does not say.
pub(crate) fn windows_of_volume(volume: &dyn ReadAt) -> Option<DescribedWindows> {
    let ntfs = gravure_ntfs::Volume::open(volume).ok()?;
    let hive = |name: &str| {
        let path = format!("Windows\\System32\\config\\{name}");
        let bytes = ntfs.read_file(volume, &path, MAX_HIVE_BYTES).ok()??;
        Hive::parse(bytes).ok()
    };
    let system = System::read(&hive("SYSTEM")?);
    let software = Software::read(&hive("SOFTWARE")?);
    // More than no bytes are refused: it is there.
    let recovery = ntfs.read_file(volume, "Windows\\System32\\Recovery\\Winre.wim", 0);
    Some(DescribedWindows {
        version: format!("{}.{}.{}", software.major?, software.minor?, software.build?),
        arch: system.processor?.to_lowercase(),
        server: system.product_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("WinNT")),
        has_recovery: !matches!(recovery, Ok(None)),
    })
}

/// The processor that a program is for.
fn machine(bytes: &[u8]) -> Option<u64> {
    let part = |at: usize, len: usize| bytes.get(at..at.checked_add(len)?);
    if part(0, 2)? != b"MZ" {
        return None;
    }
    let header = u32::from_le_bytes(part(0x3c, 4)?.try_into().ok()?);
    let header = usize::try_from(header).ok()?;
    if part(header, 4)? != b"PE\0\0" {
        return None;
    }
    let found = u16::from_le_bytes(part(header.checked_add(4)?, 2)?.try_into().ok()?);
    MACHINES.iter().find(|(machine, _)| *machine == found).map(|(_, number)| *number)
}

/// The text of a value that has one.
fn text(key: &Key<'_>, value: &str) -> Option<String> {
    let text = key.data(value).ok()??.as_text()?.to_string();
    Some(text).filter(|text| !text.is_empty())
}

fn number(key: &Key<'_>, value: &str) -> Option<u64> {
    key.data(value).ok()??.as_number()
}

fn key<'h>(hive: &'h Hive, path: &str) -> Option<Key<'h>> {
    hive.find(path).ok()?
}

/// What SOFTWARE says.
#[derive(Default)]
struct Software {
    product_name: Option<String>,
    edition: Option<String>,
    installation_type: Option<String>,
    image_state: Option<String>,
    major: Option<u64>,
    minor: Option<u64>,
    build: Option<u64>,
    branch: Option<String>,
}

impl Software {
    fn read(hive: &Hive) -> Self {
        let image_state = key(hive, SETUP_STATE).and_then(|state| text(&state, "ImageState"));
        let Some(current) = key(hive, CURRENT_VERSION) else {
            return Self { image_state, ..Self::default() };
        };
        let numbers = ["CurrentMajorVersionNumber", "CurrentMinorVersionNumber"];
        let (major, minor) = match numbers.map(|value| number(&current, value)) {
            [Some(major), Some(minor)] => (Some(major), Some(minor)),
            // Before Windows 10.
            _ => {
                let version = text(&current, "CurrentVersion").unwrap_or_default();
                let (major, minor) = version.split_once('.').unwrap_or((&version, ""));
                (major.parse().ok(), minor.parse().ok())
            }
        };
        let builds = ["CurrentBuild", "CurrentBuildNumber"];
        let build = builds.iter().find_map(|value| text(&current, value)?.parse().ok());
        Self {
            product_name: text(&current, "ProductName"),
            edition: text(&current, "EditionID"),
            installation_type: text(&current, "InstallationType"),
            image_state,
            major,
            minor,
            build,
            branch: text(&current, "BuildBranch"),
        }
    }
}

/// What SYSTEM says.
#[derive(Default)]
struct System {
    hal: Option<String>,
    /// As its environment has it: `AMD64`.
    processor: Option<String>,
    product_type: Option<String>,
    product_suite: Option<String>,
    languages: Vec<String>,
    default_language: Option<String>,
    service_pack_build: Option<u64>,
    service_pack_level: Option<u64>,
}

impl System {
    fn read(hive: &Hive) -> Self {
        let selected = key(hive, "Select").and_then(|select| number(&select, "Default"));
        let control_set = format!("ControlSet{:03}", selected.unwrap_or(1));
        let below = |path: &str| key(hive, &format!("{control_set}\\{path}"));
        let products = below("Control\\ProductOptions");
        let version = below("Control\\Windows");
        let languages = below("Control\\MUI\\UILanguages");
        let languages: Vec<(String, Option<u64>)> = languages
            .and_then(|languages| Some(languages.subkeys().ok()?.filter_map(Result::ok).collect::<Vec<_>>()))
            .unwrap_or_default()
            .iter()
            .map(|language| (language.name().to_string(), number(language, "LCID")))
            .collect();
        let installed = below("Control\\Nls\\Language").and_then(|key| text(&key, "InstallLanguage"));
        let installed = installed.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
        let default_language = installed.and_then(|installed| {
            let own = languages.iter().find(|(_, id)| *id == Some(installed)).map(|(name, _)| name.clone());
            let known =
                || LANGUAGES.iter().find(|(id, _)| *id == installed).map(|(_, name)| (*name).to_owned());
            own.or_else(known)
        });
        let suite = products.as_ref().and_then(|key| key.data("ProductSuite").ok()?);
        let suite = suite.and_then(|data| data.as_multi()).unwrap_or_default();
        Self {
            hal: below(COMPUTER).and_then(|computer| text(&computer, "MatchingDeviceId")),
            processor: below("Control\\Session Manager\\Environment")
                .and_then(|environment| text(&environment, "PROCESSOR_ARCHITECTURE")),
            product_type: products.as_ref().and_then(|key| text(key, "ProductType")),
            product_suite: suite.iter().map(ToString::to_string).find(|suite| !suite.is_empty()),
            languages: languages.into_iter().map(|(name, _)| name).collect(),
            default_language,
            service_pack_build: version.as_ref().and_then(|key| number(key, "CSDBuildNumber")),
            // 0x200 is service pack 2.
            service_pack_level: version
                .as_ref()
                .and_then(|key| number(key, "CSDVersion"))
                .map(|raw| raw >> 8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_programs_and_of_what_is_none() {
        let program = |machine: u16| {
            let mut bytes = vec![0; 256];
            bytes[..2].copy_from_slice(b"MZ");
            bytes[0x3c] = 0x80;
            bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
            bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
            bytes
        };
        for (found, number) in MACHINES {
            assert_eq!(machine(&program(found)), Some(number), "{found:#x}");
        }
        assert_eq!(machine(&program(0x1234)), None);
        assert_eq!(machine(&[]), None);
        for len in [1, 0x3f, 0x83, 0x85] {
            assert_eq!(machine(&program(0x8664)[..len]), None, "{len}");
        }
        let mut far = program(0x8664);
        far[0x3c..0x40].fill(0xff);
        assert_eq!(machine(&far), None);
    }
}
