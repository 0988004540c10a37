//! What an untyped scalar means: the core schema of YAML 1.2 (section 10.3.2).

use crate::value::Value;

/// A scalar as written: its text after escapes, and what it means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) kind: ScalarKind,
}

/// The meaning of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ScalarKind {
    Null,
    Bool(bool),
    Int(i64),
    /// An integer that does not fit into 64 bits with a sign.
    HugeInt,
    Float(f64),
    Text,
}

impl Scalar {
    /// A scalar without quotes.
    pub(crate) fn plain(text: String) -> Self {
        let kind = resolve(&text);
        Self { text, kind }
    }

    /// A scalar in quotes, or a block of text.
    pub(crate) fn text(text: String) -> Self {
        Self { text, kind: ScalarKind::Text }
    }

    pub(crate) fn null() -> Self {
        Self { text: String::new(), kind: ScalarKind::Null }
    }

    /// The value; an integer that is too large is a text.
    pub(crate) fn to_value(&self) -> Value {
        match self.kind {
            ScalarKind::Null => Value::Null,
            ScalarKind::Bool(value) => Value::Bool(value),
            ScalarKind::Int(value) => Value::Int(value),
            ScalarKind::Float(value) => Value::Float(value),
            ScalarKind::HugeInt | ScalarKind::Text => Value::String(self.text.clone()),
        }
    }

    pub(crate) fn describe(&self) -> &'static str {
        match self.kind {
            ScalarKind::Null => "empty",
            ScalarKind::Bool(_) => "a boolean",
            ScalarKind::Int(_) | ScalarKind::HugeInt => "an integer",
            ScalarKind::Float(_) => "a number",
            ScalarKind::Text => "a string",
        }
    }
}

/// Whether `text` without quotes reads as the same text, anywhere in a line of YAML.
///
/// It says no more often than it must: quotes are never wrong.
pub(crate) fn is_plain_text(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '$');
    let later = |c: char| first(c) || matches!(c, '-' | '+' | '@' | '=');
    text.starts_with(first)
        && text.chars().all(later)
        && !text.starts_with("...")
        && resolve(text) == ScalarKind::Text
}

fn resolve(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return ScalarKind::Null,
        "true" | "True" | "TRUE" => return ScalarKind::Bool(true),
        "false" | "False" | "FALSE" => return ScalarKind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return ScalarKind::Float(f64::NAN),
        _ => {}
    }
    // Every number begins with one of these; most texts do not, and are done here.
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return ScalarKind::Text;
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return match digits.chars().all(|c| c.is_digit(radix)) && !digits.is_empty() {
                true => {
                    i64::from_str_radix(digits, radix).map_or(ScalarKind::HugeInt, ScalarKind::Int)
                }
                false => ScalarKind::Text,
            };
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return ScalarKind::Float(sign * f64::INFINITY);
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|c| c.is_ascii_digit()) {
        return text.parse().map_or(ScalarKind::HugeInt, ScalarKind::Int);
    }
    match is_float(unsigned) {
        true => text.parse().map_or(ScalarKind::Text, ScalarKind::Float),
        false => ScalarKind::Text,
    }
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(unsigned: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa_ok && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

#[cfg(test)]
mod tests {
    use super::ScalarKind::{Bool, Float, HugeInt, Int, Null, Text};
    use super::*;

    #[test]
    fn the_core_schema() {
        let infinity = f64::INFINITY;
        let cases: &[(&[&str], ScalarKind)] = &[
            (&["", "~", "null", "Null", "NULL"], Null),
            (&["true", "True", "TRUE"], Bool(true)),
            (&["false", "False", "FALSE"], Bool(false)),
            (&["no", "yes", "on", "off", "y", "N", "tRUE", "nULL"], Text),
            (&["0", "-0", "+0", "00"], Int(0)),
            (&["17", "017", "+17", "0o21", "0x11"], Int(17)),
            (&["-17", "-017"], Int(-17)),
            (&["0xFf"], Int(255)),
            (&["9223372036854775807"], Int(i64::MAX)),
            (&["-9223372036854775808"], Int(i64::MIN)),
            (&["9223372036854775808", "-9223372036854775809", "0xffffffffffffffff"], HugeInt),
            (&["0o8", "0x", "0xg", "-0x1", "0b1", "1_000", "1:30", "12e", "e3", "1e+", "+"], Text),
            (&["1.2.3", ".", "-", "-.", "..", "1,5", "0x1.8", "inf", "nan", "--1", "١"], Text),
            (&["2026-01-08", "12:00", "1 2", "<<", "=", ".inff", "+.nan"], Text),
            (&["1e3", "1E3", "1e+3", "+1e3", "1000.", "1000.0", "100.0e1"], Float(1000.0)),
            (&[".5", "0.5", "5e-1", "+.5"], Float(0.5)),
            (&["-.5"], Float(-0.5)),
            (&[".inf", ".Inf", ".INF", "+.inf", "1e999"], Float(infinity)),
            (&["-.inf", "-.INF"], Float(-infinity)),
        ];
        for (texts, expected) in cases {
            for text in *texts {
                assert_eq!(resolve(text), *expected, "{text:?}");
            }
        }
        for text in [".nan", ".NaN", ".NAN"] {
            assert!(matches!(resolve(text), Float(value) if value.is_nan()), "{text}");
        }
        for text in ["true", "1", "~", ""] {
            assert_eq!(Scalar::text(text.to_owned()).kind, Text, "quoted {text:?}");
        }
    }
}
