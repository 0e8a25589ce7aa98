//! The parts that frame bodies are made of.

use prost::encoding::{decode_varint, encode_varint};

/// Writes a body.
pub(crate) struct Put(pub(crate) Vec<u8>);

impl Put {
    pub(crate) fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub(crate) fn byte(&mut self, v: u8) {
        self.0.push(v);
    }

    pub(crate) fn number(&mut self, v: u64) {
        encode_varint(v, &mut self.0);
    }

    pub(crate) fn signed(&mut self, v: i64) {
        self.number(((v << 1) ^ (v >> 63)) as u64);
    }

    pub(crate) fn raw(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }

    pub(crate) fn bytes(&mut self, v: &[u8]) {
        self.number(v.len() as u64);
        self.raw(v);
    }

    pub(crate) fn text(&mut self, v: &str) {
        self.bytes(v.as_bytes());
    }
}

/// Reads a body; every step checks that there is enough of it.
pub(crate) struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, String> {
        let [v] = self.array()?;
        Ok(v)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (v, rest) = self.0.split_first_chunk().ok_or("it ends early")?;
        self.0 = rest;
        Ok(*v)
    }

    pub(crate) fn number(&mut self) -> Result<u64, String> {
        decode_varint(&mut self.0).map_err(|e| e.to_string())
    }

    pub(crate) fn signed(&mut self) -> Result<i64, String> {
        let v = self.number()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    /// A number that must fit, such as an index.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, String> {
        let v = self.number()?;
        T::try_from(v).map_err(|_| format!("the number {v} is too large here"))
    }

    /// How many of something follow. Each takes a byte at least, so a larger count is refused before
    /// anything is allocated for it.
    pub(crate) fn count(&mut self) -> Result<usize, String> {
        let n: usize = self.small()?;
        if n > self.0.len() {
            return Err(format!("{n} items cannot lie in {} bytes", self.0.len()));
        }
        Ok(n)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], String> {
        let n = self.count()?;
        let (v, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(v)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|e| format!("a text is not UTF-8: {e}"))
    }

    pub(crate) fn end(self) -> Result<(), String> {
        match self.0.len() {
            0 => Ok(()),
            n => Err(format!("{n} bytes follow its end")),
        }
    }
}
