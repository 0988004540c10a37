//! Amounts of resources.

use crate::value::Value;

/// How much of the resource `name` a text such as `2` or, for `memory`, `8GB` means.
pub fn resource_amount(name: &str, text: &str) -> Option<u64> {
    amount(name, &Value::String(text.to_owned())).or_else(|| text.parse().ok())
}

/// How much of the resource `name` the value asks for, if it is an amount.
///
/// Amounts are whole; a fraction counts as the next larger one, so that what is asked for is
/// always there. Only `memory` has sizes, such as `8GB`; they count bytes.
pub(crate) fn amount(name: &str, value: &Value) -> Option<u64> {
    match value {
        Value::Int(amount) => u64::try_from(*amount).ok(),
        // Larger floats have no exact neighbors, and nobody has that much of anything.
        Value::Float(amount) if (0.0..=9.0e15).contains(amount) => Some(amount.ceil() as u64),
        Value::String(text) if name == "memory" => size_bytes(text),
        _ => None,
    }
}

/// `8GB`, `0.5GB` or `512 MiB` in bytes.
fn size_bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    match number.parse::<u64>() {
        Ok(number) => number.checked_mul(factor),
        Err(_) => {
            let bytes = number.parse::<f64>().ok()? * factor as f64;
            (bytes <= 9.0e15).then_some(bytes.ceil() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        let text = |text: &str| Value::String(text.to_owned());
        let cases = [
            ("cpus", Value::Int(2), Some(2)),
            ("cpus", Value::Int(0), Some(0)),
            ("cpus", Value::Int(-1), None),
            ("cpus", Value::Float(0.5), Some(1)),
            ("cpus", Value::Float(-0.5), None),
            ("cpus", Value::Float(f64::NAN), None),
            ("cpus", text("8GB"), None),
            ("cpus", Value::Bool(true), None),
            ("memory", Value::Int(1024), Some(1024)),
            ("memory", text("8GB"), Some(8_000_000_000)),
            ("memory", text("512 MiB"), Some(512 << 20)),
            ("memory", text("1.5kib"), Some(1536)),
            ("memory", text("8"), None),
            ("memory", text("8G"), None),
            ("memory", text("GB"), None),
            ("memory", text("1.2.3GB"), None),
            ("memory", text("99999999999999999999GB"), None),
        ];
        for (name, value, expected) in cases {
            assert_eq!(amount(name, &value), expected, "{name}: {value}");
        }
    }
}
