//! The driver database in the registry of an image (windows-servicing 1.2): what Windows would take for a device as the image
//! is, which names are taken, which hive a class belongs to.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use gravure_hive::Data;
use gravure_inf::{DeviceIds, EXTENSION_CLASS, Model, Rank, Signer, rank};
use gravure_nttypes::Guid;
use serde::Serialize;

use crate::Error;
use crate::image::{HiveFile, WindowsImage};
use crate::system::System;

/// Root of the database in both hives.
pub(super) const DATABASE: &str = "DriverDatabase";
/// Property of a class key that says that its drivers are needed to start.
const BOOT_CLASS_PROPERTY: &str = "Properties\\{6a3433f4-5626-40e8-a9b9-dbd9ecd2884b}\\0003";
/// Most numbers of `oemN.inf` that are tried.
const MAX_OEM_NUMBER: u32 = 1 << 16;

/// A driver of the image that fits a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageDriver {
    /// INF file in `Windows\INF`.
    pub inf: String,
    /// Package in the driver store.
    pub package: String,
    /// How well it fits.
    pub rank: Rank,
    /// The ID that matched.
    pub matching_id: String,
    /// Service that drives the device.
    pub service: Option<String>,
    /// Goes beside the driver, not in its place.
    pub extension: bool,
    /// Its `ExtensionId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_id: Option<String>,
    /// Date of the driver, `yyyy-mm-dd`.
    pub date: Option<String>,
    /// Version of the driver.
    pub driver_version: [u16; 4],
}

/// What the `Version` value of a package says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VersionRecord {
    pub(super) is_inbox: bool,
    pub(super) class: Guid,
    /// FILETIME of `DriverVer`.
    pub(super) date: u64,
    pub(super) version: [u16; 4],
}

impl VersionRecord {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let words = bytes.get(32..40)?.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word));
        let mut version: Vec<u16> = words.collect();
        version.reverse();
        Some(Self {
            is_inbox: *bytes.first()? == 0xff,
            class: Guid(bytes.get(8..24)?.try_into().ok()?),
            date: u64::from_le_bytes(bytes.get(24..32)?.try_into().ok()?),
            version: version.try_into().ok()?,
        })
    }

    /// 48 bytes; the last eight are zero, as in nearly all real ones.
    pub(super) fn to_bytes(&self, architecture: u16) -> Vec<u8> {
        let mut out = vec![if self.is_inbox { 0xff } else { 0 }, 0xff];
        out.extend(architecture.to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.class.0);
        out.extend(self.date.to_le_bytes());
        self.version.iter().rev().for_each(|part| out.extend(part.to_le_bytes()));
        out.extend([0; 8]);
        out
    }

    fn date_text(&self) -> Option<String> {
        let (seconds, _) = gravure_nttypes::FileTime(self.date).to_unix();
        let time = jiff::Timestamp::from_second(seconds).ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d").to_string())
    }
}

impl WindowsImage<'_> {
    /// Hives that have a driver database.
    pub(super) fn database_hives(&mut self) -> Result<Vec<HiveFile>, Error> {
        let mut out = Vec::new();
        for hive in [HiveFile::System, HiveFile::Drivers] {
            if self.has_hive(hive) && self.has_key(hive, DATABASE)? {
                out.push(hive);
            }
        }
        Ok(out)
    }

    /// Drivers of the image for a device, best first, in Windows' order.
    pub fn drivers_for(&mut self, device: &DeviceIds) -> Result<Vec<ImageDriver>, Error> {
        let mut out: Vec<ImageDriver> = Vec::new();
        let ids: BTreeSet<&String> = device.hardware.iter().chain(&device.compatible).collect();
        for hive in self.database_hives()? {
            for id in &ids {
                for (inf, data) in self.values(hive, &format!("{DATABASE}\\DeviceIds\\{id}"))? {
                    let Some((rank, matching_id)) = stored_rank(id, &data, device) else { continue };
                    match out.iter_mut().find(|known| known.inf.eq_ignore_ascii_case(&inf)) {
                        Some(known) if known.rank <= rank => {}
                        Some(known) => {
                            known.service = self.service_of(hive, &known.package.clone(), &matching_id)?;
                            known.rank = rank;
                            known.matching_id = matching_id;
                        }
                        None => out.extend(self.driver(hive, inf, rank, matching_id)?),
                    }
                }
            }
        }
        out.sort_by(|a, b| {
            let key =
                |d: &ImageDriver| (d.rank, Reverse(d.date.clone()), Reverse(d.driver_version), d.inf.clone());
            key(a).cmp(&key(b))
        });
        Ok(out)
    }

    /// What the database says of the active package of an INF file; `None` when there is none.
    fn driver(
        &mut self,
        hive: HiveFile,
        inf: String,
        rank: Rank,
        matching_id: String,
    ) -> Result<Option<ImageDriver>, Error> {
        let Some(package) = self.text(hive, &format!("{DATABASE}\\DriverInfFiles\\{inf}"), "Active")? else {
            return Ok(None);
        };
        let key = format!("{DATABASE}\\DriverPackages\\{package}");
        let version = self.value(hive, &key, "Version")?;
        let version = version.and_then(|data| VersionRecord::parse(&data.bytes));
        let service = self.service_of(hive, &package, &matching_id)?;
        let extension_id = self.value(hive, &key, "ExtensionId")?;
        Ok(Some(ImageDriver {
            inf,
            package,
            rank,
            matching_id,
            service,
            extension: version.as_ref().is_some_and(|v| v.class.to_string() == EXTENSION_CLASS),
            extension_id: extension_id
                .and_then(|data| data.bytes.try_into().ok())
                .map(|bytes| Guid(bytes).to_string()),
            date: version.as_ref().and_then(VersionRecord::date_text),
            driver_version: version.map_or([0; 4], |v| v.version),
        }))
    }

    fn service_of(&mut self, hive: HiveFile, package: &str, id: &str) -> Result<Option<String>, Error> {
        let key = format!("{DATABASE}\\DriverPackages\\{package}");
        let named = self.text(hive, &format!("{key}\\Descriptors\\{id}"), "Configuration")?;
        let Some(configuration) = named else { return Ok(None) };
        let service = self.text(hive, &format!("{key}\\Configurations\\{configuration}"), "Service")?;
        Ok(service.filter(|service| !service.is_empty()))
    }

    /// The hive that packages of a class go to: exact in all hives examined.
    pub(super) fn hive_of_class(&mut self, system: &System, class: &Guid) -> Result<HiveFile, Error> {
        if class.to_string() == EXTENSION_CLASS || !self.has_hive(HiveFile::Drivers) {
            return Ok(HiveFile::System);
        }
        let key = system.control(&format!("Control\\Class\\{{{class}}}\\{BOOT_CLASS_PROPERTY}"));
        let flag = self.value(HiveFile::System, &key, "")?;
        let is_boot = flag.is_some_and(|data| data.bytes.first() == Some(&0xff));
        Ok(if is_boot { HiveFile::System } else { HiveFile::Drivers })
    }

    /// The lowest number for `oemN.inf` that neither hive nor `Windows\INF` uses; gaps are filled, as Windows does.
    pub(super) fn free_oem_number(&mut self) -> Result<u32, Error> {
        let mut taken: BTreeSet<String> =
            self.names("Windows\\INF").into_iter().map(|name| name.to_lowercase()).collect();
        for hive in self.database_hives()? {
            let names = self.subkeys(hive, &format!("{DATABASE}\\DriverInfFiles"))?;
            taken.extend(names.into_iter().map(|name| name.to_lowercase()));
        }
        let map = self.value(HiveFile::System, DATABASE, "OemInfMap")?.unwrap_or_else(|| Data::binary([]));
        let in_map = |number: u32| {
            let byte =
                usize::try_from(number / 8).ok().and_then(|at| map.bytes.get(at)).copied().unwrap_or(0);
            byte & (0x80 >> (number % 8)) != 0
        };
        (0..MAX_OEM_NUMBER)
            .find(|number| !in_map(*number) && !taken.contains(&format!("oem{number}.inf")))
            .ok_or_else(|| Error::Unsupported {
                what: "another driver package",
                value: format!("all {MAX_OEM_NUMBER} names are taken"),
            })
    }

    /// Marks `oemN.inf` as taken.
    pub(super) fn take_oem_number(&mut self, number: u32) -> Result<(), Error> {
        let mut map =
            self.value(HiveFile::System, DATABASE, "OemInfMap")?.unwrap_or_else(|| Data::binary([]));
        let at = usize::try_from(number / 8).unwrap_or(usize::MAX);
        if map.bytes.len() <= at {
            map.bytes.resize(at.saturating_add(1), 0);
        }
        if let Some(byte) = map.bytes.get_mut(at) {
            *byte |= 0x80 >> (number % 8);
        }
        self.set_value(HiveFile::System, DATABASE, "OemInfMap", &map)
    }
}

/// Rank that follows from a row of `DeviceIds`: a mask (1 hardware, 2 compatible ID), the feature score, the place among the
/// compatible IDs of its line.
fn stored_rank(id: &str, data: &Data, device: &DeviceIds) -> Option<(Rank, String)> {
    let [mask, score, index, _] = data.bytes[..] else { return None };
    let model = |hardware_id: Option<String>, compatible_ids: Vec<String>| Model {
        description: String::new(),
        manufacturer: String::new(),
        install: String::new(),
        hardware_id,
        compatible_ids,
        section: String::new(),
        line: 0,
    };
    let as_hardware = (mask & 1 != 0).then(|| model(Some(id.to_owned()), Vec::new()));
    let as_compatible = (mask & 2 != 0).then(|| {
        // IDs in front of it that no device has.
        let mut ids = vec![String::new(); usize::from(index)];
        ids.push(id.to_owned());
        model(None, ids)
    });
    let ranks = as_hardware.into_iter().chain(as_compatible);
    ranks.filter_map(|model| rank(&model, score, device, Signer::Trusted)).min_by_key(|(rank, _)| *rank)
}
