//! `gravure media build`: a stick or disc that starts the same payload as the network does, where there is no PXE.
//!
//! One image for UEFI machines, Secure Boot on or off, and for BIOS machines: a GPT with a BIOS boot partition and a FAT
//! system partition, and a disc in front of it (`gravure_disk::iso`). The site's overlay tells the payload its servers and whom to believe. There is no boot token on a stick
//! that anybody may carry: a machine that starts from it is `claimed` until an operator approves it.
//!
//! A medium may also bring an order and its image and deploy without a server. The order is signed by the plan key, ends, and holds no
//! secrets; it is carried out when somebody chooses it in the medium's menu, or at once if it was made so.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_disk::fat::{FatBuilder, FatOptions, FatTime};
use gravure_disk::{
    DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, TableImage, bios, iso,
};
use gravure_io::{FileAt, ReadAt, Window, WriteAt};
use gravure_model::Timestamp;
use gravure_model::api::Envelope;
use gravure_model::job::{Job, JobRequest};
use gravure_model::site::{OFFLINE_VERSION, OfflineJob, OfflinePart};

use crate::Error;
use crate::boot::{KERNEL_ARGUMENTS, ServerAddress, site_settings};
use crate::config::Config;
use crate::db::{self, Db, DbError};
use crate::images::{Describe, Images};
use crate::keys::{KeyFiles, Keys};
use crate::secret::new_secret;
use crate::site_store::SiteStore;
use crate::{network, overlay, sbat};

const MIB: u64 = 1 << 20;
/// Sticks say they have these, whatever is inside.
const SECTOR_BYTES: u32 = 512;
/// Room for what an administrator adds: drivers, notes.
const SPARE_BYTES: u64 = 32 * MIB;
/// Start and end of the disk, and the BIOS boot partition.
const AROUND_BYTES: u64 = 8 * MIB;
/// Bytes of an image copied at once.
const COPY_BYTES: usize = 4 << 20;
const LABEL: &str = "GRAVURE";
const MENU: &str = include_str!("../../../pxe/grub-media.cfg");

/// What a medium deploys without a server.
#[derive(Debug, Clone)]
pub struct OfflineOrder {
    /// What is to be done. Its image is a file of the site's image directory.
    pub request: JobRequest,
    /// How long the medium may be used, seconds.
    pub lifetime_seconds: i64,
    /// Whether it begins without anybody choosing it in the medium's menu.
    pub unattended: bool,
}

/// A medium that was made.
#[derive(Debug, Clone)]
pub struct Medium {
    /// Its size in bytes.
    pub bytes: u64,
    /// URLs of the API that its payload will try, in order.
    pub servers: Vec<String>,
    /// Whether BIOS machines start from it too.
    pub bios: bool,
}

/// An order with its image, ready for a medium.
struct Offline {
    plan_key: Envelope,
    job: Envelope,
    descriptor: Envelope,
    image: PathBuf,
    image_bytes: u64,
    title: String,
    unattended: bool,
}

/// Longest life of a medium that deploys: it cannot be called back.
const MAX_LIFETIME_SECONDS: i64 = 366 * 86_400;

/// Signs an order for a medium and puts it into the audit trail.
async fn offline(config: &Config, order: &OfflineOrder, describe: Arc<Describe>) -> Result<Offline, Error> {
    let refused = |message: String| Error::Image { image: order.request.image.clone(), message };
    if !(1..=MAX_LIFETIME_SECONDS).contains(&order.lifetime_seconds) {
        let message = format!(
            "a medium may live for a second to 366 days, {} s were asked for",
            order.lifetime_seconds
        );
        return Err(refused(message));
    }
    let keys = Keys::load(&KeyFiles::in_dir(&config.paths.keys))?;
    let store = Arc::new(SiteStore::open(config)?);
    let images = Images::new(config.paths.images.clone(), store, describe);
    images.look_for(&order.request.image).await?;
    if images.is_stored(&order.request.image) {
        return Err(refused(
            "a medium takes image files, this one is in the store: take it out first".into(),
        ));
    }
    let ready = images.get(&order.request.image).await?;
    let count = ready.catalog.descriptor.images.len();
    if usize::try_from(order.request.image_index).is_ok_and(|index| index >= count) {
        let number = u64::from(order.request.image_index) + 1;
        return Err(refused(format!("it holds {count} images, image {number} was asked for")));
    }
    let now = Timestamp::now();
    let expires = now.plus_seconds(order.lifetime_seconds);
    let job = Job {
        id: uuid::Uuid::new_v4().to_string(),
        seed: new_secret()?.reveal().to_owned(),
        request: JobRequest { expires: Some(expires), ..order.request.clone() },
        created: now,
    };
    let id = job.id.clone();
    let signed =
        OfflineJob { version: OFFLINE_VERSION, job, image: ready.catalog.digest, created: now, expires };
    let db = Db::open(&config.paths.database).await?;
    let mut transaction = db.write().await?;
    let detail = format!(
        "{} for machine {}, until {} s since 1970",
        order.request.image,
        order.request.machine,
        expires.seconds()
    );
    db::audit::add(&mut transaction, "operator of this server", "offline medium made", &id, &detail).await?;
    transaction.commit().await.map_err(DbError::from)?;
    db.close().await;
    Ok(Offline {
        plan_key: keys.signer.statement().clone(),
        job: keys.signer.offline_job(&signed)?,
        descriptor: keys.signer.image(&ready.descriptor_bytes),
        image: config.paths.images.join(&order.request.image),
        image_bytes: ready.catalog.descriptor.size_bytes,
        title: format!("Deploy {}", order.request.image),
        unattended: order.unattended,
    })
}

/// Makes a medium for the site of `config` as the new file `target`, which deploys what `order` says without a server.
pub async fn build_offline(
    config: &Config,
    target: &Path,
    order: &OfflineOrder,
    describe: Arc<Describe>,
) -> Result<Medium, Error> {
    let offline = offline(config, order, describe).await?;
    make(config, target, Some(&offline))
}

/// Makes a medium for the site of `config` as the new file `target`.
pub fn build(config: &Config, target: &Path) -> Result<Medium, Error> {
    make(config, target, None)
}

fn make(config: &Config, target: &Path, offline: Option<&Offline>) -> Result<Medium, Error> {
    let boot = &config.paths.boot;
    let read = |name: &str| read_boot_file(boot, name);
    // A stick starts by shim and GRUB, whatever the chain of the network is.
    sbat::behind_shims(boot, &boot.join("pxe/grubx64.efi"))?;
    let (settings, servers) = settings(config)?;
    let part = overlay::site_part(&settings)
        .map_err(|source| Error::Db(crate::db::DbError::Document { what: "site settings", source }))?;
    let menu = menu(&config.site.name, offline)?.into_bytes();
    let mut files: Vec<(&str, Vec<u8>)> = vec![
        ("EFI/BOOT/BOOTX64.EFI", read("pxe/shimx64.efi")?),
        ("EFI/BOOT/grubx64.efi", read("pxe/grubx64.efi")?),
        ("EFI/BOOT/mmx64.efi", read("pxe/mmx64.efi")?),
        // The signed GRUB of the network looks here, that of disks there.
        ("grub/grub.cfg", menu.clone()),
        ("EFI/debian/grub.cfg", menu),
        ("gravure/vmlinuz", read("vmlinuz")?),
        ("gravure/site.cpio", part),
        ("gravure/initramfs.cpio.zst", read("initramfs.cpio.zst")?),
    ];
    let code = match (read("media/boot.img"), read("media/core.img"), read("media/cd.img")) {
        (Ok(boot), Ok(core), Ok(disc)) => Some(BiosCode { boot, core, disc }),
        _ => None,
    };
    // Disk and volumes get new identities each time: two sticks in one machine must differ.
    let mut seed = [0; 32];
    let filled = getrandom::fill(&mut seed).map_err(|error| std::io::Error::other(error.to_string()));
    filled.map_err(|source| Error::io("get random numbers for", target, source))?;
    let identity = Identity::new(seed);
    let image_bytes = offline.map_or(0, |offline| offline.image_bytes.next_multiple_of(MIB));
    if let Some(offline) = offline {
        files.push(("gravure/offline.cpio", offline_part(offline, &identity)?));
    }
    let content: u64 = files.iter().map(|(_, bytes)| bytes.size()).sum();
    let system_bytes = (content + content / 16 + SPARE_BYTES).next_multiple_of(MIB);
    let bytes = system_bytes + image_bytes + AROUND_BYTES;
    let sizes = Sizes { bytes, system_bytes, image_bytes };
    write(target, &identity, sizes, &files, code.as_ref(), offline)?;
    Ok(Medium { bytes, servers, bios: code.is_some() })
}

/// Where the image of a medium begins: behind the partition of BIOS code. A fixed place, since the part of the initramfs that names
/// it lies on the same medium.
const IMAGE_AT: u64 = 2 * MIB;

/// The part of the initramfs with the order.
fn offline_part(offline: &Offline, identity: &Identity) -> Result<Vec<u8>, Error> {
    let part = OfflinePart {
        version: OFFLINE_VERSION,
        plan_key: offline.plan_key.clone(),
        job: offline.job.clone(),
        descriptor: offline.descriptor.clone(),
        medium: identity.disk_guid().to_string(),
        offset: IMAGE_AT,
    };
    overlay::offline_part(&part)
        .map_err(|source| Error::Db(crate::db::DbError::Document { what: "order of a medium", source }))
}

/// Lengths on a medium, bytes.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// All of it.
    bytes: u64,
    system_bytes: u64,
    image_bytes: u64,
}

/// A file of the directory of boot files.
pub(crate) fn read_boot_file(boot: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let path = boot.join(name);
    std::fs::read(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { what: "boot file", path },
        _ => Error::io("read", &path, source),
    })
}

/// What payloads that were not booted by a server are told, and the URLs of the API in it.
pub(crate) fn settings(config: &Config) -> Result<(gravure_model::site::SiteSettings, Vec<String>), Error> {
    let keys = KeyFiles::in_dir(&config.paths.keys);
    let text =
        |path: PathBuf| std::fs::read_to_string(&path).map_err(|source| Error::io("read", &path, source));
    let served = network::resolve(&config.interfaces)?;
    let servers: Vec<ServerAddress> = served
        .iter()
        .map(|served| ServerAddress {
            address: served.interface.address.into(),
            api_port: config.ports.api,
            http_port: config.ports.http,
        })
        .collect();
    let urls = servers.iter().map(ServerAddress::api).collect();
    let root_key = text(keys.root_public())?.trim().to_owned();
    let settings = site_settings(&config.site.name, &root_key, &text(keys.authority())?, servers.iter());
    Ok((settings, urls))
}

fn menu(site: &str, offline: Option<&Offline>) -> Result<String, Error> {
    let mut environment = minijinja::Environment::new();
    environment.set_keep_trailing_newline(true);
    let site = crate::boot::title(site);
    let offline = offline.map(|offline| {
        minijinja::context! { title => crate::boot::title(&offline.title), unattended => offline.unattended }
    });
    let values = minijinja::context! { site, offline, kernel_arguments => KERNEL_ARGUMENTS };
    Ok(environment.render_str(MENU, values)?)
}

/// GRUB for BIOS machines.
struct BiosCode {
    /// First sector of a stick, and what it loads.
    boot: Vec<u8>,
    core: Vec<u8>,
    /// For discs.
    disc: Vec<u8>,
}

fn write(
    target: &Path,
    identity: &Identity,
    sizes: Sizes,
    files: &[(&str, Vec<u8>)],
    code: Option<&BiosCode>,
    offline: Option<&Offline>,
) -> Result<(), Error> {
    let bytes = sizes.bytes;
    let request = |role, size, name: &str| PartitionRequest { role, size, name: name.to_owned() };
    let mut requests = vec![request(Role::BiosBoot, PartitionSize::Bytes(MIB), "bios-boot")];
    if offline.is_some() {
        // Bare bytes: no file system bounds its size, and the payload needs none to read it.
        requests.push(request(Role::LinuxData, PartitionSize::Bytes(sizes.image_bytes), "gravure-image"));
    }
    requests.push(request(Role::Esp, PartitionSize::Rest { at_least: sizes.system_bytes }, "gravure"));
    let shape = DiskShape { size_bytes: bytes, sector_bytes: SECTOR_BYTES };
    let layout = Layout::compute(shape, identity, &requests).map_err(disk(target))?;
    let (Some(bios_part), Some(esp)) = (layout.first(Role::BiosBoot), layout.first(Role::Esp)) else {
        return Err(Error::Missing { what: "partition", path: target.to_owned() });
    };
    let image_part = layout.first(Role::LinuxData);
    if image_part.is_some_and(|part| part.range.start != IMAGE_AT) {
        return Err(Error::Missing { what: "place for the image", path: target.to_owned() });
    }
    let time = FatTime::from_unix(Timestamp::now().seconds());
    let mut builder = FatBuilder::new(FatOptions {
        size_bytes: esp.size_bytes(),
        sector_bytes: SECTOR_BYTES,
        hidden_sectors: esp.first_lba,
        serial: identity.fat_serial(esp.index()),
        label: LABEL.into(),
        time,
    })
    .map_err(disk(target))?;
    for (path, content) in files {
        builder.add_file(path, content).map_err(disk(target))?;
    }
    let volume = builder.finish().map_err(disk(target))?;
    let disc = iso::Disc {
        label: LABEL,
        size_bytes: bytes,
        system_partition: esp.range.start..esp.range.start.saturating_add(esp.size_bytes()),
        bios_code: code.map(|code| code.disc.as_slice()),
        time,
    };
    let disc = iso::structures(&disc, bios_part.range.start).map_err(disk(target))?;
    let placed = code.map(|code| bios::place_grub(&code.boot, &code.core, bios_part, SECTOR_BYTES));
    let placed = placed.transpose().map_err(disk(target))?;

    let file = OpenOptions::new().read(true).write(true).create_new(true).open(target);
    let file = file.map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists { path: target.to_owned() },
        _ => Error::io("create", target, source),
    })?;
    file.set_len(bytes).map_err(|source| Error::io("size", target, source))?;
    let image = FileAt::new(file).map_err(|source| Error::io("open", target, source))?;
    let io = |source| Error::io("write", target, source);
    volume.write(&Window::new(&image, esp.range.start, esp.size_bytes())).map_err(disk(target))?;
    if let (Some(part), Some(offline)) = (image_part, offline) {
        copy_image(offline, &Window::new(&image, part.range.start, part.size_bytes()))?;
    }
    if let Some(placed) = &placed {
        image.write_all_at(bios_part.range.start, &placed.core).map_err(io)?;
    }
    image.write_all_at(iso::OFFSET, &disc).map_err(io)?;
    let table = TableImage::new(&layout, placed.as_ref().map(|placed| &placed.boot_code));
    table.write(&image).map_err(disk(target))?;
    image.sync().map_err(io)?;
    table.verify(&image).map_err(disk(target))
}

/// Copies the image as it was described; a file that changed meanwhile is found out by the payload, range by range.
fn copy_image(offline: &Offline, to: &dyn WriteAt) -> Result<(), Error> {
    let failed = |source| Error::io("copy", &offline.image, source);
    let from = FileAt::open(&offline.image).map_err(failed)?;
    if from.size() != offline.image_bytes {
        let message =
            format!("it has {} bytes now, {} when it was described", from.size(), offline.image_bytes);
        return Err(Error::Image { image: offline.image.display().to_string(), message });
    }
    let mut buf = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < offline.image_bytes {
        let len = usize::try_from(offline.image_bytes - at).unwrap_or(usize::MAX).min(COPY_BYTES);
        let piece = buf.get_mut(..len).unwrap_or_default();
        from.read_exact_at(at, piece).map_err(failed)?;
        to.write_all_at(at, piece).map_err(failed)?;
        at += len as u64;
    }
    Ok(())
}

fn disk(target: &Path) -> impl Fn(gravure_disk::Error) -> Error {
    let target = target.to_owned();
    move |error| Error::Config { path: target.clone(), message: error.to_string() }
}
