use super::super::ast::Expr;
use super::super::parser::parse;
use super::*;

/// What a pipeline makes of a line: its text and labels, or `None` when it is dropped.
fn through(stages: &str, line: &str) -> Option<(String, String)> {
    let Expr::Log(log) = parse(&format!("{{app=\"x\"}} {stages}")).expect(stages) else {
        panic!("a log query");
    };
    let pipeline = Pipeline::new(&log).expect(stages);
    let stream: Labels = [("app", "x"), ("level", "info")].into_iter().collect();
    let metadata: Labels = [("tenant", "t1")].into_iter().collect();
    let mut view = LabelView::new(&stream, &metadata);
    let mut text = Cow::Borrowed(line);
    let kept = pipeline.process(5, &mut text, &mut view);
    kept.then(|| (text.into_owned(), view.labels().to_string()))
}

fn labels(stages: &str, line: &str) -> String {
    through(stages, line).expect("the line is kept").1
}

fn kept(stages: &str, line: &str) -> bool {
    through(stages, line).is_some()
}

#[test]
fn line_filters() {
    for (stages, line, expected) in [
        (r#"|= "b" or "c""#, "abd", true),
        (r#"|= "b" or "c""#, "ad", false),
        (r#"!= "b" or "c""#, "ac", false),
        (r#"|~ "^a.c$""#, "abc", true),
        (r#"!~ "(?i)ABC""#, "abc", false),
        (r#"|> "a <_> c""#, "a b c", true),
        (r#"|> "a <_> c""#, "a b c d", false),
        (r#"!> "<_>job <_>""#, "job 1", true),
        (r#"!> "<_>job <_>""#, "a job 1", false),
        (r#"|= ip("10.0.0.0/8")"#, "from 10.2.3.4:80 ok", true),
        (r#"|= ip("10.0.0.0/8")"#, "from 11.2.3.4 ok", false),
        (r#"!= ip("10.0.0.1-10.0.0.9")"#, "10.0.0.5", false),
        (r#"|= ip("2001:db8::1")"#, "ip=2001:db8::1", true),
    ] {
        assert_eq!(kept(stages, line), expected, "{stages} on {line}");
    }
}

#[test]
fn json_flattens_suffixes_and_skips_arrays_and_null() {
    assert_eq!(
        labels(
            "| json",
            r#"{"a":{"b-c":"d","e":[1]},"level":"warn","n":1.50,"t":true,"z":null,"u":"\u00e9\n"}"#
        ),
        r#"{a_b_c="d", app="x", level="info", level_extracted="warn", n="1.50", t="true", tenant="t1", u="é\n"}"#
    );
    assert_eq!(
        labels(
            r#"| json x="a[1].b", y="c", z="none""#,
            r#"{"a":[0,{"b":"q"}],"c":{"d":1}}"#
        ),
        r#"{app="x", level="info", tenant="t1", x="q", y="{\"d\":1}"}"#
    );
}

#[test]
fn faulty_json_is_marked_and_what_came_before_is_kept() {
    let cut = labels("| json", r#"{"msg":"m","took":"12"#);
    assert!(cut.contains(r#"__error__="JSONParserErr""#) && cut.contains(r#"msg="m""#));
    for line in [
        "null",
        "plain",
        "",
        "[1]",
        r#"{"a":}"#,
        r#"{"a":x}"#,
        r#"{"a" 1}"#,
        "{",
    ] {
        assert!(labels("| json", line).contains("JSONParserErr"), "{line}");
    }
    assert!(!labels("| json", "{}").contains("__error__"));
}

#[test]
fn logfmt_in_its_modes() {
    let line = r#"a=1 msg="x \"y\"" empty= flag b=é"#;
    assert_eq!(
        labels("| logfmt", line),
        r#"{a="1", app="x", b="é", level="info", msg="x \"y\"", tenant="t1"}"#
    );
    assert_eq!(
        labels(r#"| logfmt q="a""#, line),
        r#"{app="x", level="info", q="1", tenant="t1"}"#
    );
    let open = r#"level=warn msg="unterminated took=1s"#;
    assert!(!labels("| logfmt", open).contains("__error__"));
    assert!(labels("| logfmt --strict", open).contains(
        r#"__error_details__="logfmt syntax error at pos 37 : unterminated quoted value""#
    ));
}

#[test]
fn the_other_parsers() {
    assert_eq!(
        labels(r#"| regexp "(?P<v>took) (?P<n>\\d+)""#, "took 12"),
        r#"{app="x", level="info", n="12", tenant="t1", v="took"}"#
    );
    assert_eq!(
        labels(
            r#"| pattern `<ip> - <_> "<m> <_>"`"#,
            r#"1.2.3.4 - - "GET /a""#
        ),
        r#"{app="x", ip="1.2.3.4", level="info", m="GET", tenant="t1"}"#
    );
    assert_eq!(
        through("| unpack", r#"{"pod":"p","n":1,"_entry":"the line"}"#),
        Some((
            "the line".into(),
            r#"{app="x", level="info", pod="p", tenant="t1"}"#.into()
        ))
    );
    let plain = through("| decolorize", "\u{1b}[31mred\u{1b}[0m").map(|found| found.0);
    assert_eq!(plain.as_deref(), Some("red"));
}

#[test]
fn label_filters() {
    let line = "n=7 took=50ms size=2KiB ip=10.0.0.1 word=abc";
    for (filter, expected) in [
        ("n=7", true),
        ("n==7.0", true),
        ("n!=7", false),
        ("n>6 and n<=7", true),
        ("n>7 or took>=50ms", true),
        ("took>50ms", false),
        ("size>=2048B, size<1MB", true),
        (r#"ip=ip("10.0.0.0/24")"#, true),
        (r#"ip!=ip("10.0.0.0/24")"#, false),
        (r#"word=~"a.c" word!="x""#, true),
        (r#"word=~"a""#, false),
        (r#"none="""#, true),
        ("none>0", false),
        (r#"tenant="t1""#, true),
        (r#"(n=1 or n=7) and word="abc""#, true),
    ] {
        assert_eq!(
            kept(&format!("| logfmt | {filter}"), line),
            expected,
            "{filter}"
        );
    }
    // What is no number passes with a mark, so that a metric query over it fails.
    assert!(labels("| logfmt | word>1", line).contains(r#"__error__="LabelFilterErr""#));
    assert!(!kept(r#"| logfmt | word>1 | __error__="""#, line));
}

#[test]
fn formats_keep_and_drop() {
    assert_eq!(
        through(r#"| logfmt | line_format "{{.a}}-{{.app}}""#, "a=1").map(|found| found.0),
        Some("1-x".into())
    );
    assert_eq!(
        labels(r#"| logfmt | label_format b=a, c="{{.app}}!""#, "a=1"),
        r#"{app="x", b="1", c="x!", level="info", tenant="t1"}"#
    );
    assert_eq!(labels("| logfmt | keep a", "a=1 b=2"), r#"{a="1"}"#);
    assert_eq!(
        labels(r#"| logfmt | drop a, b="3", level"#, "a=1 b=2"),
        r#"{app="x", b="2", tenant="t1"}"#
    );
    // Keeping labels may not lose an error.
    assert!(labels("| json | keep app", "x").contains("__error__"));
}

#[test]
fn what_does_not_compile_names_its_stage() {
    for (stage, wanted) in [
        (r#"|~ "[""#, "stage '|~ \"[\"' : error parsing regexp"),
        (
            r#"| pattern "none""#,
            "invalid pattern parser: at least one capture",
        ),
        (
            r#"| pattern "<a><b>""#,
            "found consecutive capture '<a><b>'",
        ),
        (r#"| regexp "x""#, "at least one named capture"),
        (
            r#"|= ip("999.1.1.1")"#,
            "ip: invalid pattern: \"999.1.1.1\"",
        ),
        (r#"| json a="b[""#, "cannot parse expression [b[]"),
        (
            r#"| line_format "{{ nosuch .x }}""#,
            "function \"nosuch\" not defined",
        ),
    ] {
        let Ok(Expr::Log(log)) = parse(&format!("{{app=\"x\"}} {stage}")) else {
            panic!("{stage}");
        };
        let error = Pipeline::new(&log)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(error.contains(wanted), "{stage}: {error}");
    }
    for selector in ["{}", r#"{a=~".*"}"#, r#"{a!="b"}"#] {
        let matchers = super::super::parse_selector(selector).unwrap();
        assert!(Selector::new(&matchers).is_err(), "{selector}");
    }
}
