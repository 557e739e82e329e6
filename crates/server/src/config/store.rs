//! `[store]`: where the site's store is, where else the same is to be had, and a cache before all of it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `[store]`. Without a bucket or an address it is the directory `paths.store`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Name of an S3-compatible bucket.
    pub bucket: Option<String>,
    /// Address of its server, e.g. `http://10.77.0.5:9000`.
    pub endpoint: Option<String>,
    /// The same as machines reach it, by HTTP or by HTTPS with a certificate that everybody trusts; `endpoint` when it is left out.
    pub public_endpoint: Option<String>,
    /// A TOML file with `access_key` and `secret_key`, relative to the site directory; `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` of
    /// the server's environment when it is left out.
    pub credentials: Option<PathBuf>,
    /// Names of all objects begin with it.
    pub prefix: String,
    /// Its region.
    pub region: Option<String>,
    /// In place of a bucket: address of a store on a web server, such as that of another site, which is only read.
    pub url: Option<String>,
    /// Directory in which the server keeps copies of what machines ask for. They get everything from there, also while the store
    /// cannot be reached.
    pub cache: Option<PathBuf>,
    /// Size of the cache; what was used longest ago makes room.
    pub cache_gib: Option<u32>,
    /// Where else the same store is, in the order in which it is asked. Only read.
    #[serde(rename = "copy")]
    pub copies: Vec<CopyConfig>,
}

/// `[[store.copy]]`: a directory, a bucket or a web server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CopyConfig {
    /// A directory, relative to that of the site.
    pub directory: Option<PathBuf>,
    /// As in `[store]`.
    pub url: Option<String>,
    /// As in `[store]`.
    pub bucket: Option<String>,
    /// As in `[store]`.
    pub endpoint: Option<String>,
    /// As in `[store]`.
    pub public_endpoint: Option<String>,
    /// As in `[store]`.
    pub credentials: Option<PathBuf>,
    /// As in `[store]`.
    pub prefix: String,
    /// As in `[store]`.
    pub region: Option<String>,
}

/// One place of the store, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlaceConfig {
    /// A directory of this server.
    Directory(PathBuf),
    /// A bucket.
    Bucket(BucketConfig),
    /// A web server.
    Web(String),
}

/// A bucket, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketConfig {
    pub(crate) bucket: String,
    pub(crate) endpoint: String,
    pub(crate) public_endpoint: Option<String>,
    pub(crate) credentials: Option<PathBuf>,
    pub(crate) prefix: String,
    pub(crate) region: String,
}

/// Size of a cache that nobody gave one.
const CACHE_GIB: u32 = 100;
const USUAL_REGION: &str = "us-east-1";

impl StoreConfig {
    /// The place that is written to; `directory` where nothing else is said.
    pub(crate) fn place(&self, directory: &Path) -> Result<PlaceConfig, String> {
        let as_copy = CopyConfig {
            directory: None,
            url: self.url.clone(),
            bucket: self.bucket.clone(),
            endpoint: self.endpoint.clone(),
            public_endpoint: self.public_endpoint.clone(),
            credentials: self.credentials.clone(),
            prefix: self.prefix.clone(),
            region: self.region.clone(),
        };
        match as_copy.is_empty() {
            true => Ok(PlaceConfig::Directory(directory.to_owned())),
            false => as_copy.place("[store]"),
        }
    }

    /// Where else the same is.
    pub(crate) fn other_places(&self) -> Result<Vec<PlaceConfig>, String> {
        let numbered = (1..).zip(&self.copies);
        numbered.map(|(number, copy)| copy.place(&format!("[[store.copy]] {number}"))).collect()
    }

    /// Size of the cache, bytes.
    pub(crate) fn cache_bytes(&self) -> u64 {
        u64::from(self.cache_gib.unwrap_or(CACHE_GIB)) << 30
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.place(Path::new(""))?;
        self.other_places()?;
        match (&self.cache, self.cache_gib) {
            (None, Some(_)) => Err("[store]: cache_gib is set, but there is no cache".to_owned()),
            (Some(_), Some(0)) => Err("[store]: cache_gib is 0, expected at least 1".to_owned()),
            _ => Ok(()),
        }
    }

    pub(super) fn anchor(&mut self, dir: &Path) {
        let copies =
            self.copies.iter_mut().flat_map(|copy| [copy.directory.as_mut(), copy.credentials.as_mut()]);
        let own = [self.credentials.as_mut(), self.cache.as_mut()];
        own.into_iter().chain(copies).flatten().for_each(|path| *path = dir.join(&*path));
    }
}

impl CopyConfig {
    fn is_empty(&self) -> bool {
        let texts = [&self.url, &self.bucket, &self.endpoint, &self.public_endpoint, &self.region];
        texts.iter().all(|text| text.is_none())
            && self.credentials.is_none()
            && self.directory.is_none()
            && self.prefix.is_empty()
    }

    /// What it names. `what` is for messages.
    fn place(&self, what: &str) -> Result<PlaceConfig, String> {
        let Self { directory, url, bucket, endpoint, public_endpoint, credentials, prefix, region } = self;
        let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if let Some(other) =
            [endpoint, public_endpoint].into_iter().flatten().find(|endpoint| !is_address(endpoint))
        {
            return Err(format!("{what}: expected an endpoint like http://10.77.0.5:9000, found {other:?}"));
        }
        let is_bucket = endpoint.is_some()
            || public_endpoint.is_some()
            || credentials.is_some()
            || !prefix.is_empty()
            || region.is_some();
        match (directory, url, bucket) {
            (None, None, Some(bucket)) => Ok(PlaceConfig::Bucket(BucketConfig {
                bucket: bucket.clone(),
                endpoint: endpoint.clone().ok_or_else(|| format!("{what}: a bucket needs an endpoint"))?,
                public_endpoint: public_endpoint.clone(),
                credentials: credentials.clone(),
                prefix: prefix.clone(),
                region: region.clone().unwrap_or_else(|| USUAL_REGION.to_owned()),
            })),
            (None, None, None) if is_bucket => Err(format!("{what}: endpoint and so on need a bucket")),
            (None, Some(url), None) if !is_bucket => match is_address(url) {
                true => Ok(PlaceConfig::Web(url.trim_end_matches('/').to_owned())),
                false => {
                    Err(format!("{what}: expected an address like http://10.77.0.2/store, found {url:?}"))
                }
            },
            (Some(directory), None, None) if !is_bucket => Ok(PlaceConfig::Directory(directory.clone())),
            _ => Err(format!("{what}: expected either a bucket, a url or, for a copy, a directory")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<StoreConfig, String> {
        Config::from_text(text).map(|config| config.store.unwrap_or_default())
    }

    #[test]
    fn a_store_is_a_directory_a_bucket_or_an_address_with_copies() {
        let own = Path::new("/own");
        assert_eq!(parse("").unwrap().place(own), Ok(PlaceConfig::Directory(own.to_owned())));
        let cached = parse("[store]\ncache = \"near\"\n").unwrap();
        assert_eq!(cached.place(own), Ok(PlaceConfig::Directory(own.to_owned())));
        assert_eq!(cached.cache_bytes(), 100 << 30);
        let text = "[store]\nurl = \"http://far/store/\"\ncache = \"near\"\ncache_gib = 2\n\
                    [[store.copy]]\ndirectory = \"/mnt\"\n\
                    [[store.copy]]\nbucket = \"b\"\nendpoint = \"https://s3\"\n";
        let mut store = parse(text).unwrap();
        store.anchor(Path::new("/site"));
        assert_eq!((store.cache.as_deref(), store.cache_bytes()), (Some(Path::new("/site/near")), 2 << 30));
        assert_eq!(store.place(own), Ok(PlaceConfig::Web("http://far/store".into())));
        let bucket = BucketConfig {
            bucket: "b".into(),
            endpoint: "https://s3".into(),
            public_endpoint: None,
            credentials: None,
            prefix: String::new(),
            region: "us-east-1".into(),
        };
        let others = [PlaceConfig::Directory("/mnt".into()), PlaceConfig::Bucket(bucket)];
        assert_eq!(store.other_places().unwrap(), others);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, expected) in [
            ("[store]\nendpoint = \"http://s3\"", "[store]: endpoint and so on need a bucket"),
            ("[store]\nbucket = \"b\"", "[store]: a bucket needs an endpoint"),
            ("[store]\nbucket = \"b\"\nendpoint = \"s3\"", "expected an endpoint like http"),
            (
                "[store]\nbucket = \"b\"\nendpoint = \"http://s\"\nurl = \"http://x\"",
                "expected either a bucket",
            ),
            (
                "[store]\nurl = \"far/store\"",
                "expected an address like http://10.77.0.2/store, found \"far/store\"",
            ),
            ("[store]\ndirectory = \"/x\"", "unknown field `directory`"),
            ("[store]\ncache_gib = 1", "there is no cache"),
            ("[store]\ncache = \"x\"\ncache_gib = 0", "cache_gib is 0"),
            ("[[store.copy]]", "[[store.copy]] 1: expected either"),
            (
                "[[store.copy]]\ndirectory = \"/x\"\n[[store.copy]]\ndirectory = \"/x\"\nregion = \"r\"",
                "[[store.copy]] 2:",
            ),
            ("[[store.copy]]\ndirectory = \"/x\"\ncache = \"y\"", "unknown field `cache`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
