//! Signatures of block images. What is signed is the image's id, the hash of its root, which binds every chunk, every place and what the
//! image says of itself; so a signature is small and can be checked before anything is fetched.

use gravure_model::api::Envelope;

use crate::envelope::{open, seal};
use crate::{Error, PublicKey, Purpose, SigningKey};

/// Signs the image that is called `id`. What comes out stands in the image as it is.
pub fn sign_block_image(key: &SigningKey, id: &[u8; 32]) -> Result<Vec<u8>, Error> {
    let envelope = seal(key, Purpose::BlockImage, id);
    let what = Purpose::BlockImage.title();
    serde_json::to_vec(&envelope).map_err(|source| Error::Unreadable { what, source })
}

/// Whether `signature`, as it stands in the image called `id`, is one of `key` for it; else why not.
pub fn accept_block_image(key: &PublicKey, signature: &[u8], id: &[u8; 32]) -> Result<(), Error> {
    let what = Purpose::BlockImage.title();
    let envelope: Envelope =
        serde_json::from_slice(signature).map_err(|source| Error::Unreadable { what, source })?;
    let signed = open(key, Purpose::BlockImage, &envelope)?;
    if signed != id {
        return Err(Error::BadSignature { what, key: key.id() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_for_one_image_and_one_key() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signature = sign_block_image(&key, &[1; 32]).unwrap();
        accept_block_image(&key.public(), &signature, &[1; 32]).unwrap();
        let moved = accept_block_image(&key.public(), &signature, &[2; 32]).unwrap_err();
        assert!(matches!(moved, Error::BadSignature { .. }), "{moved}");
        let foreign = accept_block_image(&other.public(), &signature, &[1; 32]).unwrap_err();
        assert!(matches!(foreign, Error::OtherKey { .. }), "{foreign}");
        for len in 0..signature.len() {
            assert!(accept_block_image(&key.public(), &signature[..len], &[1; 32]).is_err(), "{len}");
        }
        let plan = serde_json::to_vec(&seal(&key, Purpose::Plan, &[1; 32])).unwrap();
        let purpose = accept_block_image(&key.public(), &plan, &[1; 32]).unwrap_err();
        assert!(matches!(purpose, Error::OtherPurpose { .. }), "{purpose}");
    }
}
