//! The functions of templates, by their documented names.
//!
//! Long but one thing: the table of names and the calls behind them, which have to be read side by
//! side. None of them depends on another.

use super::super::super::units;
use super::super::label_filter::number;
use super::time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::cmp::Ordering;
use std::fmt;

/// What a template computes with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nil,
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Nanoseconds since the epoch.
    Time(i64),
    List(Vec<Value>),
    /// Sorted by key.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Whether `if` takes it: not zero, not empty.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Text(text) => !text.is_empty(),
            Self::Int(int) => *int != 0,
            Self::Float(float) => *float != 0.0,
            Self::Bool(bool) => *bool,
            Self::Time(_) => true,
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }

    /// A number, from a text too; what is none counts as 0, as in the functions' original.
    fn int(&self) -> i64 {
        match self {
            Self::Int(int) | Self::Time(int) => *int,
            Self::Float(float) => *float as i64,
            Self::Bool(bool) => i64::from(*bool),
            Self::Text(text) => text
                .parse()
                .unwrap_or_else(|_| text.parse::<f64>().map_or(0, |f| f as i64)),
            _ => 0,
        }
    }

    fn float(&self) -> f64 {
        match self {
            Self::Float(float) => *float,
            Self::Text(text) => text.parse().unwrap_or(0.0),
            other => other.int() as f64,
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn from_json(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(bool) => Self::Bool(bool),
            serde_json::Value::Number(n) => Self::Float(n.as_f64().unwrap_or(0.0)),
            serde_json::Value::String(text) => Self::Text(text),
            serde_json::Value::Array(list) => {
                Self::List(list.into_iter().map(Self::from_json).collect())
            }
            serde_json::Value::Object(map) => {
                let mut pairs: Vec<_> = map
                    .into_iter()
                    .map(|(k, v)| (k, Self::from_json(v)))
                    .collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                Self::Map(pairs)
            }
        }
    }
}

/// As Go's `%v` writes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            Self::Text(text) => f.write_str(text),
            Self::Int(int) => write!(f, "{int}"),
            Self::Float(float) => {
                let size = float.abs();
                if size != 0.0 && !(1e-4..1e21).contains(&size) {
                    write!(f, "{float:e}")
                } else {
                    write!(f, "{float}")
                }
            }
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::Time(ns) => f.write_str(&time::format(
                "2006-01-02 15:04:05.999999999 -0700 MST",
                *ns,
            )),
            Self::List(list) => {
                let items: Vec<String> = list.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(" "))
            }
            Self::Map(map) => {
                let items: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{v}")).collect();
                write!(f, "map[{}]", items.join(" "))
            }
        }
    }
}

/// The field of a map, step by step; what is not there is nil.
pub(super) fn field(value: Value, path: &[String]) -> Value {
    path.iter().fold(value, |value, name| match value {
        Value::Map(map) => map
            .into_iter()
            .find(|(key, _)| key == name)
            .map_or(Value::Nil, |(_, value)| value),
        _ => Value::Nil,
    })
}

/// Names with the least and most arguments they take.
const FUNCTIONS: [(&str, usize, usize); 89] = [
    ("__line__", 0, 0),
    ("__timestamp__", 0, 0),
    ("__field__", 1, 99),
    ("ToLower", 1, 1),
    ("ToUpper", 1, 1),
    ("lower", 1, 1),
    ("upper", 1, 1),
    ("title", 1, 1),
    ("Replace", 4, 4),
    ("replace", 3, 3),
    ("Trim", 2, 2),
    ("TrimLeft", 2, 2),
    ("TrimRight", 2, 2),
    ("TrimPrefix", 2, 2),
    ("TrimSuffix", 2, 2),
    ("TrimSpace", 1, 1),
    ("trim", 1, 1),
    ("trimAll", 2, 2),
    ("trimPrefix", 2, 2),
    ("trimSuffix", 2, 2),
    ("trunc", 2, 2),
    ("substr", 3, 3),
    ("contains", 2, 2),
    ("hasPrefix", 2, 2),
    ("hasSuffix", 2, 2),
    ("indent", 2, 2),
    ("nindent", 2, 2),
    ("repeat", 2, 2),
    ("regexReplaceAll", 3, 3),
    ("regexReplaceAllLiteral", 3, 3),
    ("count", 2, 2),
    ("default", 2, 2),
    ("alignLeft", 2, 2),
    ("alignRight", 2, 2),
    ("b64enc", 1, 1),
    ("b64dec", 1, 1),
    ("urlencode", 1, 1),
    ("urldecode", 1, 1),
    ("fromJson", 1, 1),
    ("len", 1, 1),
    ("index", 1, 99),
    ("print", 0, 99),
    ("printf", 1, 99),
    ("eq", 2, 99),
    ("ne", 2, 2),
    ("lt", 2, 2),
    ("le", 2, 2),
    ("gt", 2, 2),
    ("ge", 2, 2),
    ("and", 1, 99),
    ("or", 1, 99),
    ("not", 1, 1),
    ("add", 1, 99),
    ("sub", 2, 2),
    ("mul", 1, 99),
    ("div", 2, 2),
    ("mod", 2, 2),
    ("addf", 1, 99),
    ("subf", 1, 99),
    ("mulf", 1, 99),
    ("divf", 1, 99),
    ("max", 1, 99),
    ("min", 1, 99),
    ("maxf", 1, 99),
    ("minf", 1, 99),
    ("ceil", 1, 1),
    ("floor", 1, 1),
    ("round", 2, 3),
    ("int", 1, 1),
    ("float64", 1, 1),
    ("duration", 1, 1),
    ("duration_seconds", 1, 1),
    ("bytes", 1, 1),
    ("unixEpoch", 1, 1),
    ("unixEpochMillis", 1, 1),
    ("unixEpochNanos", 1, 1),
    ("unixToTime", 1, 1),
    ("toDate", 2, 2),
    ("date", 2, 2),
    ("quote", 1, 1),
    ("squote", 1, 1),
    ("ternary", 3, 3),
    ("empty", 1, 1),
    ("toString", 1, 1),
    ("join", 2, 2),
    ("split", 2, 2),
    ("first", 1, 1),
    ("last", 1, 1),
    ("html", 1, 1),
];

/// Whether there is such a function.
pub(super) fn check(name: &str) -> Result<(), String> {
    let known = FUNCTIONS.iter().any(|(n, _, _)| *n == name);
    // `now` would make an answer depend on when it was asked.
    known
        .then_some(())
        .ok_or_else(|| format!("function {name:?} not defined"))
}

/// Calls a function.
///
/// # Errors
/// When the arguments do not suit it.
pub(super) fn call(name: &str, arguments: Vec<Value>) -> Result<Value, String> {
    let (_, least, most) = FUNCTIONS
        .iter()
        .find(|(n, _, _)| *n == name)
        .ok_or_else(|| format!("function {name:?} not defined"))?;
    if arguments.len() < *least || arguments.len() > *most {
        return Err(format!(
            "wrong number of args for {name}: want {least} got {}",
            arguments.len()
        ));
    }
    let a = Arguments(&arguments);
    text_function(name, &a)
        .or_else(|| number_function(name, &a))
        .unwrap_or_else(|| other_function(name, &a))
}

struct Arguments<'a>(&'a [Value]);

impl Arguments<'_> {
    fn text(&self, at: usize) -> String {
        self.0[at].text()
    }
}

type Outcome = Result<Value, String>;

fn text_function(name: &str, a: &Arguments) -> Option<Outcome> {
    let text = |text: String| Some(Ok(Value::Text(text)));
    let bool = |bool: bool| Some(Ok(Value::Bool(bool)));
    let set = |at: usize| -> Vec<char> { a.text(at).chars().collect() };
    match name {
        "ToLower" | "lower" => text(a.text(0).to_lowercase()),
        "ToUpper" | "upper" => text(a.text(0).to_uppercase()),
        "title" => text(title(&a.text(0))),
        "Replace" => {
            let (from, to, count) = (a.text(1), a.text(2), a.0[3].int());
            match usize::try_from(count) {
                Ok(count) => text(a.text(0).replacen(&from, &to, count)),
                Err(_) => text(a.text(0).replace(&from, &to)),
            }
        }
        "replace" => text(a.text(2).replace(&a.text(0), &a.text(1))),
        "Trim" => text(a.text(0).trim_matches(&set(1)[..]).to_owned()),
        "TrimLeft" => text(a.text(0).trim_start_matches(&set(1)[..]).to_owned()),
        "TrimRight" => text(a.text(0).trim_end_matches(&set(1)[..]).to_owned()),
        "trimAll" => text(a.text(1).trim_matches(&set(0)[..]).to_owned()),
        "TrimPrefix" => text(strip_prefix(&a.text(0), &a.text(1))),
        "TrimSuffix" => text(strip_suffix(&a.text(0), &a.text(1))),
        "trimPrefix" => text(strip_prefix(&a.text(1), &a.text(0))),
        "trimSuffix" => text(strip_suffix(&a.text(1), &a.text(0))),
        "TrimSpace" | "trim" => text(a.text(0).trim().to_owned()),
        "trunc" => text(trunc(a.0[0].int(), &a.text(1))),
        "substr" => text(substr(a.0[0].int(), a.0[1].int(), &a.text(2))),
        "contains" => bool(a.text(1).contains(&a.text(0))),
        "hasPrefix" => bool(a.text(1).starts_with(&a.text(0))),
        "hasSuffix" => bool(a.text(1).ends_with(&a.text(0))),
        "indent" | "nindent" | "repeat" | "alignLeft" | "alignRight" => {
            Some(sized(name, a.0[0].int(), &a.text(1)).map(Value::Text))
        }
        "regexReplaceAll" | "regexReplaceAllLiteral" | "count" => Some(regex_function(name, a)),
        "b64enc" => text(STANDARD.encode(a.text(0))),
        "b64dec" => Some(
            STANDARD
                .decode(a.text(0))
                .map(|bytes| Value::Text(String::from_utf8_lossy(&bytes).into_owned()))
                .map_err(|e| e.to_string()),
        ),
        "urlencode" => text(url::form_urlencoded::byte_serialize(a.text(0).as_bytes()).collect()),
        "urldecode" => text(
            url::form_urlencoded::parse(format!("v={}", a.text(0).replace('&', "%26")).as_bytes())
                .next()
                .map_or(String::new(), |(_, value)| value.into_owned()),
        ),
        "quote" => text(crate::store::logs::quote(&a.text(0))),
        "squote" => text(format!("'{}'", a.text(0))),
        "toString" => text(a.text(0)),
        "print" => text(a.0.iter().map(Value::text).collect::<Vec<_>>().join(" ")),
        "printf" => text(printf(&a.text(0), &a.0[1..])),
        "html" => text(
            a.text(0)
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;"),
        ),
        "split" => Some(Ok(Value::List(
            a.text(1)
                .split(&a.text(0))
                .map(|s| Value::Text(s.to_owned()))
                .collect(),
        ))),
        "join" => match &a.0[1] {
            Value::List(list) => text(
                list.iter()
                    .map(Value::text)
                    .collect::<Vec<_>>()
                    .join(&a.text(0)),
            ),
            other => text(other.text()),
        },
        _ => None,
    }
}

fn number_function(name: &str, a: &Arguments) -> Option<Outcome> {
    let int = |value: i64| Some(Ok(Value::Int(value)));
    let float = |value: f64| Some(Ok(Value::Float(value)));
    let ints = || a.0.iter().map(Value::int);
    let floats = || a.0.iter().map(Value::float);
    let fold = |op: fn(f64, f64) -> f64| floats().reduce(op).unwrap_or(0.0);
    match name {
        "add" => int(ints().fold(0, i64::wrapping_add)),
        "sub" => int(a.0[0].int().wrapping_sub(a.0[1].int())),
        "mul" => int(ints().fold(1, i64::wrapping_mul)),
        "div" | "mod" => {
            let (x, y) = (a.0[0].int(), a.0[1].int());
            if y == 0 {
                return Some(Err("integer divide by zero".to_owned()));
            }
            int(if name == "div" {
                x.wrapping_div(y)
            } else {
                x.wrapping_rem(y)
            })
        }
        "max" => int(ints().max().unwrap_or(0)),
        "min" => int(ints().min().unwrap_or(0)),
        "int" => int(a.0[0].int()),
        "addf" => float(floats().sum()),
        "subf" => float(fold(|x, y| x - y)),
        "mulf" => float(floats().product()),
        "divf" => float(fold(|x, y| x / y)),
        "maxf" => float(fold(f64::max)),
        "minf" => float(fold(f64::min)),
        "ceil" => float(a.0[0].float().ceil()),
        "floor" => float(a.0[0].float().floor()),
        "round" => {
            let scale = 10_f64.powi(i32::try_from(a.0[1].int()).unwrap_or(0).clamp(-300, 300));
            float((a.0[0].float() * scale).round() / scale)
        }
        "float64" => float(a.0[0].float()),
        "unixEpoch" => int(a.0[0].int().div_euclid(1_000_000_000)),
        "unixEpochMillis" => int(a.0[0].int().div_euclid(1_000_000)),
        "unixEpochNanos" => int(a.0[0].int()),
        "duration" | "duration_seconds" => Some(
            units::duration(&a.text(0))
                .map(|ns| Value::Float(ns as f64 / 1e9))
                .ok_or_else(|| format!("time: invalid duration {:?}", a.text(0))),
        ),
        "bytes" => Some(
            units::bytes(&a.text(0))
                .map(|n| Value::Float(n as f64))
                .ok_or_else(|| format!("invalid size {:?}", a.text(0))),
        ),
        "len" => int(match &a.0[0] {
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            other => other.text().len(),
        } as i64),
        _ => None,
    }
}

fn other_function(name: &str, a: &Arguments) -> Outcome {
    let bool = |bool: bool| Ok(Value::Bool(bool));
    match name {
        "default" => Ok(a.0[usize::from(a.0[1].truth())].clone()),
        "empty" => bool(!a.0[0].truth()),
        "ternary" => Ok(a.0[usize::from(!a.0[2].truth())].clone()),
        "not" => bool(!a.0[0].truth()),
        "and" => Ok(a
            .0
            .iter()
            .find(|v| !v.truth())
            .unwrap_or(&a.0[a.0.len() - 1])
            .clone()),
        "or" => Ok(a
            .0
            .iter()
            .find(|v| v.truth())
            .unwrap_or(&a.0[a.0.len() - 1])
            .clone()),
        "eq" => bool(
            a.0[1..]
                .iter()
                .any(|v| order(&a.0[0], v) == Some(Ordering::Equal)),
        ),
        "ne" => bool(order(&a.0[0], &a.0[1]) != Some(Ordering::Equal)),
        "lt" => bool(order(&a.0[0], &a.0[1]) == Some(Ordering::Less)),
        "le" => bool(matches!(
            order(&a.0[0], &a.0[1]),
            Some(Ordering::Less | Ordering::Equal)
        )),
        "gt" => bool(order(&a.0[0], &a.0[1]) == Some(Ordering::Greater)),
        "ge" => bool(matches!(
            order(&a.0[0], &a.0[1]),
            Some(Ordering::Greater | Ordering::Equal)
        )),
        "fromJson" => serde_json::from_str(&a.text(0))
            .map(Value::from_json)
            .map_err(|e| e.to_string()),
        "index" => Ok(a.0[1..].iter().fold(a.0[0].clone(), index)),
        "first" | "last" => match &a.0[0] {
            Value::List(list) => {
                let found = if name == "first" {
                    list.first()
                } else {
                    list.last()
                };
                Ok(found.cloned().unwrap_or(Value::Nil))
            }
            other => Err(format!("{name} needs a list, got {other}")),
        },
        "unixToTime" => unix_to_time(&a.text(0)),
        "toDate" => time::parse(&a.text(0), &a.text(1)).map(Value::Time),
        "date" => Ok(Value::Text(time::format(&a.text(0), a.0[1].int()))),
        "__field__" => {
            let (value, path) = (a.0[a.0.len() - 1].clone(), &a.0[..a.0.len() - 1]);
            let path: Vec<String> = path.iter().map(Value::text).collect();
            Ok(field(value, &path))
        }
        _ => Err(format!("function {name:?} not defined")),
    }
}

fn index(value: Value, key: &Value) -> Value {
    match value {
        Value::List(list) => usize::try_from(key.int())
            .ok()
            .and_then(|at| list.into_iter().nth(at))
            .unwrap_or(Value::Nil),
        map => field(map, &[key.text()]),
    }
}

/// Numbers by size (a number in a text counts where the other side is a number), texts by text.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Text(text), other) | (other, Value::Text(text)) => {
            number(text).ok()?;
            let _ = other;
            a.float().partial_cmp(&b.float())
        }
        _ => a.float().partial_cmp(&b.float()),
    }
}

/// Seconds, milliseconds, microseconds or nanoseconds by the number of digits.
fn unix_to_time(text: &str) -> Outcome {
    let value: i64 = text
        .parse()
        .map_err(|_| format!("unable to parse time '{text}'"))?;
    let scale = match text.len() {
        5 => 86_400 * 1_000_000_000,
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => return Err(format!("unable to parse time '{text}'")),
    };
    let ns = value.checked_mul(scale);
    ns.map(Value::Time)
        .ok_or_else(|| format!("unable to parse time '{text}'"))
}

fn regex_function(name: &str, a: &Arguments) -> Outcome {
    let written = a.text(0);
    let regex = crate::go_regex::anywhere(&written)?;
    let line = a.text(1);
    Ok(match name {
        "count" => Value::Int(regex.find_iter(&line).count() as i64),
        "regexReplaceAllLiteral" => {
            let with = a.text(2);
            Value::Text(
                regex
                    .replace_all(&line, regex::NoExpand(&with))
                    .into_owned(),
            )
        }
        _ => Value::Text(regex.replace_all(&line, a.text(2)).into_owned()),
    })
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .flat_map(|c| {
            let upper = start && c.is_alphabetic();
            start = !c.is_alphanumeric();
            if upper {
                c.to_uppercase().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

fn strip_prefix(text: &str, prefix: &str) -> String {
    text.strip_prefix(prefix).unwrap_or(text).to_owned()
}

fn strip_suffix(text: &str, suffix: &str) -> String {
    text.strip_suffix(suffix).unwrap_or(text).to_owned()
}

/// The first `count` characters, or the last ones when negative.
fn trunc(count: i64, text: &str) -> String {
    let length = text.chars().count();
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        text.chars().skip(length.saturating_sub(wanted)).collect()
    } else {
        text.chars().take(wanted).collect()
    }
}

fn substr(start: i64, end: i64, text: &str) -> String {
    let length = text.chars().count();
    let start = usize::try_from(start).unwrap_or(0);
    let end = usize::try_from(end).unwrap_or(length).min(length);
    text.chars().take(end).skip(start).collect()
}

/// Functions whose result's size is an argument.
fn sized(name: &str, count: i64, text: &str) -> Result<String, String> {
    let wanted = usize::try_from(count).unwrap_or(0);
    let lines = text.matches('\n').count() + 2;
    let times = if name == "repeat" { text.len() } else { lines };
    if wanted.saturating_mul(times.max(1)) > super::MOST_OUTPUT {
        return Err(format!("{name} {count} makes too long a text"));
    }
    let pad = " ".repeat(wanted);
    let length = text.chars().count();
    Ok(match name {
        "repeat" => text.repeat(wanted),
        "indent" => format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))),
        "nindent" => format!("\n{pad}{}", text.replace('\n', &format!("\n{pad}"))),
        "alignLeft" => text
            .chars()
            .chain(std::iter::repeat(' '))
            .take(wanted)
            .collect(),
        _ if length >= wanted => text.chars().skip(length - wanted).collect(),
        _ => format!("{}{text}", " ".repeat(wanted - length)),
    })
}

/// The verbs `%s %v %d %f %g %q %x %t %%` with flags, width and precision.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let verb_at = rest
            .find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+'))
            .unwrap_or(rest.len());
        let (spec, tail) = rest.split_at(verb_at);
        let Some(verb) = tail.chars().next() else {
            out.push_str("%!(NOVERB)");
            rest = "";
            break;
        };
        rest = &tail[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        match arguments.next() {
            Some(value) => out.push_str(&formatted(spec, verb, value)),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    out.push_str(rest);
    out
}

fn formatted(spec: &str, verb: char, value: &Value) -> String {
    let (width, precision) = spec.split_once('.').unwrap_or((spec, ""));
    let precision = precision.parse::<usize>().ok().map(|p| p.min(1_000));
    let left = width.contains('-');
    let digits = width.trim_start_matches(['-', '+']);
    let zero = digits.starts_with('0') && !left;
    let width = digits.parse::<usize>().unwrap_or(0).min(1_000);
    let text = match verb {
        'd' => value.int().to_string(),
        'f' | 'F' => format!("{:.*}", precision.unwrap_or(6), value.float()),
        'x' => match value {
            Value::Text(text) => text.bytes().map(|b| format!("{b:02x}")).collect(),
            other => format!("{:x}", other.int()),
        },
        'q' => crate::store::logs::quote(&value.text()),
        's' => match precision {
            Some(most) => value.text().chars().take(most).collect(),
            None => value.text(),
        },
        _ => value.text(),
    };
    let missing = width.saturating_sub(text.chars().count());
    if left {
        format!("{text}{}", " ".repeat(missing))
    } else if zero && verb != 's' {
        format!("{}{text}", "0".repeat(missing))
    } else {
        format!("{}{text}", " ".repeat(missing))
    }
}
