//! A repository in a temporary directory: packages in, matches and packages out, and what is refused.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gravure_inf::{Arch, Target};
use gravure_model::inventory::Device;
use gravure_testkit::signing::Authority;
use gravure_windows::drivers::{
    AddOptions, PackModel, Repository, Unsigned, VendorCatalogue, fitting_packages, matches,
};
use gravure_windows::{Error, Roots};

fn inf(class: &str, version: &str, id: &str, extra: &str) -> String {
    format!(
        "[Version]\nSignature=\"$Windows NT$\"\nClassGuid={class}\nProvider=P\nCatalogFile=A.cat\nDriverVer=01/02/2024,{version}\n{extra}\
         [SourceDisksNames]\n1=d,,,\n[SourceDisksFiles]\nDrv.sys=1,Sub\n[DestinationDirs]\nDefaultDestDir=12\n[Manufacturer]\nm=M,NTamd64\n\
         [M.NTamd64]\ndev=I,{id}\n[I]\nCopyFiles=@drv.SYS\n[I.Services]\nAddService=s,2,S\n[S]\nStartType=0\nServiceBinary=%12%\\drv.sys\n"
    )
}

const NET: &str = "{4d36e972-e325-11ce-bfc1-08002be10318}";
const EXTENSION: &str = "{e2f84ce7-8efa-411c-aa69-97454ca4cb57}";

const DRIVER: &[u8] = b"MZ driver";

/// A package directory, signed.
fn package(dir: &Path, name: &str, text: &str) -> PathBuf {
    let dir = dir.join(name);
    fs::create_dir_all(dir.join("SUB")).unwrap();
    fs::write(dir.join("SUB/drv.sys"), DRIVER).unwrap();
    let signer = Authority::new("Test Root").signer("Test Signer");
    fs::write(dir.join("a.CAT"), signer.catalog(&[DRIVER, text.as_bytes()])).unwrap();
    let path = dir.join(format!("{name}.inf"));
    fs::write(&path, text).unwrap();
    path
}

fn device(ids: &[&str]) -> Device {
    Device { hardware_ids: ids.iter().map(|id| (*id).to_owned()).collect(), ..Device::default() }
}

fn target() -> Target {
    Target::client(Arch::Amd64, "10.0.22631".parse().unwrap())
}

#[test]
fn packages_go_in_once_are_matched_and_come_out_as_they_were() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    let mut repository = Repository::create(&root).unwrap();
    let old = package(temp.path(), "old", &inf(NET, "1.0.0.0", "PCI\\VEN_1&DEV_2", ""));
    let new = package(temp.path(), "new", &inf(NET, "2.0.0.0", "PCI\\VEN_1&DEV_2", ""));
    let exact = package(temp.path(), "exact", &inf(NET, "0.1.0.0", "PCI\\VEN_1&DEV_2&SUBSYS_3", ""));
    let extra = "ExtensionId={00000000-0000-0000-0000-000000000001}\n";
    let extension = package(temp.path(), "extension", &inf(EXTENSION, "9.0.0.0", "pci\\ven_1&dev_2", extra));
    for path in [&old, &new, &exact, &extension] {
        let added = repository.add(path, AddOptions::default()).unwrap();
        assert!(added.is_new && added.manifest.has_catalog && added.manifest.boot_critical);
        let signature = added.manifest.signature.unwrap();
        assert_eq!((signature.signer.as_str(), signature.root.as_str()), ("Test Signer", "Test Root"));
        assert_eq!(added.manifest.architectures, ["amd64"]);
    }
    let again = repository.add(&old, AddOptions::default()).unwrap();
    assert!(!again.is_new);
    let paths: Vec<&str> = again.manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["SUB/drv.sys", "a.CAT", "old.inf"]);
    repository.commit().unwrap();
    // Four INF files, one driver, four catalogues.
    let objects: usize = fs::read_dir(root.join("objects"))
        .unwrap()
        .map(|d| fs::read_dir(d.unwrap().path()).unwrap().count())
        .sum();
    assert_eq!(objects, 9);

    let devices = [device(&["PCI\\VEN_1&DEV_2&SUBSYS_3", "PCI\\VEN_1&DEV_2"]), device(&["PCI\\VEN_9"])];
    // The index as written, and made anew when it is damaged or gone.
    for damage in [None, Some(&b"GVDRVIX1"[..]), Some(b"")] {
        if let Some(bytes) = damage {
            fs::write(root.join("index.sqlite"), bytes).unwrap();
        }
        let repository = Repository::open(&root).unwrap();
        let found = repository.matches(&devices, &target()).unwrap();
        let names: Vec<(String, &str)> =
            found[0].candidates.iter().map(|c| (c.rank.to_string(), c.inf.as_str())).collect();
        let expected = [
            ("00ff0000", "exact.inf"),
            ("00ff0001", "extension.inf"),
            ("00ff0001", "new.inf"),
            ("00ff0001", "old.inf"),
        ];
        assert_eq!(names, expected.map(|(rank, name)| (rank.to_owned(), name)));
        assert_eq!(
            found[0].chosen().map(|c| c.inf.as_str()).collect::<Vec<_>>(),
            ["exact.inf", "extension.inf"]
        );
        assert_eq!(found[1].candidates, []);
        let arm = Target { arch: Arch::Arm64, ..target() };
        assert_eq!(repository.matches(&devices, &arm).unwrap()[0].candidates, []);
    }

    let repository = Repository::open(&root).unwrap();
    let manifest = repository.find(&again.manifest.id[..10]).unwrap();
    let out = temp.path().join("out");
    repository.export(&manifest, &out).unwrap();
    assert_eq!(fs::read(out.join("SUB/drv.sys")).unwrap(), b"MZ driver");
    assert_eq!(fs::read(out.join("old.inf")).unwrap(), fs::read(&old).unwrap());
    // Nothing is replaced.
    assert!(matches!(repository.export(&manifest, &out), Err(Error::Io { what: "create", .. })));
    assert!(matches!(repository.find("zz"), Err(Error::NotFound { .. })));
}

#[test]
fn a_package_that_is_taken_out_leaves_what_others_have() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    let mut repository = Repository::create(&root).unwrap();
    let one = package(temp.path(), "one", &inf(NET, "1.0.0.0", "PCI\\VEN_1", ""));
    let two = package(temp.path(), "two", &inf(NET, "2.0.0.0", "PCI\\VEN_1", ""));
    let one = repository.add(&one, AddOptions::default()).unwrap().manifest;
    let two = repository.add(&two, AddOptions::default()).unwrap().manifest;
    repository.commit().unwrap();
    repository.remove(&one).unwrap();
    repository.commit().unwrap();
    let repository = Repository::open(&root).unwrap();
    assert_eq!(repository.packages().unwrap(), std::slice::from_ref(&two));
    let found = repository.matches(&[device(&["PCI\\VEN_1"])], &target()).unwrap();
    assert_eq!(found[0].candidates.len(), 1);
    // The driver is in both.
    repository.export(&two, &temp.path().join("out")).unwrap();
    let objects: usize = fs::read_dir(root.join("objects"))
        .unwrap()
        .map(|d| fs::read_dir(d.unwrap().path()).unwrap().count())
        .sum();
    assert_eq!(objects, 3);
}

/// Contents that a new package shares with one that another process takes out before the new one is described.
#[test]
fn what_goes_with_another_package_is_stored_again() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    let mut repository = Repository::create(&root).unwrap();
    let old = package(temp.path(), "old", &inf(NET, "1.0.0.0", "PCI\\VEN_1", ""));
    let old = repository.add(&old, AddOptions::default()).unwrap().manifest;
    repository.commit().unwrap();
    let new = package(temp.path(), "new", &inf(NET, "2.0.0.0", "PCI\\VEN_1", ""));
    let manifest = repository.add(&new, AddOptions::default()).unwrap().manifest;
    let driver = manifest.files.iter().find(|file| file.path == "SUB/drv.sys").unwrap().hash.clone();
    let object = root.join("objects").join(&driver[..2]).join(&driver);
    let mut other = Repository::open(&root).unwrap();
    other.remove(&old).unwrap();
    other.commit().unwrap();
    assert!(!object.exists());
    // What came to stand in its place is not what was checked.
    fs::write(temp.path().join("new/SUB/drv.sys"), b"MZ something else").unwrap();
    let error = repository.commit().unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if path.ends_with("drv.sys")), "{error}");
    fs::write(temp.path().join("new/SUB/drv.sys"), DRIVER).unwrap();
    repository.commit().unwrap();
    assert_eq!(Repository::open(&root).unwrap().packages().unwrap(), std::slice::from_ref(&manifest));
    repository.export(&manifest, &temp.path().join("out")).unwrap();
    assert_eq!(fs::read(temp.path().join("out/SUB/drv.sys")).unwrap(), DRIVER);
}

#[test]
fn what_is_unsigned_incomplete_or_no_driver_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::create(&temp.path().join("repository")).unwrap();
    let path = package(temp.path(), "one", &inf(NET, "1.0", "X", ""));
    fs::remove_file(temp.path().join("one/a.CAT")).unwrap();
    let error = repository.add(&path, AddOptions::default()).unwrap_err().to_string();
    assert!(error.ends_with("no catalogue, so it is not signed: A.cat is not there"), "{error}");
    let unsigned = AddOptions { allow_unsigned: true, ..AddOptions::default() };
    assert!(!repository.add(&path, unsigned).unwrap().manifest.has_catalog);
    fs::remove_file(temp.path().join("one/SUB/drv.sys")).unwrap();
    let error = repository.add(&path, unsigned).unwrap_err().to_string();
    assert!(error.ends_with("files are missing: Sub\\drv.SYS (amd64)"), "{error}");
    let all = AddOptions { allow_unsigned: true, allow_incomplete: true };
    assert_eq!(repository.add(&path, all).unwrap().manifest.architectures, [""; 0]);
    fs::write(&path, "[Version]\nSignature=$Chicago$\n").unwrap();
    assert!(repository.add(&path, all).unwrap_err().to_string().contains("no devices"));
    fs::write(&path, "[autorun]\n").unwrap();
    assert!(matches!(repository.add(&path, all), Err(Error::Inf { .. })));
    // A link out of the package is not followed.
    let path = package(temp.path(), "two", &inf(NET, "1.0", "X", ""));
    fs::remove_file(temp.path().join("two/SUB/drv.sys")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", temp.path().join("two/SUB/drv.sys")).unwrap();
    assert!(matches!(repository.add(&path, AddOptions::default()), Err(Error::Refused { .. })));
    assert!(matches!(Repository::open(temp.path()), Err(Error::NotFound { what: "driver repository", .. })));
}

#[test]
fn what_was_not_signed_or_was_changed_since_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::create(&temp.path().join("repository")).unwrap();
    let path = package(temp.path(), "one", &inf(NET, "1.0", "X", ""));
    let refused = |repository: &mut Repository, message: &str| {
        let error = repository.add(&path, AddOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains(message), "{error}");
        let unsigned = AddOptions { allow_unsigned: true, ..AddOptions::default() };
        assert_eq!(repository.add(&path, unsigned).unwrap().manifest.signature, None);
    };
    let driver = temp.path().join("one/SUB/drv.sys");
    fs::write(&driver, b"MZ drivers").unwrap();
    refused(&mut repository, "SUB/drv.sys is not the file that was signed: no catalogue has its hash");
    fs::write(&driver, DRIVER).unwrap();
    let catalog = temp.path().join("one/a.CAT");
    let good = fs::read(&catalog).unwrap();
    let mut bytes = good.clone();
    // Within the list of hashes.
    let at = bytes.windows(13).position(|part| part == b"240102030405Z").unwrap();
    bytes[at] ^= 1;
    fs::write(&catalog, bytes).unwrap();
    refused(&mut repository, "a.CAT: signature: expected the content that was signed, found another content");
    fs::write(&catalog, b"no catalogue").unwrap();
    refused(&mut repository, "a.CAT: signed message: expected");
    fs::write(&catalog, good).unwrap();
    let mut roots = Roots::default();
    roots.add(Authority::new("Other Root").certificate()).unwrap();
    repository.require_roots(roots);
    refused(&mut repository, "a.CAT: signed by Test Signer, whom no trusted certificate vouches for");
    let mut roots = Roots::default();
    roots.add(Authority::new("Test Root").certificate()).unwrap();
    repository.require_roots(roots);
    assert!(repository.add(&path, AddOptions::default()).unwrap().manifest.signature.is_some());
}

#[test]
fn damage_in_the_repository_is_found() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    let mut repository = Repository::create(&root).unwrap();
    let path = package(temp.path(), "one", &inf(NET, "1.0", "X", ""));
    let manifest = repository.add(&path, AddOptions::default()).unwrap().manifest;
    repository.commit().unwrap();
    let file = manifest.files.iter().find(|file| file.path == "one.inf").unwrap();
    let object = root.join("objects").join(&file.hash[..2]).join(&file.hash);
    let good = fs::read(&object).unwrap();
    fs::write(&object, b"[Version]").unwrap();
    let error = repository.matches(&[device(&["X"])], &target()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(matches!(repository.export(&manifest, &temp.path().join("out")), Err(Error::Corrupt { .. })));
    // Adding it again mends it.
    assert!(!repository.add(&path, AddOptions::default()).unwrap().is_new);
    assert_eq!(fs::read(&object).unwrap(), good);
    let place = root.join("packages").join(format!("{}.json", manifest.id));
    let text = fs::read_to_string(&place).unwrap();
    fs::write(&place, text.replace("one.inf", "../../x")).unwrap();
    assert!(matches!(repository.find(&manifest.id), Err(Error::Corrupt { .. })));
}

/// INF files of the corpus that have devices, by themselves: no files, no catalogues. All of them in full runs.
#[test]
fn the_corpus_is_indexed_and_every_package_is_found_by_its_ids() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::create(temp.path()).unwrap();
    let all = AddOptions { allow_unsigned: true, allow_incomplete: true };
    let mut open = vec![shared.join("corpus/inf/DriverPackSolution+DP_MassStorage")];
    let wanted = if gravure_testkit::full_run() { usize::MAX } else { 40 };
    let mut count = 0;
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if count >= wanted {
                break;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("inf"))
                && repository.add(&path, all).is_ok()
            {
                count += 1;
            }
        }
    }
    repository.commit().unwrap();
    let packages = repository.packages().unwrap();
    assert!(count >= 40 && packages.len() > 20 && packages.len() <= count, "{count} {}", packages.len());
    assert_eq!(Repository::open(temp.path()).unwrap().packages().unwrap(), packages);
}

/// A name in a certificate is whatever its maker wrote there.
#[test]
fn a_signer_by_microsofts_name_alone_is_unverified() {
    let temp = tempfile::tempdir().unwrap();
    let text = inf(NET, "1.0.0.0", "PCI\\VEN_1&DEV_2", "");
    let path = package(temp.path(), "net", &text);
    let authority = Authority::new("Microsoft Windows Third Party Component CA 2014");
    let signer = authority.signer("Microsoft Windows Hardware Compatibility Publisher");
    fs::write(temp.path().join("net/a.CAT"), signer.catalog(&[DRIVER, text.as_bytes()])).unwrap();
    for (name, is_trusted) in [("any", false), ("own", true)] {
        let mut repository = Repository::create(&temp.path().join(name)).unwrap();
        if is_trusted {
            let mut roots = Roots::default();
            roots.add(authority.certificate()).unwrap();
            repository.require_roots(roots);
        }
        let signature = repository.add(&path, AddOptions::default()).unwrap().manifest.signature.unwrap();
        assert_eq!((signature.hardware_program, signature.verified), (false, is_trusted), "{signature:?}");
    }
}

/// Windows ranks what nobody signed behind everything else, unless it is in test mode.
#[test]
fn unsigned_packages_rank_behind_signed_ones() {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::create(&temp.path().join("repository")).unwrap();
    let unsigned = package(temp.path(), "unsigned", &inf(NET, "9.0.0.0", "PCI\\VEN_1&DEV_2&SUBSYS_3", ""));
    fs::write(temp.path().join("unsigned/a.CAT"), b"no catalogue").unwrap();
    let signed = package(temp.path(), "signed", &inf(NET, "1.0.0.0", "PCI\\VEN_1&DEV_2", ""));
    let allow = AddOptions { allow_unsigned: true, ..AddOptions::default() };
    for path in [&unsigned, &signed] {
        repository.add(path, allow).unwrap();
    }
    repository.commit().unwrap();
    let devices = [device(&["PCI\\VEN_1&DEV_2&SUBSYS_3", "PCI\\VEN_1&DEV_2"])];
    let ranks = |how: Unsigned| {
        let found = matches(&repository, &devices, &target(), how).unwrap();
        found[0].candidates.iter().map(|c| format!("{} {}", c.inf, c.rank)).collect::<Vec<_>>()
    };
    assert_eq!(ranks(Unsigned::Refuse), ["signed.inf 00ff0001", "unsigned.inf 80ff0000"]);
    assert_eq!(ranks(Unsigned::Allow), ["unsigned.inf 00ff0000", "signed.inf 00ff0001"]);
}

const LENOVO: &str = "<?xml version=\"1.0\"?><ModelList><Model name=\"T14\"><Types><Type>20w0</Type><Type>20W1</Type></Types>\
    <SCCM os=\"win11\" version=\"24H2\" date=\"2025-01\" crc=\"\">https://x.example/pccbbs/tp_t14_w11.exe</SCCM></Model></ModelList>";

#[test]
fn packages_are_known_by_the_models_whose_pack_they_are_of() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("repository");
    let mut repository = Repository::create(&root).unwrap();
    let path = |name: &str, id: &str| package(temp.path(), name, &inf(NET, "1.0.0.0", id, ""));
    let other = inf(NET, "1.0.0.0", "PCI\\VEN_3&DEV_3", "").replace("NTamd64", "NTarm64");
    let paths = [
        path("dock", "USB\\VID_1&PID_2"),
        path("net", "PCI\\VEN_1&DEV_2"),
        package(temp.path(), "arm", &other),
        path("old", "PCI\\VEN_4&DEV_4"),
    ];
    let ids: Vec<String> =
        paths.iter().map(|path| repository.add(path, AddOptions::default()).unwrap().manifest.id).collect();
    repository.commit().unwrap();
    let of = |indexes: &[usize]| -> BTreeSet<String> { indexes.iter().map(|at| ids[*at].clone()).collect() };
    VendorCatalogue::parse(LENOVO.as_bytes(), "catalogv2.xml").unwrap().keep(&root).unwrap();
    let models = repository.models_of_pack("TP_T14_w11.exe").unwrap();
    let named: Vec<String> = models.iter().map(ToString::to_string).collect();
    assert_eq!(named, ["lenovo:20W0", "lenovo:20W1"]);
    assert!(repository.models_of_pack("t14_w11.exe").unwrap().is_empty(), "a part of a name is none");
    for model in &models {
        repository.note_model(model, &of(&[0])).unwrap();
    }
    let t14: PackModel = "Lenovo:20w0".parse().unwrap();
    repository.note_model(&t14, &of(&[1, 2, 3])).unwrap();
    let (mut found, all) = (repository.of_model(&t14).unwrap(), of(&[0, 1, 2, 3]));
    found.sort();
    assert_eq!(found, all.into_iter().collect::<Vec<_>>());
    assert_eq!(repository.of_model(&"lenovo:20W1".parse().unwrap()).unwrap(), [ids[0].clone()]);
    assert_eq!(repository.of_model(&"dell:0B98".parse().unwrap()).unwrap(), [""; 0]);

    // For this processor only; what was taken out is not missed.
    let manifest = repository.find(&ids[3]).unwrap();
    repository.remove(&manifest).unwrap();
    repository.commit().unwrap();
    let there = repository.of_model(&t14).unwrap();
    assert_eq!(there.len(), 3);
    let fitting: BTreeSet<String> =
        fitting_packages(&repository, &there, &target(), Unsigned::Refuse).unwrap().into_iter().collect();
    assert_eq!(fitting, of(&[0, 1]));
    // A list that somebody wrote into.
    let list = root.join("models/lenovo-20W0.json");
    for (text, expected) in [
        ("{\"version\":2,\"model\":\"lenovo:20W0\",\"packages\":[]}", "version 2 of lenovo:20W0"),
        ("{\"version\":1,\"model\":\"dell:20W0\",\"packages\":[]}", "version 1 of dell:20W0"),
        ("{\"version\":1,\"model\":\"lenovo:20W0\",\"packages\":[\"../../x\"]}", "../../x"),
        ("{", "EOF"),
    ] {
        fs::write(&list, text).unwrap();
        let error = repository.of_model(&t14).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { .. }) && error.to_string().contains(expected), "{error}");
    }
}
