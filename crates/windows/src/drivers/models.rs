//! Which packages came out of the driver pack of which model: what a vendor has put together for a machine, for sites that give it all of that
//! and not only what the devices ask for that are there now. Docks, fingerprint readers and the like come later.
//!
//! A model is what the vendor's catalogue calls it (windows-servicing 2.5): system ID, machine type, SKU; of other makers the board's product.
//! For each model a file in `models/` of the repository lists ids of packages; packages stay what they are, and may be of many models.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use gravure_model::inventory::Smbios;
use gravure_probe::smbios::vendor_key;
use serde::{Deserialize, Serialize};

use super::manifest::is_hash;
use super::repository::Repository;
use super::vendor::{Vendor, VendorCatalogue};
use crate::Error;

/// Directory of the repository with the lists.
const DIRECTORY: &str = "models";
/// Version of these files.
const VERSION: u32 = 1;
/// Largest list read: 100,000 packages.
const MAX_BYTES: u64 = 8 << 20;
/// Longest key; Panasonic's and those of boards are product names.
const MAX_KEY_BYTES: usize = 64;

/// A model as its maker's catalogue calls it, written `dell:0B98`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackModel {
    vendor: String,
    key: String,
}

impl PackModel {
    fn new(vendor: &str, key: &str) -> Option<Self> {
        let (vendor, key) = (vendor.trim().to_lowercase(), key.trim().to_uppercase());
        let is_word = !vendor.is_empty() && vendor.bytes().all(|c| c.is_ascii_lowercase());
        let is_key = (1..=MAX_KEY_BYTES).contains(&key.len()) && !key.contains(char::is_control);
        (is_word && is_key).then_some(Self { vendor, key })
    }

    /// The model of a machine; `None` when it does not tell what its vendor's key is made of.
    pub fn of(smbios: &Smbios) -> Option<Self> {
        let maker = smbios.system.manufacturer.as_deref().unwrap_or_default();
        // Panasonic's catalogue goes by the product's name.
        if maker.to_lowercase().starts_with(Vendor::Panasonic.as_str())
            && let Some(product) = &smbios.system.product
        {
            return Self::new(Vendor::Panasonic.as_str(), product);
        }
        let key = vendor_key(smbios)?;
        Self::new(key.vendor.as_str(), &key.key)
    }

    /// The maker's word.
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// The key, upper case.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its list; letters, digits and dashes of keys stay, all else is written in hexadecimal digits.
    fn file_name(&self) -> String {
        let key: String = self
            .key
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
                other => format!("%{other:02x}"),
            })
            .collect();
        format!("{}-{key}.json", self.vendor)
    }
}

impl fmt::Display for PackModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.vendor, self.key)
    }
}

impl FromStr for PackModel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let model = text.split_once(':').and_then(|(vendor, key)| Self::new(vendor, key));
        model.ok_or_else(|| format!("expected VENDOR:KEY, such as dell:0B98 or lenovo:20XW, found {text:?}"))
    }
}

/// A list as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    model: String,
    packages: BTreeSet<String>,
}

impl Repository {
    /// Notes that packages came out of the pack of a model, beside those that are known.
    pub fn note_model(&self, model: &PackModel, packages: &BTreeSet<String>) -> Result<(), Error> {
        let place = self.list_of(model);
        let dir = self.root.join(DIRECTORY);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        // Others may note packages of the same model.
        let _lock = self.lock()?;
        let mut all = self.kept(model)?;
        all.extend(packages.iter().cloned());
        let kept = Kept { version: VERSION, model: model.to_string(), packages: all };
        let text = serde_json::to_vec(&kept).map_err(|error| Error::Io {
            what: "describe",
            path: place.display().to_string(),
            source: error.into(),
        })?;
        let temporary = dir.join(format!(".{}.new", model.file_name()));
        fs::write(&temporary, text).map_err(Error::io("write", &temporary))?;
        fs::rename(&temporary, &place).map_err(Error::io("write", &place))
    }

    /// Ids of the packages that came out of the pack of a model and are here.
    pub fn of_model(&self, model: &PackModel) -> Result<Vec<String>, Error> {
        let mut ids: Vec<String> = self.kept(model)?.into_iter().collect();
        ids.retain(|id| self.place_of(id).is_file());
        Ok(ids)
    }

    /// The models that the pack of this name in a vendor's catalogue is for: the last part of its address.
    pub fn models_of_pack(&self, name: &str) -> Result<BTreeSet<PackModel>, Error> {
        let mut out = BTreeSet::new();
        for vendor in Vendor::ALL {
            let Some(catalogue) = VendorCatalogue::kept(&self.root, vendor)? else { continue };
            let is_it =
                |url: &str| url.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(name));
            for pack in catalogue.packs.iter().filter(|pack| is_it(&pack.url)) {
                out.extend(pack.systems.iter().filter_map(|key| PackModel::new(vendor.as_str(), key)));
            }
        }
        Ok(out)
    }

    fn list_of(&self, model: &PackModel) -> PathBuf {
        self.root.join(DIRECTORY).join(model.file_name())
    }

    fn kept(&self, model: &PackModel) -> Result<BTreeSet<String>, Error> {
        let place = self.list_of(model);
        let facts = match fs::metadata(&place) {
            Ok(facts) => facts,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(Error::io("read", &place)(error)),
        };
        let corrupt = |expected: String, found: String| Error::Corrupt {
            path: place.display().to_string(),
            expected,
            found,
        };
        if facts.len() > MAX_BYTES {
            return Err(corrupt(format!("at most {MAX_BYTES} bytes"), facts.len().to_string()));
        }
        let bytes = fs::read(&place).map_err(Error::io("read", &place))?;
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|error| corrupt("a list of packages".to_owned(), error.to_string()))?;
        if kept.version != VERSION || kept.model != model.to_string() {
            let found = format!("version {} of {}", kept.version, kept.model);
            return Err(corrupt(format!("version {VERSION} of {model}"), found));
        }
        match kept.packages.iter().find(|id| !is_hash(id)) {
            Some(bad) => Err(corrupt("ids of packages".to_owned(), bad.clone())),
            None => Ok(kept.packages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_by_their_makers_keys() {
        for (maker, product, sku, board, expected) in [
            ("Dell Inc.", "Latitude 5440", "0c03", "", Some("dell:0C03")),
            ("LENOVO", "20xw004qge", "", "", Some("lenovo:20XW")),
            ("Panasonic Corporation", "CF-33 4", "", "", Some("panasonic:CF-33 4")),
            ("ASUSTeK", "Vivo", "", "X512DA", Some("board:X512DA")),
            ("QEMU", "", "", "", None),
        ] {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let mut smbios = Smbios::default();
            smbios.system.manufacturer = some(maker);
            smbios.system.product = some(product);
            smbios.system.sku = some(sku);
            smbios.board.product = some(board);
            let found = PackModel::of(&smbios);
            assert_eq!(found.as_ref().map(ToString::to_string).as_deref(), expected, "{maker}");
            assert_eq!(found, expected.map(|text| text.parse().unwrap()));
        }
        for bad in ["", "dell", "dell:", ":0B98", "De ll:1", "../x:y", "dell:a\nb"] {
            assert!(bad.parse::<PackModel>().is_err(), "{bad:?}");
        }
        let odd: PackModel = "board:../A B_C".parse().unwrap();
        assert_eq!(odd.file_name(), "board-%2e%2e%2fA%20B%5fC.json");
    }
}
