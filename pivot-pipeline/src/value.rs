//! The value of a param.
//!
//! A [`Value`] has one meaning in YAML, in JSON and in Python, and one
//! [canonical text](Value::canonical): two values are the same exactly when their canonical
//! texts are, so that text is what identity is computed from.

use std::fmt;

use indexmap::IndexMap;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::yaml::is_plain_text;

/// Names with values, in the order in which they were written.
pub type Map = IndexMap<String, Value>;

/// A param's value: what YAML 1.2 and JSON have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `null`, Python's `None`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number; `1` and `1.0` are different values.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    String(String),
    /// Several values in order.
    List(Vec<Value>),
    /// Values by name.
    Map(Map),
}

impl Value {
    /// JSON with sorted keys and without spaces; floats in their shortest form that reads back.
    ///
    /// A float always has a `.`, an `e` or is one of `Infinity`, `-Infinity` and `NaN` (which
    /// JSON lacks), so it never looks like an integer.
    ///
    /// ```
    /// use pivot_pipeline::Value;
    ///
    /// let value = Value::from_yaml("{lr: 1e-3, layers: [1, 1.0], act: relu}")?;
    /// assert_eq!(value.canonical(), r#"{"act":"relu","layers":[1,1.0],"lr":0.001}"#);
    /// # Ok::<(), pivot_pipeline::PipelineError>(())
    /// ```
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        self.write_canonical(&mut text);
        text
    }

    /// Lays `over` on this value: mappings merge by name, at every depth; all else is replaced.
    pub fn merge(&mut self, over: &Value) {
        match (self, over) {
            (Value::Map(below), Value::Map(above)) => merge_maps(below, above),
            (below, above) => *below = above.clone(),
        }
    }

    /// The value at the end of `path` through nested mappings.
    pub fn get<'v>(&'v self, path: &[impl AsRef<str>]) -> Option<&'v Value> {
        path.iter().try_fold(self, |value, key| match value {
            Value::Map(map) => map.get(key.as_ref()),
            _ => None,
        })
    }

    /// The entries, if this is a mapping.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The same value for `serde_json`; a float that JSON cannot write becomes `null`.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::String(value) => value.as_str().into(),
            Value::List(items) => items.iter().map(Value::to_json).collect(),
            Value::Map(map) => map.iter().map(|(key, value)| (key, value.to_json())).collect(),
        }
    }

    /// The value that `json` stands for.
    ///
    /// # Errors
    ///
    /// When a number is an integer that does not fit into 64 bits with a sign.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, ValueError> {
        Ok(match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => {
                if let Some(value) = number.as_i64() {
                    Value::Int(value)
                } else if number.is_u64() {
                    return Err(ValueError::IntegerRange { text: number.to_string() });
                } else {
                    Value::Float(number.as_f64().unwrap_or(f64::NAN))
                }
            }
            serde_json::Value::String(text) => Value::String(text.clone()),
            serde_json::Value::Array(items) => {
                Value::List(items.iter().map(Value::from_json).collect::<Result<_, _>>()?)
            }
            serde_json::Value::Object(map) => Value::Map(
                map.iter()
                    .map(|(key, value)| Ok((key.clone(), Value::from_json(value)?)))
                    .collect::<Result<_, ValueError>>()?,
            ),
        })
    }

    fn write_canonical(&self, text: &mut String) {
        match self {
            Value::Null => text.push_str("null"),
            Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) => text.push_str(&value.to_string()),
            Value::Float(value) if value.is_nan() => text.push_str("NaN"),
            Value::Float(value) if value.is_infinite() => {
                text.push_str(if *value > 0.0 { "Infinity" } else { "-Infinity" });
            }
            // `{:?}` prints the shortest digits that read back, and always a `.` or an `e`.
            Value::Float(value) => text.push_str(&format!("{value:?}")),
            Value::String(value) => push_quoted(text, value),
            Value::List(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    item.write_canonical(text);
                }
                text.push(']');
            }
            Value::Map(map) => write_canonical_map(map, text),
        }
    }
}

/// A stage's params: values that are injected into it and are part of its identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(Map);

impl Params {
    /// Params with these values.
    pub fn new(map: Map) -> Self {
        Self(map)
    }

    /// The values by name.
    pub fn as_map(&self) -> &Map {
        &self.0
    }

    /// The values by name.
    pub fn into_map(self) -> Map {
        self.0
    }

    /// The value called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lays `over` on these params, as [`Value::merge`] does.
    pub fn merge(&mut self, over: &Map) {
        merge_maps(&mut self.0, over);
    }

    /// The text that identity is computed from: see [`Value::canonical`].
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        write_canonical_map(&self.0, &mut text);
        text
    }

    /// The same params for `serde_json`: an object.
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(|(key, value)| (key, value.to_json())).collect()
    }
}

/// Why something is not a [`Value`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    /// An integer that does not fit into 64 bits with a sign.
    #[error("the integer {text} does not fit into 64 bits")]
    IntegerRange {
        /// Its digits.
        text: String,
    },
}

/// Lays `above` on `below`; see [`Value::merge`].
pub(crate) fn merge_maps(below: &mut Map, above: &Map) {
    for (key, value) in above {
        match below.get_mut(key) {
            Some(known) => known.merge(value),
            None => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

fn write_canonical_map(map: &Map, text: &mut String) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    text.push('{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_quoted(text, key);
        text.push(':');
        value.write_canonical(text);
    }
    text.push('}');
}

/// Appends `value` in quotes, as both JSON and YAML read it.
fn push_quoted(text: &mut String, value: &str) {
    use fmt::Write as _;
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            // What YAML does not call printable, and the line breaks of Unicode.
            '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                write!(text, "\\u{:04x}", u32::from(c)).expect("a String takes all text");
            }
            _ => text.push(c),
        }
    }
    text.push('"');
}

/// For people, as YAML in one line: `{lr: 0.001, layers: [1, 2]}`. It reads back as the same value.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Float(value) if value.is_nan() => f.write_str(".nan"),
            Value::Float(value) if value.is_infinite() => {
                f.write_str(if *value > 0.0 { ".inf" } else { "-.inf" })
            }
            Value::Float(value) => write!(f, "{value:?}"),
            Value::String(text) => write_text(f, text),
            Value::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
            Value::Map(map) => {
                f.write_str("{")?;
                for (index, (key, value)) in map.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write_text(f, key)?;
                    write!(f, ": {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    if is_plain_text(text) {
        return f.write_str(text);
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    push_quoted(&mut quoted, text);
    f.write_str(&quoted)
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::List(items) => serializer.collect_seq(items),
            Value::Map(map) => serializer.collect_map(map),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a param value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        i64::try_from(value)
            .map(Value::Int)
            .map_err(|_| E::custom(ValueError::IntegerRange { text: value.to_string() }))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, value)) = entries.next_entry()? {
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(yaml: &str) -> Value {
        Value::from_yaml(yaml).unwrap()
    }

    #[test]
    fn canonical_text_tells_values_apart() {
        let cases = [
            ("1", "1"),
            ("1.0", "1.0"),
            ("-0.0", "-0.0"),
            ("1e16", "1e16"),
            ("0.1", "0.1"),
            ("1e-7", "1e-7"),
            ("9007199254740993", "9007199254740993"),
            ("~", "null"),
            ("\"null\"", "\"null\""),
            ("\"1\"", "\"1\""),
            ("{b: 1, a: {d: [], c: {}}}", r#"{"a":{"c":{},"d":[]},"b":1}"#),
            (r#""a\"b\\\n\t\u0001ü""#, r#""a\"b\\\n\t\u0001ü""#),
        ];
        for (yaml, expected) in cases {
            assert_eq!(value(yaml).canonical(), expected, "{yaml}");
        }
        assert_eq!(Value::Float(f64::INFINITY).canonical(), "Infinity");
        assert_eq!(Value::Float(f64::NAN).canonical(), "NaN");
    }

    #[test]
    fn canonical_text_ignores_the_order_of_names_only() {
        assert_eq!(value("{a: 1, b: 2}").canonical(), value("{b: 2, a: 1}").canonical());
        assert_ne!(value("[a, b]").canonical(), value("[b, a]").canonical());
    }

    #[test]
    fn mappings_merge_and_lists_replace() {
        let mut below = value("{a: {x: 1, y: [1, 2]}, b: 1, c: {z: 1}}");
        below.merge(&value("{a: {y: [3], w: 0}, b: {n: 1}, c: ~, d: 4}"));
        assert_eq!(below, value("{a: {x: 1, y: [3], w: 0}, b: {n: 1}, c: ~, d: 4}"));
        assert_eq!(below.get(&["a", "w"]), Some(&Value::Int(0)));
        assert_eq!(below.get(&["a", "w", "v"]), None);
    }

    #[test]
    fn reads_for_people() {
        let text = "{lr: 0.001, layers: [1, 2.0], act: relu, note: \"a: b\", on: true, no: null}";
        assert_eq!(value(text).to_string(), text);
        for text in ["\"\"", "\"true\"", "\"1e3\"", "\"a b\"", "\"-x\"", "\"~\"", "\"...\""] {
            assert_eq!(value(text).to_string(), text);
        }
    }

    #[test]
    fn integers_beyond_64_bits_are_refused() {
        let json: serde_json::Value = serde_json::from_str("[18446744073709551615]").unwrap();
        assert!(Value::from_json(&json).is_err());
        assert!(serde_json::from_str::<Value>("[18446744073709551615]").is_err());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-10i64..10).prop_map(Value::Int),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::Float),
            (-10i32..10).prop_map(|n| Value::Float(n.into())),
            any::<String>().prop_map(Value::String),
            "[-~0-9a-zA-Z:#!&*<.+_ ]{0,6}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let keys = prop_oneof![any::<String>(), "[-~0-9a-z:#<. ]{0,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::vec((keys, inner), 0..4)
                    .prop_map(|entries| Value::Map(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn parse_of_print_is_the_same(value in values()) {
            prop_assert_eq!(Value::from_yaml(&value.to_string()).unwrap(), value);
        }

        #[test]
        fn canonical_text_is_json_and_yaml(value in values()) {
            let canonical = value.canonical();
            let json: Value = serde_json::from_str(&canonical).unwrap();
            prop_assert_eq!(json.canonical(), canonical.clone());
            prop_assert_eq!(&Value::from_yaml(&canonical).unwrap(), &value);
        }

        #[test]
        fn json_keeps_values(value in values()) {
            let json = value.to_json();
            prop_assert_eq!(Value::from_json(&json).unwrap(), value.clone());
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap().canonical(), value.canonical());
        }

        #[test]
        fn merging_nothing_or_itself_changes_nothing(value in values()) {
            let mut merged = value.clone();
            merged.merge(&value);
            prop_assert_eq!(&merged, &value);
            if let Value::Map(_) = value {
                merged.merge(&Value::Map(Map::new()));
                prop_assert_eq!(&merged, &value);
            }
        }
    }
}
