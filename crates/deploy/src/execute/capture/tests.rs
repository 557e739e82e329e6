//! What becomes of a disk's encrypted volumes, on a file; whole captures run in virtual machines.

use std::path::Path;

use gravure_model::identity::MachineIdentity;
use gravure_model::inventory::FirmwareMode;
use gravure_model::job::Afterwards;
use gravure_model::plan::{PLAN_VERSION, Personality, PlannedDisk, PlannedImage, Step};
use gravure_model::{Assurance, Ctl, Secret, Timestamp};
use gravure_testkit::oracle;

use super::*;

fn plan(keys: &[&[u8]]) -> Plan {
    let keys = keys.iter().map(|key| Secret::of_bytes(key)).collect();
    Plan {
        version: PLAN_VERSION,
        id: "p".into(),
        job: "j".into(),
        machine: MachineIdentity::default(),
        nonce: String::new(),
        created: Timestamp(1_000_000),
        expires: Timestamp(2_000_000),
        assurance: Assurance::Approved,
        firmware: FirmwareMode::Uefi,
        seed: String::new(),
        image: PlannedImage { path: String::new(), descriptor: Digest([0; 32]), index: 0 },
        disk: PlannedDisk {
            name: "vda".into(),
            model: None,
            serial: None,
            size_bytes: 0,
            logical_sector_bytes: 512,
            wipe: false,
        },
        personality: Personality { host_name: String::new(), machine_id: String::new(), confirm: None },
        windows: None,
        linux: None,
        capture: Some(PlannedCapture {
            name: "golden".into(),
            description: None,
            raw: false,
            replace: false,
            keys,
        }),
        steps: vec![Step::CaptureDisk {}],
        then: Afterwards::Reboot,
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
