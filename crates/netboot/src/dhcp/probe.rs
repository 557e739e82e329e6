//! Looking for DHCP servers: a DISCOVER as PXE firmware sends it, and what is read out of the offers that come.

use core::fmt;
use core::net::Ipv4Addr;

use super::code;
use super::compose::{Composer, reply_limit};
use super::message::{Direction, HardwareAddress, Head, Message, MessageKind};
use super::printable;

/// The DISCOVER of a UEFI x64 machine that boots by PXE. Nobody takes the offers, so servers forget them.
#[must_use]
pub fn probe(xid: u32, mac: [u8; 6]) -> Vec<u8> {
    let head = Head {
        direction: Direction::Request,
        hardware: HardwareAddress::ethernet(mac),
        hops: 0,
        xid,
        secs: 0,
        broadcast: true,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
    };
    let mut composer = Composer::new(head, MessageKind::Discover);
    composer.need(code::VENDOR_CLASS, b"PXEClient:Arch:00007:UNDI:003000");
    composer.need(code::CLIENT_ARCH, &[0, 7]);
    let wanted = [code::SUBNET_MASK, code::ROUTER, code::DNS, code::TFTP_SERVER, code::BOOT_FILE];
    composer.need(code::PARAMETER_REQUEST, &wanted);
    // Everything above fits into the smallest message there is.
    composer.finish(reply_limit(None)).map(|composed| composed.bytes).unwrap_or_default()
}

/// A server's offer to a [`probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenOffer {
    /// Who offers (option 54, else the sender).
    pub server: Ipv4Addr,
    /// The address; `None` from a proxy.
    pub address: Option<Ipv4Addr>,
    /// The boot file it names.
    pub file: Option<String>,
    /// Where that is to be had.
    pub next_server: Option<Ipv4Addr>,
    /// It says `PXEClient` or `HTTPClient`: it knows of booting.
    pub class: Option<String>,
    /// The relay it came through.
    pub relay: Option<Ipv4Addr>,
}

/// Reads an offer; `None` for anything else or another transaction.
#[must_use]
pub fn read_offer(packet: &[u8], xid: u32, from: Ipv4Addr) -> Option<SeenOffer> {
    let message = Message::parse(packet).ok()?;
    let head = &message.head;
    if message.kind() != Some(MessageKind::Offer) || head.xid != xid {
        return None;
    }
    let given = |address: Ipv4Addr| (!address.is_unspecified()).then_some(address);
    let file = message.boot_file().map(|name| printable(&String::from_utf8_lossy(&name)));
    let next_server = message
        .options
        .text(code::TFTP_SERVER)
        .and_then(|text| text.parse().ok())
        .or_else(|| given(head.siaddr));
    Some(SeenOffer {
        server: message.options.address(code::SERVER_IDENTIFIER).unwrap_or(from),
        address: given(head.yiaddr),
        file: file.filter(|file| !file.is_empty()),
        next_server,
        class: message.options.text(code::VENDOR_CLASS).map(|text| printable(&text)),
        relay: given(head.giaddr),
    })
}

impl fmt::Display for SeenOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offers ", self.server)?;
        match self.address {
            Some(address) => write!(f, "the address {address}")?,
            None => write!(f, "no address (a proxy)")?,
        }
        match (&self.file, self.next_server) {
            (Some(file), Some(server)) => write!(f, ", boot file {file} from {server}")?,
            (Some(file), None) => write!(f, ", boot file {file}")?,
            (None, _) => write!(f, ", no boot file")?,
        }
        self.relay.map_or(Ok(()), |relay| write!(f, ", through relay {relay}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        BootRule, BootTable, DhcpConfig, LeaseTable, PacketSource, Quirks, ServerPort, Subnet, Then, When,
        reply,
    };
    use super::*;
    use crate::Millis;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn offer(config: &DhcpConfig) -> SeenOffer {
        let then = Then::Boot { file: "shimx64.efi".into(), quirks: Quirks::default() };
        let table = BootTable { rules: vec![BootRule { name: "all".into(), when: When::default(), then }] };
        let from = PacketSource { address: Ipv4Addr::UNSPECIFIED, port: 68, arrived_on: ServerPort::Dhcp };
        let packet = probe(77, MAC);
        let outcome = reply(config, &table, &mut LeaseTable::default(), &packet, from, Millis(1));
        let answer = outcome.reply.unwrap_or_else(|| panic!("{}", outcome.journal)).bytes;
        assert_eq!(read_offer(&answer, 78, SERVER), None, "another transaction");
        assert_eq!(read_offer(&packet, 77, SERVER), None, "not an offer");
        read_offer(&answer, 77, SERVER).unwrap()
    }

    #[test]
    fn both_kinds_of_servers_answer_the_probe() {
        let proxy = offer(&DhcpConfig::proxy(SERVER));
        assert_eq!(
            proxy.to_string(),
            "10.77.0.1 offers no address (a proxy), boot file shimx64.efi from 10.77.0.1"
        );
        assert_eq!(proxy.class.as_deref(), Some("PXEClient"));
        let pool = Subnet::new("10.77.0.0/24".parse().unwrap(), "10.77.0.100-10.77.0.100".parse().unwrap());
        let full = offer(&DhcpConfig::full(SERVER, vec![pool]));
        assert_eq!(
            full.to_string(),
            "10.77.0.1 offers the address 10.77.0.100, boot file shimx64.efi from 10.77.0.1"
        );
    }
}
