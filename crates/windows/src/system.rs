//! What a Windows image is: version, processor, edition, control set, and whether it was generalised.

use gravure_inf::{Arch, OsVersion, ProductType, Target};
use serde::Serialize;

use crate::Error;
use crate::image::{HiveFile, WindowsImage};

/// What the registry of an image says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct System {
    /// Product name, for people.
    pub product_name: Option<String>,
    /// `Professional`, `ServerStandard`...
    pub edition: Option<String>,
    /// Version as drivers are chosen by.
    pub version: OsVersion,
    /// Processor.
    pub arch: Arch,
    /// Workstation, server or domain controller.
    #[serde(skip)]
    pub product: ProductType,
    /// Key of the control set that the next start uses, `ControlSet001`.
    pub control_set: String,
    /// Name the machine has.
    pub computer_name: Option<String>,
    /// Domain the machine is joined to.
    pub domain: Option<String>,
    /// Whether it goes through setup at its next start.
    pub setup: SetupState,
}

/// Whether an image was prepared for other machines (windows-servicing 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetupState {
    /// `sysprep /generalize`, or an image as Microsoft ships it: setup goes on at the next start.
    Generalized,
    /// Setup goes on at the next start, without having been generalised: audit mode, `sysprep /oobe` alone.
    InSetup,
    /// A system in use.
    InUse,
}

impl System {
    /// What drivers are chosen for.
    pub fn target(&self) -> Target {
        Target { arch: self.arch, version: self.version, product: self.product, suite: 0 }
    }

    /// A key below the control set.
    pub fn control(&self, key: &str) -> String {
        format!("{}\\{key}", self.control_set)
    }
}

/// Key and value of the machine's name in a control set.
pub(crate) fn computer_name_keys(control_set: &str) -> (String, &'static str) {
    (format!("{control_set}\\Control\\ComputerName\\ComputerName"), "ComputerName")
}

const CURRENT_VERSION: &str = "Microsoft\\Windows NT\\CurrentVersion";

impl WindowsImage<'_> {
    /// Reads what the image is.
    pub fn system(&mut self) -> Result<System, Error> {
        let control_set = self.control_set()?;
        let arch = self.arch(&control_set)?;
        let version = self.version()?;
        let (product_name, edition) = if self.has_hive(HiveFile::Software) {
            (
                self.text(HiveFile::Software, CURRENT_VERSION, "ProductName")?,
                self.text(HiveFile::Software, CURRENT_VERSION, "EditionID")?,
            )
        } else {
            (None, None)
        };
        let system = |image: &mut Self, key: &str, value: &str| {
            image.text(HiveFile::System, &format!("{control_set}\\{key}"), value)
        };
        let product = match system(self, "Control\\ProductOptions", "ProductType")?.as_deref() {
            Some(text) if text.eq_ignore_ascii_case("LanmanNT") => ProductType::DomainController,
            Some(text) if text.eq_ignore_ascii_case("ServerNT") => ProductType::Server,
            _ => ProductType::Workstation,
        };
        let (key, value) = computer_name_keys(&control_set);
        let computer_name = self.text(HiveFile::System, &key, value)?;
        let domain = system(self, "Services\\Tcpip\\Parameters", "Domain")?;
        let setup = self.setup_state()?;
        Ok(System {
            product_name,
            edition,
            version,
            arch,
            product,
            control_set,
            computer_name: computer_name.filter(|name| !name.is_empty()),
            domain: domain.filter(|name| !name.is_empty()),
            setup,
        })
    }

    /// `Select!Default` is what the next start uses.
    fn control_set(&mut self) -> Result<String, Error> {
        for value in ["Default", "Current"] {
            if let Some(number) = self.number(HiveFile::System, "Select", value)? {
                let name = format!("ControlSet{number:03}");
                if self.has_key(HiveFile::System, &name)? {
                    return Ok(name);
                }
            }
        }
        Err(Error::NotFound { what: "control set in", name: HiveFile::System.path().to_owned() })
    }

    fn arch(&mut self, control_set: &str) -> Result<Arch, Error> {
        let key = format!("{control_set}\\Control\\Session Manager\\Environment");
        let named = self.text(HiveFile::System, &key, "PROCESSOR_ARCHITECTURE")?;
        if let Some(arch) = named.as_deref().and_then(|name| name.to_lowercase().parse().ok()) {
            return Ok(arch);
        }
        // PROCESSOR_ARCHITECTURE_*.
        match self.number(HiveFile::System, "DriverDatabase", "Architecture")? {
            Some(0) => Ok(Arch::X86),
            Some(5) => Ok(Arch::Arm),
            Some(9) => Ok(Arch::Amd64),
            Some(12) => Ok(Arch::Arm64),
            other => Err(Error::Unsupported {
                what: "processor of the image",
                value: named
                    .or_else(|| other.map(|n| n.to_string()))
                    .unwrap_or_else(|| "not named".to_owned()),
            }),
        }
    }

    /// From SOFTWARE; without it, or before Windows 10, from what the older values say.
    fn version(&mut self) -> Result<OsVersion, Error> {
        if self.has_hive(HiveFile::Software) {
            let hive = HiveFile::Software;
            let build = self.text(hive, CURRENT_VERSION, "CurrentBuildNumber")?;
            let build = build.and_then(|text| text.parse().ok()).unwrap_or(0);
            let number = |found: Option<u64>| found.and_then(|number| u32::try_from(number).ok());
            let major = number(self.number(hive, CURRENT_VERSION, "CurrentMajorVersionNumber")?);
            let minor = number(self.number(hive, CURRENT_VERSION, "CurrentMinorVersionNumber")?);
            if let (Some(major), Some(minor)) = (major, minor) {
                return Ok(OsVersion { major, minor, build });
            }
            let text = self.text(hive, CURRENT_VERSION, "CurrentVersion")?;
            let parsed = text.as_deref().and_then(|text| text.split_once('.'));
            let parsed = parsed.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
            if let Some((major, minor)) = parsed {
                return Ok(OsVersion { major, minor, build });
            }
        }
        // Major and minor in the upper half.
        let database = self.number(HiveFile::System, "DriverDatabase", "Version")?;
        let version = database.and_then(|number| u32::try_from(number).ok());
        let version =
            version.map(|number| OsVersion { major: number >> 24, minor: (number >> 16) & 0xff, build: 0 });
        version.ok_or_else(|| Error::NotFound {
            what: "version of Windows in",
            name: HiveFile::Software.path().to_owned(),
        })
    }

    fn setup_state(&mut self) -> Result<SetupState, Error> {
        let state = if self.has_hive(HiveFile::Software) {
            let key = "Microsoft\\Windows\\CurrentVersion\\Setup\\State";
            self.text(HiveFile::Software, key, "ImageState")?
        } else {
            None
        };
        let number = |image: &mut Self, value: &str| {
            Ok::<_, Error>(image.number(HiveFile::System, "Setup", value)?.unwrap_or(0))
        };
        let in_setup = number(self, "SetupType")? != 0 || number(self, "SystemSetupInProgress")? != 0;
        let state = state.unwrap_or_default().to_uppercase();
        Ok(match (state.starts_with("IMAGE_STATE_GENERALIZE"), in_setup) {
            // One of them alone: a copy that somebody edited, or that never came through.
            (true, true) => SetupState::Generalized,
            (true, false) | (false, true) => SetupState::InSetup,
            (false, false) => SetupState::InUse,
        })
    }
}
