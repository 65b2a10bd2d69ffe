// SPDX-License-Identifier: GPL-2.0

//! The fields of a saved state: a small model that uses each kind of them.

use device_model::saved_state::{
    check_unused,
    check_version,
    save,
    StateError,
    StateReader,
    StateWriter, //
};

const SIZE: usize = 1 + 3 + 1 + 2 + 4 + 8 + 1 + 2;

/// A version byte, three reserved bytes, a field of each kind, and two bytes that are used if the flag is
/// set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    a: u8,
    b: u16,
    c: u32,
    d: u64,
    pair: Option<[u8; 2]>,
}

const MODEL: Model = Model {
    a: 0x11,
    b: 0x2233,
    c: 0x4455_6677,
    d: 0x8899_aabb_ccdd_eeff,
    pair: Some([1, 2]),
};

impl Model {
    fn save(&self, state: &mut StateWriter<'_>) {
        state.u8(7);
        state.reserved::<3>();
        state.u8(self.a);
        state.u16(self.b);
        state.u32(self.c);
        state.u64(self.d);
        state.u8(self.pair.is_some().into());
        state.bytes(&self.pair.unwrap_or_default());
    }

    fn load(state: &[u8]) -> Result<Self, StateError> {
        check_version(state, 7)?;
        let mut reader = StateReader::new(state, SIZE)?;
        reader.reserved::<4>()?;
        let a = reader.u8_of("a", 0x1f)?;
        let b = reader.u16_of("b", 0x3fff)?;
        let c = reader.u32_of("c", 0x7fff_ffff)?;
        let d = reader.u64_of("d", u64::MAX)?;
        let has_pair = reader.flag("pair")?;
        let pair = reader.bytes()?;
        let model = Self {
            a,
            b,
            c,
            d,
            pair: has_pair.then_some(pair),
        };
        check_unused(state, |state| model.save(state))?;
        Ok(model)
    }
}

fn saved(model: &Model) -> [u8; SIZE] {
    let mut state = [0xff; SIZE];
    let size = save(&mut state, SIZE, |state| model.save(state));
    assert_eq!(size, Some(SIZE), "all of it is written");
    state
}

#[test]
fn fields_are_little_endian_and_in_order() {
    let expected = [
        7, 0, 0, 0, 0x11, 0x33, 0x22, 0x77, 0x66, 0x55, 0x44, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa,
        0x99, 0x88, 1, 1, 2,
    ];
    assert_eq!(saved(&MODEL), expected);
    assert_eq!(Model::load(&expected), Ok(MODEL));
}

#[test]
fn a_save_needs_its_room_and_no_more() {
    let mut small = [0; SIZE - 1];
    assert_eq!(save(&mut small, SIZE, |state| MODEL.save(state)), None);
    let mut large = [0x5a; SIZE + 2];
    assert_eq!(
        save(&mut large, SIZE, |state| MODEL.save(state)),
        Some(SIZE)
    );
    assert_eq!(large[SIZE..], [0x5a; 2], "the bytes behind the state");
}

#[test]
fn the_version_comes_before_the_length() {
    assert_eq!(
        Model::load(&[8]),
        Err(StateError::Version { known: 7, found: 8 })
    );
    for length in [0, 1, SIZE - 1, SIZE + 1] {
        let mut state = [0; SIZE + 1];
        state[..SIZE].copy_from_slice(&saved(&MODEL));
        assert_eq!(
            Model::load(&state[..length]),
            Err(StateError::Length {
                expected: SIZE,
                found: length
            })
        );
    }
}

#[test]
fn each_field_has_its_bits_and_its_range() {
    let change = |offset: usize, value: u8| {
        let mut state = saved(&MODEL);
        state[offset] = value;
        Model::load(&state)
    };
    let bits = |field, found, allowed| {
        Err(StateError::Bits {
            field,
            found,
            allowed,
        })
    };
    assert_eq!(change(4, 0x31), bits("a", 0x31, 0x1f));
    assert_eq!(change(6, 0x62), bits("b", 0x6233, 0x3fff));
    assert_eq!(change(10, 0xc4), bits("c", 0xc455_6677, 0x7fff_ffff));
    assert_eq!(
        change(19, 2),
        Err(StateError::Range {
            field: "pair",
            found: 2,
            most: 1
        })
    );
}

#[test]
fn the_first_unused_byte_is_found() {
    let without_pair = Model {
        pair: None,
        ..MODEL
    };
    for offset in [1, 2, 3, 20, 21] {
        let mut state = saved(&without_pair);
        state[offset] = 5;
        state[21] |= 1;
        assert_eq!(
            Model::load(&state),
            Err(StateError::Unused {
                offset,
                found: state[offset]
            })
        );
    }
}

#[test]
fn a_reader_past_the_end_says_so() {
    let mut reader = StateReader::new(&[1, 2, 3], 3).expect("the length is right");
    assert_eq!(reader.u16(), Ok(0x0201));
    assert!(
        matches!(reader.u16(), Err(StateError::Length { found: 3, .. })),
        "one byte is left of two"
    );
    assert_eq!(reader.u8(), Ok(3), "and is still there");
}
