//! Looking at a database file before it is mapped.
//!
//! A mapped file that is shorter than its pages ends the process with SIGBUS; no error is returned
//! that could be handled. So the sizes are checked with plain reads first.

use std::fs::File;
use std::os::unix::fs::FileExt;

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
/// `MP_META` in LMDB's `mdb.c`: the page is a meta page.
const META_FLAG: u16 = 0x08;

/// Where the fields lie on a meta page of a 64-bit LMDB: a page header of 16 bytes, then `MDB_meta`.
mod offset {
    pub(super) const FLAGS: usize = 10;
    pub(super) const MAGIC: usize = 16;
    pub(super) const VERSION: usize = 20;
    pub(super) const PAGE_BYTES: usize = 40;
    pub(super) const LAST_PAGE: usize = 136;
    pub(super) const META_END: usize = 152;
}

/// Whether LMDB would map no more than the file has.
pub(super) fn is_mappable(file: &File, file_bytes: u64) -> bool {
    let Some(page_bytes) = check_meta(file, 0, file_bytes) else { return false };
    check_meta(file, page_bytes, file_bytes) == Some(page_bytes)
}

/// Checks one of the two meta pages; its page size if all is well.
fn check_meta(file: &File, at: u64, file_bytes: u64) -> Option<u64> {
    let mut page = [0; offset::META_END];
    file.read_exact_at(&mut page, at).ok()?;
    let u32_at = |at: usize| u32::from_ne_bytes(page[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_ne_bytes(page[at..at + 8].try_into().expect("eight bytes"));
    let flags = u16::from_ne_bytes([page[offset::FLAGS], page[offset::FLAGS + 1]]);
    let page_bytes = u64::from(u32_at(offset::PAGE_BYTES));
    let fits = u64_at(offset::LAST_PAGE)
        .checked_add(1)
        .and_then(|pages| pages.checked_mul(page_bytes))
        .is_some_and(|bytes| bytes <= file_bytes);
    let sound = flags & META_FLAG != 0
        && u32_at(offset::MAGIC) == MAGIC
        && u32_at(offset::VERSION) == VERSION
        && page_bytes.is_power_of_two()
        && (512..=65536).contains(&page_bytes)
        && fits;
    sound.then_some(page_bytes)
}
