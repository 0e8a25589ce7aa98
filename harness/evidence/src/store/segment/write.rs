//! Writing frames.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::codec::Put;
use super::{END, FRAME_HEADER, HEADER, MAGIC, SegmentError, Signal, VERSION};

/// Where a store's batches go beside its memory.
#[derive(Default)]
pub(crate) enum Sink {
    /// Nowhere.
    #[default]
    Memory,
    /// Into a segment.
    Segment(Box<Writer>),
    /// The store takes nothing new, and this is why: it was opened to be read, its segment was
    /// closed, or its segment could not be written.
    Closed(String),
}

impl Sink {
    /// Begins a segment in `dir`, of at most `most_bytes`. A file of an earlier recording is not
    /// written over.
    pub(crate) fn create(
        dir: &Path,
        signal: Signal,
        most_bytes: u64,
    ) -> Result<Self, SegmentError> {
        let path = dir.join(signal.file_name());
        let made = File::options().write(true).create_new(true).open(&path);
        let begun = made.and_then(|mut file| {
            file.write_all(&header(signal))?;
            Ok(file)
        });
        match begun {
            Ok(file) => Ok(Self::Segment(Box::new(Writer::new(file, path, most_bytes)))),
            Err(source) => Err(SegmentError::Io { path, source }),
        }
    }

    /// Why nothing new is taken; `None` when it is.
    pub(crate) fn closed(&self) -> Option<&str> {
        match self {
            Self::Closed(why) => Some(why),
            _ => None,
        }
    }

    pub(crate) fn records(&self) -> bool {
        matches!(self, Self::Segment(_))
    }

    /// Appends a batch. When that fails nothing of it stays in the file, and the sink takes nothing
    /// more: a segment with a hole in it would look whole.
    ///
    /// # Errors
    /// Why the batch is not in the segment; also the reason of every later refusal.
    pub(crate) fn append(&mut self, body: &[u8]) -> Result<(), String> {
        let Self::Segment(writer) = self else {
            return Ok(());
        };
        let Err(error) = writer.append(body) else {
            return Ok(());
        };
        let why = format!("{}: {error}; new data are refused", writer.path.display());
        tracing::error!("evidence cannot be recorded: {why}");
        *self = Self::Closed(why.clone());
        Err(why)
    }

    /// Ends the segment, with how many items it holds and how many were refused. Nothing is taken
    /// afterwards.
    pub(crate) fn close(&mut self, items: u64, refused: u64) -> Result<(), SegmentError> {
        let closed = Self::Closed("the evidence is closed; nothing new is taken".into());
        let Self::Segment(mut writer) = std::mem::replace(self, closed) else {
            return Ok(());
        };
        let mut end = Put::new(END);
        end.number(items);
        end.number(refused);
        writer.most_bytes = u64::MAX;
        let ended = writer.append(&end.0).and_then(|()| writer.file.sync_all());
        ended.map_err(|source| SegmentError::Io {
            path: writer.path,
            source,
        })
    }
}

pub(crate) struct Writer {
    file: File,
    path: PathBuf,
    /// End of the last whole frame.
    at: u64,
    frames: u64,
    most_bytes: u64,
    packer: snap::raw::Encoder,
    frame: Vec<u8>,
}

/// Bodies below this are not worth packing.
const SMALL: usize = 64;

impl Writer {
    /// Behind a header that is written already.
    pub(super) fn new(file: File, path: PathBuf, most_bytes: u64) -> Self {
        Self {
            file,
            path,
            at: HEADER as u64,
            frames: 0,
            most_bytes,
            packer: snap::raw::Encoder::new(),
            frame: Vec::new(),
        }
    }

    fn append(&mut self, body: &[u8]) -> io::Result<()> {
        self.frame.clear();
        self.frame.resize(FRAME_HEADER, 0);
        self.pack(body)?;
        let payload = &self.frame[FRAME_HEADER..];
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| body.len() <= super::MOST_BODY)
            .ok_or_else(|| io::Error::other("a batch is too large for one frame"))?;
        if self.at + self.frame.len() as u64 > self.most_bytes {
            let most = self.most_bytes;
            let what = format!("the limit of {most} bytes of recorded evidence is reached");
            return Err(io::Error::other(what));
        }
        let crc = frame_crc(self.frames, length, payload);
        self.frame[..4].copy_from_slice(&length.to_le_bytes());
        self.frame[4..FRAME_HEADER].copy_from_slice(&crc.to_le_bytes());
        if let Err(error) = self.file.write_all(&self.frame) {
            // Half a frame may be there. If it cannot be cut off it is found by its checksum.
            let _ = self.file.set_len(self.at);
            return Err(error);
        }
        self.at += self.frame.len() as u64;
        self.frames += 1;
        Ok(())
    }

    /// The payload of `body`, behind the frame's header.
    fn pack(&mut self, body: &[u8]) -> io::Result<()> {
        if body.len() >= SMALL {
            let most = snap::raw::max_compress_len(body.len());
            self.frame.resize(FRAME_HEADER + 1 + most, 0);
            self.frame[FRAME_HEADER] = 1;
            let packed = self
                .packer
                .compress(body, &mut self.frame[FRAME_HEADER + 1..])
                .map_err(io::Error::other)?;
            self.frame.truncate(FRAME_HEADER + 1 + packed);
            if packed < body.len() {
                return Ok(());
            }
            self.frame.truncate(FRAME_HEADER);
        }
        self.frame.push(0);
        self.frame.extend_from_slice(body);
        Ok(())
    }
}

pub(super) fn header(signal: Signal) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..6].copy_from_slice(MAGIC);
    out[6] = VERSION;
    out[7] = signal.byte();
    let crc = crc32fast::hash(&out[..12]);
    out[12..].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(super) fn frame_crc(number: u64, length: u32, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_le_bytes());
    crc.update(&length.to_le_bytes());
    crc.update(payload);
    crc.finalize()
}
