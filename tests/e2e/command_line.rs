//! Command lines that are not understood, and values that make no sense.

use crate::support::project;

#[test]
fn a_wrong_command_line_ends_with_2_and_does_nothing() {
    let project = project().file("pivot.yaml", "stages: {one: {cmd: 'echo >x', outs: [x]}}");
    for arguments in [
        "",
        "nope",
        "run --nope",
        "run -j 0",
        "run -j many",
        "run -s",
        "run --executor nope",
        "params",
        "-C",
    ] {
        let finished = project.pivot(arguments).exits(2);
        assert_eq!(finished.stdout(), "", "`pivot {arguments}`");
        assert!(!finished.stderr().is_empty(), "`pivot {arguments}` says nothing");
    }
    assert!(!project.exists("x") && !project.exists(".pivot"));
}

#[test]
fn a_directory_that_is_not_there() {
    insta::assert_snapshot!(project().pivot("-C nowhere run").errors(), @r"
    exit: 1
    error: cannot work in `nowhere`
    caused by: No such file or directory (os error 2)
    ");
}

#[test]
fn values_that_set_nothing() {
    let project = project()
        .file("pivot.yaml", "stages: {train: {cmd: 'echo >x', outs: [x], params: {lr: 1}}}");
    insta::assert_snapshot!(project.pivot("run -S lr").errors(), @r"
    exit: 1
    error: `lr` does not set a param: it has no `=`
    hint: write STAGE.KEY=VALUE, for example `-S train.lr=0.1`
    ");
    insta::assert_snapshot!(project.pivot("run -S trian.lr=2").errors(), @r"
    exit: 1
    error: `trian.lr=2` does not set a param: there is no stage `trian`
    hint: did you mean `train`?
    ");
    insta::assert_snapshot!(project.pivot("run -S train=2").errors(), @r"
    exit: 1
    error: `train=2` does not set a param: it names no param
    hint: write STAGE.KEY=VALUE, for example `-S train.lr=0.1`
    ");
    assert!(!project.exists("x"));
}

#[test]
fn version_and_help_work_anywhere() {
    project().pivot("--version").succeeds().says("pivot 0.");
    project().pivot("run --help").succeeds().says("--explain");
    project().pivot("completions bash").succeeds().says("pivot");
}

#[test]
fn a_closed_pipe_is_no_error() {
    use std::process::Stdio;

    let stages: String = (0..3000).map(|n| format!("  stage-{n}: {{cmd: 'true'}}\n")).collect();
    let project = project().file("pivot.yaml", &format!("stages:\n{stages}"));
    let mut child =
        project.command("list").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn data_that_cannot_be_written_is_a_failure() {
    let project = project().file("pivot.yaml", "stages: {one: {cmd: 'echo >x', outs: [x]}}");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open /dev/full");
    let output = project.command("list").stdout(full).output().expect("run pivot");
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @r"
    error: cannot write to the standard output
    caused by: No space left on device (os error 28)
    ");
}
