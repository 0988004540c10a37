//! The table of faults: what a network and a server can do, and what comes of it.

use std::time::Instant;

use super::*;

const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>Reduce</Message></Error>";

fn answer(status: u16) -> Fault {
    Fault::Answer(status, String::new())
}

/// What passes is not noticed: not for small objects, not for parts, not for ranges.
#[test]
fn faults_that_pass() {
    let part = upload::PART_BYTES as usize;
    let cases = [
        ("503 burst", Fault::Answer(503, SLOW_DOWN.to_owned()), 3),
        ("429", answer(429), 2),
        ("500", answer(500), 2),
        ("502", answer(502), 5),
        ("reset", Fault::Reset, 2),
        ("reset after", Fault::ResetAfter, 1),
        ("stall", Fault::Stall, 1),
        ("cut body", Fault::Cut, 2),
        ("stalled body", Fault::StallBody, 1),
        ("wrong length", Fault::TooShort, 1),
        ("corrupt", Fault::Corrupt, 1),
    ];
    for size in [100, 2 * part + 100] {
        let Sides { server, mine, yours, _dir: dir } = sides();
        let id = mine.put_bytes(&noise(size)).unwrap();
        let [patient, impatient] = [server.remote(), server.impatient_remote()];
        let of = |fault: &Fault| match fault {
            Fault::Stall | Fault::StallBody => &impatient,
            _ => &patient,
        };
        let is_answer = |fault: &Fault| {
            !matches!(
                fault,
                Fault::Cut | Fault::StallBody | Fault::TooShort | Fault::Corrupt | Fault::TooLong
            )
        };
        for (name, fault, times) in &cases {
            // The bodies of answers to uploads say nothing.
            if is_answer(fault) {
                server.fault("PUT files/", fault.clone(), *times);
                let summary = push_quietly(&mine, of(fault), &[id]);
                assert_eq!(summary.failed.len(), 0, "{name} {size}: {summary:?}");
                assert_eq!(std::fs::read(path_in_bucket(&server, id)).unwrap(), noise(size));
                std::fs::remove_file(path_in_bucket(&server, id)).unwrap();
            }
        }
        moved(&push_quietly(&mine, &patient, &[id]));
        for (name, fault, times) in &cases {
            server.fault("GET files/", fault.clone(), *times);
            let yours = Cache::open(&dir.path().join(name));
            let summary = fetch_quietly(&yours, of(fault), &[id]);
            assert_eq!(summary.failed.len(), 0, "{name} {size}: {summary:?}");
            assert_eq!(yours.read(id).unwrap(), noise(size), "{name}");
        }
        drop(yours);
        assert_eq!(server.abandoned_uploads(), 0);
    }
}

/// The same for questions about single objects, and for the begin and the end of uploads in parts.
#[test]
fn faults_around_an_object_that_pass() {
    let internal = "<Error><Code>InternalError</Code><Message>Again</Message></Error>";
    let Sides { server, mine, .. } = sides();
    let [patient, impatient] = [server.remote(), server.impatient_remote()];
    let id = mine.put_bytes(&noise(upload::PART_BYTES as usize + 1)).unwrap();
    for (part, faults) in [
        ("HEAD files/", vec![]),
        ("POST uploads", vec![("cut body", Fault::Cut)]),
        (
            "POST uploadId",
            vec![
                ("cut body", Fault::Cut),
                ("an error with status 200", Fault::Answer(200, internal.to_owned())),
            ],
        ),
    ] {
        let usual = [
            ("503 burst", Fault::Answer(503, SLOW_DOWN.to_owned())),
            ("429", answer(429)),
            ("reset", Fault::Reset),
            ("reset after", Fault::ResetAfter),
            ("stall", Fault::Stall),
        ];
        for (name, fault) in faults.into_iter().chain(usual) {
            let remote = if matches!(fault, Fault::Stall) { &impatient } else { &patient };
            server.fault(part, fault, 1);
            let sent = push_quietly(&mine, remote, &[id]);
            assert_eq!(sent.failed.len(), 0, "{part} {name}: {sent:?}");
            assert_eq!(server.forget_rules(), 0, "{part} {name}");
            assert!(remote.contains(id).unwrap(), "{part} {name}");
            std::fs::remove_file(path_in_bucket(&server, id)).unwrap();
        }
    }
}

/// As long as something comes, an answer may take far longer than silence may.
#[test]
fn a_slow_server_is_waited_for() {
    let Sides { server, mine, yours, .. } = sides();
    let remote = server.impatient_remote();
    let id = mine.put_bytes(&noise(1000)).unwrap();
    moved(&push_quietly(&mine, &remote, &[id]));
    server.forget_log();
    server.fault("GET", Fault::Slow(Duration::from_millis(300)), 2);
    assert_eq!(remote.list().unwrap(), [id]);
    assert_eq!(moved(&fetch_quietly(&yours, &remote, &[id])), 1);
    assert_eq!((server.count("GET"), server.forget_rules()), (2, 0));
}

/// What does not pass fails the object, is named, leaves nothing, and harms no other object.
#[test]
fn faults_that_stay() {
    let denied = "<Error><Code>AccessDenied</Code><Message>No</Message></Error>";
    let cases = [
        (Fault::Answer(403, denied.to_owned()), "403 AccessDenied: No", 1),
        (answer(400), "400 Bad Request", 1),
        (answer(503), "503 Service Unavailable", 6),
        (answer(301), "another region", 1),
        (Fault::Reset, "the connection broke", 6),
        (Fault::Stall, "nothing was heard for 1.0 s", 6),
    ];
    for (fault, words, requests) in cases {
        let Sides { server, mine, yours, .. } = sides();
        let is_silence = matches!(fault, Fault::Stall);
        let remote = if is_silence { server.impatient_remote() } else { server.remote() };
        let ids: Vec<_> = (0..5_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
        let bad = ids[2].relative_path();
        let bad = bad.to_str().unwrap();
        server.fault(&format!("PUT {bad}"), fault.clone(), requests);
        let sent = push_quietly(&mine, &remote, &ids);
        assert_eq!((sent.moved, sent.failed.len()), (4, 1), "{fault:?}");
        assert_eq!(sent.failed[0].0, ids[2]);
        let text = sent.failed[0].1.to_string();
        assert!(text.contains(words) && text.contains(&ids[2].to_string()), "{fault:?}: {text}");
        assert_eq!(server.count(&format!("PUT {bad}")), requests, "{fault:?}");
        assert_eq!(remote.list().unwrap().len(), 4);

        moved(&push_quietly(&mine, &remote, &ids));
        server.fault(&format!("GET {bad}"), fault.clone(), requests);
        let brought = fetch_quietly(&yours, &remote, &ids);
        assert_eq!((brought.moved, brought.failed.len()), (4, 1), "{fault:?}");
        assert!(brought.failed[0].1.to_string().contains(words), "{:?}", brought.failed);
        assert!(!yours.contains(ids[2]));
    }
}

#[test]
fn what_is_damaged_on_the_remote_is_never_kept() {
    let cases = [("corrupt", Fault::Corrupt), ("long", Fault::TooLong), ("short", Fault::TooShort)];
    for (name, fault) in cases {
        let Sides { server, mine, yours, .. } = sides();
        let remote = server.remote();
        let id = mine.put_bytes(b"the model that it should be").unwrap();
        moved(&push_quietly(&mine, &remote, &[id]));
        server.forget_log();
        server.fault("GET files/", fault, usize::MAX);
        let brought = fetch_quietly(&yours, &remote, &[id]);
        assert_eq!((brought.moved, brought.failed.len()), (0, 1), "{name}");
        if name == "corrupt" {
            assert!(matches!(brought.failed[0].1, RemoteError::Corrupt { .. }), "{brought:?}");
            assert_eq!(server.count("GET files/"), 2, "once more, since it may pass");
        }
        assert!(!yours.contains(id));
    }
}

#[test]
fn an_object_of_another_size_is_healed_if_it_is_damaged() {
    let Sides { server, mine, .. } = sides();
    let remote = server.remote();
    let id = mine.put_bytes(b"model").unwrap();
    moved(&push_quietly(&mine, &remote, &[id]));
    let path = path_in_bucket(&server, id);
    std::fs::write(&path, b"mod").unwrap();
    assert_eq!(moved(&push_quietly(&mine, &remote, &[id])), 1);
    assert_eq!(std::fs::read(&path).unwrap(), b"model");
}

#[test]
fn the_number_of_requests_is_halved_when_the_server_is_busy() {
    let Sides { server, mine, .. } = sides();
    let remote = server.remote();
    let ids: Vec<_> = (0..200_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    server.fault("PUT files/", Fault::Answer(503, SLOW_DOWN.to_owned()), 24);
    assert_eq!(moved(&push_quietly(&mine, &remote, &ids)), 200);
    let slowdowns = remote.engine().unwrap().wire.slowdowns();
    assert!((1..=20).contains(&slowdowns), "{slowdowns}");
}

#[test]
fn a_server_that_knows_no_conditions_is_written_to_without() {
    let Sides { server, mine, .. } = sides();
    let remote = server.remote();
    let ids: Vec<_> = (0..3_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    // One request at a time: the faults are for conditional ones, of which there is only one.
    server.fault("PUT files/", answer(501), 1);
    assert_eq!(moved(&push_quietly(&mine, &remote, &ids[..1])), 1);
    assert_eq!(moved(&push_quietly(&mine, &remote, &ids)), 2);
}

#[test]
fn without_a_bucket_nothing_is_missing() {
    let Sides { server, mine, yours, .. } = sides();
    let id = mine.put_bytes(b"model").unwrap();
    let remote = server.remote();
    let body = "<Error><Code>NoSuchBucket</Code><Message>It is not there</Message></Error>";
    for method in ["GET", "PUT"] {
        server.fault(method, Fault::Answer(404, body.to_owned()), usize::MAX);
    }
    for summary in [fetch_quietly(&yours, &remote, &[id]), push_quietly(&mine, &remote, &[id])] {
        let text = summary.failed[0].1.to_string();
        assert!(text.contains("NoSuchBucket: It is not there"), "{text}");
    }
    assert!(remote.list().is_err());
}

#[test]
fn a_server_that_is_gone_fails_all_soon() {
    let Sides { mine, yours, .. } = sides();
    let ids: Vec<_> = (0..2000_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let options = RemoteOptions {
        endpoint_url: Some(format!("http://{address}")),
        retry_delay: Duration::from_millis(1),
        ..RemoteOptions::default()
    };
    let remote =
        S3Remote::with_env(&s3("bucket", ""), &options, server::env(&server::keys())).unwrap();
    let began = Instant::now();
    let sent = push_quietly(&mine, &remote, &ids);
    assert_eq!(sent.failed.len(), 2000);
    assert!(sent.failed[0].1.to_string().contains("cannot connect"), "{}", sent.failed[0].1);
    let brought = fetch_quietly(&yours, &remote, &ids);
    assert_eq!(brought.failed.len(), 2000);
    assert!(brought.failed.iter().any(|(_, e)| e.to_string().contains("not tried")));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn an_interrupted_upload_takes_its_parts_back() {
    let Sides { server, mine, .. } = sides();
    let part = upload::PART_BYTES as usize;
    let large = mine.put_bytes(&noise(3 * part)).unwrap();
    let small = mine.put_bytes(b"small").unwrap();
    let options = server.options();
    let remote = server.remote_with(&options);
    // Two parts arrive, the third never does.
    server.fault("PUT partNumber=3", Fault::Stall, usize::MAX);
    let interrupt = options.interrupt.clone();
    let sent = push(&mine, &remote, &[large, small], &mut |event| {
        if let Progress::Done { .. } = event {
            interrupt.set();
        }
    });
    assert_eq!(sent.moved, 1);
    assert!(matches!(sent.failed[..], [(id, RemoteError::Interrupted)] if id == large), "{sent:?}");
    assert_eq!(server.count("DELETE uploadId"), 1);
    assert_eq!(server.abandoned_uploads(), 0);
    assert_eq!(push_quietly(&mine, &remote, &[large]).failed.len(), 1, "it stays interrupted");
}
