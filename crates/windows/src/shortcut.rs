//! Shortcuts (`.lnk` files, MS-SHLLINK): written so that Windows' shell follows them without resolving anything first, and read back as far
//! as they are written here.

use crate::Error;

/// `{00021401-0000-0000-C000-000000000046}`, as every shortcut starts behind its length.
const CLASS: [u8; 16] = [1, 0x14, 2, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x46];
const HEADER_BYTES: u32 = 0x4c;
/// Longest text; Windows' paths have 260 characters.
const MAX_UNITS: usize = 1024;
/// Largest shortcut read.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

const HAS_ID_LIST: u32 = 0x1;
const HAS_LINK_INFO: u32 = 0x2;
const HAS_NAME: u32 = 0x4;
const HAS_RELATIVE_PATH: u32 = 0x8;
const HAS_WORKING_DIR: u32 = 0x10;
const HAS_ARGUMENTS: u32 = 0x20;
const HAS_ICON: u32 = 0x40;
const IS_UNICODE: u32 = 0x80;
const HAS_EXPANDED: u32 = 0x200;

/// `My Computer` as the first item of an ID list: type and class.
const COMPUTER: [u8; 18] =
    [0x1f, 0x50, 0xe0, 0x4f, 0xd0, 0x20, 0xea, 0x3a, 0x69, 0x10, 0xa2, 0xd8, 8, 0, 0x2b, 0x30, 0x30, 0x9d];
/// Item of a drive: type, `C:\` and zeros.
const DRIVE_BYTES: usize = 23;
/// 1 January 2020 as FAT counts: items have times, nobody looks at them.
const FAT_DATE: u16 = (40 << 9) | (1 << 5) | 1;
const ATTRIBUTE_DIRECTORY: u16 = 0x10;
const ATTRIBUTE_ARCHIVE: u16 = 0x20;
/// Block with long names in items, and block with the target as a text with variables.
const LONG_NAME_BLOCK: u32 = 0xbeef_0004;
const VARIABLES_BLOCK: u32 = 0xa000_0001;
const VARIABLES_BYTES: u32 = 0x314;
const VARIABLES_UNITS: usize = 260;

/// What a shortcut says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Shortcut {
    /// What is started: a full path on a drive, or one that begins with a variable (`%SystemRoot%\...`).
    pub(crate) target: String,
    pub(crate) arguments: Option<String>,
    pub(crate) working_dir: Option<String>,
    pub(crate) description: Option<String>,
    /// File with the icon, and its number in it.
    pub(crate) icon: Option<(String, i32)>,
}

impl Shortcut {
    /// Whether Windows would take it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |expected: &str, found: &str| Error::Invalid {
            what: "shortcut".to_owned(),
            expected: expected.to_owned(),
            found: format!("{found:?}"),
        };
        let is_full = self.drive().is_some() || self.has_variables();
        if !is_full || self.target.encode_utf16().count() >= VARIABLES_UNITS {
            return Err(invalid(
                "a target of less than 260 characters like C:\\x.exe or %SystemRoot%\\x.exe",
                &self.target,
            ));
        }
        let icon = self.icon.as_ref().map(|(file, _)| file);
        for text in [&self.arguments, &self.working_dir, &self.description].into_iter().flatten().chain(icon)
        {
            if text.encode_utf16().count() > MAX_UNITS || text.contains('\0') {
                return Err(invalid("texts of at most 1024 characters", text));
            }
        }
        Ok(())
    }

    fn has_variables(&self) -> bool {
        self.target.starts_with('%') && self.target.matches('%').count() >= 2
    }

    /// Drive letter and names of a full path.
    fn drive(&self) -> Option<(char, Vec<&str>)> {
        let mut chars = self.target.chars();
        let letter = chars.next().filter(char::is_ascii_alphabetic)?;
        let rest = chars.as_str().strip_prefix(":\\")?;
        let names: Vec<&str> = rest.split('\\').filter(|name| !name.is_empty()).collect();
        (!names.is_empty()).then_some((letter, names))
    }

    /// The file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let drive = self.drive();
        let is_given = |text: &Option<String>, flag| if text.is_some() { flag } else { 0 };
        let flags = IS_UNICODE
            | if drive.is_some() { HAS_ID_LIST } else { 0 }
            | if self.has_variables() { HAS_EXPANDED } else { 0 }
            | is_given(&self.description, HAS_NAME)
            | is_given(&self.working_dir, HAS_WORKING_DIR)
            | is_given(&self.arguments, HAS_ARGUMENTS)
            | if self.icon.is_some() { HAS_ICON } else { 0 };
        let icon_index = self.icon.as_ref().map_or(0, |(_, index)| *index);
        let mut out = HEADER_BYTES.to_le_bytes().to_vec();
        out.extend(CLASS);
        out.extend(flags.to_le_bytes());
        out.extend(u32::from(ATTRIBUTE_ARCHIVE).to_le_bytes());
        // Times and size of the target, which is not looked at.
        out.extend([0; 28]);
        out.extend(icon_index.to_le_bytes());
        // SW_SHOWNORMAL, no hot key, reserved.
        out.extend(1u32.to_le_bytes());
        out.extend([0; 12]);
        if let Some((letter, names)) = drive {
            out.extend(id_list(letter, &names));
        }
        let icon = self.icon.as_ref().map(|(file, _)| file);
        let texts = [self.description.as_ref(), self.working_dir.as_ref(), self.arguments.as_ref(), icon];
        for text in texts.into_iter().flatten() {
            let units: Vec<u16> = text.encode_utf16().take(MAX_UNITS).collect();
            out.extend(u16::try_from(units.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend(units.into_iter().flat_map(u16::to_le_bytes));
        }
        if self.has_variables() {
            out.extend(VARIABLES_BYTES.to_le_bytes());
            out.extend(VARIABLES_BLOCK.to_le_bytes());
            let plain: Vec<u8> = self
                .target
                .chars()
                .map(|c| u8::try_from(c).unwrap_or(b'?'))
                .take(VARIABLES_UNITS - 1)
                .collect();
            out.extend(padded(plain, VARIABLES_UNITS));
            let wide =
                self.target.encode_utf16().take(VARIABLES_UNITS - 1).flat_map(u16::to_le_bytes).collect();
            out.extend(padded(wide, 2 * VARIABLES_UNITS));
        }
        out.extend([0; 4]);
        out
    }

    /// Reads a shortcut. The target comes from the text with variables, else from the ID list, else from the link information.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |at: usize, expected: &str| Error::Corrupt {
            path: format!("shortcut at {at:#x}"),
            expected: expected.to_owned(),
            found: format!("{} bytes in all", bytes.len()),
        };
        if !bytes.starts_with(&HEADER_BYTES.to_le_bytes()) || bytes.get(4..20) != Some(CLASS.as_slice()) {
            return Err(corrupt(0, "the header of a shortcut"));
        }
        let flags = u32_at(bytes, 20).ok_or_else(|| corrupt(20, "flags"))?;
        let icon_index =
            u32_at(bytes, 56).ok_or_else(|| corrupt(56, "the number of the icon"))?.cast_signed();
        let mut at = usize::try_from(HEADER_BYTES).unwrap_or(usize::MAX);
        let mut out = Self::default();
        if bytes.len() < at {
            return Err(corrupt(at, "a whole header"));
        }
        if flags & HAS_ID_LIST != 0 {
            let len = usize::from(u16_at(bytes, at).ok_or_else(|| corrupt(at, "an ID list"))?);
            let list = bytes.get(at.saturating_add(2)..at.saturating_add(2).saturating_add(len));
            out.target = path_of(list.ok_or_else(|| corrupt(at, "a whole ID list"))?).unwrap_or_default();
            at = at.saturating_add(2).saturating_add(len);
        }
        if flags & HAS_LINK_INFO != 0 {
            let len = u32_at(bytes, at).and_then(|len| usize::try_from(len).ok()).filter(|len| *len >= 4);
            let end = len.and_then(|len| at.checked_add(len)).filter(|end| *end <= bytes.len());
            at = end.ok_or_else(|| corrupt(at, "whole link information"))?;
        }
        let mut texts =
            [HAS_NAME, HAS_RELATIVE_PATH, HAS_WORKING_DIR, HAS_ARGUMENTS, HAS_ICON].map(|flag| (flag, None));
        for (flag, text) in &mut texts {
            if flags & *flag == 0 {
                continue;
            }
            let count = usize::from(u16_at(bytes, at).ok_or_else(|| corrupt(at, "a text"))?);
            let (start, width) = (at.saturating_add(2), if flags & IS_UNICODE != 0 { 2 } else { 1 });
            at = start.saturating_add(count.saturating_mul(width));
            let raw = bytes.get(start..at).ok_or_else(|| corrupt(start, "a whole text"))?;
            *text =
                Some(if width == 2 { wide(raw) } else { raw.iter().map(|byte| char::from(*byte)).collect() });
        }
        let [(_, description), _, (_, working_dir), (_, arguments), (_, icon)] = texts;
        (out.description, out.working_dir, out.arguments) = (description, working_dir, arguments);
        out.icon = icon.map(|file| (file, icon_index));
        // Blocks end with one of less than four bytes.
        while let Some(len) =
            u32_at(bytes, at).and_then(|len| usize::try_from(len).ok()).filter(|len| *len >= 8)
        {
            let end = at.checked_add(len).filter(|end| *end <= bytes.len());
            let end = end.ok_or_else(|| corrupt(at, "a whole block"))?;
            if u32_at(bytes, at.saturating_add(4)) == Some(VARIABLES_BLOCK) {
                let raw = bytes.get(at.saturating_add(8 + VARIABLES_UNITS)..end).unwrap_or_default();
                out.target = wide(raw);
            }
            at = end;
        }
        Ok(out)
    }
}

/// The target as the shell's own items: computer, drive, directories, file.
fn id_list(letter: char, names: &[&str]) -> Vec<u8> {
    let mut items = item(&COMPUTER);
    let drive = format!("/{letter}:\\");
    items.extend(item(&padded(drive.into_bytes(), DRIVE_BYTES)));
    for (index, name) in names.iter().enumerate() {
        let is_file = index.saturating_add(1) == names.len();
        items.extend(item(&file_item(name, is_file)));
    }
    items.extend([0; 2]);
    let len = u16::try_from(items.len()).unwrap_or(u16::MAX);
    [len.to_le_bytes().to_vec(), items].concat()
}

fn item(body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len().saturating_add(2)).unwrap_or(u16::MAX);
    [&len.to_le_bytes(), body].concat()
}

/// A directory or file: short header, name in a code page, and a block with the name in UTF-16.
fn file_item(name: &str, is_file: bool) -> Vec<u8> {
    let (kind, attributes) = if is_file { (0x32, ATTRIBUTE_ARCHIVE) } else { (0x31, ATTRIBUTE_DIRECTORY) };
    let mut out = vec![kind, 0];
    out.extend([0; 4]);
    out.extend(FAT_DATE.to_le_bytes());
    out.extend([0; 2]);
    out.extend(attributes.to_le_bytes());
    out.extend(name.chars().map(|c| u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'_')));
    out.push(0);
    if !out.len().is_multiple_of(2) {
        out.push(0);
    }
    // From the item's own length on, which is not in `out`.
    let offset = u16::try_from(out.len().saturating_add(2)).unwrap_or(u16::MAX);
    let long: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let len = u16::try_from(long.len().saturating_add(20)).unwrap_or(u16::MAX);
    out.extend(len.to_le_bytes());
    out.extend(3u16.to_le_bytes());
    out.extend(LONG_NAME_BLOCK.to_le_bytes());
    for _ in 0..2 {
        out.extend(FAT_DATE.to_le_bytes());
        out.extend([0; 2]);
    }
    out.extend(0x14u16.to_le_bytes());
    out.extend(long);
    out.extend(offset.to_le_bytes());
    out
}

/// The path that the items of an ID list mean; `None` where they are of another kind.
fn path_of(mut list: &[u8]) -> Option<String> {
    let mut names = Vec::new();
    let mut drive = None;
    while let Some(len) = u16_at(list, 0).map(usize::from).filter(|len| *len >= 3) {
        let body = list.get(2..len)?;
        match body.first()? {
            0x1f => {}
            0x2f | 0x23 | 0x25 | 0x29 => {
                drive = body.get(1..3).map(|text| text.iter().map(|b| char::from(*b)).collect::<String>())
            }
            0x31 | 0x32 | 0x35 | 0x36 => names.push(name_of(body)?),
            _ => return None,
        }
        list = list.get(len..)?;
    }
    Some(format!("{}\\{}", drive?, names.join("\\")))
}

fn name_of(body: &[u8]) -> Option<String> {
    let marker = LONG_NAME_BLOCK.to_le_bytes();
    let block = body.windows(4).position(|window| window == marker)?;
    let long = body.get(block.checked_add(14)?..)?;
    Some(wide(long))
}

fn padded(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes.resize(len, 0);
    bytes
}

/// UTF-16 up to its end.
fn wide(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    String::from_utf16_lossy(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Shortcut; 2] {
        let text = |text: &str| Some(text.to_owned());
        [
            Shortcut {
                target: "C:\\Program Files\\Schöne Dinge\\start.exe".into(),
                arguments: text("--room B7"),
                working_dir: text("C:\\School"),
                description: text("Start"),
                icon: Some(("C:\\School\\icons.dll".into(), -3)),
            },
            Shortcut { target: "%SystemRoot%\\System32\\notepad.exe".into(), ..Shortcut::default() },
        ]
    }

    #[test]
    fn what_is_written_is_read_and_cuts_are_no_panic() {
        for shortcut in all() {
            shortcut.check().unwrap();
            let bytes = shortcut.to_bytes();
            assert_eq!(Shortcut::parse(&bytes).unwrap(), shortcut);
            for len in 0..bytes.len() {
                let cut = Shortcut::parse(&bytes[..len]);
                assert!(cut.is_err() || cut.unwrap().arguments == shortcut.arguments, "{len}");
            }
            assert!(Shortcut::parse(&bytes[..60]).is_err());
        }
        for target in ["notepad.exe", "C:\\", "", "\\\\server\\x", "%x"] {
            assert!(Shortcut { target: target.into(), ..Shortcut::default() }.check().is_err(), "{target}");
        }
    }

    #[test]
    fn a_foreign_reader_finds_the_same() {
        let Some(mut lnkinfo) = gravure_testkit::oracle("lnkinfo") else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lnk");
        std::fs::write(&path, all()[0].to_bytes()).unwrap();
        let said = lnkinfo.arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.status.success(), "{text}");
        for wanted in ["--room B7", "C:\\School", "Start", "icons.dll", "start.exe", "Program Files"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}
