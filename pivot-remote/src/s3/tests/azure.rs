//! A container of Azure's, against Microsoft's own emulator.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};

use super::*;

const AZURITE: &str = "azurite@3.37.0";

/// The emulator has one account, with a key that everybody knows.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The emulator on a free port; it ends with this value.
struct Azurite {
    process: Child,
    url: String,
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the emulator, which is installed on first use; `None` where there is no npm.
fn start() -> Option<Azurite> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/azurite");
    if !dir.join("is-installed").exists() {
        std::fs::create_dir_all(&dir).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
        let output = npm.arg(&dir).arg(AZURITE).current_dir(&dir).output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "Azurite cannot be installed for this test: {text}");
        std::fs::write(dir.join("is-installed"), AZURITE).unwrap();
    }
    let mut process = Command::new(dir.join("node_modules/.bin/azurite-blob"))
        .args(["--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| {
        let (_, url) = line.split_once("successfully listens on ")?;
        Some(url.trim().to_owned())
    });
    // It also tells of each request, and ends if nobody listens.
    std::thread::spawn(move || lines.for_each(drop));
    Some(Azurite { process, url: url.expect("Azurite tells its port when it is ready") })
}

fn remote(azurite: &Azurite, key: &str) -> S3Remote {
    let variables = [("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", key)];
    let options = RemoteOptions {
        endpoint_url: Some(format!("{}/{ACCOUNT}", azurite.url)),
        retry_delay: Duration::from_millis(2),
        ..RemoteOptions::default()
    };
    let url = RemoteUrl::parse("az://data/a b/ü&c").unwrap();
    S3Remote::with_env(&url, &options, server::env(&variables)).unwrap()
}

fn make_container(azurite: &Azurite, remote: &S3Remote) {
    let url = format!("{}/{ACCOUNT}/data?restype=container", azurite.url);
    let mut request = http::Request::put(url)
        .header("content-length", 0)
        .body(object_store::client::HttpRequestBody::empty())
        .unwrap();
    let key = AzureCredential::AccessKey(AzureAccessKey::try_new(ACCOUNT_KEY).unwrap());
    AzureAuthorizer::new(&key, ACCOUNT).try_authorize(&mut request).unwrap();
    let asked = remote.alone(async |engine| {
        engine.wire.ask(request).await.map_err(|failure| failure.during("make a container"))
    });
    let (status, text) = asked.unwrap();
    assert!(status.is_success(), "{status} {text:?}");
}

#[test]
fn a_service_that_gives_no_token_is_asked_once() {
    let Sides { server, mine, yours, .. } = sides();
    let tokens = format!("{}/oauth2/token", server.endpoint());
    let variables = [("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_MSI_ENDPOINT", &tokens)];
    let url = RemoteUrl::parse("az://data").unwrap();
    let ids: Vec<_> = (0..100_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    for fetches in [false, true] {
        let remote = S3Remote::with_env(&url, &server.options(), server::env(&variables)).unwrap();
        let summary = match fetches {
            true => fetch_quietly(&yours, &remote, &ids),
            false => push_quietly(&mine, &remote, &ids),
        };
        let told = |words| summary.failed.iter().any(|(_, e)| e.to_string().contains(words));
        assert!(
            told("no token was given for the credentials: the server answered 4"),
            "{summary:?}"
        );
        assert_eq!((summary.failed.len(), server.count("GET")), (100, 1));
        server.forget_log();
    }
}

#[test]
fn azurite_takes_and_gives_everything() {
    // Whoever has no npm to install it with leaves this to CI.
    let Some(azurite) = start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [mine, yours] = ["mine", "yours"].map(|name| Cache::open(&dir.path().join(name)));
    let id = mine.put_bytes(b"model").unwrap();
    let sent = push_quietly(&mine, &remote(&azurite, ACCOUNT_KEY), &[id]);
    assert!(sent.failed[0].1.to_string().contains("ContainerNotFound"), "{sent:?}");
    make_container(&azurite, &remote(&azurite, ACCOUNT_KEY));

    let wrong = remote(&azurite, "c2VjcmV0");
    let text = format!("{:?} {wrong:?}", push_quietly(&mine, &wrong, &[id]));
    assert!(text.contains("403") && !text.contains("c2VjcmV0"), "{text}");

    let remote = remote(&azurite, ACCOUNT_KEY);
    let part = upload::PART_BYTES as usize;
    let mut ids: Vec<_> = (0..600_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    ids.push(mine.put_bytes(b"").unwrap());
    ids.push(mine.put_bytes(&noise(2 * part + 1)).unwrap());
    assert_eq!(moved(&push_quietly(&mine, &remote, &ids)), 602);
    let again = push_quietly(&mine, &remote, &ids);
    assert_eq!((moved(&again), again.already_there), (0, 602));
    // As if nobody had looked: the server refuses to write over it, which is success.
    let sent = remote.alone(async |engine| engine.send(&mine, ids[0], Presence::Unknown).await);
    assert_eq!(sent.unwrap(), Transfer::AlreadyThere);
    assert_eq!(remote.list().unwrap().len(), 602);
    assert_eq!(moved(&fetch_quietly(&yours, &remote, &ids)), 602);
    assert_eq!(yours.read(ids[601]).unwrap(), noise(2 * part + 1));
    let absent = ObjectId::of_bytes(b"absent");
    assert!(matches!(remote.fetch(&yours, absent), Err(RemoteError::Missing { .. })));
    let key = RecordKey::from_digest(&[7; 16]);
    assert!(remote.put_records(&[(key.clone(), b"{}".to_vec())]).is_empty());
    assert_eq!(remote.list_records().unwrap(), std::slice::from_ref(&key));
    assert_eq!(remote.get_records(&[key])[0].1.as_deref().unwrap(), b"{}");
    assert!(remote.diagnose().answer.is_ok());
    assert!(!format!("{remote:?}").contains(ACCOUNT_KEY));
}
