//! Attribute sets, every distinct one once.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use hashbrown::{DefaultHashBuilder, HashTable};
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use prost::Message;

use super::chunks::grow;
use super::{StrId, Strings, Val};

/// Index of a set in [`AttrSets`]. Set 0 is the empty one.
pub(crate) type SetId = u32;

/// One attribute value, 16 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    /// A string.
    Str(StrId),
    /// A 64-bit integer.
    Int(i64),
    /// A double.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// An array of strings, integers, doubles and booleans: index for [`AttrSets::array`].
    Array(u32),
    /// Anything else (maps, bytes, arrays of those, empty): index for [`AttrSets::other`]. Shown with
    /// the trace; TraceQL has no values of these kinds.
    Other(u32),
}

impl Value {
    /// What makes two stored values the same: floats by their bits, so that NaN equals itself.
    fn identity(self) -> (u8, u64) {
        match self {
            Self::Str(id) => (0, id.into()),
            Self::Int(v) => (1, v as u64),
            Self::Float(v) => (2, v.to_bits()),
            Self::Bool(v) => (3, v.into()),
            Self::Array(id) => (4, id.into()),
            Self::Other(id) => (5, id.into()),
        }
    }
}

/// Sets of attributes; keys and values lie in two long arrays, a set is a range of both.
pub(crate) struct AttrSets {
    keys: Vec<StrId>,
    values: Vec<Value>,
    /// Set `i` ends here and starts where the one before ends.
    ends: Vec<u32>,
    index: HashTable<SetId>,
    hasher: DefaultHashBuilder,
    arrays: Vec<Box<[Value]>>,
    others: Vec<AnyValue>,
    /// Arrays and others by their protobuf bytes.
    nested: HashMap<Vec<u8>, Value>,
    nested_bytes: usize,
}

impl Default for AttrSets {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            ends: vec![0],
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            arrays: Vec::new(),
            others: Vec::new(),
            nested: HashMap::new(),
            nested_bytes: 0,
        }
    }
}

impl AttrSets {
    /// Stores a set, or finds it stored already.
    pub(crate) fn intern(&mut self, attrs: &[(StrId, Value)]) -> SetId {
        if attrs.is_empty() {
            return 0;
        }
        let hash = hash(&self.hasher, attrs.iter().copied());
        if let Some(id) = self.index.find(hash, |id| self.equal(*id, attrs)) {
            return *id;
        }
        grow(&mut self.keys, attrs.len());
        grow(&mut self.values, attrs.len());
        grow(&mut self.ends, 1);
        self.keys.extend(attrs.iter().map(|(k, _)| *k));
        self.values.extend(attrs.iter().map(|(_, v)| *v));
        let id = self.ends.len() as SetId;
        self.ends.push(self.keys.len() as u32);
        let mut index = std::mem::take(&mut self.index);
        index.insert_unique(hash, id, |id| hash_of(self, *id));
        self.index = index;
        id
    }

    /// How many arrays, other nested values and sets (the empty one among them) there are.
    pub(super) fn lengths(&self) -> (usize, usize, usize) {
        (self.arrays.len(), self.others.len(), self.ends.len())
    }

    /// Stores a value's parts.
    pub(crate) fn value(&mut self, strings: &mut Strings, value: &Val<'_>) -> Value {
        match value {
            Val::Str(text) => Value::Str(strings.intern(text)),
            Val::Int(v) => Value::Int(*v),
            Val::Float(v) => Value::Float(*v),
            Val::Bool(v) => Value::Bool(*v),
            Val::Nested(value) => self.any(strings, value),
        }
    }

    pub(super) fn any(&mut self, strings: &mut Strings, value: &AnyValue) -> Value {
        let scalar = |strings: &mut Strings, v: &Option<any_value::Value>| match v {
            Some(any_value::Value::StringValue(s)) => Some(Value::Str(strings.intern(s))),
            Some(any_value::Value::IntValue(i)) => Some(Value::Int(*i)),
            Some(any_value::Value::DoubleValue(f)) => Some(Value::Float(*f)),
            Some(any_value::Value::BoolValue(b)) => Some(Value::Bool(*b)),
            _ => None,
        };
        if let Some(simple) = scalar(strings, &value.value) {
            return simple;
        }
        let bytes = value.encode_to_vec();
        if let Some(known) = self.nested.get(&bytes) {
            return *known;
        }
        self.nested_bytes += bytes.len() * 4 + 64;
        let items: Option<Box<[Value]>> = match &value.value {
            Some(any_value::Value::ArrayValue(a)) => {
                a.values.iter().map(|v| scalar(strings, &v.value)).collect()
            }
            _ => None,
        };
        let stored = match items {
            Some(items) => {
                self.arrays.push(items);
                Value::Array(self.arrays.len() as u32 - 1)
            }
            None => {
                self.others.push(value.clone());
                Value::Other(self.others.len() as u32 - 1)
            }
        };
        self.nested.insert(bytes, stored);
        stored
    }

    /// Keys and values of a set, in the order sent.
    pub(crate) fn get(&self, id: SetId) -> impl ExactSizeIterator<Item = (StrId, Value)> + '_ {
        let (from, to) = self.range(id);
        std::iter::zip(&self.keys[from..to], &self.values[from..to]).map(|(k, v)| (*k, *v))
    }

    /// The value of one key.
    pub(crate) fn find(&self, id: SetId, key: StrId) -> Option<Value> {
        let (from, to) = self.range(id);
        let at = self.keys[from..to].iter().position(|k| *k == key)?;
        Some(self.values[from + at])
    }

    pub(crate) fn array(&self, id: u32) -> &[Value] {
        &self.arrays[id as usize]
    }

    pub(crate) fn other(&self, id: u32) -> &AnyValue {
        &self.others[id as usize]
    }

    pub(crate) fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<StrId>()
            + self.values.capacity() * size_of::<Value>()
            + self.ends.capacity() * 4
            + self.index.allocation_size()
            + self.nested_bytes
    }

    fn range(&self, id: SetId) -> (usize, usize) {
        let id = id as usize;
        let from = if id == 0 { 0 } else { self.ends[id - 1] };
        (from as usize, self.ends[id] as usize)
    }

    fn equal(&self, id: SetId, attrs: &[(StrId, Value)]) -> bool {
        let stored = self.get(id);
        stored.len() == attrs.len()
            && stored
                .zip(attrs)
                .all(|(a, b)| a.0 == b.0 && a.1.identity() == b.1.identity())
    }
}

/// The hash of a set: that of its keys and values in the order sent.
fn hash(hasher: &DefaultHashBuilder, attrs: impl Iterator<Item = (StrId, Value)>) -> u64 {
    let mut state = hasher.build_hasher();
    for (key, value) in attrs {
        (key, value.identity()).hash(&mut state);
    }
    state.finish()
}

fn hash_of(sets: &AttrSets, id: SetId) -> u64 {
    hash(&sets.hasher, sets.get(id))
}
