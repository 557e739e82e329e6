//! Names that say which machine they are for: `pxelinux.cfg/01-52-54-00-aa-00-01`, `grub.cfg-01-...`, `boot-<uuid>.ipxe`.

use core::net::Ipv4Addr;

use super::relative::RelativeName;

/// The machine named in a file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientTag {
    /// Its MAC: six bytes with `-` or `:`, pxelinux and GRUB put `01-` (the hardware type) in front.
    Mac([u8; 6]),
    /// Its UUID as text, in lower case.
    Uuid(String),
    /// Its address, eight hexadecimal digits.
    Address(Ipv4Addr),
}

/// Splits the last component of `name` into what is left without the tag, and the tag.
///
/// The tag stands at the end, before the extension if there is one: `grub.cfg-01-52-54-00-aa-00-01` is `grub.cfg` for that
/// MAC, `boot-52:54:00:aa:00:01.ipxe` is `boot.ipxe`. A bare tag leaves an empty rest. An address counts only where
/// pxelinux and GRUB put one, since many words are hexadecimal numbers.
#[must_use]
pub fn client_tag(name: &RelativeName) -> Option<(Vec<u8>, ClientTag)> {
    let file = name.file_name();
    let pxelinux = name.components().rev().nth(1) == Some(b"pxelinux.cfg");
    split_tag(file, pxelinux).or_else(|| {
        let dot = file.iter().rposition(|byte| *byte == b'.')?;
        let (stem, extension) = file.split_at_checked(dot)?;
        let (mut rest, tag) = split_tag(stem, false)?;
        rest.extend(extension);
        Some((rest, tag))
    })
}

fn split_tag(text: &[u8], address_allowed: bool) -> Option<(Vec<u8>, ClientTag)> {
    let text = core::str::from_utf8(text).ok()?;
    let split = |len: usize| {
        let at = text.len().checked_sub(len)?;
        let (rest, tail) = text.split_at_checked(at)?;
        // What stands before the tag is nothing, or ends with a separator that goes with the tag.
        let rest = if rest.is_empty() { rest } else { rest.strip_suffix('-')? };
        Some((rest.as_bytes().to_vec(), tail))
    };
    // The longer forms first: a MAC with its hardware type, a UUID, a plain MAC, an address.
    if let Some((rest, tail)) = split(20)
        && let Some(mac) = tail.strip_prefix("01-").and_then(mac)
    {
        return Some((rest, ClientTag::Mac(mac)));
    }
    if let Some((rest, tail)) = split(36)
        && is_uuid(tail)
    {
        return Some((rest, ClientTag::Uuid(tail.to_ascii_lowercase())));
    }
    if let Some((rest, tail)) = split(17)
        && let Some(mac) = mac(tail)
    {
        return Some((rest, ClientTag::Mac(mac)));
    }
    let (rest, tail) = split(8)?;
    let grub = rest == b"grub.cfg";
    let hexadecimal = tail.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = u32::from_str_radix(tail, 16).ok().filter(|_| hexadecimal && (address_allowed || grub))?;
    Some((rest, ClientTag::Address(Ipv4Addr::from_bits(bits))))
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let separator = if text.contains(':') { ':' } else { '-' };
    let mut out = [0; 6];
    let mut parts = text.split(separator);
    for byte in &mut out {
        let part = parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(out)
}

fn is_uuid(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::super::normalise_name;
    use super::*;

    #[test]
    fn machines_are_found_where_loaders_put_them() {
        let mac = ClientTag::Mac([0x52, 0x54, 0, 0xaa, 0, 1]);
        let uuid = ClientTag::Uuid("00112233-4455-6677-8899-aabbccddeeff".into());
        let address = ClientTag::Address([10, 77, 0, 1].into());
        let cases = [
            ("pxelinux.cfg/01-52-54-00-aa-00-01", Some(("", mac.clone()))),
            ("pxelinux.cfg/00112233-4455-6677-8899-AABBCCDDEEFF", Some(("", uuid.clone()))),
            ("pxelinux.cfg/0A4D0001", Some(("", address.clone()))),
            ("pxelinux.cfg/default", None),
            ("grub/grub.cfg-01-52-54-00-aa-00-01", Some(("grub.cfg", mac.clone()))),
            ("grub/grub.cfg-0A4D0001", Some(("grub.cfg", address))),
            ("grub.cfg-52:54:00:aa:00:01", Some(("grub.cfg", mac.clone()))),
            ("boot-52:54:00:aa:00:01.ipxe", Some(("boot.ipxe", mac.clone()))),
            ("52-54-00-aa-00-01.ipxe", Some((".ipxe", mac))),
            ("x/boot-00112233-4455-6677-8899-aabbccddeeff.ipxe", Some(("boot.ipxe", uuid))),
            ("grub.cfg", None),
            ("deadbeef", None),
            ("file-deadbeef.efi", None),
            ("x52-54-00-aa-00-01", None),
            ("52-54-00-aa-00", None),
            ("52-54-00-aa-00-0x", None),
            ("52-54-00-aa-00-+1", None),
            ("pxelinux.cfg/+A4D0001", None),
        ];
        for (name, expected) in cases {
            let found = client_tag(&normalise_name(name.as_bytes()).unwrap());
            let expected = expected.map(|(rest, tag)| (rest.as_bytes().to_vec(), tag));
            assert_eq!(found, expected, "{name}");
        }
    }
}
