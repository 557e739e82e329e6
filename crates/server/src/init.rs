//! `gravure init`: makes the directory of a new site. Nothing that is there is ever overwritten.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use gravure_model::Secret;

use crate::Error;
use crate::api::ALL_SCOPES;
use crate::client::{CLIENT_NAME, ClientSettings};
use crate::config::{CONFIG_NAME, Chain, Config, Dhcp, InterfaceConfig, starting_text};
use crate::db::{self, ApiToken, Db, DbError};
use crate::keys::{KeyFiles, Keys, write_private, write_public};
use crate::network;
use crate::sbat;
use crate::secret::{hash_of, new_secret};
use crate::secure_boot::{self, SignedImage};

/// The systemd unit in a site's directory.
const UNIT_NAME: &str = "gravure.service";
const UNIT: &str = include_str!("../../../pxe/gravure.service");

/// What `gravure init` is asked for.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// Directory to make.
    pub dir: PathBuf,
    /// Address to serve on.
    pub listen: Option<Ipv4Addr>,
    /// Interface to serve on.
    pub interface: Option<String>,
    /// Name of the site.
    pub name: Option<String>,
    /// DHCP service; beside another server when `None`.
    pub dhcp: Option<Dhcp>,
    /// Addresses to give, for full DHCP.
    pub pool: Option<String>,
    /// Network boot over IPv6 too.
    pub ipv6: bool,
    /// Where kernel, initramfs and loaders are.
    pub boot_dir: Option<PathBuf>,
    /// One image of kernel, initramfs and command line, signed by a key of the site's own. In the directory of a site it
    /// is made anew.
    pub uki: bool,
}

/// A site that was made.
#[derive(Debug)]
pub struct NewSite {
    /// Its directory.
    pub dir: PathBuf,
    /// The private key that belongs off this machine.
    pub root_key: PathBuf,
    /// The first operator's token; kept in `client.toml`, shown once.
    pub token: Secret,
    /// URL of the API.
    pub server: String,
    /// The signed image, if one was made.
    pub signed: Option<SignedImage>,
}

/// Makes a site.
pub async fn init(options: &InitOptions) -> Result<NewSite, Error> {
    // Everything that can be refused is, before anything is written.
    let mut interface = match (options.listen, &options.interface) {
        (None, None) => network::only()?,
        (address, name) => InterfaceConfig { address, name: name.clone(), ..InterfaceConfig::default() },
    };
    interface.dhcp = options.dhcp.unwrap_or_default();
    interface.pool = options.pool.clone();
    interface.ipv6 = options.ipv6;
    check_pool(&interface)?;
    let served = network::resolve(std::slice::from_ref(&interface))?;
    let address = served.first().map_or(Ipv4Addr::LOCALHOST, |served| served.interface.address);
    if address.is_loopback() {
        interface.dhcp = Dhcp::Off;
    }
    let boot_dir = options.boot_dir.as_deref().map(absolute).transpose()?;
    let dir = absolute(&options.dir)?;
    let boot = boot_dir.clone().unwrap_or_else(|| dir.join("boot"));
    match options.uki {
        true => secure_boot::check(&boot)?,
        false => sbat::behind_shims(&boot, &boot.join("pxe/grubx64.efi"))?,
    }
    if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) || dir.is_file() {
        return Err(Error::Exists { path: dir });
    }
    for dir in [&dir, &dir.join("images"), &dir.join("store"), &dir.join("boot"), &dir.join("db")] {
        fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
    }
    let files = KeyFiles::in_dir(&dir.join("keys"));
    Keys::create(&files)?;
    // Only the server's user reads keys and database, whose rows say who may do what.
    for private in ["keys", "db"] {
        let private = dir.join(private);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&private, mode).map_err(|source| Error::io("protect", &private, source))?;
    }
    let name = options.name.as_deref().unwrap_or("gravure");
    let chain = if options.uki { Chain::ShimUki } else { Chain::Grub };
    write_public(&dir.join(CONFIG_NAME), &starting_text(name, &[interface], boot_dir.as_deref(), chain))?;
    write_public(&dir.join(UNIT_NAME), &unit(name, &dir)?)?;
    let config = Config::load(&dir.join(CONFIG_NAME))?;
    let token = new_secret()?;
    first_operator(&config, &token).await?;
    let server = format!("https://{address}:{}", config.ports.api);
    let settings = ClientSettings { server: server.clone(), ca: files.authority(), token: token.clone() };
    write_private(&dir.join(CLIENT_NAME), &settings.to_text())?;
    let signed = if options.uki { Some(secure_boot::build(&config)?) } else { None };
    Ok(NewSite { root_key: files.root(), dir, token, server, signed })
}

/// The systemd unit of a site in `dir`, started by this program.
fn unit(name: &str, dir: &Path) -> Result<String, Error> {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/gravure"));
    // What a unit file would take for its own: specifiers and the end of a line.
    let plain = |text: &str| text.replace('%', "%%").replace(char::is_control, " ");
    let mut environment = minijinja::Environment::new();
    environment.set_keep_trailing_newline(true);
    let values = minijinja::context! {
        name => plain(name),
        dir => plain(&dir.display().to_string()),
        program => plain(&program.display().to_string()),
    };
    Ok(environment.render_str(UNIT, values)?)
}

fn check_pool(interface: &InterfaceConfig) -> Result<(), Error> {
    match (interface.dhcp, &interface.pool) {
        (Dhcp::Full, None) => {
            Err(Error::Interface("full DHCP needs addresses to give: --pool FIRST-LAST".into()))
        }
        (Dhcp::Proxy | Dhcp::Off, Some(_)) => {
            Err(Error::Interface("a pool of addresses is given, but only --dhcp full gives addresses".into()))
        }
        _ => Ok(()),
    }
}

async fn first_operator(config: &Config, token: &Secret) -> Result<(), Error> {
    let db = Db::open(&config.paths.database).await?;
    let mut transaction = db.write().await?;
    let operator = ApiToken { name: "admin".into(), scopes: ALL_SCOPES.join(" ") };
    db::tokens::add_api_token(&mut transaction, &operator, &hash_of(token)).await?;
    let detail = format!("scopes {}", operator.scopes);
    db::audit::add(&mut transaction, "server", "api token made", &operator.name, &detail).await?;
    transaction.commit().await.map_err(DbError::from)?;
    db.close().await;
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::io("find", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_takes_the_unit() {
        let text = unit("100 % \n[Service]", Path::new("/srv/gravure")).unwrap();
        assert!(text.contains("Description=Gravure deployment server (100 %%  [Service])\n"), "{text}");
        assert!(text.contains("serve --config /srv/gravure/gravure.toml\n"), "{text}");
        let Some(mut analyze) = gravure_testkit::oracle("systemd-analyze") else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(UNIT_NAME);
        // Its user may not exist here.
        std::fs::write(&path, text.replace("User=gravure", "User=root")).unwrap();
        let output = analyze.args(["verify", "--man=no"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let ours = said.lines().filter(|line| line.contains(UNIT_NAME)).collect::<Vec<_>>();
        assert!(ours.is_empty(), "{ours:?}");
    }
}
