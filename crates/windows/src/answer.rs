//! Answer files (`unattend.xml`): read, merged, written. What goes into them is in `settings`.
//!
//! A generalised image that is applied as it is runs the passes `specialize` and `oobeSystem` only. An element that is there
//! keeps its place; lists (commands, accounts) are continued.

pub(crate) mod kept;
mod settings;

pub use settings::{Account, AnswerSettings, Command, Join, Oobe};

use gravure_hive::Data;
use gravure_inf::Arch;
use gravure_wim::{Element, XmlNode};

use crate::Error;
use crate::image::{HiveFile, WindowsImage};
use crate::system::{SetupState, System};

/// Namespace of answer files.
const NAMESPACE: &str = "urn:schemas-microsoft-com:unattend";
/// Namespace of `wcm:action`.
const CONFIGURATION: &str = "http://schemas.microsoft.com/WMIConfig/2002/State";
/// Largest answer file read. Large ones have 200 KB.
pub(crate) const MAX_ANSWER_BYTES: u64 = 8 << 20;
/// What setup runs when it is done, as SYSTEM.
const SETUP_COMPLETE: &str = "Windows\\Setup\\Scripts\\SetupComplete.cmd";
/// Where ours goes.
pub const ANSWER_PATH: &str = "Windows\\Panther\\unattend.xml";
/// Where Windows looks, in its order, on the volume itself.
const SEARCHED: [&str; 3] =
    ["Windows\\Panther\\Unattend\\Unattend.xml", ANSWER_PATH, "Windows\\System32\\Sysprep\\Unattend.xml"];

/// When settings take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pass {
    /// Before the first logon screen, as SYSTEM: what makes the machine.
    Specialize,
    /// The first-run experience.
    OobeSystem,
}

impl Pass {
    fn as_str(self) -> &'static str {
        match self {
            Self::Specialize => "specialize",
            Self::OobeSystem => "oobeSystem",
        }
    }
}

/// An answer file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerFile {
    root: Element,
}

impl Default for AnswerFile {
    fn default() -> Self {
        let mut root = Element::new("unattend");
        root.set_attribute("xmlns", NAMESPACE);
        root.set_attribute("xmlns:wcm", CONFIGURATION);
        Self { root }
    }
}

impl AnswerFile {
    /// Reads one: UTF-8, or UTF-16 with its mark.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |expected: &str, found: String| Error::Corrupt {
            path: "answer file".to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let text = match bytes {
            [0xff, 0xfe, units @ ..] => {
                let (units, odd) = units.as_chunks::<2>();
                if !odd.is_empty() {
                    return Err(corrupt("whole UTF-16 units", format!("{} bytes", bytes.len())));
                }
                let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
                String::from_utf16(&units).map_err(|error| corrupt("UTF-16", error.to_string()))?
            }
            bytes => std::str::from_utf8(bytes)
                .map_err(|error| corrupt("UTF-8, or UTF-16 with its mark", error.to_string()))?
                .to_owned(),
        };
        let mut root =
            Element::from_text(&text).map_err(|error| corrupt("an XML document", error.to_string()))?;
        if root.name != "unattend" {
            return Err(corrupt("a root element <unattend>", format!("<{}>", root.name)));
        }
        // Blanks between elements are layout; it is made anew.
        drop_layout(&mut root);
        if root.attribute("xmlns:wcm").is_none() {
            root.set_attribute("xmlns:wcm", CONFIGURATION);
        }
        Ok(Self { root })
    }

    /// The document in UTF-8, with a line for each element.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut root = self.root.clone();
        lay_out(&mut root, 0);
        format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n{}\n", root.to_text()).into_bytes()
    }

    /// The root element.
    pub fn root(&self) -> &Element {
        &self.root
    }

    /// The settings of a component in a pass, made when they are not there.
    pub fn component(&mut self, pass: Pass, name: &str, arch: Arch) -> &mut Element {
        let settings = find_or_make(
            &mut self.root,
            |element| element.name == "settings" && element.attribute("pass") == Some(pass.as_str()),
            || {
                let mut element = Element::new("settings");
                element.set_attribute("pass", pass.as_str());
                element
            },
        );
        find_or_make(
            settings,
            |element| {
                element.name == "component"
                    && element.attribute("name").is_some_and(|found| found.eq_ignore_ascii_case(name))
                    && element
                        .attribute("processorArchitecture")
                        .is_some_and(|found| found.eq_ignore_ascii_case(arch.as_str()))
            },
            || {
                let mut element = Element::new("component");
                for (attribute, value) in [
                    ("name", name),
                    ("processorArchitecture", arch.as_str()),
                    ("publicKeyToken", "31bf3856ad364e35"),
                    ("language", "neutral"),
                    ("versionScope", "nonSxS"),
                ] {
                    element.set_attribute(attribute, value);
                }
                element
            },
        )
    }

    /// Appends to a list, e.g. `RunSynchronous` of `RunSynchronousCommand`: the new one gets the next `Order`, or the first
    /// with all others moved.
    pub(crate) fn add_ordered(list: &mut Element, mut item: Element, position: Position) {
        let name = item.name.clone();
        item.set_attribute("wcm:action", "add");
        let orders = list.children.iter_mut().filter_map(|node| match node {
            XmlNode::Element(element) if element.name == name => Some(element),
            _ => None,
        });
        let mut last = 0u32;
        for element in orders {
            let order: u32 =
                element.child("Order").and_then(|order| order.text().trim().parse().ok()).unwrap_or(0);
            last = last.max(order);
            if position == Position::First {
                element.set_text("Order", order.saturating_add(1).to_string());
            }
        }
        let order = if position == Position::First { 1 } else { last.saturating_add(1) };
        let mut numbered = Element::new("Order");
        numbered.children.push(XmlNode::Text(order.to_string()));
        item.children.insert(0, XmlNode::Element(numbered));
        match position {
            Position::First => list.children.insert(0, XmlNode::Element(item)),
            Position::Last => list.children.push(XmlNode::Element(item)),
        }
    }

    /// Adds a command that runs as SYSTEM while the machine is made. One that is there already is not added again.
    pub fn run_in_specialize(&mut self, arch: Arch, description: &str, command: &str, position: Position) {
        let component = self.component(Pass::Specialize, "Microsoft-Windows-Deployment", arch);
        let list = component.make("RunSynchronous");
        let same =
            |element: &Element| element.child("Path").is_some_and(|path| path.text().trim() == command);
        if list.elements().any(same) {
            return;
        }
        let mut item = Element::new("RunSynchronousCommand");
        if !description.is_empty() {
            item.set_text("Description", description);
        }
        item.set_text("Path", command);
        Self::add_ordered(list, item, position);
    }

    /// The commands that run as SYSTEM while the machine is made, in their order.
    pub fn commands_in_specialize(&self) -> Vec<String> {
        let settings = self.root.elements().filter(|element| {
            element.name == "settings" && element.attribute("pass") == Some(Pass::Specialize.as_str())
        });
        let lists =
            settings.flat_map(|settings| settings.elements()).filter_map(|c| c.child("RunSynchronous"));
        let order = |element: &&Element| {
            element.child("Order").and_then(|order| order.text().trim().parse::<u32>().ok()).unwrap_or(0)
        };
        let mut commands: Vec<&Element> = lists.flat_map(Element::elements).collect();
        commands.sort_by_key(order);
        commands
            .into_iter()
            .filter_map(|command| Some(command.child("Path")?.text().trim().to_owned()))
            .collect()
    }
}

/// Where a new item of a list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

fn find_or_make(
    parent: &mut Element,
    is_wanted: impl Fn(&Element) -> bool,
    make: impl FnOnce() -> Element,
) -> &mut Element {
    let position = parent
        .children
        .iter()
        .position(|node| matches!(node, XmlNode::Element(element) if is_wanted(element)));
    let at = position.unwrap_or_else(|| {
        parent.children.push(XmlNode::Element(make()));
        parent.children.len().saturating_sub(1)
    });
    match parent.children.get_mut(at) {
        Some(XmlNode::Element(element)) => element,
        _ => unreachable!("the position is that of an element"),
    }
}

fn is_blank(node: &XmlNode) -> bool {
    matches!(node, XmlNode::Text(text) if text.trim().is_empty())
}

/// Takes out texts of blanks beside elements. Depth is bounded by the reader.
fn drop_layout(element: &mut Element) {
    if element.elements().next().is_some() {
        element.children.retain(|node| !is_blank(node));
    }
    for node in &mut element.children {
        if let XmlNode::Element(element) = node {
            drop_layout(element);
        }
    }
}

fn lay_out(element: &mut Element, level: usize) {
    if element.elements().next().is_none() {
        return;
    }
    let line = |level: usize| XmlNode::Text(format!("\n{}", "  ".repeat(level)));
    let children = std::mem::take(&mut element.children);
    for mut child in children {
        if let XmlNode::Element(element) = &mut child {
            lay_out(element, level.saturating_add(1));
        }
        element.children.push(line(level.saturating_add(1)));
        element.children.push(child);
    }
    element.children.push(line(level));
}

/// The path from the root of the Windows volume of one as Windows itself has it; `None` for one that is elsewhere. `C:\` is the Windows
/// volume itself.
fn on_this_volume(path: &str) -> Option<String> {
    const STARTS: [(&str, &str); 4] =
        [("%systemroot%\\", "Windows\\"), ("%windir%\\", "Windows\\"), ("%systemdrive%\\", ""), ("c:\\", "")];
    let path = path.trim().trim_matches('"').replace('/', "\\");
    STARTS.iter().find_map(|(start, stands_for)| {
        let (head, rest) = path.split_at_checked(start.len())?;
        (head.eq_ignore_ascii_case(start) && !rest.is_empty()).then(|| format!("{stands_for}{rest}"))
    })
}

impl WindowsImage<'_> {
    /// The answer file that Windows would take, and where it lies; `None` when the image has none.
    pub fn answer_file(&mut self) -> Result<Option<(String, AnswerFile)>, Error> {
        // A file named in the registry goes before all others.
        let named = self.text(HiveFile::System, "Setup", "UnattendFile")?;
        let named = named.as_deref().and_then(on_this_volume);
        let places = named.into_iter().chain(SEARCHED.iter().map(|path| (*path).to_owned()));
        for path in places {
            if let Some(bytes) = self.read_file(&path, MAX_ANSWER_BYTES)? {
                let parsed = AnswerFile::parse(&bytes).map_err(|error| match error {
                    Error::Corrupt { expected, found, .. } => {
                        Error::Corrupt { path: path.clone(), expected, found }
                    }
                    other => other,
                })?;
                return Ok(Some((path, parsed)));
            }
        }
        Ok(None)
    }

    /// Puts settings into the image's answer file; says where it is. When something in them must not stay on the disk, the file
    /// is deleted at the end of setup, and again at the first logon of an administrator where Windows passes that over: it blanks
    /// passwords in copies of its own, not in ours. A system in use runs no setup that would read the file or delete it, so secrets are
    /// refused there.
    pub fn apply_settings(&mut self, settings: &AnswerSettings, system: &System) -> Result<String, Error> {
        settings.check()?;
        if settings.has_secrets() && system.setup == SetupState::InUse {
            return Err(Error::Refused {
                path: "settings".to_owned(),
                why: "passwords, a product key or a join in them would stay on the disk: the image is of a system in use and runs no \
                      setup that takes them"
                    .to_owned(),
            });
        }
        let path = self.edit_answer_file(|answers| settings.put_into(answers, system.arch))?;
        if settings.has_secrets() && self.has_hive(HiveFile::Software) {
            let file = path.get("Windows\\".len()..).filter(|_| {
                path.get(.."Windows\\".len()).is_some_and(|start| start.eq_ignore_ascii_case("Windows\\"))
            });
            let shown =
                file.map_or_else(|| format!("%SystemDrive%\\{path}"), |file| format!("%SystemRoot%\\{file}"));
            let command = Data::expand_sz(&format!("cmd.exe /c del /f /q \"{shown}\""));
            let key = "Microsoft\\Windows\\CurrentVersion\\RunOnce";
            self.set_value(HiveFile::Software, key, "GravureAnswers", &command)?;
            self.run_at_the_end(&format!("del /f /q \"{shown}\""))?;
        }
        Ok(path)
    }

    /// Lets a command run when setup is done, before anybody logs on; Windows leaves that out on machines with a maker's product key.
    fn run_at_the_end(&mut self, command: &str) -> Result<(), Error> {
        let old = self.read_file(SETUP_COMPLETE, MAX_ANSWER_BYTES)?.unwrap_or_default();
        let old = String::from_utf8_lossy(&old).into_owned();
        if old.lines().any(|line| line.trim() == command) {
            return Ok(());
        }
        // In front of what is there: that may end the script.
        let (head, rest) = match old.split_once('\n') {
            Some((first, rest)) if first.trim().eq_ignore_ascii_case("@echo off") => ("@echo off\r\n", rest),
            _ => ("", old.as_str()),
        };
        self.write_file(SETUP_COMPLETE, format!("{head}{command}\r\n{rest}"))
    }

    /// Changes the image's answer file where it lies, or makes one.
    pub fn edit_answer_file(&mut self, edit: impl FnOnce(&mut AnswerFile)) -> Result<String, Error> {
        let (path, mut answers) =
            self.answer_file()?.unwrap_or_else(|| (ANSWER_PATH.to_owned(), AnswerFile::default()));
        edit(&mut answers);
        self.write_file(&path, answers.to_bytes())?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests;
