//! Descriptors of block images: every chunk decoded and checked once, then the id of the root stands for all of it, for everything in the image
//! hangs on that hash.

use std::path::Path;
use std::sync::Arc;

use gravure_blockimg::facts::{Facts, Scope, Volume};
use gravure_io::{FileAt, ReadAt, Window};
use gravure_model::Ctl;
use gravure_model::descriptor::{
    DESCRIPTOR_VERSION, DescribedImage, Digest, ImageDescriptor, RANGE_BYTES, SystemKind,
};
use gravure_model::event::Observer;

use gravure_store::{LocalObjects, Store};

use super::at::BlockImageAt;
use super::misfit::holds_windows;
use super::{BlockImage, blockimg, least_disk_bytes, store_error, verify_block_image};
use crate::capture::windows_of_volume;
use crate::{Error, ErrorKind};

/// Format of such descriptors.
pub const BLOCK_FORMAT: &str = "gim";

/// Describes the block image in the file `path`, or the image of a store whose manifest that is. What is damaged is not described:
/// the first damage is the error.
pub fn describe_block_image(
    path: &Path,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ImageDescriptor, Error> {
    let name = path.display().to_string();
    let source: Arc<dyn ReadAt> = Arc::new(FileAt::open(path).map_err(Error::io("open", &name))?);
    let size_bytes = source.size();
    let image = open(path, source, &name)?;
    described(&image, &name, size_bytes, ctl, observer)
}

/// Describes the image `name` of a store, whose manifest has `size_bytes`.
pub fn describe_stored_image(
    store: Arc<Store>,
    name: &str,
    size_bytes: u64,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ImageDescriptor, Error> {
    described(&BlockImage::open_stored(store, name)?, name, size_bytes, ctl, observer)
}

fn described(
    image: &BlockImage,
    name: &str,
    size_bytes: u64,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ImageDescriptor, Error> {
    let report = verify_block_image(image, None, ctl, observer)?;
    if let Some(damage) = report.damage.into_iter().next() {
        return Err(Error::Other {
            what: format!("describing {name}"),
            source: damage.into(),
            kind: ErrorKind::Integrity,
        });
    }
    let facts = image.facts();
    // A disk that cannot be looked into is judged where it is restored.
    let least_disk_bytes = match least_disk_bytes(image, ctl) {
        Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
        found => found.unwrap_or(None),
    };
    let read = BlockImageAt::new(image.clone());
    let window = |volume: &Volume| Window::new(&read, volume.offset_bytes, volume.size_bytes);
    let system = system_of_disk(facts, |volume| holds_windows(volume, &window(volume)));
    let mut volumes = facts.volumes.iter().filter(|volume| volume.content == "NTFS");
    let windows = match system {
        // Of several, the first one is what drivers are looked for.
        SystemKind::Windows => volumes.find_map(|volume| windows_of_volume(&window(volume))),
        _ => None,
    };
    Ok(ImageDescriptor {
        version: DESCRIPTOR_VERSION,
        format: BLOCK_FORMAT.to_owned(),
        size_bytes,
        range_bytes: RANGE_BYTES,
        // Bytes are held against the chunks' own ids.
        ranges: Vec::new(),
        tables: Digest(image.id().0),
        contents_checked: true,
        images: vec![DescribedImage {
            name: facts.name.clone(),
            system,
            file_count: 0,
            directory_count: 0,
            content_bytes: image.root().data_bytes(),
            windows,
            least_disk_bytes,
        }],
    })
}

/// A manifest lies in its store, as `images/NAME.gim`.
fn open(path: &Path, source: Arc<dyn ReadAt>, name: &str) -> Result<BlockImage, Error> {
    if !gravure_blockimg::ImageFile::open(&source).map_err(blockimg(name))?.is_manifest() {
        return BlockImage::open(source, name);
    }
    let dir = path.parent().filter(|dir| dir.file_name().is_some_and(|name| name == "images"));
    let image = path.file_stem().and_then(|stem| stem.to_str());
    let (Some(dir), Some(image)) = (dir.and_then(Path::parent), image) else {
        let what = "manifest without its store";
        return Err(Error::Unsupported { what, value: name.to_owned() });
    };
    let store = Store::open(Arc::new(LocalObjects::new(dir))).map_err(store_error)?;
    BlockImage::open_stored(Arc::new(store), image)
}

/// Whether `image` is the one that `descriptor` names; nothing else of it has to be believed then.
pub fn is_described_block_image(image: &BlockImage, descriptor: &ImageDescriptor) -> bool {
    descriptor.format == BLOCK_FORMAT && descriptor.tables == Digest(image.id().0)
}

/// What kind of system a disk holds, by its file systems; `Unknown` for a single partition, which nothing starts from. NTFS without a
/// Windows is a place for data, also beside a Linux.
fn system_of_disk(facts: &Facts, holds_windows: impl Fn(&Volume) -> bool) -> SystemKind {
    let has = |names: &[&str]| facts.volumes.iter().any(|volume| names.contains(&volume.content.as_str()));
    let has_windows = || {
        let mut volumes = facts.volumes.iter();
        volumes
            .any(|volume| volume.content == "BitLocker" || volume.content == "NTFS" && holds_windows(volume))
    };
    match facts.scope {
        Scope::Disk if has_windows() => SystemKind::Windows,
        Scope::Disk if has(&["ext4", "ext3", "ext2", "XFS", "Btrfs", "LVM"]) => SystemKind::Linux,
        _ => SystemKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use gravure_hive::Data;
    use gravure_model::descriptor::DescribedWindows;
    use gravure_model::event::Silent;
    use gravure_testkit::hive;

    use super::*;
    use crate::volume::{ExistingData, VolumeApplyOptions, VolumeFile, apply_to_volume};
    use crate::{CaptureOptions, ImageFile, Which, capture_directory};

    #[test]
    fn disks_are_told_by_their_file_systems() {
        let facts = |scope, contents: &[&str]| Facts {
            scope,
            volumes: contents
                .iter()
                .map(|content| Volume { content: (*content).to_owned(), ..Volume::default() })
                .collect(),
            ..Facts::default()
        };
        let cases = [
            (Scope::Disk, &["FAT32", "ext4"][..], SystemKind::Linux, SystemKind::Linux),
            (Scope::Disk, &["FAT32", "unknown", "NTFS", "NTFS"], SystemKind::Windows, SystemKind::Unknown),
            (Scope::Disk, &["FAT32", "ext4", "NTFS"], SystemKind::Windows, SystemKind::Linux),
            (Scope::Disk, &["FAT32", "BitLocker"], SystemKind::Windows, SystemKind::Windows),
            (Scope::Disk, &["FAT32"], SystemKind::Unknown, SystemKind::Unknown),
            (Scope::Volume, &["ext4"], SystemKind::Unknown, SystemKind::Unknown),
        ];
        for (scope, contents, with, without) in cases {
            assert_eq!(system_of_disk(&facts(scope, contents), |_| true), with, "{contents:?}");
            assert_eq!(system_of_disk(&facts(scope, contents), |_| false), without, "{contents:?}");
        }
    }

    /// An NTFS volume of these files.
    fn volume(dir: &Path, files: &[(&str, Vec<u8>)]) -> std::path::PathBuf {
        let (source, ctl) = (dir.join("source"), Ctl::default());
        for (file, content) in files {
            std::fs::create_dir_all(source.join(file).parent().unwrap()).unwrap();
            std::fs::write(source.join(file), content).unwrap();
        }
        let (wim, volume) = (dir.join("x.wim"), dir.join("x.ntfs"));
        capture_directory(&source, &wim, &CaptureOptions::default(), &ctl, &Silent).unwrap();
        let wim = ImageFile::open_path(&wim).unwrap();
        let image = wim.image(wim.find(&Which::Only).unwrap()).unwrap();
        let device = VolumeFile::open(&volume, Some(8 << 20)).unwrap();
        let options = VolumeApplyOptions { existing: ExistingData::Destroy, ..VolumeApplyOptions::default() };
        apply_to_volume(&image, &device, &options, &ctl, &Silent).unwrap();
        volume
    }

    #[test]
    fn a_volume_has_a_windows_when_it_has_its_registry() {
        for (file, expected) in [("Windows/System32/config/SYSTEM", true), ("Films/SYSTEM", false)] {
            let dir = tempfile::tempdir().unwrap();
            let volume = FileAt::open(&volume(dir.path(), &[(file, vec![7; 9000])])).unwrap();
            assert_eq!(holds_windows(&Volume::default(), &volume), expected, "{file}");
            assert_eq!(windows_of_volume(&volume), None, "its registry says nothing");
        }
        let nothing = vec![0; 4096];
        assert!(holds_windows(&Volume::default(), &nothing), "what cannot be looked into");
        let looked = Volume { has_windows: Some(false), ..Volume::default() };
        assert!(!holds_windows(&looked, &nothing), "who made the image looked");
    }

    #[test]
    fn an_image_says_whether_a_windows_is_on_it_and_one_that_does_not_is_looked_into() {
        use crate::block::misfit::{Judged, misfits};
        use crate::{BlockCapture, BlockCaptureOptions, BlockPlan, BlockPlanOptions, BlockSource, no_hits};
        use gravure_blockimg::facts::Hardware;

        let on = |controller: &str| Hardware {
            storage_controllers: vec![controller.to_owned()],
            ..Hardware::default()
        };
        let (ahci, nvme) = (on("pci:8086:a102 class 010601"), on("pci:144d:a808 class 010802"));
        for (file, is_windows) in [("Windows/System32/config/SYSTEM", true), ("Films/SYSTEM", false)] {
            let (dir, ctl) = (tempfile::tempdir().unwrap(), Ctl::default());
            let source = BlockSource::open(&volume(dir.path(), &[(file, vec![7; 9000])])).unwrap();
            let options = BlockPlanOptions { hardware: Some(ahci.clone()), ..BlockPlanOptions::default() };
            let plan = BlockPlan::new(source, &options, &ctl).unwrap();
            assert_eq!(plan.facts().volumes[0].has_windows, Some(is_windows), "{file}");
            let mut facts = plan.facts().clone();
            // As older versions wrote it.
            facts.volumes[0].has_windows = None;
            let capture = BlockCapture {
                source: &plan,
                name: plan.name(),
                layout: plan.layout(),
                facts: &facts,
                hits: &no_hits,
            };
            let gim = dir.path().join("x.gim");
            capture.to_file(&gim, &BlockCaptureOptions::default(), &ctl, &Silent).unwrap();
            let image = BlockImage::open(Arc::new(FileAt::open(&gim).unwrap()), "x.gim").unwrap();
            let is_fatal = |judged: &Judged<'_>| {
                misfits(judged, &nvme).iter().map(|misfit| misfit.is_fatal).collect::<Vec<_>>()
            };
            assert_eq!(is_fatal(&Judged::of(&image)), [is_windows], "{file}");
            assert_eq!(is_fatal(&Judged::by_facts(image.facts())), [true], "a pipe is not looked into");
            assert_eq!(is_fatal(&Judged::by_facts(plan.facts())), [is_windows], "{file}");
        }
    }

    #[test]
    fn what_drivers_are_chosen_by_stands_in_the_registry_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let system = hive(&[
            ("Select", "Default", Data::dword(2)),
            (
                "ControlSet002\\Control\\Session Manager\\Environment",
                "PROCESSOR_ARCHITECTURE",
                Data::sz("ARM64"),
            ),
            ("ControlSet002\\Control\\ProductOptions", "ProductType", Data::sz("ServerNT")),
        ]);
        let current = "Microsoft\\Windows NT\\CurrentVersion";
        let software = hive(&[
            (current, "CurrentMajorVersionNumber", Data::dword(10)),
            (current, "CurrentMinorVersionNumber", Data::dword(0)),
            (current, "CurrentBuild", Data::sz("20348")),
        ]);
        let files = [
            ("Windows/System32/config/SYSTEM", system),
            ("Windows/System32/config/SOFTWARE", software),
            ("Windows/System32/Recovery/Winre.wim", b"recovery".to_vec()),
        ];
        let volume = FileAt::open(&volume(dir.path(), &files)).unwrap();
        let wanted = DescribedWindows {
            version: "10.0.20348".into(),
            arch: "arm64".into(),
            server: true,
            has_recovery: true,
        };
        assert_eq!(windows_of_volume(&volume), Some(wanted));
    }
}
