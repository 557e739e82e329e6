//! Who is asking: the machine, its firmware or loader, and the relay in between, read out of one message.

use core::fmt;
use core::net::Ipv4Addr;

use super::arch::{ArchCode, Platform, Transport};
use super::code;
use super::message::{HardwareAddress, Message, sub_options};

/// What option 60 says the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientClass {
    /// `PXEClient...`: wants a name to fetch by TFTP (iPXE: any URL).
    Pxe,
    /// `HTTPClient...`: UEFI HTTP boot, wants a URL.
    Http,
    /// Anything else: an operating system, a printer.
    Ordinary,
}

impl fmt::Display for ClientClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pxe => "PXEClient",
            Self::Http => "HTTPClient",
            Self::Ordinary => "ordinary client",
        })
    }
}

/// Which program speaks DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loader {
    /// The machine's own firmware, or an operating system.
    Firmware,
    /// iPXE: option 175, or user class `iPXE`. Needs a script; a first-stage loader would start the chain again.
    Ipxe,
}

/// A machine's SMBIOS UUID, from option 97.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineUuid([u8; 16]);

impl MachineUuid {
    /// From the 16 bytes in wire and SMBIOS order, where the first three fields are little-endian. All zeros and all
    /// ones mean "not set" in SMBIOS (section 7.2.1) and are no identity.
    #[must_use]
    pub fn from_wire(bytes: [u8; 16]) -> Option<Self> {
        let unset = bytes == [0; 16] || bytes == [0xff; 16];
        (!unset).then_some(Self(bytes))
    }

    /// The bytes as they stand in option 97 and in SMBIOS.
    #[must_use]
    pub fn wire_bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for MachineUuid {
    /// As dmidecode prints it: `00112233-4455-6677-8899-aabbccddeeff`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        for (index, from) in ORDER.into_iter().enumerate() {
            let dash = if [4, 6, 8, 10].contains(&index) { "-" } else { "" };
            write!(f, "{dash}{:02x}", self.0.get(from).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}

impl fmt::Debug for MachineUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineUuid({self})")
    }
}

/// Relay agent data of a request (`giaddr`, option 82).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay {
    /// Where the answer goes.
    pub address: Ipv4Addr,
}

/// Everything a boot policy may decide by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootClient {
    /// Link-layer address.
    pub hardware: HardwareAddress,
    /// SMBIOS UUID, when the client sent a usable one; some firmware omits option 97.
    pub uuid: Option<MachineUuid>,
    /// Architectures in the client's order; empty when it named none.
    pub architectures: Vec<ArchCode>,
    /// What option 60 says it is.
    pub class: ClientClass,
    /// Which program speaks.
    pub loader: Loader,
    /// Host name it gives itself, when that is a sound name.
    pub host_name: Option<String>,
    /// Option 60 in full, control characters replaced.
    pub vendor_class: Option<String>,
    /// The relay it came through.
    pub relay: Option<Relay>,
    /// The address it uses already, or asks for.
    pub address: Option<Ipv4Addr>,
}

impl BootClient {
    /// Reads the client out of `message`.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        let options = &message.options;
        let vendor = options.get(code::VENDOR_CLASS).unwrap_or_default();
        let listed = ArchCode::list(options.get(code::CLIENT_ARCH).unwrap_or_default());
        let architectures = if listed.is_empty() {
            ArchCode::from_vendor_class(vendor).into_iter().collect()
        } else {
            listed
        };
        let class = if vendor.starts_with(b"PXEClient") {
            ClientClass::Pxe
        } else if vendor.starts_with(b"HTTPClient") {
            ClientClass::Http
        } else {
            ClientClass::Ordinary
        };
        let given = |address: Ipv4Addr| (!address.is_unspecified()).then_some(address);
        Self {
            hardware: message.head.hardware,
            uuid: options.get(code::CLIENT_MACHINE).and_then(machine_uuid),
            architectures,
            class,
            loader: if is_ipxe(message) { Loader::Ipxe } else { Loader::Firmware },
            host_name: options.text(code::HOST_NAME).filter(|name| is_host_name(name)),
            vendor_class: options.text(code::VENDOR_CLASS).map(|text| printable(&text)),
            relay: given(message.head.giaddr).map(|address| Relay { address }),
            address: given(message.head.ciaddr)
                .or_else(|| options.address(code::REQUESTED_ADDRESS).and_then(given)),
        }
    }

    /// The architecture a boot file is chosen for: among several, one whose transport matches the client's class and
    /// that has a platform of its own, else the first.
    #[must_use]
    pub fn arch(&self) -> Option<ArchCode> {
        let wanted = if self.class == ClientClass::Http { Transport::Http } else { Transport::Tftp };
        let fits = |arch: &&ArchCode| arch.transport() == wanted && arch.platform() != Platform::Other;
        self.architectures.iter().find(fits).or(self.architectures.first()).copied()
    }

    /// What it can start. A PXE client that names no architecture is a BIOS (PXE 2.1 predates the option).
    #[must_use]
    pub fn platform(&self) -> Platform {
        match (self.arch(), self.class) {
            (Some(arch), _) => arch.platform(),
            (None, ClientClass::Pxe) => Platform::Bios,
            (None, _) => Platform::Other,
        }
    }

    /// Whether it wants something to boot at all.
    #[must_use]
    pub fn boots(&self) -> bool {
        self.class != ClientClass::Ordinary || self.loader == Loader::Ipxe
    }
}

impl fmt::Display for BootClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        if let Some(arch) = self.arch() {
            write!(f, " arch {arch}")?;
        }
        if self.loader == Loader::Ipxe {
            write!(f, " iPXE")?;
        }
        write!(f, " {}", self.hardware)?;
        if let Some(relay) = self.relay {
            write!(f, " through relay {}", relay.address)?;
        }
        Ok(())
    }
}

fn machine_uuid(value: &[u8]) -> Option<MachineUuid> {
    // Type 0 is the only one defined (RFC 4578 section 2.3).
    let (0, uuid) = value.split_first().map(|(kind, uuid)| (*kind, uuid))? else { return None };
    MachineUuid::from_wire(uuid.try_into().ok()?)
}

/// iPXE marks itself by option 175 and by user class `iPXE`, as bare text and not in the counted form of RFC 3004.
/// Option 175 counts only when it holds something iPXE could have sent, since the code is not registered.
fn is_ipxe(message: &Message) -> bool {
    let user_class = message.options.get(code::USER_CLASS).unwrap_or_default();
    let counted = user_class.split_first().map(|(_, rest)| rest).unwrap_or_default();
    user_class == b"iPXE"
        || counted == b"iPXE"
        || message.options.get(code::IPXE).is_some_and(|value| sub_options(value).next().is_some())
}

/// Letters, digits, hyphens and dots, 63 bytes a label: what may go into a lease list or a template unquoted.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// `text` with control characters replaced, so that a client cannot write to an operator's terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|sign| if sign.is_control() { '\u{fffd}' } else { sign }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::MessageKind;
    use super::super::compose::Composer;
    use super::super::message::{Direction, Head};
    use super::*;

    fn client(options: &[(u8, &[u8])]) -> BootClient {
        let head = Head {
            direction: Direction::Request,
            hardware: HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]),
            hops: 0,
            xid: 1,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
        };
        let mut composer = Composer::new(head, MessageKind::Discover);
        options.iter().for_each(|(code, value)| composer.need(*code, value));
        BootClient::of(&Message::parse(&composer.finish(1472).unwrap().bytes).unwrap())
    }

    #[test]
    fn class_loader_and_platform_follow_the_options() {
        let pxe = b"PXEClient:Arch:00007:UNDI:003000";
        let http = b"HTTPClient:Arch:00016:UNDI:003000";
        let ipxe_features: &[u8] = &[0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0];
        type Case<'a> = (&'a [(u8, &'a [u8])], ClientClass, Loader, Platform, bool);
        let cases: [Case; 10] = [
            (&[(60, pxe), (93, &[0, 7])], ClientClass::Pxe, Loader::Firmware, Platform::EfiX64, true),
            (
                &[(60, pxe), (93, &[0, 7]), (175, ipxe_features)],
                ClientClass::Pxe,
                Loader::Ipxe,
                Platform::EfiX64,
                true,
            ),
            (
                &[(60, pxe), (93, &[0, 0]), (77, b"iPXE")],
                ClientClass::Pxe,
                Loader::Ipxe,
                Platform::Bios,
                true,
            ),
            (&[(60, pxe), (77, b"\x04iPXE")], ClientClass::Pxe, Loader::Ipxe, Platform::EfiX64, true),
            (
                &[(60, http), (93, &[0, 7, 0, 16])],
                ClientClass::Http,
                Loader::Firmware,
                Platform::EfiX64,
                true,
            ),
            (&[(60, b"PXEClient")], ClientClass::Pxe, Loader::Firmware, Platform::Bios, true),
            (
                &[(60, b"PXEClient"), (93, &[3, 231, 0, 11])],
                ClientClass::Pxe,
                Loader::Firmware,
                Platform::EfiArm64,
                true,
            ),
            (
                &[(60, b"MSFT 5.0"), (175, b"")],
                ClientClass::Ordinary,
                Loader::Firmware,
                Platform::Other,
                false,
            ),
            (&[(77, b"gPXE")], ClientClass::Ordinary, Loader::Firmware, Platform::Other, false),
            (&[], ClientClass::Ordinary, Loader::Firmware, Platform::Other, false),
        ];
        for (options, class, loader, platform, boots) in cases {
            let client = client(options);
            assert_eq!(
                (client.class, client.loader, client.platform(), client.boots()),
                (class, loader, platform, boots),
                "{options:?}"
            );
        }
    }

    #[test]
    fn uuid_is_printed_as_dmidecode_does_and_unset_ones_are_none() {
        let wire =
            [0, 0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        let uuid = client(&[(97, &wire)]).uuid.unwrap();
        assert_eq!(uuid.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        let mut other_type = wire;
        other_type[0] = 1;
        for value in [&[0u8; 17][..], &wire[..16], &other_type, &[]] {
            assert_eq!(client(&[(97, value)]).uuid, None, "{value:?}");
        }
    }

    #[test]
    fn names_that_could_do_harm_are_not_taken() {
        let cases: [(&[u8], Option<&str>); 6] = [
            (b"pc-17.lab", Some("pc-17.lab")),
            (b"pc-17\0", Some("pc-17")),
            (b"$(reboot)", None),
            (b"-x", None),
            (b"a..b", None),
            (b"\x1b[2J", None),
        ];
        for (value, name) in cases {
            assert_eq!(client(&[(12, value)]).host_name.as_deref(), name, "{value:?}");
        }
        assert_eq!(client(&[(60, b"a\x1b[2J")]).vendor_class.as_deref(), Some("a\u{fffd}[2J"));
    }
}
