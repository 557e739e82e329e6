//! The server found by name of the service: DNS-SD (RFC 6763) over multicast DNS (RFC 6762), for payloads that were not
//! booted by the network and whose list of addresses is out of date.
//!
//! What is found here is a hint and nothing more: the payload talks only to a server that proves to be of its site.

use std::net::Ipv4Addr;

use simple_dns::rdata::{A, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

use crate::Error;

/// The service: the API, over TLS.
pub const SERVICE: &str = "_gravure._tcp.local";
/// Where questions go (RFC 6762, section 3).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// And to which port.
pub const PORT: u16 = 5353;
/// Longest message that is looked at (RFC 6762, section 17: what fits into a frame, headers deducted, is sent; more is read).
pub const MAX_MESSAGE_BYTES: usize = 9000;

/// Seconds for which answers hold when everybody hears them (RFC 6762, section 10).
const TTL: u32 = 120;
/// And when they go to one who asked like a simple resolver (section 6.7).
const LEGACY_TTL: u32 = 10;
/// Longest label (RFC 1035, 2.3.4).
const MAX_LABEL_BYTES: usize = 63;
/// Servers taken out of one answer.
const MAX_SERVERS: usize = 16;
/// Attribute of the TXT record: port of the content side.
const CONTENT_PORT: &str = "content";

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    /// Name of the site, for lists that people read.
    pub site: String,
    /// Address on the network that asks.
    pub address: Ipv4Addr,
    /// Port of the API.
    pub api_port: u16,
    /// Port of boot files and images.
    pub content_port: u16,
}

/// A server that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: Ipv4Addr,
    /// Port of the API.
    pub api_port: u16,
    /// Port of boot files and images.
    pub content_port: u16,
}

/// The question of a client that waits for answers on the port it asked from.
pub fn question() -> Vec<u8> {
    let mut packet = Packet::new_query(0);
    let service = Name::new_unchecked(SERVICE);
    packet.questions.push(Question::new(service, TYPE::PTR.into(), CLASS::IN.into(), true));
    // Cannot fail: one name that is known to be one.
    packet.build_bytes_vec().unwrap_or_default()
}

/// The answer to `message`, which came from port `from_port`; nothing when it asks for something else.
pub fn answer(advert: &Advert, message: &[u8], from_port: u16) -> Option<Vec<u8>> {
    let asked = Packet::parse(message.get(..MAX_MESSAGE_BYTES).unwrap_or(message)).ok()?;
    if asked.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let names = Names::of(advert);
    let (service, instance) = (Name::new(SERVICE).ok()?, Name::new(&names.instance).ok()?);
    let host = Name::new(&names.host).ok()?;
    let is_legacy = from_port != PORT;
    let record = |name: &Name<'_>, data| {
        let ttl = if is_legacy { LEGACY_TTL } else { TTL };
        ResourceRecord::new(name.clone().into_owned(), CLASS::IN, ttl, data)
    };
    let pointer = record(&service, RData::PTR(PTR(instance.clone().into_owned())));
    let place = SRV { priority: 0, weight: 0, port: advert.api_port, target: host.clone().into_owned() };
    let place = record(&instance, RData::SRV(place));
    let content = advert.content_port.to_string();
    let text = TXT::new().with_attribute(CONTENT_PORT, Some(content.as_bytes())).ok()?;
    let text = record(&instance, RData::TXT(text));
    let address = record(&host, RData::A(A { address: advert.address.to_bits() }));

    let mut packet = Packet::new_reply(if is_legacy { asked.id() } else { 0 });
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    for question in &asked.questions {
        if !matches!(question.qclass, QCLASS::ANY | QCLASS::CLASS(CLASS::IN)) {
            continue;
        }
        let wants = |kind: TYPE| question.qtype == QTYPE::ANY || question.qtype == QTYPE::TYPE(kind);
        let before = packet.answers.len();
        if question.qname == service && wants(TYPE::PTR) {
            packet.answers.push(pointer.clone());
            packet.additional_records.extend([place.clone(), text.clone(), address.clone()]);
        }
        if question.qname == instance && wants(TYPE::SRV) {
            packet.answers.push(place.clone());
            packet.additional_records.push(address.clone());
        }
        if question.qname == instance && wants(TYPE::TXT) {
            packet.answers.push(text.clone());
        }
        if question.qname == host && wants(TYPE::A) {
            packet.answers.push(address.clone());
        }
        if is_legacy && packet.answers.len() > before {
            packet.questions.push(question.clone());
        }
    }
    if packet.answers.is_empty() {
        return None;
    }
    packet.build_bytes_vec_compressed().ok()
}

/// The servers in an answer: instances of the service with a place and an IPv4 address.
pub fn servers(message: &[u8]) -> Result<Vec<Server>, Error> {
    let corrupt = |found: String| Error::Corrupt {
        what: "multicast DNS message",
        offset: 0,
        expected: "an answer that can be parsed",
        found,
    };
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(corrupt(format!("{} bytes", message.len())));
    }
    let packet = Packet::parse(message).map_err(|error| corrupt(error.to_string()))?;
    let service = Name::new_unchecked(SERVICE);
    let records = || packet.answers.iter().chain(&packet.additional_records);
    let mut found = Vec::new();
    for pointer in records().filter(|record| record.name == service) {
        let RData::PTR(PTR(instance)) = &pointer.rdata else { continue };
        let mine = || records().filter(|record| record.name == *instance);
        let place = mine().find_map(|record| match &record.rdata {
            RData::SRV(place) => Some(place),
            _ => None,
        });
        let Some(place) = place else { continue };
        let content_port = mine().find_map(|record| match &record.rdata {
            RData::TXT(text) => text.attributes().remove(CONTENT_PORT)??.parse().ok(),
            _ => None,
        });
        for record in records().filter(|record| record.name == place.target) {
            let RData::A(address) = &record.rdata else { continue };
            let server = Server {
                address: Ipv4Addr::from_bits(address.address),
                api_port: place.port,
                content_port: content_port.unwrap_or(80),
            };
            if found.len() < MAX_SERVERS && !found.contains(&server) {
                found.push(server);
            }
        }
    }
    Ok(found)
}

struct Names {
    instance: String,
    host: String,
}

impl Names {
    fn of(advert: &Advert) -> Self {
        // One label: no dots, and no more bytes than a label has.
        let mut site: String = advert
            .site
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' })
            .collect();
        site.truncate(MAX_LABEL_BYTES.saturating_sub(20));
        let [a, b, c, d] = advert.address.octets();
        let label = format!("gravure-{a}-{b}-{c}-{d}");
        Self { instance: format!("{site}-{a}-{b}-{c}-{d}.{SERVICE}"), host: format!("{label}.local") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advert() -> Advert {
        Advert {
            site: "Büro 7.2".into(),
            address: Ipv4Addr::new(10, 77, 0, 1),
            api_port: 8443,
            content_port: 8080,
        }
    }

    #[test]
    fn who_asks_for_the_service_finds_the_server() {
        let told = answer(&advert(), &question(), 40_000).unwrap();
        let expected = Server { address: Ipv4Addr::new(10, 77, 0, 1), api_port: 8443, content_port: 8080 };
        assert_eq!(servers(&told).unwrap(), [expected]);
        // A simple resolver gets its question back (RFC 6762, 6.7); a full one does not (section 6).
        assert_eq!(Packet::parse(&told).unwrap().questions.len(), 1);
        let told = answer(&advert(), &question(), PORT).unwrap();
        assert_eq!(Packet::parse(&told).unwrap().questions.len(), 0);
        assert_eq!(servers(&told).unwrap(), [expected]);
    }

    #[test]
    fn each_record_can_be_asked_for_and_others_are_nobodys_business() {
        let ask = |name: &str, kind: TYPE| {
            let mut packet = Packet::new_query(7);
            packet.questions.push(Question::new(
                Name::new(name).unwrap(),
                kind.into(),
                CLASS::IN.into(),
                false,
            ));
            answer(&advert(), &packet.build_bytes_vec().unwrap(), 5353)
        };
        let names = Names::of(&advert());
        for (name, kind) in [
            (names.instance.as_str(), TYPE::SRV),
            (names.instance.as_str(), TYPE::TXT),
            (&names.host, TYPE::A),
        ] {
            let told = ask(name, kind).unwrap();
            assert_eq!(Packet::parse(&told).unwrap().answers.len(), 1, "{name}");
        }
        assert_eq!(ask("_http._tcp.local", TYPE::PTR), None);
        assert_eq!(ask(SERVICE, TYPE::A), None);
        let told = answer(&advert(), &question(), PORT).unwrap();
        assert_eq!(answer(&advert(), &told, PORT), None, "answers are not answered");
    }

    #[test]
    fn a_site_of_any_name_is_one_label() {
        let names = Names::of(&Advert { site: "x.".repeat(100), ..advert() });
        assert!(names.instance.split('.').all(|label| (1..=63).contains(&label.len())), "{}", names.instance);
        assert!(Name::new(&names.instance).is_ok());
    }

    #[test]
    fn what_is_no_answer_names_no_server() {
        assert_eq!(servers(&question()).unwrap(), []);
        assert!(servers(&[0; 9001]).unwrap_err().to_string().contains("9001 bytes"));
        let told = answer(&advert(), &question(), PORT).unwrap();
        for len in 0..told.len() {
            assert!(servers(&told[..len]).map_or(true, |found| found.is_empty()), "cut at {len}");
        }
    }
}
