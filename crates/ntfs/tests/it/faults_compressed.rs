//! Faults in what only other programs write: streams that ntfs-3g compressed (LZNT1). The checker finds each.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use std::collections::BTreeSet;

use gravure_io::ReadAt;
use gravure_ntfs::{CheckObserver, Finding, Rule, Strictness, check};

use crate::foreign::formatted;
use crate::mounted::mount;
use crate::support::noise;
use crate::support::patch::{Patcher, u16_at, u64_at};

#[derive(Default)]
struct Keep(Vec<(Rule, String)>);

impl CheckObserver for Keep {
    fn finding(&mut self, finding: &Finding) {
        self.0.push((finding.rule, format!("{finding} [{}]", finding.rule.name())));
    }
}

fn found(bytes: &dyn ReadAt) -> Keep {
    let mut keep = Keep::default();
    check(bytes, Strictness::Usual, &mut keep).unwrap();
    keep
}

/// A volume on which everything is compressed; `None` after a loud skip.
pub(crate) fn volume() -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = formatted(&dir, 24 << 20, &["-C"])?;
    let mounted = mount(&path, &dir.path().join("mounted"), "compression")?;
    let prose: Vec<u8> =
        (0..30_000).flat_map(|n: u32| format!("line {n} of a text\n").into_bytes()).collect();
    std::fs::write(mounted.0.join("prose"), &prose).unwrap();
    let mixed = [&prose[..90_001], &noise(200_000, 1), &[0; 150_000], &prose[..5000]].concat();
    std::fs::write(mounted.0.join("mixed"), mixed).unwrap();
    drop(mounted);
    Some(std::fs::read(&path).unwrap())
}

/// Where the headers of the chunks of the first unit are, on the volume.
fn chunks(bytes: &[u8], start: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = start;
    while found.len() < 16 && u16_at(bytes, at) != 0 {
        assert_eq!(u16_at(bytes, at) & 0x7000, 0x3000, "a header of a chunk at {at:#x}");
        found.push(at);
        at += (u16_at(bytes, at) & 0xfff) + 3;
    }
    found
}

#[test]
fn spoiled_compressed_streams_are_found() {
    let Some(bytes) = volume() else { return };
    let mut p = Patcher::new(bytes);
    let clean = found(&p.bytes);
    assert!(clean.0.is_empty(), "{:#?}", clean.0);
    let (mut missed, mut rules, mut count) = (Vec::new(), BTreeSet::new(), 0);
    let mut judge = |p: &mut Patcher, what: String, rule: Option<Rule>| {
        let found = found(&p.bytes);
        p.undo();
        count += 1;
        if found.0.is_empty() || rule.is_some_and(|rule| !found.0.iter().any(|(other, _)| *other == rule)) {
            missed.push(format!("{what}: {:#?}", found.0));
        }
        rules.extend(found.0.into_iter().map(|(rule, _)| rule));
    };
    for name in ["prose", "mixed"] {
        let number = p.find(name);
        let record = p.record(number);
        let data = p.attribute(number, 0x80, "");
        assert_eq!((data.is_resident, u16_at(&p.bytes, record + data.pos + 0xc)), (false, 1), "{name}");
        let start = p.clusters(number, 0x80, "");
        let headers = chunks(&p.bytes, start);
        // The first run is of the clusters of the first unit.
        let end = start + usize::from(p.bytes[record + data.value + 1]) * p.cluster_bytes;
        assert!(end - headers[15] < 8192, "{name}");
        assert_eq!(headers.len(), 16, "{name}");
        for (n, at) in headers.iter().copied().enumerate() {
            // A copy from before the start of the chunk; a chunk that goes on behind the last cluster of its unit.
            p.set(at + 2, &[1, 0xff, 0xff]);
            judge(&mut p, format!("{name}, chunk {n}: distance"), Some(Rule::CompressedStream));
            if end - at < 4098 {
                p.set(at, &[0xff, 0xbf]);
                judge(&mut p, format!("{name}, chunk {n}: length"), Some(Rule::CompressedStream));
            }
        }
        // Sizes of plain content may be anything below what is allocated, so low bytes of them say nothing.
        let fields =
            [(0, 4), (4, 4), (8, 1), (0x10, 8), (0x18, 8), (0x20, 2), (0x22, 1), (0x28, 8), (0x40, 8)];
        for (offset, len) in fields {
            for (byte, mask) in [(0, 1u8), (len - 1, 0x40)] {
                let pos = data.pos + offset + byte;
                let place = p.guarded(record, pos);
                let value = p.bytes[place] ^ mask;
                p.set_guarded(record, pos, &[value]);
                judge(&mut p, format!("{name}, field {offset:#x}, byte {byte}"), None);
            }
        }
        for (offset, mask) in [(0x30 + 7, 0x40u8), (0x38 + 7, 0x40)] {
            let pos = data.pos + offset;
            let value = p.bytes[p.guarded(record, pos)] ^ mask;
            p.set_guarded(record, pos, &[value]);
            judge(&mut p, format!("{name}, size at {offset:#x}"), None);
        }
        // The second run is a hole that fills the unit: one cluster more and less of the one, and of both.
        let runs = data.value;
        let head = p.bytes[record + runs];
        let hole = runs + 1 + usize::from(head & 15) + usize::from(head >> 4);
        assert_eq!((head & 15, p.bytes[record + hole]), (1, 1), "{name}: runs");
        let lengths = [p.bytes[record + runs + 1], p.bytes[record + hole + 1]];
        for (first, second) in [(1i8, 0i8), (-1, 0), (0, 1), (0, -1), (-1, 1)] {
            for (pos, (len, add)) in
                [runs + 1, hole + 1].into_iter().zip(lengths.into_iter().zip([first, second]))
            {
                p.set_guarded(record, pos, &[len.wrapping_add_signed(add)]);
            }
            judge(&mut p, format!("{name}, runs {first} {second}"), None);
        }
        if name == "prose" {
            // The first hole takes a cluster of the second: the clusters between start inside a unit.
            let mut holes = Vec::new();
            let mut at = record + runs;
            while holes.len() < 2 {
                let (count, distance) = (usize::from(p.bytes[at] & 15), usize::from(p.bytes[at] >> 4));
                if distance == 0 {
                    assert_eq!(count, 1);
                    holes.push(at + 1 - record);
                }
                at += 1 + count + distance;
            }
            for (pos, add) in holes.into_iter().zip([1i8, -1]) {
                let len = p.bytes[record + pos];
                p.set_guarded(record, pos, &[len.wrapping_add_signed(add)]);
            }
            judge(&mut p, "clusters that start inside a unit".to_owned(), Some(Rule::CompressedUnit));
        }
        let mark = p.attribute(number, 0x10, "").value + 0x21;
        let value = p.bytes[p.guarded(record, mark)] & !8;
        p.set_guarded(record, mark, &[value]);
        judge(&mut p, format!("{name}, mark"), Some(Rule::CompressedBit));
        assert!(u64_at(&p.bytes, record + data.pos + 0x30) > 400_000, "{name}");
    }
    assert!(missed.is_empty(), "{} of {count} not found: {missed:#?}", missed.len());
    for rule in
        [Rule::CompressedStream, Rule::CompressedUnit, Rule::CompressedBit, Rule::OnDisk, Rule::Allocated]
    {
        assert!(rules.contains(&rule), "{}", rule.name());
    }
}
