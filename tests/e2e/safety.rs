//! No edit is missed, and nothing wrong is recorded.

use std::fs::FileTimes;
use std::time::{Duration, SystemTime};

use crate::support::{Project, project};

const COPY: &str = "stages: {copy: {cmd: 'echo copy >>ran.log; cp a b', deps: [a], outs: [b]}}";

fn set_mtime(project: &Project, path: &str, time: SystemTime) {
    let file = std::fs::File::options().write(true).open(project.path(path)).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

#[test]
fn an_edit_of_the_same_size_with_the_old_time_is_noticed() {
    let project = project().file("pivot.yaml", COPY).file("a", "1");
    let old = SystemTime::now() - Duration::from_secs(3600);
    set_mtime(&project, "a", old);
    project.pivot("run").succeeds();
    project.pivot("run").succeeds();
    project.write("a", "2");
    set_mtime(&project, "a", old);
    project.pivot("run").succeeds();
    assert_eq!(project.read("b"), "2");
}

#[test]
fn a_file_that_is_replaced_by_renaming_is_noticed() {
    let project = project().file("pivot.yaml", COPY).file("a", "1").file("new", "2");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    set_mtime(&project, "a", time);
    set_mtime(&project, "new", time);
    project.pivot("run").succeeds();
    std::fs::rename(project.path("new"), project.path("a")).unwrap();
    project.pivot("run").succeeds();
    assert_eq!(project.read("b"), "2");
}

#[test]
fn edits_in_quick_succession_are_noticed() {
    let project = project().file("pivot.yaml", COPY).file("a", "0");
    for round in 1..6 {
        project.write("a", &round.to_string());
        project.pivot("run").succeeds();
        assert_eq!(project.read("b"), round.to_string());
    }
}

#[test]
fn a_touched_file_runs_nothing() {
    let project = project().file("pivot.yaml", COPY).file("a", "1");
    project.pivot("run").succeeds();
    set_mtime(&project, "a", SystemTime::now() + Duration::from_secs(3600));
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 unchanged ([time])");
}

#[test]
fn a_result_that_was_made_while_its_input_changed_is_not_kept() {
    let project = project().file("a", "1").file(
        "pivot.yaml",
        "\
stages:
  copy:
    cmd: cp a b; touch runs; until [ -e go ]; do sleep 0.01; done
    deps: [a]
    outs: [b]
",
    );
    let running = project.start("run");
    project.wait_for("runs");
    project.write("a", "2");
    project.write("go", "");
    insta::assert_snapshot!(running.finish().errors(), @r"
    exit: 1
    run   copy: No previous run
    FAIL  copy: its dependency `a` changed while it ran
    hint: run again; if the stage writes it by itself, declare it as an output
    ");
    assert!(!project.has_lock("copy"));
    project.pivot("run").succeeds();
    assert_eq!(project.read("b"), "2");
}

#[test]
fn a_stage_that_writes_its_own_input_is_not_recorded() {
    let project = project()
        .file("a", "1\n")
        .file("pivot.yaml", "stages: {bad: {cmd: 'cp a b; echo 2 >>a', deps: [a], outs: [b]}}");
    project.pivot("run").exits(1).says("its dependency `a` changed while it ran");
    assert!(!project.has_lock("bad"));
}

#[test]
fn a_stage_that_edits_the_output_of_another_harms_no_object() {
    let project = project().file(
        "pivot.yaml",
        "\
stages:
  make: {cmd: 'echo right >made', outs: [made]}
  spoil: {cmd: 'chmod u+w made; echo wrong >made; echo >spoilt', deps: [made], outs: [spoilt]}
",
    );
    project.pivot("run").exits(1);
    project.pivot("run make").succeeds();
    assert_eq!(project.read("made"), "right\n");
}

#[test]
fn a_file_is_never_taken_for_another_one_with_the_same_hash() {
    let project = project().file(
        "pivot.yaml",
        "\
stages:
  one: {cmd: cp one.bin one.out, deps: [one.bin], outs: [one.out]}
  two: {cmd: cp two.bin two.out, deps: [two.bin], outs: [two.out]}
",
    );
    let (one, two) = colliding();
    std::fs::write(project.path("one.bin"), &one).unwrap();
    std::fs::write(project.path("two.bin"), &two).unwrap();
    for _ in 0..2 {
        let finished = project.pivot("run -j 1 -k").exits(1);
        finished.says("FAIL  two: different contents with the same hash");
        assert_eq!(std::fs::read(project.path("one.out")).unwrap(), one);
        assert!(!project.exists("two.out") && !project.has_lock("two"));
    }
}

/// Two files of 16 bytes with the same xxHash64. Each round of the hash of a short input can be
/// undone, so for any other first word there is a second one that leads to the same state.
fn colliding() -> (Vec<u8>, Vec<u8>) {
    const P1: u64 = 0x9E37_79B1_85EB_CA87;
    const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
    const P4: u64 = 0x85EB_CA77_C2B2_AE63;
    const P5: u64 = 0x27D4_EB2F_1656_67C5;
    fn inverse(odd: u64) -> u64 {
        (0..6).fold(odd, |x, _| x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x))))
    }
    let round = |word: u64| word.wrapping_mul(P2).rotate_left(31).wrapping_mul(P1);
    let unround =
        |value: u64| value.wrapping_mul(inverse(P1)).rotate_right(31).wrapping_mul(inverse(P2));
    let step = |state: u64, word: u64| {
        (state ^ round(word)).rotate_left(27).wrapping_mul(P1).wrapping_add(P4)
    };
    let start = P5.wrapping_add(16);
    let target = step(start, 1) ^ round(2);
    let other = unround(target ^ step(start, 3));
    let bytes = |words: [u64; 2]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    (bytes([1, 2]), bytes([3, other]))
}
