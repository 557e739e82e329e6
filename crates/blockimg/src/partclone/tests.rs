use super::*;

/// An image of blocks of 512 bytes; block `n` is full of `n`.
fn image_2(used: &[bool], per: u32, starts_anew: bool, mode: u16) -> Vec<u8> {
    let mut out = b"partclone-image\x000.3.23\0\0\0\0\0\0\0\x000002".to_vec();
    out.extend_from_slice(&0xc0deu16.to_le_bytes());
    out.extend_from_slice(b"EXTFS\0\0\0\0\0\0\0\0\0\0\0");
    let total = used.len() as u64;
    let count = used.iter().filter(|used| **used).count() as u64;
    for field in [total * 512, total, count, count] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&512u32.to_le_bytes());
    out.extend_from_slice(&18u32.to_le_bytes());
    for field in [2u16, 64, mode, if mode == 0 { 0 } else { 4 }] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&per.to_le_bytes());
    out.extend_from_slice(&[u8::from(starts_anew), 1]);
    let sum = crc(CRC_START, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    assert_eq!(out.len(), HEADER_2_BYTES);
    let bit = |(at, used): (usize, &bool)| u8::from(*used) << at;
    let map: Vec<u8> = used.chunks(8).map(|eight| eight.iter().enumerate().map(bit).sum()).collect();
    out.extend_from_slice(&map);
    out.extend_from_slice(&crc(CRC_START, &map).to_le_bytes());
    let blocks: Vec<usize> = (0..used.len()).filter(|block| used[*block]).collect();
    let mut state = CRC_START;
    for strip in blocks.chunks(if mode == 0 { usize::MAX } else { per as usize }) {
        let bytes: Vec<u8> = strip.iter().flat_map(|block| [*block as u8; 512]).collect();
        out.extend_from_slice(&bytes);
        state = crc(if starts_anew { CRC_START } else { state }, &bytes);
        if mode != 0 {
            out.extend_from_slice(&state.to_le_bytes());
        }
    }
    out
}

/// The same in version 1, with checksums of `width` bytes.
fn image_1(used: &[bool], width: usize) -> Vec<u8> {
    let mut out = b"partclone-imageEXTFS\0\0\0\0\0\0\0\0\0\x000001\0\0".to_vec();
    let total = used.len() as u64;
    out.extend_from_slice(&512u32.to_le_bytes());
    for field in [total * 512, total, used.iter().filter(|used| **used).count() as u64] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.resize(HEADER_1_BYTES, 0);
    out.extend(used.iter().map(|used| u8::from(*used)));
    out.extend_from_slice(&BITMAP_END);
    let mut state = CRC_START;
    for block in (0..used.len()).filter(|block| used[*block]) {
        let bytes = [block as u8; 512];
        out.extend_from_slice(&bytes);
        state = crc(state, &bytes);
        out.extend_from_slice(&u64::from(state).to_le_bytes()[..width]);
    }
    out
}

fn restore(image: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = PartcloneReader::open(image)?;
    let mut out = vec![0xff; usize::try_from(reader.header().device_bytes).unwrap()];
    let expected = reader.used_in_map();
    let mut blocks = 0;
    while let Some(strip) = reader.next_strip()? {
        for (offset, bytes) in strip.runs() {
            let at = offset as usize;
            out[at..at + bytes.len()].copy_from_slice(bytes);
            blocks += bytes.len() as u64 / 512;
        }
    }
    assert_eq!(blocks, expected);
    Ok(out)
}

fn used() -> Vec<bool> {
    (0..61).map(|block| block % 7 != 3 && !(20..30).contains(&block)).collect()
}

fn expected() -> Vec<u8> {
    let used = used();
    (0..used.len()).flat_map(|block| [if used[block] { block as u8 } else { 0xff }; 512]).collect()
}

#[test]
fn all_forms_come_back() {
    let used = used();
    let forms = [
        image_2(&used, 7, true, 0x20),
        image_2(&used, 7, false, 0x20),
        image_2(&used, 1000, true, 0x20),
        image_2(&used, 0, true, 0),
        image_1(&used, 4),
        image_1(&used, 8),
    ];
    for (number, image) in forms.iter().enumerate() {
        assert!(restore(image).unwrap() == expected(), "{number}");
    }
    let one: Vec<bool> = (0..9).map(|block| block == 4).collect();
    for width in [4, 8] {
        assert!(restore(&image_1(&one, width)).is_ok());
    }
}

#[test]
fn cuts_and_flips_are_found() {
    let used = used();
    for image in [image_2(&used, 7, true, 0x20), image_2(&used, 7, false, 0x20)] {
        for len in (0..image.len()).step_by(7).chain(image.len() - 8..image.len()) {
            assert!(restore(&image[..len]).is_err(), "{len}");
        }
        for at in (0..200).chain((200..image.len()).step_by(11)) {
            let mut bad = image.clone();
            bad[at] ^= 0x10;
            assert!(restore(&bad).is_err(), "{at}");
        }
    }
    let image = image_1(&used, 4);
    (0..image.len()).step_by(9).for_each(|len| assert!(restore(&image[..len]).is_err(), "{len}"));
    // Version 1 checks the first byte of each block only.
    let data = HEADER_1_BYTES + used.len() + 8;
    for at in [data, data + 516, data + 512] {
        let mut bad = image.clone();
        bad[at] ^= 0x10;
        assert!(restore(&bad).unwrap_err().is_integrity());
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let image = image_2(&used(), 7, true, 0x40);
    let error = PartcloneReader::open(&image[..]).unwrap_err().to_string();
    assert_eq!(error, "checksum of a partclone image not supported: mode 0x40 of 4 bytes");
    let mut other = image;
    other[33] = b'9';
    let error = PartcloneReader::open(&other[..]).unwrap_err().to_string();
    assert_eq!(error, "version of a partclone image not supported: 0009");
}

#[test]
fn the_fuzz_body_takes_anything() {
    let used = used();
    for image in
        [image_2(&used, 7, true, 0x20), image_2(&used, 3, true, 0), image_1(&used, 4), image_1(&used, 8)]
    {
        (0..image.len()).step_by(13).for_each(|len| crate::fuzz::partclone(&image[..len]));
        for at in (0..image.len().min(4400)).step_by(3) {
            let mut bad = image.clone();
            bad[at] ^= 1 << (at % 8);
            crate::fuzz::partclone(&bad);
        }
    }
    // Sizes without end are refused before anything is allocated.
    let mut huge = image_2(&used, 7, true, 0x20);
    huge[0x3c..0x44].copy_from_slice(&u64::MAX.to_le_bytes());
    let sum = crc(CRC_START, &huge[..106]);
    huge[106..110].copy_from_slice(&sum.to_le_bytes());
    let error = PartcloneReader::open(&huge[..]).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
}
