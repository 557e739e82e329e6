//! A store: objects and their elements, read and edited.

use gravure_nttypes::{FileTime, Guid, NtName};

use super::element::{ElementFormat, ElementType, ElementValue};
use super::names;
use crate::edit::Editor;
use crate::error::{Error, invalid};
use crate::hive::{Hive, Key};
use crate::value::Data;

const OBJECTS: &str = "Objects";

/// A store to read.
#[derive(Debug, Clone, Copy)]
pub struct Store<'h> {
    hive: &'h Hive,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its GUID.
    pub id: Guid,
    /// Its type, e.g. 0x10200003 for a loader.
    pub kind: u32,
    /// In stored order, which is that of their numbers.
    pub elements: Vec<Element>,
}

/// An element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its number.
    pub kind: ElementType,
    /// Its value.
    pub value: ElementValue,
}

impl Object {
    /// The value of an element.
    pub fn element(&self, kind: ElementType) -> Option<&ElementValue> {
        self.elements.iter().find(|element| element.kind == kind).map(|element| &element.value)
    }
}

impl<'h> Store<'h> {
    /// Takes a hive that is a store: one with `Objects` and `Description`.
    pub fn new(hive: &'h Hive) -> Result<Self, Error> {
        let store = Self { hive };
        for key in [OBJECTS, "Description"] {
            if hive.find(key)?.is_none() {
                return Err(invalid(
                    "boot store",
                    "a hive with the keys Objects and Description",
                    format!("no {key}"),
                ));
            }
        }
        Ok(store)
    }

    /// All objects, in stored order.
    pub fn objects(&self) -> Result<Vec<Object>, Error> {
        self.hive.open(OBJECTS)?.subkeys()?.map(|key| object(&key?)).collect()
    }

    /// An object, or `None`.
    pub fn object(&self, id: &Guid) -> Result<Option<Object>, Error> {
        self.hive.find(&object_path(id))?.map(|key| object(&key)).transpose()
    }

    /// An object by GUID, well-known name, or `{default}`: what the boot manager starts.
    pub fn resolve(&self, text: &str) -> Result<Guid, Error> {
        let not_found = || Error::NotFound { what: "object", name: text.to_owned() };
        if !text.eq_ignore_ascii_case("{default}") {
            let id = names::object_id(text);
            return id
                .ok_or_else(|| invalid("object", "a GUID, {default} or a name such as {bootmgr}", text));
        }
        let manager = names::object_id("{bootmgr}").ok_or_else(not_found)?;
        let manager = self.object(&manager)?.ok_or_else(not_found)?;
        match manager.element(ElementType(0x2300_0003)) {
            Some(ElementValue::Object(id)) => Ok(*id),
            _ => Err(not_found()),
        }
    }

    /// A value from text as [`ElementValue::from_text`] takes it; here `{default}` stands for what the boot manager starts.
    pub fn value(&self, kind: ElementType, text: &str) -> Result<ElementValue, Error> {
        match kind.format() {
            ElementFormat::Object => self.resolve(text).map(ElementValue::Object),
            ElementFormat::ObjectList => {
                let words = text.split([',', ' ']).filter(|word| !word.is_empty());
                words.map(|word| self.resolve(word)).collect::<Result<_, _>>().map(ElementValue::ObjectList)
            }
            _ => ElementValue::from_text(kind, text),
        }
    }
}

fn object_path(id: &Guid) -> String {
    format!("{OBJECTS}\\{{{id}}}")
}

fn object(key: &Key<'_>) -> Result<Object, Error> {
    let name = key.name().to_string();
    let id = name.parse().map_err(|_| invalid("object", "a GUID", &name))?;
    let description = key.subkey(&NtName::from("Description"))?;
    let kind =
        description.map(|key| key.data("Type")).transpose()?.flatten().and_then(|data| data.as_number());
    let kind = kind.and_then(|number| u32::try_from(number).ok());
    let kind = kind.ok_or_else(|| invalid(format!("object {name}"), "a Description with a Type", "none"))?;
    let mut elements = Vec::new();
    if let Some(list) = key.subkey(&NtName::from("Elements"))? {
        for element in list.subkeys()? {
            let element = element?;
            let text = element.name().to_string();
            let number = u32::from_str_radix(&text, 16).map(ElementType);
            let number = number.map_err(|_| invalid(format!("element of {name}"), "a number", &text))?;
            let data = element.data("Element")?;
            let data = data.ok_or_else(|| invalid(format!("element {text} of {name}"), "a value", "none"))?;
            elements.push(Element { kind: number, value: ElementValue::parse(number, &data) });
        }
    }
    Ok(Object { id, kind, elements })
}

/// What happens to a list of objects, as a menu is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListChange {
    /// The objects come to its front, in their order.
    AddFirst,
    /// They come to its end.
    AddLast,
    /// They go.
    Remove,
}

/// A store being edited.
#[derive(Debug)]
pub struct StoreEditor {
    editor: Editor,
}

impl StoreEditor {
    /// Takes a clean, sound store.
    pub fn new(hive: Hive, now: FileTime) -> Result<Self, Error> {
        Store::new(&hive)?;
        Ok(Self { editor: Editor::new(hive, now)? })
    }

    /// The store as it stands now.
    pub fn store(&self) -> Store<'_> {
        Store { hive: self.editor.hive() }
    }

    /// The hive under it, for what has no method here.
    pub fn editor(&mut self) -> &mut Editor {
        &mut self.editor
    }

    /// Adds an object without elements.
    pub fn create_object(&mut self, id: &Guid, kind: u32) -> Result<(), Error> {
        let path = object_path(id);
        if self.editor.find(&path)?.is_some() {
            return Err(Error::Exists { what: "object", name: format!("{{{id}}}") });
        }
        let description = self.editor.create(&format!("{path}\\Description"))?;
        self.editor.set_value(description, &NtName::from("Type"), &Data::dword(kind))?;
        self.editor.create(&format!("{path}\\Elements"))?;
        Ok(())
    }

    /// Deletes an object with its elements. References to it stay; [`StoreEditor::unlink`] takes them out of the boot managers.
    pub fn delete_object(&mut self, id: &Guid) -> Result<(), Error> {
        let key = self.editor.find(&object_path(id))?.ok_or_else(|| not_found(id))?;
        self.editor.delete_key(key)
    }

    /// Takes an object out of what the boot managers show and start, as bcdedit does with what it deletes.
    pub fn unlink(&mut self, id: &Guid) -> Result<(), Error> {
        for name in ["{bootmgr}", "{fwbootmgr}"] {
            let Some(manager) = names::object_id(name) else { continue };
            let Some(object) = self.store().object(&manager)? else { continue };
            for Element { kind, value } in object.elements {
                match value {
                    ElementValue::Object(named) if named == *id => self.delete(&manager, kind)?,
                    ElementValue::ObjectList(list) if list.contains(id) => {
                        self.change_list(&manager, kind, ListChange::Remove, &[*id])?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Changes the list of objects that an element holds. An object is in a list once; a list without objects goes.
    pub fn change_list(
        &mut self,
        id: &Guid,
        kind: ElementType,
        change: ListChange,
        objects: &[Guid],
    ) -> Result<(), Error> {
        let object = self.store().object(id)?.ok_or_else(|| not_found(id))?;
        let old = match (object.element(kind), kind.format()) {
            (Some(ElementValue::ObjectList(list)), _) => list.clone(),
            (None, ElementFormat::ObjectList) => Vec::new(),
            _ => return Err(invalid(format!("element {kind}"), "a list of objects", "another value")),
        };
        let mut new: Vec<Guid> = old.into_iter().filter(|known| !objects.contains(known)).collect();
        match change {
            ListChange::AddFirst => new.splice(..0, objects.iter().copied()).for_each(drop),
            ListChange::AddLast => new.extend(objects),
            ListChange::Remove => {}
        }
        match (new.is_empty(), object.element(kind)) {
            (false, _) => self.set(id, kind, &ElementValue::ObjectList(new)),
            (true, Some(_)) => self.delete(id, kind),
            (true, None) => Ok(()),
        }
    }

    /// Sets an element of an object that is there.
    pub fn set(&mut self, id: &Guid, kind: ElementType, value: &ElementValue) -> Result<(), Error> {
        let path = object_path(id);
        if self.editor.find(&path)?.is_none() {
            return Err(not_found(id));
        }
        let data = value.to_data()?;
        let key = self.editor.create(&format!("{path}\\Elements\\{kind}"))?;
        self.editor.set_value(key, &NtName::from("Element"), &data)
    }

    /// Deletes an element.
    pub fn delete(&mut self, id: &Guid, kind: ElementType) -> Result<(), Error> {
        let key = self.editor.find(&format!("{}\\Elements\\{kind}", object_path(id)))?;
        let key =
            key.ok_or_else(|| Error::NotFound { what: "element", name: format!("{kind} of {{{id}}}") })?;
        self.editor.delete_key(key)
    }

    /// Checks the store and hands out its bytes.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        self.editor.finish()
    }
}

fn not_found(id: &Guid) -> Error {
    Error::NotFound { what: "object", name: format!("{{{id}}}") }
}
