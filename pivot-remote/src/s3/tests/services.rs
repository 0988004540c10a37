//! Credentials that services give: of a token, a container, an instance, a sign-on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::diagnosis::CredentialOutcome;
use server::{KEY_ID, SECRET, env};

/// Keys as the services for containers and instances write them.
fn keys_in_json() -> String {
    format!(
        r#"{{"Code": "Success", "AccessKeyId": "{KEY_ID}", "SecretAccessKey": "{SECRET}",
            "Token": "session", "Expiration": "2099-01-01T00:00:00Z"}}"#
    )
}

/// A server that answers a request whose head holds all of some words with a text, and all others
/// with 404. It takes down the first line of each request.
struct Service {
    url: String,
    lines: Arc<Mutex<Vec<String>>>,
}

fn service(answers: &[(&[&str], &str)]) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let owned = |(words, text): &(&[&str], &str)| {
        (words.iter().map(|word| word.to_lowercase()).collect::<Vec<_>>(), (*text).to_owned())
    };
    let answers: Vec<_> = answers.iter().map(owned).collect();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lines);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let _ = answer(stream, &answers, &log);
        }
    });
    Service { url, lines }
}

fn answer(
    mut stream: TcpStream,
    answers: &[(Vec<String>, String)],
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let line = line.to_lowercase();
        length = line.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().unwrap());
        head += &line;
    }
    reader.take(length).read_to_end(&mut Vec::new())?;
    log.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
    let fits = |words: &[String]| words.iter().all(|word| head.contains(word));
    let (status, text) = match answers.iter().find(|(words, _)| fits(words)) {
        Some((_, text)) => ("200 OK", text.as_str()),
        None => ("404 Not Found", ""),
    };
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
    )
}

/// Which credentials a remote with these variables uses, or what is wrong.
fn used(server: &Server, home: &Path, variables: &[(&str, &str)]) -> Result<String, String> {
    let mut all = vec![("HOME", home.to_str().unwrap())];
    all.extend_from_slice(variables);
    let remote = S3Remote::with_env("bucket", "", &server.options(), env(&all)).unwrap();
    let diagnosis = remote.diagnose();
    let text = format!("{diagnosis:?} {remote:?}");
    assert!(!text.contains(SECRET) && !text.contains("t0ken"), "{text}");
    diagnosis.answer.map_err(|error| format!("{error} {:?}", diagnosis.credentials))?;
    match &diagnosis.credentials.last().unwrap() {
        attempt if matches!(attempt.outcome, CredentialOutcome::Used(_)) => {
            Ok(format!("{}: {:?}", attempt.source, attempt.outcome))
        }
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_role_by_web_identity() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let answer = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>{KEY_ID}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>\
         <SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    let words = ["post /", "assumerolewithwebidentity", "webidentitytoken=t0ken", "role%2fdata"];
    let sts = service(&[(&words, &answer)]);
    let file = home.path().join("token");
    std::fs::write(&file, "t0ken").unwrap();
    let mut variables = vec![
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/data"),
        ("AWS_ENDPOINT_URL_STS", &sts.url),
    ];
    let found = used(&server, home.path(), &variables).unwrap();
    assert_eq!(found, "web identity: Used(\"role by web identity\")");
    assert_eq!(sts.lines.lock().unwrap().len(), 1);

    // What does not work is an error.
    variables[1].1 = "arn:aws:iam::1:role/other";
    let error = used(&server, home.path(), &variables).unwrap_err();
    assert!(error.contains("credentials from web identity"), "{error}");
}

#[test]
fn the_role_of_a_container() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let file = home.path().join("token");
    std::fs::write(&file, "t0ken").unwrap();
    let host = service(&[(&["get /role ", "authorization: t0ken"], &keys_in_json())]);
    let uri = format!("{}/role", host.url);
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let found = used(&server, home.path(), &variables).unwrap();
    assert_eq!(found, "container: Used(\"role of the container\")");
    let error = used(&server, home.path(), &[variables[0], variables[2]]).unwrap_err();
    assert!(error.contains("no AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), "{error}");
}

#[test]
fn the_role_of_an_instance() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let role = "get /latest/meta-data/iam/security-credentials/";
    let (token, named) = ("x-aws-ec2-metadata-token: t0ken", format!("{role}data "));
    let json = keys_in_json();
    let metadata = service(&[
        (&["put /latest/api/token"], "t0ken"),
        (&[&named, token], &json),
        (&[role, token], "data"),
    ]);
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url.as_str())];
    let found = used(&server, home.path(), &variables).unwrap();
    assert_eq!(found, "instance: Used(\"role of the instance\")");
    // An instance without a role is one without credentials.
    let bare = service(&[(&["put /latest/api/token"], "t0ken")]);
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", bare.url.as_str())];
    let error = used(&server, home.path(), &variables).unwrap_err();
    assert!(error.contains("no credentials were found"), "{error}");
}

#[test]
fn a_sign_on_is_traded_for_keys() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let cache = home.path().join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let config = "[profile corp]\nsso_session = corp\nsso_account_id = 12\nsso_role_name = data\n\
        [sso-session corp]\nsso_start_url = https://corp.example.com\nsso_region = eu-west-1\n";
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    // The SHA-1 of the session's name.
    let file = cache.join("ee0bfd2552fbd840c02cc48b6e823320543c450f.json");
    let answer = format!(
        r#"{{"roleCredentials": {{"accessKeyId": "{KEY_ID}", "secretAccessKey": "{SECRET}",
            "sessionToken": "session", "expiration": 4070908800000}}}}"#
    );
    let words = ["get /federation/credentials?role_name=data&account_id=12", "bearer_token: t0ken"];
    let portal = service(&[(&words, &answer)]);
    let variables = [("AWS_PROFILE", "corp"), ("AWS_ENDPOINT_URL_SSO", portal.url.as_str())];
    let sign_on = |until: &str| {
        let token = format!(r#"{{"accessToken": "t0ken", "expiresAt": "{until}"}}"#);
        std::fs::write(&file, token).unwrap();
    };
    sign_on("2099-01-01T00:00:00Z");
    let found = used(&server, home.path(), &variables).unwrap();
    assert_eq!(found, "profile `corp`: Used(\"single sign-on\")");
    sign_on("2001-01-01T00:00:00Z");
    let error = used(&server, home.path(), &variables).unwrap_err();
    assert!(error.contains("run `aws sso login`"), "{error}");
    assert_eq!(portal.lines.lock().unwrap().len(), 1, "who has no token asks nobody");
}
