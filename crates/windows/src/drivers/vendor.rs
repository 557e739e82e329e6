//! Catalogues in which vendors say which driver pack is for which model (windows-servicing 2.5): Dell's, HP's, Lenovo's, Microsoft's for
//! Surface, Panasonic's. Read into one form, kept beside the packages, asked by a machine's key.
//!
//! The packs themselves are not fetched here: what is found is an address, a size and a hash.

use std::fs;
use std::path::Path;

use gravure_wim::Element;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Largest catalogue read; Dell's has 3 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Directory of the repository with the catalogues, one file a vendor.
const KEPT: &str = "catalogues";
/// Version of these files.
const KEPT_VERSION: u32 = 1;

/// Whose catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// Key: system ID, four hexadecimal digits, as the SKU number.
    Dell,
    /// Key: system ID, four hexadecimal digits, as the board's product.
    Hp,
    /// Key: machine type, the first four characters of the product name.
    Lenovo,
    /// Key: SKU number with underscores.
    Surface,
    /// Key: product name.
    Panasonic,
}

impl Vendor {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Dell, Self::Hp, Self::Lenovo, Self::Surface, Self::Panasonic];

    /// The word used on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dell => "dell",
            Self::Hp => "hp",
            Self::Lenovo => "lenovo",
            Self::Surface => "surface",
            Self::Panasonic => "panasonic",
        }
    }
}

/// A driver pack of a vendor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VendorPack {
    /// Name of the model, for people.
    pub model: String,
    /// Keys of the models it is for, upper case.
    pub systems: Vec<String>,
    /// Windows it is for: `11`, `10`, `8.1`, `7`, `Vista`.
    pub windows: String,
    /// Release of that, `24H2`; empty for any.
    pub release: String,
    /// Processor: `amd64`, `x86`, `arm64`.
    pub arch: String,
    /// Version as the vendor counts.
    pub version: String,
    /// Date as the vendor writes it.
    pub date: String,
    /// Where it is.
    pub url: String,
    /// Bytes, where the vendor says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256, lower case; empty where the vendor gives none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// MD5, lower case: all that some vendors give.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub md5: String,
}

/// A vendor's catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorCatalogue {
    version: u32,
    /// Whose.
    pub vendor: Vendor,
    /// Packs, each once.
    pub packs: Vec<VendorPack>,
}

/// What a pack is wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackQuestion {
    /// Windows, `11`; any when `None`.
    pub windows: Option<String>,
    /// Release, `24H2`: packs for it or for any; every one when `None`.
    pub release: Option<String>,
    /// Processor; any when `None`.
    pub arch: Option<String>,
}

impl VendorCatalogue {
    /// Reads a vendor's own file, XML or JSON: whose it is, its shape tells. `name` is for messages.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let corrupt = |expected: &str, found: String| Error::Corrupt {
            path: name.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(corrupt("at most 256 MiB", bytes.len().to_string()));
        }
        let text = text_of(bytes)
            .ok_or_else(|| corrupt("UTF-8, or UTF-16 with its mark", "other bytes".to_owned()))?;
        let (vendor, packs) = if text.trim_start().starts_with(['[', '{']) {
            json(&text).map_err(|found| corrupt("the catalogue of Surface or Panasonic", found))?
        } else {
            let root =
                Element::from_text(&text).map_err(|error| corrupt("an XML document", error.to_string()))?;
            match root.name.as_str() {
                "DriverPackManifest" => (Vendor::Dell, dell(&root)),
                "NewDataSet" | "HPClientDriverPackCatalog" => (Vendor::Hp, hp(&root)),
                "ModelList" => (Vendor::Lenovo, lenovo(&root)),
                other => return Err(corrupt("a catalogue of Dell, HP or Lenovo", format!("<{other}>"))),
            }
        };
        if packs.is_empty() {
            return Err(corrupt("driver packs", "none".to_owned()));
        }
        let mut packs = packs;
        packs.sort();
        packs.dedup();
        Ok(Self { version: KEPT_VERSION, vendor, packs })
    }

    /// Keeps it in a repository, in the place of an earlier one of the vendor.
    pub fn keep(&self, repository: &Path) -> Result<(), Error> {
        let dir = repository.join(KEPT);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let place = dir.join(format!("{}.json", self.vendor.as_str()));
        let text = serde_json::to_vec(self).map_err(|error| Error::Io {
            what: "describe",
            path: place.display().to_string(),
            source: error.into(),
        })?;
        let temporary = dir.join(format!(".{}.new", self.vendor.as_str()));
        fs::write(&temporary, text).map_err(Error::io("write", &temporary))?;
        fs::rename(&temporary, &place).map_err(Error::io("write", &place))
    }

    /// The vendor's catalogue out of a repository; `None` when it was not imported.
    pub fn kept(repository: &Path, vendor: Vendor) -> Result<Option<Self>, Error> {
        let place = repository.join(KEPT).join(format!("{}.json", vendor.as_str()));
        let bytes = match fs::read(&place) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &place)(error)),
        };
        let corrupt = |found: String| Error::Corrupt {
            path: place.display().to_string(),
            expected: "a catalogue of version 1".to_owned(),
            found,
        };
        let kept: Self = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if kept.version != KEPT_VERSION {
            return Err(corrupt(format!("version {}", kept.version)));
        }
        Ok(Some(kept))
    }

    /// Packs for the models of a key: newest Windows first, then newest release, then highest version.
    pub fn find(&self, key: &str, question: &PackQuestion) -> Vec<&VendorPack> {
        let key = key.to_uppercase();
        let fits = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(found))
        };
        let mut found: Vec<&VendorPack> = self
            .packs
            .iter()
            .filter(|pack| pack.systems.contains(&key))
            .filter(|pack| fits(&question.windows, &pack.windows) && fits(&question.arch, &pack.arch))
            .filter(|pack| pack.release.is_empty() || fits(&question.release, &pack.release))
            .collect();
        let order = |pack: &VendorPack| {
            let number: f64 = pack.windows.parse().unwrap_or(0.0);
            (number, pack.release.clone(), pack.date.clone(), pack.version.clone())
        };
        found.sort_by(|a, b| order(b).partial_cmp(&order(a)).unwrap_or(std::cmp::Ordering::Equal));
        found
    }
}

/// UTF-8, or UTF-16 as HP and Dell pack theirs.
fn text_of(bytes: &[u8]) -> Option<String> {
    match bytes {
        [0xff, 0xfe, units @ ..] => {
            let units: Vec<u16> =
                units.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            String::from_utf16(&units).ok()
        }
        bytes => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            // A few descriptions of Dell's are not UTF-8; nothing of them is read.
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

fn attribute(element: &Element, name: &str) -> String {
    element.attribute(name).unwrap_or_default().trim().to_owned()
}

fn child_text(element: &Element, name: &str) -> String {
    element.child(name).map(|child| child.text().trim().to_owned()).unwrap_or_default()
}

fn children<'e>(element: &'e Element, name: &'e str) -> impl Iterator<Item = &'e Element> {
    element.elements().filter(move |child| child.name == name)
}

/// `DriverPackage` with its systems and operating systems; one entry for each of the latter.
fn dell(root: &Element) -> Vec<VendorPack> {
    let base = attribute(root, "baseLocation");
    let mut out = Vec::new();
    for package in children(root, "DriverPackage").filter(|package| attribute(package, "type") == "win") {
        let models: Vec<&Element> = package
            .child("SupportedSystems")
            .into_iter()
            .flat_map(|systems| children(systems, "Brand"))
            .flat_map(|brand| children(brand, "Model"))
            .collect();
        let systems = keys(models.iter().map(|model| attribute(model, "systemID")));
        let model = models.first().map(|model| attribute(model, "name")).unwrap_or_default();
        let hash = |algorithm: &str| {
            let hashes = package.child("Cryptography").into_iter().flat_map(|all| children(all, "Hash"));
            let mut hashes = hashes.filter(|hash| attribute(hash, "algorithm") == algorithm);
            hashes.next().map(|hash| hash.text().trim().to_lowercase()).unwrap_or_default()
        };
        for system in package
            .child("SupportedOperatingSystems")
            .into_iter()
            .flat_map(|all| children(all, "OperatingSystem"))
        {
            let code = attribute(system, "osCode");
            out.push(VendorPack {
                model: model.clone(),
                systems: systems.clone(),
                windows: code.strip_prefix("Windows").unwrap_or(&code).to_owned(),
                release: String::new(),
                arch: arch_of(&attribute(system, "osArch")),
                version: attribute(package, "dellVersion"),
                date: attribute(package, "dateTime"),
                url: format!("https://{base}/{}", attribute(package, "path")),
                size: attribute(package, "size").parse().ok(),
                sha256: hash("SHA256"),
                md5: hash("MD5"),
            });
        }
    }
    out
}

/// Rows of products that name a SoftPaq.
fn hp(root: &Element) -> Vec<VendorPack> {
    let mut lists = vec![root];
    lists.extend(root.elements().filter(|element| element.name == "HPClientDriverPackCatalog"));
    let rows = |list: &'static str, item: &'static str| -> Vec<&Element> {
        let found = lists.iter().flat_map(|root| children(root, list)).flat_map(|list| children(list, item));
        found.collect()
    };
    let softpaqs: std::collections::BTreeMap<String, &Element> =
        rows("SoftPaqList", "SoftPaq").into_iter().map(|paq| (child_text(paq, "Id"), paq)).collect();
    let mut out = Vec::new();
    for row in rows("ProductOSDriverPackList", "ProductOSDriverPack") {
        let Some(paq) = softpaqs.get(&child_text(row, "SoftPaqId")) else { continue };
        let (windows, release) = hp_windows(&child_text(row, "OSName"));
        out.push(VendorPack {
            model: child_text(row, "SystemName"),
            systems: keys(child_text(row, "SystemId").split(',').map(str::to_owned)),
            windows,
            release,
            arch: arch_of(&child_text(row, "Architecture")),
            version: child_text(paq, "Version"),
            date: us_date(&child_text(paq, "DateReleased")),
            url: child_text(paq, "Url"),
            size: child_text(paq, "Size").parse().ok(),
            sha256: child_text(paq, "SHA256").to_lowercase(),
            md5: child_text(paq, "MD5").to_lowercase(),
        });
    }
    out
}

/// `Windows 10 64-bit, 1607`, `Windows 11 IoT Enterprise 24H2 LTSC, 64-bit`.
fn hp_windows(name: &str) -> (String, String) {
    let mut words = name.split([' ', ',']).filter(|word| !word.is_empty());
    let is_windows = |word: &str| word.eq_ignore_ascii_case("windows");
    let version = words.by_ref().skip_while(|word| !is_windows(word)).nth(1).unwrap_or_default().to_owned();
    let is_release = |word: &&str| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        word.len() == 4 && digits >= 3 && word.bytes().all(|b| b.is_ascii_digit() || b == b'H')
    };
    let release = words.find(is_release).unwrap_or_default().to_owned();
    (version, release)
}

/// `1/24/2023 12:00:00 AM` as `2023-01-24`.
fn us_date(text: &str) -> String {
    let day = text.split(' ').next().unwrap_or_default();
    match day.split('/').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>().as_deref() {
        Ok([month, day, year]) => format!("{year:04}-{month:02}-{day:02}"),
        _ => text.to_owned(),
    }
}

fn lenovo(root: &Element) -> Vec<VendorPack> {
    let mut out = Vec::new();
    for model in children(root, "Model") {
        let types = model.child("Types").into_iter().flat_map(|types| children(types, "Type"));
        let systems = keys(types.map(|kind| kind.text().trim().to_owned()));
        for pack in children(model, "SCCM") {
            let release = attribute(pack, "version");
            out.push(VendorPack {
                model: attribute(model, "name"),
                systems: systems.clone(),
                windows: attribute(pack, "os").trim_start_matches("win").to_owned(),
                release: if release == "*" { String::new() } else { release },
                arch: "amd64".to_owned(),
                version: String::new(),
                date: attribute(pack, "date"),
                url: pack.text().trim().to_owned(),
                size: None,
                sha256: attribute(pack, "crc").to_lowercase(),
                md5: attribute(pack, "md5").to_lowercase(),
            });
        }
    }
    out
}

/// A row of the list for Surface.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SurfaceRow {
    #[serde(default)]
    release_date: String,
    model: String,
    system_id: OneOrMore,
    url: String,
    operating_system: String,
    #[serde(rename = "OSArchitecture", default)]
    arch: String,
    #[serde(rename = "HashMD5", default)]
    md5: Option<String>,
}

/// One key, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(list) => list,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PanasonicList {
    models: Vec<PanasonicModel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PanasonicModel {
    alias: String,
    product: String,
    driver_packs: Vec<PanasonicPack>,
}

#[derive(Deserialize)]
struct PanasonicPack {
    #[serde(rename = "OSVer")]
    windows: String,
    #[serde(rename = "OSRelease", default)]
    release: String,
    #[serde(rename = "Version", default)]
    version: String,
    #[serde(rename = "URL")]
    url: String,
    #[serde(rename = "Hash", default)]
    md5: String,
    #[serde(rename = "ReleaseDate", default)]
    date: String,
}

fn json(text: &str) -> Result<(Vendor, Vec<VendorPack>), String> {
    if text.trim_start().starts_with('[') {
        let rows: Vec<SurfaceRow> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let packs = rows.into_iter().map(|row| VendorPack {
            model: row.model,
            systems: keys(row.system_id.into_list().iter().map(|key| key.replace(' ', "_"))),
            windows: row.operating_system.trim_start_matches("Windows").trim().to_owned(),
            release: String::new(),
            arch: arch_of(&row.arch),
            version: String::new(),
            date: row.release_date,
            url: row.url,
            size: None,
            sha256: String::new(),
            md5: row.md5.unwrap_or_default().to_lowercase(),
        });
        return Ok((Vendor::Surface, packs.collect()));
    }
    let list: PanasonicList = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    for model in list.models {
        for pack in model.driver_packs {
            out.push(VendorPack {
                model: model.alias.clone(),
                systems: keys([model.alias.clone(), model.product.clone()].into_iter()),
                windows: pack.windows.trim_start_matches("Win").to_owned(),
                release: pack.release,
                arch: "amd64".to_owned(),
                version: pack.version,
                date: pack.date,
                url: pack.url,
                size: None,
                sha256: String::new(),
                md5: pack.md5.to_lowercase(),
            });
        }
    }
    Ok((Vendor::Panasonic, out))
}

fn keys(found: impl Iterator<Item = String>) -> Vec<String> {
    let mut keys: Vec<String> =
        found.map(|key| key.trim().to_uppercase()).filter(|key| !key.is_empty()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn arch_of(text: &str) -> String {
    match text.to_lowercase().as_str() {
        "x64" | "64-bit" | "amd64" | "" => "amd64",
        "x86" | "32-bit" => "x86",
        "arm64" => "arm64",
        other => return other.to_owned(),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENOVO: &str = "\u{feff}<ModelList version=\"1.0\"><Model name=\"ThinkCentre M715Q\"><Types><Type>10M4</Type><Type>10RA</Type></Types>\
        <SCCM os=\"win10\" version=\"*\" date=\"2018-06-05\" crc=\"7FE8\" md5=\"39FE\">https://l/a.exe</SCCM>\
        <SCCM os=\"win11\" version=\"22H2\" date=\"2023-01-01\" crc=\"aa\" md5=\"bb\">https://l/b.exe</SCCM>\
        <SCCM os=\"win11\" version=\"24H2\" date=\"2025-01-01\" crc=\"cc\" md5=\"dd\">https://l/c.exe</SCCM></Model></ModelList>";

    #[test]
    fn packs_are_found_by_key_windows_and_release() {
        let catalogue = VendorCatalogue::parse(LENOVO.as_bytes(), "x").unwrap();
        assert_eq!((catalogue.vendor, catalogue.packs.len()), (Vendor::Lenovo, 3));
        let urls = |windows: Option<&str>, release: Option<&str>| {
            let question = PackQuestion {
                windows: windows.map(str::to_owned),
                release: release.map(str::to_owned),
                arch: Some("amd64".into()),
            };
            catalogue.find("10ra", &question).into_iter().map(|pack| pack.url.clone()).collect::<Vec<_>>()
        };
        assert_eq!(urls(None, None), ["https://l/c.exe", "https://l/b.exe", "https://l/a.exe"]);
        assert_eq!(urls(Some("11"), Some("22h2")), ["https://l/b.exe"]);
        assert_eq!(urls(Some("10"), Some("22H2")), ["https://l/a.exe"], "for any release");
        assert!(catalogue.find("10XX", &PackQuestion::default()).is_empty());
        let dir = tempfile::tempdir().unwrap();
        catalogue.keep(dir.path()).unwrap();
        assert_eq!(VendorCatalogue::kept(dir.path(), Vendor::Lenovo).unwrap(), Some(catalogue));
        assert_eq!(VendorCatalogue::kept(dir.path(), Vendor::Dell).unwrap(), None);
    }

    #[test]
    fn names_of_hp_and_dates_are_understood() {
        for (name, windows, release) in [
            ("Windows 10 64-bit, 1607", "10", "1607"),
            ("Windows 11 IoT Enterprise 24H2 LTSC, 64-bit", "11", "24H2"),
            ("Windows 8.1 64-bit", "8.1", ""),
            ("", "", ""),
        ] {
            assert_eq!(hp_windows(name), (windows.to_owned(), release.to_owned()), "{name}");
        }
        assert_eq!(us_date("1/24/2023 12:00:00 AM"), "2023-01-24");
        assert_eq!(us_date("soon"), "soon");
    }

    #[test]
    fn what_is_no_catalogue_says_so_and_cuts_are_no_panic() {
        for (text, expected) in [
            ("<a/>", "found <a>"),
            ("[{\"x\":1}]", "missing field"),
            ("<ModelList/>", "expected driver packs, found none"),
            ("", "an XML document"),
        ] {
            let error = VendorCatalogue::parse(text.as_bytes(), "x").unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for len in 0..LENOVO.len() {
            assert!(VendorCatalogue::parse(&LENOVO.as_bytes()[..len], "x").is_err(), "{len}");
        }
    }

    #[test]
    fn the_vendors_own_catalogues_answer() {
        let Some(shared) = gravure_testkit::shared_dir() else { return };
        let read = |name: &str| {
            let bytes = fs::read(shared.join("corpus/catalogs").join(name)).unwrap();
            VendorCatalogue::parse(&bytes, name).unwrap()
        };
        for (name, vendor, key, windows, packs) in [
            ("dell.xml", Vendor::Dell, "02C3", "Vista", 1000),
            ("hp.xml", Vendor::Hp, "81C3", "10", 4000),
            ("lenovo.xml", Vendor::Lenovo, "10M4", "10", 2500),
            ("microsoft.json", Vendor::Surface, "Surface_3", "10", 50),
            ("panasonic.json", Vendor::Panasonic, "FZ55-3", "11", 10),
        ] {
            let catalogue = read(name);
            assert_eq!(catalogue.vendor, vendor);
            assert!(catalogue.packs.len() >= packs, "{name}: {}", catalogue.packs.len());
            let question = PackQuestion { windows: Some(windows.into()), ..PackQuestion::default() };
            let found = catalogue.find(key, &question);
            assert!(!found.is_empty(), "{name}: {key}");
            assert!(found.iter().all(|pack| pack.url.starts_with("https://")), "{name}: {:?}", found[0]);
        }
    }
}
