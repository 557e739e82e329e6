//! Media types by name. UEFI HTTP boot tells a program from a disk image by it (UEFI 2.10 section 24.7.4).

use crate::names::RelativeName;

/// The `Content-Type` for a file of this name.
#[must_use]
pub fn media_type(name: &RelativeName) -> &'static str {
    const TYPES: [(&[u8], &str); 10] = [
        (b".efi", "application/efi"),
        (b".iso", "application/vnd.efi-iso"),
        (b".img", "application/vnd.efi-img"),
        (b".cfg", "text/plain; charset=utf-8"),
        (b".ipxe", "text/plain; charset=utf-8"),
        (b".txt", "text/plain; charset=utf-8"),
        (b".json", "application/json"),
        (b".html", "text/html; charset=utf-8"),
        (b".css", "text/css; charset=utf-8"),
        (b".js", "text/javascript; charset=utf-8"),
    ];
    let file = name.file_name().to_ascii_lowercase();
    TYPES.iter().find(|row| file.ends_with(row.0)).map_or("application/octet-stream", |row| row.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::normalise_name;

    #[test]
    fn firmware_is_told_programs_from_images() {
        let cases = [
            ("shimx64.efi", "application/efi"),
            ("EFI/BOOT/BOOTX64.EFI", "application/efi"),
            ("deb.iso", "application/vnd.efi-iso"),
            ("disk.IMG", "application/vnd.efi-img"),
            ("grub/grub.cfg", "text/plain; charset=utf-8"),
            ("vmlinuz", "application/octet-stream"),
        ];
        for (name, media) in cases {
            assert_eq!(media_type(&normalise_name(name.as_bytes()).unwrap()), media, "{name}");
        }
    }
}
