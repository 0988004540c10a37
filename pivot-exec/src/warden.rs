//! A process between the run and a process that runs user code, which ends whatever is left.
//!
//! A process group is easily left: `setsid` is enough. So each process is started below a warden,
//! to which the system gives all descendants whose parents have ended (a *subreaper*). When the
//! process ends, the warden kills what is left, until nothing is; when the run ends without
//! saying so, killed perhaps, it kills all.
//!
//! The warden is a fork of this program that never becomes another one. Such a fork of a program
//! with threads may do little: here it makes system calls, on memory that it has already.

use std::io::{self, Read, Write};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::usage::Usage;

/// Where the warden has its end of the connection; all else is closed.
const CONTROL: RawFd = 3;

/// How often the warden looks again, with a millisecond between, for what it has killed and what
/// does not end, such as a process that waits for a file server.
const PATIENCE: usize = 2_000;

/// The bytes of a report: status, and user time, system time and peak memory.
const REPORT_BYTES: usize = 4 + 3 * 8;

/// A process that runs below a warden. Dropping it kills it, and all that it has started.
#[derive(Debug)]
pub(crate) struct Warded {
    warden: Child,
    over: OwnedFd,
    control: UnixStream,
    leader: u32,
    is_reaped: bool,
}

impl Warded {
    /// Starts `command` below a warden, as the leader of a process group.
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        let (mut control, theirs) = UnixStream::pair()?;
        // The warden's group is not that of the process: signals to the latter must not hit it.
        command.process_group(0);
        let end = theirs.as_raw_fd();
        // SAFETY: only system calls on memory of the stack follow, on both sides of the fork.
        unsafe { command.pre_exec(move || fork_below(end)) };
        let warden = command.spawn()?;
        drop((theirs, command));
        let pid = Pid::from_child(&warden);
        let mut leader = [0; 4];
        let told = control.read_exact(&mut leader);
        let over = pidfd_open(pid, PidfdFlags::empty());
        let leader = u32::from_le_bytes(leader);
        let warded = |over| Self { warden, over, control, leader, is_reaped: false };
        match (told, over) {
            (Ok(()), Ok(over)) => Ok(warded(over)),
            (Err(error), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
        }
    }

    /// The process, which leads its group.
    pub(crate) fn leader(&self) -> u32 {
        self.leader
    }

    /// The warden, which is gone when all is.
    pub(crate) fn warden(&self) -> u32 {
        self.warden.id()
    }

    /// What becomes readable when the process has ended, with all that it left.
    pub(crate) fn over(&self) -> BorrowedFd<'_> {
        self.over.as_fd()
    }

    /// Sends a signal to the process group; [`Signal::KILL`] reaches everything that was started.
    pub(crate) fn signal(&self, signal: Signal) {
        let number = u8::try_from(signal.as_raw()).expect("signals are small numbers");
        // A warden that is gone has ended everything.
        let _ = (&self.control).write(&[number]);
    }

    /// How the process ended and what it used. It waits until then.
    pub(crate) fn wait(&mut self) -> io::Result<Option<(ExitStatus, Usage)>> {
        self.warden.wait()?;
        self.is_reaped = true;
        let mut report = [0; REPORT_BYTES];
        // Without a report the warden itself was killed.
        Ok(self.control.read_exact(&mut report).is_ok().then(|| parse(&report)))
    }
}

impl Drop for Warded {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal(Signal::KILL);
            let _ = self.warden.wait();
        }
    }
}

fn parse(report: &[u8; REPORT_BYTES]) -> (ExitStatus, Usage) {
    let (status, numbers) = report.split_first_chunk::<4>().expect("it is longer");
    let number = |at: usize| {
        let bytes = numbers[at * 8..][..8].try_into().expect("there are three");
        u64::from_le_bytes(bytes)
    };
    let usage = Usage {
        user: Duration::from_micros(number(0)),
        system: Duration::from_micros(number(1)),
        peak_bytes: number(2),
    };
    (ExitStatus::from_raw(i32::from_le_bytes(*status)), usage)
}

/// Makes the calling process a warden, and returns in a child that is to become the command.
///
/// # Safety
/// The process must have one thread, as between fork and exec; `control` is an open descriptor.
unsafe fn fork_below(control: RawFd) -> io::Result<()> {
    // SAFETY: each of these is a system call; the sets are written before they are read.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut usual = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        // A handler of the run's would do its work in the warden, with descriptors of the warden.
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), usual.as_mut_ptr());
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
                libc::sigprocmask(libc::SIG_SETMASK, usual.as_ptr(), std::ptr::null_mut());
                Ok(())
            }
            child => watch(child, control),
        }
    }
}

/// The life of a warden.
///
/// # Safety
/// As for [`fork_below`]; `child` is a child of this process.
unsafe fn watch(child: libc::pid_t, control: RawFd) -> ! {
    // SAFETY: system calls on memory of the stack.
    unsafe {
        libc::setpgid(child, child); // the child does the same: whoever is first
        // Everything else is the run's: above all the locks of its stages, which end with it.
        if control != CONTROL {
            libc::dup2(control, CONTROL);
        }
        close_all_but_control();
        let leader = child.to_le_bytes();
        libc::write(CONTROL, leader.as_ptr().cast(), leader.len());
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
        let (mut status, mut used) = (0, mem::zeroed::<libc::rusage>());
        libc::wait4(child, &raw mut status, 0, &raw mut used);
        end_all();
        let micros = |time: libc::timeval| (time.tv_sec as u64) * 1_000_000 + time.tv_usec as u64;
        let mut report = [0_u8; REPORT_BYTES];
        report[..4].copy_from_slice(&status.to_le_bytes());
        report[4..12].copy_from_slice(&micros(used.ru_utime).to_le_bytes());
        report[12..20].copy_from_slice(&micros(used.ru_stime).to_le_bytes());
        report[20..].copy_from_slice(&((used.ru_maxrss as u64) * 1024).to_le_bytes());
        libc::write(CONTROL, report.as_ptr().cast(), report.len());
        libc::_exit(0)
    }
}

/// # Safety
/// Nobody may use another descriptor afterwards.
unsafe fn close_all_but_control() {
    // SAFETY: system calls that take numbers.
    unsafe {
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

/// Kills and reaps children until there are none: those of a killed one become ours.
///
/// # Safety
/// As for [`fork_below`].
unsafe fn end_all() {
    for _ in 0..PATIENCE {
        // SAFETY: system calls on memory of the stack.
        unsafe {
            let mut reaped = 1;
            while reaped > 0 {
                reaped = libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG);
            }
            if reaped < 0 {
                return;
            }
            kill_children();
            libc::poll(std::ptr::null_mut(), 0, 1);
        }
    }
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
