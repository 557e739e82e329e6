//! Layers in an image of files, out of a real WIM and a real bundle: what is applied, and what is compared, is the image with them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gravure_imaging::{
    ApplyOptions, CaptureOptions, VerifyOptions, apply_to_directory, capture_directory, describe,
};
use gravure_io::{FileAt, ReadAt};
use gravure_linux::disks::Roots;
use gravure_model::Ctl;
use gravure_model::descriptor::ImageDescriptor;
use gravure_model::event::{EventKind, Known, Observer, Silent};
use gravure_model::plan::{PlannedBundle, PlannedImage};
use gravure_trust::Verdict;

use super::super::fixtures::bare_plan;
use super::super::{ImageSource, Machine, Run};
use super::*;

/// A layer that names the machine, puts a program in, and changes a file that is there.
pub(in crate::execute) const LAYER: &str = "[layer]\nid = 'room'\nversion = 2\n\
    [[file]]\nto = '${BIN}/room'\nfrom = 'room.sh'\n\
    [[file]]\nto = '/etc/room'\ntext = '${ROOM} ${COMPUTER_NAME}'\nmode = '0600'\n\
    [[text]]\nfile = '/etc/motd'\nensure-line = 'Room ${ROOM}'\n\
    [[command]]\nrun = 'true'\n";

/// A system with systemd, and the bundle of a layer.
pub(in crate::execute) fn files(root: &Path, layer: &Path, text: &str) {
    for dir in ["etc", "usr/lib/systemd", "usr/local/bin", "var/lib"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("usr/lib/systemd/systemd"), "ELF").unwrap();
    fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
    fs::write(root.join("etc/motd"), "Welcome\n").unwrap();
    fs::create_dir_all(layer).unwrap();
    fs::write(layer.join("layer.toml"), text).unwrap();
    fs::write(layer.join("room.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(layer.join("room.sh"), fs::Permissions::from_mode(0o755)).unwrap();
}

pub(in crate::execute) fn facts() -> BTreeMap<String, String> {
    [("ROOM", "B7"), ("COMPUTER_NAME", "pc-7")].map(|(name, value)| (name.into(), value.into())).into()
}

struct Local(PathBuf);

impl ImageSource for Local {
    fn open(&self, path: &str, _: &ImageDescriptor) -> Result<Arc<dyn ReadAt>, String> {
        let file = FileAt::open(&self.0.join(path)).map_err(|error| error.to_string())?;
        Ok(Arc::new(file))
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn event(&self, event: EventKind) {
        if let EventKind::Known(Known::Note { message, .. } | Known::Warning { message, .. }) = event {
            self.0.lock().unwrap().push(message);
        }
    }
}

fn wim(dir: &Path, name: &str, content: &Path) -> ImageDescriptor {
    let path = dir.join(name);
    capture_directory(content, &path, &CaptureOptions::default(), &Ctl::default(), &Silent).unwrap();
    describe(&path, &Ctl::default(), &Silent).unwrap()
}

fn machine(dir: &Path) -> Machine {
    let none = || dir.join("none");
    Machine {
        images: Arc::new(Local(dir.to_owned())),
        captures: None,
        confirm_program: none(),
        site_ca_pem: String::new(),
        mke2fs: none(),
        e2fsck: none(),
        mount_point: none(),
        roots: Roots { sys: none(), proc: none(), dev: none() },
        firmware: None,
    }
}

/// Services the image of a system with a layer of this text; gives what was told, and the image.
fn serviced(dir: &Path, layer: &str) -> Result<(Vec<String>, gravure_imaging::Image), StepError> {
    let (root, beside) = (dir.join("root"), dir.join("layer"));
    files(&root, &beside, layer);
    let descriptor = wim(dir, "image.wim", &root);
    let bundle = PlannedBundle {
        name: "room".into(),
        path: "layer.wim".into(),
        descriptor: wim(dir, "layer.wim", &beside),
    };
    let mut plan = bare_plan();
    plan.image = PlannedImage { path: "image.wim".into(), ..plan.image };
    plan.linux = Some(PlannedLinux { layers: vec![bundle], facts: facts() });
    let verdict = Verdict { plan, descriptor };
    let (machine, ctl, heard) = (machine(dir), Ctl::default(), Heard::default());
    let mut run = Run::new(&verdict, &machine, &ctl, &heard)?;
    run.service_linux("service_linux")?;
    let image = run.image.take().unwrap();
    drop(run);
    Ok((heard.0.into_inner().unwrap(), image))
}

#[test]
fn what_is_applied_and_compared_is_the_image_with_its_layers() {
    let temp = tempfile::tempdir().unwrap();
    let (told, image) = serviced(temp.path(), LAYER).unwrap();
    assert_eq!(told[0], "layer room 2: applied");
    // Files are given to root.
    if !gravure_linux::process::is_root() {
        gravure_testkit::skipped("files are given to root, which needs root");
        return;
    }
    let target = temp.path().join("target");
    let (ctl, options) = (Ctl::default(), ApplyOptions::default());
    apply_to_directory(&image, &target, &options, &ctl, &Silent).unwrap();
    let read = |path: &str| fs::read_to_string(target.join(path)).unwrap();
    let mode = |path: &str| fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((read("usr/local/bin/room"), mode("usr/local/bin/room")), ("#!/bin/sh\n".into(), 0o755));
    assert_eq!((read("etc/room"), mode("etc/room")), ("B7 pc-7".into(), 0o600));
    assert_eq!(read("etc/motd"), "Welcome\nRoom B7\n");
    assert_eq!(read("var/lib/gravure/layers/room"), "2\n");
    let unit = "/etc/systemd/system/gravure-layer-room.service";
    let wanted = target.join("etc/systemd/system/multi-user.target.wants/gravure-layer-room.service");
    assert_eq!(fs::read_link(wanted).unwrap(), Path::new(unit));
    let record = read("var/lib/gravure/changes/0001.json");
    assert!(record.contains("deployment p") && record.contains("/etc/motd"), "{record}");
    // Read back like everything else of the image.
    let verify =
        || gravure_imaging::verify_directory(&image, &target, &VerifyOptions::default(), &ctl, &Silent);
    verify().unwrap();
    fs::write(target.join("etc/room"), "B7 pc-8").unwrap();
    let error = verify().unwrap_err().to_string();
    assert!(error.contains("/etc/room"), "{error}");
}

#[test]
fn layers_that_are_not_for_linux_or_fail_are_known_before_the_disk() {
    for (layer, code, expected) in [
        (
            "[layer]\nid = 'x'\nversion = 1\n[[registry]]\nkey = 'HKLM\\SOFTWARE\\x'\n",
            code::REFUSED,
            "layer room: layer x, rule [[registry]] \"HKLM\\\\SOFTWARE\\\\x\"",
        ),
        (
            "[layer]\nid = 'x'\nversion = 1\n[[file]]\nto = '/etc/x'\ntext = '${FLOOR}'\n",
            code::REFUSED,
            "found \"FLOOR\"",
        ),
        (
            "[layer]\nid = 'x'\nversion = 1\n[[file]]\nto = '/etc/motd/x'\ntext = ''\n",
            code::INTEGRITY,
            "layer x: /etc/motd: expected a directory",
        ),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let error = serviced(temp.path(), layer).unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
        assert_eq!(error.code, code, "{}", error.message);
    }
}
