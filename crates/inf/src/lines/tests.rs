//! The grammar, case by case. All but those marked were compared with what Wine's setupapi reads.

use super::*;

/// `key|value|value` of each line of section A.
fn lines(text: &str) -> Vec<String> {
    let sections = parse(&format!("[A]\n{text}")).unwrap().sections;
    let shown = |line: &Line| {
        let key = line.key.as_deref().unwrap_or("-");
        format!("{key}|{}", line.values.join("|"))
    };
    sections
        .iter()
        .filter(|section| section.name == "A")
        .flat_map(|section| &section.lines)
        .map(shown)
        .collect()
}

#[test]
fn keys_values_and_blanks() {
    let cases = [
        ("plain", "-|plain"),
        ("plain, two", "-|plain|two"),
        ("  k = v , w ,, x,  ", "k|v|w||x|"),
        ("k=", "k|"),
        ("k=,", "k||"),
        ("=v", "|v"),
        (",v", "-||v"),
        ("a=b=c", "a|b=c"),
        ("a,b=c", "-|a|b=c"),
        ("k = q  q", "k|q  q"),
        ("k=a\tb\t,\tc", "k|a\tb|c"),
    ];
    for (text, expected) in cases {
        assert_eq!(lines(text), [expected], "{text:?}");
        assert_eq!(lines(&format!("{text}\r\n")), [expected], "{text:?}");
    }
}

#[test]
fn quotes() {
    let cases = [
        (r#"k = "a ""b"" c" , "  sp  ""#, r#"k|a "b" c|  sp  "#),
        (r#""quoted key" = v"#, "quoted key|v"),
        (r#""x=y"=1"#, "x=y|1"),
        (r#""a;b" ; comment"#, "-|a;b"),
        (r#""a,b",c"#, "-|a,b|c"),
        (r#"x="a"b"c",  d"e""#, "x|abc|de"),
        (r#"y= "a" "b" "#, "y|a b"),
        (r#"z="a"""#, "z|a\""),
        (r#"w="""""#, "w|\""),
        (r#"open = "unclosed, x"#, "open|unclosed, x"),
        (r#"v=""#, "v|"),
    ];
    for (text, expected) in cases {
        assert_eq!(lines(text), [expected], "{text:?}");
        assert_eq!(lines(&format!("{text}\r\n")), [expected], "{text:?}");
    }
}

#[test]
fn comments_and_tokens() {
    assert_eq!(lines("; c\n a;b\n;\n"), ["-|a"]);
    assert_eq!(lines("x=50% ; c"), ["x|50%"]);
    assert_eq!(lines("%a%=%b%;c, %d%"), ["%a%|%b%"]);
    // Documented so; Wine ends the field at the semicolon.
    assert_eq!(lines("%a;b%=1"), ["%a;b%|1"]);
    assert_eq!(lines("%a=b%=2"), ["%a|b%=2"]);
    assert_eq!(lines("%PCI\\VEN_8086&DEV_9A0B.Desc% = x, y"), ["%PCI\\VEN_8086&DEV_9A0B.Desc%|x|y"]);
}

#[test]
fn continuation() {
    let cases = [
        ("x = a, \\\n  b, \\   \r\n  c \\ ; comment\n  d, e", "x|a|b|cd|e"),
        ("x=c:\\dir\\, next", "x|c:\\dir\\|next"),
        ("x=c:\\dir\\\ny = 1", "x|c:\\diry = 1"),
        ("x=\"c:\\dir\\\"\\\n,y", "x|c:\\dir\\|y"),
        ("x=a\\b\\\\\n c", "x|a\\b\\c"),
        ("y \\\n = b", "y|b"),
        ("long\\\nname=c", "longname|c"),
        ("x=a,\\\n [B]", "x|a|[B]"),
        ("x=a\\", "x|a"),
    ];
    for (text, expected) in cases {
        assert_eq!(lines(text), [expected], "{text:?}");
    }
    assert_eq!(lines("x=a\\\n\n y=b"), ["x|a", "y|b"]);
    assert_eq!(lines("x=a,\\\n;comment\n b"), ["x|a|", "-|b"]);
    // Not within quotes.
    assert_eq!(lines("x=\"abc\\\r\n def\", g"), ["x|abc\\", "-|def, g"]);
}

#[test]
fn headers_and_ends() {
    let names = |text: &str| parse(text).map(|s| s.sections.into_iter().map(|s| s.name).collect::<Vec<_>>());
    assert_eq!(
        names("[A]\n[ B c ] ; c\n[C] rest\n[]\n[\"D\"]\n[E;x]").unwrap(),
        ["A", "B c", "C", "", "\"D\"", "E;x"]
    );
    assert_eq!(names("").unwrap(), [""; 0]);
    assert_eq!(names("\n ; c\n\x1a[A]\n").unwrap(), [""; 0]);
    assert_eq!(lines("x=a\x1a,b\ny=1"), ["x|a"]);
    assert_eq!(lines("x=a;\x1a\ny=1"), ["x|a"]);
    assert_eq!(lines("x=a\0\0\0"), ["x|a"]);
    assert_eq!(parse("***\n;\n*,\\\na\n[A]\nx").unwrap().stray, [1, 3]);
    let numbers: Vec<u32> = parse("\n[A]\nx=\\\n1\ny=2")
        .unwrap()
        .sections
        .iter()
        .flat_map(|s| s.lines.iter().map(|l| l.number))
        .collect();
    assert_eq!(numbers, [3, 5]);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let error = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(error("[A]\n[B\n]"), "line 2: expected \"]\" at the end of a section's name, found \"[B\"");
    assert_eq!(error("[A]\nx\0y"), "line 2: expected text, found a NUL character");
    let long = format!("[A]\nx={}", "y".repeat(5000));
    assert_eq!(error(&long), "line 2: expected a field of at most 4095 characters, found 5000 characters");
    let long = format!("[{}]", "y".repeat(256));
    assert_eq!(
        error(&long),
        "line 1: expected a section name of at most 255 characters, found 256 characters"
    );
}
