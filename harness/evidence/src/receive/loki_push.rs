//! Bodies of Loki's push: JSON, and protobuf in snappy's block format.

use crate::logql::{ast::MatchOp, parse_selector};
use crate::store::logs::PushStream;
use prost::Message;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The longest protobuf body once unpacked, in bytes; a small snappy body can claim any length.
const MOST_UNPACKED: usize = 64 << 20;

#[derive(Deserialize)]
struct JsonPush {
    #[serde(default)]
    streams: Vec<JsonStream>,
}

#[derive(Deserialize)]
struct JsonStream {
    #[serde(default)]
    stream: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<JsonEntry>,
}

/// `["nanoseconds", "line"]` or `["nanoseconds", "line", {"metadata": "…"}]`
#[derive(Deserialize)]
#[serde(untagged)]
enum JsonEntry {
    Plain(String, String),
    WithMetadata(String, String, BTreeMap<String, String>),
}

/// Reads a JSON body: `{"streams":[{"stream":{…},"values":[["ns","line",{…}]]}]}`.
///
/// # Errors
/// What is malformed and where; nothing of a malformed body is taken.
pub fn json(body: &[u8]) -> Result<Vec<PushStream>, String> {
    let push: JsonPush = serde_json::from_slice(body)
        .map_err(|e| format!("loghttp.PushRequest: malformed JSON: {e}"))?;
    let mut streams = Vec::with_capacity(push.streams.len());
    for stream in push.streams {
        let mut entries = Vec::with_capacity(stream.values.len());
        for entry in stream.values {
            let (ts, line, metadata) = match entry {
                JsonEntry::Plain(ts, line) => (ts, line, BTreeMap::new()),
                JsonEntry::WithMetadata(ts, line, metadata) => (ts, line, metadata),
            };
            let ns: i64 = ts.parse().map_err(|_| {
                format!("timestamp {ts:?} is not a whole number of nanoseconds since the epoch")
            })?;
            entries.push((ns, line, metadata.into_iter().collect()));
        }
        streams.push(PushStream {
            labels: stream.stream.into_iter().collect(),
            entries,
        });
    }
    Ok(streams)
}

/// `logproto.PushRequest`, by its public wire format.
#[derive(Clone, PartialEq, Message)]
struct ProtoPush {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<ProtoStream>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoStream {
    /// `{a="b"}`
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<ProtoEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoEntry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<ProtoTime>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<ProtoPair>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoTime {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// Reads a protobuf body packed with snappy.
///
/// # Errors
/// What is malformed; nothing of a malformed body is taken.
pub fn protobuf(body: &[u8]) -> Result<Vec<PushStream>, String> {
    let length = snap::raw::decompress_len(body).map_err(|e| format!("snappy: {e}"))?;
    if length > MOST_UNPACKED {
        return Err(format!(
            "snappy: the body unpacks to {length} bytes; at most {MOST_UNPACKED} are taken"
        ));
    }
    let bytes = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|e| format!("snappy: {e}"))?;
    let push = ProtoPush::decode(&*bytes).map_err(|e| format!("protobuf: {e}"))?;
    push.streams.into_iter().map(proto_stream).collect()
}

fn proto_stream(stream: ProtoStream) -> Result<PushStream, String> {
    let matchers = parse_selector(&stream.labels)
        .map_err(|e| format!("error parsing labels {:?}: {e}", stream.labels))?;
    if let Some(other) = matchers.iter().find(|m| m.op != MatchOp::Equal) {
        return Err(format!(
            "error parsing labels {:?}: {} needs =",
            stream.labels, other.name
        ));
    }
    let mut entries = Vec::with_capacity(stream.entries.len());
    for entry in stream.entries {
        let time = entry.timestamp.unwrap_or_default();
        let ns = time
            .seconds
            .checked_mul(1_000_000_000)
            .and_then(|ns| ns.checked_add(time.nanos.into()))
            .ok_or_else(|| format!("timestamp of {} s does not fit", time.seconds))?;
        let metadata = entry
            .metadata
            .into_iter()
            .map(|p| (p.name, p.value))
            .collect();
        entries.push((ns, entry.line, metadata));
    }
    Ok(PushStream {
        labels: matchers.into_iter().map(|m| (m.name, m.value)).collect(),
        entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_with_and_without_metadata() {
        let got = json(
            br#"{"streams":[{"stream":{"app":"x"},"values":[["5","a"],["6","b",{"t":"1"}]]}]}"#,
        )
        .unwrap();
        assert_eq!(got[0].labels, [("app".to_owned(), "x".to_owned())]);
        assert_eq!(got[0].entries[0], (5, "a".to_owned(), vec![]));
        assert_eq!(got[0].entries[1].2, [("t".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn malformed_json_is_refused_whole() {
        for body in [
            "{nope",
            r#"{"streams":[{"stream":{},"values":[["x","a"]]}]}"#,
            r#"{"streams":[{"stream":{},"values":[[5,"a"]]}]}"#,
            r#"{"streams":[{"stream":{"a":1},"values":[]}]}"#,
        ] {
            assert!(json(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn protobuf_is_read() {
        let push = ProtoPush {
            streams: vec![ProtoStream {
                labels: r#"{app="x", b="y"}"#.into(),
                entries: vec![ProtoEntry {
                    timestamp: Some(ProtoTime {
                        seconds: 1,
                        nanos: 5,
                    }),
                    line: "hello".into(),
                    metadata: vec![ProtoPair {
                        name: "t".into(),
                        value: "1".into(),
                    }],
                }],
            }],
        };
        let body = snap::raw::Encoder::new()
            .compress_vec(&push.encode_to_vec())
            .unwrap();
        let got = protobuf(&body).unwrap();
        assert_eq!(got[0].entries[0].0, 1_000_000_005);
        assert_eq!(got[0].labels.len(), 2);
        assert!(protobuf(b"garbage").is_err());
    }
}
