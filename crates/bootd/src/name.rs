//! File names as firmware writes them, made into names a directory can be searched for (specs/netboot.md, 3.4 and 3.5).

/// Longest name accepted, bytes; a TFTP request is shorter, an HTTP request line of ours never comes near.
const MAX_NAME_BYTES: usize = 1024;

/// Makes `raw` a relative name with single slashes: Windows writes backslashes, shim doubles slashes, old ROMs append
/// what stood behind the name in the packet (0xff or NUL). `None` when the name climbs up or is no text.
pub fn clean_name(raw: &[u8]) -> Option<String> {
    let end = raw.iter().rposition(|byte| !matches!(byte, 0 | 0xff)).map_or(0, |last| last + 1);
    let text = std::str::from_utf8(raw.get(..end)?).ok()?;
    if text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
        return None;
    }
    let parts: Vec<&str> = text.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

/// Undoes the percent encoding of a URL's path or query; `None` for a broken escape.
pub(crate) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair = [bytes.next()?, bytes.next()?];
            let digits =
                std::str::from_utf8(&pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_all_clients_become_one_form() {
        let cases: [(&[u8], Option<&str>); 11] = [
            (b"shimx64.efi", Some("shimx64.efi")),
            (b"//grubx64.efi", Some("grubx64.efi")),
            (b"/grub/x86_64-efi/command.lst", Some("grub/x86_64-efi/command.lst")),
            (b"\\Boot\\BCD", Some("Boot/BCD")),
            (b"undionly.kpxe\xff", Some("undionly.kpxe")),
            (b"undionly.kpxe\0", Some("undionly.kpxe")),
            (b"./a/./b", Some("a/b")),
            (b"", Some("")),
            (b"a/../../etc/passwd", None),
            (b"\\..\\x", None),
            (b"a\nb", None),
        ];
        for (raw, expected) in cases {
            assert_eq!(clean_name(raw).as_deref(), expected, "{raw:?}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(percent_decoded("a%20b%2Fc"), Some(b"a b/c".to_vec()));
        for broken in ["%", "%2", "%zz", "a%+1"] {
            assert_eq!(percent_decoded(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leaves_the_directory(raw: Vec<u8>) {
            if let Some(name) = clean_name(&raw) {
                prop_assert!(!name.starts_with('/') && !name.split('/').any(|part| part == ".."));
                prop_assert_eq!(clean_name(name.as_bytes()), Some(name));
            }
        }
    }
}
