//! `gravure image key` and `image sign`: signatures of block images, made and put where they belong.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_blockimg::{ChunkId, ImageFile};
use gravure_imaging::ErrorKind;
use gravure_io::FileAt;
use gravure_trust::{SigningKey, sign_block_image};
use serde::Serialize;

use crate::exit::{Failure, chain};
use crate::output;
use crate::stored::{self, open_store, split, store_failure};
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Bytes of a key file at most.
const MAX_KEY_BYTES: u64 = 4096;

/// Make a key that signs images
#[derive(Debug, clap::Args)]
#[command(
    after_help = "FILE gets the private key, readable by its owner alone, FILE.pub the public one, which goes to whoever checks. A site has keys of its
own (gravure init).

Examples:
  gravure image key images.key
  gravure image sign golden.gim --key images.key && gravure apply golden.gim /dev/sda --trust images.key.pub --yes"
)]
pub(super) struct KeyOptions {
    /// File to make
    file: PathBuf,
}

/// Sign a block image
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is signed is the image's id, which binds all of its content and what it says of itself. `gravure verify --trust` and `gravure apply
--trust` take an image only when the key they are given has signed it.

Examples:
  gravure image sign golden.gim --key images.key
  gravure image sign /srv/store.gim/#golden --key images.key"
)]
pub(super) struct SignOptions {
    /// FILE.gim or STORE#NAME
    image: ImageName,
    /// Private key, as `gravure image key` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, Serialize)]
struct Key {
    private: String,
    public: String,
    id: String,
}

#[derive(Debug, Serialize)]
struct Signed {
    image: String,
    id: String,
    key: String,
}

fn trust_failure(error: &gravure_trust::Error) -> Failure {
    Failure::new(ErrorKind::Failed, chain(error))
}

pub(super) fn make_key(options: &KeyOptions, common: &Common) -> Result<ExitCode, Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let key = SigningKey::generate().map_err(|error| trust_failure(&error))?;
    let mut public = options.file.clone().into_os_string();
    public.push(".pub");
    let public = PathBuf::from(public);
    let write = |path: &Path, mode: u32, text: &str| {
        let opened = File::options().write(true).create_new(true).mode(mode).open(path);
        let written = opened.and_then(|mut file| writeln!(file, "{text}").and_then(|()| file.sync_all()));
        written.map_err(|error| Failure::io("create", path, &error))
    };
    write(&options.file, 0o600, &key.to_text())?;
    write(&public, 0o644, &key.public().to_text())?;
    let made = Key {
        private: options.file.display().to_string(),
        public: public.display().to_string(),
        id: key.public().id(),
    };
    output::document(common.format, &made, |made| {
        format!("{}: key {}; {} checks what it signs", made.private, made.id, made.public)
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sign(options: &SignOptions, common: &Common) -> Result<ExitCode, Failure> {
    let text = stored::small_file(&options.key, MAX_KEY_BYTES)?;
    let key = SigningKey::from_text(&text).map_err(|error| {
        let message = format!("{}: {}", options.key.display(), chain(&error));
        Failure::new(ErrorKind::Usage, message)
    })?;
    let image = stored::open(&options.image, &interrupt::ctl())?;
    let id = image.id();
    drop(image);
    let signature = sign_block_image(&key, &id.0).map_err(|error| trust_failure(&error))?;
    match split(&options.image.file) {
        Some((store, name)) => {
            open_store(store)?.sign_image(name, &signature).map_err(store_failure)?;
        }
        None => sign_file(options.image.local()?, &id, &signature)?,
    }
    let signed = Signed { image: options.image.file.clone(), id: id.to_string(), key: key.public().id() };
    output::document(common.format, &signed, |signed| {
        format!("{}: signed by key {}, id {}", signed.image, signed.key, signed.id)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A copy with the signature takes the place of the file: whatever happens, one of them is there whole.
fn sign_file(path: &Path, id: &ChunkId, signature: &[u8]) -> Result<(), Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let failed = |error: &std::io::Error| Failure::io("sign", path, error);
    let scratch = tempfile::Builder::new().prefix(".gravure-sign-").tempdir_in(dir);
    let scratch = scratch.map_err(|error| failed(&error))?;
    let copy = scratch.path().join("signed");
    std::fs::copy(path, &copy).map_err(|error| failed(&error))?;
    let source = FileAt::open(&copy).map_err(|error| failed(&error))?;
    let broken = |error: &gravure_blockimg::Error| {
        Failure::new(ErrorKind::Integrity, format!("{}: {}", path.display(), chain(error)))
    };
    let (offset, end) = ImageFile::signed_end(&source, signature).map_err(|error| broken(&error))?;
    let file = File::options().read(true).write(true).open(&copy).map_err(|error| failed(&error))?;
    let write = std::os::unix::fs::FileExt::write_all_at(&file, &end, offset)
        .and_then(|()| file.set_len(offset + end.len() as u64))
        .and_then(|()| file.sync_all());
    write.map_err(|error| failed(&error))?;
    let again = FileAt::open(&copy).map_err(|error| failed(&error))?;
    let opened = ImageFile::open(&again).map_err(|error| broken(&error))?;
    if opened.id != *id {
        let message = format!("{}: expected image {id}, found {}", path.display(), opened.id);
        return Err(Failure::new(ErrorKind::Integrity, message));
    }
    std::fs::rename(&copy, path).map_err(|error| failed(&error))
}
