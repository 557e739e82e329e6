//! The vendors' own catalogues, read by us and by Python's standard library.

use std::collections::BTreeSet;

use gravure_windows::drivers::{PackQuestion, VendorCatalogue};

/// Prints one line for each key and pack: key, address, SHA-256, MD5.
const FOREIGN: &str = r#"
import json, sys
import xml.etree.ElementTree as tree
def name(element): return element.tag.rsplit("}", 1)[-1]
def below(element, *path):
    found = [element]
    for step in path:
        found = [child for one in found for child in one if name(child) == step]
    return found
def text(element, step):
    found = below(element, step)
    return (found[0].text or "").strip() if found else ""
def row(keys, url, sha256, md5):
    for key in keys:
        if key.strip():
            rows.add("\t".join([key.strip().upper(), url.strip(), sha256.strip().lower(), md5.strip().lower()]))
rows = set()
kind, path = sys.argv[1:3]
data = open(path, "rb").read()
if kind in ("surface", "panasonic"):
    data = json.loads(data.decode("utf-8-sig"))
    if kind == "surface":
        for pack in data:
            ids = pack["SystemId"] if isinstance(pack["SystemId"], list) else [pack["SystemId"]]
            row([key.replace(" ", "_") for key in ids], pack["Url"], "", pack["HashMD5"] or "")
    else:
        for model in data["Models"]:
            for pack in model["DriverPacks"]:
                row([model["Alias"], model["Product"]], pack["URL"], "", pack["Hash"])
else:
    root = tree.fromstring(data.decode("utf-8-sig", "replace").split("?>", 1)[-1].encode())
    if kind == "dell":
        for pack in below(root, "DriverPackage"):
            if pack.get("type") != "win" or not below(pack, "SupportedOperatingSystems", "OperatingSystem"): continue
            keys = [model.get("systemID") for model in below(pack, "SupportedSystems", "Brand", "Model")]
            hashes = {one.get("algorithm"): one.text for one in below(pack, "Cryptography", "Hash")}
            url = "https://" + root.get("baseLocation") + "/" + pack.get("path")
            row(keys, url, hashes.get("SHA256", ""), hashes.get("MD5", ""))
    elif kind == "hp":
        holders = [root] + below(root, "HPClientDriverPackCatalog")
        paqs = {text(one, "Id"): one for holder in holders for one in below(holder, "SoftPaqList", "SoftPaq")}
        for holder in holders:
            for one in below(holder, "ProductOSDriverPackList", "ProductOSDriverPack"):
                paq = paqs.get(text(one, "SoftPaqId"))
                if paq is not None:
                    row(text(one, "SystemId").split(","), text(paq, "Url"), text(paq, "SHA256"), text(paq, "MD5"))
    else:
        for model in below(root, "Model"):
            keys = [(one.text or "") for one in below(model, "Types", "Type")]
            for pack in below(model, "SCCM"):
                row(keys, pack.text or "", pack.get("crc", ""), pack.get("md5", ""))
print("\n".join(sorted(rows)))
"#;

#[test]
fn every_pack_of_every_key_is_what_another_parser_finds() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    for (vendor, name, least) in [
        ("dell", "dell.xml", 1500),
        ("hp", "hp.xml", 1800),
        ("lenovo", "lenovo.xml", 6800),
        ("surface", "microsoft.json", 80),
        ("panasonic", "panasonic.json", 40),
    ] {
        let path = shared.join("corpus/catalogs").join(name);
        let Some(mut python) = gravure_testkit::oracle("python3") else { return };
        let output = python.args(["-c", FOREIGN, vendor]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let theirs: BTreeSet<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        let catalogue = VendorCatalogue::parse(&std::fs::read(&path).unwrap(), name).unwrap();
        assert_eq!(catalogue.vendor.as_str(), vendor);
        let mut ours = BTreeSet::new();
        for pack in &catalogue.packs {
            for key in &pack.systems {
                ours.insert([key, &pack.url, &pack.sha256, &pack.md5].map(String::as_str).join("\t"));
            }
        }
        let differing: Vec<&String> = ours.symmetric_difference(&theirs).take(5).collect();
        assert!(differing.is_empty(), "{name}: {} ours, {} theirs: {differing:#?}", ours.len(), theirs.len());
        assert!(ours.len() >= least, "{name}: {}", ours.len());
        // Whoever asks by a key gets exactly the packs of that key.
        for key in ours.iter().step_by(97).filter_map(|line| line.split('\t').next()) {
            let found = catalogue.find(&key.to_lowercase(), &PackQuestion::default());
            let addresses: BTreeSet<&str> = found.iter().map(|pack| pack.url.as_str()).collect();
            let wanted: BTreeSet<&str> = theirs
                .iter()
                .filter_map(|line| line.split_once('\t').filter(|(known, _)| *known == key))
                .filter_map(|(_, rest)| rest.split('\t').next())
                .collect();
            assert_eq!(addresses, wanted, "{name}: {key}");
        }
    }
}
