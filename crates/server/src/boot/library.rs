//! Everything a machine can fetch by TFTP or HTTP, by name.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use gravure_bootd::{Ask, Asking, Directory, Found, Library, NoteKind, Presence, Via};
use gravure_model::Timestamp;
use gravure_model::identity::MachineIdentity;
use gravure_model::site::{SITE_VERSION, SiteServer, SiteSettings};
use gravure_netboot::names::{RelativeName, normalise_name};

use super::menu::{MenuFacts, Menus};
use super::rules::{ArchKind, Choice, EXTRA, Facts, FirmwareKind, Rules, ipv4};
use super::shim::{self, Shims};
use super::{subject, tagged, token};
use crate::bundles::{Bundles, SERVED_AS};
use crate::db::{self, Db, MachineRow};
use crate::images::Images;
use crate::site_store::SiteStore;
use crate::{Error, arming, overlay};

/// Where the boot loaders lie below the boot directory.
const LOADERS: &str = "pxe";
/// Where the image is served that the site's own key signed.
pub(crate) const UKI: &str = "uki";

/// The files of a site.
#[derive(Debug)]
pub(crate) struct BootLibrary {
    pub(crate) db: Db,
    pub(crate) presence: Arc<Presence>,
    pub(crate) menus: Menus,
    pub(crate) rules: Arc<Rules>,
    /// Files of the site's own entries; `None` while there are none.
    pub(crate) extra: Option<Directory>,
    /// Kernel, initramfs, loaders; `None` while there is none.
    pub(crate) boot: Option<Directory>,
    pub(crate) images: Directory,
    /// The store of block images.
    pub(crate) store: Arc<SiteStore>,
    /// Driver packages and layers.
    pub(crate) bundles: Directory,
    /// The shims among the loaders.
    pub(crate) shims: Shims,
    /// The image that the site's own key signed; `None` while there is none.
    pub(crate) uki: Option<Directory>,
    pub(crate) site_name: String,
    pub(crate) root_key: String,
    pub(crate) ca_pem: String,
    /// Every address the server is reached at, with its ports.
    pub(crate) servers: Vec<ServerAddress>,
    pub(crate) http_port: u16,
    pub(crate) token_minutes: u32,
}

/// One way to reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    pub(crate) address: IpAddr,
    pub(crate) api_port: u16,
    pub(crate) http_port: u16,
}

impl ServerAddress {
    /// `https://address:port` of the API.
    pub(crate) fn api(&self) -> String {
        format!("https://{}", SocketAddr::new(self.address, self.api_port))
    }

    /// `http://address:port` of boot files and images; without the port where that is the usual one, since some
    /// firmware compares it with what it derives itself.
    pub(crate) fn content(&self) -> String {
        match (self.http_port, self.address) {
            (80, IpAddr::V4(address)) => format!("http://{address}"),
            (80, IpAddr::V6(address)) => format!("http://[{address}]"),
            (port, address) => format!("http://{}", SocketAddr::new(address, port)),
        }
    }
}

impl Library for BootLibrary {
    fn find(&self, ask: Ask) -> Pin<Box<dyn Future<Output = Found> + Send + '_>> {
        Box::pin(async move {
            let name = ask.name.clone();
            self.look(ask).await.unwrap_or_else(|error| {
                tracing::error!(%name, %error, "cannot make a boot file");
                Found::Nothing
            })
        })
    }
}

impl BootLibrary {
    async fn look(&self, ask: Ask) -> Result<Found, Error> {
        let ask = tagged::untagged(ask);
        let Some(name) = ask.name.as_str() else { return Ok(Found::Nothing) };
        match name.to_ascii_lowercase().as_str() {
            "grub/grub.cfg" => Ok(Found::text(self.menus.grub_start(self.http_port)?)),
            "boot/grub.cfg" => {
                let facts = self.facts(&ask).await?;
                Ok(Found::text(self.menus.grub(&facts)?))
            }
            "boot.ipxe" | "autoexec.ipxe" => {
                let facts = self.facts(&ask).await?;
                Ok(Found::text(self.menus.ipxe(&facts)?))
            }
            "boot/site.cpio" => self.site_part(&ask),
            "boot/token.cpio" => self.token_part(&ask).await,
            lower if lower.starts_with("uki/") => self.signed(&ask, lower).await,
            shim::NAME => self.shim(&ask).await,
            _ => match name.split_once('/') {
                Some(("store", object)) => {
                    let (store, object, asking) = (Arc::clone(&self.store), object.to_owned(), ask.asking);
                    let found = tokio::task::spawn_blocking(move || store.find(&object, asking));
                    Ok(found.await.unwrap_or(Found::Nothing))
                }
                _ => self.stored(name.to_owned()).await,
            },
        }
    }

    /// The shim that the machine's firmware starts, as far as that is known from its last inventory.
    async fn shim(&self, ask: &Ask) -> Result<Found, Error> {
        let mut trusted = None;
        if let Some(identity) = subject::of(ask, &self.presence) {
            let mut conn = self.db.read().await?;
            if let Some(machine) = db::machines::find(&mut conn, &identity).await? {
                let inventory = db::machines::inventory(&mut conn, &machine.id).await?;
                trusted = inventory.and_then(|inventory| inventory.firmware.authorities);
            }
            drop(conn);
            let (_, refused) = self.shims.choose(trusted);
            if let (Some(why), Some(journal), Some(mac)) =
                (refused, self.presence.journal(), identity.macs.first())
            {
                let cure = "put a shim with that signature beside the others, e.g. as pxe/shimx64-2023.efi";
                journal.note(
                    mac.0,
                    NoteKind::Trouble,
                    &format!("no shim fits: {why}"),
                    Some(cure.to_owned()),
                );
            }
        }
        self.stored(self.shims.choose(trusted).0.to_owned()).await
    }

    /// The chain to the signed image. There is no menu in it: whether the machine has any business here is decided when its
    /// firmware asks for the first file, and without one it is told that there is none and starts from its disk.
    async fn signed(&self, ask: &Ask, name: &str) -> Result<Found, Error> {
        // Sent twice over TFTP (specs/netboot.md, finding 7), and slow; the journal says so when DHCP is asked.
        if ask.via != Via::Http {
            return Ok(Found::Nothing);
        }
        match name {
            "uki/shimx64.efi" | "uki/gravure.efi" if !self.has_business(ask).await? => Ok(Found::Nothing),
            "uki/shimx64.efi" => self.shim(ask).await,
            "uki/mmx64.efi" => self.stored("mmx64.efi".to_owned()).await,
            "uki/gravure.efi" | "uki/grubx64.efi" => {
                let name = normalise_name(crate::secure_boot::IMAGE.as_bytes());
                let (Some(directory), Ok(name)) = (self.uki.clone(), name) else { return Ok(Found::Nothing) };
                let found = tokio::task::spawn_blocking(move || directory.open(&name));
                Ok(found.await.unwrap_or(Found::Nothing))
            }
            _ => Ok(Found::Nothing),
        }
    }

    /// Whether a machine is to start the payload: something is planned for it, nobody knows it, or somebody said so.
    async fn has_business(&self, ask: &Ask) -> Result<bool, Error> {
        if subject::of(ask, &self.presence).is_none() {
            return Ok(true);
        }
        let facts = self.facts(ask).await?;
        let wanted = match facts.choice {
            Some(Choice::Register) => true,
            Some(Choice::Quarantine) => facts.unknown,
            Some(_) => false,
            None => facts.unknown,
        };
        Ok(facts.armed.is_some() || wanted)
    }

    /// A file of the boot or image directory.
    async fn stored(&self, name: String) -> Result<Found, Error> {
        let (directory, names) = match name.split_once('/') {
            Some(("images", image)) if Images::is_image_name(image) => {
                (Some(&self.images), vec![image.to_owned()])
            }
            Some(("images", _)) => return Ok(Found::Nothing),
            Some((SERVED_AS, bundle)) if Bundles::is_bundle_name(bundle) => {
                (Some(&self.bundles), vec![bundle.to_owned()])
            }
            Some((SERVED_AS, _)) => return Ok(Found::Nothing),
            Some((EXTRA, file)) => (self.extra.as_ref(), vec![file.to_owned()]),
            Some(("boot", file)) => (self.boot.as_ref(), vec![file.to_owned()]),
            _ => (self.boot.as_ref(), vec![format!("{LOADERS}/{name}"), name]),
        };
        let Some(directory) = directory.cloned() else { return Ok(Found::Nothing) };
        let found = tokio::task::spawn_blocking(move || {
            let names = names.iter().filter_map(|name| normalise_name(name.as_bytes()).ok());
            let mut found = names.map(|name: RelativeName| directory.open(&name));
            found.find(|found| !matches!(found, Found::Nothing)).unwrap_or(Found::Nothing)
        });
        Ok(found.await.unwrap_or(Found::Nothing))
    }

    /// What the asking machine's menu offers.
    async fn facts(&self, ask: &Ask) -> Result<MenuFacts, Error> {
        let identity = subject::of(ask, &self.presence);
        self.learn(ask, identity.as_ref());
        let base = self.content_at(ask.local);
        let Some(identity) = identity else {
            return Ok(MenuFacts { armed: None, unknown: false, base, who: String::new(), choice: None });
        };
        let mut conn = self.db.read().await?;
        let armed = arming::armed(&mut conn, &identity, Timestamp::now()).await?;
        let known = db::machines::find(&mut conn, &identity).await?;
        drop(conn);
        let choice = match armed {
            Some(_) => None,
            None => self.choice(ask, &identity, known.as_ref()).await?,
        };
        let known = known.is_some();
        let title = armed.map(|armed| {
            let request = &armed.job.job.request;
            let again = if armed.again { " again" } else { "" };
            let what = if request.capture.is_some() { "Capture this machine as" } else { "Deploy" };
            format!("{what} {}{again}", request.image)
        });
        let machine = subject::key(&identity);
        let chosen = choice.as_ref().map(|choice| format!("{choice}, as chosen"));
        let offer = title.as_deref().or(chosen.as_deref()).unwrap_or("nothing planned");
        tracing::info!(machine, offer, "boot menu");
        if let (Some(journal), Some(mac)) = (self.presence.journal(), identity.macs.first()) {
            journal.note(mac.0, NoteKind::Server, &format!("boot menu: {offer}"), None);
        }
        Ok(MenuFacts { armed: title, unknown: !known, base, who: subject::query(&identity), choice })
    }

    /// What an operator chose for this one boot, else what the site's rules say.
    async fn choice(
        &self,
        ask: &Ask,
        identity: &MachineIdentity,
        known: Option<&MachineRow>,
    ) -> Result<Option<Choice>, Error> {
        if let Some(machine) = known {
            if db::machines::quarantine(&mut *self.db.read().await?, &machine.id).await?.is_some() {
                return Ok(Some(Choice::Quarantine));
            }
            let once = db::machines::boot_once(&mut *self.db.read().await?, &machine.id).await?;
            // HEAD must not use up what the GET after it is to bring.
            if let Some(once) = once.filter(|_| ask.asking == Asking::Content) {
                let mut transaction = self.db.write().await?;
                db::machines::set_boot_once(&mut transaction, &machine.id, None, Timestamp::now()).await?;
                db::audit::add(&mut transaction, "server", "chosen boot served", &machine.id, &once).await?;
                transaction.commit().await.map_err(db::DbError::from)?;
                return Ok(Some(Choice::of(&once)));
            }
        }
        // iPXE on UEFI machines asks for its script too, so the file says less than GRUB's platform in the query.
        let firmware = match ask.field("arch") {
            Some(arch) if arch.ends_with("-efi") => Some(FirmwareKind::Uefi),
            Some(_) => Some(FirmwareKind::Bios),
            None => None,
        };
        let facts = Facts {
            identity: Some(known.map_or(identity, |machine| &machine.identity)),
            firmware,
            arch: ask.field("arch").and_then(ArchKind::of_grub),
            address: ipv4(ask.peer),
            known: Some(known.is_some()),
        };
        Ok(self.rules.choose(&facts).map(|(_, choice)| choice.clone()))
    }

    /// A machine that names itself in an HTTP request shows its address, which a proxy may not have seen.
    fn learn(&self, ask: &Ask, identity: Option<&MachineIdentity>) {
        if ask.via != Via::Http || self.presence.who(ask.peer).is_some() {
            return;
        }
        if let Some(mac) = identity.and_then(|identity| identity.macs.first()) {
            self.presence.saw(ask.peer, gravure_bootd::Seen { mac: mac.0, uuid: None });
        }
    }

    /// Where a machine that reached us at `local` gets its files. Over IPv6 only files are served, not the API.
    fn content_at(&self, local: SocketAddr) -> String {
        let http_port = self.http_port;
        match local.ip() {
            address @ IpAddr::V6(_) => ServerAddress { address, api_port: 0, http_port }.content(),
            address => self.server_for(address).content(),
        }
    }

    /// The address the machine reached us at first.
    fn server_for(&self, local: IpAddr) -> ServerAddress {
        let fallback = ServerAddress { address: local, api_port: 8443, http_port: self.http_port };
        let own = self.servers.iter().find(|server| server.address == local);
        own.or(self.servers.first()).copied().unwrap_or(fallback)
    }

    fn site_part(&self, ask: &Ask) -> Result<Found, Error> {
        let first = self.server_for(ask.local.ip());
        let others = self.servers.iter().filter(|server| **server != first && !server.address.is_loopback());
        let servers = std::iter::once(&first).chain(others);
        let settings = site_settings(&self.site_name, &self.root_key, &self.ca_pem, servers);
        let part = overlay::site_part(&settings)
            .map_err(|source| Error::Db(db::DbError::Document { what: "site settings", source }))?;
        Ok(Found::binary(part))
    }

    async fn token_part(&self, ask: &Ask) -> Result<Found, Error> {
        // HEAD must not burn what the GET after it is to bring.
        let identity = subject::of(ask, &self.presence).filter(|_| ask.asking == Asking::Content);
        let token = match identity {
            Some(identity) => token::issue(&self.db, &identity, self.token_minutes).await?,
            None => None,
        };
        Ok(Found::binary(overlay::token_part(token.as_ref())))
    }
}

/// What the payload is told of a site: whom to believe and where to go, in this order.
pub(crate) fn site_settings<'a>(
    name: &str,
    root_key: &str,
    ca_pem: &str,
    servers: impl Iterator<Item = &'a ServerAddress>,
) -> SiteSettings {
    let servers = servers.map(|server| SiteServer { api: server.api(), content: server.content() });
    SiteSettings {
        version: SITE_VERSION,
        name: name.to_owned(),
        root_key: root_key.to_owned(),
        ca_pem: ca_pem.to_owned(),
        servers: servers.collect(),
        made: Timestamp::now(),
    }
}
