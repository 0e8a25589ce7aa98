//! The value of an attribute of a span.

use std::borrow::Cow;

use super::tree::Tree;
use crate::store::traces::{NO_SPAN, SetId, StrId, Tables, Value};
use crate::traceql::ast::{Attribute, Intrinsic, KINDS, STATUSES, Scope, Static, go_duration};

/// A value while a query runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Val<'t> {
    Nil,
    Str(Cow<'t, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    Status(u8),
    Kind(u8),
}

impl Val<'_> {
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(v) | Self::Duration(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            _ => None,
        }
    }

    pub(crate) fn to_static(&self) -> Static {
        match self {
            Self::Nil => Static::Nil,
            Self::Str(text) => Static::String(text.clone().into_owned()),
            Self::Int(v) => Static::Int(*v),
            Self::Float(v) => Static::Float(*v),
            Self::Bool(v) => Static::Bool(*v),
            Self::Duration(v) => Static::Duration(*v),
            Self::Status(v) => Static::Status(*v),
            Self::Kind(v) => Static::Kind(*v),
        }
    }

    /// As a value of a tag: the type's name and the text.
    pub(crate) fn to_tag(&self) -> (&'static str, String) {
        let name = |names: &[&str], code: u8| names[usize::from(code) % names.len()].to_owned();
        match self {
            Self::Nil => ("nil", String::new()),
            Self::Str(text) => ("string", text.clone().into_owned()),
            Self::Int(v) => ("int", v.to_string()),
            Self::Float(v) => ("float", v.to_string()),
            Self::Bool(v) => ("bool", v.to_string()),
            Self::Duration(v) => ("duration", go_duration(*v)),
            Self::Status(v) => ("keyword", name(&STATUSES, *v)),
            Self::Kind(v) => ("keyword", name(&KINDS, *v)),
        }
    }
}

/// Shows the values of an attribute to `see` until it returns true; says whether it did.
///
/// There is none when the span lacks the attribute, and there are several for an array, for events
/// and for links. Without a scope the span comes first, then the resource.
pub(crate) fn any<'t>(
    tree: &Tree<'t>,
    local: u32,
    attribute: &Attribute,
    see: &mut dyn FnMut(Val<'t>) -> bool,
) -> bool {
    match attribute {
        Attribute::Named(scope, name) => {
            // A name that no stored span has is nowhere interned.
            let Some(key) = tree.tables.strings.find(name) else {
                return false;
            };
            named(tree, local, *scope, key, see)
        }
        Attribute::Intrinsic(which) => intrinsic(tree, local, *which, see),
        Attribute::OfParent => false,
    }
}

/// All values of an array, when an attribute of the span or its resource is one.
pub(crate) fn array(tree: &Tree<'_>, local: u32, attribute: &Attribute) -> Option<Static> {
    let Attribute::Named(scope, name) = attribute else {
        return None;
    };
    let tables = tree.tables;
    let key = tables.strings.find(name)?;
    let span = tree.span(local);
    let of_span = || tables.sets.find(span.attrs, key);
    let resource = tables.resources[span.resource as usize].attrs;
    let of_resource = || tables.sets.find(resource, key);
    let value = match scope {
        Scope::Span => of_span(),
        Scope::Resource => of_resource(),
        Scope::Any => of_span().or_else(of_resource),
        Scope::Event | Scope::Link | Scope::Instrumentation => None,
    };
    let value = value.filter(|v| matches!(v, Value::Array(_)))?;
    let mut all = Vec::new();
    values(tables, value, &mut |v| {
        all.push(v.to_static());
        false
    });
    Some(Static::Array(all))
}

/// The first value of an attribute.
pub(crate) fn first<'t>(tree: &Tree<'t>, local: u32, attribute: &Attribute) -> Val<'t> {
    let mut found = Val::Nil;
    any(tree, local, attribute, &mut |value| {
        found = value;
        true
    });
    found
}

fn named<'t>(
    tree: &Tree<'t>,
    local: u32,
    scope: Scope,
    key: StrId,
    see: &mut dyn FnMut(Val<'t>) -> bool,
) -> bool {
    let tables = tree.tables;
    let span = tree.span(local);
    let mut within = |set: SetId| match tables.sets.find(set, key) {
        Some(value) => values(tables, value, see),
        None => false,
    };
    let extra = tables.extra(span);
    let events = |within: &mut dyn FnMut(SetId) -> bool| {
        extra.is_some_and(|x| x.events.iter().any(|e| within(e.attrs)))
    };
    let links = |within: &mut dyn FnMut(SetId) -> bool| {
        extra.is_some_and(|x| x.links.iter().any(|l| within(l.attrs)))
    };
    let resource = tables.resources[span.resource as usize].attrs;
    let library = tables.scopes[span.scope as usize].attrs;
    match scope {
        Scope::Span => within(span.attrs),
        Scope::Resource => within(resource),
        Scope::Event => events(&mut within),
        Scope::Link => links(&mut within),
        Scope::Instrumentation => within(library),
        Scope::Any => {
            within(span.attrs)
                || within(resource)
                || events(&mut within)
                || links(&mut within)
                || within(library)
        }
    }
}

fn values<'t>(tables: &'t Tables, value: Value, see: &mut dyn FnMut(Val<'t>) -> bool) -> bool {
    match value {
        Value::Str(id) => see(Val::Str(tables.strings.get(id).into())),
        Value::Int(v) => see(Val::Int(v)),
        Value::Float(v) => see(Val::Float(v)),
        Value::Bool(v) => see(Val::Bool(v)),
        Value::Array(id) => tables
            .sets
            .array(id)
            .iter()
            .any(|v| values(tables, *v, see)),
        // Maps and bytes have no value in TraceQL.
        Value::Other(_) => false,
    }
}

fn intrinsic<'t>(
    tree: &Tree<'t>,
    local: u32,
    which: Intrinsic,
    see: &mut dyn FnMut(Val<'t>) -> bool,
) -> bool {
    let tables = tree.tables;
    let span = tree.span(local);
    let text = |id: StrId| Val::Str(tables.strings.get(id).into());
    let nanos = |ns: u64| Val::Duration(i64::try_from(ns).unwrap_or(i64::MAX));
    let root = (tree.trace.root != NO_SPAN).then(|| &tables.spans[tree.trace.root as usize]);
    let extra = tables.extra(span);
    let library = &tables.scopes[span.scope as usize];
    let value = match which {
        Intrinsic::Duration => nanos(span.duration()),
        Intrinsic::Name => text(span.name),
        Intrinsic::Status => Val::Status(span.status),
        Intrinsic::StatusMessage => text(span.status_message),
        Intrinsic::Kind => Val::Kind(span.kind),
        Intrinsic::ChildCount => Val::Int(tree.place(local).children.into()),
        Intrinsic::SpanId => hex(span.id.into(), 16),
        Intrinsic::ParentId if span.parent == 0 => Val::Str("".into()),
        Intrinsic::ParentId => hex(span.parent.into(), 16),
        Intrinsic::Parent => return false,
        Intrinsic::NestedSetLeft => Val::Int(tree.place(local).left.into()),
        Intrinsic::NestedSetRight => Val::Int(tree.place(local).right.into()),
        Intrinsic::NestedSetParent => Val::Int(tree.place(local).parent_left),
        Intrinsic::TraceId => hex(tree.trace.id, 32),
        Intrinsic::TraceDuration => nanos(tree.trace.end.saturating_sub(tree.trace.start)),
        Intrinsic::RootName => root.map_or(Val::Str("".into()), |r| text(r.name)),
        Intrinsic::RootService => root.map_or(Val::Str("".into()), |r| {
            text(tables.resources[r.resource as usize].service)
        }),
        Intrinsic::InstrumentationName => text(library.name),
        Intrinsic::InstrumentationVersion => text(library.version),
        Intrinsic::EventName => {
            return extra.is_some_and(|x| x.events.iter().any(|e| see(text(e.name))));
        }
        Intrinsic::EventTimeSinceStart => {
            let since = |time: u64| nanos(time.saturating_sub(span.start));
            return extra.is_some_and(|x| x.events.iter().any(|e| see(since(e.time))));
        }
        Intrinsic::LinkTraceId => {
            return extra.is_some_and(|x| x.links.iter().any(|l| see(hex(l.trace, 32))));
        }
        Intrinsic::LinkSpanId => {
            return extra.is_some_and(|x| x.links.iter().any(|l| see(hex(l.span.into(), 16))));
        }
    };
    see(value)
}

fn hex(id: u128, digits: usize) -> Val<'static> {
    Val::Str(format!("{id:0digits$x}").into())
}
