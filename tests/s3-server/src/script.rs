//! What the server was asked, and how it is to misbehave.

use std::time::Duration;

/// How the server misbehaves.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status and text, without doing anything. `{count}` is another number in
    /// each answer.
    Answer(u16, String),
    /// Closes the connection without doing anything.
    Reset,
    /// Does what it is asked, and closes the connection instead of answering.
    ResetAfter,
    /// Never answers.
    Stall,
    /// Sends the body in five pieces, with this time before each.
    Slow(Duration),
    /// Sends half of the body, then closes the connection.
    Cut,
    /// Sends half of the body, then nothing.
    StallBody,
    /// Sends other bytes, as many as there should be.
    Corrupt,
    /// Sends more bytes than there are, in an honest frame.
    TooLong,
    /// Sends half of the body as if that were all.
    TooShort,
}

/// A fault for so many requests, after so many others of the same kind.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) requests: String,
    pub(crate) fault: Fault,
    pub(crate) skipped: usize,
    pub(crate) times: usize,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Asked {
    /// `METHOD PATH?QUERY`
    pub(crate) line: String,
    /// How many bytes the answer of the server behind had, once there is one.
    pub(crate) answer_bytes: Option<usize>,
}

/// Whether all words stand in the line of a request.
pub(crate) fn is_one_of(line: &str, words: &str) -> bool {
    words.split(' ').all(|word| line.contains(word))
}

/// All that the server remembers.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) rules: Vec<Rule>,
    pub(crate) log: Vec<Asked>,
    pub(crate) ignored: usize,
}

impl Script {
    /// Writes a request down; its number, and what is to go wrong with it.
    pub(crate) fn ask(&mut self, line: String) -> (usize, Option<Fault>) {
        let fault = self.fault_for(&line);
        self.ignored += usize::from(matches!(fault, Some(Fault::Stall)));
        self.log.push(Asked { line, answer_bytes: None });
        (self.log.len() - 1, fault)
    }

    fn fault_for(&mut self, line: &str) -> Option<Fault> {
        let fits = |rule: &&mut Rule| rule.times > 0 && is_one_of(line, &rule.requests);
        for rule in self.rules.iter_mut().filter(fits) {
            if rule.skipped == 0 {
                rule.times -= 1;
                return Some(rule.fault.clone());
            }
            rule.skipped -= 1;
        }
        None
    }
}
