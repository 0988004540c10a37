//! A bucket of Google's, whose protocol is that of S3 but for who asks and how conditions are put.

use super::*;
use server::TOKEN;

fn remote(server: &Server, variables: &[(&str, &str)]) -> S3Remote {
    let url = RemoteUrl::parse("gs://bucket/some/prefix").unwrap();
    S3Remote::with_env(&url, &server.options(), server::env(variables)).unwrap()
}

#[test]
fn everything_goes_there_and_back() {
    let Sides { mine, yours, .. } = sides();
    let server = Server::start_google();
    let remote = remote(&server, &[("GOOGLE_BEARER_TOKEN", TOKEN)]);
    assert_eq!(remote.place(), format!("gs://bucket/some/prefix at {}", server.endpoint()));
    let part = upload::PART_BYTES as usize;
    let mut ids: Vec<_> = (0..600_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    ids.push(mine.put_bytes(b"").unwrap());
    ids.push(mine.put_bytes(&noise(2 * part + 1)).unwrap());
    server.fault("PUT files/", Fault::Answer(503, String::new()), 3);
    server.fault("GET list-type=2", Fault::Cut, 1);
    assert_eq!(moved(&push_quietly(&mine, &remote, &ids)), 602);
    let again = push_quietly(&mine, &remote, &ids);
    assert_eq!((moved(&again), again.already_there), (0, 602));
    assert_eq!(remote.list().unwrap().len(), 602);
    server.fault("GET files/", Fault::Corrupt, 1);
    assert_eq!(moved(&fetch_quietly(&yours, &remote, &ids)), 602);
    assert_eq!(yours.read(ids[601]).unwrap(), noise(2 * part + 1));
    let absent = ObjectId::of_bytes(b"absent");
    assert!(matches!(remote.fetch(&yours, absent), Err(RemoteError::Missing { .. })));
    let key = RecordKey::from_digest(&[7; 16]);
    assert!(remote.put_records(&[(key.clone(), b"{}".to_vec())]).is_empty());
    assert_eq!(remote.list_records().unwrap(), std::slice::from_ref(&key));
    assert_eq!(remote.get_records(&[key])[0].1.as_deref().unwrap(), b"{}");
}

#[test]
fn a_token_that_does_not_fit_is_told_and_not_shown() {
    let Sides { mine, .. } = sides();
    let server = Server::start_google();
    let id = mine.put_bytes(b"model").unwrap();
    let remote = remote(&server, &[("GOOGLE_BEARER_TOKEN", "ya29.another")]);
    let sent = push_quietly(&mine, &remote, &[id]);
    let text = format!("{sent:?} {remote:?} {:?}", remote.diagnose());
    assert!(text.contains("401 Unauthorized") && !text.contains("ya29"), "{text}");
}

#[test]
fn credentials_that_cannot_be_read_are_told_and_not_shown() {
    let Sides { mine, _dir: dir, .. } = sides();
    let server = Server::start_google();
    let id = mine.put_bytes(b"model").unwrap();
    let file = dir.path().join("credentials.json");
    for text in ["{\"type\": \"secret\"}", "secret", "{\"private_key\": \"secret\"}"] {
        std::fs::write(&file, text).unwrap();
        let variables = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())];
        let sent = push_quietly(&mine, &remote(&server, &variables), &[id]);
        let text = sent.failed[0].1.to_string();
        assert!(text.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{text}");
        assert!(!format!("{sent:?}").contains("secret"), "{sent:?}");
    }
}
