//! Segments: what a store took, in a file, while it takes it.
//!
//! A recording store appends one frame per ingested batch and hands it to the operating system
//! before the sender is answered: what was acknowledged survives a `kill -9` of the process. (It is
//! synced to the disk when the segment is closed: the loss of the machine may take the last frames,
//! and then the missing end says so.) `read` gives the frames back up to the first one that is not
//! whole, and says at which byte that is and how much lies after it.
//!
//! # Format, version 1
//! Integers are little-endian; CRC is CRC-32 (IEEE).
//!
//! ```text
//! file    = header frame*
//! header  = "HEVSEG" version:u8 signal:u8 zero:u32 crc:u32           crc of the 12 bytes before it
//! frame   = length:u32 crc:u32 payload                               length of the payload, at least 1
//! payload = 0 body | 1 snappy(body)                                  snappy's block format
//! body    = kind:u8 …                                                0 is the end, see below
//! ```
//!
//! A frame's CRC covers its number in the file (u64, from 0), its length and its payload, so that a
//! frame out of place is as bad as a changed one. What a body holds is documented beside each store:
//! `metrics/journal.rs`, `logs/journal.rs`, `traces/journal.rs`. Their varints, texts and signed
//! numbers are those of protobuf: LEB128, length-prefixed UTF-8, zigzag.
//!
//! The last frame of a segment that was closed has kind 0 and holds the number of items in it and
//! the number that the store refused. A segment without it was cut, or its writer was killed.

pub(crate) mod codec;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::path::PathBuf;

pub(crate) use read::{Source, read};
pub(crate) use write::Sink;

/// Version of the format.
pub const VERSION: u8 = 1;

/// Longest body of a frame, unpacked; a bound for the reader of a damaged or hostile file.
pub(crate) const MOST_BODY: usize = 512 << 20;

const MAGIC: &[u8; 6] = b"HEVSEG";
const HEADER: usize = 16;
const FRAME_HEADER: usize = 8;
/// Kind of the frame that ends a segment.
const END: u8 = 0;

/// Which store a segment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Float samples.
    Metrics,
    /// Log lines.
    Logs,
    /// Spans.
    Traces,
}

impl Signal {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    /// Name of the segment in a directory of evidence.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics.seg",
            Self::Logs => "logs.seg",
            Self::Traces => "traces.seg",
        }
    }

    /// As OTLP's paths and services name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Metrics => 1,
            Self::Logs => 2,
            Self::Traces => 3,
        }
    }
}

/// Why a segment could not be written or read at all.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its word.
        source: io::Error,
    },
    /// Not a segment, or one of another version or signal.
    #[error("{path}: {what}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        what: String,
    },
    /// A frame whose checksum holds and whose content makes no sense: nothing of the file is used.
    #[error("{path}: the frame at byte {at} cannot be understood: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the frame begins.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// Recording must begin before the first item.
    #[error("the {0:?} store holds data already; recording must begin before the first item")]
    NotEmpty(Signal),
}

/// What was found at the end of what could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Where the first bad frame begins, bytes from the start of the file.
    pub at_byte: u64,
    /// Bytes from there to the end of the file; none of them is used.
    pub bytes: u64,
    /// What is wrong there.
    pub why: String,
}

/// What reading one segment found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    /// Whose data.
    pub signal: Signal,
    /// The file.
    pub path: PathBuf,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Whole frames read, the end not counted.
    pub frames: u64,
    /// Samples, lines or spans read.
    pub items: u64,
    /// Items that the store had refused when the segment was closed; unknown (0) when it was not.
    pub refused: u64,
    /// Whether the end is there.
    pub closed: bool,
    /// A torn or changed frame, if there is one.
    pub loss: Option<Loss>,
}

impl SegmentReport {
    /// Why the segment may not hold all that was sent; `None` when it does.
    #[must_use]
    pub fn incomplete(&self) -> Option<String> {
        let name = self.path.display();
        if let Some(Loss {
            at_byte,
            bytes,
            why,
        }) = &self.loss
        {
            return Some(format!(
                "{name}: {why} at byte {at_byte}; the {bytes} bytes from there on are lost, {} items before it are read",
                self.items
            ));
        }
        if !self.closed {
            return Some(format!(
                "{name}: has no end: its writer was killed or the file was cut at byte {}; {} items are read",
                self.bytes, self.items
            ));
        }
        (self.refused > 0).then(|| {
            let refused = self.refused;
            format!("{name}: the store refused {refused} items while it was written")
        })
    }
}
