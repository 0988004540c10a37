//! Small pieces of wording that several messages share.

/// "`a`, `b` and `c`"; of many only the first few are named.
pub(crate) fn quoted_list(names: &[String]) -> String {
    const MOST: usize = 5;
    let quoted: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    if names.len() > MOST {
        return format!("{} and {} more", quoted.join(", "), names.len() - MOST);
    }
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
    }
}

/// A time as people say it: `90s`, `1.5s`.
pub(crate) fn duration(time: std::time::Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::quoted_list;

    #[test]
    fn lists_read_as_a_sentence() {
        let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(quoted_list(&names(1)), "`0`");
        assert_eq!(quoted_list(&names(3)), "`0`, `1` and `2`");
        assert_eq!(quoted_list(&names(7)), "`0`, `1`, `2`, `3`, `4` and 2 more");
    }
}
