//! Where a run gets outputs from that it need not make: the cache, and behind it a remote.
//!
//! The remote is only asked for what would otherwise be executed, in batches while planning and
//! one by one while running. One that does not answer is asked no more: the run goes on without.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pivot_cache::{Content, ObjectId};
use pivot_lock::Artifact;
use pivot_remote::{Indexed, Interrupt, RecordKey, Remote, RemoteError, RemoteOptions, RemoteUrl};

use crate::facts::part_in;
use crate::outcome::StageFailure;
use crate::plan::Memory;
use crate::project::OpenProject;
use crate::remotes::{RemoteChoiceError, choose_remote, open_remote_with};
use crate::run_cache::{self, RunKey};

/// Whether a run asks a remote for outputs before it executes anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// If there is a default remote; one that does not answer only costs a warning. Outputs that
    /// nobody needs here stay there.
    #[default]
    Auto,
    /// No.
    Never,
    /// Yes, for all outputs, and a remote that does not answer is a failure.
    Always,
}

/// What came from a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The remote's name.
    pub remote: String,
    /// How many objects.
    pub objects: u64,
    /// Their size.
    pub bytes: u64,
}

/// What a run may take instead of making it.
#[derive(Debug)]
pub struct Supply<'p> {
    project: &'p OpenProject,
    /// How the remote is opened, if there is one.
    options: Option<RemoteOptions>,
    /// Opened by the first question; `None` if that failed.
    remote: OnceLock<Option<(String, Indexed<'p>)>>,
    interrupt: Interrupt,
    is_must: bool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What the remote answered.
    there: HashMap<ObjectId, bool>,
    runs: HashMap<[u8; 16], Option<Vec<Artifact>>>,
    /// What planning would have liked to know.
    wanted: HashSet<ObjectId>,
    wanted_runs: HashMap<[u8; 16], RunKey>,
    wanted_manifests: HashSet<ObjectId>,
    /// Why the remote is not asked any more.
    trouble: Option<String>,
    notices: Vec<String>,
    moved: u64,
    moved_bytes: u64,
}

impl<'p> Supply<'p> {
    /// Only the cache.
    pub fn local(project: &'p OpenProject) -> Self {
        let (interrupt, known) = (Interrupt::default(), Mutex::default());
        let (options, remote) = (None, OnceLock::new());
        Self { project, options, remote, interrupt, is_must: false, known }
    }

    /// The cache and, as `pull` says, the default remote. Nothing is asked yet.
    ///
    /// # Errors
    /// With [`Pull::Always`], when there is no default remote that can be used.
    pub fn new(project: &'p OpenProject, pull: Pull) -> Result<Self, RemoteChoiceError> {
        let mut supply = Self::local(project);
        let has_default = project.config.default_remote.is_some();
        if pull == Pull::Never || (pull == Pull::Auto && !has_default) {
            return Ok(supply);
        }
        supply.is_must = pull == Pull::Always;
        let mut options =
            RemoteOptions { interrupt: supply.interrupt.clone(), ..RemoteOptions::default() };
        if pull == Pull::Auto {
            // Running is the alternative: nobody waits long for a server that is not there.
            options.connect_timeout = Duration::from_secs(5);
            options.retries = 1;
        }
        if supply.is_must {
            choose_remote(&project.config, None)?;
        }
        supply.options = Some(options);
        Ok(supply)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The remote, unless it is not to be asked any more.
    fn remote(&self) -> Option<&Indexed<'p>> {
        let options = self.options.as_ref()?;
        let opened = self.remote.get_or_init(|| {
            match open_remote_with(self.project, None, options.clone()) {
                Ok(remote) => {
                    if let RemoteUrl::Directory(path) = remote.1.url()
                        && !self.project.root().join(&path).is_dir()
                    {
                        let path = path.display();
                        let problem = format!("there is no directory `{path}`: is its disk there?");
                        self.give_up(&RemoteError::Setup { problem });
                    }
                    Some(remote)
                }
                Err(error) => {
                    self.give_up(&error);
                    None
                }
            }
        });
        let (_, remote) = opened.as_ref()?;
        let is_silent = self.known().trouble.is_some() || self.interrupt.is_set();
        (!is_silent).then_some(remote)
    }

    pub(crate) fn has_remote(&self) -> bool {
        self.options.is_some()
    }

    /// Whether outputs that nobody needs here may stay on the remote.
    pub(crate) fn is_lazy(&self) -> bool {
        self.has_remote() && !self.is_must
    }

    /// Fetches the manifests of directories; whether one came.
    fn fetch_manifests(&self, ids: &[ObjectId]) -> bool {
        let Some(remote) = self.remote().filter(|_| !ids.is_empty()) else { return false };
        let summary = pivot_remote::fetch(&self.project.cache, remote, ids, &mut |_| {});
        self.take_down(&summary);
        summary.moved > 0
    }

    fn take_down(&self, summary: &pivot_remote::Summary) {
        let mut known = self.known();
        known.moved += summary.moved;
        known.moved_bytes += summary.moved_bytes;
        for (id, error) in &summary.failed {
            known.there.insert(*id, false);
            if !matches!(error, RemoteError::Interrupted) {
                known.notices.push(format!("object {id} cannot be pulled: {error}"));
            }
        }
    }

    pub(crate) fn is_in_cache(&self, content: &Content) -> bool {
        self.project.cache.holds(content)
    }

    fn give_up(&self, error: &dyn std::error::Error) {
        let mut known = self.known();
        if known.trouble.is_some() || self.interrupt.is_set() {
            return;
        }
        let mut text = format!("the default remote cannot be asked: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        if !self.is_must {
            let notice = format!("{text}; the run goes on without it");
            known.notices.push(notice);
        }
        known.trouble = Some(text);
    }

    /// The same for a remote that does not answer: as far as it has confirmed what it holds before.
    /// `None` if it does answer.
    pub(crate) fn while_silent(&self) -> Option<WhileSilent<'_, 'p>> {
        let (_, remote) = self.remote.get()?.as_ref()?;
        let is_silent = self.known().trouble.is_some();
        is_silent.then_some(WhileSilent { project: self.project, remote })
    }

    /// What the user should know and has not been told.
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.known().notices)
    }

    /// What came from the remote so far, if anything did.
    pub fn fetched(&self) -> Option<Fetched> {
        let known = self.known();
        self.told(known.moved, known.moved_bytes)
    }

    fn told(&self, objects: u64, bytes: u64) -> Option<Fetched> {
        let remote = self.remote_name().filter(|_| objects > 0)?.to_owned();
        Some(Fetched { remote, objects, bytes })
    }

    /// The name of the remote, if it has been asked.
    pub fn remote_name(&self) -> Option<&str> {
        let (name, _) = self.remote.get()?.as_ref()?;
        Some(name)
    }

    /// The same for a plan, which asks in batches: what is not known counts as not there, and is
    /// taken down.
    pub(crate) fn while_planning(&self) -> WhilePlanning<'_, 'p> {
        WhilePlanning(self)
    }

    /// Takes down that the plan will want to know about these.
    pub(crate) fn want(&self, contents: impl Iterator<Item = Content>) {
        let contents = contents.filter(|content| !self.project.cache.holds(content));
        let ids: Vec<_> = contents.map(|content| content.id).collect();
        self.known().wanted.extend(ids);
    }

    /// Asks for all that was taken down; whether something was learned that changes a plan.
    pub(crate) fn ask_wanted(&self) -> bool {
        let (mut ids, runs, manifests) = {
            let mut known = self.known();
            let known = &mut *known;
            let (wanted, runs) =
                (std::mem::take(&mut known.wanted), std::mem::take(&mut known.wanted_runs));
            let ids = wanted.into_iter().filter(|id| !known.there.contains_key(id));
            let manifests = std::mem::take(&mut known.wanted_manifests);
            (ids.collect::<Vec<_>>(), runs, manifests.into_iter().collect::<Vec<_>>())
        };
        ids.sort_unstable();
        let found_runs = self.ask_runs(runs.into_values().collect());
        let found = self.ask(&ids);
        let found_manifests = self.fetch_manifests(&manifests);
        found_runs || found || found_manifests
    }

    fn ask(&self, ids: &[ObjectId]) -> bool {
        let Some(remote) = self.remote().filter(|_| !ids.is_empty()) else { return false };
        match remote.present(ids) {
            Ok(there) => {
                let found = !there.is_empty();
                let mut known = self.known();
                known.there.extend(ids.iter().map(|id| (*id, there.binary_search(id).is_ok())));
                found
            }
            Err(error) => {
                self.give_up(&error);
                false
            }
        }
    }

    fn ask_runs(&self, keys: Vec<RunKey>) -> bool {
        let Some(remote) = self.remote().filter(|_| !keys.is_empty()) else { return false };
        let by_id: HashMap<RecordKey, &RunKey> =
            keys.iter().map(|key| (RecordKey::from_digest(&key.digest()), key)).collect();
        let ids: Vec<RecordKey> = by_id.keys().cloned().collect();
        let mut answers: HashMap<[u8; 16], Option<Vec<Artifact>>> =
            keys.iter().map(|key| (key.digest(), None)).collect();
        let mut found = false;
        for (id, answer) in remote.get_records(&ids) {
            let Some(key) = by_id.get(&id) else { continue };
            match answer {
                Ok(bytes) => {
                    // What does not fit the key is somebody's mistake or malice: no record.
                    let outs = run_cache::parse_record(key, &bytes);
                    found |= outs.is_some();
                    answers.insert(key.digest(), outs);
                }
                Err(RemoteError::CorruptRecord { .. }) => {}
                Err(error) => self.give_up(&error),
            }
        }
        self.known().runs.extend(answers);
        found
    }
}

/// What a stage of a run asks; [`Supply`] without what it borrows.
pub(crate) trait Source: Memory + Sync {
    /// Why the run must not go on: the remote had to answer and did not.
    fn failure(&self) -> Option<String>;

    /// Asks no more, and breaks off what is on its way.
    fn interrupt(&self);

    /// Brings what the cache lacks of `outs`. What cannot be had is still missing afterwards.
    ///
    /// # Errors
    /// When the run was interrupted meanwhile, or the remote had to answer and did not.
    fn bring(&self, outs: &[Artifact]) -> Result<Option<Fetched>, StageFailure>;
}

impl Source for Supply<'_> {
    fn failure(&self) -> Option<String> {
        if self.is_must { self.known().trouble.clone() } else { None }
    }

    fn interrupt(&self) {
        self.interrupt.set();
    }

    fn bring(&self, outs: &[Artifact]) -> Result<Option<Fetched>, StageFailure> {
        let cache = &self.project.cache;
        let lacking: Vec<Content> =
            outs.iter().map(|out| out.content).filter(|content| !cache.holds(content)).collect();
        let Some(remote) = self.remote().filter(|_| !lacking.is_empty()) else { return Ok(None) };
        let summary = pivot_remote::fetch_contents(cache, remote, &lacking, &mut |_| {});
        self.take_down(&summary);
        if self.interrupt.is_set() && !summary.failed.is_empty() {
            return Err(StageFailure::Cancelled);
        }
        if self.is_must
            && let Some((id, error)) = summary.failed.first()
        {
            return Err(StageFailure::Remote(format!("object {id} cannot be pulled: {error}")));
        }
        Ok(self.told(summary.moved, summary.moved_bytes))
    }
}

impl Memory for Supply<'_> {
    fn holds(&self, content: &Content) -> bool {
        if self.project.cache.holds(content) {
            return true;
        }
        let answer = self.known().there.get(&content.id).copied();
        answer.unwrap_or_else(|| self.ask(&[content.id]))
    }

    fn known_run(&self, key: &RunKey) -> Option<Vec<Artifact>> {
        if let Some(outs) = run_cache::look_up(&self.project.state, key) {
            return Some(outs);
        }
        if !self.known().runs.contains_key(&key.digest()) {
            self.ask_runs(vec![key.clone()]);
        }
        self.known().runs.get(&key.digest()).cloned().flatten()
    }

    fn part(&self, directory: &Content, inner: &Path) -> Option<Content> {
        let cache = &self.project.cache;
        if directory.is_directory() && !cache.contains(directory.id) && self.holds(directory) {
            self.fetch_manifests(&[directory.id]);
        }
        part_in(cache, directory, inner)
    }
}

/// See [`Supply::while_silent`].
pub(crate) struct WhileSilent<'s, 'p> {
    project: &'p OpenProject,
    remote: &'s Indexed<'p>,
}

impl Memory for WhileSilent<'_, '_> {
    fn holds(&self, content: &Content) -> bool {
        self.project.cache.holds(content) || self.remote.has_confirmed(content.id)
    }

    fn known_run(&self, key: &RunKey) -> Option<Vec<Artifact>> {
        run_cache::look_up(&self.project.state, key)
    }

    fn part(&self, directory: &Content, inner: &Path) -> Option<Content> {
        part_in(&self.project.cache, directory, inner)
    }
}

/// See [`Supply::while_planning`].
pub(crate) struct WhilePlanning<'s, 'p>(&'s Supply<'p>);

impl Memory for WhilePlanning<'_, '_> {
    fn holds(&self, content: &Content) -> bool {
        if self.0.project.cache.holds(content) {
            return true;
        }
        let mut known = self.0.known();
        let answer = known.there.get(&content.id).copied();
        if answer.is_none() {
            known.wanted.insert(content.id);
        }
        answer.unwrap_or(false)
    }

    fn known_run(&self, key: &RunKey) -> Option<Vec<Artifact>> {
        if let Some(outs) = run_cache::look_up(&self.0.project.state, key) {
            return Some(outs);
        }
        let mut known = self.0.known();
        match known.runs.get(&key.digest()) {
            Some(answer) => answer.clone(),
            None => {
                known.wanted_runs.insert(key.digest(), key.clone());
                None
            }
        }
    }

    fn part(&self, directory: &Content, inner: &Path) -> Option<Content> {
        let cache = &self.0.project.cache;
        if directory.is_directory() && !cache.contains(directory.id) {
            let mut known = self.0.known();
            if known.there.get(&directory.id) == Some(&true) {
                known.wanted_manifests.insert(directory.id);
            }
        }
        part_in(cache, directory, inner)
    }
}
