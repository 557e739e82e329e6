//! `cargo xtask payload`: what a PC boots from the network, built from Debian's signed kernel and boot files and our
//! own PID 1.
//!
//! Below `payload/` in the target directory:
//!
//! | file | what it is |
//! |---|---|
//! | `vmlinuz` | Debian's signed kernel, unmodified |
//! | `initramfs.cpio.zst` | the distribution part of the initramfs: `/init`, modules, Debian programs |
//! | `pxe/` | shim, GRUB, MokManager (signed by Debian and Microsoft), iPXE for BIOS machines |
//! | `media/` | GRUB's boot code for BIOS machines that start from a stick or a disc |
//! | `manifest.json` | packages, versions, sources, licences and hashes of all that |
//! | `licences/` | the copyright file of every package |
//!
//! The parts that belong to a site (keys, server names) are an overlay the server adds; nothing of them is here.

mod boot_files;
mod cpio;
mod debian;
mod elf;
mod initramfs;
mod manifest;
mod modules;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::console::{self, Step, size};
use crate::{process, workspace};

/// Target triple and profile of PID 1; a static program, so that nothing but the kernel is needed to run it.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "payload";
/// The same without optimisation across crates, which takes half of the time.
const QUICK_PROFILE: &str = "payload-quick";

/// Level of the initramfs: built once, fetched and unpacked at every boot. Level 19 would take twice the time of 17
/// for 3 % less, level 12 an eighth for 8 % more (83 MB of modules and programs).
const ZSTD_LEVEL: i32 = 17;

const EXAMPLES: &str = "Examples:
  cargo xtask payload                build; the second run only looks whether something changed
  cargo xtask payload --update-lock  take the newest Debian packages and record them in pxe/payload.lock
  cargo xtask payload --quick        without optimisation across crates: what the daily tests start
  cargo xtask payload --init FILE    put FILE into the initramfs as /init instead of our own program";

/// Options of `payload`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Take the newest packages of the suite and write the lock file
    #[arg(long)]
    pub(crate) update_lock: bool,
    /// Build everything again
    #[arg(long)]
    pub(crate) force: bool,
    /// Build PID 1 without optimisation across crates: sooner done, larger, slower
    #[arg(long, conflicts_with = "init")]
    pub(crate) quick: bool,
    /// A static program to use as /init instead of gravure-payload
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,
}

/// What was built.
#[derive(Debug)]
pub(crate) struct Payload {
    /// Directory with everything.
    pub(crate) dir: PathBuf,
}

/// Where the payload is built, whether it is there or not.
pub(crate) fn output_dir() -> PathBuf {
    workspace::target().join("payload")
}

/// Builds what is not up to date and prints the sizes.
pub(crate) fn run(options: &Options) -> Result<Payload> {
    let dir = output_dir();
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;

    let init = match &options.init {
        Some(path) => path.clone(),
        None => build_init(if options.quick { QUICK_PROFILE } else { PROFILE })?,
    };
    let step = Step::start("Debian packages for the payload");
    let stage = debian::stage(&dir.join("stage"), options.update_lock, options.force)?;
    step.done(format!("{} packages of {}", stage.packages.len(), debian::SUITE));

    let step = Step::start("payload");
    let key = key(&[&std::env::current_exe().context("cannot find this program")?, &init], &stage)?;
    let stamp = dir.join("built");
    let outputs = ["vmlinuz", "initramfs.cpio.zst", "media/cd.img", "manifest.json"];
    let current = std::fs::read_to_string(&stamp).is_ok_and(|old| old == key);
    let complete = outputs.iter().all(|name| dir.join(name).is_file());
    if current && complete && !options.force {
        step.done("up to date");
    } else {
        // Removed first: an interrupted build must not look finished.
        std::fs::remove_file(&stamp)
            .or_else(ignore_absence)
            .context("cannot remove the stamp of the last build")?;
        build(&dir, &init, &stage)?;
        std::fs::write(&stamp, key).context("cannot write the stamp of the build")?;
        step.done("built");
    }
    print_sizes(&dir)?;
    Ok(Payload { dir })
}

fn ignore_absence(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Builds PID 1 in a target directory of its own, since its flags would rebuild everything else.
fn build_init(profile: &str) -> Result<PathBuf> {
    let step = Step::start("PID 1 of the payload (static, optimised)");
    let target = workspace::target().join("payload-build");
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--package", "gravure-payload", "--profile", profile, "--target", TARGET])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    process::run(&mut cargo)?;
    let path = target.join(TARGET).join(profile).join("gravure-payload");
    let len = std::fs::metadata(&path).with_context(|| format!("no program at {}", path.display()))?.len();
    step.done(size(len));
    Ok(path)
}

/// Hash over everything the outputs depend on: this program (its tables), PID 1, the packages, the time stamp.
fn key(files: &[&Path], stage: &debian::Stage) -> Result<String> {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    for package in &stage.packages {
        hasher.update(&package.sha256);
    }
    hasher.update(stage.timestamp().to_le_bytes());
    Ok(hex(&hasher.finalize()))
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn build(dir: &Path, init: &Path, stage: &debian::Stage) -> Result<()> {
    let kernel = stage.kernel()?;
    console::note(format!("kernel {}", kernel.release));
    std::fs::copy(&kernel.image, dir.join("vmlinuz")).context("cannot copy the kernel")?;
    boot_files::copy(stage, &dir.join("pxe"))?;
    boot_files::bios_media(&dir.join("media"))?;

    let modules = modules::select(&kernel)?;
    console::note(format!("{} kernel modules, {} unpacked", modules.files.len(), size(modules.bytes())));
    let mut used = initramfs::packages(stage)?;
    used.insert(kernel.package.clone());
    used.extend(boot_files::FILES.iter().map(|file| file.package.to_owned()));
    let text = manifest::Manifest::of(stage, &used, &kernel.release, init)?.to_json()?;
    manifest::copy_licences(stage, &used, &dir.join("licences"))?;

    // Two archives, one after the other: the large one changes only with Debian's packages and is packed then.
    let system = initramfs::system(stage, &modules)?.to_bytes(stage.timestamp())?;
    let mut packed = pack_cached(&system, &dir.join("system-part"))?;
    let own = initramfs::own(init, text.as_bytes())?.to_bytes(stage.timestamp())?;
    packed.extend(pack(&own)?);
    std::fs::write(dir.join("initramfs.cpio.zst"), packed).context("cannot write the initramfs")?;
    std::fs::write(dir.join("manifest.json"), text).context("cannot write the manifest")
}

/// Packs an archive, unless the file beside the key says that this very archive was packed before.
fn pack_cached(plain: &[u8], path: &Path) -> Result<Vec<u8>> {
    let (key_path, packed_path) = (path.with_extension("key"), path.with_extension("zst"));
    let key = format!("{} {ZSTD_LEVEL}", hex(&Sha256::digest(plain)));
    if std::fs::read_to_string(&key_path).is_ok_and(|old| old == key) {
        return std::fs::read(&packed_path).with_context(|| format!("cannot read {}", packed_path.display()));
    }
    console::note(format!("packing {} of modules and programs", size(plain.len() as u64)));
    let packed = pack(plain)?;
    std::fs::write(&packed_path, &packed)
        .with_context(|| format!("cannot write {}", packed_path.display()))?;
    std::fs::write(&key_path, key).with_context(|| format!("cannot write {}", key_path.display()))?;
    Ok(packed)
}

/// Compresses an archive. The kernel looks for the next one at a multiple of four; zeros in between are skipped.
fn pack(plain: &[u8]) -> Result<Vec<u8>> {
    let mut packed = zstd::encode_all(plain, ZSTD_LEVEL).context("cannot compress the initramfs")?;
    packed.resize(packed.len().next_multiple_of(4), 0);
    Ok(packed)
}

fn print_sizes(dir: &Path) -> Result<()> {
    let mut rows = Vec::new();
    let mut names = vec!["vmlinuz".to_owned(), "initramfs.cpio.zst".to_owned()];
    names.extend(boot_files::FILES.iter().map(|file| format!("pxe/{}", file.name)));
    for name in names {
        let path = dir.join(&name);
        let bytes = std::fs::read(&path).with_context(|| format!("{} was not built", path.display()))?;
        rows.push(vec![
            name,
            size(bytes.len() as u64),
            format!("sha256 {}", &hex(&Sha256::digest(&bytes))[..16]),
        ]);
    }
    console::table(&rows);
    console::note(format!("in {}", dir.display()));
    Ok(())
}
