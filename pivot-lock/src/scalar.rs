//! Strings and numbers as YAML text that every reader understands in the same way.
//!
//! Reading follows the core schema of YAML 1.2. PyYAML follows YAML 1.1, where `no` is false,
//! `1:30` is ninety and `2024-01-01` a date; so a string is written bare only if it looks like a
//! word to every reader, and numbers in a form that is a number of the same kind to all of them.

use std::fmt::Write;

use serde_json::{Number, Value};

/// Where a bare string stands: inside `{}` and `[]` some readers take a colon for a separator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colons {
    /// The string may hold colons that are followed by text, such as `self:train`.
    Bare,
    /// A string with a colon is quoted.
    Quoted,
}

/// Writes a string: bare where that is safe, else quoted.
pub(crate) fn write_string(out: &mut String, text: &str, colons: Colons) {
    if is_plain(text, colons) {
        out.push_str(text);
    } else if text.chars().all(|c| matches!(c, ' '..='~' | '\u{a1}'..='\u{d7ff}') && !is_break(c)) {
        write_single_quoted(out, text);
    } else {
        write_double_quoted(out, text);
    }
}

/// Writes a number so that YAML 1.1 and 1.2 agree on its value and on its being a float or not.
pub(crate) fn write_number(out: &mut String, number: &Number) {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        let _ = write!(out, "{number}");
        return;
    };
    // The shortest digits that read back as the same number, such as `0.1` or `1e21`.
    let digits = format!("{float:?}");
    match digits.split_once('e') {
        None => out.push_str(&digits),
        // YAML 1.1 wants a dot and a signed exponent: `1e21` is a string to PyYAML.
        Some((mantissa, exponent)) => {
            let dot = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            let _ = write!(out, "{mantissa}{dot}e{sign}{exponent}");
        }
    }
}

/// The value of a bare scalar in YAML 1.2's core schema.
///
/// Fails with the end of a sentence that begins with the scalar, when JSON has no such value.
pub(crate) fn resolve_plain(text: &str) -> Result<Value, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Err("is not a number, which params cannot hold"),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Err("is infinite, which params cannot hold");
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Ok(Value::from(text));
    }
    const TOO_LARGE: &str = "does not fit into 64 bits";
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        // Unlike decimal integers these have no sign in the core schema.
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            return u64::from_str_radix(digits, radix).map(Value::from).map_err(|_| TOO_LARGE);
        }
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        // `parse` takes a sign; only a negative number needs the signed type.
        let number = match text.parse::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(text.parse::<i64>().map_err(|_| TOO_LARGE)?),
        };
        return Ok(number);
    }
    if is_float(unsigned) {
        let float: f64 = text.parse().map_err(|_| "is not a number")?;
        return Number::from_f64(float).map(Value::Number).ok_or("is too large for a float");
    }
    Ok(Value::from(text))
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(unsigned: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent_is_fine) = match unsigned.split_once(['e', 'E']) {
        None => (unsigned, true),
        Some((mantissa, exponent)) => {
            (mantissa, digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)))
        }
    };
    let mantissa_is_fine = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
    };
    exponent_is_fine && mantissa_is_fine
}

fn is_plain(text: &str, colons: Colons) -> bool {
    // Nearly everything that is not a string somewhere begins with a digit, a sign or a dot …
    let Some(first) = text.bytes().next() else { return false };
    if !(first.is_ascii_alphabetic() || matches!(first, b'_' | b'/')) {
        return false;
    }
    let ordinary = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/' | b'.' | b'-' | b'+' | b'@')
    };
    let bytes = text.as_bytes();
    let fits = bytes.iter().enumerate().all(|(index, &byte)| {
        ordinary(byte)
            || byte == b':'
                && colons == Colons::Bare
                && bytes.get(index + 1).is_some_and(|&next| ordinary(next))
    });
    fits && !is_word_with_a_meaning(text)
}

/// … and the rest are these words, some of them in YAML 1.1 only.
fn is_word_with_a_meaning(text: &str) -> bool {
    const WORDS: [&str; 12] =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"];
    text.len() <= 8 && WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// Characters that end a line in YAML 1.1.
fn is_break(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

fn write_single_quoted(out: &mut String, text: &str) {
    out.push('\'');
    for c in text.chars() {
        if c == '\'' {
            out.push('\'');
        }
        out.push(c);
    }
    out.push('\'');
}

fn write_double_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\t' => write!(out, "\\t"),
            '\r' => write!(out, "\\r"),
            '\0' => write!(out, "\\0"),
            ' '..='~' => {
                out.push(c);
                Ok(())
            }
            // A byte order mark, no-break spaces, line separators, private use, noncharacters.
            '\u{a1}'..='\u{d7ff}' if !is_break(c) => {
                out.push(c);
                Ok(())
            }
            _ if (c as u32) <= 0xff => write!(out, "\\x{:02X}", c as u32),
            _ if (c as u32) <= 0xffff => write!(out, "\\u{:04X}", c as u32),
            // Emoji and rare scripts stay readable; the last two of each plane are no characters.
            _ if c as u32 & 0xfffe == 0xfffe => write!(out, "\\U{:08X}", c as u32),
            _ => {
                out.push(c);
                Ok(())
            }
        };
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(text: &str) -> String {
        let mut out = String::new();
        write_string(&mut out, text, Colons::Bare);
        out
    }

    #[test]
    fn strings_that_some_reader_takes_for_something_else_are_quoted() {
        // Each of these is no string, another string, or an error, bare, to PyYAML, ruamel.yaml
        // or a YAML 1.2 reader.
        let traps = [
            "",
            " ",
            "~",
            "null",
            "Null",
            "NULL",
            "y",
            "Y",
            "n",
            "N",
            "yes",
            "Yes",
            "YES",
            "no",
            "No",
            "NO",
            "on",
            "On",
            "ON",
            "off",
            "Off",
            "OFF",
            "true",
            "True",
            "TRUE",
            "false",
            "False",
            "FALSE",
            "0",
            "-1",
            "+1",
            "017",
            "0o17",
            "0x1F",
            "0b11",
            "1_000",
            "1:30",
            "190:20:30",
            "1.5",
            "-.5",
            ".5",
            "5.",
            "1e3",
            "1E3",
            "1e+3",
            "1.0e+3",
            "685_230.15",
            "6.8523015e+5",
            ".inf",
            "-.inf",
            "+.INF",
            ".Inf",
            ".nan",
            ".NaN",
            "2024-01-01",
            "2024-01-01 10:00:00",
            "2001-12-14t21:59:43.10-05:00",
            "=",
            "<<",
            "-",
            "- a",
            "?",
            "? a",
            ":",
            ": a",
            "a: b",
            "a:",
            "a #b",
            "#a",
            "&a",
            "*a",
            "!a",
            "!!int",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "'a",
            "\"a",
            "{a",
            "}",
            "[a",
            "]",
            ",",
            "a,b",
            "a]",
            "---",
            "...",
            "--- a",
            " a",
            "a ",
            "\ta",
            "a\t",
            "a\nb",
            "a\r",
            "\0",
            "\u{7f}",
            "\u{85}",
            "\u{a0}",
            "\u{2028}",
            "\u{feff}",
            "\u{fffe}",
            "1",
            "12e03",
            "42707261230e3444",
            "1234567890123456",
            "0000000000000000",
            "1e10000000000000",
        ];
        for trap in traps {
            let text = written(trap);
            assert!(text.starts_with(['\'', '"']) && text.ends_with(['\'', '"']), "bare {trap:?}");
        }
    }

    #[test]
    fn ordinary_words_and_paths_stay_readable() {
        for text in
            ["data.csv", "data/raw/a-b_c.csv", "train@bert_swe", "adamw", "e3", "_x", "nope"]
        {
            assert_eq!(written(text), text);
        }
        assert_eq!(written("self:train"), "self:train");
        let mut out = String::new();
        write_string(&mut out, "self:train", Colons::Quoted);
        assert_eq!(out, "'self:train'");
    }

    #[test]
    fn quotes_and_escapes() {
        for (text, expected) in [
            ("it's", "'it''s'"),
            ("données 😀", "\"données 😀\""),
            ("données", "'données'"),
            ("a\\b\n", r#""a\\b\n""#),
            ("\u{7}\u{85}\u{2028}\u{feff}\u{10ffff}", r#""\x07\x85\u2028\uFEFF\U0010FFFF""#),
        ] {
            assert_eq!(written(text), expected);
        }
    }

    #[test]
    fn numbers_keep_their_kind() {
        for (value, expected) in [
            (json!(1), "1"),
            (json!(1.0), "1.0"),
            (json!(-0.0), "-0.0"),
            (json!(0.1), "0.1"),
            (json!(1e21), "1.0e+21"),
            (json!(1.5e-7), "1.5e-7"),
            (json!(5e-324), "5.0e-324"),
            (json!(f64::MAX), "1.7976931348623157e+308"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(i64::MIN), "-9223372036854775808"),
        ] {
            let Value::Number(number) = &value else { unreachable!() };
            let mut out = String::new();
            write_number(&mut out, number);
            assert_eq!(out, expected);
            assert_eq!(resolve_plain(&out), Ok(value));
        }
    }

    #[test]
    fn bare_scalars_follow_the_core_schema() {
        for (text, expected) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("TRUE", json!(true)),
            ("no", json!("no")),
            ("yes", json!("yes")),
            ("017", json!(17)),
            ("0o17", json!(15)),
            ("0xff", json!(255)),
            ("-0xff", json!("-0xff")),
            ("0x", json!("0x")),
            ("0b1", json!("0b1")),
            ("+12", json!(12)),
            ("-12", json!(-12)),
            ("1_000", json!("1_000")),
            ("1:30", json!("1:30")),
            ("1e3", json!(1000.0)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("-.5", json!(-0.5)),
            (".", json!(".")),
            ("1.e", json!("1.e")),
            ("1e", json!("1e")),
            ("e3", json!("e3")),
            ("1.2.3", json!("1.2.3")),
            ("+", json!("+")),
            ("2024-01-01", json!("2024-01-01")),
        ] {
            assert_eq!(resolve_plain(text), Ok(expected), "{text:?}");
        }
        for text in
            [".nan", "-.inf", "+.INF", "1e999", "18446744073709551616", "0xfffffffffffffffff"]
        {
            assert!(resolve_plain(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_finite_float_reads_back(float in any::<f64>().prop_filter("finite", |f| f.is_finite())) {
            let mut out = String::new();
            write_number(&mut out, &Number::from_f64(float).unwrap());
            let read = resolve_plain(&out).unwrap();
            prop_assert_eq!(read.as_f64().unwrap().to_bits(), float.to_bits());
            prop_assert!(read.is_f64());
        }

        #[test]
        fn a_bare_string_is_a_string(text in "[-+.0-9a-zA-Z_:/@]{0,12}") {
            let out = written(&text);
            if out == text {
                prop_assert_eq!(resolve_plain(&text), Ok(Value::from(text)));
            }
        }
    }
}
