//! What is remembered of an artifact: its content, and the stamps that it had then.
//!
//! A directory has one record with all of its entries, in the order of the walk that saw them.

use std::collections::HashMap;

use crate::content::{Content, ContentKind};
use crate::object_id::ObjectId;
use crate::stamp::Stamp;
use crate::tree::{Found, FoundKind, Listing};

/// The length of a file's record.
pub(super) const FILE_LEN: usize = Stamp::LEN + 8 + 1;
const DIRECTORY_HEADER_LEN: usize = 8 + 8 + 8 + 8;
const ENTRY_HEADER_LEN: usize = 1 + 4 + Stamp::LEN + 8;

/// Set for entries whose stamp proves nothing.
const RACY: u8 = 0x80;

/// The record of a file.
pub(super) fn encode_file(id: ObjectId, executable: bool, stamp: Stamp) -> [u8; FILE_LEN] {
    let mut bytes = [0; FILE_LEN];
    bytes[..Stamp::LEN].copy_from_slice(&stamp.to_bytes());
    bytes[Stamp::LEN..FILE_LEN - 1].copy_from_slice(&id.as_u64().to_le_bytes());
    bytes[FILE_LEN - 1] = executable.into();
    bytes
}

/// What the record says of a file with this stamp.
pub(super) fn match_file(record: &[u8], stamp: &Stamp) -> Option<Content> {
    if record.get(..Stamp::LEN)? != stamp.to_bytes() {
        return None;
    }
    read_file(record)
}

/// What the record says of the file whose stamp it has.
pub(super) fn read_file(record: &[u8]) -> Option<Content> {
    if record.len() != FILE_LEN {
        return None;
    }
    let id = ObjectId::from_u64(u64_at(record, Stamp::LEN)?);
    let kind = ContentKind::File { executable: record[FILE_LEN - 1] != 0 };
    Some(Content { id, size_bytes: u64_at(record, Stamp::SIZE_AT)?, kind })
}

/// Takes down the entries of a directory one by one.
pub(super) struct DirectoryWriter {
    bytes: Vec<u8>,
    entries: u64,
}

impl DirectoryWriter {
    pub(super) fn new() -> DirectoryWriter {
        DirectoryWriter { bytes: vec![0; DIRECTORY_HEADER_LEN], entries: 0 }
    }

    pub(super) fn add(
        &mut self,
        path: &[u8],
        kind: FoundKind,
        stamp: &Stamp,
        id: Option<ObjectId>,
        racy: bool,
    ) {
        self.entries += 1;
        self.bytes.push(letter(kind) | if racy { RACY } else { 0 });
        self.bytes.extend_from_slice(&(path.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&stamp.to_bytes());
        self.bytes.extend_from_slice(&id.map_or(0, ObjectId::as_u64).to_le_bytes());
        self.bytes.extend_from_slice(path);
    }

    pub(super) fn finish(mut self, content: &Content) -> Vec<u8> {
        let files = match content.kind {
            ContentKind::Directory { files } => files,
            ContentKind::File { .. } => 0,
        };
        let numbers = [content.id.as_u64(), content.size_bytes, files, self.entries];
        for (place, number) in self.bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.bytes
    }
}

/// What the record says of a directory that looks exactly like this: same entries, same stamps, same
/// order.
pub(super) fn match_directory(record: &[u8], listing: &Listing) -> Option<Content> {
    if u64_at(record, 24)? != listing.found().len() as u64 {
        return None;
    }
    let mut entries = Entries { rest: record.get(DIRECTORY_HEADER_LEN..)? };
    for found in listing.found() {
        let entry = entries.next()?;
        // A racy entry has a letter that nothing found has.
        let same = entry.letter == letter(found.kind)
            && entry.path == listing.name(found)
            && (found.kind == FoundKind::EmptyDirectory || *entry.stamp == found.stamp.to_bytes());
        if !same {
            return None;
        }
    }
    let id = ObjectId::from_u64(u64_at(record, 0)?);
    let kind = ContentKind::Directory { files: u64_at(record, 16)? };
    Some(Content { id, size_bytes: u64_at(record, 8)?, kind })
}

/// The files of a directory's record whose stamps prove something, by path.
#[derive(Default)]
pub(super) struct KnownFiles(HashMap<Box<[u8]>, ([u8; Stamp::LEN], ObjectId)>);

impl KnownFiles {
    pub(super) fn read(record: &[u8]) -> KnownFiles {
        let rest = record.get(DIRECTORY_HEADER_LEN..).unwrap_or_default();
        let files = Entries { rest }.filter(|entry| entry.letter <= 1);
        KnownFiles(files.map(|entry| (entry.path.into(), (*entry.stamp, entry.id))).collect())
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hash of this file, if its stamp is the one from then.
    pub(super) fn id(&self, path: &[u8], found: &Found) -> Option<ObjectId> {
        let (stamp, id) = self.0.get(path)?;
        (*stamp == found.stamp.to_bytes()).then_some(*id)
    }
}

struct Entries<'a> {
    rest: &'a [u8],
}

struct Entry<'a> {
    letter: u8,
    stamp: &'a [u8; Stamp::LEN],
    id: ObjectId,
    path: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (header, rest) = self.rest.split_at_checked(ENTRY_HEADER_LEN)?;
        let path_bytes = u32::from_le_bytes(header[1..5].try_into().ok()?) as usize;
        let (path, rest) = rest.split_at_checked(path_bytes)?;
        self.rest = rest;
        let stamp = header[5..5 + Stamp::LEN].try_into().ok()?;
        let id = ObjectId::from_u64(u64_at(header, 5 + Stamp::LEN)?);
        Some(Entry { letter: header[0], stamp, id, path })
    }
}

fn letter(kind: FoundKind) -> u8 {
    match kind {
        FoundKind::File { executable: false } => 0,
        FoundKind::File { executable: true } => 1,
        FoundKind::Symlink => 2,
        FoundKind::EmptyDirectory => 3,
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
