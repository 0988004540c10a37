//! Where a remote is, as users write it.
//!
//! A [`RemoteUrl`] holds no credentials, so it may be shown, logged and written to a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// The place of a remote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemoteUrl {
    /// `s3://bucket/prefix`
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What every key begins with, without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `gs://bucket/prefix`
    Google {
        /// The bucket's name.
        bucket: String,
        /// What every key begins with, without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `az://container/prefix`
    Azure {
        /// The container's name. The storage account that it is in is no part of the URL.
        container: String,
        /// What every key begins with, without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `file:///path` or a path, absolute or relative to the project.
    Directory(PathBuf),
}

/// Why a text is not the place of a remote. None of these repeats the text, which may hold a
/// password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// There is nothing.
    #[error("the remote's URL is empty")]
    Empty,
    /// A scheme that this program does not know.
    #[error(
        "`{scheme}://` is not supported: use `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///path` or a path"
    )]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// The URL has a user name or a password in it.
    #[error("a remote's URL must not hold credentials: leave out everything up to the `@`")]
    Credentials,
    /// The URL has the right scheme but something in it cannot be.
    #[error("a remote's URL {problem}")]
    Malformed {
        /// Completes "a remote's URL …".
        problem: &'static str,
    },
}

impl RemoteUrl {
    /// Reads `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///path` or
    /// a path.
    ///
    /// ```
    /// use pivot_remote::RemoteUrl;
    ///
    /// let url = RemoteUrl::parse("s3://my-bucket/pivot-cache/")?;
    /// assert_eq!(url.to_string(), "s3://my-bucket/pivot-cache");
    /// assert_eq!(RemoteUrl::parse("file:///mnt/cache")?, RemoteUrl::parse("/mnt/cache")?);
    /// # Ok::<(), pivot_remote::UrlError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if the scheme is unknown, if the URL holds credentials, or if its parts cannot be.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.trim().is_empty() {
            return Err(UrlError::Empty);
        }
        if text.contains(|c: char| c.is_control()) {
            return Err(UrlError::Malformed { problem: "holds control characters" });
        }
        match text.split_once("://") {
            None if text.starts_with("s3:") => Err(UrlError::Malformed {
                problem: "needs two slashes: write `s3://bucket/prefix`",
            }),
            None => parse_path(text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("s3") => {
                parse_bucket(rest).map(|(bucket, prefix)| RemoteUrl::S3 { bucket, prefix })
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("gs") => {
                parse_bucket(rest).map(|(bucket, prefix)| RemoteUrl::Google { bucket, prefix })
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("az") => {
                parse_bucket(rest).map(|(container, prefix)| RemoteUrl::Azure { container, prefix })
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => parse_file(rest),
            Some((scheme, _)) if is_scheme(scheme) => {
                Err(UrlError::Scheme { scheme: scheme.to_ascii_lowercase() })
            }
            Some(_) => parse_path(text),
        }
    }

    /// The settings that mean something for such a remote, as they are called in a configuration.
    pub fn settings(&self) -> &'static [&'static str] {
        match self {
            RemoteUrl::S3 { .. } => {
                &["endpoint_url", "region", "profile", "addressing_style", "anonymous"]
            }
            RemoteUrl::Google { .. } | RemoteUrl::Azure { .. } => &["endpoint_url", "anonymous"],
            RemoteUrl::Directory(_) => &[],
        }
    }

    /// The same place with a relative path made absolute: relative to `base`.
    pub fn relative_to(&self, base: &Path) -> Self {
        match self {
            RemoteUrl::Directory(path) => RemoteUrl::Directory(base.join(path)),
            other => other.clone(),
        }
    }
}

impl FromStr for RemoteUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteUrl::S3 { bucket, prefix } => write_bucket(f, "s3", bucket, prefix),
            RemoteUrl::Google { bucket, prefix } => write_bucket(f, "gs", bucket, prefix),
            RemoteUrl::Azure { container, prefix } => write_bucket(f, "az", container, prefix),
            RemoteUrl::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

fn write_bucket(
    f: &mut fmt::Formatter<'_>,
    scheme: &str,
    bucket: &str,
    prefix: &str,
) -> fmt::Result {
    let slash = if prefix.is_empty() { "" } else { "/" };
    write!(f, "{scheme}://{bucket}{slash}{prefix}")
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The bucket and the prefix of what comes after `s3://` and the like.
fn parse_bucket(rest: &str) -> Result<(String, String), UrlError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return Err(UrlError::Credentials);
    }
    let prefix = prefix.trim_matches('/');
    if prefix.contains(['?', '#']) {
        let problem = "has a `?` or `#`: options are set in the configuration";
        return Err(UrlError::Malformed { problem });
    }
    check_bucket(bucket, prefix)?;
    Ok((bucket.to_owned(), prefix.to_owned()))
}

/// Whether there may be such a bucket, and keys that begin so.
pub(crate) fn check_bucket(bucket: &str, prefix: &str) -> Result<(), UrlError> {
    let malformed = |problem| Err(UrlError::Malformed { problem });
    if bucket.is_empty() {
        return malformed("names no bucket: write it as in `s3://bucket/prefix`");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if bucket.len() > 255 || !bucket.bytes().all(allowed) || bucket.starts_with(['.', '-']) {
        return malformed("names a bucket that cannot exist");
    }
    if prefix.contains(|c: char| c.is_control()) {
        return malformed("holds control characters");
    }
    if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return malformed("has an empty part, `.` or `..` in its prefix");
    }
    Ok(())
}

fn parse_file(rest: &str) -> Result<RemoteUrl, UrlError> {
    let malformed = |problem| Err(UrlError::Malformed { problem });
    let Some(slash) = rest.find('/') else {
        return malformed("names no path: write `file:///path`");
    };
    let (host, path) = rest.split_at(slash);
    if host.contains('@') {
        return Err(UrlError::Credentials);
    }
    if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
        return malformed("names another host: write `file:///path` with three slashes");
    }
    match percent_decoded(path) {
        Some(path) if !path.contains(|c: char| c.is_control()) => {
            Ok(RemoteUrl::Directory(PathBuf::from(path)))
        }
        _ => malformed("has a `%` that is not followed by the code of a character"),
    }
}

fn parse_path(text: &str) -> Result<RemoteUrl, UrlError> {
    // A shell makes it the home directory; a configuration file would make it a folder named `~`.
    if text == "~" || text.starts_with("~/") {
        return Err(UrlError::Malformed { problem: "begins with `~`: write out the whole path" });
    }
    Ok(RemoteUrl::Directory(PathBuf::from(text)))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_and_paths() {
        let s3 = |bucket: &str, prefix: &str| RemoteUrl::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        let directory = |path: &str| RemoteUrl::Directory(PathBuf::from(path));
        for (text, expected) in [
            ("s3://my-bucket/pivot-cache", s3("my-bucket", "pivot-cache")),
            ("s3://my-bucket/a/b/", s3("my-bucket", "a/b")),
            ("s3://my.bucket_1", s3("my.bucket_1", "")),
            ("S3://b/", s3("b", "")),
            ("gs://b/p/", RemoteUrl::Google { bucket: "b".to_owned(), prefix: "p".to_owned() }),
            ("az://c", RemoteUrl::Azure { container: "c".to_owned(), prefix: String::new() }),
            ("file:///mnt/cache", directory("/mnt/cache")),
            ("file://localhost/mnt/cache", directory("/mnt/cache")),
            ("file:///mnt/my%20cache", directory("/mnt/my cache")),
            ("/mnt/cache", directory("/mnt/cache")),
            ("../shared/cache", directory("../shared/cache")),
            ("a b", directory("a b")),
            ("a%20b", directory("a%20b")),
            ("./odd/://name", directory("./odd/://name")),
        ] {
            assert_eq!(RemoteUrl::parse(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_remote_is_refused() {
        for text in [
            "",
            "  ",
            "abfss://container@account.dfs.core.windows.net/x",
            "https://example.com/x",
            "s3://",
            "s3:///prefix",
            "s3://a b/c",
            "s3://bucket/a//b",
            "s3://bucket/../other",
            "s3://bucket/x?region=eu",
            "file://",
            "file://host/path",
            "file:///a%2",
            "file:///a%zz",
            "file:///a%00",
            "file:///a%ff",
            "~",
            "~/cache",
            "a\nb",
            "a\0b",
        ] {
            assert!(RemoteUrl::parse(text).is_err(), "accepted {text:?}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_a_password() {
        for text in [
            "s3://key:secret@bucket/x",
            "file://user:secret@host/x",
            "https://user:secret@example.com/x",
        ] {
            let error = RemoteUrl::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn a_relative_path_is_relative_to_the_project() {
        let url = RemoteUrl::parse("../cache").unwrap();
        let expected = RemoteUrl::Directory(PathBuf::from("/project/../cache"));
        assert_eq!(url.relative_to(Path::new("/project")), expected);
        let url = RemoteUrl::parse("s3://b/p").unwrap();
        assert_eq!(url.relative_to(Path::new("/project")), url);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(text in "(s3://|gs://|az://|file:///|/)?[a-z%0-9./@-]{0,20}") {
            if let Ok(url) = RemoteUrl::parse(&text) {
                prop_assert_eq!(RemoteUrl::parse(&url.to_string()), Ok(url));
            }
        }
    }
}
