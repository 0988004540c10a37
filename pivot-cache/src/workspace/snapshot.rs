//! What many paths held, in one record.
//!
//! To know that none of 10,000 files has changed takes one look at the file system for each, and
//! no look-up of a record of its own.

use crate::content::{Content, ContentKind};
use crate::object_id::ObjectId;
use crate::state::Table;

use super::record::{FILE_LEN, match_file, read_file};
use super::{Workspace, look};

const FILE: u8 = b'f';
const DIRECTORY: u8 = b'd';
const NOTHING: u8 = b'n';

/// Hash, size and number of files.
const DIRECTORY_LEN: usize = 3 * 8;

impl Workspace<'_> {
    /// Takes down what paths hold, for [`Workspace::is_as_in`], at the end of `bytes`. `contents`
    /// comes from [`Workspace::content`], which finds nothing at some paths.
    ///
    /// `None` if some file's stamp does not prove its content: it is too fresh, or has changed.
    pub fn snapshot<'p>(
        &self,
        contents: impl IntoIterator<Item = (&'p str, Option<Content>)>,
        mut bytes: Vec<u8>,
    ) -> Option<Vec<u8>> {
        for (path, content) in contents {
            bytes.extend_from_slice(&u32::try_from(path.len()).ok()?.to_le_bytes());
            bytes.extend_from_slice(path.as_bytes());
            let Some(content) = content else {
                bytes.push(NOTHING);
                continue;
            };
            match content.kind {
                ContentKind::File { .. } => {
                    bytes.push(FILE);
                    let known = self.state.get_with(Table::Files, path.as_bytes(), |record| {
                        bytes.extend_from_slice(record);
                        read_file(record)
                    });
                    if known.flatten() != Some(content) {
                        return None;
                    }
                }
                ContentKind::Directory { files } => {
                    bytes.push(DIRECTORY);
                    for number in [content.id.as_u64(), content.size_bytes, files] {
                        bytes.extend_from_slice(&number.to_le_bytes());
                    }
                }
            }
        }
        Some(bytes)
    }

    /// Whether every path still holds what it held when the snapshot was taken.
    ///
    /// No file is read for it: one that was touched counts as different whatever it holds.
    /// Directories are compared by content.
    pub fn is_as_in(&self, snapshot: &[u8]) -> bool {
        let mut rest = snapshot;
        while !rest.is_empty() {
            match self.first_holds(rest) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }

    /// What follows the first entry, if that one holds.
    fn first_holds<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (path, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let path = std::str::from_utf8(path).ok()?;
        let (kind, rest) = rest.split_first()?;
        match *kind {
            FILE => {
                let (record, rest) = rest.split_at_checked(FILE_LEN)?;
                let (_, stamp) = look(self.at(path).ok()?).ok()??;
                // The stamp of a directory is that of no file.
                match_file(record, &stamp).map(|_| rest)
            }
            DIRECTORY => {
                let (record, rest) = rest.split_at_checked(DIRECTORY_LEN)?;
                let number = |at: usize| record[at..at + 8].try_into().map(u64::from_le_bytes).ok();
                let content = Content {
                    id: ObjectId::from_u64(number(0)?),
                    size_bytes: number(8)?,
                    kind: ContentKind::Directory { files: number(16)? },
                };
                (self.content(path).ok()? == Some(content)).then_some(rest)
            }
            NOTHING => look(self.at(path).ok()?).ok()?.is_none().then_some(rest),
            _ => None,
        }
    }
}
