//! The same against a server by other people, in another language: moto.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::*;

const MOTO: &str = "moto[server]==5.2.5";

/// moto on a free port; it ends with this value.
struct Moto {
    process: Child,
    url: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The interpreter of a virtual environment with moto, which is made on first use.
fn python() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|error| error.into_inner());
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/moto-venv");
    let python = venv.join("bin/python");
    let done = venv.join("moto-is-installed");
    if !done.exists() {
        let run = |command: &mut Command| {
            let output = command.output().expect("python3 can be run");
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "moto cannot be installed for this test: {text}");
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", MOTO]));
        std::fs::write(done, MOTO).unwrap();
    }
    python
}

fn start() -> Moto {
    let script = "\
import logging
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app
logging.getLogger('werkzeug').disabled = True
app = DomainDispatcherApplication(create_backend_app)
server = make_server('127.0.0.1', 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
";
    let mut process = Command::new(python())
        .args(["-c", script])
        .env("AWS_ACCESS_KEY_ID", "none")
        .env("AWS_SECRET_ACCESS_KEY", "none")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().parse().expect("moto prints its port when it is ready");
    Moto { process, url: format!("http://127.0.0.1:{port}") }
}

#[test]
fn moto_takes_and_gives_everything() {
    let moto = start();
    let dir = tempfile::tempdir().unwrap();
    let [mine, yours] = ["mine", "yours"].map(|name| Cache::open(&dir.path().join(name)));
    let aws = dir.path().join(".aws");
    std::fs::create_dir(&aws).unwrap();
    std::fs::write(
        aws.join("config"),
        "[profile base]\naws_access_key_id = testing\naws_secret_access_key = testing\n\
         [profile role]\nrole_arn = arn:aws:iam::123456789012:role/data\nsource_profile = base\n",
    )
    .unwrap();
    let home = dir.path().to_str().unwrap();
    let variables = [("HOME", home), ("AWS_ENDPOINT_URL_STS", moto.url.as_str())];
    let options = RemoteOptions {
        endpoint_url: Some(moto.url.clone()),
        profile: Some("role".to_owned()),
        ..RemoteOptions::default()
    };
    let remote =
        S3Remote::with_env(&s3("bucket", "a b/ü&c"), &options, server::env(&variables)).unwrap();

    let id = mine.put_bytes(b"model").unwrap();
    let sent = push_quietly(&mine, &remote, &[id]);
    assert!(sent.failed[0].1.to_string().contains("NoSuchBucket"), "{sent:?}");
    remote.alone(async |engine| engine.make_bucket_for_tests().await).unwrap();

    let part = upload::PART_BYTES as usize;
    let mut ids: Vec<_> = (0..60_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    ids.push(mine.put_bytes(b"").unwrap());
    ids.push(mine.put_bytes(&noise(2 * part + 1)).unwrap());
    assert_eq!(moved(&push_quietly(&mine, &remote, &ids)), 62);
    let again = push_quietly(&mine, &remote, &ids);
    assert_eq!((moved(&again), again.already_there), (0, 62));
    // As if nobody had looked: the server refuses to write over it, which is success.
    let sent = remote.alone(async |engine| engine.send(&mine, ids[0], Presence::Unknown).await);
    assert_eq!(sent.unwrap(), Transfer::AlreadyThere);
    assert_eq!(remote.list().unwrap().len(), 62);
    assert_eq!(moved(&fetch_quietly(&yours, &remote, &ids)), 62);
    assert_eq!(yours.read(ids[61]).unwrap(), noise(2 * part + 1));
    let absent = ObjectId::of_bytes(b"absent");
    assert!(matches!(remote.fetch(&yours, absent), Err(RemoteError::Missing { .. })));

    let key = RecordKey::from_digest(&[7; 16]);
    assert!(remote.put_records(&[(key.clone(), b"{}".to_vec())]).is_empty());
    assert_eq!(remote.list_records().unwrap(), std::slice::from_ref(&key));
    assert_eq!(remote.get_records(&[key])[0].1.as_deref().unwrap(), b"{}");
    let diagnosis = remote.diagnose();
    assert!(diagnosis.answer.is_ok(), "{diagnosis:?}");
    let used = format!("{:?}", diagnosis.credentials);
    assert!(used.contains("role by keys"), "{used}");
}
