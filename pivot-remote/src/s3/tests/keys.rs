//! Where credentials are found, and that none is ever shown.

use super::*;
use crate::diagnosis::CredentialOutcome;
use server::{KEY_ID, SECRET, env};

/// A remote with these files in `~/.aws` and these variables.
fn remote(
    server: &Server,
    home: &Path,
    variables: &[(&str, &str)],
    options: &RemoteOptions,
) -> S3Remote {
    let mut all = vec![("HOME", home.to_str().unwrap()), ("AWS_EC2_METADATA_DISABLED", "true")];
    all.extend_from_slice(variables);
    let endpoint_url = server.options().endpoint_url;
    let options = RemoteOptions { endpoint_url, ..options.clone() };
    S3Remote::with_env(&s3("bucket", ""), &options, env(&all)).unwrap()
}

fn used(remote: &S3Remote) -> Result<String, String> {
    let diagnosis = remote.diagnose();
    let text = format!("{diagnosis:?} {remote:?}");
    assert!(!text.contains(SECRET), "{text}");
    diagnosis.answer.map_err(|error| format!("{error} {:?}", diagnosis.credentials))?;
    let last = diagnosis.credentials.last().unwrap();
    match &last.outcome {
        CredentialOutcome::Used(kind) => Ok(format!("{}: {kind}", last.source)),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn the_places_in_their_order() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let aws = home.path().join(".aws");
    std::fs::create_dir(&aws).unwrap();
    let process = home.path().join("print.sh");
    let answer = format!(
        "echo '{{\"Version\": 1, \"AccessKeyId\": \"{KEY_ID}\", \"SecretAccessKey\": \"{SECRET}\"}}'"
    );
    std::fs::write(&process, answer).unwrap();
    let config = format!(
        "[profile process]\ncredential_process = sh {}\n[profile broken]\ncredential_process = echo {SECRET}\n\
         [profile empty]\nregion = eu-west-1\n[profile sso]\nsso_account_id = 1\nsso_role_name = r\n\
         sso_start_url = https://x\nsso_region = eu-west-1\n[profile mfa]\nrole_arn = a\nsource_profile = process\nmfa_serial = 1\n",
        process.display()
    );
    std::fs::write(aws.join("config"), config).unwrap();
    let credentials = format!(
        "[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n\
         [wrong]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = wrong\n"
    );
    std::fs::write(aws.join("credentials"), credentials).unwrap();
    let plain = RemoteOptions::default();
    let named =
        |name: &str| RemoteOptions { profile: Some(name.to_owned()), ..RemoteOptions::default() };
    let with = |variables: &[(&str, &str)], options: &RemoteOptions| {
        used(&remote(&server, home.path(), variables, options))
    };

    assert_eq!(with(&[], &plain).unwrap(), "profile `default`: keys");
    assert_eq!(with(&server::keys(), &plain).unwrap(), "environment: keys");
    let both = [server::keys()[0], server::keys()[1], ("AWS_PROFILE", "wrong")];
    assert_eq!(with(&both, &plain).unwrap(), "environment: keys");
    assert_eq!(
        with(&[("AWS_PROFILE", "process")], &plain).unwrap(),
        "profile `process`: credential_process"
    );
    assert_eq!(with(&[], &named("process")).unwrap(), "profile `process`: credential_process");
    // The profile that the user has named goes before the environment, whatever comes of it.
    let error = with(&server::keys(), &named("wrong")).unwrap_err();
    assert!(error.contains("403"), "{error}");
    let cases = [
        ("broken", "something else than credentials"),
        ("empty", "it has no credentials"),
        ("none", "there is no such profile"),
        ("sso", "run `aws sso login`"),
        ("mfa", "a second factor"),
    ];
    for (name, words) in cases {
        let error = with(&server::keys(), &named(name)).unwrap_err();
        assert!(error.contains(words) && !error.contains(SECRET), "{name}: {error}");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let error = used(&remote(&server, elsewhere.path(), &[], &plain)).unwrap_err();
    assert!(
        error.contains("no credentials were found (environment: no AWS_ACCESS_KEY_ID"),
        "{error}"
    );
}

#[test]
fn no_error_shows_a_secret() {
    let Sides { server, mine, .. } = sides();
    let id = mine.put_bytes(b"model").unwrap();
    let body = format!(
        "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><StringToSign>{SECRET}\
         </StringToSign></Error>"
    );
    for status in [400, 403, 404, 412, 500, 503] {
        server.fault("PUT", Fault::Answer(status, body.clone()), 6);
        server.fault("GET", Fault::Answer(status, body.clone()), 6);
        let remote = server.remote();
        let sent = push_quietly(&mine, &remote, &[id]);
        let listed = remote.list();
        let fetched = remote.fetch(&mine, id);
        let mut text = format!("{sent:?} {listed:?} {fetched:?} {remote:?}");
        for (_, error) in &sent.failed {
            let mut cause: Option<&dyn std::error::Error> = Some(error);
            while let Some(error) = cause {
                text += &format!("{error} {error:?}");
                cause = error.source();
            }
        }
        for secret in [SECRET, "Signature=", "AWS4-HMAC"] {
            assert!(!text.contains(secret), "{status}: {text}");
        }
        server.forget_rules();
    }
}
