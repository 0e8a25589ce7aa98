use super::super::samples;
use super::*;

fn pages() -> Vec<(Report, String)> {
    [
        samples::pass(),
        samples::fail(),
        samples::inconclusive(),
        samples::invalid(),
        samples::hostile(),
    ]
    .into_iter()
    .map(|report| {
        let page = html(&report);
        (report, page)
    })
    .collect()
}

/// Tags in order, without attributes; `None` where the markup cannot be read.
fn tags(page: &str) -> Vec<String> {
    let body = page.split_once("</style>").unwrap().1;
    let tag =
        regex::Regex::new(r#"<(/?[a-z0-9]+)((?:\s+[a-zA-Z0-9-]+(?:="[^"<]*")?)*)\s*>"#).unwrap();
    assert_eq!(
        tag.find_iter(body).count(),
        body.matches('<').count(),
        "a `<` that is no tag"
    );
    tag.captures_iter(body)
        .map(|found| found[1].to_owned())
        .collect()
}

#[test]
fn nothing_is_loaded_run_or_linked_elsewhere() {
    let attribute = regex::Regex::new(r#"\s(src|href|on[a-z]+|srcset|action)="([^"]*)""#).unwrap();
    for (_, page) in pages() {
        assert!(page.contains("default-src 'none'"));
        let own = tags(&page);
        for banned in [
            "script",
            "img",
            "link",
            "iframe",
            "object",
            "embed",
            "base",
            "form",
            "foreignobject",
        ] {
            assert!(!own.iter().any(|tag| tag == banned), "{banned}");
        }
        let body = page.split_once("</style>").unwrap().1;
        for found in attribute.captures_iter(body) {
            // A link to the configured Grafana is followed by a reader's click alone.
            let linked = found[2].starts_with("https://grafana.example/explore?");
            assert!(
                &found[1] == "href" && (found[2].starts_with('#') || linked),
                "{}",
                &found[0]
            );
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}

#[test]
fn every_element_is_closed_in_order() {
    for (_, page) in pages() {
        let mut open: Vec<String> = vec!["html".into()];
        for tag in tags(&page) {
            match tag.strip_prefix('/') {
                Some("head") => {}
                Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
                None => open.push(tag),
            }
        }
        assert_eq!(open, Vec::<String>::new());
    }
}

#[test]
fn links_within_the_page_lead_somewhere_and_ids_are_unique() {
    let id = regex::Regex::new(r#"\sid="([^"]*)""#).unwrap();
    let link = regex::Regex::new(r##"href="#([^"]*)""##).unwrap();
    for (_, page) in pages() {
        let mut ids: Vec<String> = id
            .captures_iter(&page)
            .map(|found| found[1].to_owned())
            .collect();
        for found in link.captures_iter(&page) {
            assert!(ids.contains(&found[1].to_owned()), "#{}", &found[1]);
        }
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }
}

#[test]
fn outside_text_is_escaped_visible_and_bounded() {
    let page = html(&samples::hostile());
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{200b}') && !page.contains('\u{ffff}'));
    assert!(page.contains("⟨U+202E⟩"));
    assert!(page.contains("bytes cut)"));
    let longest = page
        .lines()
        .flat_map(|line| line.split('<'))
        .map(str::len)
        .max()
        .unwrap_or(0);
    assert!(longest < 4 * text::MOST_BYTES, "{longest}");
}

#[test]
fn the_first_screen_says_verdict_why_and_where_to_look() {
    for (report, page) in pages().into_iter().take(4) {
        let (hero, _) = page.split_once("</header>").unwrap();
        assert!(hero.contains(report.verdict.word()));
        assert!(hero.contains(&format!("Exit code {}.", report.exit_code)));
        for reason in &report.reasons {
            assert!(hero.contains(reason.as_str()), "{reason}");
        }
    }
    let fail = html(&samples::fail());
    let (hero, _) = fail.split_once("</header>").unwrap();
    assert!(hero.contains("href=\"#objective-0\"") && hero.contains("href=\"#request-2412\""));
    let blind = html(&samples::inconclusive());
    let (hero, _) = blind.split_once("</header>").unwrap();
    assert!(hero.contains("missing since 20.1 s"));
    let starved = html(&samples::invalid());
    let (hero, _) = starved.split_once("</header>").unwrap();
    assert!(hero.contains("raise target.maxConnections"));
}

#[test]
fn numbers_that_are_none_are_drawn_as_none() {
    let mut report = samples::pass();
    report.run.duration_seconds = f64::NAN;
    report.objectives[0].value = Some(f64::NAN);
    report.objectives[0].interval = Some([f64::NAN, f64::INFINITY]);
    report.objectives[2].threshold = Some(crate::report::model::Threshold {
        op: "near".into(),
        value: f64::NAN,
    });
    report.series[3].p99 = Some(f64::NAN);
    report.series[4].max = Some(f64::INFINITY);
    report.saturation[0].points = vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)];
    report.distribution[0].low = 0.0;
    report.requests[0].latency = f64::INFINITY;
    report.requests[0].spans[1].start = f64::NAN;
    let page = html(&report);
    let place =
        regex::Regex::new(r#"\s(x|y|d|x1|x2|y1|y2|cx|cy|width|height)="[^"]*(NaN|inf)"#).unwrap();
    assert!(place.find(&page).is_none(), "{:?}", place.find(&page));
}

#[test]
fn a_report_with_nothing_in_it_is_still_a_page() {
    let mut report = samples::invalid();
    report.objectives.clear();
    report.coverage.sources.clear();
    report.validity.clear();
    report.load.clear();
    report.series.clear();
    report.distribution.clear();
    report.saturation.clear();
    report.requests.clear();
    report.reasons.clear();
    report.notes.clear();
    let page = html(&report);
    assert!(page.contains("nothing to pass") && page.contains("No single requests were kept."));
}

#[test]
fn an_invalid_run_shows_no_green_tile() {
    let page = html(&samples::invalid());
    let tiles = page.split_once("<section class=\"tiles\"").unwrap().1;
    let tiles = tiles.split_once("</section>").unwrap().0;
    assert!(tiles.contains("not to be trusted") && !tiles.contains("is-pass"));
    assert!(page.contains(summary::DISTRUST));
    assert!(!html(&samples::pass()).contains(summary::DISTRUST));
}
