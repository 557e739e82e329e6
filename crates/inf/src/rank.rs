//! Driver rank: how well a model fits a device (WDD "how-setup-ranks-drivers"). Fits every rank that Windows stored in the
//! hives of the corpus.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::inf::Inf;
use crate::install::install_section;
use crate::models::Model;
use crate::target::Target;

/// Score of a feature without `FeatureScore`: the worst.
pub const DEFAULT_FEATURE_SCORE: u8 = 0xff;

/// Positions have 12 bits, those of compatible IDs against each other 8 and 4.
const MAX_POSITION: usize = 0xfff;

/// What signed a package, as far as it ranks. With `AllSignersEqual`, Windows' default since 7, every trusted signature
/// is alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signer {
    /// A catalogue that Windows trusts.
    #[default]
    Trusted,
    /// No signature, or none that is trusted. Windows x64 does not install it by itself.
    Untrusted,
}

/// IDs of a device in Windows' order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceIds {
    /// Hardware IDs, most specific first.
    pub hardware: Vec<String>,
    /// Compatible IDs, most specific first.
    pub compatible: Vec<String>,
}

/// Rank of a driver for a device; the lowest wins. `0xSSGGTHHH`: signature, feature score, type of match, position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(pub u32);

impl Rank {
    /// What matched: 0 hardware ID with hardware ID, 1 the device's hardware ID with a compatible ID of the file, 2 the
    /// device's compatible ID with a hardware ID of the file, 3 compatible ID with compatible ID.
    pub fn match_type(self) -> u8 {
        let [_, _, low, _] = self.0.to_be_bytes();
        low >> 4
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for Rank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A match of a model with a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// How good it is.
    pub rank: Rank,
    /// The ID that both have, as the file writes it.
    pub id: String,
    /// The model.
    pub model: Model,
}

/// The lower 16 bits of the rank, and the ID as the file writes it; `None` when nothing matches.
fn identifier_score<'a>(model: &'a Model, device: &DeviceIds) -> Option<(u32, &'a str)> {
    let position = |ids: &[String], id: &str| ids.iter().position(|found| found.eq_ignore_ascii_case(id));
    let score = |kind: u32, position: usize| {
        let position = u32::try_from(position.min(MAX_POSITION)).unwrap_or(u32::MAX);
        (kind << 12) | position
    };
    let mut best: Option<(u32, &str)> = None;
    let mut offer = |score: u32, id: &'a str| {
        if best.is_none_or(|(found, _)| score < found) {
            best = Some((score, id));
        }
    };
    if let Some(id) = &model.hardware_id {
        if let Some(at) = position(&device.hardware, id) {
            offer(score(0, at), id);
        }
        if let Some(at) = position(&device.compatible, id) {
            offer(score(2, at), id);
        }
    }
    for (index, id) in model.compatible_ids.iter().enumerate() {
        if let Some(at) = position(&device.hardware, id) {
            offer(score(1, at), id);
        }
        if let Some(at) = position(&device.compatible, id) {
            // The file's position counts before the device's.
            offer(score(3, (index.min(0xf) << 8) | at.min(0xff)), id);
        }
    }
    best
}

/// Rank of `model` for `device`; `None` when no ID of the one is one of the other.
pub fn rank(model: &Model, feature_score: u8, device: &DeviceIds, signer: Signer) -> Option<(Rank, String)> {
    let (identifier, id) = identifier_score(model, device)?;
    let signature: u32 = match signer {
        Signer::Trusted => 0,
        Signer::Untrusted => 0x8000_0000,
    };
    Some((Rank(signature | (u32::from(feature_score) << 16) | identifier), id.to_owned()))
}

impl Inf {
    /// `FeatureScore` of the install section of a model on `target`.
    pub fn feature_score(&self, model: &Model, target: &Target) -> u8 {
        let section = install_section(self, &model.install, target.arch);
        let text = section.and_then(|section| self.value_of(section, "FeatureScore"));
        // Hexadecimal with or without its sign; one byte.
        let score = text.as_deref().map(str::trim).and_then(|text| {
            let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
            u8::from_str_radix(digits, 16).ok()
        });
        score.unwrap_or(DEFAULT_FEATURE_SCORE)
    }

    /// Whether the install section of a model excludes the device (`ExcludeID`).
    fn excludes(&self, model: &Model, target: &Target, device: &DeviceIds) -> bool {
        let Some(section) = install_section(self, &model.install, target.arch) else { return false };
        let excluded = |id: &str| {
            let all = device.hardware.iter().chain(&device.compatible);
            !id.is_empty() && all.into_iter().any(|found| found.eq_ignore_ascii_case(id))
        };
        self.entries(section, "ExcludeID")
            .any(|line| (0..line.values.len()).any(|index| excluded(self.value(line, index).trim())))
    }

    /// All models of this file that fit `device` on `target`, best first.
    pub fn matches(&self, device: &DeviceIds, target: &Target, signer: Signer) -> Vec<Match> {
        let mut out: Vec<Match> = self
            .models(target)
            .into_iter()
            .filter_map(|model| {
                // Cheap first: most models do not match at all.
                identifier_score(&model, device)?;
                if self.excludes(&model, target, device) {
                    return None;
                }
                let (rank, id) = rank(&model, self.feature_score(&model, target), device, signer)?;
                Some(Match { rank, id, model })
            })
            .collect();
        out.sort_by_key(|found| found.rank);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Arch;

    fn ids(list: &[&str]) -> Vec<String> {
        list.iter().map(|id| (*id).to_owned()).collect()
    }

    fn model(hardware: &str, compatible: &[&str]) -> Model {
        Model {
            description: String::new(),
            manufacturer: String::new(),
            install: "I".into(),
            hardware_id: Some(hardware.to_owned()).filter(|id| !id.is_empty()),
            compatible_ids: ids(compatible),
            section: "M".into(),
            line: 1,
        }
    }

    #[test]
    fn the_rank_has_the_documented_fields() {
        let device = DeviceIds { hardware: ids(&["A", "B"]), compatible: ids(&["C", "D", "E"]) };
        let cases = [
            (model("a", &[]), 0xff, Some(0x00ff_0000)),
            (model("B", &[]), 0x80, Some(0x0080_0001)),
            (model("x", &["y", "B"]), 0xff, Some(0x00ff_1001)),
            (model("E", &[]), 0xff, Some(0x00ff_2002)),
            (model("x", &["y", "z", "E"]), 0xff, Some(0x00ff_3202)),
            (model("x", &["E", "C"]), 0xff, Some(0x00ff_3002)),
            (model("E", &["B"]), 0xff, Some(0x00ff_1001)),
            (model("", &["C"]), 0, Some(0x0000_3000)),
            (model("x", &["y"]), 0xff, None),
        ];
        for (model, score, expected) in cases {
            let found = rank(&model, score, &device, Signer::Trusted).map(|(rank, _)| rank.0);
            assert_eq!(found, expected, "{model:?}");
        }
        let (unsigned, id) = rank(&model("a", &[]), 0xff, &device, Signer::Untrusted).unwrap();
        assert_eq!((unsigned.to_string().as_str(), id.as_str()), ("80ff0000", "a"));
        assert_eq!(Rank(0x00ff_3202).match_type(), 3);
    }

    #[test]
    fn feature_scores_and_exclusions_come_from_the_install_section() {
        let text = "[Version]\nSignature=$Chicago$\n[Manufacturer]\nm=M,NTamd64\n[M.NTamd64]\nd=I,A\nd=J,B\nd=K,C\nd=L,A\n\
            [I.NTamd64]\nFeatureScore=0x80\n[I]\nFeatureScore=1\n[J.NT]\nFeatureScore=F8\n[K]\nExcludeID=x, b\n[L]\nFeatureScore=zz\n";
        let inf = Inf::parse(text.as_bytes()).unwrap();
        let target = Target::client(Arch::Amd64, "10.0.19045".parse().unwrap());
        let device = DeviceIds { hardware: ids(&["A", "B", "C"]), compatible: Vec::new() };
        let found = inf.matches(&device, &target, Signer::Trusted);
        let shown: Vec<String> = found.iter().map(|m| format!("{} {}", m.rank, m.model.install)).collect();
        assert_eq!(shown, ["00800000 I", "00f80001 J", "00ff0000 L"]);
    }
}
