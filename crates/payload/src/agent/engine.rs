//! The deployment engine (`gravure-deploy`) on this machine: where its programs are and where images come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gravure_deploy::{ImageSource, Machine};
use gravure_imaging::{BlockImage, CaptureTarget, HttpAt, RemoteOptions};
use gravure_io::ReadAt;
use gravure_linux::disks::Roots;
use gravure_linux::efivars::EfiVariables;
use gravure_linux::mount;
use gravure_model::Ctl;
use gravure_model::descriptor::ImageDescriptor;
use gravure_model::event::Observer;
use gravure_model::site::SiteServer;
use gravure_store::{HttpObjects, Store};
use gravure_trust::Verdict;

use super::api::Api;
use super::talk::{Deploy, Failed};
use super::upload::{Patience, Upload};
use crate::files::chain;

/// Where the new system is mounted while it is made.
const MOUNT_POINT: &str = "/mnt";
/// Where the server has its store, and the images in it.
const STORE: &str = "/store";
const STORED_IMAGES: &str = "/store/images/";
/// Paths of driver packages and layers.
const BUNDLES: &str = "/bundles/";
/// How long content may stay away before an apply gives up: a server that is restarted, updated or moved is back by then.
const CONTENT_PATIENCE: Duration = Duration::from_secs(900);

/// The engine.
#[derive(Debug)]
pub(super) struct Engine {
    ca_pem: String,
}

impl Engine {
    /// For systems that report to the owner of `ca_pem`. Takes away what an aborted agent left mounted.
    pub(super) fn new(ca_pem: &str) -> Self {
        let place = Path::new(MOUNT_POINT);
        while mount::is_mounted_at(place).unwrap_or(false) && mount::detach(place).is_ok() {}
        Self { ca_pem: ca_pem.to_owned() }
    }
}

impl Deploy for Engine {
    fn deploy(
        &self,
        verdict: &Verdict,
        server: &SiteServer,
        api: &Api,
        observer: &dyn Observer,
    ) -> Result<(), Failed> {
        let images = Content { base: server.content.clone(), ctl: Ctl::default() };
        let captures = Upload::new(api.clone(), Patience::default());
        self.carry_out(verdict, Arc::new(images), Some(Arc::new(captures)), observer)
    }
}

impl Engine {
    /// Carries out an accepted plan with images from somewhere else than a server.
    pub(super) fn deploy_from(
        &self,
        verdict: &Verdict,
        images: Arc<dyn ImageSource>,
        observer: &dyn Observer,
    ) -> Result<(), Failed> {
        self.carry_out(verdict, images, None, observer)
    }

    fn carry_out(
        &self,
        verdict: &Verdict,
        images: Arc<dyn ImageSource>,
        captures: Option<Arc<dyn CaptureTarget>>,
        observer: &dyn Observer,
    ) -> Result<(), Failed> {
        let ctl = Ctl::default();
        let machine = Machine {
            images,
            captures,
            confirm_program: PathBuf::from("/init"),
            site_ca_pem: self.ca_pem.clone(),
            mke2fs: PathBuf::from("/usr/sbin/mke2fs"),
            e2fsck: PathBuf::from("/usr/sbin/e2fsck"),
            mount_point: PathBuf::from(MOUNT_POINT),
            roots: Roots::default(),
            firmware: EfiVariables::open(),
        };
        gravure_deploy::execute(verdict, &machine, &ctl, observer).map(drop).map_err(|failure| Failed {
            stage: failure.stage,
            code: failure.code,
            message: failure.message,
            cure: failure.cure,
        })
    }
}

/// Images on the server's HTTP side. Every range is checked against the descriptor that was signed with the plan.
#[derive(Debug)]
struct Content {
    base: String,
    ctl: Ctl,
}

impl ImageSource for Content {
    fn open(&self, path: &str, descriptor: &ImageDescriptor) -> Result<Arc<dyn ReadAt>, String> {
        let url = url(&self.base, path);
        let usual = RemoteOptions::default();
        // Of driver packages dozens may be open, each for a moment: none keeps more in memory than it must.
        let (connections, read_ahead, kept_ranges) = match path.starts_with(BUNDLES) {
            true => (1, 0, 2),
            false => (usual.connections, usual.read_ahead, usual.kept_ranges),
        };
        let ctl = self.ctl.clone();
        let options = RemoteOptions { connections, read_ahead, kept_ranges, patience: CONTENT_PATIENCE, ctl };
        // What is read of a block image is held against ids in it, and those against the descriptor.
        let source = if descriptor.format == gravure_imaging::BLOCK_FORMAT {
            HttpAt::unverified(gravure_imaging::agent(), &url, &options)
        } else {
            HttpAt::verified(gravure_imaging::agent(), &url, descriptor, &options)
        };
        source.map(|source| Arc::new(source) as Arc<dyn ReadAt>).map_err(|error| chain(&error))
    }

    fn open_blocks(
        &self,
        path: &str,
        descriptor: &ImageDescriptor,
    ) -> Result<BlockImage, gravure_imaging::Error> {
        let stored = path.strip_prefix(STORED_IMAGES).and_then(|name| name.strip_suffix(".gim"));
        let Some(name) = stored else {
            let source = self
                .open(path, descriptor)
                .map_err(|why| gravure_imaging::Error::Network { url: url(&self.base, path), why })?;
            return BlockImage::open(source, path);
        };
        let address = url(&self.base, STORE);
        let patience = gravure_fetch::Patience { limit: CONTENT_PATIENCE, ctl: self.ctl.clone() };
        let store = HttpObjects::open(gravure_imaging::agent(), &address, patience)
            .and_then(|objects| Store::open(Arc::new(objects)))
            .map_err(|source| {
                let kind = gravure_imaging::store_error_kind(&source);
                gravure_imaging::Error::Other { what: format!("open {address}"), source: source.into(), kind }
            })?;
        BlockImage::open_stored(Arc::new(store), name)
    }
}

/// `path` below `base`, with everything but plain characters escaped.
fn url(base: &str, path: &str) -> String {
    let mut out = base.trim_end_matches('/').to_owned();
    out.push('/');
    for byte in path.trim_start_matches('/').bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte.into())
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_escaped() {
        assert_eq!(url("http://10.0.0.1:80/", "/images/debian.wim"), "http://10.0.0.1:80/images/debian.wim");
        assert_eq!(url("http://h", "/images/a b%é?.wim"), "http://h/images/a%20b%25%C3%A9%3F.wim");
    }
}
