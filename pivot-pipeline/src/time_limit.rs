//! How long something may take, as people write it.

use std::time::Duration;

use crate::value::Value;

/// What a time limit looks like, for messages.
pub(crate) const EXPECTED: &str = "write seconds, or a number with a unit, such as 90s, 15m or 2h";

/// The time that a text such as `90s`, `1.5h` or `300` means; a number alone counts seconds.
///
/// `None` if it is not a time, or none at all. Units are `ms`, `s`, `m` or `min`, `h` and `d`.
pub fn time_limit(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit_seconds = match unit.trim_start() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    seconds(number.parse::<f64>().ok()? * unit_seconds)
}

/// The time that a value of a definition means.
pub(crate) fn of_value(value: &Value) -> Option<Duration> {
    match value {
        Value::Int(number) => seconds(*number as f64),
        Value::Float(number) => seconds(*number),
        Value::String(text) => time_limit(text),
        _ => None,
    }
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|limit| !limit.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let text = |text: &str| Value::String(text.to_owned());
        let cases = [
            (text("90s"), Some(90.0)),
            (text("1.5h"), Some(5400.0)),
            (text("15 min"), Some(900.0)),
            (text("500ms"), Some(0.5)),
            (text("2d"), Some(172_800.0)),
            (text("300"), Some(300.0)),
            (Value::Int(5), Some(5.0)),
            (Value::Float(0.25), Some(0.25)),
            (Value::Int(0), None),
            (Value::Int(-1), None),
            (Value::Float(f64::NAN), None),
            (Value::Float(f64::INFINITY), None),
            (Value::Bool(true), None),
            (text(""), None),
            (text("0s"), None),
            (text("-5s"), None),
            (text("1.2.3s"), None),
            (text("5 parsecs"), None),
            (text("1h30m"), None),
            (text("99999999999999999999999d"), None),
        ];
        for (value, expected) in cases {
            assert_eq!(of_value(&value), expected.map(Duration::from_secs_f64), "{value}");
        }
    }
}
