//! Microsoft's certificates, by the SHA-256 of what in them was signed (the "TBS hash" of Windows' code integrity policies).
//!
//! A name in a certificate is whatever its maker wrote there; a key that signed another certificate is what is proven. Messages hold the chain
//! up to the authority below the root, and hardly ever the root, so these authorities are pinned. Found in 750 catalogues of drivers of
//! 2003 to 2024, which all chains led to; that of the authorities of 2012 and 2014 is what Microsoft's policies name too, and those of
//! 2013 and of Windows itself are from such policies alone.

use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::{SignatureError, Signed};

/// What a certificate of Microsoft's says by having signed another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vouched {
    /// The hardware program tested it, or took a maker's word.
    HardwareProgram,
    /// It is of Windows, or of a maker whose authority Microsoft signed for drivers.
    Driver,
}

/// Authorities of the hardware program.
const HARDWARE_PROGRAM: [&str; 8] = [
    // Microsoft Windows Hardware Compatibility PCA, of 2002, 2008 and 2010 below Microsoft Root Authority.
    "fce05ee9319f62b5a938ff0d017238487379a20495049dc283eecba5c00db878",
    "d4653ba6c46d62a9a9f7913733f4a7ba0b4d9add38395c5a48e7aaab76f80e84",
    "8f4f0990e595635cce02a53b179dc081f79b7cd5c6d66094de169fe326d93171",
    // The same, of 2007 and 2012 below Microsoft Root Certificate Authority.
    "5aa012f5f2b876834900c4e12b5c1c90f2caeb229bd0a0a73b73e6dee51b9677",
    "8e7c756d4597e8cca0f627d75647e2f9d5a693f1f263b193347066d214c1d4db",
    // Microsoft Windows Third Party Component CA 2012, 2013, 2014 below Microsoft Root Certificate Authority 2010.
    "cec1afd0e310c55c1dcc601ab8e172917706aa32fb5eaf826813547fdf02dd46",
    "c55ee44c6de86fa9ac3fc90f84ef0d4a6cad5aac6a112047c88b997e7547aed1",
    "d8be9e4d9074088ef818bc6f6fb64955e90378b2754155126feebbbd969cf0ae",
];

/// Others whose drivers Windows loads.
const DRIVER: [&str; 7] = [
    // Microsoft Windows Production PCA 2011: Windows itself.
    "4e80be107c860de896384b3eff50504dc2d76ac7151df3102a4450637a032146",
    // Microsoft Root Authority, Microsoft Root Certificate Authority.
    "b0f310311013abfe7a7b41182ad99bc9846bdf91c432d48aa1777208150185a4",
    "855920f04434989fc8f601eecd2f79ff93fe51b541d63aa94bef1425cd7d521d",
    // Makers' authorities by Microsoft Code Verification Root: VeriSign Class 3, Class 3 G5, Universal; DigiCert Assured ID.
    "40bddadac24dc61ca4fb5cab2a2bc5d876bc36808311039a7a3e1a4066f7489b",
    "317fa1d234ebc49040ebc5e8746f8997471496051b185a91bdd9dfbb23fab5f8",
    "d19aa4f43660404ce8193e5494473f6020a148a06cf072501addf0af940322f7",
    "5f6a519ed2e35cd0fa1cdfc90f4387162c36287bbf9e4d6648251d99542a9e83",
];

/// What Microsoft says of who signed; `None` when nothing in the chain is Microsoft's.
pub(crate) fn vouched(signed: &Signed) -> Result<Option<Vouched>, SignatureError> {
    vouched_by(signed, &HARDWARE_PROGRAM, &DRIVER)
}

fn vouched_by(
    signed: &Signed,
    hardware_program: &[&str],
    driver: &[&str],
) -> Result<Option<Vouched>, SignatureError> {
    let mut out = None;
    for certificate in &signed.certificates {
        let hash = crate::journal::hex(&Sha256::digest(Certificate::parse(certificate)?.signed));
        if hardware_program.contains(&hash.as_str()) {
            return Ok(Some(Vouched::HardwareProgram));
        }
        if driver.contains(&hash.as_str()) {
            out = Some(Vouched::Driver);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use gravure_testkit::signing::Authority;

    use super::super::Catalog;
    use super::*;

    #[test]
    fn a_key_vouches_and_a_name_does_not() {
        let name = "Microsoft Windows Third Party Component CA 2014";
        let authority = Authority::new(name);
        let signer = authority.signer("Microsoft Windows Hardware Compatibility Publisher");
        let catalog = signer.catalog(&[b"a"]);
        let signed = Catalog::parse(&catalog).and_then(|catalog| catalog.verify()).unwrap();
        assert_eq!(signed.root, name);
        assert_eq!(vouched(&signed).unwrap(), None);
        // Messages leave roots out; what is pinned is any certificate of the chain.
        let certificate = Certificate::parse(&signed.certificates[0]).unwrap();
        let pin = crate::journal::hex(&Sha256::digest(certificate.signed));
        assert_eq!(vouched_by(&signed, &[&pin], &[]).unwrap(), Some(Vouched::HardwareProgram));
        assert_eq!(vouched_by(&signed, &[], &[&pin]).unwrap(), Some(Vouched::Driver));
        for pin in HARDWARE_PROGRAM.iter().chain(&DRIVER) {
            assert_eq!(crate::journal::unhex(pin).map(|bytes| bytes.len()), Some(32), "{pin}");
        }
    }

    /// Every catalogue that Microsoft's hardware program signed leads to a pinned authority.
    #[test]
    fn real_catalogues_of_the_hardware_program_are_known() {
        let Some(shared) = gravure_testkit::shared_dir() else { return };
        let mut open = vec![shared.join("corpus")];
        let (mut known, mut other) = (0, Vec::new());
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                if !path.extension().is_some_and(|end| end.eq_ignore_ascii_case("cat")) {
                    continue;
                }
                let bytes = std::fs::read(&path).unwrap();
                let Ok(signed) = Catalog::parse(&bytes).and_then(|catalog| catalog.verify()) else {
                    continue;
                };
                if signed.signer == "Microsoft Windows Hardware Compatibility Publisher" {
                    match vouched(&signed).unwrap() {
                        Some(Vouched::HardwareProgram) => known += 1,
                        _ => other.push(path),
                    }
                }
            }
        }
        assert!(other.is_empty(), "{other:?}");
        if known == 0 {
            gravure_testkit::skipped("the corpus at hand has no catalogues");
        }
    }
}
