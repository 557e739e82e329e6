//! Normalising one name.

use core::fmt;

use crate::Error;

/// Longest name taken: PATH_MAX of the systems the files lie on is 4096, real boot names stay below 200.
pub const MAX_NAME_BYTES: usize = 1024;
/// NAME_MAX of every file system in question.
const MAX_COMPONENT_BYTES: usize = 255;

/// A file name below some root: components of 1 to 255 bytes joined by `/`, none of them `.` or `..`, no NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativeName(Vec<u8>);

impl RelativeName {
    /// The name, components joined by `/`, without a leading one.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its components; at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The last component.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        self.components().next_back().unwrap_or_default()
    }

    /// The name as text, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Display for RelativeName {
    /// Bytes outside printable ASCII are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for RelativeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelativeName({self})")
    }
}

/// Turns a name from a request into a [`RelativeName`].
///
/// `\` means `/` (Windows boot programs), repeated, leading and trailing slashes and `.` components vanish (shim asks for
/// `//grubx64.efi`), and stray 0xff and NUL at the end are cut: ROMs that read option 67 past its end add them.
pub fn normalise_name(bytes: &[u8]) -> Result<RelativeName, Error> {
    let corrupt = |offset, expected, found| Error::Corrupt { what: "file name", offset, expected, found };
    let strays = bytes.iter().rev().take_while(|byte| matches!(byte, 0xff | 0)).count();
    let bytes = bytes.get(..bytes.len().saturating_sub(strays)).unwrap_or_default();
    if bytes.len() > MAX_NAME_BYTES {
        return Err(corrupt(MAX_NAME_BYTES, "at most 1024 bytes", bytes.len().to_string()));
    }
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        return Err(corrupt(offset, "no NUL", "a NUL".into()));
    }
    let mut name = Vec::with_capacity(bytes.len());
    let mut offset = 0usize;
    for component in bytes.split(|byte| matches!(byte, b'/' | b'\\')) {
        match component {
            b"" | b"." => {}
            b".." => return Err(corrupt(offset, "a name below the root", "..".into())),
            _ if component.len() > MAX_COMPONENT_BYTES => {
                return Err(corrupt(offset, "components of at most 255 bytes", component.len().to_string()));
            }
            _ => {
                if !name.is_empty() {
                    name.push(b'/');
                }
                name.extend(component);
            }
        }
        offset = offset.saturating_add(component.len()).saturating_add(1);
    }
    // Strays that stood before a slash stand at the end now. What is left without them is looked at anew.
    if name.last() == Some(&0xff) {
        return normalise_name(&name);
    }
    if name.is_empty() {
        return Err(corrupt(0, "a file", "none".into()));
    }
    Ok(RelativeName(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_spell_one_name_many_ways() {
        let cases: [(&[u8], &str); 15] = [
            (b"shimx64.efi", "shimx64.efi"),
            (b"/grub/grub.cfg", "grub/grub.cfg"),
            (b"//grubx64.efi", "grubx64.efi"),
            (b"\\Boot\\BCD", "Boot/BCD"),
            (b"boot\\/x//y/", "boot/x/y"),
            (b"./a/./b", "a/b"),
            (b"pxelinux.0\xff", "pxelinux.0"),
            (b"pxelinux.0\0", "pxelinux.0"),
            (b"a\xff\xff", "a"),
            (b"a\xff/b\0\xff\0", "a\\xff/b"),
            (b"b\xe4r.cfg", "b\\xe4r.cfg"),
            (b"...", "..."),
            (b"C:\\x", "C:/x"),
            (b"a\xff/", "a"),
            (b"a\xff/.\xff/\xff", "a"),
        ];
        for (bytes, name) in cases {
            assert_eq!(normalise_name(bytes).unwrap().to_string(), name);
        }
        let name = normalise_name(b"/a//b/c").unwrap();
        assert_eq!(name.components().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!((name.file_name(), name.as_str()), (&b"c"[..], Some("a/b/c")));
        assert_eq!(normalise_name(b"\xe4").unwrap().as_str(), None);
    }

    #[test]
    fn refuses_names_that_leave_the_root_or_are_none() {
        let long = [b'x'; 1025];
        let cases: [(&[u8], &str); 11] = [
            (b"", "file name at 0x0: a file expected, found none"),
            (b"/", "file name at 0x0: a file expected, found none"),
            (b"/./\xff", "file name at 0x0: a file expected, found none"),
            (b"\xff/", "file name at 0x0: a file expected, found none"),
            (b"a/..\xff/", "file name at 0x2: a name below the root expected, found .."),
            (b"../etc/shadow", "file name at 0x0: a name below the root expected, found .."),
            (b"a/..\\b", "file name at 0x2: a name below the root expected, found .."),
            (b"a/b/..", "file name at 0x4: a name below the root expected, found .."),
            (b"a\0b", "file name at 0x1: no NUL expected, found a NUL"),
            (&long, "file name at 0x400: at most 1024 bytes expected, found 1025"),
            (&long[..256], "file name at 0x0: components of at most 255 bytes expected, found 256"),
        ];
        for (bytes, text) in cases {
            assert_eq!(normalise_name(bytes).unwrap_err().to_string(), text);
        }
    }
}
