//! Names of machines as NetBIOS and Windows setup take them.

use crate::Error;

/// Longest NetBIOS name of a machine.
pub const MAX_COMPUTER_NAME: usize = 15;

/// Checks the name of a machine: 1 to 15 letters, digits and inner dashes, not all digits. Windows stops in the middle of its
/// setup over any other.
pub fn check_computer_name(name: &str) -> Result<(), Error> {
    let is_fine = (1..=MAX_COMPUTER_NAME).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.bytes().all(|c| c.is_ascii_digit());
    if is_fine {
        return Ok(());
    }
    Err(Error::Invalid {
        what: "computer name".to_owned(),
        expected: "1 to 15 letters, digits and inner dashes, not digits only".to_owned(),
        found: format!("{name:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_setup_stops_at_are_refused() {
        for name in ["PC-1", "a", "ABCDEFGHIJKLMNO", "1a"] {
            assert!(check_computer_name(name).is_ok(), "{name}");
        }
        for name in ["", "ABCDEFGHIJKLMNOP", "pc_1", "-pc", "pc-", "12345", "pc.local", "pä", "a b"] {
            let error = check_computer_name(name).unwrap_err().to_string();
            let expected =
                "computer name: expected 1 to 15 letters, digits and inner dashes, not digits only";
            assert_eq!(error, format!("{expected}, found {name:?}"));
        }
    }
}
