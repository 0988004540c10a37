//! The parsers, one target each.

use std::io::Cursor;

use pivot_cache::{DirectoryManifest, ObjectId};
use pivot_fingerprint::{CodeHash, Witness, read_frame, write_frame};
use pivot_lock::{Found, Lock};
use pivot_pipeline::{
    DeclaredStage, Override, ParamsFile, ProjectPath, StageName, Value, YamlText, parse_definition,
};
use pivot_remote::{RecordKey, RemoteUrl};

use crate::{Target, run};

fn as_text(bytes: &[u8], parse: impl FnOnce(&str) -> bool) -> bool {
    std::str::from_utf8(bytes).is_ok_and(parse)
}

const LOCK: &str = "\
schema_version: 1
code_manifest:
  const:RATE: '1f0c9f3b8ac2d7e5'
  func:<lambda>: 'aacd4858f4b29caf'
params: {lr: 0.01, deep: {list: [1, -2.5, null, true, \"a\\tb\"]}}
deps:
- {path: data.csv, hash: '328592d381e297f9', size: 1024}
- {path: raw, hash: '0a1b2c3d4e5f6071', size: 9120, files: 3}
outs:
- {path: \"odd: name\", hash: '9160f87a8374feb1', size: 2048, executable: true}
";

#[test]
fn lock_files() {
    run(&Target {
        seeds: &[LOCK, "schema_version: 1\ncode_manifest: {}\nparams: {}\ndeps: []\nouts: []\n"],
        parse: |bytes| {
            let Found::Usable(lock) = Found::of_bytes(bytes) else { return false };
            let printed = lock.to_yaml();
            assert_eq!(Lock::from_yaml(&printed), Ok(lock.clone()));
            let stored = Lock::from_cache_bytes(&lock.to_cache_bytes());
            assert_eq!(stored.map(|lock| lock.to_yaml()), Some(printed));
            true
        },
    });
}

#[test]
fn locks_in_the_state() {
    run(&Target {
        seeds: &[LOCK],
        parse: |bytes| {
            // Changed in the middle of what the program itself has written.
            let Found::Usable(lock) = Found::of_bytes(LOCK.as_bytes()) else {
                panic!("not a lock")
            };
            let mut stored = lock.to_cache_bytes();
            for (position, byte) in bytes.iter().zip(LOCK.as_bytes()).enumerate() {
                if byte.0 != byte.1 {
                    let at = (position * 7) % stored.len();
                    stored[at] = stored[at].wrapping_add(byte.0.wrapping_sub(*byte.1));
                }
            }
            stored.truncate(stored.len().min(bytes.len() * 2));
            Lock::from_cache_bytes(&stored).is_some_and(|lock| !lock.to_yaml().is_empty())
        },
    });
}

#[test]
fn directory_manifests() {
    run(&Target {
        seeds: &[
            "pivot directory 1\n",
            "pivot directory 1\nd\ta/e\nl\ta/l\t../x y\nf\t328592d381e297f9\t1024\tb\n",
            "pivot directory 1\nf\t0000000000000001\t7\ta/b\nx\t0000000000000001\t7\tz\\xff\\x0a\\x5c\n",
        ],
        parse: |bytes| {
            let Ok(manifest) = DirectoryManifest::parse(bytes) else { return false };
            assert_eq!(manifest.to_bytes(), bytes, "another spelling was accepted");
            true
        },
    });
}

const DEFINITION: &str = r#"
stages:
  prepare:
    cmd: python prepare.py && sh "x y.sh"
    deps: [data.csv, configs]
    outs: [clean.parquet, {dir: {cache: false}}]
    mutex: [gpu, "*"]
    cwd: sub
  train:
    python: stages.train
    deps: [clean.parquet, "configs/${model}.yaml"]
    outs: ["models/${model}_${data}.pkl", {log.db: {incremental: true}}]
    metrics: [m.json]
    plots: [{curve.csv: {x: step, y: loss}}]
    params: {lr: 0.01, layers: [1, 2]}
    matrix:
      model:
        bert: {params: {hidden: 768}}
        gpt: {deps+: [data/gpt.json]}
      data: [swe, human]
"#;

#[test]
fn definitions() {
    run(&Target {
        seeds: &[DEFINITION, "stages: {a: {cmd: x}}", "stages:\n  a: &a {cmd: x}\n  b: *a\n"],
        parse: |bytes| {
            let Ok(stages) = parse_definition("pivot.yaml", bytes) else { return false };
            for out in stages.iter().flat_map(|stage| &stage.outs) {
                let path = out.path.as_str();
                assert!(
                    !path.starts_with('/') && !path.split('/').any(|part| part == ".."),
                    "{path}"
                );
            }
            true
        },
    });
}

#[test]
fn params_files() {
    run(&Target {
        seeds: &[
            "train:\n  learning_rate: 0.001\n  epochs: 200\n  deep: {a: [1, {b: null}]}\n",
            "a: &x {k: 1}\nb: *x\n",
            "train@bert:\n  text: |\n    lines\n    of it\n",
        ],
        parse: |bytes| ParamsFile::parse(bytes).is_ok(),
    });
}

#[test]
fn settings() {
    run(&Target {
        seeds: &[
            "remotes:\n  origin: s3://bucket/pivot\ndefault_remote: origin\n",
            "python: .venv/bin/python\ncache: {dir: /data, checkout_mode: hardlink}\n",
            "core:\n  jobs: 4 # four\n  durability: full\n",
        ],
        parse: |bytes| {
            let _ = as_text(bytes, |text| {
                let Ok(mut file) = YamlText::parse("config.yaml", text.to_owned()) else {
                    return false;
                };
                let value = Value::from_yaml("a b").unwrap();
                if file.set(&["core", "jobs"], &value).is_ok() {
                    let again = YamlText::parse("config.yaml", file.text().to_owned());
                    assert_eq!(again.unwrap().value(), file.value());
                    assert_eq!(file.unset(&["core", "jobs"]).ok(), Some(true));
                }
                true
            });
            SETTINGS.with(|dir| {
                std::fs::write(dir.path().join(".pivot/config.yaml"), bytes).unwrap();
                pivot_exec::read_config(dir.path()).is_ok()
            })
        },
    });
}

thread_local! {
    static SETTINGS: tempfile::TempDir = {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".pivot")).unwrap();
        dir
    };
}

#[test]
fn frames_of_the_helper() {
    run(&Target {
        seeds: &[
            "\u{2}\0\0\0{}",
            "\u{1b}\0\0\0{\"type\": \"result\", \"ok\": 1}",
            "\u{c}\0\0\0{\"a\": [1.5]}",
        ],
        parse: |bytes| {
            let Ok(body) = read_frame(&mut Cursor::new(bytes)) else { return false };
            if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&body) {
                let mut printed = Vec::new();
                write_frame(&mut printed, &value).unwrap();
                let again = read_frame(&mut Cursor::new(printed)).unwrap();
                assert_eq!(serde_json::from_slice::<serde_json::Value>(&again).unwrap(), value);
            }
            true
        },
    });
}

const WITNESS: &str = r#"{"schema": 1, "began_ns": 5, "replayable": true, "reasons": [],
"sources": [{"path": "/none/p.py", "hash": "1f0c", "stat": [1, 2, 3, 4, 5]}], "opened": [],
"lookups": [{"dir": "/none", "stat": null, "names": ["a"], "present": null}],
"listings": [{"dir": "/none", "stat": [1, 2, 3, 4, 5], "hash": "1f0c"}], "sites": [],
"distributions": [], "environment": {"A": null, "B": "x"}, "environment_all": null,
"exists": [{"path": "/none/x", "kind": "file", "stat": null}],
"interpreter": {"executable": "/none/python", "stat": [1, 2, 3, 4, 5]}}"#;

#[test]
fn what_python_declares() {
    run(&Target {
        seeds: &[
            r#"{"name": "train", "function": {"module": "m", "qualname": "train"}, "place": {"file": "p.py", "line": 3}, "deps": ["a"], "outs": [{"path": "b", "kind": "plot", "x": "e"}], "params": {"lr": 0.1}, "mutex": ["gpu"], "cwd": "sub"}"#,
            WITNESS,
        ],
        parse: |bytes| {
            let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else { return false };
            let witness = serde_json::from_slice::<Witness>(bytes);
            if let Ok(witness) = &witness {
                drop(witness.check());
                let printed = serde_json::to_vec(witness).unwrap();
                assert_eq!(
                    serde_json::from_slice::<Witness>(&printed).ok().as_ref(),
                    Some(witness)
                );
            }
            let declared = DeclaredStage::from_json(&json);
            let is_declared = declared.is_ok_and(|declared| declared.into_stage().is_ok());
            witness.is_ok() || is_declared
        },
    });
}

#[test]
fn urls_of_remotes() {
    run(&Target {
        seeds: &[
            "s3://my-bucket/pivot-cache",
            "s3://bucket",
            "/data/remote",
            "../beside",
            "file:///data/with%20space",
        ],
        parse: |bytes| {
            as_text(bytes, |text| {
                let Ok(url) = RemoteUrl::parse(text) else { return false };
                assert_eq!(RemoteUrl::parse(&url.to_string()).ok(), Some(url));
                true
            })
        },
    });
}

#[test]
fn overrides_of_params() {
    run(&Target {
        seeds: &["train.lr=0.1", "train.v2.opt={a: [1, 2], b: \"x\"}", "train.a.b.c=no"],
        parse: |bytes| {
            as_text(bytes, |text| {
                let stages = ["train", "train.v2@a"].map(|name| name.parse::<StageName>().unwrap());
                drop(Override::parse_before_stages(text));
                drop(Value::from_yaml(text));
                Override::parse(text, &stages).is_ok()
            })
        },
    });
}

#[test]
fn names_and_paths() {
    run(&Target {
        seeds: &["train@bert_swe", "a/b/c.txt", "328592d381e297f9", "dir/"],
        parse: |bytes| {
            as_text(bytes, |text| {
                let path = text.parse::<ProjectPath>();
                if let Ok(path) = &path {
                    assert_eq!(path.as_str().parse::<ProjectPath>().ok().as_ref(), Some(path));
                    let parts = path.as_str().split('/');
                    assert!(
                        parts.clone().count() > 0 && !parts.into_iter().any(|part| part == "..")
                    );
                }
                if let Ok(name) = text.parse::<StageName>() {
                    assert_eq!(name.as_str(), text);
                    assert!(!text.contains(['/', '\0']) && !text.starts_with('.'));
                }
                if let Ok(id) = text.parse::<ObjectId>() {
                    assert_eq!(id.to_string(), text);
                }
                if let Ok(hash) = text.parse::<CodeHash>() {
                    assert_eq!(hash.to_string(), text);
                }
                if let Ok(key) = text.parse::<RecordKey>() {
                    assert_eq!(key.to_string(), text);
                }
                path.is_ok()
            })
        },
    });
}
