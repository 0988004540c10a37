//! The files in `~/.aws`: profiles with credentials, regions and endpoints.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How many profiles may take their credentials from one another in a row.
const MAX_CHAIN: usize = 8;

/// The settings of one profile.
pub(crate) type Section = HashMap<String, String>;

/// What stands in `~/.aws/config` and `~/.aws/credentials`.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    profiles: HashMap<String, Section>,
    sessions: HashMap<String, Section>,
    services: HashMap<String, Section>,
    /// Where single sign-on keeps its tokens.
    pub(crate) sso_cache: Option<PathBuf>,
}

impl Profiles {
    /// Reads the files that `env` names, or those in the home directory. Files that are not there
    /// are empty.
    pub(crate) fn read(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let dir = env("HOME").map(|home| Path::new(&home).join(".aws"));
        let text = |variable: &str, name: &str| {
            let path = env(variable).map(PathBuf::from);
            let path = path.or_else(|| Some(dir.as_ref()?.join(name)));
            path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
        };
        let mut profiles = Self::parse(
            &text("AWS_CONFIG_FILE", "config"),
            &text("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        );
        profiles.sso_cache = dir.map(|dir| dir.join("sso/cache"));
        profiles
    }

    fn parse(config: &str, credentials: &str) -> Self {
        let mut all = Self::default();
        for (title, section) in sections(config) {
            let words: Vec<_> = title.split_whitespace().collect();
            match words[..] {
                ["default"] => all.add("default", section),
                ["profile", name] => all.add(name, section),
                ["sso-session", name] => {
                    all.sessions.entry(name.to_owned()).or_default().extend(section);
                }
                ["services", name] => {
                    all.services.entry(name.to_owned()).or_default().extend(section);
                }
                _ => {}
            }
        }
        for (title, section) in sections(credentials) {
            all.add(&title, section);
        }
        all
    }

    /// What is added later goes before what is there, as the credentials file before the other.
    fn add(&mut self, name: &str, section: Section) {
        self.profiles.entry(name.to_owned()).or_default().extend(section);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Section> {
        self.profiles.get(name)
    }

    /// The session of single sign-on that a profile names, with its own name.
    pub(crate) fn session(&self, name: &str) -> Option<&Section> {
        self.sessions.get(name)
    }

    /// The server that a profile names for one service only.
    pub(crate) fn service_endpoint(&self, profile: &Section, service: &str) -> Option<String> {
        let services = self.services.get(profile.get("services")?)?;
        services.get(&format!("{service}.endpoint_url")).cloned()
    }

    /// The profile and those that it takes its credentials from, the last of which has its own.
    pub(crate) fn chain<'p>(&'p self, name: &'p str) -> Result<Vec<&'p Section>, String> {
        let mut chain = Vec::new();
        let mut names = vec![name];
        loop {
            let name = names[names.len() - 1];
            let section = self.get(name).ok_or_else(|| format!("there is no profile `{name}`"))?;
            chain.push(section);
            let Some(source) = section.get("source_profile") else { return Ok(chain) };
            if !section.contains_key("role_arn") {
                return Ok(chain);
            }
            // One that names itself has keys of its own, to take the role with.
            if source == name {
                chain.push(section);
                return Ok(chain);
            }
            if names.contains(&source.as_str()) || names.len() == MAX_CHAIN {
                return Err(format!("the source profiles of `{}` go in circles", names[0]));
            }
            names.push(source);
        }
    }
}

/// The sections of an INI file with their settings. Indented lines are settings of the one above
/// them: `style` below `s3 =` is `s3.style`. Lines that mean nothing are passed over.
fn sections(text: &str) -> Vec<(String, Section)> {
    let mut sections: Vec<(String, Section)> = Vec::new();
    let mut above = String::new();
    for line in text.lines() {
        let is_indented = line.starts_with([' ', '\t']);
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((title.trim().replace('"', ""), Section::new()));
            above.clear();
        } else if let (Some((key, value)), Some((_, section))) =
            (line.split_once('='), sections.last_mut())
        {
            let mut key = key.trim().to_lowercase();
            if is_indented {
                key = format!("{above}.{key}");
            } else {
                above.clone_from(&key);
            }
            section.insert(key, value.trim().to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_of_both_files() {
        let config = "# mine\n[default]\nregion = eu-west-1\ns3 =\n  max = 4\n\n[profile work]\n\
            role_arn=arn:x # why\nsource_profile = base\n[sso-session corp]\nsso_region = us-west-2\n\
            nonsense\n[plain]\nregion = no\n[profile base]\naws_access_key_id = A\n";
        let credentials = "[base]\naws_access_key_id = B\naws_secret_access_key = a=b\n";
        let profiles = Profiles::parse(config, credentials);
        assert_eq!(profiles.get("default").unwrap()["region"], "eu-west-1");
        assert!(profiles.get("plain").is_none());
        assert_eq!(profiles.session("corp").unwrap()["sso_region"], "us-west-2");
        let chain = profiles.chain("work").unwrap();
        assert_eq!(chain[0]["role_arn"], "arn:x");
        assert_eq!(chain[1]["aws_access_key_id"], "B");
        assert_eq!(chain[1]["aws_secret_access_key"], "a=b");
        assert!(profiles.chain("other").is_err());
    }

    #[test]
    fn circles_end() {
        let config = "[profile a]\nrole_arn=x\nsource_profile=b\n[profile b]\nrole_arn=y\n\
            source_profile=a\n[profile self]\nrole_arn=x\nsource_profile=self\n";
        let profiles = Profiles::parse(config, "");
        assert!(profiles.chain("a").unwrap_err().contains("circles"));
        assert_eq!(profiles.chain("self").unwrap().len(), 2);
    }
}
