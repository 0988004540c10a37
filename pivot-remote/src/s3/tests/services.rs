//! Credentials that services give: of a token, a container, an instance, a sign-on, a role.

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

/// A server that answers a request that holds all of some words, whatever their case, with a text,
/// and all others with 404. It takes down the requests, in lower case.
struct Service {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

fn service(answers: &[(&[&str], &str)]) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let owned = |(words, text): &(&[&str], &str)| {
        (words.iter().map(|word| word.to_lowercase()).collect::<Vec<_>>(), (*text).to_owned())
    };
    let answers: Vec<_> = answers.iter().map(owned).collect();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heads);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let _ = answer(stream, &answers, &log);
        }
    });
    Service { url, heads }
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
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    head += &body.to_lowercase();
    log.lock().unwrap().push(head.clone());
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
    used_with(home, &server.options(), variables)
}

fn used_with(
    home: &Path,
    options: &RemoteOptions,
    variables: &[(&str, &str)],
) -> Result<String, String> {
    let mut all = vec![("HOME", home.to_str().unwrap())];
    all.extend_from_slice(variables);
    let remote = S3Remote::with_env(&s3("bucket", ""), options, env(&all)).unwrap();
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
    assert_eq!(sts.heads.lock().unwrap().len(), 1);

    // What does not work is an error.
    variables[1].1 = "arn:aws:iam::1:role/other";
    let error = used(&server, home.path(), &variables).unwrap_err();
    assert!(error.contains("credentials from web identity"), "{error}");
}

#[test]
fn the_role_of_a_container() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    let file = home.path().join("token");
    std::fs::write(&file, "t0ken\n").unwrap();
    let host = service(&[(&["get /role ", "authorization: t0ken"], &keys_in_json())]);
    let open = service(&[(&["get /role "], &keys_in_json())]);
    let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let (uri, open_uri) = (format!("{}/role", host.url), format!("{}/role", open.url));
    let nowhere = ("AWS_EC2_METADATA_DISABLED", "true");
    let with =
        |variables: &[(&str, &str)]| used(&server, home.path(), &[variables, &[nowhere]].concat());
    let in_file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap());
    for variables in [
        &[(full, uri.as_str()), in_file][..],
        &[(full, uri.as_str()), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "t0ken")],
        &[(full, open_uri.as_str())],
    ] {
        let found = with(variables).unwrap();
        assert_eq!(found, "container: Used(\"role of the container\")");
    }
    let error = with(&[(full, uri.as_str())]).unwrap_err();
    assert!(error.contains("credentials from container: the server answered 404"), "{error}");
    let absent = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nowhere/token");
    let error = with(&[(full, uri.as_str()), absent]).unwrap_err();
    assert!(error.contains("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: entity not found"), "{error}");
    let error = with(&[(full, "http://example.com/role"), in_file]).unwrap_err();
    assert!(error.contains("has to begin with `https://`"), "{error}");
    let error = with(&[]).unwrap_err();
    assert!(error.contains("container: no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), "{error}");
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
    // It is not asked once more for each object.
    let asked = || bare.heads.lock().unwrap().len();
    let once = asked();
    let Sides { yours, _dir: dir, .. } = sides();
    let variables = [variables[0], ("HOME", home.path().to_str().unwrap())];
    let remote = S3Remote::with_env(&s3("bucket", ""), &server.options(), env(&variables)).unwrap();
    let ids: Vec<_> = (0..100_u32).map(|n| ObjectId::of_bytes(&n.to_le_bytes())).collect();
    assert_eq!(fetch_quietly(&yours, &remote, &ids).failed.len(), 100);
    assert_eq!(asked(), 2 * once);
    drop(dir);
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
    assert_eq!(portal.heads.lock().unwrap().len(), 1, "who has no token asks nobody");

    // A session can be renewed, and the AWS tools find what came of it.
    let words = [
        "post /token ",
        r#""granttype":"refresh_token""#,
        r#""refreshtoken":"t0ken-r""#,
        r#""clientid":"c""#,
        r#""clientsecret":"t0ken-s""#,
    ];
    let renewed = r#"{"accessToken": "t0ken", "expiresIn": 28800, "refreshToken": "t0ken-r2"}"#;
    let oidc = service(&[(&words, renewed)]);
    let saved = |registration: &str| {
        let text = format!(
            r#"{{"startUrl": "https://corp.example.com", "accessToken": "old", "clientId": "C",
                "expiresAt": "2001-01-01T00:00:00Z", "clientSecret": "t0ken-s",
                "registrationExpiresAt": "{registration}", "refreshToken": "t0ken-r"}}"#
        );
        std::fs::write(&file, text).unwrap();
    };
    let variables = [variables[0], variables[1], ("AWS_ENDPOINT_URL_SSO_OIDC", &oidc.url)];
    saved("2001-01-01T00:00:00Z");
    assert!(used(&server, home.path(), &variables).is_err(), "the program's registration is over");
    saved("2099-01-01T00:00:00Z");
    used(&server, home.path(), &variables).unwrap();
    let text = std::fs::read(&file).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        (&kept["accessToken"], &kept["refreshToken"]),
        (&"t0ken".into(), &"t0ken-r2".into())
    );
    assert_eq!(kept["startUrl"], "https://corp.example.com");
    used(&server, home.path(), &variables).unwrap();
    assert_eq!(oidc.heads.lock().unwrap().len(), 1, "it is good for hours");
}

/// The answer of the security token service to who may take a role.
fn role_in_xml(id: &str, until: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <AssumedRoleUser><Arn>a</Arn></AssumedRoleUser><Credentials><AccessKeyId>{id}</AccessKeyId>\
         <SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>session</SessionToken>\
         <Expiration>{until}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

#[test]
fn a_role_by_way_of_other_profiles() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let config = "[profile base]\naws_access_key_id = AKIABASE\naws_secret_access_key = s\n\
        [profile middle]\nrole_arn = arn:role/middle\nsource_profile = base\n\
        [profile last]\nrole_arn = arn:role/last\nsource_profile = middle\nexternal_id = x&y\n\
        role_session_name = me\nduration_seconds = 900\n\
        [profile env]\nrole_arn = arn:role/env\ncredential_source = Environment\n\
        [profile ec2]\nrole_arn = arn:role/ec2\ncredential_source = Ec2InstanceMetadata\n\
        [profile ecs]\nrole_arn = arn:role/ecs\ncredential_source = EcsContainer\n\
        [profile web]\nrole_arn = arn:role/web\nweb_identity_token_file = TOKEN\n\
        [profile gone]\nrole_arn = arn:role/gone\nsource_profile = nobody\n";
    let token = home.path().join("token");
    std::fs::write(&token, "t0ken").unwrap();
    let config = config.replace("TOKEN", token.to_str().unwrap());
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    let far = "2099-01-01T00:00:00Z";
    let (middle, last) = (role_in_xml("AKIAMIDDLE", far), role_in_xml(KEY_ID, far));
    let by_web = last.replace("AssumeRoleRes", "AssumeRoleWithWebIdentityRes");
    let sts = service(&[
        // Signed for this service, by who is asked to.
        (
            &["action=assumerole&", "role%2fmiddle", "credential=akiabase/", "/sts/aws4_request"],
            &middle,
        ),
        (
            &[
                "role%2flast",
                "credential=akiamiddle/",
                "x-amz-security-token: session",
                "externalid=x%26y",
                "rolesessionname=me",
                "durationseconds=900",
            ],
            &last,
        ),
        (&["role%2fenv", "credential=akiaenv/"], &last),
        (&["role%2fec2", "credential=akiahost/"], &last),
        (&["role%2fecs", "credential=akiahost/"], &last),
        (&["assumerolewithwebidentity", "role%2fweb", "webidentitytoken=t0ken"], &by_web),
    ]);
    let keys = keys_in_json().replace(KEY_ID, "AKIAHOST");
    let host = service(&[
        (&["put /latest/api/token"], "t0ken"),
        (&["get /latest/meta-data/iam/security-credentials/data "], &keys),
        (&["get /latest/meta-data/iam/security-credentials/"], "data"),
        (&["get /role "], &keys),
    ]);
    let container = format!("{}/role", host.url);
    let variables = [
        ("AWS_ENDPOINT_URL_STS", sts.url.as_str()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &host.url),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container),
    ];
    let with = |profile: &str, others: &[(&str, &str)]| {
        let mut all = [&variables, others].concat();
        all.push(("AWS_PROFILE", profile));
        let options = RemoteOptions { profile: Some(profile.to_owned()), ..server.options() };
        used_with(home.path(), &options, &all)
    };
    let from_env = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    for (profile, how) in [
        ("last", "role by keys"),
        ("env", "role by keys"),
        ("ec2", "role by role of the instance"),
        ("ecs", "role by role of the container"),
        ("web", "role by web identity"),
    ] {
        let found = with(profile, &from_env).unwrap();
        assert_eq!(found, format!("profile `{profile}`: Used({how:?})"));
    }
    let error = with("env", &[]).unwrap_err();
    assert!(error.contains("no AWS_ACCESS_KEY_ID"), "{error}");
    let error = with("gone", &[]).unwrap_err();
    assert!(error.contains("there is no profile `nobody`"), "{error}");
}

/// Keys that are about to end are asked for anew, in the middle of transfers too.
#[test]
fn a_role_that_ends_is_taken_again() {
    let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let config = "[default]\nrole_arn = arn:role/data\nsource_profile = base\n\
        [profile base]\naws_access_key_id = AKIABASE\naws_secret_access_key = s\n";
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    for (until, times) in [("2001-01-01T00:00:00Z", 3), ("2099-01-01T00:00:00Z", 1)] {
        let sts = service(&[(&["action=assumerole&"], &role_in_xml(KEY_ID, until))]);
        let variables =
            [("HOME", home.path().to_str().unwrap()), ("AWS_ENDPOINT_URL_STS", &sts.url)];
        let remote =
            S3Remote::with_env(&s3("bucket", ""), &server.options(), env(&variables)).unwrap();
        for n in 0..3_u32 {
            remote.contains(ObjectId::of_bytes(&n.to_le_bytes())).unwrap();
        }
        assert_eq!(sts.heads.lock().unwrap().len(), times, "{until}");
    }
}

#[test]
fn nobody_signs_for_an_open_bucket() {
    let page = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>\
        <Key>files/ab/cdef0123456789</Key><Size>9</Size>\
        <LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>";
    let open = service(&[(&["get /bucket?", "list-type=2"], page)]);
    let options = RemoteOptions {
        endpoint_url: Some(open.url.clone()),
        anonymous: true,
        ..RemoteOptions::default()
    };
    let remote = S3Remote::with_env(&s3("bucket", ""), &options, env(&server::keys())).unwrap();
    assert_eq!(remote.list().unwrap(), ["abcdef0123456789".parse().unwrap()]);
    let heads = open.heads.lock().unwrap();
    assert!(heads.len() == 1 && !heads[0].contains("authorization"), "{heads:?}");
}
