//! `gravure media build`: a stick or disc that starts the same payload as the network does, where there is no PXE.
//!
//! One image for UEFI machines, Secure Boot on or off, and for BIOS machines: a GPT with a BIOS boot partition and a FAT
//! system partition, and a disc in front of it (`gravure_disk::iso`). The site's overlay tells the payload its servers and whom to believe. There is no boot token on a stick
//! that anybody may carry: a machine that starts from it is `claimed` until an operator approves it.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use gravure_disk::fat::{FatBuilder, FatOptions, FatTime};
use gravure_disk::{
    DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, TableImage, bios, iso,
};
use gravure_io::{FileAt, ReadAt, Window, WriteAt};
use gravure_model::Timestamp;

use crate::Error;
use crate::boot::{KERNEL_ARGUMENTS, ServerAddress, site_settings};
use crate::config::Config;
use crate::keys::KeyFiles;
use crate::{network, overlay};

const MIB: u64 = 1 << 20;
/// Sticks say they have these, whatever is inside.
const SECTOR_BYTES: u32 = 512;
/// Room for what an administrator adds: drivers, notes.
const SPARE_BYTES: u64 = 32 * MIB;
/// Start and end of the disk, and the BIOS boot partition.
const AROUND_BYTES: u64 = 8 * MIB;
const LABEL: &str = "GRAVURE";
const MENU: &str = include_str!("../../../pxe/grub-media.cfg");

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

/// Makes a medium for the site of `config` as the new file `target`.
pub fn build(config: &Config, target: &Path) -> Result<Medium, Error> {
    let boot = &config.paths.boot;
    let read = |name: &str| {
        let path = boot.join(name);
        std::fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { what: "boot file", path },
            _ => Error::io("read", &path, source),
        })
    };
    let (settings, servers) = settings(config)?;
    let part = overlay::site_part(&settings)
        .map_err(|source| Error::Db(crate::db::DbError::Document { what: "site settings", source }))?;
    let menu = menu(&config.site.name)?.into_bytes();
    let files: Vec<(&str, Vec<u8>)> = vec![
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
    let content: u64 = files.iter().map(|(_, bytes)| bytes.size()).sum();
    let bytes = (content + content / 16 + SPARE_BYTES + AROUND_BYTES).next_multiple_of(MIB);
    write(target, bytes, &files, code.as_ref())?;
    Ok(Medium { bytes, servers, bios: code.is_some() })
}

fn settings(config: &Config) -> Result<(gravure_model::site::SiteSettings, Vec<String>), Error> {
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

fn menu(site: &str) -> Result<String, Error> {
    let mut environment = minijinja::Environment::new();
    environment.set_keep_trailing_newline(true);
    let site = crate::boot::title(site);
    Ok(environment.render_str(MENU, minijinja::context! { site, kernel_arguments => KERNEL_ARGUMENTS })?)
}

/// GRUB for BIOS machines.
struct BiosCode {
    /// First sector of a stick, and what it loads.
    boot: Vec<u8>,
    core: Vec<u8>,
    /// For discs.
    disc: Vec<u8>,
}

fn write(target: &Path, bytes: u64, files: &[(&str, Vec<u8>)], code: Option<&BiosCode>) -> Result<(), Error> {
    // Disk and volumes get new identities each time: two sticks in one machine must differ.
    let mut seed = [0; 32];
    let filled = getrandom::fill(&mut seed).map_err(|error| std::io::Error::other(error.to_string()));
    filled.map_err(|source| Error::io("get random numbers for", target, source))?;
    let identity = Identity::new(seed);
    let request = |role, size, name: &str| PartitionRequest { role, size, name: name.to_owned() };
    let requests = [
        request(Role::BiosBoot, PartitionSize::Bytes(MIB), "bios-boot"),
        request(Role::Esp, PartitionSize::Rest { at_least: MIB }, "gravure"),
    ];
    let shape = DiskShape { size_bytes: bytes, sector_bytes: SECTOR_BYTES };
    let layout = Layout::compute(shape, &identity, &requests).map_err(disk(target))?;
    let [bios_part, esp] = layout.partitions.as_slice() else {
        return Err(Error::Missing { what: "partition", path: target.to_owned() });
    };
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
    if let Some(placed) = &placed {
        image.write_all_at(bios_part.range.start, &placed.core).map_err(io)?;
    }
    image.write_all_at(iso::OFFSET, &disc).map_err(io)?;
    let table = TableImage::new(&layout, placed.as_ref().map(|placed| &placed.boot_code));
    table.write(&image).map_err(disk(target))?;
    image.sync().map_err(io)?;
    table.verify(&image).map_err(disk(target))
}

fn disk(target: &Path) -> impl Fn(gravure_disk::Error) -> Error {
    let target = target.to_owned();
    move |error| Error::Config { path: target.clone(), message: error.to_string() }
}
