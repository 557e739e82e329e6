//! What ties an image to the disk it was captured from, taken away: drive letters, the place of the recovery environment.

use gravure_hive::Data;
use gravure_hive::bcd::Device;
use gravure_inf::OsVersion;
use gravure_wim::{Element, XmlNode};

use crate::Error;
use crate::answer::Position;
use crate::image::{HiveFile, WindowsImage};
use crate::system::{SetupState, System};

/// Where the recovery environment is, by Windows' own word.
const RECOVERY_PLACE: &str = "Windows\\System32\\Recovery\\ReAgent.xml";
const MAX_PLACE_BYTES: u64 = 1 << 20;
const MOUNTED: &str = "MountedDevices";
/// What stands before the GUID of a partition among drive letters.
const GPT_MARK: &[u8] = b"DMIO:ID:";
const NO_GUID: &str = "{00000000-0000-0000-0000-000000000000}";
/// First version with `reagentc`.
const HAS_REAGENTC: OsVersion = OsVersion { major: 6, minor: 1, build: 0 };
/// It finds the recovery partition by its type and puts Windows' own copy of the environment there. Whatever happens, setup goes on.
const ENABLE: &str =
    "cmd.exe /c \"reagentc.exe /enable > %SystemRoot%\\Gravure\\recovery.log 2>&1 & exit /b 0\"";

impl WindowsImage<'_> {
    /// Makes the image one of a disk of its own: the drive letters of another go, `C:` is the partition `windows`, and the
    /// recovery environment, whose place on another disk is forgotten, is set up while the machine is made.
    pub fn settle_on_disk(&mut self, system: &System, windows: &Device) -> Result<(), Error> {
        for (value, _) in self.values(HiveFile::System, MOUNTED)? {
            self.remove_value(HiveFile::System, MOUNTED, &value)?;
        }
        if system.setup == SetupState::InUse {
            // A system that goes through setup gives itself letters; one in use looks here.
            let data = match windows {
                Device::Gpt { partition, .. } => [GPT_MARK, &partition.0].concat(),
                Device::Mbr { signature, offset } => {
                    [signature.to_le_bytes().as_slice(), &offset.to_le_bytes()].concat()
                }
                other => {
                    return Err(Error::Unsupported {
                        what: "partition for Windows",
                        value: other.to_string(),
                    });
                }
            };
            self.set_value(HiveFile::System, MOUNTED, "\\DosDevices\\C:", &Data::binary(data))?;
        }
        if let Some(bytes) = self.read_file(RECOVERY_PLACE, MAX_PLACE_BYTES)? {
            self.write_file(RECOVERY_PLACE, neutral(&bytes)?)?;
        }
        if self.has_recovery() && system.version >= HAS_REAGENTC && system.setup != SetupState::InUse {
            self.make_directory("Windows\\Gravure")?;
            self.edit_answer_file(|answers| {
                answers.run_in_specialize(
                    system.arch,
                    "Set up the recovery environment",
                    ENABLE,
                    Position::Last,
                );
            })?;
        }
        Ok(())
    }
}

/// The document with every place zero and the environment switched off.
fn neutral(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let corrupt = |found: String| Error::Corrupt {
        path: RECOVERY_PLACE.to_owned(),
        expected: "an XML document".to_owned(),
        found,
    };
    let text = match bytes {
        [0xff, 0xfe, units @ ..] => {
            let units: Vec<u16> =
                units.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            String::from_utf16(&units).map_err(|error| corrupt(error.to_string()))?
        }
        bytes => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            std::str::from_utf8(bytes).map_err(|error| corrupt(error.to_string()))?.to_owned()
        }
    };
    let mut root = Element::from_text(&text).map_err(|error| corrupt(error.to_string()))?;
    for node in &mut root.children {
        let XmlNode::Element(element) = node else { continue };
        let zeros: &[(&str, &str)] = match element.name.as_str() {
            "WinreBCD" => &[("id", NO_GUID)],
            "WinreLocation"
            | "ImageLocation"
            | "PBRImageLocation"
            | "PBRCustomImageLocation"
            | "DownloadedWinreLocation" => &[("path", ""), ("id", "0"), ("offset", "0"), ("guid", NO_GUID)],
            "InstallState" | "IsServer" | "OsInstallAvailable" | "CustomImageAvailable" => &[("state", "0")],
            _ => &[],
        };
        for (name, value) in zeros {
            if element.attribute(name).is_some() {
                element.set_attribute(name, *value);
            }
        }
    }
    Ok(format!("<?xml version='1.0' encoding='utf-8'?>\n{}\n", root.to_text()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_another_disk_are_zeroed_and_the_rest_stays() {
        let text = "<?xml version='1.0' encoding='utf-8'?>\n<WindowsRE version=\"2.0\">\n\
                    <WinreBCD id=\"{d6c2f5b5-1111-11ee-8b3c-001122334455}\"/>\n\
                    <WinreLocation path=\"\\Recovery\\WindowsRE\" id=\"0\" offset=\"63300435968\" guid=\"{aaaa}\"/>\n\
                    <OsBuildVersion path=\"22621.1.amd64fre.ni_release\"/>\n<InstallState state=\"1\"/>\n</WindowsRE>";
        let root =
            Element::from_text(std::str::from_utf8(&neutral(text.as_bytes()).unwrap()).unwrap()).unwrap();
        let attribute =
            |element: &str, name: &str| root.child(element).unwrap().attribute(name).map(str::to_owned);
        assert_eq!(attribute("WinreBCD", "id").as_deref(), Some(NO_GUID));
        assert_eq!(attribute("WinreLocation", "path").as_deref(), Some(""));
        assert_eq!(attribute("WinreLocation", "offset").as_deref(), Some("0"));
        assert_eq!(attribute("WinreLocation", "guid").as_deref(), Some(NO_GUID));
        assert_eq!(attribute("InstallState", "state").as_deref(), Some("0"));
        assert_eq!(attribute("OsBuildVersion", "path").as_deref(), Some("22621.1.amd64fre.ni_release"));
        assert!(neutral(b"<a").is_err() && neutral(b"\xff\xfe\x00").is_err());
    }
}
