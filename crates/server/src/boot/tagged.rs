//! Menus asked for by names that say which machine they are for, as GRUB's network search and hand-written scripts have them:
//! `grub/grub.cfg-01-52-54-00-aa-00-01`, `boot-52:54:00:aa:00:01.ipxe` (specs/netboot.md, 3.4).

use gravure_bootd::Ask;
use gravure_model::identity::Mac;
use gravure_netboot::names::{ClientTag, client_tag, normalise_name};

/// What is made for each machine. Files of a site's own may have any names.
const MADE: [&str; 4] = ["grub/grub.cfg", "boot/grub.cfg", "boot.ipxe", "autoexec.ipxe"];

/// The same question with the machine in its query and not in its name. A machine that the query names already stays.
pub(super) fn untagged(mut ask: Ask) -> Ask {
    let Some((rest, tag)) = client_tag(&ask.name) else { return ask };
    let (key, value) = match tag {
        ClientTag::Mac(mac) => ("mac", Mac(mac).to_string()),
        ClientTag::Uuid(uuid) => ("uuid", uuid),
        // Who has an address is known better by who asks from it.
        ClientTag::Address(_) => return ask,
    };
    let whole = ask.name.as_str().unwrap_or_default();
    let directory = whole.rsplit_once('/').map_or("", |(directory, _)| directory);
    let plain = format!("{directory}/{}", String::from_utf8_lossy(&rest));
    let plain = plain.trim_start_matches('/').to_ascii_lowercase();
    if let (true, Ok(name)) = (MADE.contains(&plain.as_str()), normalise_name(plain.as_bytes())) {
        ask.name = name;
        if ask.field(key).is_none() {
            ask.query.push((key.to_owned(), value));
        }
    }
    ask
}

#[cfg(test)]
mod tests {
    use gravure_bootd::{Asking, Via};

    use super::*;

    #[test]
    fn names_of_menus_tell_the_machine_and_others_stay() {
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        let mac = Some(("mac", "52:54:00:aa:00:01"));
        let cases = [
            ("grub/grub.cfg-01-52-54-00-AA-00-01".to_owned(), "grub/grub.cfg", mac),
            ("boot/grub.cfg-52:54:00:aa:00:01".to_owned(), "boot/grub.cfg", mac),
            ("boot-52-54-00-aa-00-01.ipxe".to_owned(), "boot.ipxe", mac),
            (format!("boot-{uuid}.ipxe"), "boot.ipxe", Some(("uuid", uuid))),
            ("grub/grub.cfg-0A4D0009".to_owned(), "grub/grub.cfg-0A4D0009", None),
            ("pxelinux.cfg/01-52-54-00-aa-00-01".to_owned(), "pxelinux.cfg/01-52-54-00-aa-00-01", None),
            ("extra/notes-52-54-00-aa-00-01.txt".to_owned(), "extra/notes-52-54-00-aa-00-01.txt", None),
            ("boot.ipxe".to_owned(), "boot.ipxe", None),
        ];
        for (asked, name, field) in cases {
            let ask = Ask {
                name: normalise_name(asked.as_bytes()).unwrap(),
                query: Vec::new(),
                peer: [10, 0, 0, 1].into(),
                local: ([10, 0, 0, 2], 80).into(),
                via: Via::Http,
                asking: Asking::Content,
                afresh: false,
            };
            let named = untagged(Ask { query: vec![("mac".into(), "other".into())], ..ask.clone() });
            assert_eq!(named.field("mac"), Some("other"), "{asked}");
            let ask = untagged(ask);
            assert_eq!(ask.name.as_str(), Some(name), "{asked}");
            let found = ask.query.first().map(|(key, value)| (key.as_str(), value.as_str()));
            assert_eq!(found, field, "{asked}");
        }
    }
}
