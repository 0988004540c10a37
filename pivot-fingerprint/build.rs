//! Lists the Python package's files, so that the library carries them as bytes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest};

/// What `python DIR` executes; it makes DIR the first entry of `sys.path`.
///
/// It is valid in any Python, and the helper's only part that is.
const MAIN: &str = "\
import sys

if sys.version_info < (3, 10):
    sys.exit(64)  # the program knows what this means

# Without byte code this would be compiled at every start. Where Python shall write none, it goes
# beside the package and nowhere else.
before = sys.dont_write_bytecode, sys.pycache_prefix
if sys.dont_write_bytecode:
    sys.pycache_prefix = sys.path[0] + '/bytecode'
    sys.dont_write_bytecode = False
if sys.argv[3:4] == ['--edited']:
    # Stand-ins for the packages, as long as no more of them is needed.
    for name in 'pivot', 'pivot._fingerprint':
        sys.modules[name] = type(sys)(name)
        sys.modules[name].__path__ = ['/'.join([sys.path[0], *name.split('.')])]
    from pivot._answer_edit import answer_edit
    answer_edit(int(sys.argv[2]), *sys.argv[4:])
    del sys.argv[3:]
    for name in [name for name in sys.modules if name.partition('.')[0] == 'pivot']:
        del sys.modules[name]
from pivot._main import main

main(before)
";

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    // A link to `python/pivot`, so that a published crate carries the files as well.
    let package = manifest_dir.join("python_package");
    println!("cargo::rerun-if-changed={}", package.display());
    let mut files = Vec::new();
    collect(&package, "pivot/", &mut files);
    files.sort();
    for (_, path) in &files {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let main = out.join("__main__.py");
    fs::write(&main, MAIN).expect("OUT_DIR is writable");
    files.push(("__main__.py".to_owned(), main));

    let mut table = String::from("&[\n");
    let mut hasher = Blake2b::<U16>::new();
    for (name, path) in &files {
        let content = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for part in [name.as_bytes(), &content] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        // The bytes that were hashed, whatever happens to the file until the compiler runs.
        let copy = out.join(name);
        fs::create_dir_all(copy.parent().expect("it is a file")).expect("OUT_DIR is writable");
        fs::write(&copy, content).expect("OUT_DIR is writable");
        writeln!(table, "    ({name:?}, include_bytes!({:?})),", copy.display().to_string())
            .expect("a string takes any text");
    }
    table.push(']');
    fs::write(out.join("python_files.rs"), table).expect("OUT_DIR is writable");
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=PIVOT_PYTHON_DIGEST={digest}");
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) {
    let entries =
        fs::read_dir(dir).unwrap_or_else(|e| panic!("cannot list {}: {e}", dir.display()));
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if path.is_dir() {
            if name != "__pycache__" {
                println!("cargo::rerun-if-changed={}", path.display());
                collect(&path, &format!("{prefix}{name}/"), files);
            }
        } else if name.ends_with(".py") || name == "py.typed" {
            let path = path.canonicalize().unwrap_or(path);
            files.push((format!("{prefix}{name}"), path));
        }
    }
}
