//! Outputs to a remote and back: what the locks name, and the records of the runs that made it.
//!
//! An output that cannot be transferred does not stop the others, and is told by its stage and
//! path rather than by a hash alone.

use std::collections::{HashMap, HashSet};

use pivot_cache::{CacheError, Content, ObjectId};
use pivot_pipeline::OutKind;
use pivot_remote::{Progress, Remote, RemoteError, Summary};

use crate::load::LoadOptions;
use crate::locked::{Locked, LockedOut};
use crate::project::OpenProject;
use crate::run_records;

/// What became of a transfer.
#[derive(Debug, Default)]
pub struct Shared {
    /// How many objects, and how large.
    pub summary: Summary,
    /// Outputs that were meant and that no cache keeps, by stage and path.
    pub passed_over: Vec<(String, String)>,
    /// Outputs that are not on the other side now.
    pub failed: Vec<FailedOut>,
    /// How many records of runs were sent.
    pub records: u64,
    /// Why some records were not sent, if so. Without them others run what they could skip.
    pub record_failure: Option<RemoteError>,
}

impl Shared {
    /// Whether all that was asked for is on the other side.
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.summary.failed.is_empty() && self.record_failure.is_none()
    }
}

/// An output that could not be transferred.
#[derive(Debug)]
pub struct FailedOut {
    /// The stage that writes it.
    pub stage: String,
    /// Where it is, relative to the project.
    pub path: String,
    /// The objects of it that failed; an index into the failures of [`Shared::summary`].
    pub causes: Vec<usize>,
}

/// What a transfer would do.
#[derive(Debug, Default)]
pub struct Outlook {
    /// Outputs of which something would be transferred, with the size of that in bytes. Of a
    /// directory that is not here nobody knows which files are, and all count.
    pub needed: Vec<(LockedOut, u64)>,
    /// How many objects would be transferred, as far as it is known.
    pub objects: u64,
    /// Outputs that are neither here nor there.
    pub missing: Vec<LockedOut>,
    /// Outputs that were meant and that no cache keeps, by stage and path.
    pub passed_over: Vec<(String, String)>,
}

impl Outlook {
    /// Adds an output with the objects that it lacks; those already `counted` cost nothing more.
    fn need(
        &mut self,
        out: &LockedOut,
        lacking: &[&(ObjectId, u64)],
        counted: &mut HashSet<ObjectId>,
    ) {
        let fresh = lacking.iter().filter(|(id, _)| counted.insert(*id));
        let sizes: Vec<u64> = fresh.map(|(_, size_bytes)| *size_bytes).collect();
        self.objects += sizes.len() as u64;
        self.needed.push((out.clone(), sizes.iter().sum()));
    }
}

/// Sends what `locked` names, and then the records of the runs that wrote it.
///
/// An output that the cache lacks but the remote has is no failure.
pub fn send(
    project: &OpenProject,
    remote: &dyn Remote,
    locked: &Locked,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Shared {
    let (outs, passed_over) = to_send(project, &locked.outs);
    for out in &outs {
        if out.is_in_place_only {
            // If that fails, the object is missing and will be told so.
            let _ = project.workspace().store(&project.cache, &out.out.artifact.path);
        }
    }
    let outs = outs.into_iter().map(|out| out.out);
    let (here, absent): (Vec<&LockedOut>, Vec<&LockedOut>) =
        outs.partition(|out| project.cache.holds(&out.artifact.content));
    let mut summary =
        pivot_remote::push_contents(&project.cache, remote, &contents(&here), progress);
    let (there, trouble) = present(remote, &absent);
    let mut told = HashSet::new();
    for id in absent.iter().map(|out| out.artifact.content.id).filter(|id| told.insert(*id)) {
        if there.contains(&id) {
            summary.already_there += 1;
        } else {
            let error = match &trouble {
                // It was asked for once; each object that depends on the answer is named.
                Some(trouble) => RemoteError::Setup { problem: trouble.clone() },
                None => CacheError::Missing { id }.into(),
            };
            progress(Progress::Failed { id, error: &error });
            summary.failed.push((id, error));
        }
    }
    summary.failed.sort_by_key(|(id, _)| *id);
    let all: Vec<&LockedOut> = here.into_iter().chain(absent).collect();
    let mut shared = Shared { failed: blame(project, &all, &summary), ..Shared::default() };
    shared.summary = summary;
    shared.passed_over = passed_over;
    if !remote.interrupt().is_set() {
        let failed: HashSet<&str> = shared.failed.iter().map(|out| out.stage.as_str()).collect();
        let left_out: HashSet<&str> =
            shared.passed_over.iter().map(|(stage, _)| stage.as_str()).collect();
        let mut asked: HashMap<&str, usize> = HashMap::new();
        for out in &locked.outs {
            *asked.entry(&out.stage).or_default() += 1;
        }
        let whole = locked.locks.iter().filter(|(stage, lock)| {
            asked.get(stage.as_str()).copied().unwrap_or(0) == lock.outs().len()
                && !failed.contains(stage.as_str())
                && !left_out.contains(stage.as_str())
        });
        (shared.records, shared.record_failure) =
            run_records::send(project, remote, whole.map(|(_, lock)| lock));
    }
    shared
}

/// Brings outputs into the cache.
///
/// If the remote lacks outputs whose declarations are not known, Python is asked for these: nobody
/// can have sent an output that the cache does not keep.
pub fn bring(
    project: &OpenProject,
    options: &LoadOptions,
    remote: &dyn Remote,
    outs: &[LockedOut],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Shared {
    let (mut outs, mut passed_over) = to_bring(project, outs);
    let mut summary =
        pivot_remote::fetch_contents(&project.cache, remote, &contents(&outs), progress);
    let is_missing = |cause: &usize| {
        matches!(summary.failed.get(*cause), Some((_, RemoteError::Missing { .. })))
    };
    let mut failed = blame(project, &outs, &summary);
    let missing: HashSet<(String, String)> = failed
        .iter()
        .filter(|out| out.causes.iter().all(is_missing))
        .map(|out| (out.stage.clone(), out.path.clone()))
        .collect();
    let lacking = outs.iter().copied().filter(|out| missing.contains(&place_of(out)));
    let uncached = uncached_among(project, options, lacking);
    if !uncached.is_empty() {
        outs.retain(|out| !uncached.contains(&place_of(out)));
        failed.retain(|out| !uncached.contains(&(out.stage.clone(), out.path.clone())));
        let needed: HashSet<usize> = failed.iter().flat_map(|out| &out.causes).copied().collect();
        let mut number = 0..;
        summary.failed.retain(|_| number.next().is_some_and(|number| needed.contains(&number)));
        failed = blame(project, &outs, &summary);
        passed_over.extend(uncached);
        passed_over.sort_unstable();
    }
    Shared { summary, failed, passed_over, ..Shared::default() }
}

/// Which of these outputs the cache does not keep, by the declarations that were not known yet.
fn uncached_among<'o>(
    project: &OpenProject,
    options: &LoadOptions,
    outs: impl Iterator<Item = &'o LockedOut>,
) -> HashSet<(String, String)> {
    let unknown: Vec<_> = outs.filter(|out| !out.is_declared && !out.is_tracked).collect();
    if unknown.is_empty() {
        return HashSet::new();
    }
    // A pipeline that cannot be loaded says nothing, and the outputs are missing.
    let Ok(loaded) = crate::load::load(project, options) else { return HashSet::new() };
    let is_uncached = |out: &&&LockedOut| {
        let stages = loaded.pipeline.stages();
        let stage = stages.iter().find(|stage| stage.name.as_str() == out.stage);
        let declared = stage.and_then(|stage| stage.out(&out.artifact.path));
        declared.is_some_and(|out| !out.cache && out.kind != OutKind::Metric)
    };
    unknown.iter().filter(is_uncached).map(|out| place_of(out)).collect()
}

/// What [`send`] would do. Nothing is stored or sent.
///
/// # Errors
/// When the remote cannot be asked.
pub fn would_send(
    project: &OpenProject,
    remote: &dyn Remote,
    locked: &Locked,
) -> Result<Outlook, RemoteError> {
    let (outs, passed_over) = to_send(project, &locked.outs);
    let mut outlook = Outlook { passed_over, ..Outlook::default() };
    let parts: Vec<_> =
        outs.iter().map(|sent| parts(project, &sent.out.artifact.content)).collect();
    let mut ids: Vec<ObjectId> = parts.iter().flatten().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    let there: HashSet<ObjectId> = remote.present(&ids)?.into_iter().collect();
    let mut counted = HashSet::new();
    for (ToSend { out, is_in_place_only }, parts) in outs.into_iter().zip(parts) {
        let lacking: Vec<_> = parts.iter().filter(|(id, _)| !there.contains(id)).collect();
        if lacking.is_empty() {
            continue;
        }
        if !is_in_place_only && !project.cache.holds(&out.artifact.content) {
            outlook.missing.push(out.clone());
            continue;
        }
        outlook.need(out, &lacking, &mut counted);
    }
    Ok(outlook)
}

/// What [`bring`] would do.
///
/// # Errors
/// When the remote cannot be asked.
pub fn would_bring(
    project: &OpenProject,
    options: &LoadOptions,
    remote: &dyn Remote,
    outs: &[LockedOut],
) -> Result<Outlook, RemoteError> {
    let (outs, passed_over) = to_bring(project, outs);
    let mut outlook = Outlook { passed_over, ..Outlook::default() };
    let outs: Vec<_> =
        outs.into_iter().filter(|out| !project.cache.holds(&out.artifact.content)).collect();
    let parts: Vec<_> = outs.iter().map(|out| parts(project, &out.artifact.content)).collect();
    let lacks = |(id, _): &&(ObjectId, u64)| !project.cache.contains(*id);
    let mut ids: Vec<ObjectId> = parts.iter().flatten().filter(lacks).map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    let there: HashSet<ObjectId> = remote.present(&ids)?.into_iter().collect();
    let mut counted = HashSet::new();
    for (out, parts) in outs.into_iter().zip(parts) {
        let lacking: Vec<_> = parts.iter().filter(lacks).collect();
        if lacking.iter().any(|(id, _)| !there.contains(id)) {
            outlook.missing.push(out.clone());
            continue;
        }
        outlook.need(out, &lacking, &mut counted);
    }
    let uncached = uncached_among(project, options, outlook.missing.iter());
    outlook.missing.retain(|out| !uncached.contains(&place_of(out)));
    outlook.passed_over.extend(uncached);
    outlook.passed_over.sort_unstable();
    Ok(outlook)
}

type PassedOver = Vec<(String, String)>;

fn place_of(out: &LockedOut) -> (String, String) {
    (out.stage.clone(), out.artifact.path.clone())
}

/// An output that is meant to be sent.
struct ToSend<'o> {
    out: &'o LockedOut,
    /// It is gone from the cache, and can be stored again from its place.
    is_in_place_only: bool,
}

/// The outputs that a cache keeps.
fn to_send<'o>(project: &OpenProject, outs: &'o [LockedOut]) -> (Vec<ToSend<'o>>, PassedOver) {
    let workspace = project.workspace();
    let (mut kept, mut passed_over) = (Vec::new(), Vec::new());
    for out in outs {
        let (path, content) = (&out.artifact.path, out.artifact.content);
        let is_in_place = || workspace.content(path).ok().flatten() == Some(content);
        if project.cache.holds(&content) {
            kept.push(ToSend { out, is_in_place_only: false });
        } else if out.is_uncached || (!out.is_declared && is_in_place()) {
            passed_over.push(place_of(out));
        } else {
            kept.push(ToSend { out, is_in_place_only: is_in_place() });
        }
    }
    (kept, passed_over)
}

/// The outputs that a cache may keep.
fn to_bring<'o>(project: &OpenProject, outs: &'o [LockedOut]) -> (Vec<&'o LockedOut>, PassedOver) {
    let (kept, passed_over): (Vec<_>, Vec<_>) =
        outs.iter().partition(|out| !out.is_uncached || project.cache.holds(&out.artifact.content));
    (kept, passed_over.into_iter().map(place_of).collect())
}

fn contents(outs: &[&LockedOut]) -> Vec<Content> {
    outs.iter().map(|out| out.artifact.content).collect()
}

/// Which of the outputs' own objects the remote has. Whoever finds the manifest of a directory
/// there finds its files too.
fn present(remote: &dyn Remote, outs: &[&LockedOut]) -> (HashSet<ObjectId>, Option<String>) {
    if outs.is_empty() {
        return (HashSet::new(), None);
    }
    let mut ids: Vec<ObjectId> = outs.iter().map(|out| out.artifact.content.id).collect();
    ids.sort_unstable();
    ids.dedup();
    match remote.present(&ids) {
        Ok(there) => (there.into_iter().collect(), None),
        Err(error) => (HashSet::new(), Some(error.to_string())),
    }
}

/// The objects of an output with their sizes in bytes: of a directory, those that its manifest
/// names, where that is here.
fn parts(project: &OpenProject, content: &Content) -> Vec<(ObjectId, u64)> {
    if !content.is_directory() {
        return vec![(content.id, content.size_bytes)];
    }
    if !project.cache.contains(content.id) {
        return vec![(content.id, content.size_bytes)];
    }
    let size_bytes = project.cache.size_bytes(content.id).unwrap_or(0);
    let files = project.cache.manifest(content.id).ok();
    let files = files.iter().flat_map(|manifest| manifest.files());
    std::iter::once((content.id, size_bytes)).chain(files).collect()
}

/// Which outputs the failed objects belong to.
fn blame(project: &OpenProject, outs: &[&LockedOut], summary: &Summary) -> Vec<FailedOut> {
    if summary.failed.is_empty() {
        return Vec::new();
    }
    let mut index: HashMap<ObjectId, Vec<usize>> = HashMap::new();
    for (number, (id, _)) in summary.failed.iter().enumerate() {
        index.entry(*id).or_default().push(number);
    }
    let failed = outs.iter().filter_map(|out| {
        let parts = parts(project, &out.artifact.content);
        let mut causes: Vec<usize> =
            parts.iter().filter_map(|(id, _)| index.get(id)).flatten().copied().collect();
        causes.sort_unstable();
        causes.dedup();
        // That the directory is incomplete follows from the file that failed.
        let is_root =
            |cause: &usize| !matches!(summary.failed[*cause].1, RemoteError::Incomplete { .. });
        if causes.iter().any(is_root) {
            causes.retain(is_root);
        }
        let (stage, path) = place_of(out);
        (!causes.is_empty()).then_some(FailedOut { stage, path, causes })
    });
    failed.collect()
}
