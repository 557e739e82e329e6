//! Where the site's store is: a directory of this server, or a bucket that machines read from straight away.
//!
//! From a bucket the server gives machines no bytes: it answers with an address that is signed for one object and some minutes, so
//! machines have no credentials, and what a room of them reads does not pass through here. What is read is held against the ids in the
//! image either way.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use gravure_bootd::{Asking, Directory, Found};
use gravure_fetch::Patience;
use gravure_model::Secret;
use gravure_netboot::names::normalise_name;
use gravure_store::{LocalObjects, Objects, S3Config, S3Objects, Store};

use crate::Error;
use crate::config::{Config, StoreConfig};
use crate::images::Stamp;

/// Folder of manifests in a store.
const MANIFESTS: &str = "images";
/// How long a signed address holds: long enough to begin with it, the transfer itself may last.
const SIGNED_SECONDS: u32 = 15 * 60;
/// What says who asks the bucket, as other programs call it.
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// Who asks the bucket.
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    access_key: String,
    secret_key: Secret,
}

impl Credentials {
    fn of(config: &StoreConfig, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        if let Some(path) = &config.credentials {
            let text = std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
            return toml::from_str(&text).map_err(|error| Error::Config {
                path: path.clone(),
                // Not the whole error: it shows the line, which may be the secret.
                message: format!("expected access_key and secret_key: {}", error.message()),
            });
        }
        let variable = |name: &'static str| {
            variable(name).ok_or_else(|| Error::Store {
                message: format!(
                    "{name} is not set, and [store] names no credentials for the bucket {}",
                    config.bucket
                ),
            })
        };
        Ok(Self { access_key: variable(ACCESS_KEY)?, secret_key: Secret::new(&variable(SECRET_KEY)?) })
    }
}

/// The site's store.
pub(crate) enum SiteStore {
    /// A directory.
    Directory {
        /// Where.
        path: PathBuf,
        /// What machines fetch.
        files: Directory,
    },
    /// A bucket.
    Bucket {
        /// As the server reaches it.
        objects: S3Objects,
        /// As machines do.
        public: S3Objects,
    },
}

impl fmt::Debug for SiteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

impl SiteStore {
    /// The store that the configuration names. A directory is made when it is not there: sites of earlier versions have none.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        match &config.store {
            Some(bucket) => Self::bucket(bucket, |name| std::env::var(name).ok()),
            None => Self::directory(&config.paths.store),
        }
    }

    fn directory(path: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(path).map_err(|source| Error::io("create", path, source))?;
        let files = Directory::new(path);
        let files = files.map_err(|_| Error::Missing { what: "store", path: path.to_owned() })?;
        Ok(Self::Directory { path: path.to_owned(), files })
    }

    fn bucket(config: &StoreConfig, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let Credentials { access_key, secret_key } = Credentials::of(config, variable)?;
        let at = |endpoint: &str| {
            let config = S3Config {
                endpoint: endpoint.to_owned(),
                bucket: config.bucket.clone(),
                prefix: config.prefix.clone(),
                region: config.region.clone(),
                access_key: access_key.clone(),
                secret_key: secret_key.clone(),
            };
            S3Objects::new(gravure_fetch::agent(), config, Patience::default())
        };
        let public = config.public_endpoint.as_ref().unwrap_or(&config.endpoint);
        Ok(Self::Bucket { objects: at(&config.endpoint), public: at(public) })
    }

    /// What messages call it.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Directory { path, .. } => path.display().to_string(),
            Self::Bucket { objects, .. } => objects.name().to_owned(),
        }
    }

    /// Opens it for reading and writing. Blocks.
    pub(crate) fn store(&self) -> Result<Store, gravure_store::Error> {
        Store::open(match self {
            Self::Directory { path, .. } => Arc::new(LocalObjects::new(path)),
            Self::Bucket { objects, .. } => Arc::new(objects.clone()),
        })
    }

    /// File names of the manifests in it, with what tells when one was replaced. Blocks.
    pub(crate) fn manifests(&self) -> Result<Vec<(String, Stamp)>, Error> {
        match self {
            Self::Directory { path, .. } => manifests_in(&path.join(MANIFESTS)),
            Self::Bucket { objects, .. } => {
                let listed = objects.list_tagged(MANIFESTS);
                let listed = listed.map_err(|error| Error::Store { message: crate::error::chain(&error) })?;
                let names = listed.into_iter().filter_map(|(listed, tag)| {
                    let name = listed.name.strip_prefix(MANIFESTS)?.strip_prefix('/')?.to_owned();
                    let hash = blake3::hash(tag.as_bytes());
                    let changed = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                    Some((name, Stamp { size_bytes: listed.len, changed }))
                });
                Ok(names.collect())
            }
        }
    }

    /// What a machine gets that asks for an object. Blocks where the store is a directory.
    pub(crate) fn find(&self, object: &str, asking: Asking) -> Found {
        if !is_served(object) {
            return Found::Nothing;
        }
        match self {
            Self::Directory { files, .. } => {
                normalise_name(object.as_bytes()).map_or(Found::Nothing, |name| files.open(&name))
            }
            Self::Bucket { public, .. } => {
                let method = match asking {
                    Asking::Content => "GET",
                    Asking::Length => "HEAD",
                };
                Found::Elsewhere(public.signed_url(method, object, SIGNED_SECONDS))
            }
        }
    }
}

fn manifests_in(dir: &Path) -> Result<Vec<(String, Stamp)>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("read", dir, source)),
    };
    let manifests = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().into_string().ok()?, Stamp::of(&entry.metadata().ok()?)?))
    });
    Ok(manifests.collect())
}

/// What of a store machines may read: not its locks, sessions and files that are on their way.
fn is_served(object: &str) -> bool {
    let folder = object.split_once('/').map(|(folder, _)| folder);
    object == "catalog.json" || matches!(folder, Some("images" | "index" | "packs"))
}

impl Stamp {
    /// Of a regular file.
    pub(crate) fn of(facts: &std::fs::Metadata) -> Option<Self> {
        let since = facts.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        facts.is_file().then_some(Self { size_bytes: facts.len(), changed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_what_machines_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = SiteStore::directory(&dir.path().join("store")).unwrap();
        assert_eq!(store.manifests().unwrap(), []);
        for name in ["images/a.gim", "packs/00/x", "sessions/s", "catalog.json"] {
            let path = dir.path().join("store").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let names: Vec<(String, u64)> =
            store.manifests().unwrap().into_iter().map(|(name, stamp)| (name, stamp.size_bytes)).collect();
        assert_eq!(names, [("a.gim".to_owned(), 12)]);
        let is_there = |name| matches!(store.find(name, Asking::Content), Found::File { .. });
        assert!(is_there("images/a.gim") && is_there("packs/00/x") && is_there("catalog.json"));
        assert!(!is_there("sessions/s") && !is_there("packs/none") && !is_there("images/../sessions/s"));
    }

    #[test]
    fn a_bucket_sends_machines_on() {
        let config = StoreConfig {
            bucket: "images".into(),
            endpoint: "http://10.0.0.9:9000".into(),
            public_endpoint: Some("http://s3.lab:9000/".into()),
            credentials: None,
            prefix: "one".into(),
            region: "eu-north-1".into(),
        };
        let missing = SiteStore::bucket(&config, |name| (name == ACCESS_KEY).then(|| "key".to_owned()));
        assert!(missing.unwrap_err().to_string().contains(SECRET_KEY));
        let store = SiteStore::bucket(&config, |_| Some("hidden".to_owned())).unwrap();
        let Found::Elsewhere(url) = store.find("packs/ab/c", Asking::Content) else { panic!("no address") };
        assert!(url.starts_with("http://s3.lab:9000/images/one/packs/ab/c?X-Amz-"), "{url}");
        assert!(url.contains("X-Amz-Expires=900") && url.contains("%2Feu-north-1%2Fs3%2F"), "{url}");
        let Found::Elsewhere(head) = store.find("packs/ab/c", Asking::Length) else { panic!("no address") };
        assert_ne!(url.rsplit_once('='), head.rsplit_once('='), "signed for one method");
        assert!(matches!(store.find("sessions/s", Asking::Content), Found::Nothing));
    }

    #[test]
    fn credentials_may_stand_in_a_file_and_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.toml");
        let config = StoreConfig {
            bucket: "images".into(),
            endpoint: "http://10.0.0.9:9000".into(),
            public_endpoint: None,
            credentials: Some(path.clone()),
            prefix: String::new(),
            region: "us-east-1".into(),
        };
        let open = || SiteStore::bucket(&config, |_| None);
        assert!(open().unwrap_err().to_string().contains("store.toml"));
        std::fs::write(&path, "access_key = \"a\"\nsecret_key = \"hidden\"\n").unwrap();
        assert!(!format!("{:?}", open().unwrap()).contains("hidden"));
        std::fs::write(&path, "access_key = \"a\"\nsecret = \"hidden\"\n").unwrap();
        let error = open().unwrap_err().to_string();
        assert!(error.contains("secret_key") && !error.contains("hidden"), "{error}");
    }
}
