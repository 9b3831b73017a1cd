//! Logs in the order of time, however they are stored: an external sort, in bounded memory.
//!
//! Rows are read in stretches that fit into memory; each is sorted and written to a temporary file, and the files are
//! merged. Rows of the same time stay in the order of the logs. A row that is no event has no time: it comes where the event
//! before it in its log does. All logs together are one stream, in which a row's place is its place in the order of time, so
//! that a replay that was stopped goes on in the middle.
//!
//! Temporary files have no name once they are open: nothing is left behind, whatever happens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::task::Poll;

use compact_str::CompactString;

use super::{CommitTracker, EventSource, ParquetLogError, ParquetLogs, PollStatus, SourceError};
use crate::event::{Interaction, Reason, Record, Rejection};
use crate::position::{Positions, Stream};
use crate::util::encoding::sha256;
use crate::util::temporary::nameless_file;

/// About how many bytes of rows are sorted in memory.
const STRETCH_BYTES: usize = 256 << 20;
/// Most files that are merged at a time: each is open, and has a buffer.
const FAN_IN: usize = 64;
/// Rows handed over at a time.
const BLOCK: usize = 4096;

/// A row on its way: its time for the order, and what it is.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    time: i64,
    outcome: Result<Interaction, Rejection>,
}

/// Sorted rows: in memory, or in a file that is read from its beginning.
#[derive(Debug)]
enum Stretch {
    Memory(std::vec::IntoIter<Row>),
    File(BufReader<File>),
}

/// Logs in the order of time.
#[derive(Debug)]
pub struct SortedLogs {
    logs: ParquetLogs,
    stream: Stream,
    /// The first place in the order that is still to be handed over.
    next: u64,
    stretch_bytes: usize,
    merge: Option<Merge>,
}

/// The name of the stream that logs are together, in the order of time.
pub(super) fn stream_name(streams: &[Stream]) -> String {
    let mut names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
    names.sort_unstable();
    format!("parquet/sorted-{}", &sha256(names.concat().as_bytes())[..32])
}

impl SortedLogs {
    /// The rows of `logs`, none of which were read yet, from `positions` in the order of time on.
    ///
    /// # Errors
    /// They were read in the order in which they are stored before, in part or to their end.
    pub fn new(logs: ParquetLogs, positions: &Positions) -> Result<Self, SourceError> {
        let name = stream_name(&logs.streams);
        let was_read = |stream: &Stream| positions.next(&stream.name).is_some_and(|next| next > 0);
        let formerly = |former: &String| positions.next(former).is_some_and(|next| next > 0);
        if logs.streams.iter().any(was_read)
            || logs.logs.iter().filter_map(|log| log.former_name.as_ref()).any(formerly)
        {
            let problem =
                "some of these logs were read without --sort before: go on without it, or begin anew with --fresh";
            return Err(ParquetLogError::Order { problem: problem.to_owned() }.into());
        }
        let next = positions.next(&name).unwrap_or(0);
        let (rows, _) = logs.rows();
        if next > rows {
            let problem = format!("these logs have {rows} rows, but {next} were read of them before");
            return Err(ParquetLogError::Order { problem }.into());
        }
        let stream = Stream { name, label: "logs in the order of time".to_owned() };
        Ok(Self { logs, stream, next, stretch_bytes: STRETCH_BYTES, merge: None })
    }

    /// Rows of all the logs, and how many of them were read before.
    pub fn rows(&self) -> (u64, u64) {
        (self.logs.rows().0, self.next)
    }

    /// How many rows, read before or not, are of one of `kinds` (of any where that is empty).
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn count_kinds(&self, kinds: &[String]) -> Result<u64, SourceError> {
        self.logs.count_kinds(kinds)
    }

    /// Reads all the logs into sorted stretches.
    fn sort(&mut self) -> Result<Merge, SourceError> {
        let mut stretches = Vec::new();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut block = Vec::new();
        let (mut stream, mut time) = (None, i64::MIN);
        loop {
            let status = self.logs.poll(&mut block)?;
            for record in block.drain(..) {
                if stream != Some(record.stream) {
                    (stream, time) = (Some(record.stream), i64::MIN);
                }
                let row = self.row(record, &mut time);
                bytes += row.bytes();
                rows.push(row);
            }
            let is_end = status == PollStatus::End;
            if bytes >= self.stretch_bytes || is_end {
                rows.sort_by_key(|row| row.time);
                let sorted = std::mem::take(&mut rows);
                bytes = 0;
                if is_end {
                    stretches.push(Stretch::Memory(sorted.into_iter()));
                    break;
                }
                stretches.push(spill(sorted.into_iter().map(Ok))?);
                if stretches.len() == FAN_IN {
                    // Their rows are the first ones, and stay so.
                    let merged = spill(Merge::new(std::mem::take(&mut stretches))?)?;
                    stretches.push(merged);
                }
            }
        }
        tracing::info!(rows = self.logs.rows().0, "logs sorted");
        Ok(Merge::new(stretches)?)
    }

    fn row(&self, record: Record, time: &mut i64) -> Row {
        let outcome = match record.outcome {
            Ok(event) => {
                *time = event.timestamp;
                Ok(event)
            }
            Err(rejection) => {
                // Its place in the order of time tells nobody where it is.
                let label = &self.logs.streams[record.stream as usize].label;
                let detail = format!("{} ({label}, row {})", rejection.detail, record.offset);
                Err(Rejection { detail, ..rejection })
            }
        };
        Row { time: *time, outcome }
    }
}

impl EventSource for SortedLogs {
    fn streams(&self) -> Vec<Stream> {
        vec![self.stream.clone()]
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        if self.next == self.logs.rows().0 {
            return Ok(PollStatus::End);
        }
        if self.merge.is_none() {
            let mut merge = self.sort()?;
            for _ in 0..self.next {
                merge.next().transpose()?;
            }
            self.merge = Some(merge);
        }
        let Some(merge) = &mut self.merge else { return Ok(PollStatus::End) };
        for row in merge.take(BLOCK) {
            block.push(Record { stream: 0, offset: self.next, broker_timestamp: None, outcome: row?.outcome });
            self.next += 1;
        }
        Ok(PollStatus::More)
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        None
    }

    /// Files are never revoked: there is nothing to hand over.
    fn release(&mut self, _streams: &[u32], _durable: &Positions) -> Result<Poll<()>, SourceError> {
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {}
}

/// Sorted stretches as one.
#[derive(Debug)]
struct Merge {
    stretches: Vec<Stretch>,
    /// The next row of each stretch.
    heads: Vec<Option<Row>>,
    /// The times of those rows; of equal ones the first stretch comes first.
    order: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Merge {
    fn new(stretches: Vec<Stretch>) -> Result<Self, ParquetLogError> {
        let heads = stretches.iter().map(|_| None).collect();
        let mut merge = Self { stretches, heads, order: BinaryHeap::new() };
        for place in 0..merge.stretches.len() {
            merge.refill(place)?;
        }
        Ok(merge)
    }

    fn refill(&mut self, place: usize) -> Result<(), ParquetLogError> {
        let row = match &mut self.stretches[place] {
            Stretch::Memory(rows) => rows.next(),
            Stretch::File(file) => Row::read(file).map_err(failed)?,
        };
        if let Some(row) = &row {
            self.order.push(Reverse((row.time, place)));
        }
        self.heads[place] = row;
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = Result<Row, ParquetLogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((_, place)) = self.order.pop()?;
        let row = self.heads[place].take()?;
        Some(self.refill(place).map(|()| row))
    }
}

fn failed(source: io::Error) -> ParquetLogError {
    ParquetLogError::Sort { folder: std::env::temp_dir(), source }
}

/// Writes sorted rows to a temporary file.
fn spill(rows: impl Iterator<Item = Result<Row, ParquetLogError>>) -> Result<Stretch, ParquetLogError> {
    let mut file = BufWriter::with_capacity(1 << 18, nameless_file().map_err(failed)?);
    let mut bytes = Vec::new();
    for row in rows {
        bytes.clear();
        row?.write(&mut bytes);
        let length = (bytes.len() as u64).to_le_bytes();
        file.write_all(&length).and_then(|()| file.write_all(&bytes)).map_err(failed)?;
    }
    let mut file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(Stretch::File(BufReader::with_capacity(1 << 18, file)))
}

/// Marks of what is there, in a row's bytes.
const EVENT: u8 = 1;
const SESSION: u8 = 2;
const VALUE: u8 = 4;
const KEY: u8 = 8;

impl Row {
    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let beyond = |text: &CompactString| if text.is_heap_allocated() { text.capacity() } else { 0 };
        let inner = match &self.outcome {
            Ok(Interaction { user, item, kind, session, features, .. }) => {
                let texts: usize = [user, item, kind].into_iter().chain(session).map(beyond).sum();
                texts + features.iter().map(|feature| size_of::<CompactString>() + beyond(feature)).sum::<usize>()
            }
            Err(Rejection { detail, key, payload, .. }) => {
                detail.len() + payload.len() + key.as_ref().map_or(0, Vec::len)
            }
        };
        size_of::<Self>() + inner
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.time.to_le_bytes());
        match &self.outcome {
            Ok(Interaction { user, item, kind, timestamp, session, value, features }) => {
                let session_mark = if session.is_some() { SESSION } else { 0 };
                bytes.push(EVENT | session_mark | if value.is_some() { VALUE } else { 0 });
                bytes.extend(timestamp.to_le_bytes());
                bytes.extend(value.unwrap_or_default().to_le_bytes());
                for text in [user, item, kind].into_iter().chain(session) {
                    put(text.as_bytes(), bytes);
                }
                bytes.extend((features.len() as u64).to_le_bytes());
                features.iter().for_each(|feature| put(feature.as_bytes(), bytes));
            }
            Err(Rejection { reason, detail, key, payload }) => {
                bytes.push(if key.is_some() { KEY } else { 0 });
                put(reason.name().as_bytes(), bytes);
                put(detail.as_bytes(), bytes);
                put(key.as_deref().unwrap_or_default(), bytes);
                put(payload, bytes);
            }
        }
    }

    /// Reads the next row of a file; `None` at its end.
    fn read(file: &mut impl Read) -> io::Result<Option<Self>> {
        let mut length = [0; 8];
        match file.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        file.read_exact(&mut bytes)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a temporary file was damaged");
        Self::parse(&mut bytes.as_slice()).map(Some).ok_or_else(damaged)
    }

    fn parse(bytes: &mut &[u8]) -> Option<Self> {
        let time = i64::from_le_bytes(take(bytes)?);
        let [marks] = take(bytes)?;
        if marks & EVENT == 0 {
            let name = text(bytes)?;
            let reason = Reason::ALL.into_iter().find(|reason| reason.name() == name)?;
            let (detail, key, payload) = (text(bytes)?.to_string(), piece(bytes)?.to_vec(), piece(bytes)?.to_vec());
            let key = (marks & KEY != 0).then_some(key);
            return Some(Self { time, outcome: Err(Rejection { reason, detail, key, payload }) });
        }
        let timestamp = i64::from_le_bytes(take(bytes)?);
        let value = f64::from_le_bytes(take(bytes)?);
        let (user, item, kind) = (text(bytes)?, text(bytes)?, text(bytes)?);
        let session = if marks & SESSION != 0 { Some(text(bytes)?) } else { None };
        let features = u64::from_le_bytes(take(bytes)?);
        let features = (0..features).map(|_| text(bytes)).collect::<Option<_>>()?;
        let value = (marks & VALUE != 0).then_some(value);
        Some(Self { time, outcome: Ok(Interaction { user, item, kind, timestamp, session, value, features }) })
    }
}

fn put(piece: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend((piece.len() as u64).to_le_bytes());
    bytes.extend(piece);
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn piece<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u64::from_le_bytes(take(bytes)?) as usize;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn text(bytes: &mut &[u8]) -> Option<CompactString> {
    CompactString::from_utf8(piece(bytes)?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
    use parquet::arrow::ArrowWriter;

    use super::super::LogOptions;
    use super::*;
    use crate::config::Config;

    const BEGIN: i64 = 1_700_000_000_000;

    /// A log with rows at these times (a negative one is refused), whose items are numbered from `first` on.
    fn write(path: &std::path::Path, first: usize, times: &[i64]) {
        let items = (first..).take(times.len()).map(|item| Some(item.to_string()));
        let users = times.iter().map(|time| (*time >= 0).then(|| "u".repeat(3 + *time as usize % 40)));
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("user_id", Arc::new(StringArray::from_iter(users)), true),
            ("item_id", Arc::new(StringArray::from_iter(items)), true),
            ("timestamp", Arc::new(TimestampMillisecondArray::from_iter_values(times.iter().map(|t| BEGIN + t))), true),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn read(logs: &[String], stretch_bytes: usize, from: u64) -> Vec<Record> {
        let options = LogOptions::new(&Config::default().source, false);
        let logs = ParquetLogs::open(logs, options, &Positions::default()).unwrap();
        let name = stream_name(&logs.streams);
        let mut sorted = SortedLogs::new(logs, &[(name, from)].into_iter().collect()).unwrap();
        sorted.stretch_bytes = stretch_bytes;
        let mut records = Vec::new();
        while sorted.poll(&mut records).unwrap() != PollStatus::End {}
        records
    }

    #[test]
    fn every_size_of_memory_gives_the_stable_order_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = 7_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut logs = Vec::new();
        let mut expected = Vec::new();
        for log in 0..3 {
            let times: Vec<i64> = (0..20_000).map(|_| if draw(50) == 0 { -1 } else { draw(5_000) as i64 }).collect();
            let path = folder.path().join(format!("{log}.parquet"));
            write(&path, log * 20_000, &times);
            logs.push(path.display().to_string());
            let mut before = i64::MIN;
            for (item, time) in times.iter().enumerate() {
                before = if *time < 0 { before } else { *time };
                expected.push((before, *time >= 0, (log * 20_000 + item).to_string()));
            }
        }
        expected.sort_by_key(|(time, ..)| *time);
        let whole = read(&logs, usize::MAX, 0);
        assert_eq!(whole.len(), expected.len());
        for (place, (record, (time, is_event, item))) in whole.iter().zip(&expected).enumerate() {
            assert_eq!((record.stream, record.offset), (0, place as u64));
            match &record.outcome {
                Ok(event) => {
                    assert_eq!((event.timestamp, true, event.item.as_str()), (BEGIN + time, *is_event, item.as_str()))
                }
                Err(rejection) => {
                    let row = item.parse::<usize>().unwrap() % 20_000;
                    assert!(
                        !is_event && rejection.detail.ends_with(&format!(".parquet, row {row})")),
                        "{}",
                        rejection.detail
                    );
                }
            }
        }
        // As little as a block at a time: more files than are merged at once.
        for stretch_bytes in [1, 1_000_000] {
            assert!(read(&logs, stretch_bytes, 0) == whole, "stretches of {stretch_bytes} bytes");
        }
        assert!(read(&logs, 1_000_000, 12_345) == whole[12_345..]);
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let event = Interaction {
            user: "u".into(),
            item: "a longer one than fits into the text itself".into(),
            kind: "".into(),
            timestamp: -5,
            session: Some("".into()),
            value: Some(f64::MAX),
            features: vec!["a".into(), "".into()],
        };
        let bare = Interaction { session: None, value: None, features: Vec::new(), ..event.clone() };
        let rejection =
            Rejection {
                reason: Reason::EmptyId, detail: "é".to_owned(), key: Some(Vec::new()), payload: vec![0, 255]
            };
        for outcome in [Ok(event), Ok(bare), Err(rejection.clone()), Err(Rejection { key: None, ..rejection })] {
            let row = Row { time: i64::MIN, outcome };
            let mut bytes = Vec::new();
            row.write(&mut bytes);
            assert_eq!(Row::parse(&mut bytes.as_slice()), Some(row.clone()));
            for end in 0..bytes.len() {
                assert_eq!(Row::parse(&mut &bytes[..end]), None);
            }
        }
    }

    #[test]
    fn logs_begun_in_one_order_do_not_go_on_in_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, 0, &[3, 2, 1]);
        let open = |positions: &Positions| {
            let options = LogOptions::new(&Config::default().source, false);
            ParquetLogs::open(&[path.display().to_string()], options, positions)
        };
        let logs = open(&Positions::default()).unwrap();
        let stored: Positions = [(logs.streams[0].name.clone(), 2)].into_iter().collect();
        let sorted: Positions = [(stream_name(&logs.streams), 2)].into_iter().collect();
        let error = SortedLogs::new(logs, &stored).unwrap_err().to_string();
        assert!(error.contains("without --sort"), "{error}");
        let error = open(&sorted).unwrap_err().to_string();
        assert!(error.contains("go on with --sort"), "{error}");
    }
}
