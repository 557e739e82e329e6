//! `AddService`: services of an installation (WDD "inf-addservice-directive").

use serde::Serialize;

use crate::inf::Inf;
use crate::lines::Section;
use crate::places::Place;
use crate::registry::{RegEntry, number};

/// Flag of `AddService`: the service drives the device (`SPSVCINST_ASSOCSERVICE`).
pub const ASSOCIATED: u32 = 0x2;
/// The event log of sources that name none.
pub(crate) const EVENT_LOG: &str = "System";
/// `StartType` of drivers that the boot loader loads.
pub const BOOT_START: u32 = 0;

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Name; empty for a device that needs no driver.
    pub name: String,
    /// Flags of `AddService`.
    pub flags: u32,
    /// Whether it drives the device.
    pub is_function_driver: bool,
    /// Name of its section.
    pub section: String,
    /// `ServiceType`: 1 kernel driver, 0x10 and 0x20 programs.
    pub kind: Option<u32>,
    /// `StartType`: 0 boot, 1 system, 2 automatic, 3 on demand, 4 disabled.
    pub start: Option<u32>,
    /// `ErrorControl`.
    pub error_control: Option<u32>,
    /// `ServiceBinary`.
    pub binary: Option<Place>,
    /// `DisplayName`.
    pub display_name: Option<String>,
    /// `Description`.
    pub description: Option<String>,
    /// `LoadOrderGroup`.
    pub group: Option<String>,
    /// `Dependencies`: services, and groups with `+` in front.
    pub dependencies: Vec<String>,
    /// `Security`, SDDL.
    pub security: Option<String>,
    /// `BootFlags`: which boot devices need it (0x1 network, 0x4 USB, 0x8 SD, 0x10 USB 3).
    pub boot_flags: Option<u32>,
    /// Registry entries below the service's key.
    pub registry: Vec<RegEntry>,
    /// What is entered of it as a source of the event log.
    pub event_source: Option<EventSource>,
    /// The included file that it is of: such services come with Windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// One-based line of the `AddService`.
    pub line: u32,
}

/// A service as a source of the event log: `AddService` fields 4 to 6. Its entries are relative to
/// `Services\EventLog\<log>\<name>` of the control set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventSource {
    /// Section with its entries.
    pub section: String,
    /// Which log: `System` where nothing is said.
    pub log: String,
    /// Name of the source: that of the service where nothing is said.
    pub name: String,
    /// Its registry entries.
    pub registry: Vec<RegEntry>,
}

impl Service {
    /// Whether the boot loader must load it.
    pub fn is_boot_start(&self) -> bool {
        self.start == Some(BOOT_START)
    }
}

impl Inf {
    /// The fields of a service's section; registry entries are added by the caller.
    pub(crate) fn service(&self, section: &Section, service: &mut Service) {
        let text = |key: &str| {
            self.value_of(section, key).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let numeric =
            |key: &str| text(key).and_then(|text| number(&text)).and_then(|n| u32::try_from(n).ok());
        service.kind = numeric("ServiceType");
        service.start = numeric("StartType");
        service.error_control = numeric("ErrorControl");
        let binary = self.entries(section, "ServiceBinary").next().and_then(|line| line.values.first());
        service.binary = binary.filter(|raw| !raw.is_empty()).map(|raw| self.place(raw));
        service.display_name = text("DisplayName");
        service.description = text("Description");
        service.group = text("LoadOrderGroup");
        service.security = text("Security");
        service.boot_flags = numeric("BootFlags");
        for line in self.entries(section, "Dependencies") {
            let names = (0..line.values.len()).map(|index| self.value(line, index).trim().to_owned());
            service.dependencies.extend(names.filter(|name| !name.is_empty()));
        }
    }
}
