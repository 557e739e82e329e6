//! Whether the shim of a site starts what stands behind it, before a machine finds out (SBAT; `gravure_disk::sbat`).
//!
//! shim refuses programs of a generation below the levels it carries, and those that tell none. The machine then says "Security
//! Violation" and waits, so a site with such a pair is not served, put on a medium, or made.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use gravure_disk::sbat;

use crate::Error;
use crate::boot::Shims;
use crate::config::{Chain, Config};

/// The sections asked for are at the beginning of a program; a signed image is of hundreds of megabytes.
const READ_BYTES: u64 = 16 << 20;

/// Refuses what the shims of this site would refuse, by the chain that it serves.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    let boot = &config.paths.boot;
    match config.boot.chain {
        Chain::Grub => behind_shims(boot, &boot.join("pxe/grubx64.efi")),
        Chain::ShimUki => behind_shims(boot, &config.paths.uki.join(crate::secure_boot::IMAGE)),
        // Firmware checks the signature alone.
        Chain::Uki => Ok(()),
    }
}

/// The same for `program`, which is started by the shims in the directory of boot files `boot`. What is not there or no
/// program is not judged here.
pub(crate) fn behind_shims(boot: &Path, program: &Path) -> Result<(), Error> {
    let Some(content) = read(program) else { return Ok(()) };
    let loaders = boot.join("pxe");
    for name in Shims::names(&loaders) {
        let shim = loaders.join(name);
        let Some(bytes) = read(&shim) else { continue };
        let refused =
            |message: String| Error::Generation { program: program.to_owned(), shim: shim.clone(), message };
        sbat::check(&bytes, &content).map_err(|error| refused(error.to_string()))?;
        let asks = !sbat::levels(&bytes).is_empty();
        if asks && is_program(&content) && sbat::generations(&content).is_empty() {
            return Err(refused("it has no section .sbat, without which no shim starts it".to_owned()));
        }
    }
    Ok(())
}

fn is_program(content: &[u8]) -> bool {
    content.starts_with(b"MZ")
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path).ok()?.take(READ_BYTES).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use gravure_testkit::boot_program;

    use super::*;

    const LEVELS: &[u8] = b"\0\0\0\0\x08\0\0\0\x20\0\0\0sbat,1,2024\nshim,4\ngrub,5\ngrub.debian,4\n\0";

    #[test]
    fn any_shim_that_would_refuse_counts_and_says_what_it_asks() {
        let dir = tempfile::tempdir().unwrap();
        let boot = dir.path();
        std::fs::create_dir(boot.join("pxe")).unwrap();
        let put = |name: &str, bytes: &[u8]| std::fs::write(boot.join("pxe").join(name), bytes).unwrap();
        let grub = boot.join("pxe/grubx64.efi");
        let found = || behind_shims(boot, &grub).map_err(|error| error.to_string());
        // Nothing there, and no programs: for others to say.
        assert_eq!(found(), Ok(()));
        put("shimx64.efi", b"x");
        put("grubx64.efi", b"y");
        assert_eq!(found(), Ok(()));
        put("shimx64.efi", &boot_program(&[(".sbatlevel", LEVELS)]));
        put("grubx64.efi", &boot_program(&[(".sbat", b"sbat,1,x\ngrub,5,x\ngrub.debian,4,x\n")]));
        assert_eq!(found(), Ok(()));
        put("grubx64.efi", &boot_program(&[(".sbat", b"sbat,1,x\ngrub,4,x\n")]));
        let error = found().unwrap_err();
        assert!(error.contains("grubx64.efi") && error.contains("shimx64.efi"), "{error}");
        assert!(error.contains("expected grub 5 or newer") && error.contains("found grub 4"), "{error}");
        put("grubx64.efi", &boot_program(&[(".text", b"x")]));
        assert!(found().unwrap_err().contains("has no section .sbat"));
        // One of several shims is enough, since some machines get that one.
        put("shimx64.efi", &boot_program(&[(".text", b"x")]));
        assert_eq!(found(), Ok(()));
        put("shimx64-2023.efi", &boot_program(&[(".sbatlevel", LEVELS)]));
        assert!(found().unwrap_err().contains("shimx64-2023.efi"));
    }
}
