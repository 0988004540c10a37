//! Where a request goes: which host, and what stands in its path.

use super::*;
use crate::options::Addressing;
use server::{env, keys};

/// The URL of an object, without its query.
fn url_of(bucket: &str, prefix: &str, options: &RemoteOptions, id: ObjectId) -> String {
    let remote = S3Remote::with_env(&s3(bucket, prefix), options, env(&keys())).unwrap();
    let url = remote.alone(async |engine| {
        let key = engine.object_key(id);
        let signed =
            engine.store().signed_url(http::Method::GET, &key, Duration::from_secs(60)).await;
        Ok(signed.unwrap().to_string())
    });
    url.unwrap().split('?').next().unwrap().to_owned()
}

#[test]
fn the_bucket_stands_in_the_host_or_in_the_path() {
    let id = "abcdef0123456789".parse().unwrap();
    let (auto, path, host) = (Addressing::Auto, Addressing::Path, Addressing::Virtual);
    let minio = Some("http://minio:9000/");
    let cases = [
        (None, auto, "b", "https://b.s3.eu-1.amazonaws.com/p/"),
        (None, path, "b", "https://s3.eu-1.amazonaws.com/b/p/"),
        // The certificate of `*.s3.….amazonaws.com` is not for names with a dot.
        (None, auto, "my.data", "https://s3.eu-1.amazonaws.com/my.data/p/"),
        (None, host, "my.data", "https://my.data.s3.eu-1.amazonaws.com/p/"),
        (minio, auto, "b", "http://minio:9000/b/p/"),
        (minio, path, "b", "http://minio:9000/b/p/"),
        (minio, host, "b", "http://b.minio:9000/p/"),
        (Some("https://host/below"), auto, "b", "https://host/below/b/p/"),
        (Some("https://host/below"), host, "b", "https://b.host/below/p/"),
    ];
    for (endpoint, addressing, bucket, start) in cases {
        let options = RemoteOptions {
            endpoint_url: endpoint.map(str::to_owned),
            region: Some("eu-1".to_owned()),
            addressing,
            ..RemoteOptions::default()
        };
        let expected = format!("{start}files/ab/cdef0123456789");
        assert_eq!(url_of(bucket, "p", &options, id), expected, "{endpoint:?} {addressing:?}");
    }
}
