//! What a driver is wanted for: processor, Windows version, edition.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, invalid, shown};

/// Processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 32-bit x86.
    X86,
    /// 64-bit x86.
    Amd64,
    /// Itanium.
    Ia64,
    /// 32-bit ARM.
    Arm,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// All, for listings.
    pub const ALL: [Self; 5] = [Self::X86, Self::Amd64, Self::Ia64, Self::Arm, Self::Arm64];

    /// The word behind `NT` in decorations, and behind the dot in `SourceDisksFiles.amd64`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::Amd64 => "amd64",
            Self::Ia64 => "ia64",
            Self::Arm => "arm",
            Self::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Arch {
    type Err = Error;

    /// Our words, and those of other systems for the same.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "x86" | "i386" | "i686" => Ok(Self::X86),
            "amd64" | "x64" | "x86_64" => Ok(Self::Amd64),
            "ia64" => Ok(Self::Ia64),
            "arm" => Ok(Self::Arm),
            "arm64" | "aarch64" => Ok(Self::Arm64),
            _ => {
                Err(invalid("architecture", "x86, amd64, ia64, arm or arm64", format!("\"{}\"", shown(text))))
            }
        }
    }
}

/// A Windows version: `10.0.22631`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OsVersion {
    /// Major version: 10 for Windows 10, 11 and their servers.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Build.
    pub build: u32,
}

impl fmt::Display for OsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

impl FromStr for OsVersion {
    type Err = Error;

    /// `10.0.22631`, or more fields, which are not looked at; without a build it is 0.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || invalid("Windows version", "numbers as in 10.0.22631", format!("\"{}\"", shown(text)));
        let numbers: Result<Vec<u32>, _> = text
            .split('.')
            .map(|part| {
                if part.bytes().all(|b| b.is_ascii_digit()) {
                    part.parse::<u32>().map_err(|_| bad())
                } else {
                    Err(bad())
                }
            })
            .collect();
        match numbers?.as_slice() {
            [major, minor] => Ok(Self { major: *major, minor: *minor, build: 0 }),
            [major, minor, build, ..] => Ok(Self { major: *major, minor: *minor, build: *build }),
            _ => Err(bad()),
        }
    }
}

/// Product type of a Windows (`wProductType` of OSVERSIONINFOEX).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProductType {
    /// 1: a client.
    Workstation,
    /// 2: a server that is a domain controller.
    DomainController,
    /// 3: any other server.
    Server,
}

impl ProductType {
    /// The number in decorations.
    pub fn number(self) -> u32 {
        match self {
            Self::Workstation => 1,
            Self::DomainController => 2,
            Self::Server => 3,
        }
    }
}

/// What a driver is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Target {
    /// Processor.
    pub arch: Arch,
    /// Windows version.
    pub version: OsVersion,
    /// Client or server.
    pub product: ProductType,
    /// Suite bits (`wSuiteMask`): 0x2 Enterprise, 0x80 Datacenter, 0x100 single-user terminal services, 0x200 Home.
    pub suite: u32,
}

impl Target {
    /// A client with the suite bits every client has.
    pub fn client(arch: Arch, version: OsVersion) -> Self {
        Self { arch, version, product: ProductType::Workstation, suite: 0x100 }
    }
}
