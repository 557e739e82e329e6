//! A BitLocker volume (AES-XTS of 128 bits, protected by a password) of any content, as Windows would have encrypted it: nothing but Windows makes
//! one, and what others give away holds no whole file system. Layout as in `crates/unlock/FORMAT.md`; `cryptsetup bitlkDump` judges it.

use aes::cipher::KeyInit;
use aes::{Aes128, Aes256};
use ccm::Ccm;
use ccm::aead::AeadInPlace;
use ccm::aead::consts::{U12, U16};
use ccm::aead::generic_array::GenericArray;
use sha2::{Digest, Sha256};
use xts_mode::{Xts128, get_tweak_default};

const SECTOR: usize = 512;
/// Room of a copy of the metadata.
const METADATA: usize = 64 << 10;
/// First bytes of the file system, which lie elsewhere.
const HEADER: usize = 8192;
const STRETCHES: u64 = 1 << 20;
/// `4967d63b-2e29-4ad8-8399-f6a339e3d001`.
const IDENTIFIER: [u8; 16] =
    [0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01];
const MASTER: [u8; 32] = [0x3c; 32];
const SALT: [u8; 16] = [0x51; 16];

fn entry(kind: u16, value: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + data.len()).expect("entries are short");
    let head = [len, kind, value, 1].map(u16::to_le_bytes).concat();
    [head.as_slice(), data].concat()
}

/// `key` as it is stored, opened by `by`.
fn encrypted(by: &[u8], nonce: u8, key: &[u8]) -> Vec<u8> {
    // A key of its own: method, bytes.
    let method = if key.len() == 32 && nonce == 1 { 0x2003_u32 } else { 0x8004 };
    let mut content = entry(0, 1, &[&method.to_le_bytes(), key].concat());
    let nonce = [nonce; 12];
    let cipher = Ccm::<Aes256, U16, U12>::new_from_slice(by).expect("keys of 32 bytes");
    let mac = cipher
        .encrypt_in_place_detached(GenericArray::from_slice(&nonce), &[], &mut content)
        .expect("short content");
    [&nonce[..], &mac, &content].concat()
}

fn stretched(password: &str) -> Vec<u8> {
    let units: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let initial = Sha256::digest(Sha256::digest(units));
    let mut last = [0_u8; 32];
    for count in 0..STRETCHES {
        let next = Sha256::new().chain_update(last).chain_update(initial).chain_update(SALT);
        last = next.chain_update(count.to_le_bytes()).finalize().into();
    }
    last.to_vec()
}

/// `plain`, a volume of whole sectors, encrypted. The metadata goes where it has zeros, which a reader finds there again; it needs three times
/// 64 KiB and 8 KiB of such places.
///
/// # Panics
/// When it has none.
pub fn locked(plain: &[u8], password: &str) -> Vec<u8> {
    let mut free = (1..plain.len() / METADATA)
        .rev()
        .map(|nth| nth * METADATA)
        .filter(|at| plain[*at..*at + METADATA].iter().all(|byte| *byte == 0));
    let mut place = || free.next().expect("a volume with zeros");
    let (copies, header_at) = ([place(), place(), place()], place());
    let volume_key: Vec<u8> = (0..32).map(|byte| byte * 7 + 1).collect();
    let at = |place: usize| u64::try_from(place).expect("small").to_le_bytes();

    let salt = [&0x1000_u32.to_le_bytes()[..], &SALT].concat();
    let opener = stretched(password);
    let master = [
        &[0x77; 16][..],
        &[0; 8],
        &[0; 2],
        &0x2000_u16.to_le_bytes(),
        &entry(0, 3, &salt),
        &entry(0, 5, &encrypted(&opener, 1, &MASTER)),
    ]
    .concat();
    let entries = [
        entry(2, 8, &master),
        entry(3, 5, &encrypted(&MASTER, 2, &volume_key)),
        entry(15, 15, &[at(header_at), at(HEADER)].concat()),
    ]
    .concat();
    let size = u32::try_from(48 + entries.len()).expect("small");
    let mut block = vec![0_u8; METADATA];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"-FVE-FS-");
    put(8, &u16::try_from((64 + size).div_ceil(16)).expect("small").to_le_bytes());
    put(10, &2_u16.to_le_bytes());
    // Encrypted, to be so.
    put(12, &[4, 0, 4, 0]);
    put(16, &at(plain.len()));
    put(28, &16_u32.to_le_bytes());
    (0..3).for_each(|nth| put(32 + nth * 8, &at(copies[nth])));
    put(56, &at(header_at));
    [size, 1, 48, size].iter().enumerate().for_each(|(nth, word)| put(64 + nth * 4, &word.to_le_bytes()));
    put(80, &[0x66; 16]);
    put(96, &3_u32.to_le_bytes());
    put(100, &0x8004_u32.to_le_bytes());
    put(112, &entries);

    let key = |half: &[u8]| Aes128::new_from_slice(half).expect("16 bytes");
    let xts = Xts128::new(key(&volume_key[..16]), key(&volume_key[16..]));
    let mut out = plain.to_vec();
    let encrypt = |out: &mut [u8], place: usize| {
        for (nth, sector) in out.chunks_exact_mut(SECTOR).enumerate() {
            let number = u128::try_from(place / SECTOR + nth).expect("small");
            xts.encrypt_sector(sector, get_tweak_default(number));
        }
    };
    encrypt(&mut out, 0);
    let mut header = plain[..HEADER].to_vec();
    encrypt(&mut header, header_at);
    out[header_at..header_at + HEADER].copy_from_slice(&header);
    copies.iter().for_each(|copy| out[*copy..*copy + METADATA].copy_from_slice(&block));
    let mut head = vec![0_u8; SECTOR];
    head[..3].copy_from_slice(&[0xeb, 0x58, 0x90]);
    head[3..11].copy_from_slice(b"-FVE-FS-");
    head[11..13].copy_from_slice(&512_u16.to_le_bytes());
    head[13] = 8;
    head[160..176].copy_from_slice(&IDENTIFIER);
    (0..3).for_each(|nth| head[176 + nth * 8..184 + nth * 8].copy_from_slice(&at(copies[nth])));
    head[510..].copy_from_slice(&[0x55, 0xaa]);
    out[..SECTOR].copy_from_slice(&head);
    out
}
