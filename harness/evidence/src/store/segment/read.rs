//! Reading frames.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::codec::Take;
use super::write::{frame_crc, header};
use super::{
    END, FRAME_HEADER, HEADER, Loss, MAGIC, MOST_BODY, SegmentError, SegmentReport, Signal, VERSION,
};

/// A segment to be read.
pub(crate) struct Source<'a> {
    /// What it is called in reports and errors.
    path: PathBuf,
    bytes: u64,
    reader: Box<dyn Read + 'a>,
}

impl<'a> Source<'a> {
    /// A file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn file(path: PathBuf) -> Result<Self, SegmentError> {
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((bytes, file)) => Ok(Self {
                path,
                bytes,
                reader: Box::new(BufReader::with_capacity(1 << 16, file)),
            }),
            Err(source) => Err(SegmentError::Io { path, source }),
        }
    }

    /// The bytes of one.
    pub(crate) fn bytes(signal: Signal, bytes: &'a [u8]) -> Self {
        Self {
            path: signal.file_name().into(),
            bytes: bytes.len() as u64,
            reader: Box::new(bytes),
        }
    }
}

/// Gives every body before the first bad frame to `each`, in order; `each` says how many items it held.
///
/// # Errors
/// When the file cannot be read, is no segment of this signal and version, or `each` does not
/// understand a body: then nothing that was given out may be used.
pub(crate) fn read(
    source: Source<'_>,
    signal: Signal,
    mut each: impl FnMut(&[u8]) -> Result<u64, String>,
) -> Result<SegmentReport, SegmentError> {
    let Source {
        path,
        bytes,
        mut reader,
    } = source;
    check_header(&mut reader, &path, signal)?;
    let mut report = SegmentReport {
        signal,
        path,
        bytes,
        frames: 0,
        items: 0,
        refused: 0,
        closed: false,
        loss: None,
    };
    let mut at = HEADER as u64;
    let (mut payload, mut body) = (Vec::new(), Vec::new());
    while at < bytes {
        let lost = |why: String| {
            Some(Loss {
                at_byte: at,
                bytes: bytes - at,
                why,
            })
        };
        if report.closed {
            report.loss = lost("something follows the end".into());
            break;
        }
        match next(&mut reader, report.frames, bytes - at, &mut payload) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                report.loss = lost(why);
                break;
            }
            Err(source) => {
                return Err(SegmentError::Io {
                    path: report.path,
                    source,
                });
            }
        }
        let understood = unpack(&payload, &mut body).and_then(|()| match body.first() {
            None => Err("its body is empty".into()),
            Some(&END) => end(&body[1..]).and_then(|(items, refused)| {
                report.closed = true;
                report.refused = refused;
                if items == report.items {
                    return Ok(());
                }
                let held = report.items;
                Err(format!("it counts {items} items, the frames hold {held}"))
            }),
            Some(_) => each(&body).map(|items| {
                report.frames += 1;
                report.items += items;
            }),
        });
        understood.map_err(|what| SegmentError::Malformed {
            path: report.path.clone(),
            at,
            what,
        })?;
        at += (FRAME_HEADER + payload.len()) as u64;
    }
    Ok(report)
}

fn check_header(reader: &mut impl Read, path: &Path, signal: Signal) -> Result<(), SegmentError> {
    let foreign = |what: String| SegmentError::Foreign {
        path: path.to_owned(),
        what,
    };
    let mut found = [0; HEADER];
    match reader.read_exact(&mut found) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(foreign("is too short to be a segment".into()));
        }
        Err(source) => {
            return Err(SegmentError::Io {
                path: path.to_owned(),
                source,
            });
        }
    }
    let expected = header(signal);
    if found == expected {
        return Ok(());
    }
    Err(foreign(if found[..6] != *MAGIC {
        "is not a segment".into()
    } else if found[6] != VERSION {
        format!(
            "is a segment of version {}, this reads version {VERSION}",
            found[6]
        )
    } else {
        format!("is not a segment of {signal:?}, or its header is damaged")
    }))
}

/// The next frame's payload, or what is wrong with the frame. `left` is what the file still holds.
fn next(
    reader: &mut impl Read,
    number: u64,
    left: u64,
    payload: &mut Vec<u8>,
) -> io::Result<Result<(), String>> {
    let mut head = [0; FRAME_HEADER];
    if left < FRAME_HEADER as u64 {
        return Ok(Err("a frame is torn".into()));
    }
    reader.read_exact(&mut head)?;
    let [a, b, c, d, e, f, g, h] = head;
    let (length, crc) = (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    );
    if u64::from(length) > left - FRAME_HEADER as u64 {
        return Ok(Err(format!("a frame of {length} bytes is torn")));
    }
    payload.resize(length as usize, 0);
    reader.read_exact(payload)?;
    if crc != frame_crc(number, length, payload) {
        return Ok(Err("a frame does not match its checksum".into()));
    }
    Ok(Ok(()))
}

fn unpack(payload: &[u8], body: &mut Vec<u8>) -> Result<(), String> {
    body.clear();
    match payload.split_first() {
        Some((0, plain)) => body.extend_from_slice(plain),
        Some((1, packed)) => {
            let length = snap::raw::decompress_len(packed).map_err(|e| e.to_string())?;
            if length > MOST_BODY {
                return Err(format!("it unpacks to {length} bytes"));
            }
            body.resize(length, 0);
            let unpacked = snap::raw::Decoder::new().decompress(packed, body);
            unpacked.map_err(|e| e.to_string())?;
        }
        Some((other, _)) => return Err(format!("packing {other} is unknown")),
        None => return Err("it is empty".into()),
    }
    Ok(())
}

/// Items in the segment and items refused, as the last frame says.
fn end(rest: &[u8]) -> Result<(u64, u64), String> {
    let mut take = Take::new(rest);
    let counts = (take.number()?, take.number()?);
    take.end().map(|()| counts)
}
