//! Catalogues and programs signed for the test: taken as they are, refused after any change.

use gravure_testkit::signing::{Authority, program};

use super::*;

#[test]
fn members_of_a_catalogue_are_found_by_the_hash_that_signatures_do_not_change() {
    let authority = Authority::new("Test Root");
    let signer = authority.signer("Test Signer");
    let driver = program(b"driver");
    let other = program(b"another");
    for catalog in [signer.catalog(&[&driver, b"[Version]"]), signer.catalog_sha1(&[&driver, b"[Version]"])] {
        let parsed = Catalog::parse(&catalog).unwrap();
        assert!(parsed.len() >= 2, "{}", parsed.len());
        assert!(parsed.contains(&driver) && parsed.contains(b"[Version]"));
        assert!(parsed.contains(&signer.sign_program(&driver)));
        assert!(!parsed.contains(&other) && !parsed.contains(b"[version]"));
        assert_eq!(parsed.submission(), Some("12345_67890"));
        let signed = parsed.verify().unwrap();
        assert_eq!((signed.signer.as_str(), signed.root.as_str()), ("Test Signer", "Test Root"));
        let mut roots = Roots::default();
        assert!(!roots.trust(&signed).unwrap());
        roots.add(Authority::new("Somebody").certificate()).unwrap();
        assert!(!roots.trust(&signed).unwrap());
        roots.add(authority.certificate()).unwrap();
        assert!(roots.trust(&signed).unwrap());
    }
    assert!(Roots::default().add(b"no certificate").is_err());
}

#[test]
fn a_change_of_any_part_is_found() {
    let signer = Authority::new("Test Root").signer("Test Signer");
    let catalog = signer.catalog(&[b"a", b"b"]);
    let signed = signer.sign_program(&program(b"driver"));
    assert_eq!(embedded_signer(&signed).unwrap().unwrap().signer, "Test Signer");
    assert_eq!(embedded_signer(&program(b"driver")), Ok(None));
    assert_eq!(embedded_signer(b"text"), Ok(None));
    let before = Catalog::parse(&catalog).unwrap();
    let (hashes, content) = (before.len(), before.verify().unwrap());
    let mut roots = Roots::default();
    roots.add(Authority::new("Test Root").certificate()).unwrap();
    let (mut harmless, mut tried) = (0usize, 0usize);
    for at in (0..catalog.len()).step_by(5) {
        let mut bytes = catalog.clone();
        bytes[at] ^= 1;
        tried += 1;
        // What may change is what nobody signs, versions and repeated names of hashes. Without the root's key the signer's
        // own certificate is vouched for by nobody.
        let same = Catalog::parse(&bytes).and_then(|parsed| {
            let signed = parsed.verify()?;
            Ok((roots.trust(&signed)?, parsed.len(), parsed.contains(b"a"), signed))
        });
        if let Ok((true, len, has_a, verified)) = same {
            assert_eq!((len, has_a, &verified.signer), (hashes, true, &content.signer), "{at}");
            harmless += 1;
        }
    }
    assert!(harmless * 20 < tried, "{harmless} of {tried}");
    for at in (0..signed.len()).step_by(7) {
        let mut bytes = signed.clone();
        bytes[at] ^= 1;
        let checked = embedded_signer(&bytes);
        let is_body = (0x200..0x400).contains(&at);
        assert!(!(is_body && matches!(checked, Ok(Some(_)))), "{at}");
    }
}

#[test]
fn any_cut_is_an_error_and_any_bytes_are_survived() {
    let signer = Authority::new("Test Root").signer("Test Signer");
    let catalog = signer.catalog(&[b"a"]);
    for len in 0..catalog.len() {
        assert!(Catalog::parse(&catalog[..len]).is_err(), "{len}");
    }
    let mut random = gravure_testkit::Random::new(7);
    for _ in 0..300 {
        let mut bytes = catalog.clone();
        for _ in 0..=random.below(4) {
            let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            bytes[at] = u8::try_from(random.below(256)).unwrap();
        }
        fuzz(&bytes);
    }
    for bytes in [&b""[..], b"0", b"0\x84\xff\xff\xff\xff", &[0x30; 4096], &[0x30, 0x80, 0, 0]] {
        fuzz(bytes);
    }
}

/// osslsigncode must find what we signed right, and what we check it must check alike.
#[test]
fn a_foreign_checker_agrees() {
    let authority = Authority::new("Test Root");
    let signer = authority.signer("Test Signer");
    let driver = program(b"driver");
    let temp = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = temp.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    use base64::Engine as _;
    let pem = base64::engine::general_purpose::STANDARD.encode(authority.certificate());
    let lines: Vec<&str> = pem.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    let mut roots = Roots::default();
    roots.add(pem.as_bytes()).unwrap();
    let ca = write("ca.pem", pem.as_bytes());
    let catalog = write("a.cat", &signer.catalog(&[&driver]));
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut command = gravure_testkit::oracle("osslsigncode")?;
        let output = command.arg("verify").arg("-CAfile").arg(&ca).args(arguments).output().unwrap();
        Some((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    let plain = write("a.sys", &driver);
    let other = write("b.sys", &program(b"another"));
    let embedded = write("c.sys", &signer.sign_program(&driver));
    let option = std::ffi::OsStr::new("-catalog");
    let input = std::ffi::OsStr::new("-in");
    let Some((good, out)) = run(&[option, catalog.as_os_str(), input, plain.as_os_str()]) else { return };
    assert!(good, "{out}");
    let (good, out) = run(&[option, catalog.as_os_str(), input, other.as_os_str()]).unwrap();
    assert!(!good, "{out}");
    let (good, out) = run(&[input, embedded.as_os_str()]).unwrap();
    assert!(good, "{out}");
}
