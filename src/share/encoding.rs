//! Deltas as bytes: versioned, checked, and short.
//!
//! ```text
//! "nsd" · version (1 byte) · zstd frame with a checksum of its content
//! ```
//!
//! In the frame, whole numbers are in groups of seven bits, the lowest first; signed ones are folded (0, −1, 1, −2, …). Keys,
//! times and places go by differences. Moves of rows are written as planes of bytes: the highest byte of every number, then the
//! next, so that signs and exponents, which are much alike, lie together for the compression.

use compact_str::CompactString;

use super::delta::{
    ClockSpan, Delta, MovePrecision, ParameterMoves, RowMoves, SharedEvent, SharedItem, SharedTable, SourceSpan,
};
use crate::kernel::bf16::to_bf16;

const MAGIC: &[u8; 3] = b"nsd";
/// The version of what is written here. A reader refuses any other.
const VERSION: u8 = 1;
/// The fastest level but the negative ones: numbers hardly get shorter, names and places do.
const LEVEL: i32 = 1;
/// The longest delta that is unpacked, in bytes.
const LONGEST: u64 = 1 << 30;

/// Why bytes are no delta.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// They begin with something else.
    #[error("no delta of a worker's: it begins with something else")]
    Foreign,
    /// They are of a version that this program does not know.
    #[error("a delta of version {0}, of which this program knows nothing; it knows version {VERSION}")]
    Version(u8),
    /// They cannot be unpacked, or their checksum is another.
    #[error("a damaged delta: {0}")]
    Damaged(#[from] std::io::Error),
    /// They unpack to something that is no delta.
    #[error("a malformed delta: {0}")]
    Malformed(&'static str),
}

impl Delta {
    /// The delta as bytes, the moves of its rows in numbers of `precision`, to which they have been rounded.
    pub fn encode(&self, precision: MovePrecision) -> Vec<u8> {
        // Named one by one, so that a part which is not written does not compile.
        let Self {
            worker,
            incarnation,
            configuration,
            sequence,
            sources,
            clock,
            positives,
            items,
            evicted,
            events,
            evidence,
            rows,
            parameters,
        } = self;
        let mut body = DeltaWriter(Vec::new());
        body.text(worker);
        [incarnation, configuration].iter().for_each(|number| body.0.extend(number.to_le_bytes()));
        body.whole(*sequence);
        body.list(sources, |body, SourceSpan { stream, from, until }| {
            body.text(stream);
            body.whole(*from);
            body.whole(until - from);
        });
        let ClockSpan { from, until } = clock;
        [from, until].iter().for_each(|time| body.0.extend(time.to_le_bytes()));
        body.whole(*positives);
        body.list(items, |body, SharedItem { name, buckets }| {
            body.text(name);
            body.list(buckets, |body, bucket| body.whole(u64::from(*bucket)));
        });
        body.list(evicted, |body, name| body.text(name));
        body.whole(events.len() as u64);
        body.differences(events.iter().map(|event| i64::from(event.item)));
        body.differences(events.iter().map(|event| event.timestamp));
        for SharedEvent { item, timestamp: _, context } in events {
            body.whole(context.len() as u64);
            body.differences(context.iter().map(|other| i64::from(*other) - i64::from(*item)));
        }
        body.list(evidence, |body, sum| body.0.extend(sum.to_le_bytes()));
        body.list(rows, |body, RowMoves { table, width, keys, moves }| {
            body.whole(*table as u64);
            body.whole(*width as u64);
            body.whole(keys.len() as u64);
            body.differences(keys.iter().map(|key| i64::from(*key)));
            body.moves(moves, precision);
        });
        body.list(parameters, |body, ParameterMoves { name, values, sums }| {
            body.text(name);
            body.whole(values.len() as u64);
            [values, sums].iter().for_each(|numbers| body.moves(numbers, MovePrecision::F32));
        });
        pack(&body.0)
    }

    /// The delta that these bytes are.
    ///
    /// # Errors
    /// Where they are none, are damaged, or hold what no worker says: a place that there is not, or a move that is no number.
    pub fn decode(bytes: &[u8]) -> Result<Self, DeltaError> {
        let Some((head, frame)) = bytes.split_at_checked(MAGIC.len() + 1) else { return Err(DeltaError::Foreign) };
        match head {
            [magic @ .., _] if magic != MAGIC => return Err(DeltaError::Foreign),
            [.., version] if *version != VERSION => return Err(DeltaError::Version(*version)),
            _ => {}
        }
        let body = unpack(frame)?;
        let mut body = DeltaReader(&body);
        let delta = body.delta()?;
        delta.check()?;
        if !body.0.is_empty() {
            return Err(DeltaError::Malformed("there is something behind its end"));
        }
        Ok(delta)
    }

    /// Whether everything that it refers to is there, and every number is one.
    fn check(&self) -> Result<(), DeltaError> {
        let n_items = self.items.len();
        let is_item = |place: &u32| (*place as usize) < n_items;
        let named = self.events.iter().all(|event| is_item(&event.item) && event.context.iter().all(is_item));
        let of_items = self.rows.iter().filter(|rows| rows.table != SharedTable::Features);
        if !(named && of_items.flat_map(|rows| &rows.keys).all(is_item)) {
            return Err(DeltaError::Malformed("it refers to an item that it does not name"));
        }
        let of_parameters = self.parameters.iter().flat_map(|parameters| [&parameters.values, &parameters.sums]);
        let mut moves = self.rows.iter().map(|rows| &rows.moves).chain(of_parameters);
        let ClockSpan { from, until } = self.clock;
        let mut sums = self.evidence.iter().chain([&from, &until]);
        if !(moves.all(|moves| are_finite(moves)) && sums.all(|sum| sum.is_finite())) {
            return Err(DeltaError::Malformed("a number is not finite"));
        }
        Ok(())
    }
}

/// Whether all of them are; looked at without a way out, so that the loop is made wide.
fn are_finite(numbers: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    numbers.iter().fold(true, |all, number| all & (number.to_bits() & EXPONENT != EXPONENT))
}

fn pack(body: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    let frame: std::io::Result<Vec<u8>> = (|| {
        let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
        packer.include_checksum(true)?;
        packer.compress(body)
    })();
    bytes.extend(frame.expect("memory takes all that is written to it"));
    bytes
}

/// In one go: a frame says how long its content is.
fn unpack(frame: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let length = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten();
    let length = length.ok_or(DeltaError::Malformed("no frame that says how long it is"))?;
    if length > LONGEST {
        return Err(DeltaError::Malformed("it unpacks to more than a gigabyte"));
    }
    Ok(zstd::bulk::decompress(frame, length as usize)?)
}

/// Writes the parts of a delta.
struct DeltaWriter(Vec<u8>);

impl DeltaWriter {
    fn whole(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn text(&mut self, text: &str) {
        self.whole(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    fn list<T>(&mut self, list: &[T], mut part: impl FnMut(&mut Self, &T)) {
        self.whole(list.len() as u64);
        list.iter().for_each(|one| part(self, one));
    }

    fn differences(&mut self, numbers: impl Iterator<Item = i64>) {
        let mut before = 0i64;
        for number in numbers {
            let difference = number.wrapping_sub(before);
            self.whole(((difference << 1) ^ (difference >> 63)) as u64);
            before = number;
        }
    }

    /// Planes of bytes, the highest first. Loops go over indices, so that they are made wide.
    fn moves(&mut self, moves: &[f32], precision: MovePrecision) {
        let width = match precision {
            MovePrecision::F32 => 4,
            MovePrecision::Bf16 => 2,
        };
        self.0.push(width as u8);
        let (begin, n) = (self.0.len(), moves.len());
        self.0.resize(begin + width * n, 0);
        for (place, plane) in self.0[begin..].chunks_exact_mut(n.max(1)).enumerate() {
            let (plane, shift) = (&mut plane[..n], 24 - 8 * place as u32);
            match precision {
                MovePrecision::F32 => (0..n).for_each(|k| plane[k] = (moves[k].to_bits() >> shift) as u8),
                MovePrecision::Bf16 => {
                    (0..n).for_each(|k| plane[k] = ((u32::from(to_bf16(moves[k])) << 16) >> shift) as u8);
                }
            }
        }
    }
}

/// Reads the parts of a delta.
struct DeltaReader<'a>(&'a [u8]);

impl<'a> DeltaReader<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], DeltaError> {
        let (bytes, rest) = self.0.split_at_checked(n).ok_or(DeltaError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Most numbers are small differences.
    #[inline]
    fn whole(&mut self) -> Result<u64, DeltaError> {
        match self.0.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_whole(),
        }
    }

    fn long_whole(&mut self) -> Result<u64, DeltaError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DeltaError::Malformed("a number is too long"))
    }

    /// How many of something there are, each of which takes a byte at least.
    fn length(&mut self) -> Result<usize, DeltaError> {
        let length = self.whole()?;
        let is_there = length <= self.0.len() as u64;
        is_there.then_some(length as usize).ok_or(DeltaError::Malformed("it ends too early"))
    }

    fn short(&mut self) -> Result<u32, DeltaError> {
        u32::try_from(self.whole()?).map_err(|_| DeltaError::Malformed("a number is too large"))
    }

    /// A number of eight bytes.
    fn long(&mut self) -> Result<u64, DeltaError> {
        let bytes = self.bytes(8)?.try_into().expect("eight bytes");
        Ok(u64::from_le_bytes(bytes))
    }

    fn real(&mut self) -> Result<f64, DeltaError> {
        Ok(f64::from_bits(self.long()?))
    }

    fn text(&mut self) -> Result<&'a str, DeltaError> {
        let length = self.length()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| DeltaError::Malformed("a name is not UTF-8"))
    }

    fn list<T>(&mut self, mut part: impl FnMut(&mut Self) -> Result<T, DeltaError>) -> Result<Vec<T>, DeltaError> {
        let n = self.length()?;
        (0..n).map(|_| part(self)).collect()
    }

    /// The number behind `before`, by their difference.
    #[inline]
    fn difference(&mut self, before: i64) -> Result<i64, DeltaError> {
        let folded = self.whole()?;
        Ok(before.wrapping_add((folded >> 1) as i64 ^ -((folded & 1) as i64)))
    }

    fn differences(&mut self, n: usize) -> Result<Vec<i64>, DeltaError> {
        let (mut numbers, mut number) = (Vec::with_capacity(n.min(self.0.len())), 0);
        for _ in 0..n {
            number = self.difference(number)?;
            numbers.push(number);
        }
        Ok(numbers)
    }

    fn places(&mut self, n: usize, from: i64) -> Result<Vec<u32>, DeltaError> {
        let (mut places, mut number) = (Vec::with_capacity(n.min(self.0.len())), 0);
        for _ in 0..n {
            number = self.difference(number)?;
            let place = u32::try_from(number.wrapping_add(from));
            places.push(place.map_err(|_| DeltaError::Malformed("a place is too large"))?);
        }
        Ok(places)
    }

    fn moves(&mut self, n: usize) -> Result<Vec<f32>, DeltaError> {
        let width = usize::from(self.bytes(1)?[0]);
        if ![2, 4].contains(&width) {
            return Err(DeltaError::Malformed("numbers of an unknown precision"));
        }
        let planes = self.bytes(n.checked_mul(width).ok_or(DeltaError::Malformed("it ends too early"))?)?;
        let mut bits = vec![0u32; n];
        for (place, plane) in planes.chunks_exact(n.max(1)).enumerate() {
            let (plane, bits, shift) = (&plane[..n], &mut bits[..n], 24 - 8 * place as u32);
            (0..n).for_each(|k| bits[k] |= u32::from(plane[k]) << shift);
        }
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }

    fn delta(&mut self) -> Result<Delta, DeltaError> {
        let worker = CompactString::new(self.text()?);
        let (incarnation, configuration) = (self.long()?, self.long()?);
        let sequence = self.whole()?;
        let sources = self.list(|body| {
            let (stream, from, length) = (body.text()?.to_owned(), body.whole()?, body.whole()?);
            let until = from.checked_add(length).ok_or(DeltaError::Malformed("an offset is too large"))?;
            Ok(SourceSpan { stream, from, until })
        })?;
        let clock = ClockSpan { from: self.real()?, until: self.real()? };
        let positives = self.whole()?;
        let items = self.list(|body| {
            let name = CompactString::new(body.text()?);
            Ok(SharedItem { name, buckets: body.list(Self::short)? })
        })?;
        let evicted = self.list(|body| body.text().map(CompactString::new))?;
        let n_events = self.length()?;
        let (of_events, timestamps) = (self.places(n_events, 0)?, self.differences(n_events)?);
        let events = of_events.into_iter().zip(timestamps).map(|(item, timestamp)| {
            let n = self.length()?;
            Ok(SharedEvent { item, timestamp, context: self.places(n, i64::from(item))? })
        });
        let events = events.collect::<Result<_, DeltaError>>()?;
        let evidence = self.list(Self::real)?;
        let rows = self.list(|body| {
            let table = *SharedTable::ALL.get(body.length()?).ok_or(DeltaError::Malformed("an unknown table"))?;
            let (width, n) = (body.length()?, body.length()?);
            let keys = body.places(n, 0)?;
            let n_moves = n.checked_mul(width).ok_or(DeltaError::Malformed("it ends too early"))?;
            Ok(RowMoves { table, width, keys, moves: body.moves(n_moves)? })
        })?;
        let parameters = self.list(|body| {
            let (name, n) = (body.text()?.to_owned(), body.length()?);
            Ok(ParameterMoves { name, values: body.moves(n)?, sums: body.moves(n)? })
        })?;
        Ok(Delta {
            worker,
            incarnation,
            configuration,
            sequence,
            sources,
            clock,
            positives,
            items,
            evicted,
            events,
            evidence,
            rows,
            parameters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn deltas()(
            names in proptest::collection::vec(".{0,12}", 1..20),
            sequence in any::<u64>(),
            spans in proptest::collection::vec(("[a-z/0-9]{1,9}", 0u64..1 << 40, 0u64..1 << 20), 0..4),
            clock in (0.0f64..1e15, 0.0f64..1e15),
        )(
            events in proptest::collection::vec((0..names.len() as u32, any::<i64>(), proptest::collection::vec(0..names.len() as u32, 0..6)), 0..40),
            moves in proptest::collection::vec((0..names.len() as u32, proptest::collection::vec(-1e20f32..1e20, 6)), 0..20),
            evicted in proptest::collection::vec(".{0,5}", 0..3),
            evidence in proptest::collection::vec(-1e9f64..1e9, 0..9),
            numbers in proptest::collection::vec(-1e3f32..1e3, 0..7),
            (names, sequence, spans, clock) in Just((names, sequence, spans, clock)),
        ) -> Delta {
            let items = names.iter().zip(0..).map(|(name, bucket)| SharedItem {
                name: name.into(),
                buckets: vec![bucket; bucket as usize % 3],
            });
            Delta {
                worker: "a worker".into(),
                incarnation: sequence.rotate_left(9),
                configuration: !sequence,
                sequence,
                sources: spans.into_iter().map(|(stream, from, n)| SourceSpan { stream, from, until: from + n }).collect(),
                clock: ClockSpan { from: clock.0, until: clock.1 },
                positives: events.len() as u64 + 3,
                items: items.collect(),
                evicted: evicted.iter().map(CompactString::new).collect(),
                events: events.into_iter().map(|(item, timestamp, context)| SharedEvent { item, timestamp, context }).collect(),
                evidence,
                rows: vec![RowMoves {
                    table: SharedTable::Contexts,
                    width: 6,
                    keys: moves.iter().map(|(key, _)| *key).collect(),
                    moves: moves.into_iter().flat_map(|(_, moves)| moves).collect(),
                }],
                parameters: vec![ParameterMoves { name: "gate".to_owned(), values: numbers.clone(), sums: numbers }],
            }
        }
    }

    proptest! {
        #[test]
        fn deltas_come_back_as_they_were(delta in deltas()) {
            let bytes = delta.encode(MovePrecision::F32);
            prop_assert_eq!(&Delta::decode(&bytes).unwrap(), &delta);
            let mut rounded = delta;
            rounded.rows.iter_mut().for_each(|rows| MovePrecision::Bf16.round(&mut rows.moves));
            let shorter = rounded.encode(MovePrecision::Bf16);
            prop_assert_eq!(&Delta::decode(&shorter).unwrap(), &rounded);
        }

        #[test]
        fn damage_is_noticed(delta in deltas(), place in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let bytes = delta.encode(MovePrecision::F32);
            let mut damaged = bytes.clone();
            damaged[place.index(bytes.len())] ^= 1 << bit;
            // A bit that nobody reads may be another.
            prop_assert!(Delta::decode(&damaged).map_or(true, |found| found == delta));
            prop_assert!(Delta::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn no_bytes_are_too_strange(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Delta::decode(&pack(&body));
            let _ = Delta::decode(&body);
        }
    }

    #[test]
    fn what_no_worker_says_is_refused() {
        let item = SharedItem { name: "a".into(), buckets: Vec::new() };
        let of = |moves: Vec<f32>, key| Delta {
            items: vec![item.clone()],
            rows: vec![RowMoves { table: SharedTable::Items, width: 2, keys: vec![key], moves }],
            ..Delta::default()
        };
        let refused =
            |delta: Delta| Delta::decode(&delta.encode(MovePrecision::F32)).map_err(|error| error.to_string());
        assert!(refused(of(vec![1.0, 2.0], 0)).is_ok());
        assert!(refused(of(vec![1.0, f32::NAN], 0)).is_err_and(|why| why.contains("not finite")));
        assert!(refused(of(vec![1.0, 2.0], 1)).is_err_and(|why| why.contains("does not name")));
        let mut newer = Delta::default().encode(MovePrecision::F32);
        newer[3] = 2;
        assert!(Delta::decode(&newer).is_err_and(|error| error.to_string().contains("version 2")));
        assert!(matches!(Delta::decode(b"PAR1"), Err(DeltaError::Foreign)));
    }
}
