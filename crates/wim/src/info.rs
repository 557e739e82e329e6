//! What the XML document says of a WIM and its images, in typed form over a tree that keeps unknown elements
//! (wim-container section 7).

use gravure_nttypes::FileTime;

use crate::error::{Error, Scope, Warning, Warnings, XmlIssue};
use crate::xml::{self, Element, XmlNode};

/// The XML document of a WIM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WimInfo {
    root: Element,
}

/// What the document says of one image. Everything is optional; numbers are informative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    element: Element,
}

/// The `WINDOWS` element of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowsInfo {
    /// Processor as the PE header counts: 0 x86, 5 ARM, 9 x64, 12 ARM64.
    pub architecture: Option<u64>,
    /// E.g. `Microsoft® Windows® Operating System`.
    pub product_name: Option<String>,
    /// E.g. `Professional`.
    pub edition: Option<String>,
    /// E.g. `Client`.
    pub installation_type: Option<String>,
    /// E.g. `WinNT`.
    pub product_type: Option<String>,
    /// E.g. `Terminal Server`.
    pub product_suite: Option<String>,
    /// Installed display languages.
    pub languages: Vec<String>,
    /// Default display language.
    pub default_language: Option<String>,
    /// Version.
    pub version: WindowsVersion,
    /// E.g. `WINDOWS`.
    pub system_root: Option<String>,
}

/// Version of a Windows installation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowsVersion {
    /// E.g. 10.
    pub major: Option<u64>,
    /// E.g. 0.
    pub minor: Option<u64>,
    /// E.g. 26100.
    pub build: Option<u64>,
    /// Update revision.
    pub service_pack_build: Option<u64>,
    /// Service pack.
    pub service_pack_level: Option<u64>,
    /// E.g. `rs5_release`.
    pub branch: Option<String>,
}

/// Architecture numbers by the names people use.
const ARCHITECTURES: [(u64, &str); 5] = [(0, "x86"), (5, "arm"), (6, "ia64"), (9, "x86_64"), (12, "arm64")];

impl WindowsInfo {
    /// The processor's usual name.
    pub fn architecture_name(&self) -> Option<&'static str> {
        let (_, name) = ARCHITECTURES.iter().find(|(number, _)| Some(*number) == self.architecture)?;
        Some(name)
    }
}

/// Numbers for the XML document; see [`crate::image_counts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageCounts {
    /// Directories without the root and without directory reparse points, as Windows counts.
    pub directories: u64,
    /// Everything else, every hard link counted.
    pub files: u64,
    /// Plain bytes of unnamed data over all names.
    pub total_bytes: u64,
    /// The part of it that comes from second and further names.
    pub hard_link_bytes: u64,
}

impl Default for WimInfo {
    fn default() -> Self {
        Self { root: Element::new("WIM") }
    }
}

impl WimInfo {
    /// Parses the document's bytes.
    pub(crate) fn parse(bytes: &[u8], warnings: &mut Warnings) -> Result<Self, Error> {
        let root = xml::parse(bytes, warnings)?;
        if root.name != "WIM" {
            return Err(Error::corrupt(Scope::File, "XML document", 0, "root element WIM", root.name));
        }
        let mut this = Self { root };
        this.order_images(warnings);
        this.check_names(warnings);
        Ok(this)
    }

    /// The document as it is stored, images numbered in their order.
    pub fn to_bytes(&self) -> Vec<u8> {
        xml::to_bytes(&self.root)
    }

    /// Puts `IMAGE` elements into the order of their indexes, if these are 1 to n.
    fn order_images(&mut self, warnings: &mut Warnings) {
        let places: Vec<usize> = self.image_places().collect();
        let mut images: Vec<ImageInfo> = places.iter().filter_map(|at| self.image_at(*at)).collect();
        let mut indexes: Vec<u64> = images.iter().map(|image| image.index().unwrap_or(0)).collect();
        images.sort_by_key(|image| image.index().unwrap_or(0));
        indexes.sort_unstable();
        if !indexes.iter().copied().eq((1u64..).take(indexes.len())) {
            warnings.push(Warning::Xml(XmlIssue::ImageIndexes));
            self.renumber();
            return;
        }
        for (at, image) in places.into_iter().zip(images) {
            if let Some(node) = self.root.children.get_mut(at) {
                *node = XmlNode::Element(image.element);
            }
        }
    }

    fn check_names(&self, warnings: &mut Warnings) {
        let mut names = std::collections::HashSet::new();
        for name in self.images().filter_map(|image| image.name()) {
            if !names.insert(name.clone()) {
                warnings.push(Warning::Xml(XmlIssue::DuplicateName(name)));
            }
        }
    }

    fn image_places(&self) -> impl Iterator<Item = usize> + '_ {
        let is_image = |node: &XmlNode| matches!(node, XmlNode::Element(element) if element.name == "IMAGE");
        self.root.children.iter().enumerate().filter(move |(_, node)| is_image(node)).map(|(at, _)| at)
    }

    fn image_at(&self, place: usize) -> Option<ImageInfo> {
        match self.root.children.get(place)? {
            XmlNode::Element(element) => Some(ImageInfo { element: element.clone() }),
            XmlNode::Text(_) | XmlNode::Comment(_) => None,
        }
    }

    fn renumber(&mut self) {
        let places: Vec<usize> = self.image_places().collect();
        for (at, number) in places.into_iter().zip(1u32..) {
            if let Some(XmlNode::Element(element)) = self.root.children.get_mut(at) {
                element.set_attribute("INDEX", number.to_string());
            }
        }
    }

    /// Number of `IMAGE` elements.
    pub fn image_count(&self) -> usize {
        self.image_places().count()
    }

    /// The images in order.
    pub fn images(&self) -> impl Iterator<Item = ImageInfo> + '_ {
        self.image_places().filter_map(|at| self.image_at(at))
    }

    /// Image `index`, from 0.
    pub fn image(&self, index: usize) -> Option<ImageInfo> {
        self.image_at(self.image_places().nth(index)?)
    }

    /// Replaces what is said of image `index`, from 0; true if it is there.
    pub fn set_image(&mut self, index: usize, image: ImageInfo) -> bool {
        let place = self.image_places().nth(index);
        let node = place.and_then(|at| self.root.children.get_mut(at));
        let found = node.is_some();
        if let Some(node) = node {
            *node = XmlNode::Element(image.element);
        }
        self.renumber();
        found
    }

    /// Adds an image behind the last.
    pub fn push_image(&mut self, image: ImageInfo) {
        let at = self.image_places().last().map_or(0, |last| last.saturating_add(1));
        self.root.children.insert(at, XmlNode::Element(image.element));
        self.renumber();
    }

    /// Takes out image `index`, from 0; the rest moves up.
    pub fn remove_image(&mut self, index: usize) {
        let place = self.image_places().nth(index);
        if let Some(at) = place {
            self.root.children.remove(at);
        }
        self.renumber();
    }

    /// Takes out image `index`, from 0, and puts the last one in its place.
    pub(crate) fn swap_remove_image(&mut self, index: usize) {
        let places: Vec<usize> = self.image_places().collect();
        if let (Some(at), Some(last)) = (places.get(index), places.last()) {
            self.root.children.swap(*at, *last);
            self.root.children.remove(*last);
        }
        self.renumber();
    }

    /// Makes it `count` images: drops those behind, adds made-up ones. One pass, as a hostile file can have 65535
    /// metadata resources and a million elements.
    pub(crate) fn resize(&mut self, count: usize) {
        let mut seen = 0usize;
        self.root.children.retain(|node| {
            let is_image = matches!(node, XmlNode::Element(element) if element.name == "IMAGE");
            seen = seen.saturating_add(usize::from(is_image));
            !is_image || seen <= count
        });
        for number in seen.saturating_add(1)..=count {
            let image = ImageInfo::new(&format!("Image {number}"));
            self.root.children.push(XmlNode::Element(image.element));
        }
        self.renumber();
    }

    /// Everything but the images.
    pub(crate) fn without_images(&self) -> Self {
        let mut this = self.clone();
        let is_image = |node: &XmlNode| matches!(node, XmlNode::Element(element) if element.name == "IMAGE");
        this.root.children.retain(|node| !is_image(node));
        this
    }

    /// `TOTALBYTES` of the document: the file's size up to the document.
    pub fn total_bytes(&self) -> Option<u64> {
        number(&self.root.child("TOTALBYTES")?.text())
    }

    /// Sets `TOTALBYTES`.
    pub fn set_total_bytes(&mut self, bytes: u64) {
        self.root.set_text("TOTALBYTES", bytes.to_string());
    }

    /// True for an encrypted download image, whose resources cannot be decoded.
    pub fn is_encrypted(&self) -> bool {
        self.root.at("ESD/ENCRYPTED").is_some()
    }

    /// The root element, for everything without a method.
    pub fn root(&self) -> &Element {
        &self.root
    }
}

impl Default for ImageInfo {
    fn default() -> Self {
        Self { element: Element::new("IMAGE") }
    }
}

impl ImageInfo {
    /// An image of this name.
    pub fn new(name: &str) -> Self {
        let mut this = Self::default();
        this.element.set_text("NAME", name);
        this
    }

    fn index(&self) -> Option<u64> {
        number(self.element.attribute("INDEX")?)
    }

    /// The text at `path` below `IMAGE`, e.g. `WINDOWS/EDITIONID`; `None` if absent.
    pub fn text(&self, path: &str) -> Option<String> {
        self.element.at(path).map(Element::text)
    }

    /// The number at `path`, decimal or with `0x`.
    pub fn number(&self, path: &str) -> Option<u64> {
        number(&self.text(path)?)
    }

    /// Sets the text at `path`.
    pub fn set_text(&mut self, path: &str, text: impl Into<String>) {
        self.element.set_text(path, text);
    }

    /// Takes out the element at `path`.
    pub fn remove(&mut self, path: &str) {
        self.element.remove(path);
    }

    /// The `IMAGE` element, for everything without a method.
    pub fn element(&self) -> &Element {
        &self.element
    }

    /// `NAME`, by which Windows tools select.
    pub fn name(&self) -> Option<String> {
        self.text("NAME")
    }

    /// `DESCRIPTION`.
    pub fn description(&self) -> Option<String> {
        self.text("DESCRIPTION")
    }

    /// `DISPLAYNAME`, which Windows Setup shows.
    pub fn display_name(&self) -> Option<String> {
        self.text("DISPLAYNAME")
    }

    /// `FLAGS`, the edition Windows Setup goes by.
    pub fn flags(&self) -> Option<String> {
        self.text("FLAGS")
    }

    /// Numbers of files and bytes; absent ones are 0.
    pub fn counts(&self) -> ImageCounts {
        let number = |path| self.number(path).unwrap_or(0);
        ImageCounts {
            directories: number("DIRCOUNT"),
            files: number("FILECOUNT"),
            total_bytes: number("TOTALBYTES"),
            hard_link_bytes: number("HARDLINKBYTES"),
        }
    }

    /// Sets the numbers of files and bytes.
    pub fn set_counts(&mut self, counts: &ImageCounts) {
        let values = [
            ("DIRCOUNT", counts.directories),
            ("FILECOUNT", counts.files),
            ("TOTALBYTES", counts.total_bytes),
            ("HARDLINKBYTES", counts.hard_link_bytes),
        ];
        for (path, value) in values {
            self.element.set_text(path, value.to_string());
        }
    }

    /// When the image was captured.
    pub fn created(&self) -> Option<FileTime> {
        self.time("CREATIONTIME")
    }

    /// When the image was last changed.
    pub fn modified(&self) -> Option<FileTime> {
        self.time("LASTMODIFICATIONTIME")
    }

    /// Sets both times.
    pub fn set_times(&mut self, created: FileTime, modified: FileTime) {
        self.set_time("CREATIONTIME", created);
        self.set_time("LASTMODIFICATIONTIME", modified);
    }

    /// Sets when the image was last changed.
    pub fn set_modified(&mut self, modified: FileTime) {
        self.set_time("LASTMODIFICATIONTIME", modified);
    }

    fn set_time(&mut self, path: &str, time: FileTime) {
        let element = self.element.make(path);
        element.set_text("HIGHPART", format!("{:#010X}", time.0 >> 32).replace("0X", "0x"));
        element.set_text("LOWPART", format!("{:#010X}", time.0 & 0xffff_ffff).replace("0X", "0x"));
    }

    fn time(&self, path: &str) -> Option<FileTime> {
        let element = self.element.at(path)?;
        let part = |name| number(&element.child(name)?.text()).filter(|part| *part <= 0xffff_ffff);
        Some(FileTime(part("HIGHPART")? << 32 | part("LOWPART")?))
    }

    /// True when captured for WIMBoot.
    pub fn is_wimboot(&self) -> bool {
        self.number("WIMBOOT") == Some(1)
    }

    /// What is said of the Windows installation; `None` if there is none.
    pub fn windows(&self) -> Option<WindowsInfo> {
        let windows = self.element.child("WINDOWS")?;
        let text = |path: &str| windows.at(path).map(Element::text);
        let value = |path: &str| number(&windows.at(path)?.text());
        let languages = windows.child("LANGUAGES").into_iter().flat_map(Element::elements);
        Some(WindowsInfo {
            architecture: value("ARCH"),
            product_name: text("PRODUCTNAME"),
            edition: text("EDITIONID"),
            installation_type: text("INSTALLATIONTYPE"),
            product_type: text("PRODUCTTYPE"),
            product_suite: text("PRODUCTSUITE"),
            languages: languages.filter(|one| one.name == "LANGUAGE").map(Element::text).collect(),
            default_language: text("LANGUAGES/DEFAULT"),
            version: WindowsVersion {
                major: value("VERSION/MAJOR"),
                minor: value("VERSION/MINOR"),
                build: value("VERSION/BUILD"),
                service_pack_build: value("VERSION/SPBUILD"),
                service_pack_level: value("VERSION/SPLEVEL"),
                branch: text("VERSION/BRANCH"),
            },
            system_root: text("SYSTEMROOT"),
        })
    }
}

/// A number as these documents write it: decimal, or hexadecimal with `0x`.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (WimInfo, Vec<Warning>) {
        let bytes: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut warnings = Warnings::default();
        let info = WimInfo::parse(&bytes, &mut warnings).unwrap();
        (info, warnings.finish(()).warnings)
    }

    fn text(info: &WimInfo) -> String {
        let bytes = info.to_bytes();
        let units: Vec<u16> = bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        String::from_utf16(&units).unwrap()
    }

    #[test]
    fn reads_every_windows_field() {
        let (info, warnings) = parse(concat!(
            "<WIM><IMAGE INDEX=\"1\"><NAME>Kiosk</NAME><DESCRIPTION>d</DESCRIPTION><FLAGS>Professional</FLAGS>",
            "<DIRCOUNT>12</DIRCOUNT><FILECOUNT>34</FILECOUNT><TOTALBYTES>56</TOTALBYTES>",
            "<HARDLINKBYTES>7</HARDLINKBYTES><CREATIONTIME><HIGHPART>0x01DB2C11</HIGHPART>",
            "<LOWPART>0x5A0C3B7E</LOWPART></CREATIONTIME><WIMBOOT>1</WIMBOOT><WINDOWS><ARCH>9</ARCH>",
            "<EDITIONID>Professional</EDITIONID><LANGUAGES><LANGUAGE>de-DE</LANGUAGE>",
            "<FALLBACK LANGUAGE=\"de-DE\">en-US</FALLBACK><LANGUAGE>fr-FR</LANGUAGE><DEFAULT>de-DE</DEFAULT>",
            "</LANGUAGES><VERSION><MAJOR>10</MAJOR><BUILD>26100</BUILD><BRANCH>ge_release</BRANCH></VERSION>",
            "<SYSTEMROOT>WINDOWS</SYSTEMROOT></WINDOWS></IMAGE><TOTALBYTES>4340112233</TOTALBYTES></WIM>"
        ));
        assert_eq!(warnings, []);
        assert_eq!(info.total_bytes(), Some(4_340_112_233));
        let image = info.image(0).unwrap();
        assert_eq!(image.name().as_deref(), Some("Kiosk"));
        assert_eq!(image.flags().as_deref(), Some("Professional"));
        let counts = ImageCounts { directories: 12, files: 34, total_bytes: 56, hard_link_bytes: 7 };
        assert_eq!(image.counts(), counts);
        assert_eq!(image.created(), Some(FileTime(0x01db_2c11_5a0c_3b7e)));
        assert_eq!(image.modified(), None);
        assert!(image.is_wimboot());
        let windows = image.windows().unwrap();
        assert_eq!(windows.architecture_name(), Some("x86_64"));
        assert_eq!(windows.languages, ["de-DE", "fr-FR"]);
        assert_eq!(windows.default_language.as_deref(), Some("de-DE"));
        assert_eq!((windows.version.major, windows.version.build), (Some(10), Some(26100)));
        assert_eq!(windows.version.branch.as_deref(), Some("ge_release"));
        assert!(!info.is_encrypted());
    }

    #[test]
    fn orders_images_by_index_and_renumbers_nonsense() {
        let (info, warnings) = parse(
            "<WIM><IMAGE INDEX='2'><NAME>b</NAME></IMAGE><X/><IMAGE INDEX='1'><NAME>a</NAME></IMAGE></WIM>",
        );
        let names: Vec<_> = info.images().filter_map(|image| image.name()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(warnings, []);
        assert_eq!(
            text(&info),
            "\u{feff}<WIM><IMAGE INDEX=\"1\"><NAME>a</NAME></IMAGE><X/><IMAGE INDEX=\"2\"><NAME>b</NAME></IMAGE></WIM>"
        );
        let (info, warnings) = parse("<WIM><IMAGE INDEX='3'/><IMAGE INDEX='3'/></WIM>");
        assert_eq!(warnings, [Warning::Xml(XmlIssue::ImageIndexes)]);
        assert_eq!(text(&info), "\u{feff}<WIM><IMAGE INDEX=\"1\"/><IMAGE INDEX=\"2\"/></WIM>");
    }

    #[test]
    fn adding_and_removing_images_keeps_the_rest() {
        let (mut info, _) =
            parse("<WIM z='1'><ODD/><IMAGE INDEX='1'><KEEP/></IMAGE><TOTALBYTES>5</TOTALBYTES></WIM>");
        let mut second = ImageInfo::new("two & <three>");
        second.set_times(FileTime(0x01db_2c11_5a0c_3b7e), FileTime(1));
        second.set_counts(&ImageCounts { files: 3, ..ImageCounts::default() });
        info.push_image(second);
        info.set_total_bytes(99);
        assert_eq!(
            text(&info),
            concat!(
                "\u{feff}<WIM z=\"1\"><ODD/><IMAGE INDEX=\"1\"><KEEP/></IMAGE><IMAGE INDEX=\"2\">",
                "<NAME>two &amp; &lt;three&gt;</NAME><CREATIONTIME><HIGHPART>0x01DB2C11</HIGHPART>",
                "<LOWPART>0x5A0C3B7E</LOWPART></CREATIONTIME><LASTMODIFICATIONTIME><HIGHPART>0x00000000</HIGHPART>",
                "<LOWPART>0x00000001</LOWPART></LASTMODIFICATIONTIME><DIRCOUNT>0</DIRCOUNT><FILECOUNT>3</FILECOUNT>",
                "<TOTALBYTES>0</TOTALBYTES><HARDLINKBYTES>0</HARDLINKBYTES></IMAGE><TOTALBYTES>99</TOTALBYTES></WIM>"
            )
        );
        info.remove_image(0);
        assert_eq!(info.image(0).unwrap().name().as_deref(), Some("two & <three>"));
        assert_eq!(info.image_count(), 1);
    }

    #[test]
    fn any_number_of_images_can_be_dropped_and_made_up() {
        let (mut info, _) = parse("<WIM><IMAGE INDEX='1'/><X/><IMAGE INDEX='2'/><IMAGE INDEX='3'/></WIM>");
        info.resize(1);
        assert_eq!(text(&info), "\u{feff}<WIM><IMAGE INDEX=\"1\"/><X/></WIM>");
        info.resize(65_535);
        assert_eq!(info.image_count(), 65_535);
        let last = info.images().last().unwrap();
        assert_eq!((last.name().as_deref(), last.index()), (Some("Image 65535"), Some(65_535)));
    }

    #[test]
    fn encrypted_downloads_and_double_names_are_seen() {
        let (info, warnings) = parse(
            "<WIM><ESD><ENCRYPTED/></ESD><IMAGE INDEX='1'><NAME>a</NAME></IMAGE><IMAGE INDEX='2'><NAME>a</NAME></IMAGE></WIM>",
        );
        assert!(info.is_encrypted());
        assert_eq!(warnings, [Warning::Xml(XmlIssue::DuplicateName("a".into()))]);
    }
}
