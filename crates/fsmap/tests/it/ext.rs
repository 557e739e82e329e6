//! ext2/3/4 against e2fsprogs and partclone.
#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests start programs and write files")]

use crate::support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gravure_fsmap::{Basis, Error, Fallback, Kind, Options, Owner, Reason, State, map, owners, probe};
use gravure_io::ReadAt;
use gravure_testkit::{MountedFile, Random, full_run, seed};
use support::{
    Files, Lab, allocated, assert_same_files, check_extents, covers, every_third, files, have, map_of, open,
    output, partclone, read_tree, run, sampled, tool, transplant,
};

const TOOLS: &[&str] = &["mke2fs", "debugfs", "e2fsck", "dumpe2fs"];

/// Commands for debugfs, which says nothing with its exit code.
fn debugfs(image: &Path, commands: &[String]) {
    let script = image.with_extension("debugfs");
    fs::write(&script, commands.join("\n")).unwrap();
    let text = run(tool("debugfs").arg("-w").arg("-f").arg(&script).arg(image));
    let complaints: Vec<&str> = text
        .lines()
        .filter(|line| {
            !line.starts_with("debugfs")
                && !line.is_empty()
                && !line.starts_with("Journal st")
                && !line.starts_with("Setting csum")
        })
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// A populated, aged file system, and what is on it.
fn aged(lab: &Lab, args: &[&str], size_mib: u64) -> (PathBuf, Files) {
    let mut content = files(7, 60, 150_000);
    let tree = lab.tree("tree", &content);
    let image = lab.blank("image", size_mib << 20);
    run(tool("mke2fs").args(["-q", "-F", "-d"]).arg(&tree).args(args).arg(&image));
    let gone = every_third(&mut content);
    debugfs(&image, &gone.iter().map(|path| format!("rm /{path}")).collect::<Vec<_>>());
    if args.iter().any(|arg| arg.contains("quota")) {
        // debugfs does not count what it removes.
        output(tool("e2fsck").arg("-fy").arg(&image));
    }
    (image, content)
}

fn dump(lab: &Lab, image: &Path) -> Files {
    let out = lab.path("dump");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir(&out).unwrap();
    output(tool("debugfs").arg("-R").arg(format!("rdump / {}", out.display())).arg(image));
    let _ = fs::remove_dir_all(out.join("lost+found"));
    read_tree(&out)
}

const FEATURES: &[(&[&str], u64)] = &[
    (&["-t", "ext2", "-b", "1024"], 20),
    (&["-t", "ext2", "-b", "4096", "-O", "^sparse_super,^resize_inode"], 20),
    (&["-t", "ext3", "-b", "1024", "-J", "size=2"], 20),
    (&["-t", "ext4", "-b", "4096"], 24),
    (&["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"], 40),
    (&["-t", "ext4", "-b", "1024", "-O", "^flex_bg,^64bit", "-g", "4096"], 40),
    (&["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "1024"], 40),
    (
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-O",
            "meta_bg,^resize_inode,^64bit,^metadata_csum,^uninit_bg",
            "-g",
            "512",
        ],
        40,
    ),
    (&["-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "16384"], 40),
    (&["-t", "ext4", "-b", "1024", "-O", "bigalloc,^metadata_csum", "-C", "8192"], 60),
    (&["-t", "ext4", "-b", "1024", "-O", "sparse_super2,inline_data"], 40),
    (&["-t", "ext4", "-b", "65536", "-J", "size=64"], 160),
    (
        &[
            "-t",
            "ext4",
            "-O",
            "mmp,quota,project,encrypt,casefold,ea_inode,metadata_csum_seed,verity,stable_inodes",
        ],
        40,
    ),
    (&["-t", "ext4", "-O", "orphan_file,fast_commit", "-E", "packed_meta_blocks=1"], 40),
    (&["-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1,num_backup_sb=1", "-b", "2048"], 40),
];

#[test]
fn used_blocks_alone_are_the_file_system_and_partclone_counts_the_same() {
    if !have(TOOLS) {
        return;
    }
    for (nth, (args, size_mib)) in FEATURES.iter().enumerate() {
        if !sampled(nth, 5) {
            continue;
        }
        let lab = Lab::new();
        let (image, content) = aged(&lab, args, *size_mib);
        let map = map_of(&image);
        assert_eq!((map.basis, map.probe.state), (Basis::Allocation, State::Clean), "{args:?}");
        let target = transplant(&lab, &image, &map);
        run(tool("e2fsck").arg("-fn").arg(&target));
        let original = dump(&lab, &image);
        assert_same_files(&dump(&lab, &target), &original);
        assert!(original.keys().eq(content.keys()));
        // Inline contents are in their inodes.
        let elsewhere = check_extents(&image, &map, &content);
        let is_inline = args.iter().any(|arg| arg.contains("inline_data"));
        assert!(
            if is_inline { (1..3000).contains(&elsewhere) } else { elsewhere == 0 },
            "{args:?}: {elsewhere}"
        );
        let text = run(tool("dumpe2fs").arg("-h").arg(&image));
        let free: u64 =
            text.lines().find_map(|line| line.strip_prefix("Free blocks:")).unwrap().trim().parse().unwrap();
        // What is less than 1 MiB behind the file system counts as used.
        let free = free * u64::from(map.unit);
        assert_eq!(map.probe.size - map.allocated + (map.size - map.probe.size), free, "{args:?}");
        // Partclone reads no clusters ("bitmap free count err"), and counts whole multiples of two seconds.
        if !args.contains(&"-C")
            && sampled(nth, 15)
            && let Some(expected) = partclone(&lab, "partclone.extfs", &image)
        {
            assert_eq!(allocated(&map), expected, "{args:?}");
        }
    }
}

#[test]
fn kinds_labels_and_facts_are_those_of_dumpe2fs() {
    if !have(TOOLS) {
        return;
    }
    for (kind, args) in [
        (Kind::Ext2, &["-t", "ext2"][..]),
        (Kind::Ext3, &["-t", "ext3"]),
        (Kind::Ext4, &["-t", "ext4", "-O", "bigalloc"]),
    ] {
        let lab = Lab::new();
        let image = lab.blank("image", 40 << 20);
        run(tool("mke2fs").args(["-q", "-F", "-L", "Wurzel"]).args(args).arg(&image));
        let probe = probe(&open(&image)).unwrap();
        let text = run(tool("dumpe2fs").arg("-h").arg(&image));
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_once(':').unwrap().1.trim().to_owned()
        };
        assert_eq!((probe.kind, probe.label.as_deref()), (kind, Some("Wurzel")));
        assert_eq!(probe.uuid.as_deref(), Some(field("Filesystem UUID").as_str()));
        assert_eq!(probe.block_size.unwrap().to_string(), field("Block size"));
        assert_eq!(probe.fact("blocks").unwrap(), field("Block count"));
        assert_eq!(probe.fact("inodes").unwrap(), field("Inode count"));
        let mut features: Vec<&str> = probe.fact("features").unwrap().split(' ').collect();
        let theirs = field("Filesystem features");
        let mut theirs: Vec<&str> = theirs.split_whitespace().collect();
        features.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(features, theirs);
    }
}

/// A journal with several transactions: overwritten twice, revoked, written again, and a block that starts with the journal's own
/// number, which is stored in another form.
fn journaled(lab: &Lab, args: &[&str], journal: &str) -> (PathBuf, Files) {
    let (image, content) = aged(lab, args, 40);
    let block_len = usize::try_from(probe(&open(&image)).unwrap().block_size.unwrap()).unwrap();
    let path = content.iter().max_by_key(|(_, content)| content.len()).unwrap().0;
    let block = |n: u64| {
        let text = run(tool("debugfs").arg("-R").arg(format!("bmap /{path} {n}")).arg(&image));
        text.lines().next().unwrap().trim().to_owned()
    };
    let mut random = Random::new(5);
    let new = |name: &str, magic: bool, blocks: usize, random: &mut Random| {
        let mut bytes = vec![0; block_len * blocks];
        random.fill(&mut bytes);
        if magic {
            bytes[..4].copy_from_slice(&0xc03b_3998_u32.to_be_bytes());
        }
        let path = lab.path(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let first = new("first", false, 3, &mut random);
    let second = new("second", true, 1, &mut random);
    let third = new("third", true, 1, &mut random);
    let (a, b, c) = (block(0), block(1), block(2));
    debugfs(
        &image,
        &[
            format!("journal_open {journal}"),
            format!("journal_write -b {a},{b},{c} {}", first.display()),
            format!("journal_write -b {b} {}", second.display()),
            format!("journal_write -r {a}"),
            format!("journal_write -b {a} {}", third.display()),
            format!("journal_write -r {c}"),
            "journal_close".to_owned(),
        ],
    );
    (image, content)
}

/// Bytes of the super block that depend on when it was written and how often.
fn without_times(mut bytes: Vec<u8>) -> Vec<u8> {
    for (at, len) in [(0x30, 4), (0x178, 8), (0x274, 2), (0x3fc, 4)] {
        bytes[1024 + at..1024 + at + len].fill(0);
    }
    bytes
}

#[test]
fn the_overlay_is_what_e2fsck_makes_of_the_journal() {
    if !have(TOOLS) {
        return;
    }
    for (nth, (args, journal)) in [
        (&["-t", "ext3", "-b", "1024"][..], ""),
        (&["-t", "ext4", "-b", "1024"], ""),
        (&["-t", "ext4", "-b", "4096"], "-c"),
        (&["-t", "ext4", "-b", "4096"], "-c -v 2"),
        (&["-t", "ext4", "-b", "4096", "-O", "^64bit"], "-c -v 2"),
        (&["-t", "ext4", "-b", "4096", "-O", "^64bit"], "-c -v 3"),
        (&["-t", "ext4", "-b", "2048", "-O", "^metadata_csum"], "-c -v 3"),
        (&["-t", "ext4", "-b", "4096", "-O", "fast_commit"], "-c -v 3"),
    ]
    .into_iter()
    .enumerate()
    {
        if !sampled(nth, 3) {
            continue;
        }
        let lab = Lab::new();
        let (image, _) = journaled(&lab, args, journal);
        let before = fs::read(&image).unwrap();
        assert_eq!(probe(&open(&image)).unwrap().state, State::NeedsReplay);
        if args.contains(&"^metadata_csum") && !journal.is_empty() {
            // debugfs makes wrong checksums of transactions that only revoke; e2fsck finds errors there, and so do we.
            let error = map(&open(&image), &Options::default()).unwrap_err().to_string();
            assert!(error.starts_with("journal, checksum of transaction 3 "), "{error}");
            run(tool("e2fsck").args(["-p", "-E", "journal_only"]).arg(&image));
            let text = run(tool("dumpe2fs").arg("-h").arg(&image));
            assert!(
                text.lines()
                    .any(|line| line.starts_with("Filesystem state:") && line.ends_with("with errors"))
            );
            continue;
        }
        let map = map_of(&image);
        let source = open(&image);
        let got = map.overlaid(&source).read_vec_at(0, before.len()).unwrap();
        assert_eq!(fs::read(&image).unwrap(), before, "the source was written");
        let copy = lab.path("copy");
        fs::copy(&image, &copy).unwrap();
        run(tool("e2fsck").args(["-p", "-E", "journal_only"]).arg(&copy));
        let (got, expected) = (without_times(got), without_times(fs::read(&copy).unwrap()));
        assert_ne!(got, before);
        let differ: Vec<usize> = (0..got.len()).filter(|at| got[*at] != expected[*at]).take(9).collect();
        assert!(differ.is_empty(), "{args:?} {journal}: {differ:x?}");
        let target = transplant(&lab, &image, &map);
        run(tool("e2fsck").arg("-fn").arg(&target));
    }
}

#[test]
fn files_that_were_synced_before_a_crash_are_all_there() {
    if !have(TOOLS) {
        return;
    }
    for args in [&["-t", "ext4"][..], &["-t", "ext4", "-O", "fast_commit"], &["-t", "ext3"]] {
        let lab = Lab::new();
        let image = lab.blank("image", 96 << 20);
        run(tool("mke2fs").args(["-q", "-F"]).args(args).arg(&image));
        let crash = lab.path("crash");
        let content = files(9, 40, 120_000);
        {
            let Some(mounted) = MountedFile::new(&image, "") else { return };
            for (path, content) in &content {
                let path = mounted.root.join(path.replace('/', "-"));
                fs::write(&path, content).unwrap();
                fs::File::open(&path).unwrap().sync_all().unwrap();
            }
            fs::copy(&image, &crash).unwrap();
        }
        let flat: Files =
            content.into_iter().map(|(path, content)| (path.replace('/', "-"), content)).collect();
        match map(&open(&crash), &Options::default()) {
            Ok(map) => {
                assert_eq!(map.probe.state, State::NeedsReplay);
                assert!(map.overlay.is_some(), "{args:?}");
                let target = transplant(&lab, &crash, &map);
                run(tool("e2fsck").arg("-fn").arg(&target));
                assert_same_files(&dump(&lab, &target), &flat);
            }
            // Never a wrong map.
            Err(Error::Refused { reason: Reason::FastCommits, .. }) => {
                assert!(args.contains(&"fast_commit"));
                let everything = Options { fallback: Fallback::Everything, ..Options::default() };
                let map = map(&open(&crash), &everything).unwrap();
                assert_eq!(map.basis, Basis::Refused(Reason::FastCommits));
                assert_eq!(map.kept(), map.size);
            }
            Err(error) => panic!("{args:?}: {error}"),
        }
    }
}

#[test]
fn blocks_are_named_after_their_files() {
    if !have(TOOLS) {
        return;
    }
    for args in [&["-t", "ext4", "-O", "inline_data"][..], &["-t", "ext2", "-b", "1024"]] {
        let lab = Lab::new();
        let (image, content) = aged(&lab, args, 40);
        let dev = open(&image);
        let map = map_of(&image);
        let ranges: Vec<_> =
            map.extents.iter().map(|extent| extent.offset..extent.offset + extent.len).collect();
        let owned = owners(&dev, &ranges, &|| true).unwrap();
        assert_eq!(owned.len(), ranges.len());
        for (owned, extent) in owned.iter().zip(&map.extents) {
            let Owner::File(names) = &owned.owner else { panic!("{owned:?}") };
            let [name] = names.as_slice() else { panic!("{names:?}") };
            let at = usize::try_from(extent.file_offset).unwrap();
            let bytes = dev.read_vec_at(extent.offset, usize::try_from(extent.content).unwrap()).unwrap();
            assert!(content[name.trim_start_matches('/')][at..].starts_with(&bytes), "{name}");
        }
        // The whole device: what is free is what no run covers.
        let all = owners(&dev, &support::whole(map.size), &|| true).unwrap();
        let free = support::join(
            all.iter().filter(|owned| owned.owner == Owner::Free).map(|owned| owned.range.clone()),
        );
        let mut next = 0;
        let mut gaps = Vec::new();
        for range in allocated(&map) {
            if next < range.start {
                gaps.push(next..range.start);
            }
            next = range.end;
        }
        if next < map.size {
            gaps.push(next..map.size);
        }
        assert_eq!(free, gaps, "{args:?}");
        assert!(all.iter().any(|owned| owned.owner == Owner::File(vec!["/dir1".to_owned()])));
        assert!(!all.iter().any(|owned| owned.owner == Owner::Unknown), "{args:?}");
    }
}

#[test]
fn states_in_which_maps_may_be_wrong_are_refused() {
    if !have(TOOLS) {
        return;
    }
    let refused = |args: &[&str], change: &str| {
        let lab = Lab::new();
        let image = lab.blank("image", 20 << 20);
        run(tool("mke2fs").args(["-q", "-F"]).args(args).arg(&image));
        match change {
            // debugfs puts its own number there in the end.
            "mmp" => {
                let text = run(tool("dumpe2fs").arg("-h").arg(&image));
                let line = text.lines().find(|line| line.starts_with("MMP block number")).unwrap();
                let block: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
                let file = fs::File::options().write(true).open(&image).unwrap();
                file.write_all_at(&7u32.to_le_bytes(), block * 1024 + 4).unwrap();
            }
            change => debugfs(&image, &[change.to_owned()]),
        }
        let dev = open(&image);
        let result = match map(&dev, &Options::default()) {
            Err(Error::Refused { reason, .. }) => reason,
            other => panic!("{change}: {other:?}"),
        };
        let everything = Options { fallback: Fallback::Everything, ..Options::default() };
        let map = map(&dev, &everything).unwrap();
        assert_eq!((map.basis, map.kept(), map.runs.len()), (Basis::Refused(result), map.size, 1));
        result
    };
    assert_eq!(refused(&["-t", "ext2"], "ssv state 0"), Reason::NotUnmounted);
    assert_eq!(refused(&["-t", "ext4"], "ssv state 3"), Reason::HasErrors);
    assert_eq!(refused(&["-t", "ext4", "-O", "mmp"], "mmp"), Reason::InUse);
}

/// A hole in the log that a crash cannot leave: the transactions behind it were committed.
#[test]
fn a_journal_with_a_block_gone_in_its_middle_is_damaged() {
    if !have(TOOLS) {
        return;
    }
    let lab = Lab::new();
    let (image, _) = journaled(&lab, &["-t", "ext4", "-b", "1024"], "-c -v 3");
    let text = run(tool("debugfs").args(["-R", "logdump -S"]).arg(&image));
    // `Found expected sequence 3, type 5 (revoke table) at block 8`
    let line = text.lines().find(|line| line.starts_with("Found expected sequence 3")).unwrap();
    let block: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    let text = run(tool("debugfs").arg("-R").arg(format!("bmap <8> {block}")).arg(&image));
    let at = text.lines().next().unwrap().trim().parse::<u64>().unwrap() * 1024;
    let write = |bytes: &[u8], at| {
        fs::File::options().write(true).open(&image).unwrap().write_all_at(bytes, at).unwrap()
    };
    write(&[0; 1024], at);
    let error = map(&open(&image), &Options::default()).unwrap_err().to_string();
    assert!(error.starts_with("journal, transaction 3 at "), "{error}");
}

/// With checksums a byte that is wrong gives an error, or a map that still covers all that is used.
#[test]
fn no_wrong_byte_in_checked_metadata_loses_a_block() {
    if !have(TOOLS) {
        return;
    }
    let lab = Lab::new();
    let (image, _) = aged(&lab, &["-t", "ext4", "-b", "1024", "-g", "2048"], 16);
    let truth = allocated(&map_of(&image));
    let dev = open(&image);
    let everything = owners(&dev, &support::whole(dev.size()), &|| true).unwrap();
    let is_map = |what: &str| what.contains("bitmap") || what.contains("super block");
    let places: Vec<_> = everything
        .iter()
        .filter(|owned| matches!(&owned.owner, Owner::Metadata(what) if is_map(what)))
        .map(|owned| owned.range.clone())
        .collect();
    let mut bytes = fs::read(&image).unwrap();
    let mut random = Random::new(seed());
    let (mut errors, rounds) = (0, if full_run() { 20_000 } else { 400 });
    let options = Options { max_extents: 0, ..Options::default() };
    for round in 0..rounds {
        let range = if round % 3 == 0 { &(1024..4096) } else { random.pick(&places).unwrap() };
        let at = usize::try_from(range.start + random.below(range.end - range.start)).unwrap();
        let old = bytes[at];
        bytes[at] ^= u8::try_from(1 + random.below(255)).unwrap();
        match map(&bytes, &options) {
            Ok(map) => {
                // Not even the signature may be there any more: then everything is used.
                assert!(covers(&allocated(&map), &truth), "byte {at:#x}");
            }
            Err(_) => errors += 1,
        }
        bytes[at] = old;
    }
    assert!(errors > rounds / 8, "{errors} of {rounds}");
}
