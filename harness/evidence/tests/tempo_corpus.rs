//! Replays the recorded answers of a real Tempo against the embedded one, fed with the same spans.
//!
//! The cases live outside the repository (`HARNESS_SHARED`, else `../shared` beside it) with the
//! script that compares them; without them, or without Python, the test says so and passes.

use std::path::PathBuf;
use std::process::Command;

use harness_evidence::Evidence;
use harness_evidence::serve::{Listeners, serve};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::net::TcpListener;

/// Cases that disagree on purpose, each with the reason.
const KNOWN: &[(&str, &str)] = &[
    (
        "tempo3-intrinsic-046",
        "the recorded block format does not store childCount, so nothing was found",
    ),
    (
        "tempo3-attribute-076",
        "the real server finds nothing with `^`; here it is a power",
    ),
    (
        "tempo3-attribute-088",
        "the real server fetches only what the negated condition asks for, and drops it",
    ),
    (
        "tempo3-attribute-091",
        "the real server does not fetch spans that lack an attribute",
    ),
    (
        "tempo3-attribute-093",
        "the real server does not fetch spans that lack an attribute",
    ),
    ("tempo3-compare-003", "compare() is refused"),
    ("tempo3-compare-005", "compare() is refused"),
    ("tempo3-compare-006", "compare() is refused"),
    ("tempo3-compare-008", "compare() is refused"),
];

fn corpus() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let shared = std::env::var_os("HARNESS_SHARED").map_or_else(beside, PathBuf::from);
    Some(shared.join("corpus")).filter(|dir| dir.join("compare.py").is_file())
}

#[tokio::test]
async fn answers_agree_with_the_recorded_tempo() {
    let Some(corpus) = corpus() else {
        println!("skipped: no corpus beside the repository and HARNESS_SHARED is not set");
        return;
    };
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: the comparing script needs python3");
        return;
    }
    let evidence = Evidence::default();
    let text = std::fs::read(corpus.join("data/traces.otlp.json")).expect("the corpus' spans");
    let request: ExportTraceServiceRequest = serde_json::from_slice(&text).expect("OTLP/JSON");
    assert_eq!(
        evidence.traces.ingest(request.resource_spans).accepted,
        2706
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let listeners = Listeners {
        tempo: Some(listener),
        ..Listeners::default()
    };
    tokio::spawn(serve(evidence, listeners, std::future::pending()));

    let report = tempfile::NamedTempFile::new().expect("a temporary file");
    let json = report.path().to_owned();
    let compared = tokio::task::spawn_blocking(move || {
        Command::new("python3")
            .arg(corpus.join("compare.py"))
            .arg(corpus.join("cases"))
            .args(["--tempo3", &url, "--show", "100", "--json"])
            .arg(json)
            .output()
            .expect("the comparing script runs")
    })
    .await
    .expect("no panic");
    println!("{}", String::from_utf8_lossy(&compared.stdout));

    let report = std::fs::read(report.path()).expect("the script's report");
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&report).expect("JSON");
    assert!(
        cases.len() > 300,
        "only {} cases were compared",
        cases.len()
    );
    let unexpected: Vec<_> = cases
        .iter()
        .filter(|c| c["verdict"] != "agree")
        .filter(|c| !KNOWN.iter().any(|(id, _)| c["id"] == *id))
        .collect();
    assert!(unexpected.is_empty(), "disagree: {unexpected:#?}");
    for (id, why) in KNOWN {
        let still = cases
            .iter()
            .any(|c| c["id"] == *id && c["verdict"] != "agree");
        assert!(still, "{id} agrees now, though {why}");
    }
}
