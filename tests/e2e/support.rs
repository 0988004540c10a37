//! A throw-away project and the program run in it: all that the tests need to know.
//!
//! ```text
//! let project = project().file("pipeline.py", "...").file("data.txt", "1");
//! project.pivot("run").succeeds();
//! assert_eq!(project.read("out.txt"), "2");
//! ```

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long anything that a test waits for may take before it counts as hung.
const DEADLINE: Duration = Duration::from_secs(60);

/// A new, empty project in a temporary directory.
pub(crate) fn project() -> Project {
    let dir =
        tempfile::Builder::new().prefix("pivot-test-").tempdir().expect("a temporary directory");
    let root = dir.path().canonicalize().expect("it exists");
    Project { _dir: dir, root, environment: Vec::new() }
}

/// A Python of at least 3.14, which has interpreters of their own for stages: the one that
/// `PIVOT_TEST_PYTHON_3_14` names, or the one in `target/pythons`, where Pivot's check puts it.
#[expect(clippy::print_stderr, reason = "a test that passes without its Python says so")]
pub(crate) fn python_with_interpreters() -> Option<PathBuf> {
    let named = std::env::var_os("PIVOT_TEST_PYTHON_3_14").map(PathBuf::from);
    let usual = target().join("pythons/3.14/bin/python3.14");
    let found = named.or_else(|| usual.exists().then_some(usual));
    if found.is_none() {
        eprintln!("there is no Python 3.14 here: not tested");
    }
    found
}

/// A project that is removed when the test ends.
pub(crate) struct Project {
    _dir: tempfile::TempDir,
    root: PathBuf,
    environment: Vec<(String, String)>,
}

impl Project {
    /// Adds a file, with its directories.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    /// Adds a variable to the program's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs stages with the virtual environment that has pydantic, numpy and pandas.
    pub(crate) fn with_libraries(self) -> Self {
        let python = library_python();
        self.env("PIVOT_PYTHON", &python.display().to_string())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let full = self.path(path);
        fs::create_dir_all(full.parent().expect("below the root")).expect("create directories");
        fs::write(full, text).expect("write the file");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    pub(crate) fn remove(&self, path: &str) {
        let full = self.path(path);
        let removed =
            if full.is_dir() { fs::remove_dir_all(&full) } else { fs::remove_file(&full) };
        removed.unwrap_or_else(|e| panic!("cannot remove {path}: {e}"));
    }

    /// Replaces text that must be there exactly once.
    pub(crate) fn replace(&self, path: &str, old: &str, new: &str) {
        let text = self.read(path);
        assert_eq!(text.matches(old).count(), 1, "{old:?} is not in {path} exactly once");
        self.write(path, &text.replace(old, new));
    }

    /// Copies a directory of the repository, such as an example, into the project.
    pub(crate) fn copy_of(self, repository_dir: &str) -> Self {
        copy_tree(&repository().join(repository_dir), &self.root);
        self
    }

    /// The command line `pivot ARGUMENTS`, split at spaces, ready to run.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pivot-under-test"));
        command.args(arguments.split_whitespace()).current_dir(&self.root).stdin(Stdio::null());
        for name in ["VIRTUAL_ENV", "CONDA_PREFIX", "PIVOT_PYTHON", "PYTHONPATH", "PYTHONHASHSEED"]
        {
            command.env_remove(name);
        }
        command.env("XDG_CACHE_HOME", target().join("test-cache")).env("NO_COLOR", "1");
        command.env("COLUMNS", "100");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `pivot ARGUMENTS`, split at spaces.
    #[must_use = "check how the command ended"]
    pub(crate) fn pivot(&self, arguments: &str) -> Finished {
        let output = self.command(arguments).output().expect("the program starts");
        Finished {
            root: self.root.display().to_string(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts `pivot ARGUMENTS` and does not wait for its end.
    pub(crate) fn start(&self, arguments: &str) -> Running {
        let prints = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| fs::File::create(prints.path().join(name)).expect("a new file");
        let mut command = self.command(arguments);
        command.stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().expect("the program starts");
        Running { child, prints, root: self.root.display().to_string() }
    }

    /// Waits until there is something at `path`.
    pub(crate) fn wait_for(&self, path: &str) {
        eventually(&format!("{path} appears"), || self.exists(path));
    }

    /// Waits until a process has written its id to `path`.
    pub(crate) fn wait_for_pid(&self, path: &str) -> u32 {
        let pid = || fs::read_to_string(self.path(path)).ok()?.strip_suffix('\n')?.parse().ok();
        eventually(&format!("{path} holds a process id"), || pid().is_some());
        pid().expect("it was there a moment ago")
    }

    /// The lock file of a stage.
    pub(crate) fn lock(&self, stage: &str) -> String {
        self.read(&format!(".pivot/stages/{stage}.lock"))
    }

    pub(crate) fn has_lock(&self, stage: &str) -> bool {
        self.exists(&format!(".pivot/stages/{stage}.lock"))
    }

    /// The names of all files below `dir`, sorted; links are not followed.
    pub(crate) fn files_in(&self, dir: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![self.path(dir)];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => waiting.push(entry.path()),
                    _ => found.push(entry.path()),
                }
            }
        }
        let name = |path: PathBuf| {
            let inside = path.strip_prefix(&self.root).expect("it lies in the project");
            inside.display().to_string()
        };
        let mut names: Vec<String> = found.into_iter().map(name).collect();
        names.sort();
        names
    }

    /// What a colleague has after cloning the repository: everything but `left_out`, elsewhere.
    pub(crate) fn cloned_without(&self, left_out: &[&str]) -> Self {
        let clone = Self { environment: self.environment.clone(), ..project() };
        for path in self.files_in("") {
            if left_out.iter().any(|prefix| path.starts_with(prefix)) {
                continue;
            }
            let target = clone.path(&path);
            fs::create_dir_all(target.parent().expect("below the root")).expect("directories");
            fs::copy(self.path(&path), target).expect("copy the file");
        }
        clone
    }

    /// The names that stages left in `ran.log` since the last call, sorted.
    ///
    /// A stage of a test adds its name there by itself, so what ran is known from outside.
    pub(crate) fn ran(&self) -> Vec<String> {
        let log = self.path("ran.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let mut names: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        names.sort();
        names
    }
}

/// A program that runs while the test goes on. It is killed if the test forgets it.
pub(crate) struct Running {
    child: Child,
    prints: tempfile::TempDir,
    root: String,
}

impl Running {
    /// Sends a signal, such as `libc::SIGINT`.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: the child has not been waited for, so its id is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the program has ended already");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program has printed `text`.
    pub(crate) fn wait_until_it_says(&self, text: &str) {
        eventually(&format!("the program says {text:?}"), || {
            self.print("stdout").contains(text) || self.print("stderr").contains(text)
        });
    }

    /// Waits for the end.
    #[must_use = "check how the program ended"]
    pub(crate) fn finish(mut self) -> Finished {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        Finished {
            root: self.root.clone(),
            code: status.expect("it has ended").code(),
            stdout: self.print("stdout"),
            stderr: self.print("stderr"),
        }
    }

    fn print(&self, stream: &str) -> String {
        let bytes = fs::read(self.prints.path().join(stream)).expect("the file was made");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds; `what` says for whom it failed what was awaited.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Whether a process exists and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which stands in parentheses and may hold anything.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// What a run of the program left: compare it with a snapshot, or check a part of it.
pub(crate) struct Finished {
    root: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Finished {
    pub(crate) fn succeeds(self) -> Self {
        self.exits(0)
    }

    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "unexpected exit code:\n{self}");
        self
    }

    pub(crate) fn stdout(&self) -> &str {
        &self.stdout
    }

    pub(crate) fn stderr(&self) -> &str {
        &self.stderr
    }

    /// The exit code and standard error only, for a test about how something is told.
    pub(crate) fn errors(&self) -> String {
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        format!("exit: {code}\n{}", self.normalized(&self.stderr))
    }

    /// The last line of standard output, with its time normalized: the counts of a run.
    pub(crate) fn counts(&self) -> String {
        self.normalized(self.stdout.lines().last().unwrap_or_default())
    }

    /// Checks that standard output or standard error contains `text`.
    pub(crate) fn says(self, text: &str) -> Self {
        let said = self.normalized(&self.stdout) + &self.normalized(&self.stderr);
        assert!(said.contains(text), "{text:?} was not said:\n{self}");
        self
    }

    /// Checks that neither standard output nor standard error contains `text`.
    pub(crate) fn does_not_say(self, text: &str) -> Self {
        let said = self.normalized(&self.stdout) + &self.normalized(&self.stderr);
        assert!(!said.contains(text), "{text:?} was said:\n{self}");
        self
    }

    /// Standard output as JSON, a value a line.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}\n{self}"))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// Standard output as one JSON value.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}):\n{self}"))
    }

    fn normalized(&self, text: &str) -> String {
        normalized(&text.replace(&self.root, "[root]"))
    }
}

/// Times and hashes differ from run to run: they become `[time]` and `[hash]`. The carets below
/// lines of a traceback differ from Python to Python: they are left out.
pub(crate) fn normalized(text: &str) -> String {
    let is_marks = |line: &str| {
        let marks = line.trim();
        !marks.is_empty() && marks.chars().all(|c| matches!(c, '^' | '~'))
    };
    let text: String = text.split_inclusive('\n').filter(|line| !is_marks(line)).collect();
    let mut result = String::new();
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_alphanumeric() || c == '.' {
            word.push(c);
            continue;
        }
        result.push_str(match word.as_str() {
            word if is_hash(word) => "[hash]",
            word if is_time(word) => "[time]",
            word => word,
        });
        word.clear();
        if c != '\0' {
            result.push(c);
        }
    }
    result
}

fn is_hash(word: &str) -> bool {
    matches!(word.len(), 8 | 16) && word.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_time(word: &str) -> bool {
    let number = word.strip_suffix("ms").or_else(|| word.strip_suffix('s'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit() || c == b'.'))
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "exit: {code}")?,
            None => writeln!(f, "ended by a signal")?,
        }
        f.write_str(&self.normalized(&self.stdout))?;
        if !self.stderr.is_empty() {
            write!(f, "--- stderr\n{}", self.normalized(&self.stderr))?;
        }
        Ok(())
    }
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

pub(crate) fn target() -> &'static Path {
    // Cargo puts the program at target/PROFILE/pivot-under-test.
    Path::new(env!("CARGO_BIN_EXE_pivot-under-test")).ancestors().nth(2).expect("target/PROFILE")
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the directory exists").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_name() == "__pycache__" || entry.file_name() == ".pivot" {
            continue;
        }
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("create directories");
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copy the file");
        }
    }
}

/// The interpreter of a virtual environment with pydantic, numpy and pandas, made on first use
/// and kept under the target directory.
pub(crate) fn library_python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let dir = target().join("test-venv");
        let python = dir.join("bin/python");
        if !dir.join("complete").exists() {
            let _ = fs::remove_dir_all(&dir);
            let run = |program: &Path, arguments: &[&str]| {
                let status = Command::new(program).args(arguments).status();
                let done = status.unwrap_or_else(|e| panic!("cannot start {program:?}: {e}"));
                assert!(done.success(), "{program:?} {arguments:?} failed");
            };
            run(Path::new("python3"), &["-m", "venv", &dir.display().to_string()]);
            let packages = ["pydantic==2.14.3", "numpy==2.4.6", "pandas==3.1.1"];
            let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            run(&python, &[&install[..], &packages[..]].concat());
            fs::write(dir.join("complete"), "").expect("mark the environment as complete");
        }
        python
    })
}
