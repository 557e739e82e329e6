//! Random secrets and the hashes they are kept as.

use gravure_model::Secret;

use crate::Error;

/// Bytes of a secret: nobody guesses 256 bits, so a plain hash keeps it.
const SECRET_BYTES: usize = 32;

/// A new random secret as 64 hexadecimal digits.
pub(crate) fn new_secret() -> Result<Secret, Error> {
    Ok(Secret::new(hex(&random::<SECRET_BYTES>()?)))
}

/// What the database keeps of a secret.
pub(crate) fn hash_of(secret: &Secret) -> String {
    blake3::hash(secret.reveal().trim().as_bytes()).to_hex().to_string()
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Trust(gravure_trust::Error::Random(error.to_string())))?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Six digits an operator can compare; `bias` of 2^32 over 10^6 does not matter for comparing.
pub(crate) fn six_digits() -> Result<String, Error> {
    let number = u32::from_le_bytes(random::<4>()?) % 1_000_000;
    Ok(format!("{number:06}"))
}
