//! Lists the Python package's files, so that the library carries them as bytes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    // A link to `python/pivot`, so that a published crate carries the files as well.
    let package = manifest_dir.join("python_package");
    println!("cargo::rerun-if-changed={}", package.display());
    let mut files = Vec::new();
    collect(&package, "", &mut files);
    files.sort();
    let mut table = String::from("&[\n");
    for (name, path) in &files {
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(table, "    ({name:?}, include_bytes!({:?})),", path.display().to_string())
            .expect("a string takes any text");
    }
    table.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("python_files.rs"), table).expect("OUT_DIR is writable");
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
