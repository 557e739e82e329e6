//! Decorations of models sections: `NT[arch][.[major][.[minor][.[product][.[suite][.[build]]]]]]`, and which of several
//! fits a Windows best (WDD "inf-manufacturer-section", "combining-platform-extensions-with-operating-system-versions").

use crate::target::{Arch, Target};

/// What a decoration demands; `None` is no demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Decoration {
    pub(crate) arch: Option<Arch>,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) product: Option<u32>,
    pub(crate) suite: Option<u32>,
    pub(crate) build: Option<u32>,
}

/// How well a decoration fits, best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fit {
    version: (u32, u32),
    build: u32,
    product: bool,
    suite: bool,
    arch: bool,
}

impl Decoration {
    /// Reads `text`, e.g. `NTamd64.10.0...16299`; `None` when it is no decoration.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let rest = text.strip_prefix("nt")?;
        let (arch, numbers) = match rest.split_once('.') {
            Some((arch, numbers)) => (arch, Some(numbers)),
            None => (rest, None),
        };
        let arch = match arch {
            "" => None,
            word => Some(Arch::ALL.into_iter().find(|arch| arch.as_str() == word)?),
        };
        let mut fields = [None; 5];
        let mut slots = fields.iter_mut();
        for part in numbers.iter().flat_map(|numbers| numbers.split('.')) {
            let slot = slots.next()?;
            *slot = match part.trim() {
                "" => None,
                part => Some(number(part)?),
            };
        }
        let [major, minor, product, suite, build] = fields;
        Some(Self { arch, major, minor, product, suite, build })
    }

    /// How well this fits `target`; `None` when it does not.
    pub(crate) fn fit(&self, target: &Target) -> Option<Fit> {
        let arch = match self.arch {
            Some(arch) => arch == target.arch,
            // Since Windows Server 2003 SP1 only x86 takes sections that name no processor.
            None => target.arch == Arch::X86,
        };
        let version = (self.major.unwrap_or(0), self.minor.unwrap_or(0));
        let of_target = (target.version.major, target.version.minor);
        let product = self.product.is_none_or(|product| product == target.product.number());
        let suite = self.suite.is_none_or(|suite| target.suite & suite == suite);
        // A build belongs to its version: it says nothing about later ones.
        let build = version < of_target || self.build.is_none_or(|build| build <= target.version.build);
        (arch && version <= of_target && product && suite && build).then_some(Fit {
            version,
            build: self.build.unwrap_or(0),
            product: self.product.is_some(),
            suite: self.suite.is_some(),
            arch: self.arch.is_some(),
        })
    }
}

/// Decimal, or hexadecimal with `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).ok(),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::ProductType;

    #[test]
    fn decorations_are_read() {
        let all = |arch, fields: [Option<u32>; 5]| {
            let [major, minor, product, suite, build] = fields;
            Some(Decoration { arch, major, minor, product, suite, build })
        };
        let amd64 = Some(Arch::Amd64);
        let cases = [
            ("NT", all(None, [None; 5])),
            ("ntAMD64", all(amd64, [None; 5])),
            ("NTarm64.10.0", all(Some(Arch::Arm64), [Some(10), Some(0), None, None, None])),
            ("NTarm", all(Some(Arch::Arm), [None; 5])),
            ("NT.7", all(None, [Some(7), None, None, None, None])),
            ("NTamd64.10.0...14310", all(amd64, [Some(10), Some(0), None, None, Some(14310)])),
            ("NTamd64.10.0.1..17763", all(amd64, [Some(10), Some(0), Some(1), None, Some(17763)])),
            ("NTx86.6.0.0x1.0x80", all(Some(Arch::X86), [Some(6), Some(0), Some(1), Some(0x80), None])),
            ("NTamd64...3", all(amd64, [None, None, Some(3), None, None])),
            ("NT$ARCH$", None),
            ("NTamd64.x", None),
            ("NTamd64.-1", None),
            ("NT.1.2.3.4.5.6", None),
            ("amd64", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Decoration::parse(text), expected, "{text}");
        }
    }

    /// The best of `texts` for a target.
    fn best<'a>(
        texts: &[&'a str],
        arch: Arch,
        version: &str,
        product: ProductType,
        suite: u32,
    ) -> Option<&'a str> {
        let target = Target { arch, version: version.parse().unwrap(), product, suite };
        let fit = |text: &&str| Decoration::parse(text).unwrap().fit(&target);
        texts.iter().filter(|text| fit(text).is_some()).max_by_key(|text| fit(text)).copied()
    }

    #[test]
    fn the_closest_decoration_is_taken() {
        use ProductType::{DomainController, Server, Workstation};
        let versions = [
            "NTamd64",
            "NTamd64.6.1",
            "NTamd64.10.0",
            "NTamd64.10.0...17763",
            "NTamd64.10.0...22000",
            "NTx86",
        ];
        let cases = [
            ("10.0.22631", Some("NTamd64.10.0...22000")),
            ("10.0.22000", Some("NTamd64.10.0...22000")),
            ("10.0.19045", Some("NTamd64.10.0...17763")),
            ("10.0.14393", Some("NTamd64.10.0")),
            ("6.3.9600", Some("NTamd64.6.1")),
            ("6.0.6000", Some("NTamd64")),
            // The build of another version is no obstacle.
            ("10.1.1", Some("NTamd64.10.0...22000")),
        ];
        for (version, expected) in cases {
            assert_eq!(best(&versions, Arch::Amd64, version, Workstation, 0), expected, "{version}");
        }
        assert_eq!(best(&["NT", "NT.5.1", "NTx86.5.1"], Arch::Amd64, "10.0.1", Workstation, 0), None);
        assert_eq!(
            best(&["NT", "NT.5.1", "NTx86.5.1"], Arch::X86, "5.1.1", Workstation, 0),
            Some("NTx86.5.1")
        );
        assert_eq!(best(&["NT", "NT.5.1", "NTx86"], Arch::X86, "10.0.1", Workstation, 0), Some("NT.5.1"));
        let products = ["NTamd64...1", "NTamd64...3", "NTamd64.6.0"];
        assert_eq!(
            best(&products, Arch::Amd64, "6.0.1", Server, 0),
            Some("NTamd64.6.0"),
            "a version beats a product"
        );
        assert_eq!(best(&products, Arch::Amd64, "5.2.1", Server, 0), Some("NTamd64...3"));
        assert_eq!(best(&products, Arch::Amd64, "5.2.1", DomainController, 0), None);
        let suites = ["NTamd64.6.0", "NTamd64.6.0..0x80", "NTamd64.6.0.3.0x82"];
        assert_eq!(best(&suites, Arch::Amd64, "6.0.1", Server, 0x82), Some("NTamd64.6.0.3.0x82"));
        assert_eq!(best(&suites, Arch::Amd64, "6.0.1", Server, 0x80), Some("NTamd64.6.0..0x80"));
        assert_eq!(best(&suites, Arch::Amd64, "6.0.1", Workstation, 0), Some("NTamd64.6.0"));
    }
}
