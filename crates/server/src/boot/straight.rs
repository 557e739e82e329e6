//! Entries that need no menu: what firmware gets when a rule chose something that GRUB cannot start.
//!
//! WinPE by wimboot and discs as a whole are started by iPXE, on UEFI machines by one that the site put there itself, since nobody
//! signed it; discs also by firmware that boots by HTTP, into memory (UEFI 2.10 section 24.7).

use std::path::Path;

use gravure_netboot::dhcp::{
    BootClient, BootDecision, BootOffer, ClientClass, Loader, Platform, Quirks, Stage,
};

use super::rules::{EXTRA, Entry, EntryKind};

/// Names of an iPXE for UEFI machines, the first that is there counts.
const IPXE: [&str; 2] = ["ipxe.efi", "snponly.efi"];

/// The iPXE for UEFI machines below the directory of boot files `boot`, if the site has one.
pub(crate) fn ipxe_in(boot: &Path) -> Option<&'static str> {
    IPXE.into_iter().find(|name| boot.join("pxe").join(name).is_file())
}

/// What `client` gets for `entry`, which the rule `rule` chose; `None` when the usual way leads there. Files are at `content`
/// (`http://address:port`).
pub(super) fn straight(
    rule: &str,
    entry: &Entry,
    client: &BootClient,
    content: &str,
    ipxe: Option<&str>,
) -> Option<BootDecision> {
    if client.loader != Loader::Firmware || client.platform() != Platform::EfiX64 {
        return None;
    }
    let file = match (entry.kind, client.class, ipxe) {
        (EntryKind::Iso, ClientClass::Http, _) if entry.kernel.is_none() => {
            format!("{content}/{EXTRA}/{}", entry.file)
        }
        _ if entry.is_for_grub() => return None,
        (_, ClientClass::Http, Some(ipxe)) => format!("{content}/{ipxe}"),
        (_, ClientClass::Pxe, Some(ipxe)) => ipxe.to_owned(),
        _ => return None,
    };
    Some(BootDecision::Boot(BootOffer {
        rule: rule.to_owned(),
        stage: Stage::Firmware,
        file,
        next_server: None,
        quirks: Quirks::default(),
    }))
}
