//! A system that refuses: no space, no descriptors, no permission. An error that names the path,
//! nothing half-stored, and all well again once the cause is gone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Project, project};

const PIPELINE: &str = "\
stages:
  copy: {cmd: cp data copy, deps: [data], outs: [copy]}
  split: {cmd: 'mkdir parts; cp copy parts/a; cp copy parts/b', deps: [copy], outs: [parts]}
";

fn new_project() -> Project {
    project().file("pivot.yaml", PIPELINE).file("data", "text\n")
}

fn set_mode(project: &Project, path: &str, mode: u32) {
    fs::set_permissions(project.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

/// The command without the superuser's right to pass over permissions.
fn as_anybody(mut command: Command) -> Command {
    const OVERRIDE: [libc::c_ulong; 2] = [1, 2]; // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    // SAFETY: system calls only. They fail for who has no such right anyway.
    unsafe {
        command.pre_exec(|| {
            for right in OVERRIDE {
                libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0);
            }
            Ok(())
        });
    }
    command
}

pub(crate) fn with_limit(
    mut command: Command,
    resource: libc::__rlimit_resource_t,
    limit: u64,
) -> Command {
    // SAFETY: one system call with a structure that lives as long as it.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            match libc::setrlimit(resource, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    command
}

pub(crate) fn text(output: &Output) -> String {
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed + &String::from_utf8_lossy(&output.stderr)
}

/// Checks that the command failed with an error that says `named`, and not by a panic.
fn fails_with(mut command: Command, named: &str) {
    let output = command.output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(named) && !said.contains("panicked"), "{named:?} is not named: {said}");
}

/// Checks that a run now succeeds, and that the one after it has nothing to do.
fn is_well(project: &Project) {
    project.pivot("run").succeeds();
    assert_eq!(project.pivot("run").succeeds().counts(), "2 stages: 2 unchanged ([time])");
    assert_eq!(project.read("parts/a") + &project.read("parts/b"), "text\ntext\n");
    assert!(project.files_in(".pivot/cache/tmp").is_empty());
    for object in project.files_in(".pivot/cache/files") {
        let bytes = fs::read(project.path(&object)).unwrap();
        let name = object.trim_start_matches(".pivot/cache/files/").replace('/', "");
        assert_eq!(name, format!("{:016x}", xxhash_rust::xxh64::xxh64(&bytes, 0)));
    }
}

#[test]
fn few_descriptors() {
    let mut failed = 0;
    for limit in 3..48 {
        let project = new_project();
        let output = with_limit(project.command("run"), libc::RLIMIT_NOFILE, limit).output();
        let output = output.unwrap();
        let said = text(&output);
        assert!(!said.contains("panicked"), "with {limit} descriptors: {said}");
        match output.status.code() {
            Some(0) => {}
            Some(1) => {
                failed += 1;
                assert!(said.contains("Too many open files"), "with {limit} descriptors: {said}");
            }
            // Not even the dynamic loader can open what it needs.
            Some(127) if said.contains("error while loading shared libraries") => {}
            code => panic!("exit code {code:?} with {limit} descriptors: {said}"),
        }
        is_well(&project);
    }
    assert!(failed > 0, "no limit was too low");
}

#[test]
fn files_that_may_not_become_large() {
    let project = new_project();
    project.write("data", &"0123456789".repeat(5_000));
    let mut command = with_limit(project.command("run"), libc::RLIMIT_FSIZE, 40_000);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(!project.has_lock("copy") && !project.exists("copy"));
    assert!(project.files_in(".pivot/cache/files").is_empty());
    project.write("data", "text\n");
    is_well(&project);
}

/// The command with a cache of 1 MiB, which is empty and does not stay. It tells the objects and the
/// half-written files that are there at the end. `None` if nothing can be mounted here.
#[expect(clippy::print_stderr, reason = "says what could not be tested")]
pub(crate) fn with_small_cache(project: &Project, pivot: &Command) -> Option<Output> {
    // A file system of its own takes the right to mount one in a namespace of one's own.
    let script = r#"mount -t tmpfs -o size=1m none .pivot/cache || exit 99
"$0" "$@"
code=$?
find .pivot/cache/files -type f | while read object; do echo "object $object"; done
find .pivot/cache/tmp -type f | while read file; do echo "leftover $file"; done
rm -rf .pivot/cache/files
umount .pivot/cache
exit $code"#;
    fs::create_dir_all(project.path(".pivot/cache")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script]).arg(pivot.get_program());
    command.args(pivot.get_args());
    for (name, value) in pivot.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.current_dir(project.root()).output().unwrap();
    let said = text(&output);
    if output.status.code() == Some(99) || said.contains("unshare failed") {
        eprintln!("no file system can be mounted here: {said}");
        return None;
    }
    Some(output)
}

#[test]
fn a_disk_that_is_full() {
    let project = new_project();
    project.write("data", &"0123456789".repeat(30_000));
    let run = || with_small_cache(&project, &project.command("run"));
    let Some(output) = run() else { return };
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    project.write("data", &"0123456789".repeat(120_000));
    let output = run().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains(".pivot/cache/tmp/") && !said.contains("panicked"), "{said}");
    assert!(!said.contains("object ") && !said.contains("leftover "), "{said}");
    project.write("data", "text\n");
    is_well(&project);
}

#[test]
fn a_cache_that_may_not_be_written() {
    let project = new_project();
    fs::create_dir_all(project.path(".pivot/cache")).unwrap();
    set_mode(&project, ".pivot/cache", 0o555);
    fails_with(as_anybody(project.command("run")), ".pivot/cache/tmp");
    assert!(!project.has_lock("copy"));
    // What is unchanged needs no writing.
    set_mode(&project, ".pivot/cache", 0o755);
    is_well(&project);
    for dir in [".pivot/cache", ".pivot/stages", ".pivot", "."] {
        set_mode(&project, dir, 0o555);
    }
    let output = as_anybody(project.command("run")).output().unwrap();
    for dir in [".", ".pivot", ".pivot/stages", ".pivot/cache"] {
        set_mode(&project, dir, 0o755);
    }
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    is_well(&project);
}

#[test]
fn locks_that_may_not_be_written() {
    let project = new_project();
    fs::create_dir_all(project.path(".pivot/stages")).unwrap();
    set_mode(&project, ".pivot/stages", 0o555);
    fails_with(as_anybody(project.command("run")), ".pivot/stages");
    set_mode(&project, ".pivot/stages", 0o755);
    is_well(&project);
}

#[test]
fn a_state_that_may_not_be_read_or_written() {
    for mode in [0o000, 0o555] {
        let project = new_project();
        is_well(&project);
        for path in [".pivot/state.lmdb/data.mdb", ".pivot/state.lmdb"] {
            set_mode(&project, path, mode);
        }
        let output = as_anybody(project.command("run")).output().unwrap();
        let said = text(&output);
        project.write("data", "text");
        let other = as_anybody(project.command("run")).output().unwrap();
        for path in [".pivot/state.lmdb", ".pivot/state.lmdb/data.mdb"] {
            set_mode(&project, path, 0o755);
        }
        assert!(output.status.success() && said.contains("2 unchanged"), "{said}");
        assert!(other.status.success() && text(&other).contains("2 ran"), "{}", text(&other));
        project.write("data", "text\n");
        is_well(&project);
    }
}

#[test]
fn files_that_may_not_be_read() {
    for path in ["data", "pivot.yaml", "params.yaml", ".pivot/config.yaml"] {
        let project = new_project().file("params.yaml", "").file(".pivot/config.yaml", "");
        set_mode(&project, path, 0o000);
        fails_with(as_anybody(project.command("run")), path);
        set_mode(&project, path, 0o644);
        is_well(&project);
        set_mode(&project, path, 0o000);
        // An unchanged dependency is known by its size and times; the rest has to be read.
        let output = as_anybody(project.command("run")).output().unwrap();
        assert!(path == "data" || output.status.code() == Some(1), "{path}: {}", text(&output));
        set_mode(&project, path, 0o644);
        is_well(&project);
    }
    let project = new_project();
    is_well(&project);
    set_mode(&project, ".pivot/stages/copy.lock", 0o000);
    project.remove(".pivot/state.lmdb");
    fails_with(as_anybody(project.command("run")), ".pivot/stages/copy.lock");
    set_mode(&project, ".pivot/stages/copy.lock", 0o644);
    is_well(&project);
}

#[test]
fn an_output_in_a_directory_that_may_not_be_written() {
    let project = project()
        .file("pivot.yaml", "stages: {make: {cmd: 'echo new >dir/out', outs: [dir/out]}}")
        .file("dir/out", "mine");
    set_mode(&project, "dir", 0o555);
    fails_with(as_anybody(project.command("run")), "`dir/out`");
    set_mode(&project, "dir", 0o755);
    assert_eq!(project.read("dir/out"), "mine");
    project.pivot("run").succeeds();
    assert_eq!(project.read(".pivot/saved/dir/out"), "mine");
}

#[test]
fn a_project_below_a_name_of_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let outer = new_project();
    for name in [&b"a b\n'c\""[..], "üñï".as_bytes(), b"-C", b"not-\xff-utf8"] {
        let root = outer.root().join(Path::new(std::ffi::OsStr::from_bytes(name)));
        fs::create_dir(&root).unwrap();
        fs::copy(outer.path("data"), root.join("data")).unwrap();
        fs::write(root.join("pivot.yaml"), PIPELINE).unwrap();
        let is_text = std::str::from_utf8(name).is_ok();
        let refused = "the project's path is not UTF-8 text";
        for expected in if is_text { ["2 ran", "2 unchanged"] } else { [refused; 2] } {
            let output = outer.command("run").current_dir(&root).output().unwrap();
            assert!(text(&output).contains(expected), "in {root:?}: {}", text(&output));
        }
    }
}

/// The command on a system that knows no `flock`.
fn without_locks(mut command: Command) -> Command {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOLCK as u32;
    let flock = libc::SYS_flock as u32;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The number of the call is the first field of what the filter looks at.
    let mut steps = [
        step(LOAD, 0, 0, 0),
        step(JUMP, 0, 1, flock),
        step(RETURN, 0, 0, refuse),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: system calls with structures that live as long as they.
    unsafe {
        command.pre_exec(move || {
            let filter = libc::sock_fprog { len: 4, filter: steps.as_mut_ptr() };
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            match libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    command
}

#[test]
fn a_file_system_without_locks() {
    let project = project().file(
        "pivot.yaml",
        "stages: {slow: {cmd: 'echo x >>runs; echo >begun; while [ ! -e go ]; do sleep 0.01; done; echo 1 >out', outs: [out]}}\n",
    );
    let run = || without_locks(project.command("run"));
    let first = run().stderr(std::process::Stdio::piped()).spawn().unwrap();
    project.wait_for("begun");
    let second = run().stderr(std::process::Stdio::piped()).spawn().unwrap();
    project.wait_for(".pivot/run/slow.holder");
    project.write("go", "");
    let ends = [first, second].map(|run| run.wait_with_output().unwrap());
    for end in &ends {
        assert_eq!(end.status.code(), Some(0), "{}", text(end));
    }
    assert!(text(&ends[0]).contains("has no locks"), "{}", text(&ends[0]));
    assert_eq!(project.read("runs"), "x\n", "the stage ran twice");
    assert!(!project.exists(".pivot/run/slow.holder"));
    // What a killed process has left blocks nobody.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    project.write(".pivot/run/slow.holder", &format!("1 1 another-boot on {}", host.trim()));
    project.remove("out");
    project.replace("pivot.yaml", "echo 1 >out", "echo 2 >out");
    let end = run().output().unwrap();
    assert_eq!(end.status.code(), Some(0), "{}", text(&end));
    assert_eq!(project.read("out"), "2\n");
}
