//! Listings, freed of what is not ours before anything else looks at them.
//!
//! A bucket may hold anything: keys with `..`, with empty parts, with newlines. The library takes a
//! listing for broken that has one key that it cannot make a path of, so those are cut out here.

use bytes::Bytes;

use super::failure::between;
use crate::record::RecordKey;

/// A page of a listing with only those entries whose keys may be objects or records.
pub(super) fn without_foreign_keys(page: &Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(page) else {
        return page.clone();
    };
    let mut pieces = text.split("<Contents>");
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (entry, rest) = piece.split_once("</Contents>").unwrap_or((piece, ""));
        if between(entry, "<Key>", "</Key>").is_some_and(may_be_ours) {
            kept.push_str("<Contents>");
            kept.push_str(entry);
            kept.push_str("</Contents>");
        }
        kept.push_str(rest);
    }
    kept.into()
}

/// Whether a key ends as those of objects and records do, and no part of it is empty, `.` or `..`.
fn may_be_ours(key: &str) -> bool {
    let is_path = !key.split('/').any(|part| matches!(part, "" | "." | ".."));
    let mut from_end = key.rmatch_indices('/').map(|(at, _)| at);
    let start = from_end.nth(2).map_or(0, |at| at + 1);
    let tail = &key[start..];
    let object = || {
        let (fan_out, name) = tail.strip_prefix("files/")?.split_once('/')?;
        (fan_out.len() == 2 && name.len() == 14).then_some(())
    };
    is_path && (object().is_some() || RecordKey::of_path(tail).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_that_may_be_ours_are_left() {
        let entry = |key: &str| format!("<Contents><Key>{key}</Key><Size>3</Size></Contents>");
        let ours = [
            entry("a/b/files/ab/cdef0123456789"),
            entry("files/ab/cdef0123456789"),
            entry("p/runs/ab/cdef0123456789abcdef0123456789"),
        ];
        let foreign: String = [
            "files/../../etc/passwd",
            "a/../files/ab/cdef0123456789",
            "a//files/ab/cdef0123456789",
            "files/ab/",
            "files/ab/cdef&#x0;23456789",
            "",
            "/",
            "//////",
            "files/ab/cdef",
            "ä/ö",
        ]
        .map(entry)
        .concat();
        let page = format!(
            "<List><IsTruncated>true</IsTruncated>{}{foreign}{}{}<Contents><NextToken>t</NextToken>",
            ours[0], ours[1], ours[2]
        );
        let kept = without_foreign_keys(&Bytes::from(page));
        let expected = format!("<List><IsTruncated>true</IsTruncated>{}", ours.concat());
        assert_eq!(kept, expected);
        let page = "<List><Next>t</Next></List>";
        assert_eq!(without_foreign_keys(&Bytes::from(page)), page);
        let noise = Bytes::from_static(&[0xff, 0xfe]);
        assert_eq!(without_foreign_keys(&noise), noise);
    }
}
