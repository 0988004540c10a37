//! The tests of the Python package, with the interpreter that the other tests use.

use std::process::Command;

use crate::support::{library_python, repository};

#[test]
fn the_tests_of_the_python_package_pass() {
    let mut python = Command::new(library_python());
    python.args(["-m", "unittest", "discover", "-s", "python/tests", "-t", "python/tests"]);
    let output = python.current_dir(repository()).output().expect("Python starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}
