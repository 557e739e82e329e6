//! What an answer file is to say: name, accounts, languages, commands. Read from TOML, checked, put into an answer file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gravure_inf::Arch;
use gravure_model::Secret;
use gravure_wim::{Element, XmlNode};
use serde::Deserialize;

use super::{AnswerFile, Pass, Position};
use crate::Error;
use crate::names::check_computer_name;

/// Settings of a machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AnswerSettings {
    /// Name of the machine, or `*` for one that Windows makes up.
    pub computer_name: Option<String>,
    /// Product key.
    pub product_key: Option<Secret>,
    /// Time zone by Windows' name, `W. Europe Standard Time`.
    pub time_zone: Option<String>,
    /// Whom the machine is registered to.
    pub owner: Option<String>,
    /// Organisation the machine is registered to.
    pub organization: Option<String>,
    /// Keyboards, `0407:00000407` or `de-DE`.
    pub input_locale: Option<String>,
    /// Language of programs without Unicode.
    pub system_locale: Option<String>,
    /// Language of Windows itself.
    pub ui_language: Option<String>,
    /// Formats of numbers and dates.
    pub user_locale: Option<String>,
    /// Password of the built-in administrator.
    pub administrator_password: Option<Secret>,
    /// Local accounts.
    pub account: Vec<Account>,
    /// The first-run experience.
    pub oobe: Oobe,
    /// Commands, in their order.
    pub command: Vec<Command>,
    /// Joining a domain.
    pub join: Option<Join>,
}

/// A local account.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Account {
    /// Name it logs on with.
    pub name: String,
    /// Password.
    pub password: Option<Secret>,
    /// Name for people.
    pub display_name: Option<String>,
    /// Groups, `Administrators` or `Users`.
    #[serde(default = "users")]
    pub groups: Vec<String>,
}

fn users() -> Vec<String> {
    vec!["Users".to_owned()]
}

/// The first-run experience.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Oobe {
    /// Leave its pages out: licence, registration, online accounts, wireless networks.
    pub skip: bool,
}

/// When and as whom a command runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Command {
    /// What runs.
    pub run: String,
    /// What it does, for people.
    #[serde(default)]
    pub description: String,
    /// In which pass; in `oobeSystem` it runs at the first logon, as that user.
    #[serde(default = "specialize")]
    pub pass: Pass,
}

fn specialize() -> Pass {
    Pass::Specialize
}

/// How a domain is joined.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Join {
    /// The blob of `djoin /provision` or `net offlinejoin provision`, base64. It holds the machine's password.
    pub offline_blob: Secret,
}

/// Longest account name (`UNLEN` is 256, local accounts have 20).
const MAX_ACCOUNT_NAME: usize = 20;

impl AnswerSettings {
    /// Reads settings in TOML.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let settings: Self = toml::from_str(text).map_err(|error| Error::Corrupt {
            path: "settings".to_owned(),
            expected: "settings of a machine".to_owned(),
            // The message alone: the rest of the error shows the text, and secrets stand in it.
            found: error.message().to_owned(),
        })?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks what Windows would refuse in the middle of its setup.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(name) = self.computer_name.as_deref().filter(|name| *name != "*") {
            check_computer_name(name)?;
        }
        for account in &self.account {
            let bad = |c: char| c.is_control() || "\"/\\[]:;|=,+*?<>@".contains(c);
            let name = account.name.as_str();
            let is_fine = (1..=MAX_ACCOUNT_NAME).contains(&name.chars().count())
                && !name.contains(bad)
                && !name.chars().all(|c| c == '.' || c == ' ');
            if !is_fine {
                return Err(Error::Invalid {
                    what: "account name".to_owned(),
                    expected: "1 to 20 characters without \" / \\ [ ] : ; | = , + * ? < > @".to_owned(),
                    found: format!("{name:?}"),
                });
            }
        }
        if let Some(join) = &self.join {
            let bare: String = join.offline_blob.reveal().chars().filter(|c| !c.is_whitespace()).collect();
            let blob = STANDARD.decode(bare.trim_end_matches('\0'));
            if blob.is_err() || bare.is_empty() {
                return Err(Error::Invalid {
                    what: "offline domain join".to_owned(),
                    expected: "a blob in base64".to_owned(),
                    found: "something else".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Whether they say anything.
    pub fn is_empty(&self) -> bool {
        let texts = [
            &self.computer_name,
            &self.time_zone,
            &self.owner,
            &self.organization,
            &self.input_locale,
            &self.system_locale,
            &self.ui_language,
            &self.user_locale,
        ];
        texts.iter().all(|text| text.is_none())
            && self.product_key.is_none()
            && self.administrator_password.is_none()
            && self.account.is_empty()
            && self.command.is_empty()
            && self.join.is_none()
            && !self.oobe.skip
    }

    /// Whether something in them must not stay on the disk.
    pub fn has_secrets(&self) -> bool {
        self.product_key.is_some()
            || self.administrator_password.is_some()
            || self.join.is_some()
            || self.account.iter().any(|account| account.password.is_some())
    }

    /// Puts them into `answers`, in place of what is said there of the same.
    pub fn put_into(&self, answers: &mut AnswerFile, arch: Arch) {
        let shell = "Microsoft-Windows-Shell-Setup";
        let set = |answers: &mut AnswerFile, pass, component: &str, name: &str, text: Option<&str>| {
            if let Some(text) = text {
                answers.component(pass, component, arch).set_text(name, text);
            }
        };
        let (specialize, oobe) = (Pass::Specialize, Pass::OobeSystem);
        set(answers, specialize, shell, "ComputerName", self.computer_name.as_deref());
        set(answers, specialize, shell, "ProductKey", self.product_key.as_ref().map(Secret::reveal));
        for pass in [specialize, oobe] {
            set(answers, pass, shell, "TimeZone", self.time_zone.as_deref());
            set(answers, pass, shell, "RegisteredOwner", self.owner.as_deref());
            set(answers, pass, shell, "RegisteredOrganization", self.organization.as_deref());
            let international = "Microsoft-Windows-International-Core";
            set(answers, pass, international, "InputLocale", self.input_locale.as_deref());
            set(answers, pass, international, "SystemLocale", self.system_locale.as_deref());
            set(answers, pass, international, "UILanguage", self.ui_language.as_deref());
            set(answers, pass, international, "UserLocale", self.user_locale.as_deref());
        }
        if let Some(join) = &self.join {
            let blob: String = join.offline_blob.reveal().chars().filter(|c| !c.is_whitespace()).collect();
            let component = answers.component(specialize, "Microsoft-Windows-UnattendedJoin", arch);
            // A join by name and password beside it would be tried too.
            component.remove("Identification");
            component.set_text("Identification/Provisioning/AccountData", blob.trim_end_matches('\0'));
        }
        self.put_accounts(answers, arch);
        if self.oobe.skip {
            let element = answers.component(oobe, shell, arch).make("OOBE");
            for name in [
                "HideEULAPage",
                "HideOEMRegistrationScreen",
                "HideOnlineAccountScreens",
                "HideWirelessSetupInOOBE",
            ] {
                element.set_text(name, "true");
            }
            element.set_text("ProtectYourPC", "3");
        }
        for command in &self.command {
            match command.pass {
                Pass::Specialize => {
                    answers.run_in_specialize(arch, &command.description, &command.run, Position::Last);
                }
                Pass::OobeSystem => {
                    let list = answers.component(oobe, shell, arch).make("FirstLogonCommands");
                    let mut item = Element::new("SynchronousCommand");
                    if !command.description.is_empty() {
                        item.set_text("Description", command.description.as_str());
                    }
                    item.set_text("CommandLine", command.run.as_str());
                    AnswerFile::add_ordered(list, item, Position::Last);
                }
            }
        }
    }

    fn put_accounts(&self, answers: &mut AnswerFile, arch: Arch) {
        let shell = "Microsoft-Windows-Shell-Setup";
        if let Some(password) = &self.administrator_password {
            let accounts = answers.component(Pass::OobeSystem, shell, arch).make("UserAccounts");
            put_password(accounts, "AdministratorPassword", password);
        }
        for account in &self.account {
            let list = answers.component(Pass::OobeSystem, shell, arch).make("UserAccounts/LocalAccounts");
            list.children.retain(|node| {
                !matches!(node, XmlNode::Element(known)
                    if known.child("Name").is_some_and(|name| name.text().eq_ignore_ascii_case(&account.name)))
            });
            let mut item = Element::new("LocalAccount");
            item.set_attribute("wcm:action", "add");
            item.set_text("Name", account.name.as_str());
            item.set_text("DisplayName", account.display_name.as_deref().unwrap_or(&account.name));
            item.set_text("Group", account.groups.join(";"));
            if let Some(password) = &account.password {
                put_password(&mut item, "Password", password);
            }
            list.children.push(XmlNode::Element(item));
        }
    }
}

/// Base64 of the password with the element's name behind it, in UTF-16: how Windows hides it from a glance. It is no
/// protection.
fn put_password(parent: &mut Element, name: &str, password: &Secret) {
    let text = format!("{}{name}", password.reveal());
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    parent.set_text(&format!("{name}/Value"), STANDARD.encode(bytes));
    parent.set_text(&format!("{name}/PlainText"), "false");
}
