//! Removes the objects that no lock needs any more.

use std::path::PathBuf;
use std::time::Duration;

use pivot_cache::{CacheError, Garbage};
use thiserror::Error;

use crate::project::OpenProject;
use crate::roots::{RootError, Roots};

/// What to collect.
#[derive(Clone, Debug)]
pub struct GarbageOptions {
    /// Objects that came into the cache less long ago stay, whether a lock names them or not.
    pub grace: Duration,
    /// Whether locks in all commits count, not only in those that something points at.
    pub whole_history: bool,
    /// Other projects that use the same cache.
    pub other_projects: Vec<PathBuf>,
    /// Whether objects are removed; otherwise they are only counted.
    pub removes: bool,
}

/// What was, or would be, removed.
#[derive(Debug)]
pub struct Collected {
    /// What locks name.
    pub roots: Roots,
    /// The objects of the cache.
    pub garbage: Garbage,
    /// Objects that could not be removed.
    pub failed: Vec<CacheError>,
}

/// Why nothing was removed.
#[derive(Debug, Error)]
pub enum GarbageError {
    /// A run, a checkout or a transfer uses the cache.
    #[error("the cache is in use: a run, a checkout or a transfer goes on")]
    InUse,
    /// What is needed is not known.
    #[error(transparent)]
    Roots(#[from] RootError),
    /// The cache cannot be listed or guarded.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Finds the objects that no lock names and that are old enough, and removes them if asked to.
///
/// # Errors
/// When it is not certain what is needed, or somebody uses the cache; nothing is removed then.
pub fn collect(project: &OpenProject, options: &GarbageOptions) -> Result<Collected, GarbageError> {
    // Taken before the locks are read: a run that ends in between would name objects unseen.
    let _guard = match options.removes {
        true => Some(project.cache.try_exclusive()?.ok_or(GarbageError::InUse)?),
        false => None,
    };
    let mut projects = vec![project.root().to_owned()];
    projects.extend(options.other_projects.iter().cloned());
    let roots = Roots::of(&project.cache, &projects, options.whole_history)?;
    let garbage = project.cache.garbage(&roots.objects, options.grace)?;
    let mut failed = Vec::new();
    if options.removes {
        failed.extend(garbage.objects.iter().filter_map(|&(id, _)| project.cache.remove(id).err()));
    }
    Ok(Collected { roots, garbage, failed })
}
