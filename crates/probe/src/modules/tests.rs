//! Patterns, lookup by alias, load order.

use super::pattern::matches;
use super::*;

const DEP: &str = "kernel/drivers/net/ethernet/intel/e1000/e1000.ko:\n\
    kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/net/net_failover.ko\n\
    kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n\
    kernel/net/core/failover.ko:\n\
    kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz\nkernel/fs/jbd2/jbd2.ko.xz:\n\
    kernel/crypto/crc32c_generic.ko:\nkernel/arch/x86/crypto/crc32c-intel.ko:\n\
    kernel/drivers/a.ko: kernel/drivers/b.ko\nkernel/drivers/b.ko: kernel/drivers/a.ko\n";
const ALIAS: &str = "# Aliases extracted from modules themselves.\n\
    alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000\n\
    alias pci:v00008086d0000100[0-9A-F]sv*sd*bc*sc*i* wide\n\
    alias virtio:d00000001v* virtio_net\n\
    alias crypto-crc32c crc32c_generic\nalias crypto_crc32c crc32c_intel\nalias fs-ext4 ext4\n\
    broken line\nalias\n";
const SOFT: &str = "# Soft\nsoftdep ext4 pre: crypto-crc32c post: virtio_net\nsoftdep missing pre: ext4\n";

fn modules() -> Modules {
    Modules::parse(ModuleTexts {
        dep: DEP,
        alias: ALIAS,
        softdep: SOFT,
        builtin: "kernel/fs/efivarfs/efi-varfs.ko\n",
    })
}

#[test]
fn patterns_match_as_fnmatch_does() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("*", "anything", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("a*c*e", "abbcdde", true),
        ("a*c*e", "abbcdd", false),
        ("[0-9A-F]x", "Bx", true),
        ("[0-9A-F]x", "Gx", false),
        ("[]a]", "]", true),
        ("[!0-9]", "x", true),
        ("[!0-9]", "5", false),
        ("[abc", "a", false),
        ("a[b-d]*", "ac-then", true),
        ("\\*", "*", true),
        ("\\*", "x", false),
        ("x-y", "x_y", true),
    ] {
        assert_eq!(
            matches(pattern.as_bytes(), text.replace('-', "_").as_bytes()),
            expected,
            "{pattern} {text}"
        );
    }
}

#[test]
fn a_pattern_of_stars_does_not_take_for_ever() {
    let pattern = b"a*".repeat(200);
    let text = vec![b'a'; 5000];
    assert!(matches(&pattern, &text));
    assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
}

#[test]
fn devices_find_their_modules() {
    let modules = modules();
    let card = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00";
    assert_eq!(modules.resolve(card), ["e1000"], "`wide` is in no modules.dep");
    assert_eq!(modules.resolve("virtio:d00000001v00001AF4"), ["virtio_net"]);
    assert_eq!(modules.resolve("crypto-crc32c"), ["crc32c_generic", "crc32c_intel"]);
    assert_eq!(modules.resolve("virtio-net"), ["virtio_net"], "a name in either spelling");
    assert!(modules.resolve("pci:v0000FFFF").is_empty() && modules.resolve("").is_empty());
    assert!(
        modules.is_builtin("efi_varfs") && modules.is_builtin("efi-varfs") && !modules.is_builtin("ext4")
    );
    assert_eq!(modules.len(), 10);
}

#[test]
fn what_is_needed_comes_before() {
    let modules = modules();
    let names = |name| modules.load_order(name).iter().map(|load| load.name).collect::<Vec<_>>();
    assert_eq!(names("virtio-net"), ["failover", "net_failover", "virtio_net"]);
    assert_eq!(
        names("ext4"),
        ["crc32c_generic", "crc32c_intel", "jbd2", "ext4", "failover", "net_failover", "virtio_net"]
    );
    assert_eq!(modules.load_order("ext4")[2].path, "kernel/fs/jbd2/jbd2.ko.xz");
    assert!(names("absent").is_empty());
}

#[test]
fn circles_end() {
    let modules = modules();
    let names: Vec<&str> = modules.load_order("a").iter().map(|load| load.name).collect();
    assert_eq!(names, ["b", "a"]);
}
