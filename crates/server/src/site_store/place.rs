//! One place of the site's store: a directory, a bucket, or a web server; and whether it answers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gravure_bootd::{Asking, Directory, Found};
use gravure_fetch::Patience;
use gravure_model::{Ctl, Secret};
use gravure_netboot::names::normalise_name;
use gravure_store::{ErrorKind, HttpObjects, LocalObjects, Objects, S3Config, S3Objects};

use super::{MANIFESTS, manifests_in};
use crate::Error;
use crate::config::{BucketConfig, PlaceConfig};
use crate::images::Stamp;

/// How long a signed address holds: long enough to begin with it, the transfer itself may last.
const SIGNED_SECONDS: u32 = 15 * 60;
/// What says who asks the bucket, as other programs call it.
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// How long a place that did not answer is not asked again.
const DOWN_FOR: Duration = Duration::from_secs(10);
/// How long an object that was there counts as being there: a machine reads a pack in many requests.
const SEEN_FOR: Duration = Duration::from_secs(3);
/// Objects that are remembered as seen.
const MAX_SEEN: usize = 4096;
/// How long the catalogue of a web server counts as fresh.
const CATALOG_FOR: Duration = Duration::from_secs(30);
/// The object that every store has in which something was written.
pub(super) const CATALOG: &str = "catalog.json";

/// Asked once, and the next place then: machines ask again by themselves.
pub(super) fn impatient() -> Patience {
    Patience { limit: Duration::ZERO, ctl: Ctl::default() }
}

/// For places that others may stand in for: one that is switched off takes no longer than this.
fn quick_agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(2)))
        .timeout_recv_response(Some(Duration::from_secs(15)))
        .timeout_per_read(Some(Duration::from_secs(30)))
        .http_status_as_error(false)
        .build();
    ureq::Agent::new_with_config(config)
}

/// Who asks the bucket.
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    access_key: String,
    secret_key: Secret,
}

impl Credentials {
    fn of(config: &BucketConfig, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
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

/// A place of the store.
pub(crate) struct Place {
    kind: Kind,
    name: String,
    health: Mutex<Health>,
}

enum Kind {
    Directory {
        path: PathBuf,
    },
    Bucket {
        /// As the server reaches it.
        config: S3Config,
        /// As machines do.
        public: S3Objects,
    },
    Web {
        url: String,
        /// With the catalogue as of then.
        opened: Mutex<Option<(Instant, Arc<HttpObjects>)>>,
    },
}

#[derive(Default)]
struct Health {
    down_until: Option<Instant>,
    /// When objects were last seen there.
    seen: HashMap<String, Instant>,
}

/// What a place says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is there.
    There,
    /// It is not there.
    Absent,
    /// The place does not answer.
    Down,
}

impl Place {
    pub(super) fn new(
        config: &PlaceConfig,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let (kind, name) = match config {
            PlaceConfig::Directory(path) => {
                (Kind::Directory { path: path.clone() }, path.display().to_string())
            }
            PlaceConfig::Web(url) => (Kind::Web { url: url.clone(), opened: Mutex::default() }, url.clone()),
            PlaceConfig::Bucket(bucket) => {
                let Credentials { access_key, secret_key } = Credentials::of(bucket, variable)?;
                let at = |endpoint: &str| S3Config {
                    endpoint: endpoint.to_owned(),
                    bucket: bucket.bucket.clone(),
                    prefix: bucket.prefix.clone(),
                    region: bucket.region.clone(),
                    access_key: access_key.clone(),
                    secret_key: secret_key.clone(),
                };
                let config = at(&bucket.endpoint);
                let public = at(bucket.public_endpoint.as_ref().unwrap_or(&bucket.endpoint));
                let name = S3Objects::new(quick_agent(), config.clone(), impatient()).name().to_owned();
                let public = S3Objects::new(quick_agent(), public, impatient());
                (Kind::Bucket { config, public }, name)
            }
        };
        Ok(Self { kind, name, health: Mutex::default() })
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory it is, if it is one.
    pub(super) fn directory(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Directory { path } => Some(path),
            _ => None,
        }
    }

    /// Nothing can be written there.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self.kind, Kind::Web { .. })
    }

    /// To be read or written with the usual patience.
    pub(super) fn patiently(&self) -> Result<Arc<dyn Objects>, gravure_store::Error> {
        self.objects(gravure_fetch::agent(), Patience::default())
    }

    /// To be read as long as it answers.
    pub(super) fn impatiently(&self) -> Result<Arc<dyn Objects>, gravure_store::Error> {
        let Kind::Web { url, opened } = &self.kind else { return self.objects(quick_agent(), impatient()) };
        let kept = opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, objects)) = kept
            && at.elapsed() < CATALOG_FOR
        {
            return Ok(objects);
        }
        let objects = Arc::new(HttpObjects::open(quick_agent(), url, impatient())?);
        let kept = Some((Instant::now(), Arc::clone(&objects)));
        *opened.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(objects)
    }

    fn objects(
        &self,
        agent: ureq::Agent,
        patience: Patience,
    ) -> Result<Arc<dyn Objects>, gravure_store::Error> {
        Ok(match &self.kind {
            Kind::Directory { path } => Arc::new(LocalObjects::new(path)),
            Kind::Bucket { config, .. } => Arc::new(S3Objects::new(agent, config.clone(), patience)),
            Kind::Web { url, .. } => Arc::new(HttpObjects::open(agent, url, patience)?),
        })
    }

    /// What a machine gets that asks for an object. Blocks where it is a directory.
    pub(super) fn give(&self, object: &str, asking: Asking) -> Found {
        match &self.kind {
            Kind::Directory { path } => {
                let name = normalise_name(object.as_bytes()).ok();
                // A copy may be mounted later than the server starts.
                let files = Directory::new(path).ok();
                name.zip(files).map_or(Found::Nothing, |(name, files)| files.open(&name))
            }
            Kind::Bucket { public, .. } => {
                let method = match asking {
                    Asking::Content => "GET",
                    Asking::Length => "HEAD",
                };
                Found::Elsewhere(public.signed_url(method, object, SIGNED_SECONDS))
            }
            Kind::Web { url, .. } => Found::Elsewhere(format!("{url}/{object}")),
        }
    }

    /// Whether an object is there. Blocks; a place that does not answer is not asked again for a while, and told once.
    pub(super) fn look(&self, object: &str) -> Look {
        let now = Instant::now();
        {
            let health = self.health();
            if health.down_until.is_some_and(|until| now < until) {
                return Look::Down;
            }
            if health.seen.get(object).is_some_and(|at| now.duration_since(*at) < SEEN_FOR) {
                return Look::There;
            }
        }
        let found = self.ask(object);
        let mut health = self.health();
        match found {
            Ok(is_there) => {
                if health.down_until.take().is_some() {
                    tracing::info!(place = self.name, "this place of the store answers again");
                }
                if !is_there {
                    return Look::Absent;
                }
                if health.seen.len() >= MAX_SEEN {
                    health.seen.clear();
                }
                health.seen.insert(object.to_owned(), now);
                Look::There
            }
            Err(why) => {
                if health.down_until.is_none() {
                    tracing::warn!(place = self.name, why, "this place of the store does not answer");
                }
                health.down_until = Some(Instant::now() + DOWN_FOR);
                health.seen.clear();
                Look::Down
            }
        }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for an object, once.
    fn ask(&self, object: &str) -> Result<bool, String> {
        match &self.kind {
            Kind::Directory { path } => {
                // What is not mounted is not a store without the object.
                std::fs::metadata(path).map_err(|error| error.to_string())?;
                Ok(path.join(object).is_file())
            }
            Kind::Bucket { config, .. } => {
                let objects = S3Objects::new(quick_agent(), config.clone(), impatient());
                match objects.open(object) {
                    Ok(_) => Ok(true),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                    Err(error) => Err(crate::error::chain(&error)),
                }
            }
            Kind::Web { url, .. } => {
                let answer = quick_agent().head(format!("{url}/{object}")).call();
                match answer.map_err(|error| error.to_string())?.status().as_u16() {
                    200 => Ok(true),
                    404 | 410 => Ok(false),
                    status => Err(format!("status {status}")),
                }
            }
        }
    }

    /// Whether the place answers at all, now.
    pub(crate) fn probe(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Bucket { config, .. } => {
                let objects = S3Objects::new(quick_agent(), config.clone(), impatient());
                objects.list(MANIFESTS).map(drop).map_err(|error| crate::error::chain(&error))
            }
            _ => self.ask(CATALOG).map(drop),
        }
    }

    /// File names of the manifests there, with what tells when one was replaced. Blocks.
    pub(super) fn manifests(&self, patience: Patience) -> Result<Vec<(String, Stamp)>, Error> {
        let failed = |error: gravure_store::Error| Error::Store { message: crate::error::chain(&error) };
        let stamp = |len, tag: &[u8]| {
            let changed =
                blake3::hash(tag).as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            Stamp { size_bytes: len, changed }
        };
        let of = |name: &str| Some(name.strip_prefix(MANIFESTS)?.strip_prefix('/')?.to_owned());
        match &self.kind {
            Kind::Directory { path } => manifests_in(&path.join(MANIFESTS)),
            Kind::Bucket { config, .. } => {
                let objects = S3Objects::new(quick_agent(), config.clone(), patience);
                let listed = objects.list_tagged(MANIFESTS).map_err(failed)?;
                let names = listed
                    .into_iter()
                    .filter_map(|(listed, tag)| Some((of(&listed.name)?, stamp(listed.len, tag.as_bytes()))));
                Ok(names.collect())
            }
            Kind::Web { url, .. } => {
                // The catalogue says no more than lengths; manifests are small.
                let objects = HttpObjects::open(quick_agent(), url, patience).map_err(failed)?;
                let mut out = Vec::new();
                for listed in objects.list(MANIFESTS).map_err(failed)? {
                    let Some(name) = of(&listed.name) else { continue };
                    let bytes = gravure_store::read_whole(&objects, &listed.name, super::MAX_WHOLE_BYTES);
                    out.push((name, stamp(listed.len, &bytes.map_err(failed)?)));
                }
                Ok(out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(credentials: Option<PathBuf>) -> PlaceConfig {
        PlaceConfig::Bucket(BucketConfig {
            bucket: "images".into(),
            endpoint: "http://10.0.0.9:9000".into(),
            public_endpoint: Some("http://s3.lab:9000/".into()),
            credentials,
            prefix: "one".into(),
            region: "eu-north-1".into(),
        })
    }

    #[test]
    fn a_bucket_sends_machines_on() {
        let missing = Place::new(&bucket(None), |name| (name == ACCESS_KEY).then(|| "key".to_owned()));
        assert!(missing.err().unwrap().to_string().contains(SECRET_KEY));
        let place = Place::new(&bucket(None), |_| Some("hidden".to_owned())).unwrap();
        let Found::Elsewhere(url) = place.give("packs/ab/c", Asking::Content) else { panic!("no address") };
        assert!(url.starts_with("http://s3.lab:9000/images/one/packs/ab/c?X-Amz-"), "{url}");
        assert!(url.contains("X-Amz-Expires=900") && url.contains("%2Feu-north-1%2Fs3%2F"), "{url}");
        let Found::Elsewhere(head) = place.give("packs/ab/c", Asking::Length) else { panic!("no address") };
        assert_ne!(url.rsplit_once('='), head.rsplit_once('='), "signed for one method");
    }

    #[test]
    fn credentials_may_stand_in_a_file_and_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.toml");
        let open = || Place::new(&bucket(Some(path.clone())), |_| None);
        assert!(open().err().unwrap().to_string().contains("store.toml"));
        std::fs::write(&path, "access_key = \"a\"\nsecret_key = \"hidden\"\n").unwrap();
        assert!(!open().unwrap().name().contains("hidden"));
        std::fs::write(&path, "access_key = \"a\"\nsecret = \"hidden\"\n").unwrap();
        let error = open().err().unwrap().to_string();
        assert!(error.contains("secret_key") && !error.contains("hidden"), "{error}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_down_and_an_object_that_is_not_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        let place = Place::new(&PlaceConfig::Directory(path.clone()), |_| None).unwrap();
        assert_eq!(place.look("packs/a"), Look::Down);
        assert!(place.probe().unwrap_err().contains("No such file"));
        std::fs::create_dir_all(path.join("packs")).unwrap();
        assert_eq!(place.look("packs/a"), Look::Down, "not asked again at once");
        let place = Place::new(&PlaceConfig::Directory(path.clone()), |_| None).unwrap();
        assert_eq!(place.look("packs/a"), Look::Absent);
        std::fs::write(path.join("packs/a"), "x").unwrap();
        assert_eq!((place.look("packs/a"), place.probe()), (Look::There, Ok(())));
    }
}
