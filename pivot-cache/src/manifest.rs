//! The list of everything in a directory artifact, as one deterministic text.
//!
//! A manifest is itself stored as an object, and the hash of its text is the directory's identity. So
//! the text is canonical (one text for one directory), and parsing refuses every other spelling and
//! every path that could lead out of the directory.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::content::{Content, ContentKind};
use crate::object_id::ObjectId;

pub(crate) const HEADER: &str = "pivot directory 1\n";

/// Everything in a directory: files, symbolic links, and the directories that hold nothing.
///
/// Names may be any bytes that the file system allows; symbolic links keep their text and are not
/// followed. Modes other than "executable", owners, times and extended attributes are not recorded.
///
/// ```
/// use pivot_cache::{DirectoryManifest, EntryKind, ManifestEntry};
///
/// let manifest = DirectoryManifest::new(vec![ManifestEntry {
///     path: "logs".into(),
///     kind: EntryKind::EmptyDirectory,
/// }])?;
/// assert_eq!(DirectoryManifest::parse(&manifest.to_bytes())?, manifest);
/// # Ok::<(), pivot_cache::ManifestError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryManifest {
    entries: Vec<ManifestEntry>,
    size_bytes: u64,
    files: u64,
}

/// One line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The path below the directory.
    pub path: PathBuf,
    /// What lies there.
    pub kind: EntryKind,
}

/// What lies at a path inside a directory artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// The object with its bytes.
        id: ObjectId,
        /// Its size.
        size_bytes: u64,
        /// Whether anyone may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// The link's text, as it was made.
        target: PathBuf,
    },
    /// A directory without entries; all others follow from the paths of what they hold.
    EmptyDirectory,
}

/// Why a text or a list of entries is not a directory manifest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text does not begin like a manifest of a version that is known here.
    #[error("unknown format")]
    Format,
    /// A line cannot be read; the first line is 1.
    #[error("line {0} cannot be read")]
    Line(usize),
    /// The text differs from what would be written for the same entries.
    #[error("not in canonical form")]
    NotCanonical,
    /// A path is empty, absolute, or has a part that is empty, `.`, `..` or contains a zero byte.
    #[error("path {0:?} is not allowed")]
    Path(PathBuf),
    /// A symbolic link's text is empty or contains a zero byte.
    #[error("link {0:?} has an impossible target")]
    Target(PathBuf),
    /// Two entries have the same path.
    #[error("path {0:?} is listed twice")]
    Duplicate(PathBuf),
    /// An entry lies below another that is not a directory with entries.
    #[error("path {0:?} lies below something that is not a directory")]
    BelowEntry(PathBuf),
    /// The sizes add up to more than 64 bits can hold.
    #[error("sizes overflow")]
    Size,
}

impl DirectoryManifest {
    /// Sorts and checks `entries`.
    ///
    /// # Errors
    ///
    /// If a path is not plainly relative, is listed twice, or lies below a file, a link or an empty
    /// directory of the same list.
    pub fn new(mut entries: Vec<ManifestEntry>) -> Result<DirectoryManifest, ManifestError> {
        // Byte order of the whole path; `Path` itself would compare component by component.
        entries.sort_by(|a, b| bytes(&a.path).cmp(bytes(&b.path)));
        let mut size_bytes = 0u64;
        let mut files = 0;
        for entry in &entries {
            check_path(&entry.path)?;
            match &entry.kind {
                EntryKind::File { size_bytes: size, .. } => {
                    size_bytes = size_bytes.checked_add(*size).ok_or(ManifestError::Size)?;
                    files += 1;
                }
                EntryKind::Symlink { target } => {
                    if bytes(target).is_empty() || bytes(target).contains(&0) {
                        return Err(ManifestError::Target(entry.path.clone()));
                    }
                }
                EntryKind::EmptyDirectory => {}
            }
        }
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(ManifestError::Duplicate(pair[0].path.clone()));
        }
        check_parents(&entries)?;
        Ok(DirectoryManifest { entries, size_bytes, files })
    }

    /// The entries, sorted by the bytes of their paths.
    pub fn entries(&self) -> &[ManifestEntry] {
        &self.entries
    }

    /// The object and size of every regular file, in path order; an object may come more than once.
    pub fn files(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        self.entries.iter().filter_map(|entry| match entry.kind {
            EntryKind::File { id, size_bytes, .. } => Some((id, size_bytes)),
            _ => None,
        })
    }

    /// What lies at `path` below the directory: a file, or a directory of its own. `None` for
    /// nothing and for links, whose content lies elsewhere.
    pub fn part(&self, path: &Path) -> Option<Content> {
        let mut inner = Vec::new();
        for entry in &self.entries {
            let Ok(rest) = entry.path.strip_prefix(path) else { continue };
            match &entry.kind {
                EntryKind::File { id, size_bytes, executable } if rest.as_os_str().is_empty() => {
                    let (id, size_bytes) = (*id, *size_bytes);
                    let kind = ContentKind::File { executable: *executable };
                    return Some(Content { id, size_bytes, kind });
                }
                EntryKind::Symlink { .. } if rest.as_os_str().is_empty() => return None,
                EntryKind::EmptyDirectory if rest.as_os_str().is_empty() => {
                    return Some(DirectoryManifest::new(Vec::new()).ok()?.content());
                }
                kind => inner.push(ManifestEntry { path: rest.to_owned(), kind: kind.clone() }),
            }
        }
        (!inner.is_empty()).then(|| DirectoryManifest::new(inner).ok())?.map(|part| part.content())
    }

    /// The identity of the directory that this manifest describes.
    pub fn content(&self) -> Content {
        self.content_of_text(&self.to_bytes())
    }

    pub(crate) fn content_of_text(&self, text: &[u8]) -> Content {
        Content {
            id: ObjectId::of_bytes(text),
            size_bytes: self.size_bytes,
            kind: ContentKind::Directory { files: self.files },
        }
    }

    /// The canonical text.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity(HEADER.len() + self.entries.len() * 64);
        text.push_str(HEADER);
        for ManifestEntry { path, kind } in &self.entries {
            match kind {
                EntryKind::File { id, size_bytes, executable } => {
                    let letter = if *executable { 'x' } else { 'f' };
                    write!(text, "{letter}\t{id}\t{size_bytes}\t")
                        .expect("writing to a string cannot fail");
                    escape(&mut text, bytes(path));
                }
                EntryKind::Symlink { target } => {
                    text.push_str("l\t");
                    escape(&mut text, bytes(path));
                    text.push('\t');
                    escape(&mut text, bytes(target));
                }
                EntryKind::EmptyDirectory => {
                    text.push_str("d\t");
                    escape(&mut text, bytes(path));
                }
            }
            text.push('\n');
        }
        text.into_bytes()
    }

    /// Reads a manifest's text, which may come from anyone.
    ///
    /// # Errors
    ///
    /// If `text` is anything but the canonical text of a valid manifest.
    pub fn parse(text: &[u8]) -> Result<DirectoryManifest, ManifestError> {
        let body = text.strip_prefix(HEADER.as_bytes()).ok_or(ManifestError::Format)?;
        let mut entries = Vec::new();
        if !body.is_empty() {
            let body = body.strip_suffix(b"\n").ok_or(ManifestError::Format)?;
            for (index, line) in body.split(|&b| b == b'\n').enumerate() {
                entries.push(parse_line(line).ok_or(ManifestError::Line(index + 2))?);
            }
        }
        let manifest = DirectoryManifest::new(entries)?;
        // Other spellings of the same numbers, escapes and orders end here.
        if manifest.to_bytes() != text {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }
}

fn parse_line(line: &[u8]) -> Option<ManifestEntry> {
    let mut fields = line.split(|&b| b == b'\t');
    let mut field = || fields.next();
    let letter = field()?;
    let entry = match letter {
        b"f" | b"x" => {
            let id = std::str::from_utf8(field()?).ok()?.parse().ok()?;
            let size_bytes = std::str::from_utf8(field()?).ok()?.parse().ok()?;
            let path = unescape(field()?)?;
            let kind = EntryKind::File { id, size_bytes, executable: letter == b"x" };
            ManifestEntry { path, kind }
        }
        b"l" => {
            let path = unescape(field()?)?;
            ManifestEntry { path, kind: EntryKind::Symlink { target: unescape(field()?)? } }
        }
        b"d" => ManifestEntry { path: unescape(field()?)?, kind: EntryKind::EmptyDirectory },
        _ => return None,
    };
    field().is_none().then_some(entry)
}

/// Printable ASCII and other UTF-8 stand for themselves; backslash, control characters and bytes
/// that are not UTF-8 are written `\xhh`.
fn escape(text: &mut String, name: &[u8]) {
    let hex = |text: &mut String, byte: u8| {
        write!(text, "\\x{byte:02x}").expect("writing to a string cannot fail");
    };
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\0'..='\x1f' | '\x7f' => hex(text, c as u8),
                _ => text.push(c),
            }
        }
        for &byte in chunk.invalid() {
            hex(text, byte);
        }
    }
}

fn unescape(field: &[u8]) -> Option<PathBuf> {
    let mut name = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.iter().position(|&b| b == b'\\') {
        name.extend_from_slice(&rest[..at]);
        let digits = rest.get(at + 1..at + 4)?.strip_prefix(b"x")?;
        let digit = |b: u8| (b as char).to_digit(16);
        name.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = &rest[at + 4..];
    }
    name.extend_from_slice(rest);
    Some(PathBuf::from(OsString::from_vec(name)))
}

fn check_path(path: &Path) -> Result<(), ManifestError> {
    let bad = bytes(path).contains(&0)
        || bytes(path).split(|&b| b == b'/').any(|part| matches!(part, b"" | b"." | b".."));
    if bad { Err(ManifestError::Path(path.to_path_buf())) } else { Ok(()) }
}

/// Refuses entries below other entries: only directories that hold something have something below
/// them, and those are not listed themselves.
fn check_parents(entries: &[ManifestEntry]) -> Result<(), ManifestError> {
    let listed: HashSet<&[u8]> = entries.iter().map(|entry| bytes(&entry.path)).collect();
    let mut parent_before: &[u8] = b"";
    for entry in entries {
        let path = bytes(&entry.path);
        let parent = path.iter().rposition(|&b| b == b'/').map_or(&b""[..], |at| &path[..at]);
        if parent == parent_before {
            continue;
        }
        let mut end = parent.len();
        loop {
            if listed.contains(&parent[..end]) {
                return Err(ManifestError::BelowEntry(entry.path.clone()));
            }
            match parent[..end].iter().rposition(|&b| b == b'/') {
                Some(at) => end = at,
                None => break,
            }
        }
        parent_before = parent;
    }
    Ok(())
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &str) -> ManifestEntry {
        let kind = EntryKind::File {
            id: ObjectId::of_bytes(path.as_bytes()),
            size_bytes: path.len() as u64,
            executable: false,
        };
        ManifestEntry { path: path.into(), kind }
    }

    fn link(path: &str, target: &str) -> ManifestEntry {
        ManifestEntry { path: path.into(), kind: EntryKind::Symlink { target: target.into() } }
    }

    #[test]
    fn the_text_is_as_documented() {
        let manifest = DirectoryManifest::new(vec![
            file("b"),
            link("a/l", "../x y"),
            ManifestEntry { path: "a/e".into(), kind: EntryKind::EmptyDirectory },
            ManifestEntry {
                path: PathBuf::from(OsString::from_vec(b"z\xff\n\\".to_vec())),
                kind: EntryKind::File {
                    id: ObjectId::from_u64(1),
                    size_bytes: 7,
                    executable: true,
                },
            },
        ])
        .unwrap();
        let id = ObjectId::of_bytes(b"b");
        let text = format!(
            "pivot directory 1\nd\ta/e\nl\ta/l\t../x y\nf\t{id}\t1\tb\n\
             x\t0000000000000001\t7\tz\\xff\\x0a\\x5c\n"
        );
        assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), text);
        assert_eq!(DirectoryManifest::parse(text.as_bytes()).unwrap(), manifest);
        assert_eq!(manifest.content().size_bytes, 8);
        assert_eq!(manifest.content().kind, ContentKind::Directory { files: 2 });
    }

    #[test]
    fn hostile_entries_are_refused() {
        let cases: Vec<(Vec<ManifestEntry>, &str)> = vec![
            (vec![file("../victim")], "parent"),
            (vec![file("a/../../victim")], "parent inside"),
            (vec![file("/etc/passwd")], "absolute"),
            (vec![file("")], "empty"),
            (vec![file("a//b")], "empty part"),
            (vec![file("a/")], "trailing slash"),
            (vec![file("./a")], "dot"),
            (vec![file("a\0b")], "zero byte"),
            (vec![file("a"), file("a")], "duplicate"),
            (vec![link("a", "/etc"), file("a/passwd")], "below a link"),
            (vec![link("a", "/etc"), file("a!"), file("a/b/c")], "far below a link"),
            (vec![file("a"), file("a.b"), file("a/b")], "below a file"),
            (vec![link("a", "")], "empty target"),
            (vec![link("a", "b\0c")], "zero byte in target"),
        ];
        for (entries, name) in cases {
            assert!(DirectoryManifest::new(entries).is_err(), "accepted: {name}");
        }
    }

    #[test]
    fn hostile_texts_are_refused() {
        let line = "f\t00000000000000ab\t1\ta\n";
        for text in [
            String::new(),
            "pivot directory 2\n".into(),
            "pivot directory 1".into(),
            format!("{HEADER}\n"),
            format!("{HEADER}{}", line.trim_end()),
            format!("{HEADER}{line}\n"),
            format!("{HEADER}{}", line.replace("\t1\t", "\t01\t")),
            format!("{HEADER}{}", line.replace("\t1\t", "\t+1\t")),
            format!("{HEADER}{}", line.replace("\t1\t", "\t-1\t")),
            format!("{HEADER}{}", line.replace("\t1\t", "\t99999999999999999999\t")),
            format!("{HEADER}{}", line.replace("ab", "AB")),
            format!("{HEADER}{}", line.replace("\ta\n", "\t\\x61\n")),
            format!("{HEADER}{}", line.replace("\ta\n", "\ta\\\n")),
            format!("{HEADER}{}", line.replace("\ta\n", "\ta\\xg0\n")),
            format!("{HEADER}{}", line.replace("\ta\n", "\t\\x2e\\x2e\n")),
            format!("{HEADER}{}", line.replace("\ta\n", "\ta\tb\n")),
            format!("{HEADER}{line}{line}"),
            format!("{HEADER}f\t00000000000000ab\t1\tb\n{line}"),
            format!("{HEADER}q\ta\n"),
            format!("{HEADER}l\ta\n"),
            format!(
                "{HEADER}f\t00000000000000ab\t{}\ta\nf\t00000000000000ab\t{}\tb\n",
                u64::MAX,
                1
            ),
        ] {
            assert!(DirectoryManifest::parse(text.as_bytes()).is_err(), "accepted {text:?}");
        }
        assert!(DirectoryManifest::parse(format!("{HEADER}{line}").as_bytes()).is_ok());
    }

    fn any_name() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(1u8..=255, 1..6)
            .prop_map(|name| name.into_iter().map(|b| if b == b'/' { b'_' } else { b }).collect())
    }

    proptest! {
        #[test]
        fn parsing_reverses_writing(paths in proptest::collection::vec(
            proptest::collection::vec(any_name(), 1..4), 0..12), kinds in any::<[u8; 12]>())
        {
            let entries = paths.iter().zip(kinds).map(|(parts, kind)| {
                let path = PathBuf::from(OsString::from_vec(parts.join(&b'/')));
                let kind = match kind % 3 {
                    0 => EntryKind::EmptyDirectory,
                    1 => EntryKind::Symlink { target: path.clone() },
                    _ => EntryKind::File {
                        id: ObjectId::from_u64(kind.into()), size_bytes: kind.into(), executable: kind > 100,
                    },
                };
                ManifestEntry { path, kind }
            }).collect();
            if let Ok(manifest) = DirectoryManifest::new(entries) {
                prop_assert_eq!(DirectoryManifest::parse(&manifest.to_bytes()).unwrap(), manifest);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut with_header = HEADER.as_bytes().to_vec();
            with_header.extend(&text);
            if let Ok(manifest) = DirectoryManifest::parse(&with_header) {
                prop_assert_eq!(manifest.to_bytes(), with_header);
            }
            let _ = DirectoryManifest::parse(&text);
        }
    }
}
