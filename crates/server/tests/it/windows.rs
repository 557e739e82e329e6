//! Jobs for Windows images through the API: drivers and layers that fit, secrets that are handed out once and never shown.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]

use gravure_model::api::PlanAnswer;
use gravure_model::event::Known;
use gravure_model::identity::MachineSelector;
use gravure_model::inventory::{Device, FirmwareMode};
use gravure_model::job::{Afterwards, DiskRule, DriverRule, JobRequest, WindowsRequest};
use gravure_model::plan::Plan;
use gravure_model::{Assurance, Secret, Timestamp};
use gravure_testkit::signing::{Authority, program};
use gravure_trust::{PlanExpectation, PublicKey, TrustedPlanKey};
use gravure_windows::drivers::{AddOptions, Repository};

use crate::common::{Boot, Machine, TestSite};

const ID: &str = "PCI\\VEN_1AF4&DEV_1042";

fn job(machine: MachineSelector, windows: WindowsRequest) -> JobRequest {
    JobRequest {
        machine,
        image: "windows.wim".into(),
        image_index: 0,
        name: "pc-{serial}".into(),
        disk: DiskRule::Only,
        assurance: Assurance::Token,
        expires: None,
        max_machines: None,
        then: Afterwards::Reboot,
        wipe: false,
        windows: Some(windows),
        capture: None,
        restore: None,
    }
}

/// A site with a Windows image, one driver package that fits the machine and one that does not, and a layer.
fn site() -> TestSite {
    let site = TestSite::new();
    std::fs::write(site.dir.join("images/windows.wim"), vec![7; 1000]).unwrap();
    let mut repository = Repository::create(&site.dir.join("drivers")).unwrap();
    for (name, id) in [("fits", ID), ("other", "PCI\\VEN_9999&DEV_0001")] {
        let dir = site.dir.join(format!("package-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        let inf = format!(
            "[Version]\nSignature=\"$Windows NT$\"\nClass=SCSIAdapter\nClassGuid={{4d36e97b-e325-11ce-bfc1-08002be10318}}\nProvider=P\n\
             CatalogFile={name}.cat\nDriverVer=01/02/2024,1.0.0.0\n[SourceDisksNames]\n1=d\n[SourceDisksFiles]\n{name}.sys=1\n\
             [DestinationDirs]\nDefaultDestDir=12\n[Manufacturer]\nm=M,NTamd64\n[M.NTamd64]\ndev=I,{id}\n[I]\nCopyFiles=@{name}.sys\n\
             [I.Services]\nAddService={name},2,S\n[S]\nServiceType=1\nStartType=0\nErrorControl=1\nServiceBinary=%12%\\{name}.sys\n"
        );
        let driver = program(name.as_bytes());
        let signer = Authority::new("Test Root").signer("Test Signer");
        std::fs::write(dir.join(format!("{name}.cat")), signer.catalog(&[inf.as_bytes(), &driver])).unwrap();
        std::fs::write(dir.join(format!("{name}.sys")), driver).unwrap();
        let path = dir.join(format!("{name}.inf"));
        std::fs::write(&path, inf).unwrap();
        repository.add(&path, AddOptions::default()).unwrap();
    }
    repository.commit().unwrap();
    let layer = site.dir.join("layers/school");
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::write(
        layer.join("layer.toml"),
        "[layer]\nid='school'\nversion=1\n[[file]]\nto='C:\\x'\ntext='${ROOM} ${COMPUTER_NAME} ${FLOOR}'\n",
    )
    .unwrap();
    std::fs::write(site.dir.join("names.csv"), "serial,floor\nSN1,3\n").unwrap();
    site
}

fn plan(site: &TestSite, machine: &Machine, boot: &Boot) -> Result<Plan, String> {
    let (plan_key, plan, descriptor) = match boot.plan(site).unwrap() {
        PlanAnswer::Ready { plan_key, plan, descriptor } => (plan_key, plan, descriptor),
        PlanAnswer::Wait { reason, .. } => return Err(reason),
    };
    let root = PublicKey::from_text(&site.site_settings().root_key).unwrap();
    let key = TrustedPlanKey::new(&root, &plan_key).unwrap();
    let identity = machine.inventory().identity();
    let (nonce, now, firmware) = (&boot.nonce, Timestamp::now(), FirmwareMode::Uefi);
    let expected = PlanExpectation { identity: &identity, nonce, firmware, now };
    Ok(key.plan(&plan, &descriptor, &expected).unwrap().plan)
}

fn devices() -> Vec<Device> {
    vec![Device {
        bus: "pci".into(),
        place: "0000:00:01.0".into(),
        hardware_ids: vec![format!("{ID}&CC_0100"), ID.to_owned()],
        ..Device::default()
    }]
}

#[test]
fn a_machine_gets_the_drivers_and_layers_that_are_for_it() {
    let site = site();
    let machine = Machine { number: 1 };
    let windows = WindowsRequest {
        layers: vec!["school".into()],
        facts: [("ROOM".to_owned(), "B7".to_owned())].into(),
        ..WindowsRequest::default()
    };
    let mac = MachineSelector::Mac(machine.mac());
    let created = site.operator().create_job(&job(mac, windows)).unwrap();
    assert_eq!(created.job.request.assurance, Assurance::Token, "nothing secret in it");
    let boot = Boot::new(&site.ca_pem());
    boot.hello_with(&site, &machine, site.boot_token(&machine), |inventory| inventory.devices = devices())
        .unwrap();
    let plan = plan(&site, &machine, &boot).unwrap();
    assert_eq!(plan.personality.confirm, None);
    let windows = plan.windows.unwrap();
    let names = |list: &[gravure_model::plan::PlannedBundle]| {
        list.iter().map(|bundle| bundle.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&windows.drivers), names(&windows.layers)),
        (vec!["fits.inf".to_owned()], vec!["school".to_owned()])
    );
    let fact = |name: &str| windows.facts.get(name).map(String::as_str);
    assert_eq!((fact("ROOM"), fact("COMPUTER_NAME"), fact("FLOOR")), (Some("B7"), Some("pc-sn1"), Some("3")));
    // What is served is what the plan describes, byte for byte.
    for bundle in windows.drivers.iter().chain(&windows.layers) {
        let bytes = site.fetch(bundle.path.trim_start_matches('/'));
        assert_eq!(bytes.len() as u64, bundle.descriptor.size_bytes);
        assert_eq!(*blake3::hash(&bytes).as_bytes(), bundle.descriptor.ranges[0].0);
    }
    for path in ["bundles/../keys/ca.pem", "bundles/driver-x.wim.descriptor"] {
        assert!(ureq::get(format!("{}/{path}", site.content)).call().is_err(), "{path}");
    }
}

#[test]
fn a_machine_gets_all_of_its_models_pack_when_the_rule_says_so() {
    let site = site();
    let machine = Machine { number: 1 };
    let request = job(
        MachineSelector::Mac(machine.mac()),
        WindowsRequest { drivers: DriverRule::MatchAndModel, ..WindowsRequest::default() },
    );
    site.operator().create_job(&request).unwrap();
    let boot = Boot::new(&site.ca_pem());
    boot.hello_with(&site, &machine, site.boot_token(&machine), |inventory| {
        inventory.devices = devices();
        inventory.smbios.system.manufacturer = Some("LENOVO".into());
        inventory.smbios.system.product = Some("20W0S1AB00".into());
    })
    .unwrap();
    // Nobody said what is of its pack: it does not get less than was asked for.
    let refused = plan(&site, &machine, &boot).unwrap_err();
    assert!(refused.contains("of the 0 packages of model lenovo:20W0"), "{refused}");
    assert!(refused.contains("gravure driver add --model lenovo:20W0"), "{refused}");
    let repository = Repository::open(&site.dir.join("drivers")).unwrap();
    let packages = repository.packages().unwrap();
    let other = packages.iter().find(|package| package.inf == "other.inf").unwrap().id.clone();
    repository.note_model(&"lenovo:20W0".parse().unwrap(), &[other.clone()].into()).unwrap();
    let windows = plan(&site, &machine, &boot).unwrap().windows.unwrap();
    let mut names: Vec<&str> = windows.drivers.iter().map(|bundle| bundle.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["fits.inf", "other.inf"]);
    assert_eq!(windows.drivers_anyway, [other]);
}

#[test]
fn a_windows_on_the_image_of_a_disk_gets_them_too_and_a_linux_beside_it_may_report() {
    let site = site();
    std::fs::write(site.dir.join("images/windows.gim"), vec![7; 1000]).unwrap();
    let machine = Machine { number: 1 };
    let windows = WindowsRequest {
        layers: vec!["school".into()],
        facts: [("ROOM".to_owned(), "B7".to_owned())].into(),
        settings: Some(Secret::new("owner = \"School\"\n")),
        ..WindowsRequest::default()
    };
    let request =
        JobRequest { image: "windows.gim".into(), ..job(MachineSelector::Mac(machine.mac()), windows) };
    site.operator().create_job(&request).unwrap();
    let boot = Boot::new(&site.ca_pem());
    boot.hello_with(&site, &machine, site.boot_token(&machine), |inventory| inventory.devices = devices())
        .unwrap();
    for _ in 0..2 {
        // Asked for again, the answer is the same but for the token.
        let plan = plan(&site, &machine, &boot).unwrap();
        assert!(plan.restores_disk());
        assert!(plan.personality.confirm.is_some());
        let windows = plan.windows.unwrap();
        let names = |list: &[gravure_model::plan::PlannedBundle]| -> Vec<String> {
            list.iter().map(|bundle| bundle.name.clone()).collect()
        };
        assert_eq!(
            (names(&windows.drivers), names(&windows.layers)),
            (vec!["fits.inf".to_owned()], vec!["school".to_owned()])
        );
        assert_eq!(windows.settings.unwrap().reveal(), "owner = \"School\"\n");
    }
}

#[test]
fn a_linux_gets_the_layers_that_are_for_it_and_no_others() {
    let site = site();
    std::fs::write(site.dir.join("images/debian.wim"), vec![7; 1000]).unwrap();
    let layer = site.dir.join("layers/room");
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::write(
        layer.join("layer.toml"),
        "[layer]\nid='room'\nversion=1\n[[file]]\nto='/etc/room'\ntext='${ROOM} ${COMPUTER_NAME} ${FLOOR}'\n",
    )
    .unwrap();
    let request = |number: u8, layer: &str| JobRequest {
        image: "debian.wim".into(),
        ..job(
            MachineSelector::Mac(Machine { number }.mac()),
            WindowsRequest {
                layers: vec![layer.to_owned()],
                facts: [("ROOM".to_owned(), "B7".to_owned())].into(),
                ..WindowsRequest::default()
            },
        )
    };
    let asked = |number: u8| {
        let (machine, boot) = (Machine { number }, Boot::new(&site.ca_pem()));
        boot.hello_with(&site, &machine, site.boot_token(&machine), |inventory| {
            inventory.devices = devices();
        })
        .unwrap();
        plan(&site, &machine, &boot)
    };
    // Nobody has looked into the image yet: what it holds shows when the machine asks.
    site.operator().create_job(&request(1, "school")).unwrap();
    let refused = asked(1).unwrap_err();
    assert!(refused.contains("layer school: layer, path: expected one from the root"), "{refused}");
    // Now it is known.
    let error = site.operator().create_job(&request(2, "school")).unwrap_err().to_string();
    assert!(error.contains("layer school: layer, path: expected one from the root"), "{error}");

    // The table has nothing of this machine.
    site.operator().create_job(&request(2, "room")).unwrap();
    let refused = asked(2).unwrap_err();
    assert!(refused.contains("layer room: ") && refused.contains("FLOOR"), "{refused}");
    std::fs::write(site.dir.join("names.csv"), "serial,floor\nSN2,3\n").unwrap();
    let plan = asked(2).unwrap();
    assert_eq!(plan.windows, None);
    let linux = plan.linux.unwrap();
    let [bundle] = linux.layers.as_slice() else { panic!("{:?}", linux.layers) };
    assert_eq!(bundle.name, "room");
    let fact = |name: &str| linux.facts.get(name).map(String::as_str);
    assert_eq!((fact("ROOM"), fact("COMPUTER_NAME"), fact("FLOOR")), (Some("B7"), Some("pc-sn2"), Some("3")));
    let bytes = site.fetch(bundle.path.trim_start_matches('/'));
    assert_eq!(*blake3::hash(&bytes).as_bytes(), bundle.descriptor.ranges[0].0);
}

#[test]
fn secrets_need_an_approved_machine_and_are_told_to_nobody_else() {
    let site = site();
    let machine = Machine { number: 1 };
    let settings = "administrator-password = \"hunter2\"\n";
    let windows =
        |text: &str| WindowsRequest { settings: Some(Secret::new(text)), ..WindowsRequest::default() };
    let operator = site.operator();
    let created = operator.create_job(&job(MachineSelector::Mac(machine.mac()), windows(settings))).unwrap();
    assert_eq!(created.job.request.assurance, Assurance::Approved);
    let shown = serde_json::to_string(&(&created, operator.jobs().unwrap())).unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");

    let boot = Boot::new(&site.ca_pem());
    let welcome = boot.hello(&site, &machine, site.boot_token(&machine)).unwrap();
    assert!(plan(&site, &machine, &boot).unwrap_err().contains("needs assurance \"approved\""));
    operator.approve(&welcome.machine, &welcome.approval_code).unwrap();
    let planned = plan(&site, &machine, &boot).unwrap();
    assert_eq!(planned.windows.unwrap().settings.unwrap().reveal(), settings);
    let verified =
        Known::Verified { plan: planned.id.clone(), image: planned.image.descriptor, files: 1, bytes: 1 };
    boot.events(&site, &planned.id, &[(1, verified)]).unwrap();
    assert!(plan(&site, &machine, &boot).unwrap_err().contains("has ended"), "they are handed out once");

    for (request, expected) in [
        (job(MachineSelector::Any, windows(settings)), "are not given to any machine"),
        (job(MachineSelector::Mac(machine.mac()), windows("colour = 1\n")), "unknown field"),
        (job(MachineSelector::Mac(machine.mac()), windows("computer-name = \"x\"\n")), "name template"),
        (
            job(
                MachineSelector::Mac(machine.mac()),
                WindowsRequest { layers: vec!["school".into()], ..WindowsRequest::default() },
            ),
            "ROOM",
        ),
        (
            job(
                MachineSelector::Mac(machine.mac()),
                WindowsRequest { layers: vec!["../keys".into()], ..WindowsRequest::default() },
            ),
            "no layer.toml",
        ),
    ] {
        let expires = Some(Timestamp::now().plus_seconds(3600));
        let request = JobRequest { expires, max_machines: Some(2), ..request };
        let error = operator.create_job(&request).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn two_machines_never_have_one_name() {
    let site = site();
    let plans: Vec<Result<Plan, String>> = [1u8, 2]
        .into_iter()
        .map(|number| {
            let machine = Machine { number };
            let request = JobRequest {
                name: "lab".into(),
                ..job(MachineSelector::Mac(machine.mac()), WindowsRequest::default())
            };
            site.operator().create_job(&request).unwrap();
            let boot = Boot::new(&site.ca_pem());
            boot.hello(&site, &machine, site.boot_token(&machine)).unwrap();
            plan(&site, &machine, &boot)
        })
        .collect();
    assert_eq!(plans[0].as_ref().unwrap().personality.host_name, "lab");
    let refused = plans[1].as_ref().unwrap_err();
    assert!(refused.contains("name lab is that of machine"), "{refused}");
}
