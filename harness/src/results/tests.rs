use super::*;

#[test]
fn names_are_read_as_they_are_written() {
    let shard: Shard = "3/8".parse().unwrap();
    let name = named(shard, "run.with-dots-20261126T080000Z-0a1b");
    assert_eq!(name, "00003.run.with-dots-20261126T080000Z-0a1b");
    assert_eq!(
        parted(&format!("{name}.json")),
        Some((3, "run.with-dots-20261126T080000Z-0a1b"))
    );
    assert_eq!(parted("x.json"), None);
    assert_eq!(parted("no-dot"), None);
}

#[test]
fn a_thousand_shards_ask_less_often_than_ten() {
    assert_eq!(every(10), Duration::from_millis(250));
    assert_eq!(every(1_000), Duration::from_secs(2));
    assert_eq!(every(u32::MAX), Duration::from_secs(5));
}

#[tokio::test]
async fn what_is_there_is_never_replaced() {
    let keep = tempfile::tempdir().unwrap();
    let store = Store::open(&keep.path().display().to_string()).unwrap();
    assert!(store.read::<u32>("start.json").await.unwrap().is_none());
    assert!(store.create("start.json", &1).await.unwrap());
    assert!(
        store.create("start.json", &1).await.unwrap(),
        "tried again, it finds itself"
    );
    assert!(!store.create("start.json", &2).await.unwrap());
    assert_eq!(store.read::<u32>("start.json").await.unwrap(), Some(1));
    store.create("ready/00000.a.json", &1).await.unwrap();
    store.create("ready/deep/er.json", &1).await.unwrap();
    assert_eq!(store.list("ready").await.unwrap(), ["00000.a.json"]);
    assert!(store.list("nothing").await.unwrap().is_empty());
}

#[tokio::test]
async fn an_object_comes_back_as_it_was_or_not_at_all() {
    let keep = tempfile::tempdir().unwrap();
    let store = Store::open(&keep.path().join("place").display().to_string()).unwrap();
    let (from, to) = (keep.path().join("from"), keep.path().join("below/to"));
    // Larger than a part, so that it goes in several.
    let body: Vec<u8> = (0..PART as u32 + 70_000).map(|n| n as u8).collect();
    std::fs::write(&from, &body).unwrap();
    let object = store.upload("shards/a/file", &from).await.unwrap();
    assert_eq!(object.bytes, body.len() as u64);
    store.download("shards/a/file", &object, &to).await.unwrap();
    assert!(std::fs::read(&to).unwrap() == body);
    for wrong in [
        Object {
            bytes: object.bytes - 1,
            ..object.clone()
        },
        Object {
            sha256: "0".repeat(64),
            ..object.clone()
        },
    ] {
        let error = store.download("shards/a/file", &wrong, &to).await;
        assert!(
            matches!(error, Err(StoreError::Changed { .. })),
            "{error:?}"
        );
    }
    let error = store.download("shards/a/none", &object, &to).await;
    assert!(
        matches!(error, Err(StoreError::Changed { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_directorys_clock_is_ours() {
    let keep = tempfile::tempdir().unwrap();
    let store = Store::open(&keep.path().display().to_string()).unwrap();
    let clock = store.clock().await.unwrap();
    assert!(clock.least_ms <= 0 && clock.most_ms >= 0, "{clock:?}");
}
