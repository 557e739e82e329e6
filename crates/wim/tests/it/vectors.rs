//! Every file of the shared WIM vectors: outcome, header, tree, contents, as their index states.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::support;

use std::collections::BTreeMap;

use gravure_nttypes::{FileTime, NtName};
use gravure_testkit::shared_dir;
use gravure_tree::{Sha1Hash, SourceId, Times, UnixData};
use gravure_wim::{Compression, FileIssue, ImageIndex, Layout, Limits, Scope, Warning, Wim, check_split_set};
use serde_json::Value;
use sha1::{Digest, Sha1};
use support::{Content, Dump, Item, MAX_CONTENT, hex, open, read_image_of, unhex};

fn index() -> Option<(String, Value)> {
    let dir = format!("{}/vectors/wim", shared_dir()?.to_str().unwrap());
    let index = std::fs::read(format!("{dir}/index.json")).unwrap();
    Some((dir, serde_json::from_slice(&index).unwrap()))
}

fn cases<'a>(index: &'a Value, expect: &'a str) -> impl Iterator<Item = &'a Value> {
    index["cases"].as_array().unwrap().iter().filter(move |case| case["expect"] == expect)
}

fn load(dir: &str, case: &Value) -> (String, Vec<u8>) {
    let name = case["file"].as_str().unwrap().to_owned();
    let bytes = std::fs::read(format!("{dir}/{name}")).unwrap();
    (name, bytes)
}

fn sha1_of(bytes: &[u8]) -> Sha1Hash {
    Sha1Hash(Sha1::digest(bytes).into())
}

fn hex_number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

/// The hash of an empty stream is listed as zeros.
fn check_content(found: &Content, expected: &Value, what: &str) {
    let Content::Bytes(bytes) = found else { panic!("{what}: missing") };
    assert_eq!(bytes.len() as u64, expected["size"].as_u64().unwrap(), "{what}: size");
    let hash = if bytes.is_empty() { Sha1Hash::ZERO } else { sha1_of(bytes) };
    assert_eq!(hash.to_string(), expected["sha1"].as_str().unwrap(), "{what}: content");
}

fn check_optional(found: Option<&Content>, expected: &Value, what: &str) {
    match found {
        None => assert!(expected.is_null(), "{what}: absent"),
        Some(content) => check_content(content, expected, what),
    }
}

fn path_of(entry: &Value) -> Vec<NtName> {
    let units = match entry["path_utf16le_hex"].as_str() {
        Some(hex) => NtName::from_le_bytes(&unhex(hex)).unwrap(),
        None => NtName::from(entry["path"].as_str().unwrap()),
    };
    let names = units.units().split(|unit| *unit == u16::from(b'/'));
    names.filter(|name| !name.is_empty()).map(NtName::from_units).collect()
}

/// Extended attributes as the item 0x2 stores them.
fn attributes_hex(item: &Item) -> String {
    let mut out = String::new();
    for attribute in &item.extended_attributes {
        let [low, high] = u16::try_from(attribute.value.len()).unwrap().to_le_bytes();
        let head = [low, high, attribute.name.len() as u8, attribute.flags];
        for byte in head.iter().chain(&attribute.name).chain(&[0]).chain(&attribute.value) {
            out += &format!("{byte:02x}");
        }
    }
    out
}

fn check_item(item: &Item, expected: &Value, what: &str) {
    assert_eq!(item.is_directory, expected["type"] == "dir", "{what}: type");
    assert_eq!(u64::from(item.attributes), hex_number(&expected["attributes"]), "{what}: attributes");
    let time = |at: usize| FileTime(expected["times"][at].as_u64().unwrap());
    let times = Times { created: time(0), accessed: time(1), written: time(2) };
    assert_eq!(item.times, times, "{what}: times");
    let short_name = expected["short_name"].as_str().map(NtName::from);
    assert_eq!(item.short_name, short_name, "{what}: short name");
    check_optional(item.data.as_ref(), &expected["data"], &format!("{what}: data"));
    check_optional(item.efs.as_ref(), &expected["efs_raw"], &format!("{what}: EFS data"));
    match &item.reparse {
        None => assert!(expected["reparse"].is_null(), "{what}: reparse"),
        Some((tag, _, flags, content)) => {
            let expected = &expected["reparse"];
            assert_eq!(u64::from(*tag), hex_number(&expected["tag"]), "{what}: reparse tag");
            assert_eq!(u64::from(*flags), expected["flags"].as_u64().unwrap(), "{what}: link flags");
            check_content(content, expected, &format!("{what}: reparse data"));
        }
    }
    let streams = expected["named_streams"].as_object().cloned().unwrap_or_default();
    assert_eq!(item.named_streams.len(), streams.len(), "{what}: named streams");
    for (name, content) in &item.named_streams {
        let name = name.to_string();
        check_content(content, &streams[&name], &format!("{what}:{name}"));
    }
    match &item.security {
        None => assert!(expected["security_descriptor"].is_null(), "{what}: descriptor"),
        Some(descriptor) => {
            let expected = &expected["security_descriptor"];
            assert_eq!(descriptor.len() as u64, expected["size"].as_u64().unwrap(), "{what}: descriptor");
            assert_eq!(sha1_of(descriptor).to_string(), expected["sha1"].as_str().unwrap(), "{what}");
        }
    }
    let unix = expected["unix"].as_object().map(|unix| {
        let number = |name: &str| u32::try_from(unix[name].as_u64().unwrap()).unwrap();
        let mode = unix["mode"].as_str().unwrap().strip_prefix("0o").unwrap();
        let mode = u32::from_str_radix(mode, 8).unwrap();
        UnixData { uid: number("uid"), gid: number("gid"), mode, rdev: number("rdev") }
    });
    assert_eq!(item.unix, unix, "{what}: Unix data");
    let mut tags: Vec<(u64, String)> =
        item.unknown_items.iter().map(|item| (u64::from(item.tag), hex(&item.data))).collect();
    tags.extend(item.object_id.iter().map(|id| (1, hex(id))));
    if !item.extended_attributes.is_empty() {
        tags.push((2, attributes_hex(item)));
    }
    let expected_tags = expected["tagged_items"].as_array().cloned().unwrap_or_default();
    let mut expected_tags: Vec<(u64, String)> = expected_tags
        .iter()
        .map(|item| (hex_number(&item["tag"]), item["hex"].as_str().unwrap().to_owned()))
        .collect();
    tags.sort();
    expected_tags.sort();
    assert_eq!(tags, expected_tags, "{what}: tagged items");
}

/// Compares a whole tree, hard-link groups included.
fn check_tree(found: &Dump, expected: &Value, what: &str) {
    let expected: BTreeMap<Vec<NtName>, &Value> =
        expected.as_array().unwrap().iter().map(|entry| (path_of(entry), entry)).collect();
    let paths = |keys: Vec<&Vec<NtName>>| format!("{keys:?}");
    assert_eq!(paths(found.keys().collect()), paths(expected.keys().collect()), "{what}: paths");
    let mut groups: BTreeMap<u64, Vec<NtName>> = BTreeMap::new();
    for (path, item) in found {
        let entry = expected[path];
        let what = format!("{what}{path:?}");
        check_item(item, entry, &what);
        let group = entry["hard_link_group"].as_u64();
        assert_eq!(item.link_of.is_some(), group.is_some(), "{what}: hard links");
        if let (Some(first), Some(group)) = (&item.link_of, group) {
            assert_eq!(groups.entry(group).or_insert(first.clone()), first, "{what}: hard-link group");
        }
    }
}

fn check_header(wim: &Wim, case: &Value, what: &str) {
    let header = wim.header();
    assert_eq!(u64::from(header.version()), hex_number(&case["version"]), "{what}: version");
    assert_eq!(u64::from(header.flags.0), hex_number(&case["flags"]), "{what}: flags");
    let method = header.compression.map_or("none".to_owned(), |c| c.method().to_string().to_lowercase());
    assert_eq!(method, case["method"].as_str().unwrap(), "{what}: method");
    let chunk_size = header.compression.map_or(0, Compression::chunk_size);
    assert_eq!(u64::from(chunk_size), case["chunk_size"].as_u64().unwrap(), "{what}: chunk size");
    assert_eq!(u64::from(header.boot_number), case["boot_index"].as_u64().unwrap(), "{what}: boot index");
    let pipable = header.layout == Layout::Pipable;
    assert_eq!(pipable, case["pipable"].as_bool().unwrap(), "{what}: pipable");
    let solid: Vec<(u64, u64, u64)> = wim
        .resources()
        .iter()
        .filter_map(|resource| resource.solid)
        .map(|solid| (u64::from(solid.method), u64::from(solid.chunk_size), solid.size))
        .collect();
    let expected_solid: Vec<(u64, u64, u64)> = case["solid_resources"]
        .as_array()
        .map(|list| list.as_slice())
        .unwrap_or_default()
        .iter()
        .map(|one| {
            let method = ["none", "xpress", "lzx", "lzms"].iter().position(|name| one["method"] == *name);
            let number = |name: &str| one[name].as_u64().unwrap();
            (method.unwrap() as u64, number("chunk_size"), number("uncompressed_size"))
        })
        .collect();
    assert_eq!(solid, expected_solid, "{what}: solid resources");
}

#[test]
fn good_files_give_exactly_the_listed_trees() {
    let Some((dir, index)) = index() else { return };
    let mut compared = 0;
    for case in cases(&index, "ok") {
        let (what, bytes) = load(&dir, case);
        let (wim, _) = open(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        check_header(&wim, case, &what);
        match wim.read_integrity(&bytes).unwrap() {
            None => assert!(case["integrity"].is_null(), "{what}: integrity table"),
            Some(table) => {
                assert_eq!(case["integrity"], true, "{what}: integrity table");
                assert_eq!(table.verify(&bytes).unwrap(), [], "{what}: integrity");
            }
        }
        let names = |field: &str| case[field].as_array().cloned().unwrap_or_default();
        let further: Vec<Vec<u8>> = names("further_parts")
            .iter()
            .chain(&names("references"))
            .map(|name| std::fs::read(format!("{dir}/{}", name.as_str().unwrap())).unwrap())
            .collect();
        let further_wims: Vec<Wim> = further.iter().map(|bytes| open(bytes).unwrap().0).collect();
        let files: Vec<(&Vec<u8>, &Wim)> =
            [(&bytes, &wim)].into_iter().chain(further.iter().zip(&further_wims)).collect();
        if !names("further_parts").is_empty() {
            let parts: Vec<&Wim> = files.iter().map(|(_, wim)| *wim).collect();
            check_split_set(&parts).unwrap();
        }
        assert_eq!(u64::from(wim.image_count()), names("images").len() as u64, "{what}: images");
        for (number, tree) in (1..).zip(&names("images")) {
            match read_image_of(&files, number) {
                Ok((found, _)) => {
                    check_tree(&found, &index["trees"][tree.as_str().unwrap()], &format!("{what}:{number}"));
                    compared += 1;
                }
                Err(error) => panic!("{what}:{number}: {error}"),
            }
        }
    }
    let images: usize = cases(&index, "ok").map(|case| case["images"].as_array().unwrap().len()).sum();
    assert_eq!(compared, images);
    assert!(compared >= 28, "{compared} trees compared");
}

#[test]
fn bad_files_are_refused_as_a_whole() {
    let Some((dir, index)) = index() else { return };
    let mut messages = BTreeMap::new();
    for case in cases(&index, "reject_file") {
        let (name, bytes) = load(&dir, case);
        let error = open(&bytes).expect_err(&name);
        assert_eq!(error.scope(), Scope::File, "{name}");
        messages.insert(name, error.to_string());
    }
    let part = |name: &str, text: &str| assert!(messages[name].contains(text), "{name}: {}", messages[name]);
    part("bad-headersize.wim", "WIM header size at 0x8: expected 208, found 209");
    part("bad-version.wim", "WIM version not supported: 0x10900");
    part("bad-part.wim", "part number at 0x28");
    part("bad-chunksize.wim", "chunk size at 0x14");
    part("bad-method.wim", "compression flags at 0x10");
    part("bad-lookup-offset.wim", "blob table at");
    part("bad-lookup-size.wim", "blob table at");
    part("bad-metadata-refcount.wim", "reference count of a metadata resource");
    part("bad-solid-offset.wim", "place in the solid run");
    assert_eq!(messages.len(), 9);
}

#[test]
fn bad_images_are_refused_and_the_file_opens() {
    let Some((dir, index)) = index() else { return };
    let mut messages = BTreeMap::new();
    for case in cases(&index, "reject_image") {
        let (name, bytes) = load(&dir, case);
        let (wim, _) = open(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let image = ImageIndex::from_number(1).unwrap();
        let error = wim.read_image(&bytes, image, SourceId(0), &Limits::default()).expect_err(&name);
        assert_eq!(error.scope(), Scope::Image, "{name}: {error}");
        messages.insert(name, error.to_string());
    }
    let part = |name: &str, text: &str| assert!(messages[name].contains(text), "{name}: {}", messages[name]);
    part("bad-cycle.wim", "metadata: children list");
    part("bad-children-offset.wim", "metadata: offset of a children list");
    part("bad-dentry-length.wim", "metadata: dentry length");
    part("bad-name-length.wim", "metadata: name length");
    part("bad-security-count.wim", "metadata: security descriptor count");
    part("bad-stream-count.wim", "metadata: stream entry length");
    part("bad-root.wim", "metadata: root dentry");
    assert_eq!(messages.len(), 8);
}

#[test]
fn one_bad_blob_leaves_the_others_readable() {
    let Some((dir, index)) = index() else { return };
    let mut count = 0;
    for case in cases(&index, "reject_blob") {
        let (name, bytes) = load(&dir, case);
        let (wim, _) = open(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        for image in wim.images() {
            let listed = wim.read_image(&bytes, image, SourceId(0), &Limits::default());
            listed.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let mut bad = Vec::new();
        for (id, _) in wim.blobs() {
            if let Err(error) = wim.read_blob(&bytes, id, u64::MAX, &Limits::default()) {
                assert_eq!(error.scope(), Scope::Blob, "{name}: {error}");
                bad.push(error.to_string());
            }
        }
        assert_eq!(bad.len(), 1, "{name}: {bad:?}");
        count += 1;
    }
    assert_eq!(count, 7);
}

#[test]
fn an_integrity_mismatch_is_told_and_contents_are_readable() {
    let Some((dir, index)) = index() else { return };
    let mut count = 0;
    for case in cases(&index, "integrity_mismatch") {
        let (name, bytes) = load(&dir, case);
        let (wim, _) = open(&bytes).unwrap();
        let table = wim.read_integrity(&bytes).unwrap().unwrap();
        assert_ne!(table.verify(&bytes).unwrap(), [], "{name}");
        for (id, _) in wim.blobs() {
            wim.read_blob(&bytes, id, MAX_CONTENT, &Limits::default()).unwrap();
        }
        count += 1;
    }
    assert_eq!(count, 1);
}

#[test]
fn odd_files_are_read_with_the_right_warning() {
    use gravure_wim::BlobEntryIssue as Issue;
    let Some((dir, _)) = index() else { return };
    let warnings = |name: &str| open(&std::fs::read(format!("{dir}/{name}")).unwrap()).unwrap().1;
    assert_eq!(
        warnings("odd-imagecount.wim"),
        [Warning::ImageCount { header: 3, metadata: 1, xml: 1, used: 1 }]
    );
    assert_eq!(warnings("odd-write-in-progress.wim"), [Warning::WriteInProgress]);
    assert_eq!(warnings("odd-deleted-image.wim"), []);
    let entry = |name: &str| match warnings(name).as_slice() {
        [Warning::BlobEntry { reason, .. }] => *reason,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(entry("odd-zero-hash.wim"), Issue::ZeroHash);
    assert!(matches!(entry("odd-duplicate-blob.wim"), Issue::Duplicate(_)));

    let bytes = std::fs::read(format!("{dir}/odd-names.wim")).unwrap();
    let (_, warnings) = support::read_image(&bytes, 1).unwrap();
    let issues = |wanted: FileIssue| {
        let is = |warning: &&Warning| matches!(warning, Warning::File { issue, .. } if *issue == wanted);
        warnings.iter().filter(is).count()
    };
    assert_eq!((issues(FileIssue::BadName), issues(FileIssue::DuplicateName)), (5, 1), "{warnings:?}");
}

#[test]
fn a_delta_file_alone_names_what_is_missing() {
    let Some((dir, _)) = index() else { return };
    let bytes = std::fs::read(format!("{dir}/delta.wim")).unwrap();
    let (found, warnings) = support::read_image(&bytes, 1).unwrap();
    let missing = found.values().filter(|item| matches!(item.data, Some(Content::Missing(_)))).count();
    assert_eq!(missing, warnings.len());
    assert!(missing > 10, "{missing}");
    let first = warnings.first().unwrap().to_string();
    assert!(first.ends_with("is in none of the opened files") && first.starts_with('/'), "{first}");
}

#[test]
fn a_split_set_needs_every_part_once() {
    let Some((dir, _)) = index() else { return };
    let files: Vec<Vec<u8>> = ["split.swm", "split2.swm", "split3.swm", "split4.swm"]
        .map(|name| std::fs::read(format!("{dir}/{name}")).unwrap())
        .into();
    let parts: Vec<Wim> = files.iter().map(|bytes| open(bytes).unwrap().0).collect();
    let check = |wanted: &[usize]| {
        let wanted: Vec<&Wim> = wanted.iter().map(|at| &parts[*at]).collect();
        check_split_set(&wanted).map_err(|error| error.to_string())
    };
    assert_eq!(check(&[2, 0, 3, 1]), Ok(()));
    let gap = check(&[0, 1, 3]).unwrap_err();
    assert_eq!(gap, "parts of a split set at 0x0: expected 1 to 4, each once, found [1, 2, 4]");
    assert!(check(&[0, 1, 2, 2, 3]).is_err());
    assert!(check(&[]).is_err());
    assert_eq!(parts[1].image_count(), 0);
    assert!(parts[1].blobs().len() > 0);
}
