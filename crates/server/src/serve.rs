//! `gravure serve`: starts every service, keeps them running, stops them cleanly.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use gravure_bootd::dhcp::{LeaseKeeper, Leases, Service as DhcpService};
use gravure_bootd::dhcp6;
use gravure_bootd::dnssd;
use gravure_bootd::router::Service as RouterService;
use gravure_bootd::tftp::{BlockLimits, Service as TftpService, TftpOptions};
use gravure_bootd::{Directory, Journal, Library, Note, NoteKeeper, Presence, Seen, http};
use gravure_model::Timestamp;
use gravure_model::api::JournalLine;
use gravure_model::identity::Mac;
use gravure_netboot::Millis;
use gravure_netboot::dhcp::{DhcpMode, LeaseEntry, LeaseState, LeaseTable, Network};
use gravure_netboot::dnssd::Advert;
use gravure_netboot::router::Managed;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Error;
use crate::api::{self, App};
use crate::boot::{
    BootLibrary, Loaders, Menus, Quirks, ServerAddress, Shims, SitePolicy, Watched, boot_table, ipxe_in,
};
use crate::bundles::Bundles;
use crate::captures::Captures;
use crate::config::{CONFIG_NAME, Chain, Config, Dhcp};
use crate::db::{self, Db};
use crate::images::{Describe, Images};
use crate::keys::{KeyFiles, Keys};
use crate::network::{self, Served};
use crate::sbat;
use crate::site_store::SiteStore;
use crate::tls::{self, FirmwareTls, ServerCertificate};

/// How often the certificate's end is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(3600);
/// How often the image directory is looked at.
const IMAGE_CHECK: Duration = Duration::from_secs(10);
/// How often boots are looked at that should have gone on.
const BOOT_CHECK: Duration = Duration::from_secs(3);
/// Batches of leases waiting for the database.
const LEASE_QUEUE: usize = 1024;
/// Lines of the boot journal waiting for the database.
const NOTE_QUEUE: usize = 4096;
/// How long leases and lines wait for others to be written with. A crash loses so much of them.
const GATHER: Duration = Duration::from_millis(50);
/// Lines of the boot journal that are kept, about 200 bytes each.
const MAX_NOTES: i64 = 200_000;
/// How long they are kept.
const NOTE_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often those beyond are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// How long everything may take to stop.
const GOODBYE: Duration = Duration::from_secs(10);
/// Without these nothing boots.
const BOOT_FILES: [&str; 5] =
    ["vmlinuz", "initramfs.cpio.zst", "pxe/shimx64.efi", "pxe/grubx64.efi", "pxe/undionly.kpxe"];

/// A running server.
#[derive(Debug)]
pub struct Server {
    servers: Vec<ServerAddress>,
    db: Db,
    captures: Arc<Captures>,
    stop: watch::Sender<bool>,
    /// End by themselves when told to stop.
    polite: JoinSet<()>,
    /// Are ended.
    endless: JoinSet<()>,
}

/// Passes changed leases to the task that writes them.
struct LeaseQueue(mpsc::Sender<Vec<LeaseEntry>>);

impl LeaseKeeper for LeaseQueue {
    fn keep(&self, changed: Vec<LeaseEntry>) {
        if self.0.try_send(changed).is_err() {
            // A lease that is not kept is at worst given anew after a restart.
            tracing::warn!("the database is too slow for the leases");
        }
    }
}

/// Passes notes of the boot journal to the task that writes them.
struct NoteQueue(mpsc::Sender<JournalLine>);

impl NoteKeeper for NoteQueue {
    fn keep(&self, note: Note) {
        let since = note.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let line = JournalLine {
            at: Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
            mac: Mac(note.mac),
            kind: note.kind.as_str().to_owned(),
            text: note.text,
            advice: note.advice,
        };
        if self.0.try_send(line).is_err() {
            // Better a gap in the journal than a boot that waits for it.
            tracing::warn!("the database is too slow for the boot journal");
        }
    }
}

/// Listeners of one address.
struct Listeners {
    http: TcpListener,
    /// For firmware, where it fetches by HTTPS.
    https: Option<TcpListener>,
    api: TcpListener,
    address: ServerAddress,
}

impl Server {
    /// Starts all services of `config`. `describe` makes descriptors of image files.
    pub async fn start(config: &Config, describe: Arc<Describe>) -> Result<Self, Error> {
        // Before anything listens: no machine is to find out.
        sbat::check(config)?;
        let keys = Keys::load(&KeyFiles::in_dir(&config.paths.keys))?;
        let served = network::resolve(&config.interfaces)?;
        network::check_reservations(&served, config)?;
        let quirks = config.boot_quirks();
        let quirks = Arc::new(quirks.map_err(|message| Error::Config { path: CONFIG_NAME.into(), message })?);
        let mut listeners = Vec::new();
        for served in &served {
            listeners.push(listen(served.interface.address.into(), config).await?);
        }
        let servers: Vec<ServerAddress> = listeners.iter().map(|listener| listener.address).collect();
        let db = Db::open(&config.paths.database).await?;
        let vault = db.vault(&KeyFiles::in_dir(&config.paths.keys)).await?;
        let (notes, queue) = mpsc::channel(NOTE_QUEUE);
        let journal = Arc::new(Journal::new(NoteQueue(notes)));
        let presence = Arc::new(Presence::with_journal(Arc::clone(&journal)));
        let boots = Arc::clone(&journal);
        let names = certificate_names(config, &servers, &served)?;
        let firmware = firmware_tls(config, &names)?;
        let certificate = Arc::new(ServerCertificate::new(keys.authority, names)?);
        let images = Directory::new(&config.paths.images);
        let images = images
            .map_err(|_| Error::Missing { what: "image directory", path: config.paths.images.clone() })?;
        let store = Arc::new(SiteStore::open(config)?);
        let captures = Arc::new(Captures::new(Arc::clone(&store)));
        let (drivers, layers) = (config.paths.drivers.clone(), config.paths.layers.clone());
        let bundles = Arc::new(Bundles::new(drivers, layers, config.paths.bundles.clone())?);
        let bundle_files = Directory::new(bundles.dir())
            .map_err(|_| Error::Missing { what: "directory of bundles", path: bundles.dir().to_owned() })?;
        let rules = config.boot_rules();
        let rules = Arc::new(rules.map_err(|message| Error::Config { path: CONFIG_NAME.into(), message })?);
        let ipxe = ipxe_in(&config.paths.boot);
        let library = Arc::new(BootLibrary {
            db: db.clone(),
            presence: Arc::clone(&presence),
            watched: watched(&served, config)?,
            told: Mutex::default(),
            menus: Menus::load(
                &config.paths.pxe,
                &config.site.name,
                config.limits.menu_seconds,
                rules.entries(),
                ipxe,
            )?,
            ipxe: ipxe.is_some(),
            rules: Arc::clone(&rules),
            extra: Directory::new(&config.paths.extra).ok(),
            boot: boot_directory(config),
            shims: Shims::load(&config.paths.boot.join("pxe")),
            images,
            store: Arc::clone(&store),
            bundles: bundle_files,
            uki: signed_image(config),
            site_name: config.site.name.clone(),
            root_key: keys.root.to_text(),
            ca_pem: certificate.authority_pem().to_owned(),
            servers: servers.clone(),
            http_port: servers.first().map_or(config.ports.http, |server| server.http_port),
            token_minutes: config.limits.token_minutes,
        });
        let catalog = Arc::new(Images::new(config.paths.images.clone(), store, describe));
        let app = Arc::new(App {
            db: db.clone(),
            images: Arc::clone(&catalog),
            bundles,
            captures: Arc::clone(&captures),
            names: config.paths.names.clone(),
            signer: keys.signer,
            vault,
            servers: servers.clone(),
            limits: config.limits,
            journal,
            rules,
        });
        let (stop, stopping) = watch::channel(false);
        let (polite, endless) = (JoinSet::new(), JoinSet::new());
        let mut server = Self { servers, db, captures: Arc::clone(&captures), stop, polite, endless };
        server.start_boot_services(&served, config, &library, &presence, &quirks).await?;
        let acceptor = tls::acceptor(Arc::clone(&certificate))?;
        let router = api::router(app);
        let mut content = server.start_ipv6(&served, config, &library, &presence, &quirks).await?;
        for Listeners { http, https, api, .. } in listeners {
            content.push((http, https));
            server.polite.spawn(tls::serve(api, acceptor.clone(), router.clone(), stopping.clone()));
        }
        let service = |listener| {
            let library = Arc::clone(&library) as Arc<dyn Library>;
            http::Service::new(listener, library, Arc::clone(&presence))
        };
        for (http, https) in content {
            server.polite.spawn(service(http).run(stopping.clone()));
            if let (Some(https), Some(firmware)) = (https, &firmware) {
                let service = service(https).covered(Arc::clone(firmware) as Arc<dyn http::Cover>);
                server.polite.spawn(service.run(stopping.clone()));
            }
        }
        server.polite.spawn(keep_notes(server.db.clone(), queue, stopping));
        server.endless.spawn(renew(certificate, firmware));
        server.endless.spawn(watch_boots(boots));
        server.endless.spawn(watch_images(catalog, captures));
        for address in &server.servers {
            tracing::info!(content = address.content(), api = address.api(), "serving");
        }
        tracing::info!("ready: every service is listening");
        Ok(server)
    }

    /// URLs of the API, one for each address served.
    pub fn api_urls(&self) -> Vec<String> {
        self.servers.iter().map(ServerAddress::api).collect()
    }

    /// URLs of boot files and images.
    pub fn content_urls(&self) -> Vec<String> {
        self.servers.iter().map(ServerAddress::content).collect()
    }

    /// Stops: no new requests, running ones end, the database is closed.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.endless.abort_all();
        let ended = async { while self.polite.join_next().await.is_some() {} };
        if timeout(GOODBYE, ended).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        self.captures.close().await;
        self.db.close().await;
    }

    async fn start_boot_services(
        &mut self,
        served: &[Served],
        config: &Config,
        library: &Arc<BootLibrary>,
        presence: &Arc<Presence>,
        quirks: &Arc<Quirks>,
    ) -> Result<(), Error> {
        let kept = db::leases::list(&mut *self.db.read().await?).await?;
        // Machines that were booting when the server went down are still who they were.
        for lease in kept.iter().filter(|lease| lease.state == LeaseState::Bound) {
            if let (Some(mac), true) = (lease.hardware.mac(), lease.until > now()) {
                presence.saw(lease.address.into(), Seen { mac, uuid: None });
            }
        }
        let (sender, queue) = mpsc::channel(LEASE_QUEUE);
        let leases = Arc::new(Leases::new(LeaseTable::import(kept), LeaseQueue(sender)));
        let loaders = Loaders::find(&config.paths.boot);
        self.polite.spawn(keep_leases(self.db.clone(), queue, self.stop.subscribe()));
        for (served, address) in served.iter().zip(self.servers.clone()) {
            let files: Arc<dyn Library> = Arc::clone(library) as Arc<dyn Library>;
            let local = SocketAddr::new(served.interface.address.into(), config.ports.tftp);
            let tftp = TftpService::open(local, files, Arc::clone(presence), tftp_options(quirks))?;
            self.endless.spawn(tftp.run());
            self.advertise(served, config, &address);
            self.answer_solicitations(served)?;
            if let Some(dhcp) = served.dhcp(config)? {
                let interface = served.interface.clone();
                tracing::info!(interface = interface.name, mode = ?served.config.dhcp, "DHCP");
                let chain = config.boot.chain;
                let policy = Arc::new(SitePolicy {
                    table: boot_table(&address.content(), &firmware_url(config, &address), chain, loaders),
                    rules: Arc::clone(&library.rules),
                    quirks: Arc::clone(quirks),
                    here: Some(interface.address),
                    content: address.content(),
                    ipxe: ipxe_in(&config.paths.boot),
                });
                let (leases, presence) = (Arc::clone(&leases), Arc::clone(presence));
                let service = DhcpService::open(interface, dhcp, policy, leases, presence)?;
                self.endless.spawn(service.run());
            }
        }
        Ok(())
    }
}

impl Server {
    /// Lets payloads find the server that were not booted by it. Those that were know its addresses, so that the service
    /// runs without.
    fn advertise(&mut self, served: &Served, config: &Config, address: &ServerAddress) {
        let advert = Advert {
            site: config.site.name.clone(),
            address: served.interface.address,
            api_port: address.api_port,
            content_port: address.http_port,
        };
        match dnssd::Service::open(served.interface.clone(), advert) {
            Ok(service) => drop(self.endless.spawn(service.run())),
            Err(error) => {
                tracing::warn!(%error, "boot media whose list of addresses is out of date will not find this server");
            }
        }
    }

    /// Router advertisements, whatever is done about IPv4: beside a DHCP service of ours they spare iPXE its wait, and with IPv6 they
    /// say that addresses are to be had.
    fn answer_solicitations(&mut self, served: &Served) -> Result<(), Error> {
        let managed = served.ipv6()?.map(|side| Managed {
            address: side.address,
            prefix_len: side.prefix_len,
            lifetime_seconds: dhcp6::LIFETIME_SECONDS,
        });
        if managed.is_none() && (served.config.dhcp == Dhcp::Off || served.interface.loopback) {
            return Ok(());
        }
        match RouterService::open(served.interface.clone(), managed) {
            Ok(service) => drop(self.endless.spawn(service.run())),
            Err(error) if managed.is_some() => return Err(error.into()),
            // Only a saving of time; a machine without IPv6 boots as well.
            Err(error) => tracing::debug!(%error, "no router advertisements"),
        }
        Ok(())
    }

    /// DHCPv6 and TFTP of the interfaces that serve IPv6; gives their listeners of HTTP, and of HTTPS for firmware.
    async fn start_ipv6(
        &mut self,
        served: &[Served],
        config: &Config,
        library: &Arc<BootLibrary>,
        presence: &Arc<Presence>,
        quirks: &Arc<Quirks>,
    ) -> Result<Vec<(TcpListener, Option<TcpListener>)>, Error> {
        let mut listeners = Vec::new();
        for served in served {
            let Some(side) = served.ipv6()? else { continue };
            let address = IpAddr::V6(side.address);
            let files: Arc<dyn Library> = Arc::clone(library) as Arc<dyn Library>;
            let local = SocketAddr::new(address, config.ports.tftp);
            let tftp = TftpService::open(local, files, Arc::clone(presence), tftp_options(quirks))?;
            self.endless.spawn(tftp.run());
            let http_port = library.http_port;
            let http = http::bind(SocketAddr::new(address, http_port)).await?;
            listeners.push((http, listen_for_firmware(address, config).await?));
            let side_address = ServerAddress { address, api_port: 0, http_port };
            let content = side_address.content();
            tracing::info!(interface = side.name, content, "DHCPv6");
            let (chain, loaders) = (config.boot.chain, Loaders::find(&config.paths.boot));
            let policy = Arc::new(SitePolicy {
                table: boot_table(&content, &firmware_url(config, &side_address), chain, loaders),
                rules: Arc::clone(&library.rules),
                // What a name stands in, and phases, are matters of IPv4.
                quirks: Arc::default(),
                here: None,
                content: content.clone(),
                ipxe: ipxe_in(&config.paths.boot),
            });
            let service = dhcp6::Service::open(side, policy, Arc::clone(presence))?;
            self.endless.spawn(service.run());
        }
        Ok(listeners)
    }
}

fn tftp_options(quirks: &Arc<Quirks>) -> TftpOptions {
    let blocks: Arc<dyn BlockLimits> = Arc::clone(quirks) as Arc<dyn BlockLimits>;
    TftpOptions { blocks: Some(blocks), ..TftpOptions::default() }
}

async fn listen(address: IpAddr, config: &Config) -> Result<Listeners, Error> {
    let http = http::bind(SocketAddr::new(address, config.ports.http)).await?;
    let https = listen_for_firmware(address, config).await?;
    let local = SocketAddr::new(address, config.ports.api);
    let refused = |source| Error::Boot(gravure_bootd::Error::listen("API", local, source));
    let api = TcpListener::bind(local).await.map_err(refused)?;
    let (http_port, api_port) = match (http.local_addr(), api.local_addr()) {
        (Ok(http), Ok(api)) => (http.port(), api.port()),
        (Err(source), _) | (_, Err(source)) => return Err(refused(source)),
    };
    Ok(Listeners { http, https, api, address: ServerAddress { address, api_port, http_port } })
}

/// The networks whose machines take their addresses before our eyes.
fn watched(served: &[Served], config: &Config) -> Result<Watched, Error> {
    let mut watched = Watched::default();
    for served in served {
        if let Some(dhcp) = served.dhcp(config)? {
            watched.networks.extend(Network::new(served.interface.address, served.interface.prefix_len));
            if let DhcpMode::Full(full) = dhcp.mode {
                watched.networks.extend(full.subnets.iter().map(|subnet| subnet.network));
            }
        }
        watched.prefixes.extend(served.ipv6()?.map(|side| side.address));
    }
    Ok(watched)
}

/// The listener of HTTPS at `address`, where firmware fetches by it.
async fn listen_for_firmware(address: IpAddr, config: &Config) -> Result<Option<TcpListener>, Error> {
    Ok(match config.boot.https {
        true => Some(http::bind(SocketAddr::new(address, config.ports.https)).await?),
        false => None,
    })
}

fn certificate_names(
    config: &Config,
    servers: &[ServerAddress],
    served: &[Served],
) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    for served in served {
        names.extend(served.ipv6()?.map(|side| side.address.to_string()));
    }
    names.extend(config.site.names.iter().cloned());
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    names.sort();
    names.dedup();
    Ok(names)
}

/// TLS for firmware, with an authority made on first use.
fn firmware_tls(config: &Config, names: &[String]) -> Result<Option<Arc<FirmwareTls>>, Error> {
    if !config.boot.https {
        return Ok(None);
    }
    let files = KeyFiles::in_dir(&config.paths.keys);
    tls::ensure_authority(&files, &config.site.name)?;
    Ok(Some(Arc::new(FirmwareTls::new(&files, names.to_vec())?)))
}

/// Where firmware fetches the signed image from a server at `server`.
pub(crate) fn firmware_url_at(config: &Config, server: Ipv4Addr) -> String {
    let (api_port, http_port) = (config.ports.api, config.ports.http);
    firmware_url(config, &ServerAddress { address: server.into(), api_port, http_port })
}

/// The names and addresses in the certificate of a server of this site at `served`.
pub(crate) fn names_of(config: &Config, served: &[Served]) -> Result<Vec<String>, Error> {
    let at = |served: &Served| {
        let (api_port, http_port) = (config.ports.api, config.ports.http);
        ServerAddress { address: served.interface.address.into(), api_port, http_port }
    };
    let servers: Vec<ServerAddress> = served.iter().map(at).collect();
    certificate_names(config, &servers, served)
}

/// Where firmware fetches the signed image.
fn firmware_url(config: &Config, address: &ServerAddress) -> String {
    match (config.boot.https, config.ports.https) {
        (false, _) => address.content(),
        (true, 443) => match address.address {
            IpAddr::V4(address) => format!("https://{address}"),
            IpAddr::V6(address) => format!("https://[{address}]"),
        },
        (true, port) => format!("https://{}", SocketAddr::new(address.address, port)),
    }
}

fn signed_image(config: &Config) -> Option<Directory> {
    let path = config.paths.uki.join(crate::secure_boot::IMAGE);
    if config.boot.chain != Chain::Grub && !path.is_file() {
        tracing::error!(
            path = %path.display(),
            "the signed image is missing: UEFI machines cannot boot; `gravure init --uki` makes it"
        );
    }
    Directory::new(&config.paths.uki).ok()
}

fn boot_directory(config: &Config) -> Option<Directory> {
    let path = &config.paths.boot;
    let missing: Vec<&str> = BOOT_FILES.into_iter().filter(|name| !path.join(name).is_file()).collect();
    if !missing.is_empty() {
        tracing::warn!(
            directory = %path.display(),
            missing = missing.join(" "),
            "boot files are missing: machines cannot boot; `cargo xtask payload` makes them"
        );
    }
    Directory::new(path).ok()
}

/// Leases are kept by the wall clock.
fn now() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Waits until there is something to write and a little longer, so that a hundred machines that are switched on together cost a few
/// transactions and not hundreds. `None` when the queue is empty and the server stops.
async fn gather<T>(queue: &mut mpsc::Receiver<T>, stop: &mut watch::Receiver<bool>) -> Option<Vec<T>> {
    // What is in the queue when the server stops is still written.
    let first = tokio::select! {
        biased;
        first = queue.recv() => first,
        _ = stop.wait_for(|stop| *stop) => None,
    }?;
    tokio::select! {
        () = tokio::time::sleep(GATHER) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    let mut all = vec![first];
    while let Ok(more) = queue.try_recv() {
        all.push(more);
    }
    Some(all)
}

async fn keep_leases(db: Db, mut queue: mpsc::Receiver<Vec<LeaseEntry>>, mut stop: watch::Receiver<bool>) {
    while let Some(changed) = gather(&mut queue, &mut stop).await {
        if let Err(error) = write_leases(&db, &changed.concat()).await {
            tracing::error!(%error, "leases could not be kept");
        }
    }
}

async fn write_leases(db: &Db, changed: &[LeaseEntry]) -> Result<(), db::DbError> {
    let mut transaction = db.write().await?;
    db::leases::keep(&mut transaction, changed).await?;
    Ok(transaction.commit().await?)
}

async fn keep_notes(db: Db, mut queue: mpsc::Receiver<JournalLine>, mut stop: watch::Receiver<bool>) {
    let mut pruned: Option<Instant> = None;
    while let Some(lines) = gather(&mut queue, &mut stop).await {
        let prune = pruned.is_none_or(|at| at.elapsed() > PRUNE_EVERY);
        if let Err(error) = write_notes(&db, &lines, prune).await {
            tracing::error!(%error, "the boot journal could not be written");
        } else if prune {
            pruned = Some(Instant::now());
        }
    }
}

async fn write_notes(db: &Db, lines: &[JournalLine], prune: bool) -> Result<(), db::DbError> {
    let mut transaction = db.write().await?;
    db::journal::add(&mut transaction, lines).await?;
    if prune {
        let age = i64::try_from(NOTE_AGE.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp(Timestamp::now().0.saturating_sub(age));
        db::journal::prune(&mut transaction, before, MAX_NOTES).await?;
    }
    Ok(transaction.commit().await?)
}

async fn renew(certificate: Arc<ServerCertificate>, firmware: Option<Arc<FirmwareTls>>) {
    loop {
        tokio::time::sleep(CERTIFICATE_CHECK).await;
        let now = SystemTime::now();
        let renewed = firmware.as_ref().map_or(Ok(false), |firmware| firmware.renew_if_due(now));
        match certificate.renew_if_due(now).and_then(|one| Ok(one | renewed?)) {
            Ok(true) => tracing::info!("the server's certificate was renewed"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the server's certificate could not be renewed"),
        }
    }
}

async fn watch_boots(journal: Arc<Journal>) {
    loop {
        tokio::time::sleep(BOOT_CHECK).await;
        journal.look_after();
    }
}

async fn watch_images(images: Arc<Images>, captures: Arc<Captures>) {
    loop {
        captures.end_idle();
        images.describe_new().await;
        tokio::time::sleep(IMAGE_CHECK).await;
    }
}
