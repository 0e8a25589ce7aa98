//! Replays what real servers answered against this crate's own APIs, fed with the same data.
//!
//! The cases lie outside the repository: in `corpus/` of the directory that `HARNESS_SHARED` names,
//! else of `../shared` beside the repository. Without them these tests say so and pass. Comparing is
//! done by the code of the conformance example, which shows every difference:
//! `cargo run -p harness-evidence --example conformance -- replay --data DIR --cases FILE -v`.

#[path = "../examples/conformance/compare.rs"]
mod compare;
#[allow(dead_code, reason = "the example sends the data to servers too")]
#[path = "../examples/conformance/feed.rs"]
mod feed;
#[allow(dead_code, reason = "the example sends the data to servers too")]
#[path = "../examples/conformance/remote_write.rs"]
mod remote_write;
#[allow(dead_code, reason = "the example asks servers too and shows more")]
#[path = "../examples/conformance/replay.rs"]
mod replay;

use std::path::PathBuf;

fn corpus() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let shared = std::env::var_os("HARNESS_SHARED").map_or_else(beside, PathBuf::from);
    Some(shared.join("corpus")).filter(|dir| dir.is_dir())
}

/// Replays one file. All cases must be as recorded but for those that may be refused and those of
/// `deviations`, each of which must still deviate: an entry that no longer holds is to be removed.
async fn replayed(file: &str, refused: &[&str], deviations: &[&str]) {
    let Some(dir) = corpus() else {
        println!("no corpus: neither $HARNESS_SHARED nor ../shared is there; nothing was compared");
        return;
    };
    let cases = std::fs::read_to_string(dir.join("cases").join(file)).expect("the corpus' cases");
    let backend = file.strip_suffix(".jsonl").expect("a file of cases");
    let server = feed::embedded(backend, &dir.join("data"))
        .await
        .expect("the corpus' data");
    let tally = replay::replay(&server, &cases).await.expect("answers");
    let ids = |all: &[replay::Miss]| -> Vec<String> { all.iter().map(|m| m.id.clone()).collect() };
    for m in &tally.failed {
        println!("{} {}\n    {}", m.id, m.query, m.why);
    }
    assert_eq!(
        ids(&tally.failed),
        deviations,
        "other than recorded, of {}",
        tally.passed
    );
    assert_eq!(ids(&tally.refused), refused, "refused");
    assert!(tally.passed > 150, "only {} cases passed", tally.passed);
}

#[tokio::test]
async fn prometheus_answers_as_recorded() {
    replayed("prometheus.jsonl", &[], &[]).await;
}

#[tokio::test]
async fn loki_answers_as_recorded() {
    replayed(
        "loki.jsonl",
        &["loki-vector-agg-022", "loki-metadata-018"],
        &[],
    )
    .await;
}

#[tokio::test]
async fn tempo_answers_as_recorded() {
    // The reasons are in docs/CONFORMANCE.md.
    let refused = [
        "tempo3-compare-003",
        "tempo3-compare-005",
        "tempo3-compare-006",
        "tempo3-compare-008",
    ];
    let deviations = [
        "tempo3-intrinsic-046",
        "tempo3-attribute-088",
        "tempo3-attribute-091",
        "tempo3-attribute-093",
    ];
    replayed("tempo3.jsonl", &refused, &deviations).await;
}

/// A comparison that accepts everything would prove nothing.
#[test]
fn differences_are_seen() {
    let case = serde_json::json!({
        "backend": "prometheus", "path": "/api/v1/query", "status": 200,
        "content_type": "application/json",
        "response": {"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"a": "1"}, "value": [1.0, "2"]}]}},
    });
    let answer = |value: &str, label: &str| compare::Answer {
        status: 200,
        content_type: "application/json; charset=utf-8".into(),
        body: serde_json::json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"a": label}, "value": [1.0, value]}]}}),
    };
    assert!(compare::compare(&case, &answer("2", "1")).is_ok());
    assert!(compare::compare(&case, &answer("2.0001", "1")).is_err());
    assert!(compare::compare(&case, &answer("2", "2")).is_err());
    let refused = compare::Answer {
        status: 400,
        ..answer("2", "1")
    };
    assert!(compare::compare(&case, &refused).is_err());
}
