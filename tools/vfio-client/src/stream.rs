// SPDX-License-Identifier: GPL-2.0

//! An independent reader and writer of Ferry's migration stream, version 1.
//!
//! Written from `Documentation/`, not from the driver, so that the two can disagree.

use std::collections::BTreeMap;

use crc32c::crc32c;

/// The size of the pages of [`Stream::storage`], in bytes.
const PAGE: u64 = 4096;

/// The longest [`ZEROES`] that is expanded, in bytes. The format has no limit but the storage's size.
const ZEROES_MAX: usize = 1 << 30;

/// The size of a record's header in bytes.
pub const HEADER: usize = 32;
/// The first four bytes of every record.
pub const MAGIC: u32 = u32::from_le_bytes(*b"FRRY");
/// The flag of a record that a reader may skip if it does not know the type.
pub const OPTIONAL: u16 = 1;

/// The type of the first record: version, device type and configuration.
pub const HEADER_RECORD: u16 = 1;
/// The type of the record that voids all records before it.
pub const RESTART: u16 = 2;
/// The type of the record that announces chunks for the second time.
pub const RESEND: u16 = 3;
/// The type of a record with a piece of the device's state.
pub const STATE: u16 = 4;
/// The type of a record with bytes of a device's storage.
pub const BLOCK: u16 = 5;
/// The type of a record that says that bytes of a device's storage are zeros.
pub const ZEROES: u16 = 6;
/// The type of the last record.
pub const END: u16 = 16;

/// Offsets in the payload of a [`HEADER_RECORD`].
pub mod identity {
    /// The major version, 2 bytes.
    pub const MAJOR: usize = 0;
    /// The minor version, 2 bytes.
    pub const MINOR: usize = 2;
    /// The device type's name, 16 bytes.
    pub const NAME: usize = 4;
    /// The length of the configuration, 2 bytes.
    pub const CONFIGURATION_LENGTH: usize = 20;
    /// The configuration.
    pub const CONFIGURATION: usize = 22;
}

/// Offsets in the payload of an [`END`].
pub mod totals {
    /// The number of records before the end, 4 bytes.
    pub const RECORDS: usize = 0;
    /// The payload bytes of blocks, zeroes and state since a resend, 8 bytes.
    pub const BYTES: usize = 4;
    /// CRC-32C of the device's state, 4 bytes.
    pub const CRC: usize = 12;
}

/// A record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// The type.
    pub kind: u16,
    /// [`OPTIONAL`] or 0.
    pub flags: u16,
    /// The number of the record in its generation.
    pub sequence: u32,
    /// An offset, a count or a number, by the type of the record.
    pub argument: u64,
    /// The content.
    pub payload: Vec<u8>,
}

impl Record {
    /// Writes the record with right checksums.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with_length(self.payload.len() as u32)
    }

    /// Writes the record with right checksums, but any length in its header.
    pub fn bytes_with_length(&self, length: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.argument.to_le_bytes());
        bytes.extend(crc32c(&self.payload).to_le_bytes());
        bytes.extend(crc32c(&bytes).to_le_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from(u16_at(bytes, offset)) | u32::from(u16_at(bytes, offset + 2)) << 16
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from(u32_at(bytes, offset)) | u64::from(u32_at(bytes, offset + 4)) << 32
}

/// A stream, as its records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stream(pub Vec<Record>);

impl Stream {
    /// Takes a stream apart.
    ///
    /// # Errors
    ///
    /// What is wrong with its framing or a checksum, and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut records = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let number = records.len();
            if rest.len() < HEADER {
                return Err(format!("{} bytes left at {at}, no record", rest.len()));
            }
            if u32_at(rest, 0) != MAGIC {
                return Err(format!("record {number} at {at} without the magic number"));
            }
            if crc32c(&rest[..28]) != u32_at(rest, 28) {
                return Err(format!("record {number} at {at}: CRC of the header"));
            }
            let length = u32_at(rest, 8) as usize;
            let Some(payload) = rest.get(HEADER..HEADER + length) else {
                return Err(format!("record {number} at {at}: {length} bytes, cut off"));
            };
            if crc32c(payload) != u32_at(rest, 24) {
                return Err(format!("record {number} at {at}: CRC of the payload"));
            }
            records.push(Record {
                kind: u16_at(rest, 4),
                flags: u16_at(rest, 6),
                sequence: u32_at(rest, 12),
                argument: u64_at(rest, 16),
                payload: payload.to_vec(),
            });
            at += HEADER + length;
        }
        Ok(Stream(records))
    }

    /// Writes the stream with right checksums.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(Record::bytes).collect()
    }

    /// Returns the first record of a type.
    pub fn find_mut(&mut self, kind: u16) -> Option<&mut Record> {
        self.0.iter_mut().find(|record| record.kind == kind)
    }

    /// Returns the records of the last generation.
    pub fn generation(&self) -> &[Record] {
        let start = self
            .0
            .iter()
            .rposition(|record| record.kind == RESTART)
            .unwrap_or(0);
        &self.0[start..]
    }

    /// Returns the pages of the device's storage that the last generation carries, by their offset
    /// in it.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn storage(&self) -> Result<BTreeMap<u64, Vec<u8>>, String> {
        let mut pages: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut put = |mut at: u64, mut bytes: &[u8]| {
            while !bytes.is_empty() {
                let within = (at % PAGE) as usize;
                let (now, rest) = bytes.split_at(bytes.len().min(PAGE as usize - within));
                let page = pages
                    .entry(at - within as u64)
                    .or_insert_with(|| vec![0; PAGE as usize]);
                page[within..within + now.len()].copy_from_slice(now);
                bytes = rest;
                at = at
                    .checked_add(now.len() as u64)
                    .ok_or_else(|| format!("storage past {at:#x}"))?;
            }
            Ok::<_, String>(())
        };
        for record in self.generation() {
            match record.kind {
                BLOCK => put(record.argument, &record.payload)?,
                ZEROES => {
                    let bytes = <[u8; 8]>::try_from(record.payload.as_slice())
                        .map_err(|_| format!("{} bytes of ZEROES", record.payload.len()))?;
                    let len = u64::from_le_bytes(bytes);
                    let zeroes = usize::try_from(len)
                        .ok()
                        .filter(|len| *len <= ZEROES_MAX)
                        .ok_or_else(|| format!("{len} bytes of zeros at once"))?;
                    put(record.argument, &vec![0; zeroes])?;
                }
                _ => {}
            }
        }
        Ok(pages)
    }

    /// Checks a whole stream and returns the device state that its last generation carries.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn device_state(&self) -> Result<Vec<u8>, String> {
        let records = self.generation();
        let mut state: Vec<u8> = Vec::new();
        let mut next = 0;
        let mut bytes = 0;
        for record in records {
            if record.sequence != next && record.kind != RESEND {
                return Err(format!("expected record {next}, seen {}", record.sequence));
            }
            next = record.sequence + 1;
            match record.kind {
                RESEND => bytes = 0,
                STATE | BLOCK | ZEROES => bytes += record.payload.len() as u64,
                _ => {}
            }
            if record.kind == STATE {
                let at = record.argument as usize;
                // A piece may come a second time, after a resend.
                if at > state.len() {
                    return Err(format!("a gap from {} to {at}", state.len()));
                }
                state.truncate(at);
                state.extend(&record.payload);
            }
        }
        let (first, last) = match records {
            [first, .., last] => (first, last),
            _ => return Err(format!("{} records", records.len())),
        };
        if !matches!(first.kind, HEADER_RECORD | RESTART) || last.kind != END {
            return Err(format!(
                "begins with {}, ends with {}",
                first.kind, last.kind
            ));
        }
        if last.payload.len() < totals::CRC + 4 {
            return Err(format!("an end of {} bytes", last.payload.len()));
        }
        let crc = u32_at(&last.payload, totals::CRC);
        if crc != crc32c(&state) {
            return Err(format!(
                "CRC {crc:#010x} at the end, {:#010x} over {} bytes of state",
                crc32c(&state),
                state.len()
            ));
        }
        if u32_at(&last.payload, totals::RECORDS) != last.sequence {
            return Err(format!(
                "{} records before the end by its word, {} by its number",
                u32_at(&last.payload, totals::RECORDS),
                last.sequence
            ));
        }
        if u64_at(&last.payload, totals::BYTES) != bytes {
            return Err(format!(
                "{} bytes by the end's word, {bytes} seen",
                u64_at(&last.payload, totals::BYTES)
            ));
        }
        Ok(state)
    }

    /// Returns the stream with another device state, as one record in the place of the first, and with right
    /// totals and checksums.
    pub fn with_state(&self, state: &[u8]) -> Stream {
        let mut records = Vec::new();
        let mut placed = false;
        for record in &self.0 {
            let mut record = record.clone();
            if record.kind == STATE {
                if placed {
                    continue;
                }
                placed = true;
                record.argument = 0;
                record.payload = state.to_vec();
            }
            if record.kind == END {
                record.payload[totals::CRC..totals::CRC + 4]
                    .copy_from_slice(&crc32c(state).to_le_bytes());
            }
            records.push(record);
        }
        Stream(records).counted()
    }

    /// Numbers the records of a stream of one generation, and corrects the totals in its end.
    fn counted(mut self) -> Stream {
        let mut bytes = 0u64;
        for (i, record) in self.0.iter_mut().enumerate() {
            record.sequence = i as u32;
            match record.kind {
                STATE | BLOCK | ZEROES => bytes += record.payload.len() as u64,
                END => {
                    record.payload[totals::RECORDS..totals::BYTES]
                        .copy_from_slice(&record.sequence.to_le_bytes());
                    record.payload[totals::BYTES..totals::CRC]
                        .copy_from_slice(&bytes.to_le_bytes());
                }
                _ => {}
            }
        }
        self
    }

    /// Inserts a record before the record at `place`, and corrects numbers and totals.
    pub fn with_record(&self, place: usize, record: Record) -> Stream {
        let mut records = self.0.clone();
        records.insert(place, record);
        Stream(records).counted()
    }
}

#[cfg(test)]
mod tests {
    use super::crc32c;
    use super::totals;
    use super::Record;
    use super::Stream;
    use super::BLOCK;
    use super::END;
    use super::HEADER_RECORD;
    use super::STATE;
    use super::ZEROES;

    fn stream(state: &[u8]) -> Stream {
        let record = |kind, sequence, payload| Record {
            kind,
            flags: 0,
            sequence,
            argument: 0,
            payload,
        };
        Stream(vec![
            record(HEADER_RECORD, 0, vec![1, 0]),
            record(STATE, 1, vec![]),
            record(END, 2, vec![0; totals::CRC + 4]),
        ])
        .with_state(state)
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of the catalogues.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_stream_that_was_written_reads_back() {
        let stream = stream(b"the state");
        let again = Stream::parse(&stream.bytes()).expect("a good stream");
        assert_eq!(again, stream);
        assert_eq!(again.device_state().expect("a whole stream"), b"the state");
    }

    #[test]
    fn the_storage_is_what_blocks_and_zeroes_make_of_it() {
        let record = |kind, argument, payload| Record {
            kind,
            flags: 0,
            sequence: 0,
            argument,
            payload,
        };
        let stream = stream(b"state")
            .with_record(1, record(BLOCK, 4090, vec![7; 10]))
            .with_record(2, record(ZEROES, 4098, 1u64.to_le_bytes().to_vec()));
        assert_eq!(stream.device_state().expect("a whole stream"), b"state");
        let pages = stream.storage().expect("a good storage");
        assert_eq!(pages.keys().collect::<Vec<_>>(), [&0, &4096]);
        assert_eq!(pages[&0][4088..], [0, 0, 7, 7, 7, 7, 7, 7]);
        assert_eq!(pages[&4096][..6], [7, 7, 0, 7, 0, 0]);
    }

    #[test]
    fn a_storage_that_is_past_everything_is_an_error() {
        for (kind, argument, payload) in [
            (BLOCK, u64::MAX - 3, vec![7; 10]),
            (ZEROES, 0, u64::MAX.to_le_bytes().to_vec()),
        ] {
            let record = Record {
                kind,
                flags: 0,
                sequence: 0,
                argument,
                payload,
            };
            let stream = stream(b"state").with_record(1, record);
            assert!(stream.storage().is_err(), "{kind} at {argument:#x}");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = stream(b"some state");
        let bytes = good.bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Stream::parse(&bad).is_err(), "bit {bit}");
        }
    }
}
