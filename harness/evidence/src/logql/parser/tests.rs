use super::super::ast::*;
use super::*;
use proptest::prelude::*;

fn error(query: &str) -> String {
    parse(query).expect_err(query).to_string()
}

#[test]
fn what_is_valid_parses() {
    for query in [
        r#"{app="x"}"#,
        r#"{ app = "x", }"#,
        r#"({app="x"} |= "a") | json"#,
        r#"{app="x"} |= "a" or "b" != "c" |~ `d` !~ "e" |> "<_>f" !> "g<_>" |= ip("10.0.0.0/8")"#,
        r#"{app="x"} | json | json a="b.c", d | logfmt --strict --keep-empty e | unpack | decolorize"#,
        r#"{app="x"} | regexp "(?P<a>x)" | pattern "<a> x" | pattern="y" | line_format "{{.a}}""#,
        r#"{app="x"} | label_format a=b, c="{{.d}}" | drop a, b="c" | keep d, e=~"f""#,
        r#"{app="x"} | a>5 and b<=2.5s or (c=1KB, d!=-3) e="f" | g=ip("::1") | h!~"i""#,
        r#"rate({app="x"}[5m] offset 1m)"#,
        r#"rate(({app="x"} |= "y")[5m])"#,
        r#"rate({app="x"}[5m] | json | a="b")"#,
        r#"quantile_over_time(0.99, {app="x"} | unwrap duration(a) | __error__="" [5m]) by (b)"#,
        r#"sum by (a) (rate({app="x"}[5m])) / on (a) group_left (b) sum(rate({app="x"}[5m])) by (a)"#,
        r#"topk(3, sum without (a) (count_over_time({app="x"}[1h])))"#,
        r#"1 + 2 * -3 ^ 2 > bool 4"#,
        r#"sum(rate({app="x"}[1m])) or vector(0) unless vector(1)"#,
        r#"label_replace(rate({app="x"}[1m]), "a", "$1", "b", "(.*)")"#,
        "# a comment\n{app=\"x\"} # another",
    ] {
        parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    }
}

#[test]
fn operators_bind_as_in_promql() {
    let shape = |query: &str| super::super::display::expr(&parse(query).unwrap());
    assert_eq!(shape("1 + 2 * 3"), "(1 + (2 * 3))");
    assert_eq!(shape("1 - 2 - 3"), "((1 - 2) - 3)");
    assert_eq!(shape("2 ^ 3 ^ 4"), "(2 ^ (3 ^ 4))");
    assert_eq!(
        shape("vector(1) or vector(2) and vector(3)"),
        "(vector(1.000000) or (vector(2.000000) and vector(3.000000)))"
    );
    assert_eq!(shape("1 > bool 2 + 3"), "(1 > bool (2 + 3))");
}

#[test]
fn and_binds_closer_than_or_in_label_filters() {
    let Expr::Log(log) = parse(r#"{a="b"} | x="1" or y="2" and z="3""#).unwrap() else {
        panic!("a log query");
    };
    assert!(
        matches!(&log.stages[0], Stage::Label(LabelFilter::Or(_, right)) if matches!(**right, LabelFilter::And(..)))
    );
}

#[test]
fn syntax_errors_name_place_found_and_wanted() {
    for (query, wanted) in [
        ("", "parse error : syntax error: unexpected $end"),
        (
            "{",
            "parse error at line 1, col 2: syntax error: unexpected $end, expecting IDENTIFIER or }",
        ),
        (
            r#"{app="api""#,
            "parse error at line 1, col 11: syntax error: unexpected $end, expecting } or ,",
        ),
        (
            "{app=api}",
            "parse error at line 1, col 6: syntax error: unexpected IDENTIFIER, expecting STRING",
        ),
        (
            r#"{app="api"} | jsonn"#,
            "parse error at line 1, col 20: syntax error: unexpected $end",
        ),
        (
            r#"{app="api"} | status > "#,
            "parse error at line 1, col 24: syntax error: unexpected $end",
        ),
        (
            r#"{app="api"} | unwrap x"#,
            "parse error at line 1, col 15: syntax error: unexpected unwrap",
        ),
        (
            r#"rate({app="api"}[5m]"#,
            "parse error at line 1, col 21: syntax error: unexpected $end, expecting )",
        ),
        (
            r#"vector("x")"#,
            "parse error at line 1, col 8: syntax error: unexpected STRING, expecting NUMBER",
        ),
        (
            "sum(",
            "parse error at line 1, col 5: syntax error: unexpected $end",
        ),
        (
            r#"avg_over_time({app="api"} | logfmt | unwrap duration took [5m])"#,
            "parse error at line 1, col 54: syntax error: unexpected IDENTIFIER, expecting RANGE or |",
        ),
        (
            r#"stddev_over_time({app="api"} | unwrap x [5m]) by"#,
            "parse error at line 1, col 49: syntax error: unexpected $end, expecting (",
        ),
        (
            "{app=\"x\"}\n| foo(",
            "parse error at line 2, col 6: syntax error: unexpected (",
        ),
    ] {
        assert_eq!(error(query), wanted, "{query}");
    }
}

#[test]
fn senseless_queries_are_refused() {
    for (query, wanted) in [
        (
            r#"count_over_time({a="b"} | unwrap x [5m])"#,
            "parse error : invalid aggregation count_over_time with unwrap",
        ),
        (
            r#"sum_over_time({a="b"}[5m])"#,
            "parse error : invalid aggregation sum_over_time without unwrap",
        ),
        (
            r#"quantile_over_time({a="b"} | unwrap x [5m])"#,
            "parse error : parameter required for operation quantile_over_time",
        ),
        (
            r#"rate({a="b"}[5m]) by (a)"#,
            "parse error : grouping not allowed for rate aggregation",
        ),
        (
            r#"topk(0, rate({a="b"}[5m]))"#,
            "parse error : invalid parameter (must be greater than 0) topk(0",
        ),
        (
            "1 and 1",
            "parse error : unexpected literal for left leg of logical/set binary operation (and): 1.000000",
        ),
    ] {
        assert_eq!(error(query), wanted, "{query}");
    }
    assert!(
        error(r#"{a="b"} + 1"#).contains("unexpected type for left leg of binary operation (+)")
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    assert!(error(r#"{a="b"} | distinct level"#).contains("distinct is not supported"));
    assert!(error(r#"approx_topk(2, rate({a="b"}[5m]))"#).contains("approx_topk is not supported"));
    assert!(error(r#"predict_linear({a="b"}[5m])"#).contains("unknown function predict_linear"));
    assert!(error(r#"{a="b"} | logfmt --lax"#).contains("unknown flag --lax"));
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(error(&deep[..120_000]).contains("nested more than"));
    assert!(error(&"1+".repeat(10_000)).contains("operators"));
    assert!(error(&"1^".repeat(10_000)).contains("nested more than"));
    let filters = format!("{{a=\"b\"}} | {}", "x=1 or ".repeat(10_000));
    assert!(error(&filters).contains("operators"));
    assert!(error(&"x".repeat(1_000_000)).contains("bytes"));
    let hostile = [
        ("(", "1", ")"),
        ("sum(", "1", ")"),
        ("rate((", "{a=\"b\"}", ")"),
        ("-", "1", ""),
        ("1 + ", "1", ""),
        ("{a=\"b\"} | (", "x=1", ")"),
        ("{a=\"b\"} | x=1 ", "or x=1", ""),
        ("{a=\"b\"} | line_format `{{(", "x", ")"),
        ("{a=\"b\"} | line_format `{{if 1}}", "", ""),
        ("{a=\"b\"} |~ `(", "", ""),
    ];
    for (open, middle, close) in hostile {
        for n in [10_000, 100_000] {
            let text = format!("{}{middle}{}", open.repeat(n), close.repeat(n));
            assert!(super::super::Query::new(&text).is_err(), "{open}");
        }
    }
    let (head, unit) = ("{a=\"b\"} | line_format `", "{{if 1}}a{{else ");
    assert!(super::super::Query::new(&format!("{head}{}`", unit.repeat(8_000))).is_err());
}

/// Found by fuzzing: a control character beyond ASCII was written as a byte.
#[test]
fn control_characters_are_written_so_that_they_read_back() {
    for c in (0..0xa0).filter_map(char::from_u32) {
        let expr = parse(&format!(
            "{{a={}}}",
            crate::store::logs::quote(&c.to_string())
        ));
        let Ok(Expr::Log(log)) = expr else {
            panic!("{c:?}: {expr:?}");
        };
        assert_eq!(log.matchers[0].value, c.to_string());
    }
}

proptest! {
    #[test]
    fn the_parser_never_panics(query in ".{0,200}") {
        let _ = parse(&query);
    }

    /// Words of the language in any order reach deeper than arbitrary characters.
    #[test]
    fn nor_on_shuffled_words(words in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "(", ")", "[5m]", "[", "]", ",", "|", "|=", "!=", "=", "=~", ">", "sum", "by",
        "rate", "quantile_over_time", "0.9", "5s", "1KB", "app", "\"x\"", "`y`", "json", "logfmt",
        "--strict", "unwrap", "duration", "or", "and", "on", "group_left", "bool", "offset", "-",
        "+", "^", "vector", "label_replace", "topk", "keep", "drop", "label_format", "ip", "é",
    ]), 0..30)) {
        if let Ok(expr) = parse(&words.join(" ")) {
            // What parses can be written, and reads back the same.
            let written = super::super::display::expr(&expr);
            prop_assert_eq!(parse(&written).expect(&written), expr);
        }
    }
}
