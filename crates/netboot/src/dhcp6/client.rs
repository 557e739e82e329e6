//! Who is asking over IPv6: the same facts as over IPv4, so that one policy serves both.

use core::net::Ipv6Addr;

use super::code;
use super::message::Message6;
use crate::dhcp::{ArchCode, BootClient, ClientClass, HardwareAddress, Loader, MachineUuid};

/// DUID of a link-layer address and a time (RFC 8415 section 11.2): the time changes at each boot of edk2.
const DUID_LINK_LAYER_TIME: u16 = 1;
/// DUID of a link-layer address (section 11.4).
const DUID_LINK_LAYER: u16 = 3;
/// DUID of a UUID (RFC 6355).
const DUID_UUID: u16 = 4;
const HARDWARE_ETHERNET: u16 = 1;

/// The machine behind `message`, which came from the link-local address `from` or through a relay; `None` when nothing
/// in it tells the machine's link-layer address.
pub(super) fn client_of(message: &Message6<'_>, from: Ipv6Addr) -> Option<BootClient> {
    let options = &message.options;
    let duid = options.get(code::CLIENT_ID).unwrap_or_default();
    // The relay next to the client saw its frame; a firmware's DUID may come from another of its adapters.
    let relay = message.relays.last();
    let seen = relay.and_then(|relay| counted_address(relay.client_link_layer?));
    let peer = relay.map_or(from, |relay| relay.peer);
    let hardware = seen.or_else(|| address_of_eui64(peer)).or_else(|| duid_address(duid))?;
    let vendor = vendor_class(options.get(code::VENDOR_CLASS).unwrap_or_default());
    let listed = ArchCode::list(options.get(code::CLIENT_ARCH).unwrap_or_default());
    let from_class = || ArchCode::from_vendor_class(vendor).into_iter().collect();
    let class = if vendor.starts_with(b"PXEClient") {
        ClientClass::Pxe
    } else if vendor.starts_with(b"HTTPClient") {
        ClientClass::Http
    } else {
        ClientClass::Ordinary
    };
    let user_class = options.get(code::USER_CLASS).unwrap_or_default();
    let is_ipxe = counted_texts(user_class).any(|text| text == b"iPXE") || user_class == b"iPXE";
    Some(BootClient {
        hardware,
        uuid: duid_uuid(duid, is_ipxe),
        architectures: if listed.is_empty() { from_class() } else { listed },
        class,
        loader: if is_ipxe { Loader::Ipxe } else { Loader::Firmware },
        host_name: None,
        vendor_class: core::str::from_utf8(vendor).ok().map(crate::dhcp::printable),
        relay: None,
        address: None,
    })
}

/// The text of a vendor class under the number that UEFI uses.
fn vendor_class(value: &[u8]) -> &[u8] {
    let Some((number, texts)) = value.split_first_chunk::<4>() else { return &[] };
    if u32::from_be_bytes(*number) != code::UEFI_ENTERPRISE {
        return &[];
    }
    counted_texts(texts).next().unwrap_or_default()
}

/// Texts, each behind two bytes with its length.
fn counted_texts(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        bytes = rest;
        Some(text)
    })
}

/// An address behind two bytes with its hardware type; only Ethernet, whose addresses the rest of the server knows.
fn counted_address(value: &[u8]) -> Option<HardwareAddress> {
    let (kind, address) = value.split_first_chunk::<2>()?;
    let mac: [u8; 6] = address.try_into().ok()?;
    let address = HardwareAddress::ethernet(mac);
    (u16::from_be_bytes(*kind) == HARDWARE_ETHERNET && address.identifies()).then_some(address)
}

fn duid_address(duid: &[u8]) -> Option<HardwareAddress> {
    let (kind, rest) = duid.split_first_chunk::<2>()?;
    match u16::from_be_bytes(*kind) {
        DUID_LINK_LAYER => counted_address(rest),
        DUID_LINK_LAYER_TIME => {
            let (hardware, rest) = rest.split_first_chunk::<2>()?;
            let (_time, address) = rest.split_first_chunk::<4>()?;
            counted_address(&[hardware, address].concat())
        }
        _ => None,
    }
}

/// The machine's UUID. RFC 6355 section 4 wants it in network order, and iPXE writes it so; UEFI firmware copies it as SMBIOS has it,
/// three fields little-endian (recorded: `tests/it/fixtures/ovmf6-pxe-solicit.hex`).
fn duid_uuid(duid: &[u8], is_ipxe: bool) -> Option<MachineUuid> {
    let (kind, rest) = duid.split_first_chunk::<2>()?;
    let uuid: [u8; 16] = rest.try_into().ok()?;
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let wire = if is_ipxe { ORDER.map(|from| uuid.get(from).copied().unwrap_or(0)) } else { uuid };
    (u16::from_be_bytes(*kind) == DUID_UUID).then(|| MachineUuid::from_wire(wire)).flatten()
}

/// The MAC inside a link-local address that was made of it (RFC 4291, appendix A).
fn address_of_eui64(address: Ipv6Addr) -> Option<HardwareAddress> {
    let [.., a, b, c, 0xff, 0xfe, d, e, f] = address.octets() else { return None };
    let mac = HardwareAddress::ethernet([a ^ 2, b, c, d, e, f]);
    (address.is_unicast_link_local() && mac.identifies()).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::super::message::{MessageKind6, Writer};
    use super::*;
    use crate::dhcp::Platform;

    const EUI64: &str = "fe80::5054:ff:fe12:3456";
    const RANDOM: &str = "fe80::1234:5678:9abc:def0";

    fn client(options: &[(u16, &[u8])], from: &str) -> Option<BootClient> {
        let mut writer = Writer::message(MessageKind6::Solicit, 1);
        options.iter().for_each(|(code, value)| writer.option(*code, value));
        let packet = writer.finish();
        client_of(&Message6::parse(&packet).unwrap(), from.parse().unwrap())
    }

    #[test]
    fn machines_are_known_by_frame_then_address_then_duid() {
        let llt = [0, 1, 0, 1, 9, 9, 9, 9, 2, 0, 0, 0, 0, 7];
        let ll = [0, 3, 0, 1, 2, 0, 0, 0, 0, 8];
        let uuid: Vec<u8> = [0, 4].into_iter().chain(0..16).collect();
        let cases: [(&[u8], &str, Option<&str>); 7] = [
            (&llt, EUI64, Some("52:54:00:12:34:56")),
            (&llt, RANDOM, Some("02:00:00:00:00:07")),
            (&ll, RANDOM, Some("02:00:00:00:00:08")),
            (&uuid, EUI64, Some("52:54:00:12:34:56")),
            (&uuid, RANDOM, None),
            (&llt[..10], RANDOM, None),
            (&[], "fd77::5054:ff:fe12:3456", None),
        ];
        for (duid, from, expected) in cases {
            let found = client(&[(code::CLIENT_ID, duid)], from);
            assert_eq!(
                found.map(|client| client.hardware.to_string()).as_deref(),
                expected,
                "{duid:?} {from}"
            );
        }
        let found = client(&[(code::CLIENT_ID, &uuid)], EUI64).unwrap();
        assert_eq!(found.uuid.unwrap().to_string(), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        let found = client(&[(code::CLIENT_ID, &uuid), (code::USER_CLASS, b"iPXE")], EUI64).unwrap();
        assert_eq!(found.uuid.unwrap().to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn classes_count_under_the_number_of_uefi_only() {
        let text = b"HTTPClient:Arch:00016:UNDI:003001";
        let class = |number: u32| {
            let mut value = number.to_be_bytes().to_vec();
            value.extend([0, 33]);
            value.extend(text);
            value
        };
        let uefi = client(&[(code::VENDOR_CLASS, &class(343))], EUI64).unwrap();
        assert_eq!((uefi.class, uefi.platform()), (ClientClass::Http, Platform::EfiX64));
        let windows = client(&[(code::VENDOR_CLASS, &class(311))], EUI64).unwrap();
        assert_eq!(windows.class, ClientClass::Ordinary);
        let ipxe = client(&[(code::USER_CLASS, b"\0\x04iPXE"), (code::CLIENT_ARCH, &[0, 7])], EUI64).unwrap();
        assert_eq!((ipxe.loader, ipxe.boots()), (Loader::Ipxe, true));
    }
}
