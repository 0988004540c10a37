//! Watches the system calls of the program from outside: ends it at one, or lets one fail.
//!
//! The program needs no hooks for that: `ptrace` stops each of its threads at each call. What it
//! starts, such as workers, is not watched.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A system call that is about to change or sync files below the directory that is watched, or
/// elsewhere if it takes a path.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// The file that it writes to, if it takes a descriptor.
    pub(crate) file: Option<PathBuf>,
    /// Whether it may take less than it was given, as `write` may.
    pub(crate) is_write: bool,
}

/// What shall become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Go,
    /// The program is killed before the call has done anything.
    Kill,
    /// The program is killed when the call has written half of what it was given.
    KillHalfway,
    /// The call does nothing and fails with this number.
    Fail(i32),
}

/// Runs `command` to its end and asks `decide` about each call. Returns the exit code; `None` if a
/// signal ended it.
pub(crate) fn watch(
    mut command: Command,
    root: &Path,
    mut decide: impl FnMut(&Call) -> Then,
) -> Option<i32> {
    command.stdout(Stdio::null());
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    #[expect(clippy::zombie_processes, reason = "`wait` reaps it")]
    let child = command.spawn().expect("the program starts, and may be watched (ptrace)");
    let leader = i32::try_from(child.id()).expect("a process id");
    wait(leader);
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SETOPTIONS, leader, options as usize);
    go_on(leader, 0);
    let mut ends = HashMap::new();
    loop {
        let (thread, status) = wait(-1);
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            if thread == leader {
                return libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            }
            continue;
        }
        let signal = libc::WSTOPSIG(status);
        if signal != libc::SIGTRAP | 0x80 {
            // New threads begin with a stop; a trap tells of them; the rest is for the program.
            let is_ours = matches!(signal, libc::SIGSTOP | libc::SIGTRAP);
            go_on(thread, if is_ours { 0 } else { signal });
            continue;
        }
        match stop(thread) {
            Stop::Entry(number, arguments) => {
                if let Some(call) = changing(leader, root, number, arguments) {
                    match decide(&call) {
                        Then::Go => {}
                        Then::Kill => kill(leader),
                        Then::KillHalfway => {
                            change_registers(thread, |registers| registers.rdx /= 2);
                            ends.insert(thread, Then::KillHalfway);
                        }
                        Then::Fail(errno) => {
                            change_registers(thread, |registers| registers.orig_rax = u64::MAX);
                            ends.insert(thread, Then::Fail(errno));
                        }
                    }
                }
            }
            Stop::Exit => match ends.remove(&thread) {
                Some(Then::Fail(errno)) => change_registers(thread, |registers| {
                    registers.rax = (-i64::from(errno)).cast_unsigned();
                }),
                Some(Then::KillHalfway) => kill(leader),
                _ => {}
            },
            Stop::Other => {}
        }
        go_on(thread, 0);
    }
}

enum Stop {
    Entry(i64, [u64; 6]),
    Exit,
    Other,
}

fn stop(thread: i32) -> Stop {
    // SAFETY: the structure is plain data, and the kernel writes at most its size.
    unsafe {
        let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
        let size = size_of_val(&info);
        if libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, &raw mut info) <= 0 {
            return Stop::Other; // It was killed in the meantime.
        }
        match info.op {
            libc::PTRACE_SYSCALL_INFO_ENTRY => {
                let entry = info.u.entry;
                Stop::Entry(entry.nr.cast_signed(), entry.args)
            }
            libc::PTRACE_SYSCALL_INFO_EXIT => Stop::Exit,
            _ => Stop::Other,
        }
    }
}

/// The call, if it changes or syncs files.
fn changing(leader: i32, root: &Path, number: i64, arguments: [u64; 6]) -> Option<Call> {
    let creates = |flags: u64| flags & (libc::O_CREAT | libc::O_TRUNC) as u64 != 0;
    let by_path = |name| Some(Call { name, file: None, is_write: false });
    let by_descriptor = |name, descriptor: u64| {
        let file = fs::read_link(format!("/proc/{leader}/fd/{descriptor}")).ok()?;
        let is_write = matches!(name, "write" | "pwrite64");
        file.starts_with(root).then_some(Call { name, file: Some(file), is_write })
    };
    match number {
        libc::SYS_open if creates(arguments[1]) => by_path("open"),
        libc::SYS_openat if creates(arguments[2]) => by_path("openat"),
        libc::SYS_creat => by_path("creat"),
        libc::SYS_mkdir => by_path("mkdir"),
        libc::SYS_mkdirat => by_path("mkdirat"),
        libc::SYS_rmdir => by_path("rmdir"),
        libc::SYS_unlink => by_path("unlink"),
        libc::SYS_unlinkat => by_path("unlinkat"),
        libc::SYS_rename => by_path("rename"),
        libc::SYS_renameat => by_path("renameat"),
        libc::SYS_renameat2 => by_path("renameat2"),
        libc::SYS_link => by_path("link"),
        libc::SYS_linkat => by_path("linkat"),
        libc::SYS_symlink => by_path("symlink"),
        libc::SYS_symlinkat => by_path("symlinkat"),
        libc::SYS_chmod => by_path("chmod"),
        libc::SYS_fchmodat => by_path("fchmodat"),
        libc::SYS_truncate => by_path("truncate"),
        libc::SYS_utimensat => by_path("utimensat"),
        libc::SYS_fchmod => by_descriptor("fchmod", arguments[0]),
        libc::SYS_ftruncate => by_descriptor("ftruncate", arguments[0]),
        libc::SYS_fallocate => by_descriptor("fallocate", arguments[0]),
        libc::SYS_write => by_descriptor("write", arguments[0]),
        libc::SYS_pwrite64 => by_descriptor("pwrite64", arguments[0]),
        libc::SYS_writev => by_descriptor("writev", arguments[0]),
        libc::SYS_pwritev => by_descriptor("pwritev", arguments[0]),
        libc::SYS_copy_file_range => by_descriptor("copy_file_range", arguments[2]),
        libc::SYS_sendfile => by_descriptor("sendfile", arguments[0]),
        libc::SYS_fsync => by_descriptor("fsync", arguments[0]),
        libc::SYS_fdatasync => by_descriptor("fdatasync", arguments[0]),
        libc::SYS_syncfs => by_descriptor("syncfs", arguments[0]),
        _ => None,
    }
}

fn change_registers(thread: i32, change: impl FnOnce(&mut libc::user_regs_struct)) {
    // SAFETY: plain data of the size that the kernel reads and writes. If the thread was killed in
    // the meantime both calls fail, and nothing depends on them any more.
    unsafe {
        let mut registers: libc::user_regs_struct = std::mem::zeroed();
        if libc::ptrace(libc::PTRACE_GETREGS, thread, 0, &raw mut registers) == 0 {
            change(&mut registers);
            libc::ptrace(libc::PTRACE_SETREGS, thread, 0, &raw const registers);
        }
    }
}

/// The next news of `process`, or with -1 of any thread that this thread watches.
fn wait(process: i32) -> (i32, i32) {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one integer. Only children of this thread are waited for.
        let found =
            unsafe { libc::waitpid(process, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if found > 0 {
            return (found, status);
        }
        let error = std::io::Error::last_os_error();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "waitpid: {error}");
    }
}

fn go_on(thread: i32, signal: i32) {
    request(libc::PTRACE_SYSCALL, thread, usize::try_from(signal).expect("a signal's number"));
}

fn request(what: libc::c_uint, thread: i32, data: usize) {
    // SAFETY: these requests take no pointers. A thread that was killed is reported by `wait`.
    unsafe { libc::ptrace(what, thread, 0, data) };
}

fn kill(process: i32) {
    // SAFETY: it has not been waited for, so its id is its own.
    unsafe { libc::kill(process, libc::SIGKILL) };
}
