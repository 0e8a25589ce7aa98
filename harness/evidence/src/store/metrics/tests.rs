use super::*;

fn l(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied()).expect("valid labels")
}

fn m(name: &str, op: MatchOp, value: &str) -> Matcher {
    Matcher::new(name, op, value).expect("valid matcher")
}

#[test]
fn refuses_out_of_order_and_contradiction_and_counts_them() {
    let store = MetricStore::default();
    let a = l(&[("__name__", "a")]);
    store.append(&a, 1000, 1.0).expect("first");
    store.append(&a, 1000, 1.0).expect("exact repetition");
    assert!(matches!(
        store.append(&a, 1000, 2.0),
        Err(AppendError::Duplicate { t_ms: 1000, .. })
    ));
    assert!(matches!(
        store.append(&a, 999, 1.0),
        Err(AppendError::OutOfOrder {
            newest_ms: 1000,
            ..
        })
    ));
    store.append(&a, 1001, stale_nan()).expect("stale marker");
    let s = store.stats();
    assert_eq!(
        (s.series, s.samples, s.duplicates, s.out_of_order),
        (1, 2, 1, 1)
    );
}

#[test]
fn full_store_refuses_loudly_and_keeps_what_it_has() {
    let store = MetricStore::with_memory_limit(2000);
    let mut refused = None;
    for i in 0..100 {
        if let Err(e) = store.append(&l(&[("__name__", "a"), ("i", &i.to_string())]), 1, 1.0) {
            refused = Some(e);
            break;
        }
    }
    assert!(matches!(
        refused,
        Some(AppendError::Full { limit: 2000, .. })
    ));
    let s = store.stats();
    assert!(s.bytes <= 2000 && s.series > 0 && s.over_limit == 1);
}

#[test]
fn long_series_are_accounted() {
    let store = MetricStore::with_memory_limit(100_000);
    let a = l(&[("__name__", "a")]);
    let stored = (0..100_000)
        .take_while(|&t| store.append(&a, t, 0.0).is_ok())
        .count();
    // 16 bytes a sample: no more than 6,250 fit, and growth must not waste most of the room.
    assert!((4_000..=6_250).contains(&stored), "{stored}");
}

#[test]
fn selects_by_every_kind_of_matcher_and_by_time() {
    let store = MetricStore::default();
    for (job, code) in [("x", "200"), ("x", "500"), ("y", "200")] {
        let s = l(&[("__name__", "req"), ("job", job), ("code", code)]);
        store.append(&s, 10, 1.0).expect("ok");
        store.append(&s, 20, 2.0).expect("ok");
    }
    store
        .append(&l(&[("__name__", "other")]), 10, 1.0)
        .expect("ok");
    let count = |ms: &[Matcher], a, b| {
        store
            .read()
            .select(ms, a, b, &mut 1000)
            .expect("in budget")
            .len()
    };
    let name = m("__name__", MatchOp::Equal, "req");
    assert_eq!(count(std::slice::from_ref(&name), 0, 100), 3);
    assert_eq!(
        count(&[name.clone(), m("code", MatchOp::Regex, "5..")], 0, 100),
        1
    );
    assert_eq!(
        count(&[name.clone(), m("code", MatchOp::NotRegex, "5..")], 0, 100),
        2
    );
    assert_eq!(
        count(&[name.clone(), m("job", MatchOp::NotEqual, "x")], 0, 100),
        1
    );
    assert_eq!(count(&[m("job", MatchOp::Equal, "")], 0, 100), 1);
    assert_eq!(count(std::slice::from_ref(&name), 21, 100), 0);
    let got = store
        .read()
        .select(std::slice::from_ref(&name), 15, 20, &mut 1000)
        .expect("in budget");
    assert!(got.iter().all(|s| s.times == [20] && s.values == [2.0]));
    assert!(store.read().select(&[name], 0, 100, &mut 3).is_err());
}
