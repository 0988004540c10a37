//! What kind of file system something lies on.

use std::os::fd::AsFd;

/// What is known of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Kept by this kernel, with the times of this kernel's clock.
    Local,
    /// Shared with other hosts, kept by a program, or not known.
    Other,
}

/// Whether memory maps and locks may be seen by processes that this kernel does not know.
pub(crate) fn is_shared_between_hosts(fd: impl AsFd) -> bool {
    kind(fd) == Kind::Other
}

#[cfg(target_os = "linux")]
pub(crate) fn kind(fd: impl AsFd) -> Kind {
    /// The magic numbers of `statfs(2)`: ext2 to ext4, XFS, Btrfs, tmpfs, ramfs, overlayfs, F2FS, ZFS,
    /// bcachefs, JFS, ReiserFS, NILFS, EROFS, squashfs, eCryptfs.
    const LOCAL: [u32; 15] = [
        0xEF53,
        0x5846_5342,
        0x9123_683E,
        0x0102_1994,
        0x8584_58F6,
        0x794C_7630,
        0xF2F5_2010,
        0x2FC1_2FC1,
        0xCA45_1A4E,
        0x3153_464A,
        0x5265_4973,
        0x3434,
        0xE0F5_E1E2,
        0x7371_7368,
        0xF15F,
    ];
    // Magic numbers have 32 bits; some of these fields are signed and wider.
    match rustix::fs::fstatfs(fd) {
        Ok(stat) if LOCAL.contains(&(stat.f_type as u32)) => Kind::Local,
        _ => Kind::Other,
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn kind(_: impl AsFd) -> Kind {
    Kind::Local
}
