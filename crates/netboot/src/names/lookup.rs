//! Finding a name in a directory, and knowing which absent ones are nobody's fault.

use super::relative::RelativeName;

/// What a directory holds for one component of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match<'a> {
    /// This entry: spelled alike, or the only one that differs in ASCII case alone.
    Entry(&'a [u8]),
    /// Several differ in case alone and none is spelled alike.
    Ambiguous,
    /// None.
    Missing,
}

/// Looks `wanted` up among `entries`: exactly, else without regard to case, as Windows boot programs expect it.
pub fn match_entry<'a>(wanted: &[u8], entries: impl IntoIterator<Item = &'a [u8]>) -> Match<'a> {
    let mut folded = Match::Missing;
    for entry in entries {
        if entry == wanted {
            return Match::Entry(entry);
        }
        if entry.eq_ignore_ascii_case(wanted) {
            folded = if folded == Match::Missing { Match::Entry(entry) } else { Match::Ambiguous };
        }
    }
    folded
}

/// Whether boot programs ask for this file on every boot and carry on without it. Not an error worth a log line.
///
/// shim 16 looks for revocation lists and certificates beside itself, GRUB for module lists, iPXE 2.0 for a script of its own.
#[must_use]
pub fn is_expected_probe(name: &RelativeName) -> bool {
    let file = name.file_name();
    let grub_list = file.ends_with(b".lst")
        && name.components().any(|part| part.ends_with(b"-efi") || part == b"i386-pc");
    let shim_extra = file.starts_with(b"shim_certificate") && file.ends_with(b".efi");
    let known: [&[u8]; 4] =
        [b"revocations.efi", b"revocations_sku.efi", b"revocations_sbat.efi", b"autoexec.ipxe"];
    grub_list || shim_extra || known.contains(&file)
}

#[cfg(test)]
mod tests {
    use super::super::normalise_name;
    use super::*;

    #[test]
    fn exact_spelling_wins_over_folded_and_two_folded_over_none() {
        let entries: [&[u8]; 4] = [b"BCD", b"bcd", b"bootmgr.EXE", b"\xc4"];
        let cases: [(&[u8], Match); 5] = [
            (b"bcd", Match::Entry(b"bcd")),
            (b"Bcd", Match::Ambiguous),
            (b"Bootmgr.exe", Match::Entry(b"bootmgr.EXE")),
            (b"boot", Match::Missing),
            (b"\xe4", Match::Missing),
        ];
        for (wanted, found) in cases {
            assert_eq!(match_entry(wanted, entries), found);
        }
    }

    #[test]
    fn probes_are_told_from_missing_boot_files() {
        for name in [
            "revocations_sku.efi",
            "boot/revocations_sbat.efi",
            "shim_certificate_0.efi",
            "grub/x86_64-efi/command.lst",
            "grub/i386-pc/fs.lst",
            "autoexec.ipxe",
        ] {
            assert!(is_expected_probe(&normalise_name(name.as_bytes()).unwrap()), "{name}");
        }
        for name in ["grubx64.efi", "grub/grub.cfg", "files.lst", "shimx64.efi", "vmlinuz"] {
            assert!(!is_expected_probe(&normalise_name(name.as_bytes()).unwrap()), "{name}");
        }
    }
}
