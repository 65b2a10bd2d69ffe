// SPDX-License-Identifier: GPL-2.0

//! Arbitrary sequences of accesses, against a plain model that knows every byte of the stream.
//!
//! The model keeps the records that are still to come as a queue of encoded bytes, made by the
//! tests' own encoder, and after each access everything that a user can see is compared.

use std::collections::VecDeque;

use crate::common::pattern;
use crate::common::stream_of;
use crate::common::wire;
use crate::common::wire::Record;
use crate::common::Rig;
use crate::common::PRE_COPY;
use crate::common::RESUMING;
use crate::common::RUNNING;
use crate::common::STOP_COPY;
use proptest::collection::vec;
use proptest::prelude::*;
use vfio_uapi::Errno;

/// An access of a user.
#[derive(Clone, Debug)]
enum Access {
    Read {
        offset: u64,
        len: usize,
    },
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Writes a device state.
    State {
        word: u32,
    },
    /// Stores to the data section, which may be mapped.
    Scribble {
        offset: usize,
        bytes: Vec<u8>,
    },
    /// Gives the next bytes of a good stream.
    Give {
        size: usize,
    },
    Reset,
}

fn access() -> impl Strategy<Value = Access> {
    let field = prop_oneof![
        Just((0, 4)),
        Just((4, 4)),
        Just((8, 8)),
        Just((16, 8)),
        Just((24, 8))
    ];
    let size = prop_oneof![Just(0u64), 0..300u64, Just(2048u64), any::<u64>(),];
    let reserved = prop_oneof![Just(0u32), Just(0xffff_fff8u32)];

    prop_oneof![
        12 => field.prop_map(|(offset, len)| Access::Read { offset, len }),
        1 => (0..40u64, 0..18usize).prop_map(|(offset, len)| Access::Read { offset, len }),
        1 => (0..40u64, vec(any::<u8>(), 0..18))
            .prop_map(|(offset, bytes)| Access::Write { offset, bytes }),
        2 => size.prop_map(|size| Access::Write { offset: 24, bytes: size.to_ne_bytes().into() }),
        5 => (0..8u32, reserved).prop_map(|(bits, reserved)| Access::State { word: bits | reserved }),
        2 => (0..256usize, vec(any::<u8>(), 1..40))
            .prop_map(|(offset, bytes)| Access::Scribble { offset, bytes }),
        6 => (1..900usize).prop_map(|size| Access::Give { size }),
        1 => Just(Access::Reset),
    ]
}

/// A save in the model.
struct Saving {
    generation: u64,
    /// The number of the next record that is queued.
    sequence: u32,
    queue: VecDeque<Record>,
    /// The chunk that is presented.
    presented: Option<Vec<Record>>,
}

impl Saving {
    fn new(generation: u64) -> Self {
        let mut saving = Self {
            generation,
            sequence: 0,
            queue: VecDeque::new(),
            presented: None,
        };
        if generation > 1 {
            saving.queue(wire::RESTART, generation, &[]);
        }
        saving.queue(wire::HEADER, generation, &wire::unit_header());
        saving
    }

    fn queue(&mut self, kind: u16, argument: u64, payload: &[u8]) {
        let record = Record::new(kind, self.sequence, argument, payload);
        self.queue.push_back(record);
        self.sequence += 1;
    }

    fn stop_and_copy(&mut self, live: &[u8], window: usize) {
        let piece = window - 32;
        for (index, bytes) in live.chunks(piece).enumerate() {
            self.queue(wire::STATE, (index * piece) as u64, bytes);
        }
        let totals = wire::totals(self.sequence, live.len() as u64, live);
        self.queue(wire::END, 0, &totals);
    }

    fn pending(&self) -> u64 {
        let sizes = self.queue.iter().map(|record| record.encode().len() as u64);
        sizes.sum()
    }

    fn present(&mut self, window: usize) -> Vec<u8> {
        let mut chunk = Vec::new();
        let mut records = Vec::new();
        while let Some(record) = self.queue.front() {
            let bytes = record.encode();
            if chunk.len() + bytes.len() > window {
                break;
            }
            chunk.extend(bytes);
            records.extend(self.queue.pop_front());
        }
        self.presented = Some(records);
        chunk
    }
}

/// A resume in the model.
#[derive(Default)]
struct Taking {
    received: Vec<u8>,
    refused: bool,
}

struct Model {
    word: u32,
    live: Vec<u8>,
    window: Vec<u8>,
    next_generation: u64,
    saving: Option<Saving>,
    taking: Option<Taking>,
    /// The stream that `Access::Give` gives, its state, and its records.
    good: Vec<u8>,
    good_state: Vec<u8>,
}

impl Model {
    fn bits(&self) -> u32 {
        self.word & 7
    }

    /// Returns whether a reader that has `received` has to refuse the stream by now.
    fn must_refuse(&self, received: &[u8]) -> bool {
        let mut at = 0;
        for record in wire::parse(&self.good) {
            let bytes = record.encode();
            for end in [32, bytes.len()] {
                if received.len() >= at + end && received[at..at + end] != bytes[..end] {
                    return true;
                }
            }
            at += bytes.len();
        }
        received.len() >= at + 32
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<u64, Errno> {
        match (offset, len) {
            (0, 4) => Ok(self.word.into()),
            (4, 4) => Ok(0),
            (8, 8) => Ok(self.saving.as_mut().map_or(0, |saving| {
                saving.presented = None;
                saving.pending()
            })),
            (16, 8) => {
                if let Some(saving) = &mut self.saving {
                    if saving.presented.is_none() {
                        let chunk = saving.present(self.window.len());
                        self.window[..chunk.len()].copy_from_slice(&chunk);
                    }
                }
                Ok(4096)
            }
            (24, 8) => {
                let presented = self
                    .saving
                    .as_ref()
                    .and_then(|saving| saving.presented.as_ref());
                Ok(presented.map_or(0, |records| wire::encode(records).len() as u64))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        match (offset, bytes.len()) {
            (0, 4) => self.state(u32::from_ne_bytes(bytes.try_into().unwrap())),
            (4, 4) => Ok(()),
            (8 | 16, 8) => Err(Errno::EPERM),
            (24, 8) => self.size(u64::from_ne_bytes(bytes.try_into().unwrap())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn size(&mut self, size: u64) -> Result<(), Errno> {
        let Some(mut taking) = self.taking.take() else {
            return Err(Errno::EINVAL);
        };
        let result = if size == 0 {
            Ok(())
        } else if size > self.window.len() as u64 {
            Err(Errno::EMSGSIZE)
        } else if taking.refused {
            Err(Errno::EBADMSG)
        } else {
            taking.received.extend(&self.window[..size as usize]);
            taking.refused = self.must_refuse(&taking.received);
            if taking.refused {
                Err(Errno::EBADMSG)
            } else {
                Ok(())
            }
        };
        self.taking = Some(taking);
        result
    }

    fn state(&mut self, word: u32) -> Result<(), Errno> {
        let old = self.bits();
        let new = word & 7;
        if new > 4 {
            return Err(Errno::EINVAL);
        }
        if old == new {
            self.word = word;
            return Ok(());
        }
        if let Some(taking) = &self.taking {
            if taking.refused {
                return Err(Errno::EBADMSG);
            }
            if taking.received != self.good {
                return Err(Errno::ENODATA);
            }
            self.live = self.good_state.clone();
        }

        let saves = new & 2 != 0;
        if old & 6 != new & 6 {
            self.window.fill(0);
            self.saving = None;
            self.taking = None;
        }
        if new == RESUMING {
            self.taking = Some(Taking::default());
        }
        if saves {
            let mut saving = match self.saving.take() {
                Some(mut saving) if old == PRE_COPY => {
                    match saving.presented.take().as_deref() {
                        None | Some([]) => {}
                        Some([first, ..]) if first.kind == wire::RESTART => {
                            saving = Saving::new(self.next_generation);
                        }
                        Some([first, ..]) => {
                            saving.queue.clear();
                            saving.queue(wire::RESEND, first.sequence.into(), &[]);
                            saving.queue(wire::HEADER, saving.generation, &wire::unit_header());
                        }
                    }
                    saving
                }
                _ => Saving::new(self.next_generation),
            };
            if new == STOP_COPY {
                saving.stop_and_copy(&self.live, self.window.len());
            }
            self.next_generation = saving.generation + 1;
            self.saving = Some(saving);
        }
        self.word = word;
        Ok(())
    }

    fn reset(&mut self) {
        self.word = RUNNING;
        self.live.clear();
        self.window.fill(0);
        self.saving = None;
        self.taking = None;
    }
}

fn apply(rig: &mut Rig, model: &mut Model, access: &Access) -> Result<(), TestCaseError> {
    match access {
        Access::Read { offset, len } => {
            let mut bytes = vec![0xee; *len];
            let seen = rig
                .read(*offset, &mut bytes)
                .map_err(|refusal| refusal.errno);
            let expected = model.read(*offset, *len);
            prop_assert_eq!(seen, expected.map(|_| ()));
            match expected {
                Ok(value) => prop_assert_eq!(&bytes[..], &value.to_le_bytes()[..*len]),
                Err(_) => prop_assert_eq!(bytes, vec![0xee; *len]),
            }
        }
        Access::Write { offset, bytes } => {
            let seen = rig.write(*offset, bytes).map_err(|refusal| refusal.errno);
            prop_assert_eq!(seen, model.write(*offset, bytes));
        }
        Access::State { word } => {
            let seen = rig.set(*word).map_err(|refusal| refusal.errno);
            prop_assert_eq!(seen, model.write(0, &word.to_ne_bytes()));
        }
        Access::Scribble { offset, bytes } => {
            for window in [&mut rig.region.data_mut().bytes, &mut model.window] {
                let room = window.len().saturating_sub(*offset).min(bytes.len());
                window[*offset..][..room].copy_from_slice(&bytes[..room]);
            }
        }
        Access::Give { size } => {
            let given = model
                .taking
                .as_ref()
                .map_or(0, |taking| taking.received.len());
            let rest = &model.good[given.min(model.good.len())..];
            let chunk = rest[..rest.len().min(*size).min(model.window.len())].to_vec();
            model.window[..chunk.len()].copy_from_slice(&chunk);
            let expected = model.size(chunk.len() as u64);
            let seen = rig.give_chunk(&chunk).map_err(|refusal| refusal.errno);
            prop_assert_eq!(seen, expected);
        }
        Access::Reset => {
            rig.reset();
            model.reset();
        }
    }

    prop_assert_eq!(rig.word(), model.word, "device_state");
    prop_assert_eq!(rig.size(), model.read(24, 8).unwrap(), "data_size");
    prop_assert!(4096 + rig.size() <= rig.region.size(), "v1_12");
    prop_assert_eq!(&rig.unit.live, &model.live, "the live device");
    prop_assert_eq!(
        rig.unit.running,
        model.word & 1 != 0,
        "whether the device runs"
    );
    prop_assert!(rig.region.data().bytes == model.window, "the window");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v1_33_to_v1_45_any_sequence_of_accesses_does_what_the_model_says(
        window in 256..2048usize,
        live in 0..2000usize,
        good in 0..700usize,
        accesses in vec(access(), 1..60),
    ) {
        let good_state = pattern(good);
        let mut rig = Rig::new(&pattern(live), window);
        let mut model = Model {
            word: RUNNING,
            live: pattern(live),
            window: vec![0; window],
            next_generation: 1,
            saving: None,
            taking: None,
            good: stream_of(&good_state, 300),
            good_state,
        };

        for access in &accesses {
            apply(&mut rig, &mut model, access)?;
        }
    }
}
