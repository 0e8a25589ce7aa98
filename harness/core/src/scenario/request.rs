//! What is sent, and what a right answer is.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Dur;

/// A kind of request. Texts marked as templates may hold `{{ name }}`: a field of the dataset's row,
/// or a value captured earlier in the flow; and `{{ $id }}` (the request's id), `{{ $nth }}` (which
/// arrival of its load and request it is, from 0), `{{ $vu }}` (the user of a closed load, else 0),
/// `{{ $uuid }}` and `{{ $random }}` (a number below 2^32), both from the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Request {
    /// Name that mixes and objectives refer to.
    pub name: String,
    /// HTTP method.
    pub method: String,
    /// Path and query, beginning with `/`. A template; values put in are percent-encoded.
    pub path: String,
    /// Query parameters, added to those of `path`. Values are templates; all are percent-encoded.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// The service's route template, where it differs from `path`. Needed when `path` is a template.
    #[serde(default)]
    pub route: Option<String>,
    /// Headers; values are templates. `content-type` defaults to `text/plain; charset=utf-8` when
    /// there is a body, to `application/json` when it is `json`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Rows for the templates of a request whose body is not a field of a dataset.
    #[serde(default)]
    pub data: Option<DataSource>,
    /// The body.
    #[serde(default)]
    pub body: Option<Body>,
    /// What a right answer is. Default: any status from 200 to 299.
    #[serde(default)]
    pub expect: Expect,
    /// JSONPath → template that the answer is compared with for the figure `accuracy`; never an error.
    #[serde(default)]
    pub score: BTreeMap<String, String>,
    /// Name → where in the answer its value is found, for later steps of a flow.
    #[serde(default)]
    pub capture: BTreeMap<String, Capture>,
    /// Whether the answer is a stream whose events are timed. Default: it is not.
    #[serde(default)]
    pub stream: Option<Streaming>,
    /// Longest time from due to a complete answer, instead of the target's.
    #[serde(default)]
    pub timeout: Option<Dur>,
}

impl Request {
    /// Where its rows come from: `data`, or the body's dataset.
    #[must_use]
    pub fn data(&self) -> Option<Data<'_>> {
        match (&self.data, &self.body) {
            (Some(data), _) => Some(Data {
                dataset: &data.dataset,
                format: data.format,
                order: data.order,
                reuse: data.reuse,
            }),
            (
                None,
                Some(Body::Dataset {
                    dataset,
                    format,
                    order,
                    reuse,
                    ..
                }),
            ) => Some(Data {
                dataset,
                format: *format,
                order: *order,
                reuse: *reuse,
            }),
            _ => None,
        }
    }
}

/// Where a request's rows come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Data<'a> {
    /// File, as written.
    pub dataset: &'a str,
    /// Its format, where that is not told by its ending.
    pub format: Option<DataFormat>,
    /// Order of rows.
    pub order: Order,
    /// Whether rows are used again.
    pub reuse: bool,
}

impl Data<'_> {
    /// The format: as written, else by the file's ending.
    #[must_use]
    pub fn format(&self) -> DataFormat {
        self.format.unwrap_or_else(|| DataFormat::of(self.dataset))
    }
}

/// A file of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// File, relative to the scenario file.
    pub dataset: String,
    /// Its format. Default: by its ending.
    #[serde(default)]
    pub format: Option<DataFormat>,
    /// Order of rows. Default `sequential`, beginning again at the end.
    #[serde(default)]
    pub order: Order,
    /// Whether a row may be used more than once. Default true; with false a dataset that ends before
    /// the schedule does is refused before the first request.
    #[serde(default = "yes")]
    pub reuse: bool,
}

/// Format of a file of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values (RFC 4180) with a line of field names.
    Csv,
    /// One row a line, whose only field is `line`.
    Text,
}

impl DataFormat {
    /// `.csv` is CSV, `.txt` and `.text` are text, all else JSONL.
    #[must_use]
    pub fn of(file: &str) -> Self {
        let end = file
            .rsplit_once('.')
            .map(|(_, end)| end.to_ascii_lowercase());
        match end.as_deref() {
            Some("csv") => Self::Csv,
            Some("txt" | "text") => Self::Text,
            _ => Self::Jsonl,
        }
    }
}

fn yes() -> bool {
    true
}

/// The body of a request: a field of a dataset's row, a text, or JSON.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, untagged)]
pub enum Body {
    /// One field of a row of a dataset.
    Dataset {
        /// File, relative to the scenario file.
        dataset: String,
        /// The row's field that is sent.
        field: String,
        /// The file's format. Default: by its ending.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<DataFormat>,
        /// Order of rows. Default `sequential`, beginning again at the end.
        #[serde(default)]
        order: Order,
        /// Whether a row may be used more than once. Default true.
        #[serde(default = "yes")]
        reuse: bool,
    },
    /// A text; a template.
    Text {
        /// The text.
        text: String,
    },
    /// JSON whose texts are templates. A text that is one `{{ name }}` alone keeps the value's type.
    Json {
        /// The value.
        json: serde_json::Value,
    },
}

impl<'de> Deserialize<'de> for Body {
    /// By hand, since what serde says of an untagged enum ("did not match any variant") names
    /// neither the key nor the mistake.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            dataset: Option<String>,
            field: Option<String>,
            format: Option<DataFormat>,
            order: Option<Order>,
            reuse: Option<bool>,
            text: Option<String>,
            json: Option<serde_json::Value>,
        }
        match Keys::deserialize(deserializer)? {
            Keys {
                dataset: Some(dataset),
                field: Some(field),
                format,
                order,
                reuse,
                text: None,
                json: None,
            } => Ok(Self::Dataset {
                dataset,
                field,
                format,
                order: order.unwrap_or_default(),
                reuse: reuse.unwrap_or(true),
            }),
            Keys {
                dataset: None,
                field: None,
                format: None,
                order: None,
                reuse: None,
                text,
                json,
            } if text.is_some() != json.is_some() => Ok(match (text, json) {
                (Some(text), _) => Self::Text { text },
                (None, json) => Self::Json {
                    json: json.unwrap_or_default(),
                },
            }),
            _ => Err(D::Error::custom(
                "a body is either `dataset` and `field` (and `format`, `order`, `reuse`), or `text` alone, or `json` alone",
            )),
        }
    }
}

/// Order in which rows of a dataset are used: `sequential`, `shuffled`, `zipf` or `{zipf: EXPONENT}`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Order {
    /// As in the file, beginning again at the end.
    #[default]
    Sequential,
    /// A fresh permutation, from the seed, of each pass over the file.
    Shuffled,
    /// Drawn independently by Zipf's law of this exponent: the k-th row of the file with a weight of
    /// `1 / k^exponent`.
    Zipf(f64),
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sequential => serializer.serialize_str("sequential"),
            Self::Shuffled => serializer.serialize_str("shuffled"),
            Self::Zipf(exponent) => serializer.collect_map([("zipf", exponent)]),
        }
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Order;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("sequential, shuffled, zipf or {zipf: EXPONENT}")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Order, E> {
                match text {
                    "sequential" => Ok(Order::Sequential),
                    "shuffled" => Ok(Order::Shuffled),
                    "zipf" => Ok(Order::Zipf(1.0)),
                    other => Err(E::unknown_variant(
                        other,
                        &["sequential", "shuffled", "zipf"],
                    )),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Order, A::Error> {
                match map.next_entry::<String, f64>()? {
                    Some((key, exponent)) if key == "zipf" => Ok(Order::Zipf(exponent)),
                    _ => Err(A::Error::custom(
                        "an order with a number is {zipf: EXPONENT}",
                    )),
                }
            }
        }

        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Order {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Order".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Order in which rows of a dataset are used; `zipf` has the exponent 1.",
            "anyOf": [
                { "enum": ["sequential", "shuffled", "zipf"] },
                {
                    "type": "object",
                    "properties": { "zipf": { "type": "number", "exclusiveMinimum": 0 } },
                    "required": ["zipf"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// What a right answer is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status: one, several, or a class such as `2xx`. Default: any from 200 to 299.
    #[serde(default)]
    pub status: Option<Status>,
    /// Header → value (a template) that it must have, or `{regex: …}` that must match it.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderValue>,
    /// JSONPath → value or template (`{{ field }}` of the dataset's row) that must be equal.
    #[serde(default)]
    pub json: BTreeMap<String, serde_json::Value>,
    /// A regular expression that must match somewhere in the body.
    #[serde(default)]
    pub regex: Option<String>,
    /// Size of the body.
    #[serde(default)]
    pub size: Option<Size>,
    /// Latency by policy: an answer that takes longer, from due, is an error of its own kind
    /// (`too_slow`), however right it is. Usually latency is left to objectives.
    #[serde(default)]
    pub latency: Option<Dur>,
}

/// Size of a body in bytes, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Size {
    /// At least.
    #[serde(default)]
    pub at_least: Option<u64>,
    /// At most.
    #[serde(default)]
    pub at_most: Option<u64>,
}

/// What a header must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a header is expected as a text, or as {regex: …}"
)]
pub enum HeaderValue {
    /// Equal to this template.
    Is(String),
    /// Matched by this regular expression.
    Matches {
        /// The regular expression.
        regex: String,
    },
}

/// Statuses that are expected: `200`, `[200, 404]` or `2xx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Any of these.
    Any(Vec<u16>),
    /// All of a class, by its first digit.
    Class(u8),
}

impl Status {
    /// Whether a status is expected.
    #[must_use]
    pub fn holds(&self, status: u16) -> bool {
        match self {
            Self::Any(all) => all.contains(&status),
            Self::Class(class) => status / 100 == u16::from(*class),
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any(all) => match all.as_slice() {
                [one] => serializer.serialize_u16(*one),
                all => all.serialize(serializer),
            },
            Self::Class(class) => serializer.collect_str(&format_args!("{class}xx")),
        }
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Status;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a status such as 200, several such as [200, 404], or a class such as 2xx",
                )
            }

            fn visit_u64<E: serde::de::Error>(self, one: u64) -> Result<Status, E> {
                u16::try_from(one)
                    .map(|one| Status::Any(vec![one]))
                    .map_err(|_| E::custom(format!("{one} is not a status")))
            }

            fn visit_i64<E: serde::de::Error>(self, one: i64) -> Result<Status, E> {
                u64::try_from(one)
                    .map_err(|_| E::custom(format!("{one} is not a status")))
                    .and_then(|one| self.visit_u64(one))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Status, E> {
                match text.as_bytes() {
                    [class @ b'2'..=b'5', b'x', b'x'] => Ok(Status::Class(class - b'0')),
                    _ => Err(E::custom(format!(
                        "`{text}` is not a class of statuses: write 2xx, 3xx, 4xx or 5xx"
                    ))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Status, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(Status::Any(all))
            }
        }

        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Status {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = serde_json::json!({ "type": "integer", "minimum": 200, "maximum": 599 });
        json_schema!({
            "description": "A status, several, or a class such as 2xx.",
            "anyOf": [
                one.clone(),
                { "type": "array", "items": one, "minItems": 1 },
                { "type": "string", "pattern": "^[2-5]xx$" },
            ],
        })
    }
}

/// Where in an answer a value is found. One of `json`, `header` or `regex`; a `regex` beside one of
/// the others is applied to what that finds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// JSONPath that finds exactly one value.
    #[serde(default)]
    pub json: Option<String>,
    /// A header's name.
    #[serde(default)]
    pub header: Option<String>,
    /// A regular expression: its first group, else the whole match.
    #[serde(default)]
    pub regex: Option<String>,
}

/// How a streamed answer is cut into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Streaming {
    /// Server-sent events (`text/event-stream`).
    Sse,
    /// Every chunk of the body that arrives.
    Chunks,
}

/// A sequence of requests: each is due when the answer to the one before was complete. When one
/// fails the rest are not sent, and are counted as failed too (`not_reached`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Name that mixes refer to.
    pub name: String,
    /// Names of requests, in order.
    pub steps: Vec<String>,
}
