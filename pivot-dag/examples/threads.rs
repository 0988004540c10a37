//! A small make: tasks are functions over files in memory, run by threads.
//!
//! ```text
//! cargo run -p pivot-dag --example threads
//! ```
//!
//! The scheduler lives in one thread, which asks it what to start and tells it what ended; workers
//! get tasks through one channel and answer through another. One task fails on purpose.
#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::{Mutex, mpsc};
use std::thread;

use pivot_dag::{Ended, GraphBuilder, Next, OnFailure, Options, Scheduler, TaskId};

/// What a task does with what it reads: the new content of what it writes, or why there is none.
type Recipe = fn(&[String]) -> Result<String, String>;

struct Task {
    name: &'static str,
    reads: &'static [&'static str],
    writes: &'static str,
    recipe: Recipe,
}

const TASKS: [Task; 6] = [
    Task { name: "report", reads: &["counts"], writes: "report.txt", recipe: joined },
    Task { name: "words", reads: &["clean.txt"], writes: "counts/words", recipe: words },
    Task { name: "lines", reads: &["clean.txt"], writes: "counts/lines", recipe: lines },
    Task { name: "clean", reads: &["raw.txt"], writes: "clean.txt", recipe: clean },
    Task { name: "number", reads: &["raw.txt"], writes: "number", recipe: number },
    Task { name: "double", reads: &["number"], writes: "doubled", recipe: joined },
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut builder = GraphBuilder::new();
    for task in &TASKS {
        builder.task(task.reads, [task.writes]);
    }
    let graph = builder.build()?;
    let name = |task: TaskId| TASKS[task.index()].name;

    let jobs = NonZeroUsize::new(3).expect("three is not zero");
    let options = Options { jobs, on_failure: OnFailure::KeepGoing };
    let mut scheduler = Scheduler::new(&graph, graph.order(), options);
    // The two counters must not run at the same time.
    let counter = scheduler.resource("counter", 1);
    for task in graph.tasks().filter(|task| TASKS[task.index()].writes.starts_with("counts/")) {
        scheduler.demand(task, counter, 1)?;
    }

    let raw = "  one two\nthree  \n".to_owned();
    let files = Mutex::new(HashMap::from([("raw.txt".to_owned(), raw)]));
    let (to_workers, work) = mpsc::channel::<TaskId>();
    let work = Mutex::new(work);
    let (to_main, ends) = mpsc::channel::<(TaskId, Result<(), String>)>();
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        // Moved in here, so that the workers see the end of the channel when this returns, also
        // early.
        let to_workers = to_workers;
        for _ in 0..jobs.get() {
            let (to_main, files, work) = (to_main.clone(), &files, &work);
            scope.spawn(move || {
                loop {
                    let next = work.lock().expect("no worker panics").recv();
                    let Ok(task) = next else { return };
                    let result = perform(&TASKS[task.index()], files);
                    if to_main.send((task, result)).is_err() {
                        return;
                    }
                }
            });
        }
        loop {
            match scheduler.next() {
                Next::Start(task) => {
                    println!("start    {}", name(task));
                    to_workers.send(task)?;
                }
                Next::Wait => {
                    let (task, result) = ends.recv()?;
                    let ended = match &result {
                        Ok(()) => Ended::Succeeded,
                        Err(_) => Ended::Failed,
                    };
                    println!(
                        "end      {}: {}",
                        name(task),
                        result.err().unwrap_or("ok".to_owned())
                    );
                    for blocked in scheduler.finish(task, ended) {
                        println!("blocked  {} by {}", name(blocked.task), name(blocked.upstream));
                    }
                }
                Next::Done => return Ok(()),
            }
        }
    })?;

    let files = files.into_inner()?;
    println!("\nreport.txt: {}", files["report.txt"]);
    assert_eq!(files["report.txt"], "2 lines, 3 words");
    assert!(!files.contains_key("doubled"));
    Ok(())
}

fn perform(task: &Task, files: &Mutex<HashMap<String, String>>) -> Result<(), String> {
    let mut inputs = Vec::new();
    for read in task.reads {
        let files = files.lock().map_err(|error| error.to_string())?;
        let below = format!("{read}/");
        let mut found: Vec<_> =
            files.iter().filter(|(path, _)| path == read || path.starts_with(&below)).collect();
        found.sort();
        inputs.extend(found.into_iter().map(|(_, content)| content.clone()));
    }
    let output = (task.recipe)(&inputs)?;
    files.lock().map_err(|error| error.to_string())?.insert(task.writes.to_owned(), output);
    Ok(())
}

fn clean(inputs: &[String]) -> Result<String, String> {
    Ok(inputs.iter().flat_map(|text| text.lines()).map(str::trim).collect::<Vec<_>>().join("\n"))
}

fn lines(inputs: &[String]) -> Result<String, String> {
    Ok(format!("{} lines", inputs.iter().flat_map(|text| text.lines()).count()))
}

fn words(inputs: &[String]) -> Result<String, String> {
    Ok(format!("{} words", inputs.iter().flat_map(|text| text.split_whitespace()).count()))
}

fn number(inputs: &[String]) -> Result<String, String> {
    inputs.concat().parse::<i64>().map(|n| n.to_string()).map_err(|error| error.to_string())
}

fn joined(inputs: &[String]) -> Result<String, String> {
    Ok(inputs.join(", "))
}
