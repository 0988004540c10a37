//! What waits for the disk, so that a loss of power costs no more than `core.durability` says.

use std::fs;
use std::process::Stdio;

use crate::support::project;
use crate::system_calls::{Then, watch};

const PIPELINE: &str = "\
stages:
  one: {cmd: 'mkdir dir; echo 1 >dir/a', outs: [dir]}
  two: {cmd: cp dir/a c, deps: [dir], outs: [c]}
";

/// What a first run waits for, in this order; the program's memory is left out.
fn synced(durability: &str, checkout_mode: &str) -> Vec<String> {
    let config =
        format!("core: {{durability: {durability}}}\ncache: {{checkout_mode: {checkout_mode}}}\n");
    let project = project().file("pivot.yaml", PIPELINE).file(".pivot/config.yaml", &config);
    let mut command = project.command("run -j 1");
    command.stderr(Stdio::null());
    let mut synced = Vec::new();
    let exit = watch(command, project.root(), |call| {
        let file = call.file.iter().filter_map(|file| file.strip_prefix(project.root()).ok());
        let file = file.map(|file| file.display().to_string()).next().unwrap_or_default();
        if call.name.contains("sync") && !file.starts_with(".pivot/state.lmdb") {
            let parts: Vec<_> = file.split('/').take(3).collect();
            let is_lock = file.starts_with(".pivot/stages/.tmp-");
            let what = if is_lock { "a lock".to_owned() } else { parts.join("/") };
            synced.push(format!("{} {what}", call.name));
        }
        Then::Go
    });
    assert_eq!(exit, Some(0));
    assert_eq!(fs::read_to_string(project.path("c")).unwrap(), "1\n");
    synced
}

#[test]
fn a_run_syncs_the_file_system_once() {
    assert_eq!(synced("batch", "auto"), ["syncfs .pivot/cache"]);
}

#[test]
fn nothing_waits_for_the_disk_if_that_is_the_wish() {
    assert!(synced("none", "auto").is_empty());
}

#[test]
fn objects_and_then_their_lock_wait_for_the_disk_one_by_one() {
    let object = ["fsync .pivot/cache/tmp", "fsync .pivot/cache/files", "fsync .pivot/cache/files"];
    let lock = ["fsync a lock", "fsync .pivot/stages"];
    // A file and the manifest of its directory; the other output has the bytes of the file.
    let expected = [&object[..], &object, &lock, &lock].concat();
    assert_eq!(synced("full", "copy"), expected);

    let linked = [&["fsync dir/a"], &object[1..]].concat();
    let expected = [&linked[..], &object, &lock].concat();
    assert_eq!(synced("full", "hardlink")[..expected.len()], expected);
}
