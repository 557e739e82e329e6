//! The key files of a site: plan key with the root's statement, certificate authority.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gravure_model::Timestamp;
use gravure_trust::{PlanSigner, PublicKey, SigningKey};

use crate::Error;
use crate::tls::Authority;
use crate::vault::Vault;

/// How long the root vouches for the plan key without being asked again.
const PLAN_KEY_SECONDS: i64 = 5 * 366 * 86_400;
/// Clocks of servers differ; a key must hold a little before it was made.
const SLACK_SECONDS: i64 = 86_400;

/// Names of the files.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    dir: PathBuf,
}

impl KeyFiles {
    /// Keys in `dir`.
    pub fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Signs plan keys; belongs off this machine.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.key")
    }

    /// The root's public part, which every payload carries.
    pub fn root_public(&self) -> PathBuf {
        self.dir.join("root.pub")
    }

    /// Encrypts what jobs carry, in the database.
    pub fn secrets(&self) -> PathBuf {
        self.dir.join("secrets.key")
    }

    fn plan(&self) -> PathBuf {
        self.dir.join("plan.key")
    }

    fn plan_statement(&self) -> PathBuf {
        self.dir.join("plan.statement.json")
    }

    fn authority_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    /// The certificate of the site's authority, for clients.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub(crate) fn https_key(&self) -> PathBuf {
        self.dir.join("https.key")
    }

    /// The certificate that firmware checks HTTPS boot by.
    pub fn https_authority(&self) -> PathBuf {
        self.dir.join("https.pem")
    }

    /// The same as a signature list, as firmware takes it.
    pub fn https_list(&self) -> PathBuf {
        self.dir.join("https.esl")
    }

    /// Signs the site's unified kernel image; belongs off this machine.
    pub fn secure_boot_key(&self) -> PathBuf {
        self.secure_boot().join("site.key")
    }

    /// What is enrolled in firmware so that it starts what that key signed.
    pub fn secure_boot(&self) -> PathBuf {
        self.dir.join("secureboot")
    }
}

/// What a running server needs; the root's private key is not among it.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) root: PublicKey,
    pub(crate) signer: PlanSigner,
    pub(crate) authority: Authority,
}

impl Keys {
    /// Makes all keys of a new site.
    pub(crate) fn create(files: &KeyFiles) -> Result<(), Error> {
        std::fs::create_dir_all(&files.dir).map_err(|source| Error::io("create", &files.dir, source))?;
        let root = SigningKey::generate()?;
        let plan = SigningKey::generate()?;
        let now = Timestamp::now();
        let (from, to) = (now.plus_seconds(-SLACK_SECONDS), now.plus_seconds(PLAN_KEY_SECONDS));
        let statement = PlanSigner::certify(&root, &plan.public(), from, to)?;
        let statement = serde_json::to_string_pretty(&statement)
            .map_err(|source| Error::Config { path: files.plan_statement(), message: source.to_string() })?;
        let authority = Authority::create()?;
        write_private(&files.root(), &(root.to_text() + "\n"))?;
        write_private(&files.plan(), &(plan.to_text() + "\n"))?;
        write_private(&files.authority_key(), &authority.key_pem())?;
        Vault::create(files)?;
        write_public(&files.root_public(), &(root.public().to_text() + "\n"))?;
        write_public(&files.plan_statement(), &(statement + "\n"))?;
        write_public(&files.authority(), authority.certificate_pem())
    }

    /// Reads what a server needs.
    pub(crate) fn load(files: &KeyFiles) -> Result<Self, Error> {
        let statement = read(&files.plan_statement())?;
        let statement = serde_json::from_str(&statement)
            .map_err(|error| Error::Config { path: files.plan_statement(), message: error.to_string() })?;
        Ok(Self {
            root: PublicKey::from_text(&read(&files.root_public())?)?,
            signer: PlanSigner::new(SigningKey::from_text(&read(&files.plan())?)?, statement),
            authority: Authority::load(&read(&files.authority_key())?, &read(&files.authority())?)?,
        })
    }
}

fn read(path: &Path) -> Result<String, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::Missing { what: "key file", path: path.to_owned() })
        }
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Writes a new file only its owner can read; never over another.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    write(path, text, 0o600)
}

/// Writes a new file that anybody may read; never over another.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), Error> {
    write(path, text, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = open.map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned() },
        _ => Error::io("create", path, source),
    })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|source| Error::io("write", path, source))
}
