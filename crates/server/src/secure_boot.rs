//! The site's own Secure Boot key and what it signs: one program of kernel, initramfs, site overlay and command line (a unified
//! kernel image), so that a machine with the key enrolled starts this site's payload and no other.
//!
//! Made by `gravure init --uki`, not by the running server, which never sees the key.

use std::path::{Path, PathBuf};

use gravure_efi::keys::{APPEND, ATTRIBUTES, Change, EfiTime, GLOBAL, SECURITY_DATABASE, list};
use gravure_efi::{Part, SignError, Signer, assemble, sign};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use crate::boot::KERNEL_ARGUMENTS;
use crate::config::Config;
use crate::keys::{KeyFiles, write_private, write_public};
use crate::{Error, media, overlay, sbat, x509};

/// Below the directory of boot files: systemd's stub.
const STUB: &str = "pxe/linuxx64.efi.stub";
/// Below the directory of signed images.
pub(crate) const IMAGE: &str = "gravure.efi";
/// Owner of our entries in firmware's lists (random, ours).
const OWNER: &str = "8c3c9e3f-0d0b-4b9a-8a37-5f6fd4a0c8b1";

/// A signed image that was made.
#[derive(Debug, Clone)]
pub struct SignedImage {
    /// The program.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The key that signed it.
    pub key: PathBuf,
    /// Directory of the files to enrol.
    pub enrol: PathBuf,
}

/// Key and certificate.
struct SiteKey {
    key: PKey<Private>,
    certificate: X509,
    der: Vec<u8>,
}

impl Signer for SiteKey {
    fn certificate(&self) -> &[u8] {
        &self.der
    }

    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut signer = openssl::sign::Signer::new(MessageDigest::sha256(), &self.key)?;
        Ok(signer.sign_oneshot_to_vec(bytes)?)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::SecureBoot(error.to_string())
}

/// Refuses what lacks a file that an image is made of.
pub(crate) fn check(boot: &Path) -> Result<(), Error> {
    for name in [STUB, "vmlinuz", "initramfs.cpio.zst"] {
        let path = boot.join(name);
        if !path.is_file() {
            return Err(Error::Missing { what: "boot file", path });
        }
    }
    // The image takes its generation from the stub.
    sbat::behind_shims(boot, &boot.join(STUB))
}

/// Makes the site's key if there is none yet, and the signed image of its payload, anew each time.
pub fn build(config: &Config) -> Result<SignedImage, Error> {
    let files = KeyFiles::in_dir(&config.paths.keys);
    let boot = &config.paths.boot;
    let read = |name: &str| media::read_boot_file(boot, name);
    // All that can be missing or wrong, before anything is made.
    sbat::behind_shims(boot, &boot.join(STUB))?;
    let (stub, kernel, initramfs) = (read(STUB)?, read("vmlinuz")?, read("initramfs.cpio.zst")?);
    let (settings, _) = media::settings(config)?;
    let part = overlay::site_part(&settings)
        .map_err(|source| Error::Db(crate::db::DbError::Document { what: "site settings", source }))?;
    let key = site_key(&files, &config.site.name)?;
    let initrd = [part, initramfs].concat();
    let release = format!(
        "ID=gravure\nNAME=Gravure\nPRETTY_NAME=\"Gravure\"\nVERSION_ID={}\n",
        env!("CARGO_PKG_VERSION")
    );
    let parts = [
        Part { name: ".osrel", content: release.as_bytes() },
        Part { name: ".cmdline", content: KERNEL_ARGUMENTS.as_bytes() },
        Part { name: ".initrd", content: &initrd },
        Part { name: ".linux", content: &kernel },
    ];
    let image = assemble(&stub, &parts).map_err(failed)?;
    let image = sign(&image, &key).map_err(failed)?;
    let dir = &config.paths.uki;
    std::fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
    let path = dir.join(IMAGE);
    replace(&path, &image)?;
    Ok(SignedImage {
        bytes: image.len() as u64,
        path,
        key: files.secure_boot_key(),
        enrol: files.secure_boot(),
    })
}

/// A server that is running goes on with the old file until the new one is whole.
fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    let write = || {
        std::fs::write(&new, content)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| Error::io("write", path, source))
}

/// The key that is there, or a new one with the files that enrol it.
fn site_key(files: &KeyFiles, site: &str) -> Result<SiteKey, Error> {
    let (dir, path) = (files.secure_boot(), files.secure_boot_key());
    let pem = dir.join("site.pem");
    let read = |path: &Path| std::fs::read(path).map_err(|source| Error::io("read", path, source));
    let load = |key: PKey<Private>, certificate: X509| -> Result<SiteKey, ErrorStack> {
        let der = certificate.to_der()?;
        Ok(SiteKey { key, certificate, der })
    };
    if pem.is_file() {
        if !path.is_file() {
            return Err(Error::Missing {
                what: "Secure Boot key, which was moved away after it signed last",
                path,
            });
        }
        let key = PKey::private_key_from_pem(&read(&path)?).map_err(failed)?;
        let certificate = X509::from_pem(&read(&pem)?).map_err(failed)?;
        return load(key, certificate).map_err(failed);
    }
    let make = || {
        let key = x509::new_key()?;
        let certificate = x509::code_signer(&format!("Gravure Secure Boot: {site}"), &key)?;
        load(key, certificate)
    };
    let made = make().map_err(failed)?;
    std::fs::create_dir_all(&dir).map_err(|source| Error::io("create", &dir, source))?;
    let text = |pem: Result<Vec<u8>, ErrorStack>| -> Result<String, Error> {
        String::from_utf8(pem.map_err(failed)?).map_err(failed)
    };
    write_private(&path, &text(made.key.private_key_to_pem_pkcs8())?)?;
    enrolment(&dir, &made)?;
    // Last: what is there with it is complete.
    write_public(&pem, &text(made.certificate.to_pem())?)?;
    Ok(made)
}

/// Files for firmware's menus (`.cer`), for tools (`.esl`), and signed changes for machines whose own keys are this site's (`.auth`).
fn enrolment(dir: &Path, key: &SiteKey) -> Result<(), Error> {
    let owner = OWNER.parse().map_err(failed)?;
    let lists = list(owner, &key.der);
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).map_err(|source| Error::io("write", &path, source))
    };
    write("site.cer", &key.der)?;
    write("site.esl", &lists)?;
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let small = |number: i8| u8::try_from(number).unwrap_or(1);
    let time = EfiTime {
        year: u16::try_from(now.year()).unwrap_or(2026),
        rest: [now.month(), now.day(), now.hour(), now.minute(), now.second()].map(small),
    };
    // The platform key is one and is replaced; the others stand beside what is there, such as Microsoft's.
    for (name, vendor, attributes) in [
        ("PK", GLOBAL, ATTRIBUTES),
        ("KEK", GLOBAL, ATTRIBUTES | APPEND),
        ("db", SECURITY_DATABASE, ATTRIBUTES | APPEND),
    ] {
        let change = Change { name, vendor, attributes, time, lists: &lists };
        write(&format!("{name}.auth"), &change.message(key).map_err(failed)?)?;
    }
    Ok(())
}
