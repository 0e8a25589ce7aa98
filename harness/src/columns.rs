//! `requests.parquet`: the rows of a finished run in columns, for pandas, DuckDB and the like.
//!
//! Derived from `requests.jsonl`, which stays what verdicts are made from. Instants are nanoseconds
//! since the start of the load, as in the rows; texts are what the numbers of the rows stand for.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use harness_core::observation::Observation;
use harness_core::scenario::Scenario;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

/// Rows that lie together: what is held in memory twice while writing.
const GROUP: usize = 100_000;

const SCHEMA: &str = "
message request {
  required int64 id (integer(64,false));
  required binary load (string);
  required binary request (string);
  required binary phase (string);
  required int64 due_ns;
  optional int64 sent_ns;
  optional int64 connected_ns;
  optional int64 first_byte_ns;
  optional int64 first_event_ns;
  required int64 done_ns;
  required binary outcome (string);
  optional int32 status;
  required int64 bytes;
  required int32 events;
  optional int64 longest_gap_ns;
  required binary trace_id (string);
  required boolean sampled;
  optional boolean correct;
  optional binary detail (string);
}";

/// Writes the rows.
///
/// # Errors
/// When the disk does not take them.
pub fn write(path: &Path, scenario: &Scenario, rows: &[Observation]) -> Result<()> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("harness {}", env!("CARGO_PKG_VERSION")))
        .build();
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut file = SerializedFileWriter::new(File::create(path)?, schema, Arc::new(properties))?;
    for rows in rows.chunks(GROUP) {
        let group = file.next_row_group()?;
        let mut columns = Columns { group, rows };
        columns.all(scenario)?;
        columns.group.close()?;
    }
    file.close()?;
    Ok(())
}

/// One row group, column after column in the order of the schema.
struct Columns<'a, 'f> {
    group: SerializedRowGroupWriter<'f, File>,
    rows: &'a [Observation],
}

impl Columns<'_, '_> {
    fn all(&mut self, scenario: &Scenario) -> Result<()> {
        let spec = &scenario.spec;
        let nanos = |at: harness_core::units::Nanos| at.0 as i64;
        self.required::<Int64Type>(|row| row.id.0 as i64)?;
        self.required::<ByteArrayType>(|row| {
            let load = spec.loads.get(usize::from(row.load));
            text(load.map_or("", |load| &load.name))
        })?;
        self.required::<ByteArrayType>(|row| {
            let request = spec.requests.get(usize::from(row.request));
            text(request.map_or("", |request| &request.name))
        })?;
        self.required::<ByteArrayType>(|row| text(&row.phase.to_string()))?;
        self.required::<Int64Type>(|row| nanos(row.due))?;
        self.optional::<Int64Type>(|row| row.sent().map(nanos))?;
        self.optional::<Int64Type>(|row| row.connected().map(nanos))?;
        self.optional::<Int64Type>(|row| row.first_byte().map(nanos))?;
        self.optional::<Int64Type>(|row| row.first_event().map(nanos))?;
        self.required::<Int64Type>(|row| nanos(row.done))?;
        self.required::<ByteArrayType>(|row| text(row.outcome.name()))?;
        self.optional::<Int32Type>(|row| row.status.map(i32::from))?;
        self.required::<Int64Type>(|row| row.bytes as i64)?;
        self.required::<Int32Type>(|row| match row.first_event() {
            Some(_) => row.gaps().len() as i32 + 1,
            None => 0,
        })?;
        self.optional::<Int64Type>(|row| row.gaps().iter().max().copied().map(nanos))?;
        self.required::<ByteArrayType>(|row| text(&row.trace.to_string()))?;
        self.required::<BoolType>(|row| row.sampled)?;
        self.optional::<BoolType>(|row| row.correct)?;
        self.optional::<ByteArrayType>(|row| row.detail().map(text))
    }

    fn required<T: DataType>(&mut self, value: impl Fn(&Observation) -> T::T) -> Result<()> {
        let values: Vec<T::T> = self.rows.iter().map(value).collect();
        self.column::<T>(&values, None)
    }

    fn optional<T: DataType>(
        &mut self,
        value: impl Fn(&Observation) -> Option<T::T>,
    ) -> Result<()> {
        let all: Vec<Option<T::T>> = self.rows.iter().map(value).collect();
        let there: Vec<i16> = all.iter().map(|value| i16::from(value.is_some())).collect();
        let values: Vec<T::T> = all.into_iter().flatten().collect();
        self.column::<T>(&values, Some(&there))
    }

    fn column<T: DataType>(&mut self, values: &[T::T], there: Option<&[i16]>) -> Result<()> {
        if let Some(mut column) = self.group.next_column()? {
            column.typed::<T>().write_batch(values, there, None)?;
            column.close()?;
        }
        Ok(())
    }
}

fn text(text: &str) -> ByteArray {
    ByteArray::from(text)
}

#[cfg(test)]
mod tests {
    use harness_core::observation::{Line, Outcome};
    use harness_core::units::{Nanos, Phase, RequestId, SpanId, TraceId};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    fn row(id: u64, sent: Option<Nanos>) -> Observation {
        Line {
            id: RequestId(id),
            request: 0,
            load: 0,
            phase: Phase::Measure,
            due: Nanos(id * 10),
            sent,
            first_byte: None,
            done: Nanos(id * 10 + 7),
            outcome: Outcome::ConnectionRefused,
            status: None,
            bytes: 0,
            connected: None,
            first_event: None,
            gaps: Vec::new(),
            trace: TraceId([7; 16]),
            span: SpanId([7; 8]),
            sampled: true,
            correct: None,
            detail: Some("refused".into()),
        }
        .into()
    }

    #[test]
    fn every_row_is_there_again_across_row_groups() {
        let scenario = Scenario::parse(
            "apiVersion: harness/v1\nkind: Scenario\nmetadata: {name: a}\nspec:\n  seed: 1\n  target: {url: \"http://127.0.0.1:1\"}\n  requests: [{name: ping, method: GET, path: /}]\n  loads: [{name: one, mix: {ping: 1}, executor: constant-vus, vus: 1, stages: [{phase: measure, for: 1s}]}]\n",
            "a.yaml",
        )
        .unwrap();
        let rows: Vec<Observation> = (0..GROUP as u64 + 3)
            .map(|id| row(id, (id % 2 == 0).then_some(Nanos(id * 10 + 1))))
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requests.parquet");
        write(&path, &scenario, &rows).unwrap();
        let file = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(file.metadata().num_row_groups(), 2);
        let mut read = 0;
        for (found, row) in file.get_row_iter(None).unwrap().zip(&rows) {
            let found = found.unwrap();
            assert_eq!(found.get_ulong(0).unwrap(), row.id.0);
            assert_eq!(found.get_string(2).unwrap(), "ping");
            assert_eq!(found.get_long(5).ok(), row.sent().map(|at| at.0 as i64));
            assert_eq!(found.get_string(10).unwrap(), "connection_refused");
            assert_eq!(found.get_string(18).unwrap(), "refused");
            read += 1;
        }
        assert_eq!(read, rows.len());
    }
}
