//! Registry hives with given values.
#![expect(clippy::unwrap_used, reason = "values of tests")]

use gravure_hive::{CreateOptions, Data, Editor, Hive};
use gravure_nttypes::{FileTime, NtName, SecurityDescriptor};

/// The bytes of a sound hive with these values, given as key, name and data; keys are made as far as they are not there. Administrators
/// may do everything in it, users may read.
///
/// # Panics
///
/// When the values make no hive: the test is wrong.
pub fn hive(values: &[(&str, &str, Data)]) -> Vec<u8> {
    let options = CreateOptions {
        minor: 5,
        root_name: "ROOT".into(),
        security: SecurityDescriptor::from_sddl("O:BAG:BAD:(A;CI;KA;;;BA)(A;CI;KR;;;BU)").unwrap(),
        now: FileTime(1),
    };
    let mut editor = Editor::new(Hive::create(&options).unwrap(), FileTime(1)).unwrap();
    for (key, name, data) in values {
        let id = editor.create(key).unwrap();
        editor.set_value(id, &NtName::from(*name), data).unwrap();
    }
    editor.finish().unwrap()
}
