//! Listings, page by page, freed of what is not ours before anything else looks at them.
//!
//! A bucket may hold anything: keys with `..`, with empty parts, with newlines. The library takes a
//! listing for broken that has one key that it cannot make a path of, so those are cut out here.
//! It also follows a listing for as long as the server says that there is more.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Method;
use object_store::ObjectMeta;
use object_store::list::PaginatedListOptions;
use object_store::path::Path as Key;

use super::engine::Engine;
use super::failure::{Failure, between};
use crate::record::RecordKey;

/// After so many pages in a row without anything new there will be nothing.
const MAX_IDLE_PAGES: usize = 1000;

/// An entry and the key in it.
const TAGS: [&str; 2] = ["Contents", "Key"];

const AZURE_TAGS: [&str; 2] = ["Blob", "Name"];

/// The pages of one listing.
pub(super) struct Pages<'e> {
    engine: &'e Engine,
    /// With a slash at its end.
    prefix: String,
    after: Option<String>,
    token: Option<String>,
    /// Whether the server has told all that there is.
    pub(super) is_over: bool,
    count: usize,
    /// The token that went with the last page whose number was a power of two.
    milestone: Option<String>,
}

impl Pages<'_> {
    /// The next page; `None` after the last.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or sends back to where the listing was before.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<ObjectMeta>>, Failure> {
        if self.is_over {
            return Ok(None);
        }
        let options = PaginatedListOptions {
            offset: self.after.clone(),
            page_token: self.token.take(),
            ..PaginatedListOptions::default()
        };
        let page = self.engine.store().list_paginated(Some(&self.prefix), options).await;
        let page = page.map_err(|error| Failure::of(&error))?;
        self.token = page.page_token;
        self.is_over = self.token.is_none();
        // Brent's way to notice a circle of any length without keeping every token.
        if self.token.is_some() && self.token == self.milestone {
            return Err(Failure::new("the server's listing goes round in a circle"));
        }
        self.count += 1;
        if self.count.is_power_of_two() {
            self.milestone = self.token.clone();
        }
        Ok(Some(page.result.objects))
    }
}

impl Engine {
    /// A listing of what lies in a folder of the remote, such as `files/ab`, behind a key.
    pub(super) fn pages(&self, folder: &str, after: Option<Key>) -> Pages<'_> {
        Pages {
            engine: self,
            prefix: format!("{}/", self.key(folder)),
            after: after.map(|key| key.to_string()),
            token: None,
            is_over: false,
            count: 0,
            milestone: None,
        }
    }

    /// All that keys in a folder mean, sorted.
    pub(super) async fn list_all<T: Ord>(
        &self,
        folder: &str,
        meaning: impl Fn(&Key) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        let mut found = BTreeSet::new();
        let mut idle_pages = 0;
        let mut pages = self.pages(folder, None);
        while let Some(page) = pages.next().await? {
            let before = found.len();
            found.extend(page.iter().filter_map(|meta| meaning(&meta.location)));
            idle_pages = if found.len() == before { idle_pages + 1 } else { 0 };
            if idle_pages >= MAX_IDLE_PAGES {
                return Err(Failure::new("the server's listing does not end"));
            }
        }
        Ok(found.into_iter().collect())
    }
}

/// A page of a listing with only those entries whose keys may be objects or records.
pub(super) fn without_foreign_keys(page: &Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(page) else {
        return page.clone();
    };
    let [entry, key] = if text.contains("<EnumerationResults") { AZURE_TAGS } else { TAGS };
    let [entry_start, key_start] = [entry, key].map(|tag| format!("<{tag}>"));
    let [entry_end, key_end] = [entry, key].map(|tag| format!("</{tag}>"));
    let mut pieces = text.split(&entry_start);
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (entry, rest) = piece.split_once(&entry_end).unwrap_or((piece, ""));
        if between(entry, &key_start, &key_end).is_some_and(may_be_ours) {
            kept.push_str(&entry_start);
            kept.push_str(entry);
            kept.push_str(&entry_end);
        }
        kept.push_str(rest);
    }
    kept.into()
}

/// Whether a request asks for a page of a listing.
pub(super) fn is_listing(method: &Method, query: Option<&str>) -> bool {
    let asks = |parameter| matches!(parameter, "list-type=2" | "comp=list");
    *method == Method::GET && query.is_some_and(|query| query.split('&').any(asks))
}

/// Whether a page of a listing came to its end.
pub(super) fn is_whole(page: &[u8]) -> bool {
    let page = page.trim_ascii_end();
    page.ends_with(b"</ListBucketResult>") || page.ends_with(b"</EnumerationResults>")
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
        let blob = |key: &str| format!("<Blob><Name>{key}</Name></Blob>");
        let page = |blobs: &str| {
            format!("<EnumerationResults><Blobs>{blobs}</Blobs></EnumerationResults>")
        };
        let ours = blob("files/ab/cdef0123456789");
        let all = Bytes::from(page(&format!("{}{ours}{}", blob("../x"), blob("files/ab/"))));
        assert_eq!(without_foreign_keys(&all), page(&ours));
        let noise = Bytes::from_static(&[0xff, 0xfe]);
        assert_eq!(without_foreign_keys(&noise), noise);
    }
}
