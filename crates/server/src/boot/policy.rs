//! Which boot file each kind of firmware gets (specs/netboot.md, 3.2).

use gravure_netboot::dhcp::{BootRule, BootTable, ClientClass, Loader, Platform, Quirks, Then, When};

/// The rules for machines that reach us at `content` (`http://address:port`).
pub(crate) fn boot_table(content: &str) -> BootTable {
    // GRUB's words for the firmware, which its own queries have too.
    let script = |arch: &str| format!("{content}/boot.ipxe?mac={{mac}}&uuid={{uuid}}&arch={arch}");
    let ipxe = |platform| When { loader: Some(Loader::Ipxe), platform, ..When::default() };
    let rule = |name: &str, when: When, file: &str| BootRule {
        name: name.into(),
        when,
        then: Then::Boot { file: file.into(), quirks: Quirks::default() },
    };
    let platform = |platform, class| When { platform: Some(platform), class: Some(class), ..When::default() };
    BootTable {
        rules: vec![
            rule("iPXE script", ipxe(Some(Platform::Bios)), &script("i386-pc")),
            rule("iPXE script", ipxe(None), &script("x86_64-efi")),
            rule(
                "UEFI HTTP boot",
                platform(Platform::EfiX64, ClientClass::Http),
                &format!("{content}/shimx64.efi"),
            ),
            rule("UEFI PXE", platform(Platform::EfiX64, ClientClass::Pxe), "shimx64.efi"),
            rule("BIOS PXE", platform(Platform::Bios, ClientClass::Pxe), "undionly.kpxe"),
        ],
    }
}
