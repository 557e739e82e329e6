//! IPv4 networks and address ranges of the configuration.

use core::fmt;
use core::net::Ipv4Addr;
use core::str::FromStr;

use crate::Error;

/// A network such as `10.77.0.0/24`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    base: u32,
    prefix: u8,
}

impl Network {
    /// The network that holds `address`, with `prefix` leading ones in its mask; `None` above 32.
    #[must_use]
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let mask = mask_bits(prefix)?;
        Some(Self { base: address.to_bits() & mask, prefix })
    }

    /// The network of `address` under `mask`; `None` when the mask has holes.
    #[must_use]
    pub fn with_mask(address: Ipv4Addr, mask: Ipv4Addr) -> Option<Self> {
        let prefix = u8::try_from(mask.to_bits().leading_ones()).ok()?;
        (mask_bits(prefix) == Some(mask.to_bits())).then(|| Self::new(address, prefix)).flatten()
    }

    /// Its lowest address.
    #[must_use]
    pub fn base(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base)
    }

    /// Leading ones of the mask.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Its mask.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask_bits(self.prefix).unwrap_or(u32::MAX))
    }

    /// Its highest address.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base | !self.mask().to_bits())
    }

    /// Whether `address` lies in it.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.base
    }

    /// Whether a machine may have `address`: inside, and neither the network's own nor its broadcast address (which
    /// networks of 31 and 32 bits do not have, RFC 3021).
    #[must_use]
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        let edge = address == self.base() || address == self.broadcast();
        self.contains(address) && (self.prefix >= 31 || !edge)
    }
}

fn mask_bits(prefix: u8) -> Option<u32> {
    let host_bits = 32u32.checked_sub(u32::from(prefix))?;
    Some(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({self})")
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.split_once('/')
            .and_then(|(address, prefix)| Self::new(address.parse().ok()?, prefix.parse().ok()?))
            .ok_or_else(|| setting("network", text, "not of the form 10.77.0.0/24"))
    }
}

/// Addresses `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    /// Lowest.
    pub first: Ipv4Addr,
    /// Highest, included.
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// Whether `address` lies in it.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// How many addresses it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        let (first, last) = (u64::from(self.first.to_bits()), u64::from(self.last.to_bits()));
        last.saturating_add(1).saturating_sub(first)
    }

    /// The `index`th address.
    pub(super) fn nth(&self, index: u64) -> Option<Ipv4Addr> {
        let bits = u64::from(self.first.to_bits()).checked_add(index)?;
        let address = Ipv4Addr::from_bits(u32::try_from(bits).ok()?);
        self.contains(address).then_some(address)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for AddressRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.split_once('-')
            .and_then(|(first, last)| {
                Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
            })
            .filter(|range| range.first <= range.last)
            .ok_or_else(|| setting("address range", text, "not of the form 10.77.0.100-10.77.0.200"))
    }
}

pub(super) fn setting(what: &'static str, value: impl fmt::Display, why: &'static str) -> Error {
    Error::Setting { what, value: value.to_string(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_know_their_edges() {
        let cases = [
            ("10.77.0.9/24", "10.77.0.0/24", "255.255.255.0", "10.77.0.255"),
            ("10.77.3.9/22", "10.77.0.0/22", "255.255.252.0", "10.77.3.255"),
            ("10.0.0.4/31", "10.0.0.4/31", "255.255.255.254", "10.0.0.5"),
            ("10.0.0.4/32", "10.0.0.4/32", "255.255.255.255", "10.0.0.4"),
            ("10.0.0.4/0", "0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
        ];
        for (text, shown, mask, broadcast) in cases {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), shown);
            assert_eq!(network.mask().to_string(), mask);
            assert_eq!(network.broadcast().to_string(), broadcast);
        }
        let network: Network = "10.77.0.0/24".parse().unwrap();
        assert!(network.is_host([10, 77, 0, 1].into()));
        assert!(!network.is_host([10, 77, 0, 0].into()));
        assert!(!network.is_host([10, 77, 0, 255].into()));
        assert!(!network.is_host([10, 77, 1, 1].into()));
        assert!("10.0.0.4/31".parse::<Network>().unwrap().is_host([10, 0, 0, 4].into()));
    }

    #[test]
    fn refuses_what_is_no_network_or_range() {
        for text in ["10.77.0.0", "10.77.0.0/33", "x/24", ""] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        for text in ["10.0.0.1", "10.0.0.9-10.0.0.1", "a-b"] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
        assert_eq!(
            "10.77/24".parse::<Network>().unwrap_err().to_string(),
            "setting network 10.77/24: not of the form 10.77.0.0/24"
        );
        assert_eq!(Network::with_mask([10, 0, 0, 1].into(), [255, 0, 255, 0].into()), None);
    }

    #[test]
    fn ranges_count_and_index_up_to_the_last_address() {
        let range: AddressRange = "10.0.0.250 - 10.0.1.5".parse().unwrap();
        assert_eq!(range.count(), 12);
        assert_eq!(range.nth(6), Some([10, 0, 1, 0].into()));
        assert_eq!(range.nth(12), None);
        let all = AddressRange { first: Ipv4Addr::UNSPECIFIED, last: Ipv4Addr::BROADCAST };
        assert_eq!(all.count(), 1 << 32);
    }
}
