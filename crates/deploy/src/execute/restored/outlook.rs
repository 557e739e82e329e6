//! Whether the Windows in an image of a disk would start on a machine that is not this one, with what servicing would put in: what the advisor
//! tells before anybody makes a plan. It is done in memory as `foresight.rs` does it, and thrown away.

use std::sync::Arc;

use gravure_imaging::{BlockImage, BlockImageAt, Error, Outlook, PartialTree, Round};
use gravure_io::Window;
use gravure_model::Ctl;
use gravure_model::inventory::{Device, Inventory};
use gravure_nttypes::FileTime;
use gravure_tree::ContentRef;
use gravure_windows::drivers::{InjectOptions, Packages, inject};
use gravure_windows::{ContentResult, SERVICED_DIRECTORIES, WindowsImage};

use super::super::windows::changes::{above, tell};
use super::foresight::NTFS;
use super::servicing::HAS_DATABASE;
use crate::failure::chain;

/// What a plan would make of the Windows in `image` on `machine`, whose disk `disk` (its kernel's name) it goes to, with the drivers of
/// `packages`. Of the image are fetched the hives and directories that servicing looks at, 100 to 300 MB of content.
pub fn foresee_start(
    image: &BlockImage,
    packages: &dyn Packages,
    machine: &Inventory,
    disk: &str,
    ctl: &Ctl,
) -> Result<Outlook, Error> {
    let devices = way_to(machine, disk);
    if devices.len() < 2 {
        return Ok(Outlook::Fails(format!("what {disk} hangs on is not known")));
    }
    let read = Arc::new(BlockImageAt::new(image.clone()));
    let mut starts = Vec::new();
    for volume in image.facts().volumes.iter().filter(|volume| volume.content.eq_ignore_ascii_case(NTFS)) {
        let name = volume.number.map_or_else(|| "the volume".to_owned(), |it| format!("partition {it}"));
        let source = Window::new(Arc::clone(&read), volume.offset_bytes, volume.size_bytes);
        let tree = PartialTree::of_volume(Box::new(source), &name);
        let tree = tree.and_then(|mut tree| tree.read_ahead(&SERVICED_DIRECTORIES, ctl).map(|()| tree));
        ctl.check()?;
        let mut tree = match tree {
            Ok(tree) => tree,
            Err(error) => return Ok(Outlook::Fails(format!("{name} cannot be read: {}", chain(&error)))),
        };
        let done = tree.service(ctl, |round| Ok::<_, Error>(start_of(round, packages, &devices, disk)));
        match (done?.0, tree.unclean()) {
            (None, _) => {}
            (_, Some(why)) => return Ok(Outlook::Fails(format!("{name} is {why}: it gets no drivers"))),
            (Some(Outlook::Fails(why)), None) => return Ok(Outlook::Fails(format!("{name}: {why}"))),
            (Some(Outlook::Starts(how)), None) => starts.push(how),
        }
    }
    Ok(match starts.is_empty() {
        true => Outlook::Fails("no Windows was found in it that drivers could be put into".to_owned()),
        false => Outlook::Starts(starts.join("; ")),
    })
}

/// A disk and what it hangs on.
fn way_to(machine: &Inventory, disk: &str) -> Vec<Device> {
    let at = |place: &str| machine.devices.iter().find(|device| device.place == place);
    let mut out: Vec<Device> = Vec::new();
    let mut next = machine.devices.iter().find(|device| device.bus == "disk" && device.place == disk);
    while let Some(device) = next.filter(|device| !out.contains(device)) {
        out.push(device.clone());
        next = device.parent.as_deref().and_then(at);
    }
    out
}

/// What becomes of the Windows of a volume; `None` when there is none.
fn start_of(round: Round<'_>, packages: &dyn Packages, devices: &[Device], disk: &str) -> Option<Outlook> {
    let Round { tree, read: own, looks_into } = round;
    let read = |content: &ContentRef| -> ContentResult { Ok(own(content)?) };
    let mut serviced = || -> Result<Outlook, gravure_windows::Error> {
        let mut windows = WindowsImage::open_partial(tree, &read, looks_into, FileTime::default())?;
        let version = windows.system()?.version;
        if (version.major, version.minor) < HAS_DATABASE {
            let why = format!("Windows {version} has no driver database: its drivers were not checked");
            return Ok(Outlook::Fails(why));
        }
        let report = inject(&mut windows, packages, devices, InjectOptions::default())?;
        let found = above(&report.devices, disk);
        let stops = found.iter().find_map(|device| Some((&device.device, device.cannot_start.as_ref()?)));
        Ok(match stops {
            Some((device, why)) => {
                let ids = device.hardware_ids.first().map_or("", String::as_str);
                Outlook::Fails(format!("{} {ids}: Windows cannot start from it: {why}", device.place))
            }
            None => Outlook::Starts(found.iter().map(|report| tell(report)).collect::<Vec<_>>().join(", ")),
        })
    };
    match serviced() {
        Err(gravure_windows::Error::NotFound { what: "Windows", .. }) => None,
        Err(error) => Some(Outlook::Fails(chain(&error))),
        Ok(outlook) => Some(outlook),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gravure_imaging::{
        BlockCapture, BlockCaptureOptions, BlockPlan, BlockPlanOptions, BlockSource, no_hits,
    };
    use gravure_model::event::Silent;
    use gravure_windows::drivers::Repository;

    use super::super::super::fixtures::{made, signed_repository};
    use super::super::fixtures::{ntfs_volume, windows_files};
    use super::*;

    fn image(dir: &std::path::Path, fill: impl FnOnce(&std::path::Path)) -> BlockImage {
        let (volume, gim) = (ntfs_volume(dir, fill), dir.join("x.gim"));
        let ctl = Ctl::default();
        let source = BlockSource::open(&volume).unwrap();
        let plan = BlockPlan::new(source, &BlockPlanOptions::default(), &ctl).unwrap();
        let capture = BlockCapture {
            source: &plan,
            name: plan.name(),
            layout: plan.layout(),
            facts: plan.facts(),
            hits: &no_hits,
        };
        capture.to_file(&gim, &BlockCaptureOptions::default(), &ctl, &Silent).unwrap();
        BlockImage::open(Arc::new(gravure_io::FileAt::open(&gim).unwrap()), "x.gim").unwrap()
    }

    fn machine() -> Inventory {
        Inventory { devices: made().devices(), ..Inventory::default() }
    }

    #[test]
    fn a_windows_starts_where_the_repository_has_a_driver_for_what_the_disk_hangs_on() {
        let temp = tempfile::tempdir().unwrap();
        let image = image(temp.path(), |root| windows_files(root, 0));
        let before = blake3::hash(&fs::read(temp.path().join("x.gim")).unwrap());
        let repository = signed_repository(temp.path());
        let ctl = Ctl::default();
        let ask = |packages: &Repository, disk: &str| {
            foresee_start(&image, packages, &machine(), disk, &ctl).unwrap()
        };
        let Outlook::Starts(how) = ask(&repository, "vda") else { panic!("{:?}", ask(&repository, "vda")) };
        assert!(how.contains("vblk.inf") && how.contains("(boot-critical)"), "{how}");
        let empty = Repository::create(&temp.path().join("none")).unwrap();
        let Outlook::Fails(why) = ask(&empty, "vda") else { panic!("a driver of nobody's") };
        assert!(why.contains("PCI\\VEN_1AF4&DEV_1042") && why.ends_with("nor among the site's"), "{why}");
        assert_eq!(ask(&repository, "sda"), Outlook::Fails("what sda hangs on is not known".into()));
        assert_eq!(blake3::hash(&fs::read(temp.path().join("x.gim")).unwrap()), before);
    }

    #[test]
    fn an_image_of_data_has_nothing_that_starts() {
        let temp = tempfile::tempdir().unwrap();
        let image = image(temp.path(), |root| fs::write(root.join("film"), "film").unwrap());
        let repository = signed_repository(temp.path());
        let found = foresee_start(&image, &repository, &machine(), "vda", &Ctl::default()).unwrap();
        assert_eq!(found, Outlook::Fails("no Windows was found in it that drivers could be put into".into()));
    }
}
