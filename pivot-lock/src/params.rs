//! What changed between two sets of params, key by key.

use serde_json::Value;

use crate::lock::sorted;

/// A param that was added, removed or given another value.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamChange {
    /// Where it is, such as `model.layers`; a key that would be ambiguous between dots is quoted.
    pub key: String,
    /// The value of the last run; `None` if there was none.
    pub old: Option<Value>,
    /// The value now; `None` if there is none.
    pub new: Option<Value>,
}

/// The changes from `old` to `new`, sorted by their keys.
///
/// Mappings are compared entry by entry and all other values as a whole. `1` and `1.0` differ:
/// Python tells them apart.
///
/// ```
/// use serde_json::json;
///
/// let changes = pivot_lock::param_changes(
///     &json!({"model": {"layers": [64, 32], "dropout": 0.1}}),
///     &json!({"model": {"layers": [64], "dropout": 0.1}}),
/// );
/// assert_eq!(changes[0].key, "model.layers");
/// assert_eq!(changes[0].new, Some(json!([64])));
/// assert_eq!(changes.len(), 1);
/// ```
pub fn param_changes(old: &Value, new: &Value) -> Vec<ParamChange> {
    // A stack of our own, since callers may pass values that are nested deeper than a lock's.
    let mut waiting = vec![(String::new(), Some(old), Some(new))];
    let mut changes = Vec::new();
    while let Some((key, old, new)) = waiting.pop() {
        match (old, new) {
            (Some(old), Some(new)) if is_same(old, new) => {}
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                let (old, new) = (sorted(old), sorted(new));
                let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
                let mut entries: Vec<_> = new
                    .iter()
                    .map(|(name, value)| (*name, old.get(name).copied(), Some(*value)))
                    .chain(gone.map(|(name, value)| (*name, Some(*value), None)))
                    .collect();
                entries.sort_by(|(a, ..), (b, ..)| b.cmp(a));
                waiting.extend(
                    entries.into_iter().map(|(name, old, new)| (join(&key, name), old, new)),
                );
            }
            _ => changes.push(ParamChange { key, old: old.cloned(), new: new.cloned() }),
        }
    }
    changes
}

/// Whether two values are the same to Python, down to the sign of a zero.
pub(crate) fn is_same(a: &Value, b: &Value) -> bool {
    let mut waiting = vec![(a, b)];
    while let Some(pair) = waiting.pop() {
        match pair {
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                waiting.extend(a.iter().zip(b));
            }
            (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
                for (key, value) in a {
                    let Some(other) = b.get(key) else { return false };
                    waiting.push((value, other));
                }
            }
            (Value::Array(_) | Value::Object(_), _) => return false,
            (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
                if a.as_f64().map(f64::to_bits) != b.as_f64().map(f64::to_bits) {
                    return false;
                }
            }
            (a, b) => {
                if a != b {
                    return false;
                }
            }
        }
    }
    true
}

fn join(key: &str, name: &str) -> String {
    let is_ambiguous = name.is_empty()
        || name
            .chars()
            .any(|c| matches!(c, '.' | '"' | '\\') || c.is_whitespace() || c.is_control());
    let name = if is_ambiguous { format!("{name:?}") } else { name.to_owned() };
    if key.is_empty() { name } else { format!("{key}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_changed_key_is_named_once_and_in_order() {
        let old = json!({
            "z": 1, "same": {"a": [1, {"b": null}]}, "model": {"lr": 0.1, "gone": true, "kind": "a"},
            "list": [1, 2], "becomes_map": 1, "v1.5": {"": 1},
        });
        let new = json!({
            "z": 1.0, "same": {"a": [1, {"b": null}]}, "model": {"lr": 0.2, "kind": "a", "new": {}},
            "list": [2, 1], "becomes_map": {"x": 1}, "v1.5": {"": 2},
        });
        let change = |key: &str, old, new| ParamChange { key: key.into(), old, new };
        assert_eq!(
            param_changes(&old, &new),
            [
                change("becomes_map", Some(json!(1)), Some(json!({"x": 1}))),
                change("list", Some(json!([1, 2])), Some(json!([2, 1]))),
                change("model.gone", Some(json!(true)), None),
                change("model.lr", Some(json!(0.1)), Some(json!(0.2))),
                change("model.new", None, Some(json!({}))),
                change("\"v1.5\".\"\"", Some(json!(1)), Some(json!(2))),
                change("z", Some(json!(1)), Some(json!(1.0))),
            ]
        );
        assert_eq!(param_changes(&old, &old), []);
    }

    #[test]
    fn values_differ_as_they_do_in_python() {
        for (a, b, same) in [
            (json!(1), json!(1), true),
            (json!(1), json!(1.0), false),
            (json!(0.0), json!(-0.0), false),
            (json!([0.0]), json!([-0.0]), false),
            (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), true),
            (json!({"a": 1}), json!({"a": 1, "b": null}), false),
            (json!({"a": null}), json!({"b": null}), false),
            (json!([]), json!({}), false),
            (json!("1"), json!(1), false),
            (json!(null), json!(false), false),
        ] {
            assert_eq!(is_same(&a, &b), same, "{a} {b}");
            assert_eq!(param_changes(&json!({ "k": a }), &json!({ "k": b })).is_empty(), same);
        }
    }
}
