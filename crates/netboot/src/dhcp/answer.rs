//! Filling a reply: the echoes every answer owes, the network's parameters, the boot file in the places firmware looks.

use core::net::Ipv4Addr;
use core::time::Duration;

use super::client::ClientClass;
use super::code;
use super::compose::{Composed, Composer, reply_limit};
use super::config::Subnet;
use super::journal::{Note, RefusedBecause};
use super::message::{Message, MessageKind, sub_options};
use super::offer::BootFile;
use super::policy::FileIn;

/// A reply under construction.
pub(super) struct Answer<'a> {
    pub(super) composer: Composer,
    message: &'a Message,
}

impl<'a> Answer<'a> {
    /// An answer of type `kind` to `message`, with our identifier and the echoes of 61, 82, 97 and 118.
    pub(super) fn new(message: &'a Message, kind: MessageKind, server_identifier: Ipv4Addr) -> Self {
        let mut composer = Composer::new(message.head.answer(), kind);
        composer.need(code::SERVER_IDENTIFIER, &server_identifier.octets());
        // RFC 6842, RFC 4578 section 2.3, RFC 3011 section 2: repeated as they came.
        for code in [code::CLIENT_IDENTIFIER, code::CLIENT_MACHINE, code::SUBNET_SELECTION] {
            let skip = kind == MessageKind::Nak && code != code::CLIENT_IDENTIFIER;
            if let Some(value) = message.options.get(code).filter(|_| !skip) {
                composer.need(code, value);
            }
        }
        if let Some(value) = message.options.get(code::RELAY_AGENT) {
            composer.relay(value);
        }
        Self { composer, message }
    }

    /// Addresses and parameters of the network; without a lease for an INFORM.
    pub(super) fn network(&mut self, subnet: &Subnet, lease: Option<(Ipv4Addr, Duration)>) {
        let composer = &mut self.composer;
        if let Some((address, lease)) = lease {
            composer.head().yiaddr = address;
            let seconds = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX);
            // RFC 2131 section 4.4.5: T1 at a half, T2 at seven eighths.
            let rebinding = seconds.saturating_sub(seconds >> 3);
            for (code, value) in [
                (code::LEASE_TIME, seconds),
                (code::RENEWAL_TIME, seconds >> 1),
                (code::REBINDING_TIME, rebinding),
            ] {
                composer.need(code, &value.to_be_bytes());
            }
        }
        composer.need(code::SUBNET_MASK, &subnet.network.mask().octets());
        composer.wish_addresses(code::ROUTER, &subnet.routers);
        composer.wish_addresses(code::DNS, &subnet.dns);
        composer.wish_addresses(code::BROADCAST, &[subnet.network.broadcast()]);
        if let Some(domain) = subnet.domain.as_ref().filter(|_| self.wants(code::DOMAIN_NAME)) {
            self.composer.wish(code::DOMAIN_NAME, domain.as_bytes());
        }
        if self.wants(code::NTP) {
            self.composer.wish_addresses(code::NTP, &subnet.ntp);
        }
    }

    /// Whether the client asked for `code`; one that sent no list gets everything.
    fn wants(&self, code: u8) -> bool {
        self.message.options.get(code::PARAMETER_REQUEST).is_none_or(|list| list.contains(&code))
    }

    /// Option 60, without which PXE firmware takes no proxy's offer and HTTP boot firmware none at all.
    pub(super) fn boot_class(&mut self, class: ClientClass) {
        let text: &[u8] = if class == ClientClass::Http { b"HTTPClient" } else { b"PXEClient" };
        self.composer.need(code::VENDOR_CLASS, text);
    }

    /// Option 43 of a proxy's answer. `use_this_file` says the search ends here (06 01 08): without it edk2 turns to port
    /// 4011. A boot item (71) that the client chose is repeated, as PXE 2.1 demands of boot servers.
    pub(super) fn pxe_menu(&mut self, use_this_file: bool) {
        let class = self.message.options.get(code::VENDOR_CLASS).unwrap_or_default();
        if !class.starts_with(b"PXEClient") {
            return;
        }
        let mut value = Vec::new();
        if use_this_file {
            value.extend([code::pxe::DISCOVERY_CONTROL, 1, 8]);
        }
        let asked = self.message.options.get(code::VENDOR_SPECIFIC).unwrap_or_default();
        let item = sub_options(asked).find(|(code, value)| *code == code::pxe::BOOT_ITEM && value.len() == 4);
        if let Some((code, item)) = item {
            value.extend([code, 4]);
            value.extend(item);
        }
        if !value.is_empty() {
            value.push(code::pxe::END);
            self.composer.need(code::VENDOR_SPECIFIC, &value);
        }
    }

    /// The boot file: `siaddr`, the `file` field, and option 67 ended by a NUL inside its length (old ROMs read on
    /// without one; edk2 and iPXE cut it off).
    pub(super) fn boot_file(&mut self, file: &BootFile, notes: &mut Vec<Note>) {
        self.composer.head().siaddr = file.next_server;
        if file.fits_field() {
            self.composer.file(file.name.as_bytes());
        } else {
            notes.push(Note::LongName(file.name.len()));
        }
        if file.quirks.file_in == FileIn::Both {
            let mut name = file.name.clone().into_bytes();
            name.push(0);
            self.composer.need(code::BOOT_FILE, &name);
        }
        // Only when asked for by name: it repeats siaddr, for firmware that reads nothing else.
        let asked = self.message.options.get(code::PARAMETER_REQUEST).unwrap_or_default();
        if asked.contains(&code::TFTP_SERVER) && !file.name.contains("://") {
            self.composer.wish(code::TFTP_SERVER, file.next_server.to_string().as_bytes());
        }
    }

    /// Option 175.176 = 1: iPXE need not wait two seconds for ProxyDHCP offers.
    pub(super) fn no_proxy_wait(&mut self) {
        self.composer.need(code::IPXE, &[code::ipxe::NO_PXEDHCP, 1, 1]);
    }

    /// A NAK: its text, and the broadcast flag a relay needs to reach a client without an address (RFC 2131 section 4.3.2).
    pub(super) fn refusal(&mut self, why: RefusedBecause) {
        self.composer.head().broadcast |= !self.message.head.giaddr.is_unspecified();
        self.composer.wish(code::MESSAGE, why.to_string().as_bytes());
    }

    pub(super) fn yiaddr(&mut self) -> Ipv4Addr {
        self.composer.head().yiaddr
    }

    /// The longest message this client takes.
    pub(super) fn limit(&self) -> usize {
        reply_limit(self.message.options.number16(code::MAX_MESSAGE_SIZE))
    }

    pub(super) fn finish(self) -> Option<Composed> {
        let limit = self.limit();
        self.composer.finish(limit)
    }
}
