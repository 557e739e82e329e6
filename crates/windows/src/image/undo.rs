//! Undoing the last recorded run.

use gravure_nttypes::NtName;

use super::WindowsImage;
use crate::Error;
use crate::answer::kept::{self, Kept};
use crate::answer::{AnswerFile, MAX_ANSWER_BYTES};
use crate::journal::{Change, MAX_RECORD_BYTES, RECORD_VERSION, RECORDS, Record};

impl WindowsImage<'_> {
    /// Records in the image, oldest first.
    pub fn records(&self) -> Result<Vec<Record>, Error> {
        self.record_numbers().into_iter().map(|number| self.record(number)).collect()
    }

    fn record(&self, number: u32) -> Result<Record, Error> {
        let path = format!("{RECORDS}\\{number:04}.json");
        let corrupt = |expected: &str, found: String| Error::Corrupt {
            path: path.clone(),
            expected: expected.to_owned(),
            found,
        };
        let not_found = || Error::NotFound { what: "record of changes", name: path.clone() };
        let bytes = self.read_file(&path, MAX_RECORD_BYTES)?.ok_or_else(not_found)?;
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| corrupt("a record of changes", error.to_string()))?;
        if record.version != RECORD_VERSION {
            return Err(corrupt("version 1", format!("version {}", record.version)));
        }
        Ok(record)
    }

    /// Undoes the newest record and takes it away; gives the record back. The image must not have been changed otherwise by
    /// this value: what is undone is not recorded.
    pub fn undo_last(&mut self) -> Result<Record, Error> {
        if !self.changes.is_empty() {
            return Err(Error::Refused {
                path: "undoing changes".to_owned(),
                why: "the image was changed in the same run".to_owned(),
            });
        }
        let numbers = self.record_numbers();
        let Some(number) = numbers.last().copied() else {
            return Err(Error::NotFound { what: "record of changes", name: RECORDS.to_owned() });
        };
        let record = self.record(number)?;
        for change in record.changes.iter().rev() {
            self.undo(change)?;
        }
        self.remove_unrecorded(&format!("{RECORDS}\\{number:04}.json"))?;
        let kept = format!("{RECORDS}\\{number:04}");
        if self.find(&kept).is_some() {
            self.remove_unrecorded(&kept)?;
        }
        // Directories of records go when nothing is left in them.
        for dir in [RECORDS, "Windows\\Gravure"] {
            if self.find(dir).is_some() && self.names(dir).is_empty() {
                self.remove_unrecorded(dir)?;
            }
        }
        Ok(record)
    }

    /// Takes the secrets out of answer files that are kept.
    pub(super) fn hide_secrets(&mut self) -> Result<(), Error> {
        let mut changes = std::mem::take(&mut self.changes);
        for change in &mut changes {
            let (path, kept) = match change {
                Change::FileReplaced { path, kept } | Change::FileRemoved { path, kept } => {
                    (path.clone(), kept.clone())
                }
                _ => continue,
            };
            let is_large = self.content_of(&kept).is_none_or(|content| content.size > MAX_ANSWER_BYTES);
            if is_large || !path.to_lowercase().ends_with(".xml") {
                continue;
            }
            let Some(old) = self.answers_at(&kept)? else { continue };
            let now = self.answers_at(&path)?;
            let Some(Kept { answers, taken }) = kept::hide(&old, now.as_ref()) else { continue };
            self.set_content_unrecorded(&kept, answers.to_bytes())?;
            *change = match change {
                Change::FileRemoved { .. } => Change::AnswersRemoved { path, kept },
                _ => Change::AnswersReplaced { path, kept, taken },
            };
        }
        self.changes = changes;
        Ok(())
    }

    /// The answer file at a path; `None` when there is none, or another file.
    fn answers_at(&self, path: &str) -> Result<Option<AnswerFile>, Error> {
        let bytes = self.read_file(path, MAX_ANSWER_BYTES)?;
        Ok(bytes.and_then(|bytes| AnswerFile::parse(&bytes).ok()))
    }

    fn answers_with_secrets(
        &self,
        path: &str,
        kept: &str,
        taken: &[Option<usize>],
    ) -> Result<AnswerFile, Error> {
        let (old, now) = (self.answers_at(kept)?, self.answers_at(path)?);
        let restored = old
            .zip(now)
            .and_then(|(answers, now)| kept::restore(Kept { answers, taken: taken.to_vec() }, &now));
        restored.ok_or_else(|| secrets_are_gone(path))
    }

    fn undo(&mut self, change: &Change) -> Result<(), Error> {
        match change {
            Change::DirectoryAdded { path } => {
                // What others put there since then stays.
                if self.find(path).is_some() && self.names(path).is_empty() {
                    self.remove_unrecorded(path)?;
                }
                Ok(())
            }
            Change::FileAdded { path } => {
                if self.find(path).is_some() {
                    self.remove_unrecorded(path)?;
                }
                Ok(())
            }
            Change::FileReplaced { path, kept } | Change::FileRemoved { path, kept } => {
                if self.find(path).is_some() {
                    self.remove_unrecorded(path)?;
                }
                self.move_unrecorded(kept, path)
            }
            Change::AnswersReplaced { path, kept, taken } => {
                let answers = self.answers_with_secrets(path, kept, taken)?;
                self.remove_unrecorded(path)?;
                self.move_unrecorded(kept, path)?;
                self.set_content_unrecorded(path, answers.to_bytes())
            }
            Change::AnswersRemoved { path, .. } => Err(secrets_are_gone(path)),
            Change::SecuritySet { path, before } => {
                let before = before.as_deref().and_then(crate::journal::unhex);
                self.set_security_unrecorded(path, before.as_deref())
            }
            Change::KeySecuritySet { hive, key, before } => {
                let before = crate::journal::unhex(before).unwrap_or_default();
                self.edit_unrecorded(*hive, |editor| match editor.find(key)? {
                    Some(id) if !before.is_empty() => editor.set_security(id, &before),
                    _ => Ok(()),
                })
            }
            Change::KeyAdded { hive, key } => self.edit_unrecorded(*hive, |editor| {
                if let Some(id) = editor.find(key)? {
                    editor.delete_key(id)?;
                }
                Ok(())
            }),
            Change::KeyRemoved { hive, key, security, class } => {
                let descriptor = crate::journal::unhex(security).unwrap_or_default();
                self.edit_unrecorded(*hive, |editor| {
                    let id = editor.create(key)?;
                    if !descriptor.is_empty() {
                        editor.set_security(id, &descriptor)?;
                    }
                    if class.is_empty() {
                        Ok(())
                    } else {
                        editor.set_class(id, &NtName::from(class.as_str()))
                    }
                })
            }
            Change::ValueSet { hive, key, value, before, .. } => {
                let before = before.as_ref().map(crate::journal::StoredData::data).transpose()?;
                self.edit_unrecorded(*hive, |editor| {
                    let name = NtName::from(value.as_str());
                    match (editor.find(key)?, &before) {
                        (Some(id), Some(data)) => editor.set_value(id, &name, data),
                        (Some(id), None) => editor.delete_value(id, &name).map(|_| ()),
                        (None, _) => Ok(()),
                    }
                })
            }
            Change::ValueRemoved { hive, key, value, before } => {
                let data = before.data()?;
                self.edit_unrecorded(*hive, |editor| {
                    let id = editor.create(key)?;
                    editor.set_value(id, &NtName::from(value.as_str()), &data)
                })
            }
        }
    }
}

fn secrets_are_gone(path: &str) -> Error {
    let why = "secrets that stood in it before are not kept, so it cannot be put back as it was";
    Error::Refused { path: path.to_owned(), why: why.to_owned() }
}
