//! What is decided before the disk is touched: by the Windows in the image, which is not changed.

use std::fs;
use std::path::Path;

use gravure_hive::Data;
use gravure_io::FileAt;
use gravure_model::event::Known;
use gravure_model::plan::PlannedWindows;

use super::super::super::fixtures::{hive, planned, signed_repository, unsigned_repository};
use super::super::super::windows::changes::Told;
use super::super::fixtures::{LAYER, ntfs_volume as volume, servicing, sources, windows_files};
use super::*;

fn seen(servicing: &Servicing, volume: &Path) -> Foreseen {
    let mut out = Foreseen::default();
    let source = Box::new(FileAt::open(volume).unwrap());
    servicing.look("partition 3", source, &mut out, &Ctl::default()).unwrap();
    out
}

fn misfit(what: &'static str, is_fatal: bool) -> Misfit {
    Misfit { what, source: "AHCI".into(), target: "pci:1af4:1042".into(), is_fatal }
}

#[test]
fn a_driver_for_the_controller_makes_another_machine_fit_and_the_image_is_only_read() {
    let temp = tempfile::tempdir().unwrap();
    let repository = signed_repository(temp.path());
    let volume = volume(temp.path(), |root| windows_files(root, 0));
    let before = blake3::hash(&fs::read(&volume).unwrap());
    let with = servicing(Some(planned()), sources(temp.path(), Some(&repository), None));
    let foreseen = seen(&with, &volume);
    assert!(foreseen.failures.is_empty() && foreseen.unreached.is_empty(), "{foreseen:?}");
    let found = vec![misfit("storage controller", true), misfit("model", false)];
    let judged = judge(found.clone(), Likeness::Unknown, foreseen, &with).unwrap();
    let wanted = Judgement {
        odd: vec![misfit("model", false)],
        served: vec![misfit("storage controller", true)],
        warnings: vec![],
        is_needed: true,
    };
    assert_eq!(judged, wanted);
    // A firmware that cannot start it no driver cures.
    let firmware = vec![misfit("firmware", true), misfit("storage controller", true)];
    let refused = judge(firmware, Likeness::Unknown, seen(&with, &volume), &with).unwrap_err();
    assert!(
        refused.message.ends_with("firmware: the image is of AHCI, this is pci:1af4:1042"),
        "{}",
        refused.message
    );
    assert!(refused.cure.unwrap().contains("--any-hardware"));

    // Neither the image nor the site has one.
    let without = servicing(Some(planned()), BundleSources::default());
    let refused = judge(found.clone(), Likeness::Unknown, seen(&without, &volume), &without).unwrap_err();
    let wanted = "partition 3: 0000:00:06.0 PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01: Windows cannot start from it: \
                  no driver for it in the image nor among the site's";
    assert_eq!((refused.code, refused.message.as_str()), (code::REFUSED, wanted));
    assert!(refused.cure.unwrap().contains("gravure driver add"));
    // Also when nobody knows of what machine the image is.
    assert!(judge(vec![], Likeness::Unknown, seen(&without, &volume), &without).is_err());
    // It has started from such a controller, or the job takes it as it is.
    let same = judge(vec![], Likeness::SameController, seen(&without, &volume), &without).unwrap();
    assert_eq!(same, Judgement::default());
    let any = judge(found.clone(), Likeness::AnyAccepted, seen(&without, &volume), &without).unwrap();
    assert_eq!((any.odd, any.is_needed), (found.clone(), false));
    let accepted = PlannedWindows { accept_missing_drivers: true, ..planned() };
    let accepting = servicing(Some(accepted), BundleSources::default());
    assert_eq!(judge(found, Likeness::Unknown, seen(&accepting, &volume), &accepting).unwrap().odd.len(), 1);
    assert_eq!(blake3::hash(&fs::read(&volume).unwrap()), before);
}

#[test]
fn a_driver_that_nobody_vouches_for_starts_no_machine() {
    let temp = tempfile::tempdir().unwrap();
    let repository = unsigned_repository(temp.path());
    let volume = volume(temp.path(), |root| windows_files(root, 2));
    let unsigned = servicing(Some(planned()), sources(temp.path(), Some(&repository), None));
    let found = vec![misfit("storage controller", true)];
    let refused = judge(found, Likeness::Unknown, seen(&unsigned, &volume), &unsigned).unwrap_err();
    assert!(
        refused.message.ends_with("Windows cannot start from it: vblk.sys is not signed"),
        "{}",
        refused.message
    );
}

#[test]
fn what_the_job_asks_for_and_cannot_be_had_is_refused_before() {
    let temp = tempfile::tempdir().unwrap();
    let volume = volume(temp.path(), |root| windows_files(root, 0));
    let settings = |text: &str| PlannedWindows {
        settings: Some(gravure_model::Secret::new(text)),
        accept_missing_drivers: true,
        ..planned()
    };
    // Passwords would stay on the disk of a system that runs no setup.
    let secret = servicing(Some(settings("administrator-password = \"Geheim\"\n")), BundleSources::default());
    let refused = judge(vec![], Likeness::Unknown, seen(&secret, &volume), &secret).unwrap_err();
    assert_eq!(refused.code, code::REFUSED);
    assert!(
        refused.message.starts_with("partition 3: ") && refused.message.contains("would stay on the disk"),
        "{}",
        refused.message
    );
    assert!(refused.cure.unwrap().contains("without --settings"));
    // Others are told of where they are not taken.
    let plain = servicing(Some(settings("owner = \"School\"\n")), BundleSources::default());
    let foreseen = seen(&plain, &volume);
    let told: &Told = &foreseen.serviced[0].1.told;
    assert!(told.not_done.iter().any(|text| text.starts_with("the settings are not in it")), "{told:?}");
    assert!(judge(vec![], Likeness::Unknown, foreseen, &plain).unwrap().is_needed);
    // A layer that names what nobody says.
    let layer = servicing(Some(planned()), sources(temp.path(), None, Some(LAYER)));
    let layer = Servicing { planned: Some(PlannedWindows { layers: vec![bundle()], ..planned() }), ..layer };
    let refused = judge(vec![], Likeness::SameController, seen(&layer, &volume), &layer).unwrap_err();
    assert!(refused.message.starts_with("partition 3: layer school: "), "{}", refused.message);

    // There is none to put it into.
    let encrypted =
        || Foreseen { unreached: vec!["partition 3 is encrypted (BitLocker)".into()], ..Foreseen::default() };
    let refused = judge(vec![], Likeness::SameController, encrypted(), &plain).unwrap_err();
    let wanted =
        "the image has no Windows that settings could be put into: partition 3 is encrypted (BitLocker)";
    assert_eq!((refused.code, refused.message.as_str()), (code::REFUSED, wanted));
    assert!(refused.cure.unwrap().contains("without --settings and --layer"));
    let refused = judge(vec![], Likeness::SameController, Foreseen::default(), &layer).unwrap_err();
    assert!(
        refused.message.ends_with("no Windows that layers could be put into: none was found on it"),
        "{}",
        refused.message
    );
    // Drivers alone are no reason.
    let nothing = servicing(Some(planned()), BundleSources::default());
    let judged = judge(vec![], Likeness::SameController, encrypted(), &nothing).unwrap();
    assert_eq!(judged.warnings, ["partition 3 is encrypted (BitLocker): a Windows on it gets no drivers"]);
    assert!(!judged.is_needed);
    let found = vec![misfit("storage controller", true)];
    let refused = judge(found, Likeness::Unknown, encrypted(), &nothing).unwrap_err();
    assert!(
        refused.message.ends_with("and it can be given no drivers: partition 3 is encrypted (BitLocker)"),
        "{}",
        refused.message
    );
}

#[test]
fn of_a_windows_without_a_driver_database_nobody_knows() {
    let temp = tempfile::tempdir().unwrap();
    let volume = volume(temp.path(), |root| {
        windows_files(root, 0);
        let current = "Microsoft\\Windows NT\\CurrentVersion";
        let seven = [("CurrentVersion", "6.1"), ("CurrentBuildNumber", "7601")];
        let software = hive(&seven.map(|(name, value)| (current, name, Data::sz(value))));
        fs::write(root.join("Windows/system32/Config/SOFTWARE"), software).unwrap();
    });
    let servicing = servicing(Some(planned()), BundleSources::default());
    let foreseen = seen(&servicing, &volume);
    let Start::Unchecked(why) = &foreseen.serviced[0].1.start else { panic!("{foreseen:?}") };
    assert!(why.starts_with("Windows 6.1.7601 has no driver database"), "{why}");
    assert_eq!(judge(vec![], Likeness::Unknown, foreseen, &servicing).unwrap(), Judgement::default());
}

#[test]
fn volumes_without_a_windows_and_what_is_no_volume_are_told_apart() {
    let temp = tempfile::tempdir().unwrap();
    let data = volume(temp.path(), |root| fs::write(root.join("film"), "film").unwrap());
    let servicing = servicing(Some(planned()), BundleSources::default());
    let nothing = seen(&servicing, &data);
    assert!(nothing.serviced.is_empty() && nothing.failures.is_empty() && nothing.unreached.is_empty());
    let broken = temp.path().join("broken");
    fs::write(&broken, vec![0; 1 << 20]).unwrap();
    let broken = seen(&servicing, &broken);
    assert!(broken.unreached[0].starts_with("partition 3 cannot be read: "), "{broken:?}");
}

#[test]
fn a_windows_that_was_not_shut_down_is_not_changed() {
    let temp = tempfile::tempdir().unwrap();
    let mark = b"wake, and nobody sleeps here";
    let volume = volume(temp.path(), |root| {
        windows_files(root, 0);
        let mut file = mark.to_vec();
        file.resize(8192, 0);
        fs::write(root.join("hiberfil.sys"), file).unwrap();
    });
    // As Windows leaves it, with its fast startup after every shutdown, too.
    let mut bytes = fs::read(&volume).unwrap();
    let at = bytes.windows(mark.len()).position(|part| part == mark).unwrap();
    bytes[at..at + 4].copy_from_slice(b"HIBR");
    fs::write(&volume, bytes).unwrap();
    let servicing = servicing(Some(planned()), BundleSources::default());
    let foreseen = seen(&servicing, &volume);
    assert!(foreseen.serviced.is_empty());
    assert!(foreseen.unreached[0].starts_with("partition 3 is hibernated"), "{foreseen:?}");
}

#[test]
fn plans_that_give_a_name_alone_are_judged_by_the_hardware() {
    let named = servicing(None, BundleSources::default());
    let found = vec![misfit("storage controller", true), misfit("model", false)];
    let refused = judge(found.clone(), Likeness::Unknown, Foreseen::default(), &named).unwrap_err();
    assert_eq!(refused.code, code::REFUSED);
    assert!(refused.cure.unwrap().contains("--any-hardware"));
    let accepted = judge(found.clone(), Likeness::AnyAccepted, Foreseen::default(), &named).unwrap();
    assert_eq!(accepted.odd, found);
    let mild = judge(vec![misfit("model", false)], Likeness::Unknown, Foreseen::default(), &named).unwrap();
    assert_eq!(mild.odd.len(), 1);
    let unknown = |start| {
        let known_by = Known::Windows { machine_sid: None, computer_name: None };
        let one = Serviced { told: Told::default(), known_by, start, outside: Vec::new() };
        Foreseen { serviced: vec![("partition 3".into(), one)], ..Foreseen::default() }
    };
    // What could not be checked lifts nothing.
    let planned = servicing(Some(planned()), BundleSources::default());
    let why = Start::Unchecked("what vda hangs on is not known".into());
    let refused = judge(found, Likeness::Unknown, unknown(why), &planned).unwrap_err();
    assert!(refused.message.ends_with("partition 3: what vda hangs on is not known"), "{}", refused.message);
}

/// A bundle that stands in a plan; its content comes from elsewhere in these tests.
fn bundle() -> gravure_model::plan::PlannedBundle {
    let descriptor = serde_json::json!({
        "version": 1, "format": "wim", "size_bytes": 1, "range_bytes": 1, "ranges": [],
        "tables": "0".repeat(64), "contents_checked": true, "images": []
    });
    gravure_model::plan::PlannedBundle {
        name: "school".to_owned(),
        path: "/bundles/layer-school.wim".to_owned(),
        descriptor: serde_json::from_value(descriptor).unwrap(),
    }
}
