//! What registries say of images that are not taken.

use super::*;
use crate::registry::{Described, DescribedPlatform, Found, describe, search};

#[tokio::test]
async fn a_name_is_described_with_its_platforms() {
    let registry = Registry::new().await;
    let image = registry.publish("hello");
    let ask = async |name: String| {
        let reference = name.parse().unwrap();
        describe(&network(), &reference, &Credentials::default()).await
    };
    let amd64 = DescribedPlatform {
        architecture: "amd64".into(),
        os: "linux".into(),
        ..DescribedPlatform::default()
    };
    let index = ask(registry.reference()).await.unwrap();
    assert_eq!(
        (index.digest, &index.platforms[..]),
        (image.index, &[amd64.clone()][..])
    );
    let name = format!("127.0.0.1:{}/a/b@{}", registry.port, image.manifest);
    let manifest: Described = ask(name).await.unwrap();
    assert_eq!(manifest.digest, image.manifest);
    assert_eq!(manifest.platforms, [amd64]);
    let name = format!("127.0.0.1:{}/a/b:other", registry.port);
    let error = ask(name).await.unwrap_err().to_string();
    assert!(
        error.ends_with("manifest unknown: manifest unknown"),
        "{error}"
    );
}

#[tokio::test]
async fn a_registry_is_searched_by_its_old_api() {
    let registry = Registry::new().await;
    let term = format!("127.0.0.1:{}/a/b", registry.port);
    let ask = async || search(&network(), &term, 25, &alice()).await;
    let error = ask().await.unwrap_err().to_string();
    assert_eq!(error, "Unexpected status code 404");
    let path = "/v1/search?q=a%2Fb&n=25";
    let body = r#"{"results":[{"name":"x","star_count":2,"is_official":true},{"name":"y"}]}"#;
    let mut answer = page(body);
    answer.authorization = Some(ALICE.into());
    registry.set(path, vec![answer]);
    let found = ask().await.unwrap();
    let x = Found {
        name: "x".into(),
        description: String::new(),
        star_count: 2,
        is_official: true,
    };
    assert_eq!((found.len(), &found[0]), (2, &x));
    // It is asked who it is without a password.
    assert_eq!(registry.seen()[0], "GET /v1/_ping");
    let error = search(&network(), "127.0.0.1:1/x", 25, &alice()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("invalid registry endpoint"), "{error}");
    assert!(error.contains("HTTP attempt"), "{error}");
}
