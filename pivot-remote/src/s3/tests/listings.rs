//! The faults of listings: those of the network, and what a server may tell that is not so.

use super::*;

/// So many sequences of bytes whose objects lie in one folder, so that they are listed together.
fn neighbors(count: usize) -> Vec<Vec<u8>> {
    let bytes = (0_u32..).map(|n| n.to_le_bytes().to_vec());
    let is_in_ab = |bytes: &Vec<u8>| ObjectId::of_bytes(bytes).to_string().starts_with("ab");
    bytes.filter(is_in_ab).take(count).collect()
}

fn entry(key: &str, size: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><Size>{size}</Size>\
         <LastModified>2026-01-01T00:00:00Z</LastModified><ETag>\"x\"</ETag></Contents>"
    )
}

fn page(inside: &str) -> String {
    format!("<?xml version=\"1.0\"?><ListBucketResult>{inside}</ListBucketResult>")
}

/// A page after which the server says that there is more.
fn page_with_token(inside: &str, token: &str) -> String {
    let token = format!("<NextContinuationToken>{token}</NextContinuationToken>");
    page(&format!("<IsTruncated>true</IsTruncated>{token}{inside}"))
}

#[test]
fn faults_that_pass() {
    let Sides { server, mine, .. } = sides();
    let [patient, impatient] = [server.remote(), server.impatient_remote()];
    let mut ids: Vec<_> = neighbors(40).iter().map(|b| mine.put_bytes(b).unwrap()).collect();
    ids.sort_unstable();
    moved(&push_quietly(&mine, &patient, &ids[..39]));
    server.forget_log();
    for (name, fault, times) in [
        ("503 burst", Fault::Answer(503, String::new()), 3),
        ("429", Fault::Answer(429, String::new()), 2),
        ("reset", Fault::Reset, 2),
        ("reset after", Fault::ResetAfter, 2),
        ("stall", Fault::Stall, 1),
        ("cut body", Fault::Cut, 2),
        ("stalled body", Fault::StallBody, 1),
        ("wrong length", Fault::TooShort, 2),
        ("corrupt", Fault::Corrupt, 2),
        ("a page of something else", Fault::Answer(200, "<html>Log in</html>".to_owned()), 2),
    ] {
        let remote = match fault {
            Fault::Stall | Fault::StallBody => &impatient,
            _ => &patient,
        };
        server.fault("GET list-type=2", fault.clone(), times);
        assert_eq!(remote.list().unwrap(), ids[..39], "{name}");
        server.fault("GET list-type=2", fault, times);
        assert_eq!(remote.present(&ids).unwrap(), ids[..39], "{name}");
        assert_eq!(server.count("GET list-type=2"), 2 * (times + 1), "{name}");
        server.forget_log();
    }
    assert_eq!(server.count("HEAD"), 0);
}

#[test]
fn faults_that_stay() {
    let object = "some/prefix/files/ab/cdef0123456789";
    let deep = |depth| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    let bomb = "<!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;\">]>";
    let not_understood = "the server's answer was not understood";
    for (name, status, text, words, requests) in [
        ("403", 403, String::new(), "403 Forbidden", 1),
        ("503", 503, String::new(), "503 Service Unavailable", 6),
        ("no end", 200, "<ListBucketResult>".to_owned(), "the server's listing has no end", 6),
        ("nothing", 200, String::new(), "the server's listing has no end", 6),
        ("too much", 200, page(&" ".repeat(9 << 20)), "is longer than 8 MiB", 1),
        ("crooked", 200, page(&entry(object, "3</Key>")), not_understood, 1),
        ("a bomb", 200, format!("{bomb}{}", page(&entry(object, "&b;"))), not_understood, 1),
        ("a size below zero", 200, page(&entry(object, "-1")), not_understood, 1),
        ("a size too large", 200, page(&entry(object, &"9".repeat(30))), not_understood, 1),
        ("no size", 200, page(&entry(object, "")), not_understood, 1),
        ("no key", 200, page("<Contents><Size>1</Size></Contents>"), "", 1),
        ("as deep as it is long", 200, page(&deep(400_000)), "", 1),
        ("the same page for ever", 200, page_with_token("", "same"), "round in a circle", 2),
        ("pages without end", 200, page_with_token("", "t{count}"), "does not end", 1000),
        (
            "the same object without end",
            200,
            page_with_token(&entry(object, "3"), "t{count}"),
            "does not end",
            1001,
        ),
    ] {
        let Sides { server, .. } = sides();
        server.fault("GET list-type=2", Fault::Answer(status, text), usize::MAX);
        let listed = server.remote().list();
        match listed {
            Ok(ids) => assert!(words.is_empty() && ids.is_empty(), "{name}: {ids:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!words.is_empty() && text.contains(words), "{name}: {text}");
            }
        }
        assert_eq!(server.count("GET"), requests, "{name}");
    }
}

/// What cannot be listed is asked for, and a push is none the worse for it.
#[test]
fn a_listing_that_leads_nowhere_costs_a_bounded_number_of_requests() {
    for (name, status, text, lists) in [
        ("not allowed", 403, String::new(), 1),
        ("not known", 501, String::new(), 1),
        ("pages without end", 200, page_with_token("", "t{count}"), 40),
    ] {
        let Sides { server, mine, .. } = sides();
        let ids: Vec<_> = neighbors(40).iter().map(|b| mine.put_bytes(b).unwrap()).collect();
        let remote = server.remote();
        moved(&push_quietly(&mine, &remote, &ids[..10]));
        server.forget_log();
        server.fault("GET list-type=2", Fault::Answer(status, text), usize::MAX);
        let sent = push_quietly(&mine, &remote, &ids);
        assert_eq!((moved(&sent), sent.already_there), (30, 10), "{name}");
        let asked = (server.count("GET list-type=2"), server.count("HEAD"));
        assert_eq!(asked, (lists, 40), "{name}");
    }
}

#[test]
fn keys_that_lead_elsewhere_are_passed_over() {
    let Sides { server, yours, .. } = sides();
    let remote = server.remote();
    let keys = [
        "some/prefix/files/../../../etc/passwd",
        "some/prefix/files/ab/../../../../x",
        "../files/ab/cdef0123456789",
        "/some/prefix/files/ab/cdef0123456781",
        "other/prefix/files/ab/cdef0123456789",
        "some/prefix/files/ab/CDEF0123456789",
        "some/prefix/files/ab/cdef0123456789",
        "some/prefix//files/ab/cdef0123456780",
        "some/prefix/files/ab/evil\u{7f}",
        "some/prefix/files/&#x61;b/cdef0123456782",
    ];
    let text = page(&keys.map(|key| entry(key, "9")).concat());
    server.fault("GET list-type=2", Fault::Answer(200, text), usize::MAX);
    let listed = remote.list().unwrap();
    let only = "abcdef0123456789".parse().unwrap();
    assert!(listed.contains(&only), "{listed:?}");
    assert!(listed.len() <= 2, "{listed:?}");
    let brought = fetch_quietly(&yours, &remote, &listed);
    assert_eq!(brought.failed.len(), listed.len());
    assert!(brought.failed.iter().all(|(_, e)| matches!(e, RemoteError::Missing { .. })));
}

/// A size that is not that of the object has the object looked at; then what it is counts.
#[test]
fn wrong_sizes_neither_lose_nor_damage_an_object() {
    let Sides { server, mine, yours, .. } = sides();
    let remote = server.remote();
    let bytes = neighbors(40);
    let ids: Vec<_> = bytes.iter().map(|b| mine.put_bytes(b).unwrap()).collect();
    moved(&push_quietly(&mine, &remote, &ids[..2]));
    std::fs::write(path_in_bucket(&server, ids[1]), b"damaged").unwrap();
    let entries: String = ids[..3]
        .iter()
        .map(|id| entry(&format!("some/prefix/{}", id.relative_path().display()), "999"))
        .collect();
    server.fault("GET list-type=2", Fault::Answer(200, page(&entries)), usize::MAX);
    let sent = push_quietly(&mine, &remote, &ids);
    // The first is as it should be, the second was damaged, the third was never there.
    assert_eq!((moved(&sent), sent.already_there), (39, 1));
    assert_eq!(moved(&fetch_quietly(&yours, &remote, &ids)), 40);
}
