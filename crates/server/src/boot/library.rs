//! Everything a machine can fetch by TFTP or HTTP, by name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gravure_bootd::{Ask, Asking, Directory, Found, Library, NoteKind, Presence, Seen, Via};
use gravure_model::Timestamp;
use gravure_model::identity::{Mac, MachineIdentity};
use gravure_model::site::{SITE_VERSION, SiteServer, SiteSettings};
use gravure_netboot::Stage;
use gravure_netboot::names::{RelativeName, normalise_name};

use super::menu::{MenuFacts, Menus};
use super::rules::{ArchKind, Choice, EXTRA, Facts, FirmwareKind, Rules, ipv4};
use super::shim::{self, Shims};
use super::subject::{self, Subject, Watched};
use super::{tagged, token};
use crate::bundles::{Bundles, SERVED_AS};
use crate::db::{self, Db, MachineRow};
use crate::images::Images;
use crate::site_store::SiteStore;
use crate::{Error, arming, overlay};

/// Where the boot loaders lie below the boot directory.
const LOADERS: &str = "pxe";
/// Where the image is served that the site's own key signed.
pub(crate) const UKI: &str = "uki";
/// How often the journal tells of the same stranger: each of its requests would push out what the machine itself does.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Strangers remembered for that; beyond it all are told of anew.
const MAX_TOLD: usize = 1024;

/// The files of a site.
#[derive(Debug)]
pub(crate) struct BootLibrary {
    pub(crate) db: Db,
    pub(crate) presence: Arc<Presence>,
    /// Where DHCP must have seen who asks.
    pub(crate) watched: Watched,
    /// When the journal told of a stranger at an address.
    pub(crate) told: Mutex<HashMap<IpAddr, Instant>>,
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
    /// There is an iPXE that GRUB hands over to.
    pub(crate) ipxe: bool,
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
        if let (Some(journal), Some(seen)) = (self.presence.journal(), self.presence.who(ask.peer)) {
            journal.asked(seen.mac, name);
        }
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
                    let (store, object) = (Arc::clone(&self.store), object.to_owned());
                    let Ask { asking, afresh, .. } = ask;
                    let found = tokio::task::spawn_blocking(move || store.find(&object, asking, afresh));
                    Ok(found.await.unwrap_or(Found::Nothing))
                }
                _ => self.stored(name.to_owned()).await,
            },
        }
    }

    /// The shim that the machine's firmware starts, as far as that is known from its last inventory.
    async fn shim(&self, ask: &Ask) -> Result<Found, Error> {
        let mut trusted = None;
        if let Some((identity, _)) = self.subject(ask) {
            let mut conn = self.db.read().await?;
            if let Some(machine) = db::machines::find(&mut conn, &identity).await? {
                let inventory = db::machines::inventory(&mut conn, &machine.id).await?;
                trusted = inventory.and_then(|inventory| inventory.firmware.authorities);
            }
            drop(conn);
            let (_, refused) = self.shims.choose(trusted);
            if let (Some(why), Some(journal), Some(mac)) =
                (refused, self.presence.journal(), identity.macs.first())
                && ask.asking == Asking::Content
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
        if self.subject(ask).is_none() {
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
        let subject = self.subject(ask);
        let base = self.content_at(ask.local);
        let Some((identity, seen)) = subject else {
            return Ok(MenuFacts { armed: None, unknown: false, base, who: String::new(), choice: None });
        };
        self.learn(ask, &identity, seen);
        let mut conn = self.db.read().await?;
        let armed = arming::armed(&mut conn, &identity, Timestamp::now()).await?;
        let known = db::machines::look_up(&mut conn, &identity).await?;
        drop(conn);
        if let Some(doubts) = known.doubts() {
            self.tell_doubts(ask, &identity, &doubts);
        }
        let known = known.machine.map(|(row, _)| row);
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
        self.tell_offer(ask, &identity, title.as_deref(), choice.as_ref(), known);
        Ok(MenuFacts { armed: title, unknown: !known, base, who: subject::query(&identity), choice })
    }

    /// Log and journal about what a menu offers. Who asks for the length only has not been offered anything yet.
    fn tell_offer(
        &self,
        ask: &Ask,
        identity: &MachineIdentity,
        order: Option<&str>,
        choice: Option<&Choice>,
        known: bool,
    ) {
        if ask.asking == Asking::Length {
            return;
        }
        let chosen = choice.map(|choice| format!("{choice}, as chosen"));
        let offer = order.or(chosen.as_deref()).unwrap_or("nothing planned");
        tracing::info!(machine = subject::key(identity), offer, "boot menu");
        let (Some(journal), Some(mac)) = (self.presence.journal(), identity.macs.first()) else { return };
        journal.note(mac.0, NoteKind::Server, &format!("boot menu: {offer}"), None);
        // A menu that starts something else by itself is not waited for.
        let starts = match choice {
            _ if order.is_some() => true,
            Some(Choice::Register) => true,
            Some(Choice::Quarantine | Choice::Menu) | None => !known,
            Some(_) => false,
        };
        match starts {
            true => journal.reached(mac.0, Stage::Menu),
            false => journal.done(mac.0),
        }
    }

    /// The journal about a machine that several known ones are as like.
    fn tell_doubts(&self, ask: &Ask, identity: &MachineIdentity, doubts: &str) {
        let (Some(journal), Some(mac)) = (self.presence.journal(), identity.macs.first()) else { return };
        if ask.asking == Asking::Content {
            let text = format!("which machine this is cannot be told; it is like {doubts}");
            let cure = "it gets what an unknown machine gets; once its payload has registered it, it is told apart by more than \
                        its loader tells";
            journal.note(mac.0, NoteKind::Trouble, &text, Some(cure.to_owned()));
        }
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
            if let Some(once) = once {
                // HEAD is told of the same choice, and must not use up what the GET after it is to bring. Nor must GRUB, where it
                // hands over to iPXE for this: the script that iPXE then asks for brings it.
                let entry = self
                    .rules
                    .entry(&once)
                    .filter(|_| self.ipxe && ask.name.as_str() == Some("boot/grub.cfg"));
                let handed_over = entry.is_some_and(|entry| !entry.is_for_grub() && entry.is_for_ipxe());
                if ask.asking == Asking::Length || handed_over {
                    return Ok(Some(Choice::of(&once)));
                }
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

    /// The machine that asks, and whether DHCP saw it at that address; `None` when it is nobody's request, or that of a stranger in a
    /// machine's name.
    fn subject(&self, ask: &Ask) -> Option<(MachineIdentity, bool)> {
        match subject::of(ask, &self.presence, &self.watched) {
            Subject::Machine { identity, seen } => Some((identity, seen)),
            Subject::Stranger { named, why } => {
                self.tell(ask, named, &why);
                None
            }
            Subject::Nobody => None,
        }
    }

    /// A machine that names itself in an HTTP request shows its address. Only where no DHCP of ours could have seen it: there
    /// the first that gives a name keeps it until the next one boots at that address.
    fn learn(&self, ask: &Ask, identity: &MachineIdentity, seen: bool) {
        if seen || ask.via != Via::Http || self.presence.who(ask.peer).is_some() {
            return;
        }
        let Some(mac) = identity.macs.first() else { return };
        self.presence.saw(ask.peer, Seen { mac: mac.0, uuid: None });
        if let Some(journal) = self.presence.journal() {
            let text = format!(
                "asks from {}, where no DHCP of this server looks on: that it is this machine is what it says itself",
                ask.peer
            );
            journal.note(mac.0, NoteKind::Server, &text, None);
        }
    }

    /// Puts a request in another machine's name on record, in the journal of the machine whose name it was.
    fn tell(&self, ask: &Ask, named: Mac, why: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_TOLD {
            told.clear();
        }
        if told.get(&ask.peer).is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        told.insert(ask.peer, Instant::now());
        drop(told);
        tracing::warn!(peer = %ask.peer, %named, why, "request in a machine's name that does not fit its address");
        if let Some(journal) = self.presence.journal() {
            let text = format!(
                "{} asked for {} in this machine's name and got nothing of it: {why}",
                ask.peer, ask.name
            );
            let cure = "if it was this machine, let it take its address by DHCP when it boots: an address set by hand, or one \
                        from a server whose answers do not pass here, cannot be told from somebody else's";
            journal.note(named.0, NoteKind::Trouble, &text, Some(cure.to_owned()));
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
        let identity = self.subject(ask).filter(|_| ask.asking == Asking::Content);
        let token = match identity {
            Some((identity, _)) => token::issue(&self.db, &identity, self.token_minutes).await?,
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
