//! Which boot file each kind of firmware gets (specs/netboot.md, 3.2).

use gravure_netboot::dhcp::{BootRule, BootTable, ClientClass, Loader, Platform, Quirks, Then, When};

use super::library::UKI;
use crate::config::Chain;

/// For machines that could load the signed image twice over TFTP, and would trust what they get in between.
const ONLY_HTTP: &str = "this site starts UEFI machines by an image that its own key signed, over HTTP only: switch the firmware \
    from PXE to HTTP boot";

/// The rules for machines that reach us at `content` (`http://address:port`); firmware fetches the signed image from
/// `firmware`, which may be `https://`.
pub(crate) fn boot_table(content: &str, firmware: &str, chain: Chain) -> BootTable {
    // GRUB's words for the firmware, which its own queries have too.
    let script = |arch: &str| format!("{content}/boot.ipxe?mac={{mac}}&uuid={{uuid}}&arch={arch}");
    let ipxe = |platform| When { loader: Some(Loader::Ipxe), platform, ..When::default() };
    let rule = |name: &str, when: When, file: &str| BootRule {
        name: name.into(),
        when,
        then: Then::Boot { file: file.into(), quirks: Quirks::default() },
    };
    let platform = |platform, class| When { platform: Some(platform), class: Some(class), ..When::default() };
    let signed = |file: &str| format!("{firmware}/{UKI}/{file}");
    let [http, pxe] = [ClientClass::Http, ClientClass::Pxe].map(|class| platform(Platform::EfiX64, class));
    let only_http = || BootRule { name: "UEFI PXE".into(), when: pxe, then: Then::Ignore(ONLY_HTTP.into()) };
    let uefi = match chain {
        Chain::Grub => [
            rule("UEFI HTTP boot", http, &format!("{content}/shimx64.efi")),
            rule("UEFI PXE", pxe, "shimx64.efi"),
        ],
        Chain::ShimUki => [rule("signed image behind shim", http, &signed("shimx64.efi")), only_http()],
        Chain::Uki => [rule("signed image", http, &signed(crate::secure_boot::IMAGE)), only_http()],
    };
    let [uefi_http, uefi_pxe] = uefi;
    BootTable {
        rules: vec![
            rule("iPXE script", ipxe(Some(Platform::Bios)), &script("i386-pc")),
            rule("iPXE script", ipxe(None), &script("x86_64-efi")),
            uefi_http,
            uefi_pxe,
            rule("BIOS PXE", platform(Platform::Bios, ClientClass::Pxe), "undionly.kpxe"),
        ],
    }
}
