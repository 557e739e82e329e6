//! A site in a temporary directory, its server on free ports of the loopback, and clients for it.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]
#![allow(unreachable_pub, reason = "helpers of tests")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_model::api::{EventBatch, Hello, PlanAnswer, Welcome};
use gravure_model::descriptor::{
    DESCRIPTOR_VERSION, DescribedImage, Digest, ImageDescriptor, RANGE_BYTES, SystemKind,
};
use gravure_model::event::{Event, Known};
use gravure_model::identity::Mac;
use gravure_model::inventory::{Disk, FirmwareMode, INVENTORY_VERSION, Inventory, Nic};
use gravure_model::site::{SITE_PATH, SiteSettings};
use gravure_model::{Secret, Timestamp};
use gravure_server::{CONFIG_NAME, Client, ClientSettings, Config, InitOptions, Server, init};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// A site with a running server.
pub struct TestSite {
    pub dir: PathBuf,
    _temporary: tempfile::TempDir,
    server: Option<Server>,
    runtime: tokio::runtime::Runtime,
    pub api: String,
    pub content: String,
    pub settings: ClientSettings,
}

impl TestSite {
    /// A new site with the image `test.wim`.
    pub fn new() -> Self {
        Self::with_database(None)
    }

    pub fn with_database(database: Option<&str>) -> Self {
        Self::with(|text, _| match database {
            Some(url) => text.replace("\"db/gravure.sqlite3\"", &format!("{url:?}")),
            None => text,
        })
    }

    /// A new site whose configuration `change` makes of the usual one, and of the site's directory.
    pub fn with(change: impl FnOnce(String, &Path) -> String) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("site");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options =
            InitOptions { dir: dir.clone(), listen: Some(Ipv4Addr::LOCALHOST), ..InitOptions::default() };
        runtime.block_on(init(&options)).unwrap();
        std::fs::write(dir.join("images/test.wim"), vec![7; 100_000]).unwrap();
        let path = dir.join(CONFIG_NAME);
        let mut text = std::fs::read_to_string(&path).unwrap();
        for port in ["http = 80", "api = 8443", "tftp = 69"] {
            let name = port.split(' ').next().unwrap();
            assert!(text.contains(port), "{text}");
            text = text.replace(port, &format!("{name} = 0"));
        }
        std::fs::write(&path, change(text, &dir)).unwrap();
        let settings = ClientSettings::of_site(&dir).unwrap();
        let mut site = Self {
            dir,
            _temporary: temporary,
            server: None,
            runtime,
            api: String::new(),
            content: String::new(),
            settings,
        };
        site.start();
        site
    }

    pub fn start(&mut self) {
        self.try_start().unwrap();
    }

    /// The same; what keeps it from starting, in words.
    pub fn try_start(&mut self) -> Result<(), String> {
        let config = Config::load(&self.dir.join(CONFIG_NAME)).unwrap();
        let server = self.runtime.block_on(Server::start(&config, Arc::new(describe)));
        let server = server.map_err(|error| error.to_string())?;
        self.api = server.api_urls().remove(0);
        self.content = server.content_urls().remove(0);
        self.settings.server = self.api.clone();
        self.server = Some(server);
        Ok(())
    }

    pub fn stop(&mut self) {
        let server = self.server.take().unwrap();
        self.runtime.block_on(server.stop());
    }

    pub fn operator(&self) -> Client {
        Client::new(&self.settings).unwrap()
    }

    pub fn ca_pem(&self) -> Vec<u8> {
        std::fs::read(&self.settings.ca).unwrap()
    }

    /// Fetches a boot file as a loader does.
    pub fn fetch(&self, path: &str) -> Vec<u8> {
        let mut answer = ureq::get(format!("{}/{path}", self.content)).call().unwrap();
        answer.body_mut().read_to_vec().unwrap()
    }

    /// Status and length of a boot file, as firmware asks for them before it fetches.
    pub fn head(&self, path: &str) -> (u16, u64) {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let answer = agent.head(format!("{}/{path}", self.content)).call().unwrap();
        let len = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        (answer.status().as_u16(), len)
    }

    /// Status of a boot file that is fetched.
    pub fn status(&self, path: &str) -> u16 {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        agent.get(format!("{}/{path}", self.content)).call().unwrap().status().as_u16()
    }

    /// The token of a per-boot part, if it has one.
    pub fn boot_token(&self, machine: &Machine) -> Option<Secret> {
        let part = self.fetch(&format!("boot/token.cpio?{}", machine.query()));
        file_in(&part, "etc/gravure/token").map(|bytes| Secret::new(String::from_utf8(bytes).unwrap()))
    }

    /// The settings of the per-site part.
    pub fn site_settings(&self) -> SiteSettings {
        serde_json::from_slice(&file_in(&self.fetch("boot/site.cpio"), SITE_PATH).unwrap()).unwrap()
    }
}

impl Drop for TestSite {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.stop();
        }
    }
}

/// The content of a file in a newc archive.
pub fn file_in(archive: &[u8], wanted: &str) -> Option<Vec<u8>> {
    let mut pos = 0;
    loop {
        let field = |number: usize| {
            let from = pos + 6 + number * 8;
            usize::from_str_radix(std::str::from_utf8(&archive[from..from + 8]).unwrap(), 16).unwrap()
        };
        let (size, name_len) = (field(6), field(11));
        let name = std::str::from_utf8(&archive[pos + 110..pos + 110 + name_len - 1]).unwrap();
        let start = (pos + 110 + name_len).next_multiple_of(4);
        if name == "TRAILER!!!" {
            return None;
        }
        if name == wanted {
            return Some(archive[start..start + size].to_vec());
        }
        pos = (start + size).next_multiple_of(4);
    }
}

/// Describes a file as one range; what a WIM holds is not this test's matter. Images of the store are described as they are, but for the one
/// that stands for a disk with Windows.
fn describe(path: &Path) -> Result<ImageDescriptor, String> {
    let is_disk = path.file_name().is_some_and(|name| name == "windows.gim");
    if !is_disk && path.extension().is_some_and(|extension| extension == "gim") {
        let described =
            gravure_imaging::describe(path, &gravure_model::Ctl::default(), &gravure_model::event::Silent);
        return described.map_err(|error| error.to_string());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.first() != Some(&7) {
        return Err(format!("WIM header at 0x0: expected 7, found {:?}", bytes.first()));
    }
    let is_windows = is_disk || path.file_name().is_some_and(|name| name == "windows.wim");
    let ranges =
        bytes.chunks(RANGE_BYTES as usize).map(|range| Digest(*blake3::hash(range).as_bytes())).collect();
    Ok(ImageDescriptor {
        version: DESCRIPTOR_VERSION,
        format: if is_disk { "gim" } else { "wim" }.into(),
        size_bytes: bytes.len() as u64,
        range_bytes: RANGE_BYTES,
        ranges,
        tables: Digest([0; 32]),
        contents_checked: true,
        images: vec![DescribedImage {
            name: "test".into(),
            system: if is_windows { SystemKind::Windows } else { SystemKind::Linux },
            file_count: 10,
            directory_count: 2,
            content_bytes: 1 << 20,
            windows: None,
            least_disk_bytes: None,
        }],
    })
}

/// A machine under test.
pub struct Machine {
    pub number: u8,
}

impl Machine {
    pub fn mac(&self) -> Mac {
        Mac([2, 0, 0, 0, 0, self.number])
    }

    pub fn uuid(&self) -> String {
        format!("12345678-0000-0000-0000-0000000000{:02x}", self.number)
    }

    pub fn query(&self) -> String {
        format!("mac={}&uuid={}", self.mac(), self.uuid())
    }

    pub fn inventory(&self) -> Inventory {
        let mut inventory = Inventory { version: INVENTORY_VERSION, ..Inventory::default() };
        inventory.firmware.mode = FirmwareMode::Uefi;
        inventory.smbios.system.uuid = Some(self.uuid());
        inventory.smbios.system.serial = Some(format!("SN{}", self.number));
        inventory.nics = vec![Nic {
            name: "eth0".into(),
            mac: self.mac(),
            driver: None,
            carrier: Some(true),
            speed_mbits: None,
            pci_address: None,
        }];
        inventory.disks = vec![Disk {
            name: "vda".into(),
            serial: Some("D1".into()),
            size_bytes: 8 << 30,
            logical_sector_bytes: 512,
            physical_sector_bytes: 512,
            ..Disk::default()
        }];
        inventory
    }
}

/// One boot of a machine: a TLS key and a nonce.
pub struct Boot {
    agent: ureq::Agent,
    pub nonce: String,
}

impl Boot {
    pub fn new(ca_pem: &[u8]) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
        let chain = [Certificate::from_der(certificate.der()).to_owned()];
        let key = PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
        Self { agent: agent(ca_pem, Some(ClientCert::new_with_certs(&chain, key))), nonce: nonce() }
    }

    pub fn hello(
        &self,
        site: &TestSite,
        machine: &Machine,
        token: Option<Secret>,
    ) -> Result<Welcome, Refusal> {
        self.hello_with(site, machine, token, |_| {})
    }

    /// The same with an inventory that `change` has its way with.
    pub fn hello_with(
        &self,
        site: &TestSite,
        machine: &Machine,
        token: Option<Secret>,
        change: impl FnOnce(&mut Inventory),
    ) -> Result<Welcome, Refusal> {
        let mut inventory = machine.inventory();
        change(&mut inventory);
        let payload_version = "test".to_owned();
        let hello = Hello { nonce: self.nonce.clone(), token, payload_version, inventory };
        self.post(site, "/v1/payload/hello", &hello)
    }

    pub fn plan(&self, site: &TestSite) -> Result<PlanAnswer, Refusal> {
        self.post(site, "/v1/payload/plan", &())
    }

    pub fn events(&self, site: &TestSite, plan: &str, events: &[(u64, Known)]) -> Result<(), Refusal> {
        let events = events.iter().map(|(sequence, known)| Event {
            sequence: *sequence,
            at: Timestamp::now(),
            kind: known.clone().into(),
        });
        let batch = EventBatch { plan: Some(plan.to_owned()), events: events.collect() };
        send(&self.agent, site, "/v1/payload/events", &batch).map(drop)
    }

    /// Puts bytes somewhere; the status says what came of it.
    pub fn put(&self, site: &TestSite, path: &str, body: &[u8]) -> Result<(), Refusal> {
        let answer = self.agent.put(format!("{}{path}", site.api)).send(body);
        let mut answer = answer.map_err(|error| Refusal { status: 0, text: error.to_string() })?;
        let (status, text) = (answer.status(), answer.body_mut().read_to_string().unwrap());
        if status.is_success() { Ok(()) } else { Err(Refusal { status: status.as_u16(), text }) }
    }

    pub fn post<T: DeserializeOwned>(
        &self,
        site: &TestSite,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Refusal> {
        send(&self.agent, site, path, body).map(|text| serde_json::from_str(&text).unwrap())
    }
}

/// An answer that is no success, or a failed connection (status 0).
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub text: String,
}

pub fn send(
    agent: &ureq::Agent,
    site: &TestSite,
    path: &str,
    body: &impl Serialize,
) -> Result<String, Refusal> {
    let answer = agent.post(format!("{}{path}", site.api)).send_json(body);
    let mut answer = answer.map_err(|error| Refusal { status: 0, text: error.to_string() })?;
    let text = answer.body_mut().read_to_string().unwrap();
    if answer.status().is_success() {
        Ok(text)
    } else {
        Err(Refusal { status: answer.status().as_u16(), text })
    }
}

pub fn agent(ca_pem: &[u8], client: Option<ClientCert>) -> ureq::Agent {
    let ca = Certificate::from_pem(ca_pem).unwrap();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[ca])).client_cert(client).build();
    ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false).build().new_agent()
}

fn nonce() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
