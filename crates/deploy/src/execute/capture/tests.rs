//! What becomes of a disk's encrypted volumes, on a file; whole captures run in virtual machines.

use std::path::Path;

use gravure_model::plan::Step;
use gravure_model::{Assurance, Ctl, Secret};
use gravure_testkit::{bitlocker, oracle, skipped};

use super::super::fixtures::bare_plan;
use super::super::restored::fixtures::{ntfs_volume, windows_files};
use super::*;

fn plan(keys: &[&[u8]]) -> Plan {
    let keys = keys.iter().map(|key| Secret::of_bytes(key)).collect();
    Plan {
        assurance: Assurance::Approved,
        capture: Some(PlannedCapture {
            name: "golden".into(),
            description: None,
            raw: false,
            replace: false,
            keys,
        }),
        steps: vec![Step::CaptureDisk {}],
        ..bare_plan()
    }
}

fn look(disk: &Path, keys: &[&[u8]]) -> Result<BlockPlan, StepError> {
    let plan = plan(keys);
    let options = options(&plan, plan.capture.as_ref().unwrap())?;
    BlockPlan::new(BlockSource::open(disk).unwrap(), &options, &Ctl::default()).map_err(unclean)
}

#[test]
fn a_plans_keys_open_what_is_encrypted_on_the_disk() {
    let (Some(mut mkfs), Some(mut qemu)) = (oracle("mkfs.ext4"), oracle("qemu-img")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (plain, locked) = (dir.path().join("ext4"), dir.path().join("luks"));
    std::fs::File::create(&plain).unwrap().set_len(32 << 20).unwrap();
    assert!(mkfs.args(["-q", "-F", "-L", "inside"]).arg(&plain).status().unwrap().success());
    let how = ["convert", "-f", "raw", "-O", "luks", "--object", "secret,id=s,data=1234", "-o"];
    let options = "key-secret=s,iter-time=10,cipher-alg=aes-256,cipher-mode=xts";
    qemu.args(how).arg(options).args([&plain, &locked]);
    // It measures the processor first, which a busy machine does not let it every time.
    assert!((0..20).any(|_| qemu.status().unwrap().success()));
    let before = std::fs::read(&locked).unwrap();

    // A key file that an editor ended with a line feed, behind one of another volume.
    let opened = look(&locked, &[b"4321", b"1234\n"]).unwrap();
    let [volume] = opened.facts().volumes.as_slice() else { panic!("{:?}", opened.facts()) };
    assert_eq!((volume.content.as_str(), volume.label.as_deref()), ("ext4", Some("inside")));
    assert!(volume.notes.iter().any(|note| note.contains("the source is encrypted (LUKS)")), "{volume:?}");

    let closed = look(&locked, &[]).unwrap_err();
    assert_eq!(closed.code, code::REFUSED);
    assert!(closed.cure.unwrap().contains("--key-file"), "{}", closed.message);
    let other = look(&locked, &[b"4321"]).unwrap_err();
    assert!(other.message.contains("the key fits none of"), "{}", other.message);
    assert!(!other.message.contains("4321") && other.cure.unwrap().starts_with("give a key that opens"));
    let mut broken = plan(&[]);
    broken.capture.as_mut().unwrap().keys = vec![Secret::new("1234!")];
    let refused = super::options(&broken, broken.capture.as_ref().unwrap()).unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (code::REFUSED, "a key of the plan is not base64"));
    assert!(std::fs::read(&locked).unwrap() == before, "the disk is only read");
}

/// From the plan's keys to what is in the image.
#[test]
fn a_windows_under_bitlocker_is_captured_with_the_password_of_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let plain = std::fs::read(ntfs_volume(dir.path(), |root| windows_files(root, 0))).unwrap();
    let locked = dir.path().join("locked");
    std::fs::write(&locked, bitlocker::locked(&plain, "Geheim 1")).unwrap();
    let before = blake3::hash(&std::fs::read(&locked).unwrap());

    // As an editor of Windows leaves a file, behind a recovery password of another volume.
    let other = b"042647-302313-590458-071500-554323-116567-412181-516978";
    let opened = look(&locked, &[other, b"Geheim 1\r\n"]).unwrap();
    let [volume] = opened.facts().volumes.as_slice() else { panic!("{:?}", opened.facts()) };
    assert_eq!((volume.content.as_str(), volume.has_windows), ("NTFS", Some(true)));
    assert_eq!(volume.basis, "allocation");
    assert!(
        volume.notes.iter().any(|note| note.contains("the source is encrypted (BitLocker)")),
        "{volume:?}"
    );
    let capture = BlockCapture {
        source: &opened,
        name: opened.name(),
        layout: opened.layout(),
        facts: opened.facts(),
        hits: &gravure_imaging::no_hits,
    };
    let how = BlockCaptureOptions::default();
    let gim = dir.path().join("golden.gim");
    let report = capture.to_file(&gim, &how, &Ctl::default(), &gravure_model::event::Silent).unwrap();
    assert!(report.data_bytes < plain.len() as u64 / 2 && report.unreadable_bytes == 0, "{report:?}");
    let image = std::sync::Arc::new(gravure_io::FileAt::open(&gim).unwrap());
    let image = gravure_imaging::BlockImage::open(image, "golden.gim").unwrap();
    let read = gravure_imaging::BlockImageAt::new(image);
    let there = gravure_io::ReadAt::read_vec_at(&read, 0, plain.len()).unwrap();
    assert!(there == plain, "what was under the encryption, and nothing of it");

    for (keys, cure) in [(&[][..], "--key-file"), (&[&other[..]][..], "give a key that opens")] {
        let closed = look(&locked, keys).unwrap_err();
        assert_eq!(closed.code, code::REFUSED);
        assert!(closed.cure.unwrap().contains(cure), "{}", closed.message);
    }
    assert_eq!(blake3::hash(&std::fs::read(&locked).unwrap()), before, "the disk is only read");
}

/// Volumes that Windows encrypted (`crates/unlock/tests/it/bitlocker.rs` says which): no whole file systems, so every byte is asked for.
#[test]
fn what_windows_encrypted_is_read_with_each_kind_of_key() {
    let Some(images) = std::env::var_os("GRAVURE_BITLOCKER_IMAGES").map(std::path::PathBuf::from) else {
        return skipped("no images of BitLocker: GRAVURE_BITLOCKER_IMAGES is not set");
    };
    let recovery = b"235818-357951-253979-013365-241120-245575-342914-591910";
    let bek = std::fs::read(images.join("4381F759-C4F8-4DE0-BB61-FC33A831BDA5.BEK")).unwrap();
    let volumes: [(&str, &[u8]); 4] = [
        ("bitlk-aes-xts-128.img", b"anaconda"),
        ("bitlk-aes-xts-128.img", recovery),
        ("bitlk-aes-xts-128-startup-key.img", &bek),
        ("bitlk-aes-cbc-elephant-128.img", b"anaconda"),
    ];
    for (name, key) in volumes {
        let path = images.join(name);
        let mut plan = plan(&[key]);
        plan.capture.as_mut().unwrap().raw = true;
        let options = options(&plan, plan.capture.as_ref().unwrap()).unwrap();
        let opened = BlockPlan::new(BlockSource::open(&path).unwrap(), &options, &Ctl::default()).unwrap();
        let source = std::sync::Arc::new(gravure_io::FileAt::open(&path).unwrap());
        let inside =
            gravure_unlock::unlock(source, &Key::new(key), &gravure_unlock::Limits::default()).unwrap();
        let hash = |source: &dyn gravure_io::ReadAt| {
            let mut hasher = blake3::Hasher::new();
            for start in (0..source.size()).step_by(1 << 20) {
                let len = usize::try_from((source.size() - start).min(1 << 20)).unwrap();
                hasher.update(&source.read_vec_at(start, len).unwrap());
            }
            hasher.finalize()
        };
        assert_eq!(hash(&opened), hash(&inside), "{name}");
        assert_eq!(opened.facts().volumes[0].used_bytes, inside.size(), "{name}");
        let boot = gravure_io::ReadAt::read_vec_at(&opened, 3, 8).unwrap();
        assert_eq!(boot, b"NTFS    ", "{name}");
    }
}
