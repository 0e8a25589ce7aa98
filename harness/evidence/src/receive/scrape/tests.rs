use super::*;
use crate::store::metrics::{MatchOp, Matcher, is_stale};
use axum::Router;
use axum::routing::get;
use std::sync::Mutex;

type Answer = (u16, &'static str, String);

/// A service whose answer the test sets; returns its URL.
async fn service(answer: Arc<Mutex<Answer>>) -> String {
    let app = Router::new().route(
        "/metrics",
        get(move || {
            let (status, kind, body) = answer.lock().expect("no panic holds it").clone();
            async move {
                (
                    http::StatusCode::from_u16(status).expect("valid status"),
                    [(http::header::CONTENT_TYPE, kind)],
                    body,
                )
            }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let addr = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{addr}/metrics")
}

fn target(url: &str) -> ScrapeTarget {
    let minute = Duration::from_secs(60);
    ScrapeTarget::new("sut", url, minute, minute).expect("valid target")
}

/// `(labels without job and instance, value)` of everything stored under a name.
fn stored(store: &MetricStore, name: &str) -> Vec<(String, f64)> {
    let m = Matcher::new("__name__", MatchOp::Equal, name).expect("valid");
    store
        .read()
        .select(&[m], i64::MIN, i64::MAX, &mut 1000)
        .expect("in budget")
        .into_iter()
        .map(|s| {
            assert_eq!(s.labels.get("job"), Some("sut"));
            let shown = s
                .labels
                .filtered(|n| !["job", "instance", "__name__"].contains(&n));
            (shown.to_string(), *s.values.last().expect("not empty"))
        })
        .collect()
}

#[tokio::test]
async fn stores_samples_with_own_labels_and_reports() {
    let text = "a{job=\"theirs\"} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\n".to_string();
    let answer = Arc::new(Mutex::new((200, "text/plain; version=0.0.4", text)));
    let url = service(answer).await;
    let store = Arc::new(MetricStore::default());
    let report = scrape_once(Arc::clone(&store), target(&url)).await;
    assert_eq!((report.samples, report.up, report.error), (2, true, None));
    assert_eq!(
        stored(&store, "a"),
        [("{exported_job=\"theirs\"}".into(), 1.0)]
    );
    assert_eq!(stored(&store, "h_bucket"), [("{le=\"1.0\"}".into(), 2.0)]);
    assert_eq!(stored(&store, "up"), [("{}".into(), 1.0)]);
    assert_eq!(
        stored(&store, "scrape_samples_scraped"),
        [("{}".into(), 2.0)]
    );
    let status = &store.targets.all()[0];
    assert_eq!((status.up, status.last_error.as_str()), (Some(true), ""));
}

/// Waits until the wall clock has moved: two scrapes within one millisecond would contradict.
async fn next_ms(after: i64) {
    while unix_ms(SystemTime::now()) <= after {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn failure_sets_up_to_zero_and_marks_everything_stale() {
    let answer = Arc::new(Mutex::new((200, "text/plain", "a 1\nb 1\n".to_string())));
    let url = service(Arc::clone(&answer)).await;
    let store = Arc::new(MetricStore::default());
    let mut scraper = Scraper::new(Arc::clone(&store), target(&url));
    let first = scraper.scrape_once().await;
    next_ms(first.t_ms).await;
    *answer.lock().expect("free") = (200, "text/plain", "a 2\n".to_string());
    let second = scraper.scrape_once().await;
    assert!(second.up);
    assert_eq!(stored(&store, "a")[0].1, 2.0);
    assert!(is_stale(stored(&store, "b")[0].1));
    for (bad, want) in [
        ((500, "text/plain", "a 3\n".to_string()), "500"),
        ((200, "text/html", "a 3\n".to_string()), "text/html"),
        ((200, "text/plain", "a 3\nb".to_string()), "line 2"),
    ] {
        next_ms(store.targets.all()[0].last_scrape.map_or(0, unix_ms)).await;
        *answer.lock().expect("free") = bad;
        let report = scraper.scrape_once().await;
        assert!(!report.up && report.samples == 0);
        assert!(report.error.is_some_and(|e| e.contains(want)));
        assert!(is_stale(stored(&store, "a")[0].1));
        assert_eq!(stored(&store, "up"), [("{}".into(), 0.0)]);
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_down() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let url = format!("http://{}/metrics", listener.local_addr().expect("address"));
    drop(listener);
    let store = Arc::new(MetricStore::default());
    let report = scrape_once(Arc::clone(&store), target(&url)).await;
    assert!(!report.up && report.error.is_some());
    assert_eq!(stored(&store, "up"), [("{}".into(), 0.0)]);
}

#[tokio::test]
async fn a_full_store_makes_the_target_look_down() {
    let many: String = (0..200).map(|i| format!("a{{i=\"{i}\"}} 1\n")).collect();
    let url = service(Arc::new(Mutex::new((200, "text/plain", many)))).await;
    let store = Arc::new(MetricStore::with_memory_limit(20_000));
    let report = scrape_once(Arc::clone(&store), target(&url)).await;
    assert!(!report.up);
    assert!(report.error.is_some_and(|e| e.contains("full")));
}

#[tokio::test]
async fn run_scrapes_until_it_is_told_to_stop() {
    let url = service(Arc::new(Mutex::new((
        200,
        "text/plain",
        "a 1\n".to_string(),
    ))))
    .await;
    let store = Arc::new(MetricStore::default());
    let stop = CancellationToken::new();
    let mut t = target(&url);
    (t.every, t.timeout) = (Duration::from_millis(5), Duration::from_secs(5));
    let task = tokio::spawn(run(Arc::clone(&store), t, stop.clone()));
    let samples = |store: &MetricStore| {
        let m = Matcher::new("__name__", MatchOp::Equal, "a").expect("valid");
        let got = store.read().select(&[m], i64::MIN, i64::MAX, &mut 100_000);
        got.expect("in budget").first().map_or(0, |s| s.times.len())
    };
    while samples(&store) < 3 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    task.await.expect("no panic");
}

#[test]
fn targets_that_cannot_be_scraped_are_refused_by_name() {
    let s = Duration::from_secs(1);
    let err =
        |url, every, timeout| ScrapeTarget::new("j", url, every, timeout).expect_err("refused");
    assert_eq!(
        err("https://x/metrics", s, s),
        TargetError::Scheme("https".into())
    );
    assert!(matches!(
        err("x:y:z", s, s),
        TargetError::Scheme(_) | TargetError::Url(..)
    ));
    assert!(matches!(
        err("http://x/", s, 2 * s),
        TargetError::Pace { .. }
    ));
    assert!(matches!(
        err("http://x/", Duration::ZERO, s),
        TargetError::Pace { .. }
    ));
}
