//! What the server put into the initramfs for its site and for this boot.

use std::path::Path;

use gravure_linux::sysfs;
use gravure_model::Secret;
use gravure_model::site::{SITE_PATH, SITE_VERSION, SiteSettings, TOKEN_PATH};
use gravure_trust::PublicKey;

use crate::files::{MAX_SETTINGS_BYTES, chain};

/// Longest token accepted.
const MAX_TOKEN_BYTES: u64 = 4096;

/// Site settings that were checked, and the token of this boot if there is one.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) site: SiteSettings,
    pub(super) root_key: PublicKey,
    pub(super) token: Option<Secret>,
}

impl Settings {
    /// Reads them below `root`.
    pub(super) fn load(root: &Path) -> Result<Self, String> {
        let path = root.join(SITE_PATH);
        let bytes = sysfs::read_bounded(&path, MAX_SETTINGS_BYTES).map_err(|error| chain(&error))?;
        let bad = |why: String| format!("{}: {why}", path.display());
        let site: SiteSettings = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        if site.version != SITE_VERSION {
            return Err(bad(format!("version {}, expected {SITE_VERSION}", site.version)));
        }
        if site.servers.is_empty() {
            return Err(bad("no server is named".to_owned()));
        }
        let root_key = PublicKey::from_text(&site.root_key).map_err(|error| bad(error.to_string()))?;
        let token = sysfs::read_bounded(&root.join(TOKEN_PATH), MAX_TOKEN_BYTES).ok();
        let token = token.and_then(|bytes| String::from_utf8(bytes).ok());
        let token = token.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Self { site, root_key, token: token.map(Secret::new) })
    }
}

#[cfg(test)]
mod tests {
    use gravure_model::Timestamp;
    use gravure_model::site::SiteServer;
    use gravure_trust::SigningKey;

    use super::*;

    fn site() -> SiteSettings {
        SiteSettings {
            version: SITE_VERSION,
            name: "lab".into(),
            root_key: SigningKey::generate().unwrap().public().to_text(),
            ca_pem: String::new(),
            servers: vec![SiteServer {
                api: "https://10.0.0.1:8443".into(),
                content: "http://10.0.0.1".into(),
            }],
            made: Timestamp(0),
        }
    }

    fn load(site: &SiteSettings, token: Option<&str>) -> Result<Settings, String> {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("etc/gravure")).unwrap();
        std::fs::write(temp.path().join(SITE_PATH), serde_json::to_vec(site).unwrap()).unwrap();
        if let Some(token) = token {
            std::fs::write(temp.path().join(TOKEN_PATH), token).unwrap();
        }
        Settings::load(temp.path())
    }

    #[test]
    fn a_token_is_optional_and_trimmed() {
        assert_eq!(load(&site(), None).unwrap().token, None);
        assert_eq!(load(&site(), Some(" \n")).unwrap().token, None);
        assert_eq!(load(&site(), Some("abc\n")).unwrap().token, Some(Secret::new("abc")));
    }

    #[test]
    fn says_what_is_wrong() {
        for (site, expected) in [
            (SiteSettings { version: 2, ..site() }, "version 2, expected 1"),
            (SiteSettings { servers: Vec::new(), ..site() }, "no server is named"),
            (SiteSettings { root_key: "12".into(), ..site() }, "64 hexadecimal digits"),
        ] {
            let error = load(&site, None).unwrap_err();
            assert!(error.contains(expected) && error.contains("site.json"), "{error}");
        }
        let temp = tempfile::tempdir().unwrap();
        assert!(Settings::load(temp.path()).unwrap_err().contains("site.json"));
    }
}
