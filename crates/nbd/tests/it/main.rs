//! Conversations written down byte by byte, and whatever else a client may send. Real clients: `gravure-cli`'s tests.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::ops::Range;

use gravure_io::ReadAt;
use gravure_nbd::{Error, Export, fuzz, serve};
use gravure_testkit::Random;

/// A disk with a hole in the middle, and a place that cannot be read.
struct Disk;

const SIZE: u64 = 64 << 10;
const HOLE: Range<u64> = 8192..40960;
const BAD: u64 = 60_000;

impl ReadAt for Disk {
    fn size(&self) -> u64 {
        SIZE
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        if (offset..offset + buf.len() as u64).contains(&BAD) {
            return Err(std::io::Error::other("bad sector"));
        }
        for (at, byte) in (offset..).zip(buf) {
            *byte = if HOLE.contains(&at) { 0 } else { (at % 251) as u8 };
        }
        Ok(())
    }
    fn next_data(&self, offset: u64) -> std::io::Result<Option<Range<u64>>> {
        Ok(match offset {
            at if at < HOLE.start => Some(at..HOLE.start),
            at if at < SIZE => Some(at.max(HOLE.end)..SIZE),
            _ => None,
        })
    }
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    [b"IHAVEOPT".as_slice(), &number.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data].concat()
}

fn request(command: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let head = [0x2560_9513u32.to_be_bytes().as_slice(), &[0, 0], &command.to_be_bytes()].concat();
    [head.as_slice(), &cookie.to_be_bytes(), &offset.to_be_bytes(), &len.to_be_bytes()].concat()
}

fn named(name: &str, rest: &[u8]) -> Vec<u8> {
    [&(name.len() as u32).to_be_bytes(), name.as_bytes(), rest].concat()
}

fn talk(client: &[u8]) -> (Vec<u8>, Result<(), Error>) {
    let mut output = Vec::new();
    let exports =
        [Export { name: "disk", description: "a disk", source: &Disk, sector_bytes: 512, on_error: &|_| () }];
    let ended = serve(&mut &*client, &mut output, &exports);
    (output, ended)
}

/// What comes after the greeting.
fn after_greeting(output: &[u8]) -> &[u8] {
    assert_eq!(&output[..18], b"NBDMAGICIHAVEOPT\0\x03");
    &output[18..]
}

/// Splits answers to options into kind and data.
fn option_replies(mut bytes: &[u8], count: usize) -> (Vec<(u32, Vec<u8>)>, &[u8]) {
    let mut out = Vec::new();
    for _ in 0..count {
        assert_eq!(bytes[..8], 0x0003_e889_0455_65a9u64.to_be_bytes());
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let len = number(16) as usize;
        out.push((number(12), bytes[20..20 + len].to_vec()));
        bytes = &bytes[20 + len..];
    }
    (out, bytes)
}

#[test]
fn an_old_client_reads() {
    let client = [
        3u32.to_be_bytes().to_vec(),
        option(1, b"disk"),
        request(0, 7, 8000, 400),
        request(0, 8, SIZE - 1, 2),
        request(0, 9, BAD - 10, 20),
        [request(1, 10, 0, 4), b"data".to_vec()].concat(),
        request(3, 11, 0, 0),
        request(2, 12, 0, 0),
    ];
    let (output, ended) = talk(&client.concat());
    ended.unwrap();
    let rest = after_greeting(&output);
    assert_eq!(rest[..8], SIZE.to_be_bytes());
    let mut rest = &rest[10..];
    let mut expected = vec![0; 400];
    Disk.read_exact_at(8000, &mut expected).unwrap();
    for (cookie, error, data) in
        [(7u64, 0u32, expected.as_slice()), (8, 22, b""), (9, 5, b""), (10, 1, b""), (11, 0, b"")]
    {
        let head =
            [0x6744_6698u32.to_be_bytes().as_slice(), &error.to_be_bytes(), &cookie.to_be_bytes()].concat();
        assert_eq!(rest[..16], head, "{cookie}");
        assert_eq!(&rest[16..16 + data.len()], data);
        rest = &rest[16 + data.len()..];
    }
    assert!(rest.is_empty());
}

#[test]
fn a_new_client_is_told_of_holes() {
    let context = [1u32.to_be_bytes().as_slice(), &named("base:allocation", b"")].concat();
    let client = [
        3u32.to_be_bytes().to_vec(),
        option(3, b""),
        option(99, b"what"),
        option(10, &named("disk", &context)),
        option(8, b""),
        option(10, &named("disk", &context)),
        option(6, &named("none", &[0, 0])),
        option(7, &named("disk", &[0, 1, 0, 2])),
        request(7, 1, 4096, 60_000),
        request(0, 2, 4096, 50_000),
        request(2, 3, 0, 0),
    ];
    let (output, ended) = talk(&client.concat());
    ended.unwrap();
    let (replies, mut rest) = option_replies(after_greeting(&output), 12);
    let kinds: Vec<u32> = replies.iter().map(|(kind, _)| *kind).collect();
    let error = |number: u32| 0x8000_0000 | number;
    assert_eq!(kinds, [2, 1, error(1), error(3), 1, 4, 1, error(6), 3, 3, 3, 1]);
    assert_eq!(replies[0].1, [&4u32.to_be_bytes()[..], b"disk", b"a disk"].concat());
    assert_eq!(replies[5].1, [&1u32.to_be_bytes()[..], b"base:allocation"].concat());
    assert_eq!(replies[10].1, [&2u16.to_be_bytes()[..], b"a disk"].concat());

    let mut chunks = Vec::new();
    while !rest.is_empty() {
        assert_eq!(rest[..4], 0x668e_33efu32.to_be_bytes());
        let number = |at: usize| u16::from_be_bytes(rest[at..at + 2].try_into().unwrap());
        let len = u32::from_be_bytes(rest[16..20].try_into().unwrap()) as usize;
        chunks.push((number(4), number(6), rest[20..20 + len].to_vec()));
        rest = &rest[20 + len..];
    }
    let states: Vec<u32> =
        chunks[0].2.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
    assert_eq!((chunks[0].0, chunks[0].1), (1, 5));
    assert_eq!(states, [1, 4096, 0, 32768, 3, 64096 - 40960, 0]);
    let mut found = Vec::new();
    for (_, kind, data) in &chunks[1..] {
        match kind {
            1 => found.extend_from_slice(&data[8..]),
            2 => found.resize(found.len() + u32::from_be_bytes(data[8..].try_into().unwrap()) as usize, 0),
            other => panic!("{other}"),
        }
    }
    let mut expected = vec![0; 50_000];
    Disk.read_exact_at(4096, &mut expected).unwrap();
    assert!(found == expected);
    assert_eq!(chunks.last().unwrap().0, 1, "the last one says so");
    assert!(chunks.len() == 4);
}

#[test]
fn whoever_breaks_the_rules_is_shown_the_door() {
    let hello = 3u32.to_be_bytes().to_vec();
    let cases: [(Vec<u8>, &str); 5] = [
        (vec![], "flags of the client"),
        (vec![0xff; 4], "flags of the client: expected bits 0 and 1"),
        ([hello.clone(), vec![1; 16]].concat(), "option: expected \"IHAVEOPT\""),
        (
            [hello.clone(), option(1, b"other")].concat(),
            "name of an export: expected one of ours, found other",
        ),
        ([hello.clone(), option(1, b""), vec![9; 28]].concat(), "request: expected its magic"),
    ];
    for (client, message) in cases {
        let error = talk(&client).1.unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    let endless = [hello, option(8, b"").repeat(2000)].concat();
    assert!(talk(&endless).1.unwrap_err().to_string().contains("1000 options"));
}

#[test]
fn any_bytes_end() {
    let mut random = Random::new(3);
    let seed = [
        3u32.to_be_bytes().to_vec(),
        option(8, b""),
        option(
            10,
            &named("first", &[1u32.to_be_bytes().as_slice(), &named("base:allocation", b"")].concat()),
        ),
        option(7, &named("first", &[0, 0])),
        request(7, 1, 0, 4096),
        request(0, 2, 0, 4096),
        request(2, 3, 0, 0),
    ]
    .concat();
    (0..=seed.len()).for_each(|len| fuzz::client(&seed[..len]));
    for _ in 0..2000 {
        let mut bad = seed.clone();
        let at = usize::try_from(random.below(bad.len() as u64)).unwrap();
        bad[at] ^= 1 << random.below(8);
        fuzz::client(&bad);
    }
}
