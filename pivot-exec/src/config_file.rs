//! Changes to `.pivot/config.yaml` that keep all that a person wrote in it.
//!
//! Two processes that change it at the same time do so one after the other, a reader sees the old
//! or the new file, and a file that cannot be understood is never touched.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use pivot_pipeline::YamlText;
use rustix::fs::{FlockOperation, flock};

use crate::config::{CONFIG_FILE, Config, ConfigError};
use crate::plain_file;
use crate::project::make_layout;

/// Reads the settings of the project at `root` and what the file says word for word; they are
/// those of one moment.
///
/// # Errors
/// When the file exists but cannot be read or understood.
pub fn read_config(root: &Path) -> Result<(Config, YamlText), ConfigError> {
    let path = root.join(CONFIG_FILE);
    let text = match plain_file::read_text(&path) {
        Ok(text) => text.unwrap_or_default(),
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let config = Config::parse(&text, &path)?;
    Ok((config, YamlText::parse(CONFIG_FILE, text)?))
}

/// Changes the settings of the project at `root`: `change` is given what they are and the text to
/// change. If it fails, or leaves something that Pivot does not understand, the file stays as it
/// was.
///
/// # Errors
/// When the file cannot be read, understood or written, and when `change` fails.
pub fn edit_config<E: From<ConfigError>>(
    root: &Path,
    change: impl FnOnce(&Config, &mut YamlText) -> Result<(), E>,
) -> Result<(), E> {
    let path = root.join(CONFIG_FILE);
    let failed = |source| ConfigError::Write { path: path.clone(), source };
    // Held until the end of this function.
    let _guard = guard(root).map_err(failed)?;
    let (config, mut text) = read_config(root)?;
    let before = text.text().to_owned();
    change(&config, &mut text)?;
    if text.text() != before {
        Config::parse(text.text(), &path).map_err(|error| match error {
            ConfigError::Content { message, .. } => ConfigError::Rejected { message },
            error => error,
        })?;
        plain_file::replace(&path, text.text().as_bytes()).map_err(failed)?;
    }
    Ok(())
}

/// The right to change the file, on one of its own that nobody deletes.
fn guard(root: &Path) -> io::Result<File> {
    make_layout(root)?;
    let dir = root.join(".pivot/run");
    fs::create_dir_all(&dir)?;
    let mut options = File::options();
    // No stage's name begins with a dot.
    let path = dir.join(".config.flock");
    let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use pivot_pipeline::Value;

    use super::*;

    fn set(root: &Path, path: &[&str], value: Value) -> Result<(), ConfigError> {
        edit_config(root, |_, text| Ok(text.set(path, &value)?))
    }

    #[test]
    fn edits_at_the_same_time_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::thread::scope(|scope| {
            for number in 0..16 {
                scope.spawn(move || {
                    let name = format!("r{number}");
                    set(root, &["remotes", &name], Value::from("/mnt/x")).unwrap();
                });
            }
        });
        assert_eq!(Config::read(root).unwrap().remotes.len(), 16);
        let left = fs::read_dir(root.join(".pivot")).unwrap().flatten();
        let left = left.filter(|entry| entry.file_name().to_string_lossy().contains("yaml-"));
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn what_is_not_understood_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CONFIG_FILE);
        fs::create_dir(dir.path().join(".pivot")).unwrap();
        for text in ["# mine\ncore: {jobs: 2}\n", "core: [\n", "a: 1\n"] {
            fs::write(&path, text).unwrap();
            assert!(set(dir.path(), &["core", "jobs"], Value::from("many")).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
