//! Names and values of attributes, for completion while typing.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use super::params::Params;
use super::search::window;
use super::{Api, ApiError, json};
use crate::traceql::ast::{Attribute, Intrinsic, KINDS, Query, STATUSES, Scope};
use crate::traceql::eval::tags;

/// The intrinsics a client may offer, as the real server lists them.
const INTRINSICS: &[&str] = &[
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

type Names = BTreeMap<&'static str, BTreeSet<String>>;

/// All names in one list, without the intrinsics.
pub(super) async fn names_v1(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let scope = scope(&params)?;
    let mut all = BTreeSet::new();
    for (of, names) in names(api, &params).await? {
        if scope.is_none_or(|s| s == of) {
            all.extend(names);
        }
    }
    Ok(json::answer(&json!({ "tagNames": all })))
}

/// Names by scope.
pub(super) async fn names_v2(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let scope = scope(&params)?;
    let mut scopes: Vec<Value> = Vec::new();
    if scope != Some("intrinsic") {
        for (of, names) in names(api, &params).await? {
            if scope.is_none_or(|s| s == of) {
                scopes.push(json!({ "name": of, "tags": names }));
            }
        }
    }
    if scope.is_none_or(|s| s == "intrinsic") {
        scopes.push(json!({ "name": "intrinsic", "tags": INTRINSICS }));
    }
    Ok(json::answer(&json!({ "scopes": scopes })))
}

/// The values of an attribute named without its scope, as text.
pub(super) async fn values_v1(
    State(api): State<Api>,
    Path(tag): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let attribute = match Intrinsic::named(&tag) {
        Some(which) => Attribute::Intrinsic(which),
        None => Attribute::Named(Scope::Any, tag),
    };
    let found = values(api, &params, attribute).await?;
    let texts: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
    Ok(json::answer(&json!({ "tagValues": texts })))
}

/// The values of an attribute named with its scope, with their types.
pub(super) async fn values_v2(
    State(api): State<Api>,
    Path(tag): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let attribute = crate::traceql::parse_attribute(&tag).map_err(|e| {
        let tail = format!("failed to parse identifier {tag}: {e}");
        ApiError::bad(format!("please provide a valid tagName: {tail}"))
    })?;
    let found = values(api, &params, attribute).await?;
    let shown: Vec<Value> = found
        .into_iter()
        .map(|(kind, text)| match text.as_str() {
            "" => json!({ "type": kind }),
            text => json!({ "type": kind, "value": text }),
        })
        .collect();
    Ok(json::answer(&json!({ "tagValues": shown })))
}

fn scope(params: &Params) -> Result<Option<&str>, ApiError> {
    match params.get("scope") {
        None | Some("none") => Ok(None),
        Some(known) if known == "intrinsic" || tags::SCOPES.contains(&known) => Ok(Some(known)),
        Some(other) => Err(ApiError::bad(format!("invalid scope: {other}"))),
    }
}

/// A query that does not parse narrows nothing: completion asks with half a query in hand, and the
/// real server answers it so. No verdict reads these lists.
fn narrowing(params: &Params) -> Option<Query> {
    crate::traceql::parse(params.get("q")?).ok()
}

async fn names(api: Api, params: &Params) -> Result<Names, ApiError> {
    let (window, query) = (window(params, false)?, narrowing(params));
    api.run(move |store| tags::names(store, window, query.as_ref()).map_err(ApiError::from))
        .await
}

async fn values(
    api: Api,
    params: &Params,
    of: Attribute,
) -> Result<BTreeSet<(&'static str, String)>, ApiError> {
    let keywords = |names: &[&str]| names.iter().map(|n| ("keyword", (*n).to_owned())).collect();
    match &of {
        Attribute::Intrinsic(Intrinsic::Status) => return Ok(keywords(&STATUSES)),
        Attribute::Intrinsic(Intrinsic::Kind) => return Ok(keywords(&KINDS)),
        Attribute::Intrinsic(which) if !LISTED.contains(which) => return Ok(BTreeSet::new()),
        _ => {}
    }
    let limit = params
        .integer("limit", "ParseUint")?
        .filter(|n| *n > 0)
        .unwrap_or(usize::MAX);
    let (window, query) = (window(params, false)?, narrowing(params));
    api.run(move |store| {
        tags::values(store, window, query.as_ref(), &of, limit).map_err(ApiError::from)
    })
    .await
}

/// Intrinsics whose values are worth a list; of ids and durations there are as many as spans.
const LISTED: &[Intrinsic] = &[
    Intrinsic::Name,
    Intrinsic::StatusMessage,
    Intrinsic::RootName,
    Intrinsic::RootService,
    Intrinsic::EventName,
    Intrinsic::InstrumentationName,
    Intrinsic::InstrumentationVersion,
];
