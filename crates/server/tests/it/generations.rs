//! A GRUB or signed image that the site's shim would refuse is not served, not put on a medium, and no site is made with it.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]

use std::net::Ipv4Addr;
use std::path::Path;

use gravure_server::{CONFIG_NAME, Config, ErrorKind, InitOptions, init, media};
use gravure_testkit::boot_program;

use crate::common::TestSite;

const LEVELS: &[u8] = b"\0\0\0\0\x08\0\0\0\x20\0\0\0sbat,1,2024\nshim,4\ngrub,5\n\0";
const OLD: &[u8] = b"sbat,1,x\ngrub,4,x\n";
const NEW: &[u8] = b"sbat,1,x\ngrub,5,x\n";

fn put(path: &Path, section: (&str, &[u8])) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, boot_program(&[section])).unwrap();
}

#[test]
fn a_grub_that_shim_refuses_is_not_served_and_not_put_on_a_medium() {
    let mut site = TestSite::new();
    site.stop();
    let boot = site.dir.join("boot");
    put(&boot.join("pxe/shimx64.efi"), (".sbatlevel", LEVELS));
    put(&boot.join("pxe/grubx64.efi"), (".sbat", OLD));
    let error = site.try_start().unwrap_err();
    assert!(error.contains("machines with Secure Boot would refuse to start"), "{error}");
    assert!(error.contains("grub 5 or newer") && error.contains("found grub 4"), "{error}");
    let config = Config::load(&site.dir.join(CONFIG_NAME)).unwrap();
    let target = site.dir.join("stick.img");
    let refused = media::build(&config, &target).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(refused.cure().unwrap().contains("of one Debian release"), "{refused}");
    assert!(!target.exists());
    // The pair that fits is served.
    put(&boot.join("pxe/grubx64.efi"), (".sbat", NEW));
    site.start();
}

#[test]
fn the_chain_decides_which_program_counts() {
    let mut site = TestSite::new();
    site.stop();
    let path = site.dir.join(CONFIG_NAME);
    let old = std::fs::read_to_string(&path).unwrap();
    let chain = |chain: &str| {
        std::fs::write(&path, old.replace("chain = \"grub\"", &format!("chain = {chain:?}"))).unwrap()
    };
    put(&site.dir.join("boot/pxe/shimx64.efi"), (".sbatlevel", LEVELS));
    put(&site.dir.join("boot/pxe/grubx64.efi"), (".sbat", OLD));
    put(&site.dir.join("uki/gravure.efi"), (".sbat", OLD));
    for (name, refused) in [("grub", Some("grubx64.efi")), ("shim-uki", Some("gravure.efi")), ("uki", None)] {
        chain(name);
        match (site.try_start(), refused) {
            (Err(error), Some(program)) => assert!(error.contains(program), "{name}: {error}"),
            (Ok(()), None) => site.stop(),
            (started, _) => panic!("{name}: {started:?}"),
        }
    }
    // So that the site can end as it began.
    chain("uki");
    site.start();
}

#[test]
fn no_site_is_made_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let boot = dir.path().join("boot");
    put(&boot.join("pxe/shimx64.efi"), (".sbatlevel", LEVELS));
    put(&boot.join("pxe/grubx64.efi"), (".sbat", OLD));
    put(&boot.join("pxe/linuxx64.efi.stub"), (".sbat", OLD));
    for name in ["vmlinuz", "initramfs.cpio.zst"] {
        std::fs::write(boot.join(name), "x").unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (uki, program) in [(false, "grubx64.efi"), (true, "linuxx64.efi.stub")] {
        let options = InitOptions {
            dir: dir.path().join("site"),
            listen: Some(Ipv4Addr::LOCALHOST),
            boot_dir: Some(boot.clone()),
            uki,
            ..InitOptions::default()
        };
        let error = runtime.block_on(init(&options)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(program), "{error}");
        assert!(!options.dir.exists(), "nothing is left of it");
    }
}
