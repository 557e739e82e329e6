//! Security identifiers, access lists and self-relative security descriptors ([MS-DTYP] 2.4), and their text (SDDL).
//!
//! Parsing keeps everything: an entry of a kind not understood is kept as bytes. Writing puts the parts in the order
//! the Windows kernel uses in the registry: header, SACL, DACL, owner, group.

mod sddl;

use std::fmt;
use std::str::FromStr;

pub use sddl::SddlError;

/// Sub-authorities of an identifier at most ([MS-DTYP] 2.4.2).
const MAX_SUB_AUTHORITIES: usize = 15;
const DESCRIPTOR_HEADER_BYTES: usize = 20;
const ACL_HEADER_BYTES: usize = 8;
const ACE_HEADER_BYTES: usize = 4;

/// Why bytes are no descriptor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {pos}: expected {expected}, found {found}")]
pub struct SecurityError {
    /// Which part.
    pub what: &'static str,
    /// Byte in the descriptor.
    pub pos: usize,
    /// What the format demands.
    pub expected: &'static str,
    /// What stands there.
    pub found: String,
}

fn error(what: &'static str, pos: usize, expected: &'static str, found: impl fmt::Display) -> SecurityError {
    SecurityError { what, pos, expected, found: found.to_string() }
}

/// A security identifier: whom a right is given to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sid {
    authority: u64,
    subs: Vec<u32>,
}

impl Sid {
    /// From its parts; `None` when the authority has more than 48 bits or there are more than 15 sub-authorities.
    pub fn new(authority: u64, subs: &[u32]) -> Option<Self> {
        let fits = authority < 1 << 48 && subs.len() <= MAX_SUB_AUTHORITIES;
        fits.then(|| Self { authority, subs: subs.to_vec() })
    }

    /// Reads an identifier that fills `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, SecurityError> {
        let sid = Self::read(bytes, 0)?;
        if sid.len() == bytes.len() {
            Ok(sid)
        } else {
            Err(error("identifier", 0, "nothing behind its sub-authorities", bytes.len()))
        }
    }

    /// Its sub-authorities, the last of which tells accounts of one machine or domain apart.
    pub fn sub_authorities(&self) -> &[u32] {
        &self.subs
    }

    /// Whether it is of a machine or domain itself: `S-1-5-21-x-y-z`.
    pub fn is_of_domain(&self) -> bool {
        self.authority == 5 && matches!(self.subs.as_slice(), [21, _, _, _])
    }

    /// Reads the identifier at byte `pos` of a descriptor.
    fn read(bytes: &[u8], pos: usize) -> Result<Self, SecurityError> {
        let rest = bytes.get(pos..).unwrap_or_default();
        let [1, count, a, b, c, d, e, f, subs @ ..] = rest else {
            return Err(error(
                "identifier",
                pos,
                "revision 1 and 8 bytes",
                format_args!("{:02x?}", rest.get(..8)),
            ));
        };
        let count = usize::from(*count);
        let subs = subs.get(..count.saturating_mul(4)).filter(|_| count <= MAX_SUB_AUTHORITIES);
        let subs =
            subs.ok_or_else(|| error("identifier", pos, "at most 15 sub-authorities that are there", count))?;
        let number = |word: &[u8]| word.first_chunk().copied().map_or(0, u32::from_le_bytes);
        let authority = u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f]);
        Ok(Self { authority, subs: subs.chunks_exact(4).map(number).collect() })
    }

    /// As stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![1, u8::try_from(self.subs.len()).unwrap_or(u8::MAX)];
        out.extend_from_slice(self.authority.to_be_bytes().get(2..).unwrap_or_default());
        self.subs.iter().for_each(|sub| out.extend_from_slice(&sub.to_le_bytes()));
        out
    }

    fn len(&self) -> usize {
        self.subs.len().saturating_mul(4).saturating_add(8)
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Windows prints authorities beyond 32 bits in hexadecimal.
        match u32::try_from(self.authority) {
            Ok(authority) => write!(f, "S-1-{authority}")?,
            Err(_) => write!(f, "S-1-{:#x}", self.authority)?,
        }
        self.subs.iter().try_for_each(|sub| write!(f, "-{sub}"))
    }
}

impl FromStr for Sid {
    type Err = SddlError;

    fn from_str(text: &str) -> Result<Self, SddlError> {
        sddl::sid(text)
    }
}

/// What an entry applies to beyond its mask, in the kinds with GUIDs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ObjectTypes {
    /// Property or object class, on-disk order.
    pub object: Option<crate::Guid>,
    /// Class that inherits the entry.
    pub inherited: Option<crate::Guid>,
}

/// An entry of an access list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ace {
    /// Kind (ACE type): 0 allow, 1 deny, 2 audit, 5 to 7 the same for objects, 17 mandatory label.
    pub kind: u8,
    /// Inheritance and audit flags.
    pub flags: u8,
    /// The rest.
    pub body: AceBody,
}

/// Rights and for whom, or bytes of a kind that has something else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AceBody {
    /// Rights for an identifier.
    Rights {
        /// Access mask.
        mask: u32,
        /// Only in kinds 5 to 8 and 11, 12, 15, 16.
        types: Option<ObjectTypes>,
        /// Whom.
        sid: Sid,
        /// Conditions and attributes behind the identifier.
        extra: Vec<u8>,
    },
    /// Not understood.
    Raw(Vec<u8>),
}

impl Ace {
    /// An entry that allows `mask` to `sid`.
    pub fn allow(flags: u8, mask: u32, sid: Sid) -> Self {
        Self { kind: 0, flags, body: AceBody::Rights { mask, types: None, sid, extra: Vec::new() } }
    }

    fn has_types(kind: u8) -> bool {
        matches!(kind, 5..=8 | 11 | 12 | 15 | 16)
    }

    fn read(kind: u8, flags: u8, bytes: &[u8], pos: usize) -> Result<Self, SecurityError> {
        if !matches!(kind, 0..=3 | 5..=20) {
            return Ok(Self { kind, flags, body: AceBody::Raw(bytes.to_vec()) });
        }
        let cut = || error("access entry", pos, "mask and identifier", format_args!("{} bytes", bytes.len()));
        let number = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
        let mask = number(0).ok_or_else(cut)?;
        let mut at = 4usize;
        let mut types = None;
        if Self::has_types(kind) {
            let present = number(4).ok_or_else(cut)?;
            at = 8;
            let mut guid = |bit: u32| -> Result<Option<crate::Guid>, SecurityError> {
                if present & bit == 0 {
                    return Ok(None);
                }
                let found = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(cut)?;
                at = at.saturating_add(16);
                Ok(Some(crate::Guid(*found)))
            };
            types = Some(ObjectTypes { object: guid(1)?, inherited: guid(2)? });
        }
        let sid = Sid::read(bytes, at).map_err(|_| cut())?;
        let extra = bytes.get(at.saturating_add(sid.len())..).unwrap_or_default().to_vec();
        Ok(Self { kind, flags, body: AceBody::Rights { mask, types, sid, extra } })
    }

    fn body_bytes(&self) -> Vec<u8> {
        match &self.body {
            AceBody::Raw(bytes) => bytes.clone(),
            AceBody::Rights { mask, types, sid, extra } => {
                let mut out = mask.to_le_bytes().to_vec();
                if let Some(types) = types {
                    let present =
                        u32::from(types.object.is_some()) | (u32::from(types.inherited.is_some()) << 1);
                    out.extend_from_slice(&present.to_le_bytes());
                    for guid in [types.object, types.inherited].into_iter().flatten() {
                        out.extend_from_slice(&guid.0);
                    }
                }
                out.extend(sid.to_bytes());
                out.extend_from_slice(extra);
                out
            }
        }
    }
}

/// An access list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acl {
    /// 2, or 4 when it has entries for objects.
    pub revision: u8,
    /// In order of evaluation.
    pub entries: Vec<Ace>,
}

impl Acl {
    fn read(bytes: &[u8], pos: usize) -> Result<Self, SecurityError> {
        let rest = bytes.get(pos..).unwrap_or_default();
        let [revision, _, low, high, count_low, count_high, ..] = rest else {
            return Err(error("access list", pos, "8 bytes", rest.len()));
        };
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let count = u16::from_le_bytes([*count_low, *count_high]);
        let list = rest.get(ACL_HEADER_BYTES..len);
        let list = list.ok_or_else(|| error("access list", pos, "a size inside the descriptor", len))?;
        let mut entries = Vec::new();
        let mut at = 0usize;
        for _ in 0..count {
            let here = pos.saturating_add(ACL_HEADER_BYTES).saturating_add(at);
            let entry = list.get(at..).unwrap_or_default();
            let [kind, flags, low, high, ..] = entry else {
                return Err(error("access entry", here, "as many entries as the list states", count));
            };
            let len = usize::from(u16::from_le_bytes([*low, *high]));
            let body = entry.get(ACE_HEADER_BYTES..len);
            let body = body.ok_or_else(|| error("access entry", here, "a size inside the list", len))?;
            entries.push(Ace::read(*kind, *flags, body, here)?);
            at = at.saturating_add(len);
        }
        Ok(Self { revision: *revision, entries })
    }

    fn to_bytes(&self) -> Result<Vec<u8>, SecurityError> {
        let too_long = |len: usize| error("access list", 0, "at most 65535 bytes", len);
        let short = |len: usize| u16::try_from(len).map_err(|_| too_long(len));
        let mut entries = Vec::new();
        for entry in &self.entries {
            let mut body = entry.body_bytes();
            // Entries are multiples of four bytes.
            body.resize(body.len().next_multiple_of(4), 0);
            entries.extend_from_slice(&[entry.kind, entry.flags]);
            entries.extend_from_slice(&short(body.len().saturating_add(ACE_HEADER_BYTES))?.to_le_bytes());
            entries.extend(body);
        }
        let mut out = vec![self.revision, 0];
        out.extend_from_slice(&short(entries.len().saturating_add(ACL_HEADER_BYTES))?.to_le_bytes());
        out.extend_from_slice(&short(self.entries.len())?.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend(entries);
        Ok(out)
    }
}

/// A security descriptor: owner, group, and who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SecurityDescriptor {
    /// Control bits (SE_*) without those that say which parts are there; these follow from the fields.
    pub control: u16,
    /// Owner.
    pub owner: Option<Sid>,
    /// Primary group.
    pub group: Option<Sid>,
    /// Audit list; `Some(None)` is one that is there but null.
    pub sacl: Option<Option<Acl>>,
    /// Access list; `Some(None)` is a null list, which allows everything.
    pub dacl: Option<Option<Acl>>,
}

impl SecurityDescriptor {
    /// An access list is there.
    const DACL_PRESENT: u16 = 0x0004;
    /// An audit list is there.
    const SACL_PRESENT: u16 = 0x0010;
    /// Offsets count from the start.
    const SELF_RELATIVE: u16 = 0x8000;
    /// Bits that follow from the fields.
    const DERIVED: u16 = Self::DACL_PRESENT | Self::SACL_PRESENT | Self::SELF_RELATIVE;

    /// Reads a self-relative descriptor.
    pub fn parse(bytes: &[u8]) -> Result<Self, SecurityError> {
        let [1, _, low, high, offsets @ ..] = bytes else {
            return Err(error("descriptor", 0, "revision 1", format_args!("{:02x?}", bytes.first())));
        };
        let control = u16::from_le_bytes([*low, *high]);
        if bytes.len() < DESCRIPTOR_HEADER_BYTES {
            return Err(error("descriptor", 0, "20 bytes", bytes.len()));
        }
        if control & Self::SELF_RELATIVE == 0 {
            return Err(error(
                "descriptor control",
                2,
                "the self-relative bit",
                format_args!("{control:#06x}"),
            ));
        }
        let mut places = offsets.chunks_exact(4).map(|word| {
            let offset = word.first_chunk().copied().map_or(0, u32::from_le_bytes);
            (offset != 0).then(|| usize::try_from(offset).unwrap_or(usize::MAX))
        });
        let mut place = || places.next().flatten();
        let (owner, group, sacl, dacl) = (place(), place(), place(), place());
        let sid = |at: Option<usize>| at.map(|at| Sid::read(bytes, at)).transpose();
        let acl = |bit: u16, at: Option<usize>| -> Result<Option<Option<Acl>>, SecurityError> {
            if control & bit == 0 {
                return Ok(None);
            }
            at.map(|at| Acl::read(bytes, at)).transpose().map(Some)
        };
        Ok(Self {
            control: control & !Self::DERIVED,
            owner: sid(owner)?,
            group: sid(group)?,
            sacl: acl(Self::SACL_PRESENT, sacl)?,
            dacl: acl(Self::DACL_PRESENT, dacl)?,
        })
    }

    /// As stored in the registry and in NTFS. Fails when a list is too long for its fields.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SecurityError> {
        let mut control = (self.control & !Self::DERIVED) | Self::SELF_RELATIVE;
        let mut body = Vec::new();
        let mut add = |part: Option<Vec<u8>>| -> u32 {
            let Some(part) = part else { return 0 };
            let at = body.len().saturating_add(DESCRIPTOR_HEADER_BYTES);
            body.extend(part);
            u32::try_from(at).unwrap_or(u32::MAX)
        };
        let mut list = |list: &Option<Option<Acl>>, bit: u16| -> Result<u32, SecurityError> {
            let Some(list) = list else { return Ok(0) };
            control |= bit;
            Ok(add(list.as_ref().map(Acl::to_bytes).transpose()?))
        };
        let sacl = list(&self.sacl, Self::SACL_PRESENT)?;
        let dacl = list(&self.dacl, Self::DACL_PRESENT)?;
        let owner = add(self.owner.as_ref().map(Sid::to_bytes));
        let group = add(self.group.as_ref().map(Sid::to_bytes));
        let mut out = vec![1, 0];
        out.extend_from_slice(&control.to_le_bytes());
        [owner, group, sacl, dacl].iter().for_each(|at| out.extend_from_slice(&at.to_le_bytes()));
        out.extend(body);
        Ok(out)
    }

    /// From SDDL text, e.g. `O:BAG:SYD:PAI(A;CI;KA;;;BA)`.
    pub fn from_sddl(text: &str) -> Result<Self, SddlError> {
        sddl::parse(text)
    }

    /// As SDDL text; fails for entries that have no text (conditions, attributes, unknown kinds).
    pub fn to_sddl(&self) -> Result<String, SddlError> {
        sddl::print(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_text_and_bytes() {
        let sid: Sid = "S-1-5-32-544".parse().unwrap();
        assert_eq!(sid.to_bytes(), [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0]);
        assert_eq!(Sid::read(&sid.to_bytes(), 0), Ok(sid.clone()));
        assert_eq!(Sid::parse(&sid.to_bytes()), Ok(sid.clone()));
        for len in 0..sid.to_bytes().len() {
            assert!(Sid::parse(&sid.to_bytes()[..len]).is_err(), "{len}");
        }
        assert!(Sid::parse(&[sid.to_bytes(), vec![0]].concat()).is_err());
        assert!(!sid.is_of_domain() && "S-1-5-21-1-2-3".parse::<Sid>().unwrap().is_of_domain());
        assert!(!"S-1-5-21-1-2-3-500".parse::<Sid>().unwrap().is_of_domain());
        assert_eq!(sid.to_string(), "S-1-5-32-544");
        let large = Sid::new(0x1_0000_0000, &[1]).unwrap();
        assert_eq!(large.to_string().parse::<Sid>(), Ok(large));
        assert_eq!(Sid::new(1 << 48, &[]), None);
        assert_eq!(Sid::new(5, &[0; 16]), None);
    }

    #[test]
    fn cuts_of_a_descriptor_are_errors() {
        let text = "O:BAG:SYD:PAI(A;CI;KA;;;BA)(D;;KR;;;S-1-5-21-1-2-3-500)S:(AU;SAFA;KW;;;WD)";
        let descriptor = SecurityDescriptor::from_sddl(text).unwrap();
        let bytes = descriptor.to_bytes().unwrap();
        assert_eq!(SecurityDescriptor::parse(&bytes), Ok(descriptor));
        for len in 0..bytes.len() {
            assert!(SecurityDescriptor::parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn unknown_entries_survive() {
        let entries = vec![Ace { kind: 200, flags: 3, body: AceBody::Raw(vec![1, 2, 3, 4]) }];
        let dacl = Some(Some(Acl { revision: 2, entries }));
        let descriptor = SecurityDescriptor { dacl, ..Default::default() };
        let bytes = descriptor.to_bytes().unwrap();
        assert_eq!(SecurityDescriptor::parse(&bytes), Ok(descriptor.clone()));
        assert!(descriptor.to_sddl().is_err());
    }

    #[test]
    fn a_null_list_is_not_an_absent_one() {
        let null = SecurityDescriptor { dacl: Some(None), ..Default::default() };
        let bytes = null.to_bytes().unwrap();
        assert_eq!(bytes.get(2..4), Some(&[4, 0x80][..]));
        assert_eq!(SecurityDescriptor::parse(&bytes), Ok(null));
        let absent = SecurityDescriptor::default();
        assert_eq!(SecurityDescriptor::parse(&absent.to_bytes().unwrap()), Ok(absent));
    }
}
