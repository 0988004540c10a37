//! A process between the run and a process that runs user code, which ends whatever is left.
//!
//! A process group is easily left: `setsid` is enough. So each process is started below a warden,
//! to which the system gives all descendants whose parents have ended (a *subreaper*). When the
//! process ends, the warden kills what is left, until nothing is; when the run ends without
//! saying so, killed perhaps, it kills all.
//!
//! A warden for shell commands starts one after the other, on request: see [`serve`]. For that the
//! program starts itself anew, so that a warden is small however large the pipeline is, and what
//! it starts costs the same. Where a program cannot do that, and for Python, the warden is a fork
//! of the run that never becomes another program. Such a fork of a program with threads may do
//! little: here it makes system calls, on memory that it has already.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the warden has its end of the connection.
const CONTROL: RawFd = 3;

/// How often the warden looks again, with a millisecond between, for what it has killed and what
/// does not end, such as a process that waits for a file server.
const PATIENCE: usize = 2_000;

/// The bytes of a report: status; user time, system time and peak memory; whether nothing is left.
pub(crate) const REPORT_BYTES: usize = 4 + 3 * 8 + 1;

/// What a request begins with, before its length; a signal's number is never zero.
pub(crate) const REQUEST: u8 = 0;

/// The longest request. The kernel takes no argument of an eighth of that.
pub(crate) const MAX_REQUEST_BYTES: usize = 1 << 20;

/// The memory on which a child runs until it becomes the command.
const STACK_BYTES: usize = 64 * 1024;

/// Signals that Pivot ignores for itself, and that commands shall meet.
const IGNORED: [libc::c_int; 2] = [libc::SIGPIPE, libc::SIGXFSZ];

/// The only argument of a program that shall be a warden.
pub(crate) const ARGUMENT: &str = "__warden";

/// Whether this program becomes a warden when it is started with [`ARGUMENT`].
static CAN_BE_ASKED: AtomicBool = AtomicBool::new(false);

/// Lets this program be its own helper: call it first in `main`, before there are threads.
///
/// A run starts this program anew, with an argument of its own, to look after the shell commands
/// that it executes; there this call never returns. Without it a run forks instead, and a command
/// starts the slower the more memory the program has. It also has the program go on when a file grows
/// beyond the limit that the system has set (`ulimit -f`): that is an error of the write then.
pub fn be_warden_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == ARGUMENT) && arguments.next().is_none() {
        // SAFETY: the program has just begun, and uses none of its descriptors.
        unsafe { serve(libc::STDIN_FILENO) }
    }
    CAN_BE_ASKED.store(true, Ordering::Relaxed);
    // A write beyond the limit of a file's size then is an error that names the file.
    // SAFETY: a system call, which changes how one signal is met.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Whether the program has called [`be_warden_if_asked`].
pub(crate) fn can_be_asked() -> bool {
    CAN_BE_ASKED.load(Ordering::Relaxed)
}

/// Makes the calling process a warden, and returns in a child that is to become the command.
///
/// # Safety
/// The process must have one thread, as between fork and exec; `control` is an open descriptor.
pub(crate) unsafe fn fork_below(control: RawFd) -> io::Result<()> {
    // SAFETY: each of these is a system call; the sets are written before they are read.
    unsafe {
        block_signals();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        let warden = libc::getpid();
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                if libc::getppid() != warden {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                libc::setpgid(0, 0);
                unblock_signals();
                Ok(())
            }
            child => {
                libc::setpgid(child, child); // the child does the same: whoever is first
                close_all_but(control);
                tell(&child.to_le_bytes());
                watch(child);
                libc::_exit(0)
            }
        }
    }
}

/// The life of a warden that starts what it is asked for, until nobody is left to ask.
///
/// A request is [`REQUEST`], the length of the rest in 4 bytes, a directory and a shell command,
/// each with a zero behind; standard output and standard error come with the first byte. The
/// answer is the process's number, or an error's as a negative one. Then come signals for it, one
/// byte each, and go back, at its end, [`REPORT_BYTES`].
///
/// # Safety
/// The process must have one thread; `control` is an open descriptor, and no other one is needed.
pub(crate) unsafe fn serve(control: RawFd) -> ! {
    // SAFETY: system calls, on memory that nobody else has.
    unsafe {
        block_signals();
        default_signals();
        libc::prctl(libc::PR_SET_NAME, c"pivot-warden".as_ptr(), 0, 0, 0);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        close_all_but(control);
        libc::fcntl(CONTROL, libc::F_SETFD, libc::FD_CLOEXEC);
        // What is started reads nothing; the other two it gets from the request.
        for _ in 0..CONTROL {
            libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        }
        let (access, private) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let size = STACK_BYTES + MAX_REQUEST_BYTES;
        let memory = libc::mmap(ptr::null_mut(), size, access, private, -1, 0);
        if memory == libc::MAP_FAILED {
            libc::_exit(1);
        }
        let text: *mut libc::c_char = memory.byte_add(STACK_BYTES).cast();
        loop {
            let Some((streams, length)) = receive(text.cast()) else { libc::_exit(0) };
            if length == 0 || *text.add(length - 1) != 0 || streams.contains(&-1) {
                libc::_exit(1);
            }
            let command = text.add((libc::strlen(text) + 1).min(length - 1));
            let mut start =
                Start { directory: text, command, streams, warden: libc::getpid(), error: 0 };
            // Until it becomes the command, the child has this process's memory, and this process
            // waits: nothing is copied.
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            let argument = (&raw mut start).cast();
            // The stack grows down from where the request begins.
            let child = libc::clone(become_command, text.cast(), flags, argument);
            let cause = if child < 0 { errno() } else { start.error };
            for stream in streams {
                libc::close(stream);
            }
            if cause != 0 {
                libc::waitpid(child, ptr::null_mut(), 0);
                tell(&(-cause).to_le_bytes());
                continue;
            }
            tell(&child.to_le_bytes());
            if !watch(child) {
                libc::_exit(1); // what is left must not be taken for that of the next
            }
        }
    }
}

/// What a child is to become, and why it did not.
struct Start {
    directory: *const libc::c_char,
    command: *const libc::c_char,
    streams: [RawFd; 2],
    warden: libc::pid_t,
    error: libc::c_int,
}

/// The child's part of a start: it only returns when something fails.
extern "C" fn become_command(start: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is the warden's `Start`; the warden waits, so nobody else uses it.
    let start = unsafe { &mut *start.cast::<Start>() };
    let arguments = [c"sh".as_ptr(), c"-c".as_ptr(), start.command, ptr::null()];
    // SAFETY: system calls; all texts end with a zero, the list of arguments with a null.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        if libc::getppid() != start.warden {
            start.error = libc::ESRCH;
            return 127;
        }
        libc::setpgid(0, 0);
        let [stdout, stderr] = start.streams;
        let is_ready = libc::dup2(stdout, libc::STDOUT_FILENO) >= 0
            && libc::dup2(stderr, libc::STDERR_FILENO) >= 0
            && libc::chdir(start.directory) == 0;
        if is_ready {
            unblock_signals();
            libc::execv(c"/bin/sh".as_ptr(), arguments.as_ptr());
        }
        start.error = errno();
    }
    127
}

/// Waits for a request and reads it into `text`, which has room for the longest. Returns the
/// descriptors that came with it and its length; nothing if nobody will ask any more.
///
/// # Safety
/// Only a warden's memory is behind `text`.
unsafe fn receive(text: *mut u8) -> Option<([RawFd; 2], usize)> {
    let mut tag = REQUEST;
    let mut streams = [-1; 2];
    // SAFETY: system calls on memory of the stack; the kernel fills in a whole header or none, and
    // what is behind it is copied without regard to alignment.
    unsafe {
        loop {
            // Room for two descriptors; its elements align the header.
            let mut space = [0_usize; 4];
            let mut part = libc::iovec { iov_base: (&raw mut tag).cast(), iov_len: 1 };
            let mut message = mem::zeroed::<libc::msghdr>();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = space.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of_val(&streams) as u32) as _;
            match libc::recvmsg(CONTROL, &raw mut message, libc::MSG_CMSG_CLOEXEC) {
                1 => {}
                -1 if errno() == libc::EINTR => continue,
                _ => return None,
            }
            // A signal for a process that had just ended comes too late.
            if tag != REQUEST {
                continue;
            }
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if !header.is_null() && (*header).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header).cast();
                streams = ptr::read_unaligned(data);
            }
            break;
        }
        let mut length = [0_u8; 4];
        fill(length.as_mut_ptr(), length.len())?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_REQUEST_BYTES {
            return None;
        }
        fill(text, length)?;
        Some((streams, length))
    }
}

/// Reads exactly `length` bytes.
///
/// # Safety
/// There is room for them.
unsafe fn fill(to: *mut u8, length: usize) -> Option<()> {
    // SAFETY: as promised by the caller.
    let count = unsafe { libc::recv(CONTROL, to.cast(), length, libc::MSG_WAITALL) };
    (usize::try_from(count) == Ok(length)).then_some(())
}

/// Waits until `child` has ended, ends what it has left, and reports. `false` if something does not
/// end. The process ends when there is nobody to report to.
///
/// # Safety
/// As for [`fork_below`]; `child` is a child of this process.
unsafe fn watch(child: libc::pid_t) -> bool {
    // SAFETY: system calls on memory of the stack.
    unsafe {
        let ended = libc::syscall(libc::SYS_pidfd_open, child, 0) as RawFd;
        if ended < 0 {
            end_all(); // the end of the process could not be noticed
            libc::_exit(1);
        }
        let mut polled =
            [CONTROL, ended].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        loop {
            // Only with a wrong argument it fails for good.
            if libc::poll(polled.as_mut_ptr(), 2, -1) < 0 {
                continue;
            }
            if polled[0].revents != 0 {
                let mut numbers = [0_u8; 16];
                let count = libc::read(CONTROL, numbers.as_mut_ptr().cast(), numbers.len());
                if count <= 0 {
                    end_all();
                    libc::_exit(1); // nobody is left to be told
                }
                for number in &numbers[..count as usize] {
                    match i32::from(*number) {
                        libc::SIGKILL => kill_children(),
                        number => drop(libc::kill(-child, number)),
                    }
                }
            }
            if polled[1].revents != 0 {
                break;
            }
        }
        libc::close(ended);
        let (mut status, mut used) = (0, mem::zeroed::<libc::rusage>());
        libc::wait4(child, &raw mut status, 0, &raw mut used);
        let is_clean = end_all();
        let micros = |time: libc::timeval| (time.tv_sec as u64) * 1_000_000 + time.tv_usec as u64;
        let mut report = [0_u8; REPORT_BYTES];
        report[..4].copy_from_slice(&status.to_le_bytes());
        report[4..12].copy_from_slice(&micros(used.ru_utime).to_le_bytes());
        report[12..20].copy_from_slice(&micros(used.ru_stime).to_le_bytes());
        report[20..28].copy_from_slice(&((used.ru_maxrss as u64) * 1024).to_le_bytes());
        report[28] = is_clean.into();
        tell(&report);
        is_clean
    }
}

/// Writes to who started the warden. If that is gone, the next read tells so.
///
/// # Safety
/// As for [`fork_below`].
unsafe fn tell(bytes: &[u8]) {
    // SAFETY: a system call; so few bytes are written at once.
    unsafe { libc::write(CONTROL, bytes.as_ptr().cast(), bytes.len()) };
}

fn errno() -> libc::c_int {
    // SAFETY: the place is the thread's own.
    unsafe { *libc::__errno_location() }
}

/// A handler of the run's would do its work in the warden, with descriptors of the warden.
///
/// # Safety
/// The process must have one thread.
unsafe fn block_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is written before it is read.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}

/// What a program expects that is started.
///
/// # Safety
/// The process must have one thread.
unsafe fn unblock_signals() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is written before it is read.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Takes away the handlers, which a child would run with the warden's memory, and the disregard of
/// closed pipes, which is Rust's. What else is ignored stays so, as under `nohup`.
///
/// # Safety
/// The process must have one thread.
unsafe fn default_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: the structures are plain data, and signals that may not be changed are not.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            libc::sigaction(number, ptr::null(), &raw mut action);
            if action.sa_sigaction != libc::SIG_IGN || IGNORED.contains(&number) {
                action = mem::zeroed();
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(number, &raw const action, ptr::null_mut());
            }
        }
    }
}

/// Moves `control` to its place and closes all else: above all the locks of the run's stages, which
/// end with the run.
///
/// # Safety
/// Nobody may use another descriptor afterwards.
unsafe fn close_all_but(control: RawFd) {
    // SAFETY: system calls that take numbers.
    unsafe {
        if control != CONTROL {
            libc::dup2(control, CONTROL);
        }
        for low in 0..CONTROL {
            libc::close(low);
        }
        if libc::syscall(libc::SYS_close_range, CONTROL + 1, RawFd::MAX, 0) != 0 {
            // A kernel before 5.9.
            let most = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 65_536) as RawFd;
            for high in CONTROL + 1..most {
                libc::close(high);
            }
        }
    }
}

/// Kills and reaps children until there are none: those of a killed one become ours. `false` if
/// some do not end.
///
/// # Safety
/// As for [`fork_below`].
unsafe fn end_all() -> bool {
    for _ in 0..PATIENCE {
        // SAFETY: system calls on memory of the stack.
        unsafe {
            let mut reaped = 1;
            while reaped > 0 {
                reaped = libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG);
            }
            if reaped < 0 {
                return true;
            }
            kill_children();
            libc::poll(std::ptr::null_mut(), 0, 1);
        }
    }
    false
}

/// Kills the processes whose parent this one is, as far as `/proc` shows them.
///
/// # Safety
/// As for [`fork_below`].
unsafe fn kill_children() {
    // SAFETY: system calls on memory of the stack, with lengths that the kernel gave or that we
    // give it.
    unsafe {
        let proc = libc::open(c"/proc".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY);
        if proc < 0 {
            return;
        }
        let me = libc::getpid();
        // The kernel aligns entries to 8 bytes.
        let mut entries = [0_u64; 512];
        loop {
            let (to, size) = (entries.as_mut_ptr(), size_of_val(&entries));
            let count = libc::syscall(libc::SYS_getdents64, proc, to, size);
            if count <= 0 {
                break;
            }
            let mut at = 0;
            while at < count as usize {
                let entry = entries.as_ptr().cast::<libc::dirent64>().byte_add(at);
                let name = &raw const (*entry).d_name;
                if let Some(pid) = number(name.cast())
                    && parent_of(proc, name.cast()) == Some(me)
                {
                    libc::kill(pid, libc::SIGKILL);
                }
                at += usize::from((*entry).d_reclen);
            }
        }
        libc::close(proc);
    }
}

/// The number that the text consists of.
///
/// # Safety
/// `text` ends with a zero.
unsafe fn number(mut text: *const u8) -> Option<libc::pid_t> {
    let mut number: libc::pid_t = 0;
    // SAFETY: nothing behind the zero is read.
    unsafe {
        while *text != 0 {
            let digit = (*text as char).to_digit(10)?;
            number = number.checked_mul(10)?.checked_add(digit as libc::pid_t)?;
            text = text.add(1);
        }
    }
    Some(number)
}

/// The parent of the process that has the directory `name` in `proc`.
///
/// # Safety
/// `name` ends with a zero and is a number, `proc` is open.
unsafe fn parent_of(proc: RawFd, name: *const libc::c_char) -> Option<libc::pid_t> {
    // SAFETY: system calls on memory of the stack, with their own length.
    unsafe {
        let process = libc::openat(proc, name, libc::O_RDONLY | libc::O_DIRECTORY);
        let stat = libc::openat(process, c"stat".as_ptr(), libc::O_RDONLY);
        let mut text = [0_u8; 512];
        let count = libc::read(stat, text.as_mut_ptr().cast(), text.len());
        libc::close(stat);
        libc::close(process);
        let text = text.get(..usize::try_from(count).ok()?)?;
        // `PID (NAME) STATE PARENT …`, and the name may hold anything.
        let after = text.iter().rposition(|byte| *byte == b')')?;
        let fields = text.get(after + 4..)?;
        let mut parent = 0;
        for byte in fields.iter().take_while(|byte| byte.is_ascii_digit()) {
            parent = parent * 10 + libc::pid_t::from(byte - b'0');
        }
        Some(parent)
    }
}
