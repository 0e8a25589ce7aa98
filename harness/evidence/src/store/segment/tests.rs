use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::codec::{Put, Take};
use super::write::Writer;
use super::{SegmentError, SegmentReport, Signal, Sink, Source, read};

fn written(dir: &Path, bodies: &[Vec<u8>]) -> PathBuf {
    let mut sink = Sink::create(dir, Signal::Logs, u64::MAX).unwrap();
    for body in bodies {
        sink.append(body).unwrap();
    }
    sink.close(bodies.len() as u64, 0).unwrap();
    dir.join(Signal::Logs.file_name())
}

fn all(path: &Path) -> Result<(Vec<Vec<u8>>, SegmentReport), SegmentError> {
    let mut bodies = Vec::new();
    let report = read(Source::file(path.to_owned())?, Signal::Logs, |body| {
        bodies.push(body.to_vec());
        Ok(1)
    })?;
    Ok((bodies, report))
}

/// Small, packable and unpackable.
fn bodies() -> Vec<Vec<u8>> {
    let mut noise = 1_u32;
    let random = (0..300).map(|_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    });
    vec![
        vec![1, 2, 3],
        vec![7; 500],
        [9].into_iter().chain(random).collect(),
    ]
}

#[test]
fn frames_come_back_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let (found, report) = all(&written(dir.path(), &bodies())).unwrap();
    assert_eq!(found, bodies());
    assert_eq!((report.frames, report.items, report.closed), (3, 3, true));
    assert_eq!(report.incomplete(), None);
}

/// Every bit of the file flipped, one after another: none goes unseen, and what is read before it is
/// what was written.
#[test]
fn every_flipped_bit_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &bodies());
    let good = fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        if let Ok((found, report)) = all(&path) {
            assert!(report.loss.is_some(), "bit {bit} went unseen");
            assert!(report.incomplete().is_some());
            assert_eq!(found, bodies()[..found.len()], "bit {bit}");
        }
    }
}

#[test]
fn every_cut_is_noticed_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &bodies());
    let good = fs::read(&path).unwrap();
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        let Ok((found, report)) = all(&path) else {
            assert!(length < super::HEADER);
            continue;
        };
        assert_eq!(found, bodies()[..found.len()]);
        assert!(!report.closed && report.incomplete().is_some(), "{length}");
        let end = report.loss.map_or(length as u64, |l| l.at_byte + l.bytes);
        assert_eq!(end, length as u64);
    }
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    let (_, report) = all(&path).unwrap();
    let said = report.incomplete().unwrap();
    let at = report.loss.unwrap().at_byte;
    assert!(
        said.contains(&format!(
            "a frame of 4 bytes is torn at byte {at}; the 11 bytes"
        )),
        "{said}"
    );
}

#[test]
fn a_frame_moved_repeated_or_added_after_the_end_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &[vec![1, 1, 1], vec![1, 2, 2], vec![1, 3, 3]]);
    let good = fs::read(&path).unwrap();
    let frame = |n: usize| &good[16 + n * 12..16 + (n + 1) * 12];
    let header = &good[..16];
    let end = &good[16 + 36..];
    for order in [[1, 0, 2], [0, 0, 2], [0, 2, 2]] {
        let bad = [
            header,
            frame(order[0]),
            frame(order[1]),
            frame(order[2]),
            end,
        ]
        .concat();
        fs::write(&path, bad).unwrap();
        let (_, report) = all(&path).unwrap();
        assert!(report.loss.is_some(), "{order:?}");
    }
    fs::write(&path, [&good, frame(0)].concat()).unwrap();
    assert!(all(&path).unwrap().1.loss.is_some());
}

#[test]
fn an_end_that_counts_otherwise_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::create(dir.path(), Signal::Logs, u64::MAX).unwrap();
    sink.append(&[1, 2]).unwrap();
    sink.close(2, 0).unwrap();
    let error = all(&dir.path().join("logs.seg")).unwrap_err().to_string();
    assert!(
        error.contains("counts 2 items, the frames hold 1"),
        "{error}"
    );
}

#[test]
fn what_is_no_segment_of_this_signal_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &[]);
    let source = Source::file(path.clone()).unwrap();
    let error = read(source, Signal::Traces, |_| Ok(0)).unwrap_err();
    assert!(error.to_string().contains("not a segment of Traces"));
    for (text, why) in [
        ("", "too short"),
        ("a text file of some length", "is not a segment"),
        ("HEVSEG\u{2}\u{2}01234567", "of version 2"),
    ] {
        fs::write(&path, text).unwrap();
        let error = all(&path).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn at_its_limit_a_segment_takes_nothing_more_and_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::create(dir.path(), Signal::Logs, 60).unwrap();
    sink.append(&[1, 2, 3]).unwrap();
    let why = sink.append(&[4; 60]).unwrap_err();
    assert!(why.contains("limit of 60 bytes"), "{why}");
    assert_eq!(sink.closed(), Some(why.as_str()));
    let (found, report) = all(&dir.path().join("logs.seg")).unwrap();
    assert_eq!((found.len(), report.loss, report.closed), (1, None, false));
}

/// `/dev/full` is a disk without room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_closes_the_segment_with_the_reason() {
    let path = PathBuf::from("/dev/full");
    let file = File::options().write(true).open(&path).unwrap();
    let mut sink = Sink::Segment(Box::new(Writer::new(file, path, u64::MAX)));
    let why = sink.append(&[1]).unwrap_err();
    assert!(
        why.contains("No space left") && sink.closed().is_some(),
        "{why}"
    );
}

#[test]
fn numbers_and_texts_come_back() {
    let mut put = Put::new(1);
    let numbers = [0, 1, -1, i64::MAX, i64::MIN, 300];
    numbers.iter().for_each(|n| put.signed(*n));
    put.text("é");
    let mut take = Take::new(&put.0);
    assert_eq!(take.byte(), Ok(1));
    for n in numbers {
        assert_eq!(take.signed(), Ok(n));
    }
    assert_eq!(take.text(), Ok("é"));
    assert!(take.byte().is_err() && take.number().is_err());
    assert!(Take::new(&[200, 1]).count().is_err(), "more than there is");
}
