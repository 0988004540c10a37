//! Each promise of `docs/concepts/reliability.md` names its tests, and they exist.

use std::fs;

use crate::support::repository;

/// The text of the file that holds the tests of `module`.
fn source(module: &str) -> String {
    let path = match module.split_once('/') {
        Some((package, file)) if file.starts_with("src/") => format!("{package}/{file}.rs"),
        Some((package, file)) => format!("{package}/tests/{file}.rs"),
        None if module == "fuzz" => "tests/fuzz/targets.rs".to_owned(),
        None => format!("tests/e2e/{module}.rs"),
    };
    fs::read_to_string(repository().join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_promise_names_tests_that_exist() {
    let page = fs::read_to_string(repository().join("docs/concepts/reliability.md")).unwrap();
    // The first table has a row for each promise.
    let rows =
        page.lines().filter(|line| line.starts_with("| ")).filter(|line| !line.contains("---"));
    let mut promises = 0;
    for row in rows.filter(|row| !row.ends_with("| tests |")) {
        assert!(row.contains("::"), "names no test: {row}");
        promises += 1;
    }
    assert!(promises > 17, "only {promises} promises and faults");
    let quoted = page.split('`').skip(1).step_by(2);
    let names: Vec<_> = quoted.filter_map(|name| name.split_once("::")).collect();
    for (module, test) in names.iter().filter(|(_, test)| *test != "name") {
        let is_there = source(module).contains(&format!("fn {test}("));
        assert!(is_there, "{module} has no test `{test}`");
    }
}
