//! The server's store as the target of a capture: asked and filled over the API. A server that is restarted, updated or moved is back
//! within the patience; what was sent by then is there.

use std::time::{Duration, Instant};

use gravure_blockimg::{ChunkId, Frame};
use gravure_imaging::{CaptureTarget, Error, UPLOAD_BATCH_BYTES};
use gravure_model::Ctl;
use gravure_model::api::StoredRequest;
use gravure_model::descriptor::Digest;

use super::api::{Api, Failure};

/// How often a request is repeated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// In all, without an answer.
    pub(super) limit: Duration,
    /// First pause; doubles up to the longest.
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { limit: seconds(900), first: seconds(1), longest: seconds(15) }
    }
}

/// The store of the server that was greeted.
#[derive(Debug)]
pub(super) struct Upload {
    api: Api,
    patience: Patience,
    ctl: Ctl,
}

impl Upload {
    pub(super) fn new(api: Api, patience: Patience) -> Self {
        Self { api, patience, ctl: Ctl::default() }
    }

    fn persist<T>(&self, what: &str, attempt: impl Fn() -> Result<T, Failure>) -> Result<T, Error> {
        let (started, mut pause) = (Instant::now(), self.patience.first);
        loop {
            let failure = match attempt() {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let url = self.api.base().to_owned();
            match &failure {
                // A store that is full, or a session that just ended, may be mended by the next try.
                Failure::Refused { status, .. } if *status < 500 => {
                    return Err(Error::Refused { what: format!("{what} {url}"), why: failure.to_string() });
                }
                _ if started.elapsed() >= self.patience.limit => {
                    let seconds = started.elapsed().as_secs();
                    let why = format!("{what}: no success for {seconds} s: {failure}");
                    return Err(Error::Network { url, why });
                }
                _ => {}
            }
            self.ctl.check()?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(self.patience.longest);
        }
    }
}

impl CaptureTarget for Upload {
    fn name(&self) -> &str {
        self.api.base()
    }

    fn are_stored(&self, ids: &[ChunkId]) -> Result<Vec<bool>, Error> {
        let request = StoredRequest { ids: ids.iter().map(|id| Digest(id.0)).collect() };
        let stored = self.persist("asking", || self.api.stored(&request))?.stored;
        if stored.len() == ids.len() {
            return Ok(stored);
        }
        let (url, asked, found) = (self.api.base().to_owned(), ids.len(), stored.len());
        Err(Error::Network { url, why: format!("{found} answers to {asked} questions") })
    }

    fn put(&self, frames: &[Frame]) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(usize::try_from(UPLOAD_BATCH_BYTES).unwrap_or(0));
        frames.iter().for_each(|frame| frame.write(&mut bytes));
        self.persist("sending to", || self.api.put_frames(&bytes))
    }

    fn commit(&self, manifest: &[u8]) -> Result<(), Error> {
        self.persist("completing the image at", || self.api.put_manifest(manifest))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::made_site::{Answer, Site};
    use crate::tls::ClientIdentity;

    const QUICK: Patience = Patience {
        limit: Duration::from_secs(60),
        first: Duration::from_millis(5),
        longest: Duration::from_millis(5),
    };

    fn upload(site: &Site, url: &str) -> Upload {
        let settings = site.settings(url);
        let identity = ClientIdentity::generate().unwrap();
        let api = Api::new(&settings.servers[0].api, &settings.ca_pem, &identity).unwrap();
        Upload::new(api, QUICK)
    }

    #[test]
    fn a_server_that_is_away_for_a_while_stops_nothing() {
        let site = Site::new();
        let asked = std::sync::Arc::new(AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&asked);
        let url = site.serve(move |path, _| {
            assert_eq!(path, "/v1/payload/capture/stored");
            match count.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Answer::Json(503, br#"{"error":"failed","message":"full","cure":null}"#.to_vec()),
                2 => Answer::Json(500, b"<html>".to_vec()),
                _ => Answer::Json(200, br#"{"stored":[true,false]}"#.to_vec()),
            }
        });
        let stored = upload(&site, &url).are_stored(&[ChunkId([1; 32]), ChunkId([2; 32])]).unwrap();
        assert_eq!((stored, asked.load(Ordering::Relaxed)), (vec![true, false], 4));
    }

    #[test]
    fn what_the_server_refuses_is_not_repeated() {
        let site = Site::new();
        let asked = std::sync::Arc::new(AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&asked);
        let url = site.serve(move |path, _| match path {
            "/v1/payload/capture/manifest" => {
                count.fetch_add(1, Ordering::Relaxed);
                Answer::Json(409, br#"{"error":"conflict","message":"there is one","cure":null}"#.to_vec())
            }
            _ => Answer::Json(200, br#"{"stored":[true,true,true]}"#.to_vec()),
        });
        let upload = upload(&site, &url);
        let error = upload.commit(b"manifest").unwrap_err();
        assert!(matches!(&error, Error::Refused { why, .. } if why == "there is one"), "{error}");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let error = upload.are_stored(&[ChunkId([1; 32])]).unwrap_err();
        assert!(error.to_string().contains("3 answers to 1 questions"), "{error}");
    }
}
