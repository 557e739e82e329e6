//! The fuzz bodies as plain tests: files that have everything in them, cut at every byte, damaged, and random text.

use gravure_inf::{Inf, fuzz};
use gravure_testkit::Random;
use proptest::prelude::*;

const SEED: &str = r#"; seed
[Version]
Signature="$Windows NT$"
ClassGuid={4D36E97B-E325-11CE-BFC1-08002BE10318}
DriverVer=09/16/2020,18.0.4.1146
CatalogFile.ntamd64=a.cat
[SourceDisksNames]
1 = %d%,,,"x"
[SourceDisksFiles.amd64]
a.sys = 1,,,
[DestinationDirs]
L = 12,sub
[Manufacturer]
%m% = M, NTamd64.10.0...15063, NTx86.6.1.0x1
[M.NTamd64.10.0...15063]
%PCI\V.d% = I, PCI\V, \
  PCI\W
[M.NTx86.6.1.0x1]
d = I, USB\X
[I.NT]
CopyFiles = L, @a.sys ; comment
AddReg = R
FeatureScore = 0x80
Needs = I.NT, J
[I.NT.Services]
AddService = s, 2, S
[L]
a.sys, b.sys,, 0x10
[R]
HKR,, V, 0x10001, 1
HKLM, "a ""b""", %m%, 1, 01, ff
[S]
ServiceBinary = %13%\a.sys
StartType = 0
[Strings]
m = "Maker %m% 100%%"
d = e
[Strings.0411]
m = M
PCI\V.d = x
"#;

fn seeds() -> Vec<Vec<u8>> {
    let utf16: Vec<u8> =
        std::iter::once(0xfeff).chain(SEED.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let page: Vec<u8> =
        SEED.replace("Maker", "\u{1}").bytes().map(|b| if b == 1 { 0xe9 } else { b }).collect();
    vec![SEED.as_bytes().to_vec(), SEED.replace('\n', "\r\n").into_bytes(), utf16, page]
}

#[test]
fn any_cut_is_read_or_refused() {
    for seed in seeds() {
        assert_eq!(Inf::parse(&seed).unwrap().all_models().len(), 2);
        (0..=seed.len()).for_each(|len| fuzz::file(&seed[..len]));
    }
}

#[test]
fn damage_is_survived() {
    let mut random = Random::new(31);
    let pieces: Vec<&[u8]> = vec![
        b"[",
        b"]",
        b"%",
        b"\"",
        b",",
        b"=",
        b"\\\n",
        b";",
        b"\n",
        b"\x1a",
        b"\0",
        b".NT",
        b"@",
        b"Needs=",
        b"\xff\xfe",
        b"0x",
    ];
    for seed in seeds() {
        for _ in 0..400 {
            let mut data = seed.clone();
            for _ in 0..=random.below(4) {
                let at = usize::try_from(random.below(data.len() as u64)).unwrap();
                match random.below(3) {
                    0 => data[at] ^= 1 << random.below(8),
                    1 => drop(data.splice(at..at, random.pick(&pieces).unwrap().iter().copied())),
                    _ => {
                        let end = (at + usize::try_from(random.below(40)).unwrap()).min(data.len());
                        data.drain(at..end);
                    }
                }
                if data.is_empty() {
                    break;
                }
            }
            fuzz::file(&data);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(data in prop::collection::vec(any::<u8>(), 0..1500)) {
        fuzz::file(&data);
        fuzz::file(&[b"[Version]\nSignature=$Chicago$\n".as_slice(), &data].concat());
    }

    #[test]
    fn random_lines(lines in prop::collection::vec("(\\[[A-C]?(\\.NT(amd64)?)?\\]|[A-C%\",=\\\\;@ ]{0,12})", 0..60)) {
        let text = format!("[Version]\nSignature=$Chicago$\n[Manufacturer]\nA=A,NTamd64\nB=B\n{}", lines.join("\n"));
        fuzz::file(text.as_bytes());
    }

    /// What is written with quotes is read as it was meant.
    #[test]
    fn quoted_fields_survive(fields in prop::collection::vec("[ -~\u{e9}\u{416}]{0,30}", 1..6)) {
        let quoted: Vec<String> = fields.iter().map(|f| format!("\"{}\"", f.replace('"', "\"\""))).collect();
        let text = format!("[Version]\nSignature=$Chicago$\n[A]\nk = {}\n", quoted.join(" , "));
        let inf = Inf::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&inf.section("A").unwrap().lines[0].values, &fields);
    }
}
