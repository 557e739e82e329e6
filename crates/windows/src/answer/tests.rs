//! Answer files read, continued and written; settings checked.

use super::*;

const EXISTING: &str = r#"<?xml version="1.0"?>
<unattend xmlns="urn:schemas-microsoft-com:unattend">
  <!-- ours -->
  <settings pass="specialize">
    <component name="Microsoft-Windows-Deployment" processorArchitecture="amd64" publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS">
      <RunSynchronous>
        <RunSynchronousCommand><Order>3</Order><Path>first.cmd &amp; x</Path></RunSynchronousCommand>
      </RunSynchronous>
    </component>
    <component name="Microsoft-Windows-Shell-Setup" processorArchitecture="amd64"><ComputerName>OLD</ComputerName><BluetoothTaskbarIconEnabled>false</BluetoothTaskbarIconEnabled></component>
  </settings>
</unattend>"#;

const SETTINGS: &str = r#"
computer-name = "PC-7"
time-zone = "W. Europe Standard Time"
ui-language = "de-DE"
administrator-password = "Geheim"
product-key = "AAAAA-BBBBB"
oobe = { skip = true }
join = { offline-blob = "QUJD\nREVG" }
[[account]]
name = "lehrer"
password = "x"
groups = ["Administrators"]
[[command]]
run = "cmd /c echo 1"
[[command]]
run = "notepad"
pass = "oobeSystem"
"#;

#[test]
fn settings_go_into_a_file_that_keeps_everything_else() {
    let mut answers = AnswerFile::parse(EXISTING.as_bytes()).unwrap();
    let settings = AnswerSettings::from_toml(SETTINGS).unwrap();
    settings.put_into(&mut answers, Arch::Amd64);
    answers.run_in_specialize(Arch::Amd64, "drivers", "pnputil", Position::First);
    answers.run_in_specialize(Arch::Amd64, "drivers", "pnputil", Position::First);
    assert_eq!(answers.commands_in_specialize(), ["pnputil", "first.cmd & x", "cmd /c echo 1"]);
    let again = AnswerFile::parse(&answers.to_bytes()).unwrap();
    assert_eq!(again, answers);
    let text = String::from_utf8(answers.to_bytes()).unwrap();
    for part in [
        "<!-- ours -->",
        "<ComputerName>PC-7</ComputerName>",
        "<BluetoothTaskbarIconEnabled>false</BluetoothTaskbarIconEnabled>",
        "<AccountData>QUJDREVG</AccountData>",
        "<ProductKey>AAAAA-BBBBB</ProductKey>",
        "<HideEULAPage>true</HideEULAPage>",
        "<CommandLine>notepad</CommandLine>",
        "<Group>Administrators</Group>",
        // "GeheimAdministratorPassword" in UTF-16, base64.
        "<Value>RwBlAGgAZQBpAG0AQQBkAG0AaQBuAGkAcwB0AHIAYQB0AG8AcgBQAGEAcwBzAHcAbwByAGQA</Value>",
        "xmlns:wcm=",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(text.matches("<ComputerName>").count(), 1);
    // The time zone is for both passes.
    assert_eq!(text.matches("W. Europe Standard Time").count(), 2);
    assert!(!text.contains(">OLD<"));
    // A second time nothing is doubled but what is a list of its own.
    let accounts = |text: &str| text.matches("<LocalAccount ").count();
    settings.put_into(&mut answers, Arch::Amd64);
    assert_eq!(accounts(&String::from_utf8(answers.to_bytes()).unwrap()), 1);
}

#[test]
fn secrets_are_not_shown() {
    let settings = AnswerSettings::from_toml(SETTINGS).unwrap();
    assert!(settings.has_secrets());
    let shown = format!("{settings:?}");
    for secret in ["Geheim", "AAAAA", "QUJD", "\"x\""] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let error = AnswerSettings::from_toml("administrator-password = [\"Geheim\"]").unwrap_err().to_string();
    assert!(!error.contains("Geheim"), "{error}");
}

#[test]
fn what_setup_would_stop_at_is_refused() {
    let cases = [
        ("computer-name = \"much-too-long-a-name\"", "computer name: expected 1 to 15"),
        ("[[account]]\nname = \"a/b\"", "account name: expected 1 to 20"),
        ("[[account]]\nname = \"\"", "account name: expected 1 to 20"),
        ("join = { offline-blob = \"***\" }", "offline domain join: expected a blob in base64"),
        ("colour = 1", "settings: expected settings of a machine, found unknown field `colour`"),
    ];
    for (text, message) in cases {
        let error = AnswerSettings::from_toml(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{text}: {error}");
    }
    assert!(AnswerSettings::from_toml("computer-name = \"*\"").is_ok());
    assert!(AnswerSettings::from_toml("").unwrap().is_empty());
}

#[test]
fn any_cut_of_a_file_gives_an_error_or_a_file() {
    let bytes = EXISTING.as_bytes();
    for len in 0..bytes.len() {
        let error = AnswerFile::parse(&bytes[..len]).unwrap_err().to_string();
        assert!(error.starts_with("answer file: expected "), "{len}: {error}");
    }
    let wide: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(EXISTING.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(AnswerFile::parse(&wide).unwrap(), AnswerFile::parse(bytes).unwrap());
    for bad in [&wide[..wide.len() - 1], b"<a/>", b"\xff", b"<!DOCTYPE a [<!ENTITY b \"c\">]><unattend/>"] {
        assert!(AnswerFile::parse(bad).is_err());
    }
}
