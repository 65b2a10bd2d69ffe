// SPDX-License-Identifier: GPL-2.0

//! Checks that every device model has to pass, for its host tests.
//!
//! The checks know the trait [`DeviceModel`] and nothing of the device. A model's own tests bring the
//! device into interesting states, and call the checks there. A check panics with the expected and
//! the actual value.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt::{
    Debug,
    Display, //
};
use std::ops::Range;

use device_model::{
    DeviceModel,
    GuestMemory,
    MemoryError,
    CONFIGURATION_MAX, //
};

mod whole;

pub use whole::{
    Undisturbed,
    Whole, //
};

/// Memory of a guest, from bus address 0 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ram(pub Vec<u8>);

impl Ram {
    /// Returns `size` bytes of zeros.
    pub fn new(size: usize) -> Self {
        Self(vec![0; size])
    }

    fn range(&self, address: u64, length: usize) -> Result<Range<usize>, MemoryError> {
        let start = usize::try_from(address).map_err(|_| MemoryError)?;
        let end = start.checked_add(length).ok_or(MemoryError)?;
        if end > self.0.len() {
            return Err(MemoryError);
        }
        Ok(start..end)
    }
}

impl GuestMemory for Ram {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let range = self.range(address, into.len())?;
        into.copy_from_slice(&self.0[range]);
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        let range = self.range(address, from.len())?;
        self.0[range].copy_from_slice(from);
        Ok(())
    }
}

/// A model that the checks can copy.
pub trait Rigged: DeviceModel<Executor: Clone + PartialEq + Debug> + Clone {}

impl<M: DeviceModel<Executor: Clone + PartialEq + Debug> + Clone> Rigged for M {}

/// Returns a model after power-on.
pub fn power_on<M: DeviceModel>(parameters: &M::Parameters) -> Whole<M> {
    match Whole::power_on(parameters) {
        Ok(model) => model,
        Err(error) => panic!("a {} has these parameters: {error}", M::TYPE),
    }
}

/// Returns the state of a model.
pub fn save<M: Rigged>(model: &Whole<M>) -> Vec<u8> {
    let mut state = vec![0xa5; model.state_size()];
    let size = model.clone().save(&mut state).expect("the state has room");
    state.truncate(size);
    state
}

/// Returns a model with `parameters` that has loaded `state`.
///
/// # Errors
///
/// The model's refusal.
pub fn load<M: DeviceModel>(
    parameters: &M::Parameters,
    state: &[u8],
) -> Result<Whole<M>, M::LoadError> {
    let mut model = power_on::<M>(parameters);
    model.load(state)?;
    Ok(model)
}

/// Checks all that can be checked of `model`, which has `parameters`, as it is.
pub fn check<M: Rigged>(parameters: &M::Parameters, model: &Whole<M>) {
    check_shape(model);
    check_round_trip(parameters, model);
    check_room(model);
    check_lengths(parameters, model);
}

/// Checks what the framework takes for granted of a model's constants and of its configuration.
pub fn check_shape<M: Rigged>(model: &Whole<M>) {
    assert!(
        (1..=16).contains(&M::TYPE.len()) && M::TYPE.is_ascii(),
        "the type {:?} has 1 to 16 ASCII characters",
        M::TYPE
    );
    assert!(
        M::VECTORS.msi <= 32,
        "{} MSI vectors are too many",
        M::VECTORS.msi
    );
    assert!(
        M::VECTORS.msix <= 32,
        "{} MSI-X vectors are too many",
        M::VECTORS.msix
    );

    let mut configuration = [0; CONFIGURATION_MAX];
    let length = model.configuration(&mut configuration);
    assert!(
        length <= CONFIGURATION_MAX,
        "a configuration of {length} bytes fits into {CONFIGURATION_MAX}"
    );
    let outside = M::CONFIG_SIZE;
    assert!(
        model.read_config(outside, &mut [0]).is_err(),
        "a read of byte {outside} of configuration space is refused"
    );
}

/// Checks that a model that has loaded the state of `model` saves the same bytes, into a model after
/// power-on and into one that has loaded a state before, and that nothing of `model` is left in a model
/// that loads the state after power-on.
pub fn check_round_trip<M: Rigged>(parameters: &M::Parameters, model: &Whole<M>) {
    let state = save(model);
    assert_eq!(save(model), state, "a save changes nothing");

    let loaded = load::<M>(parameters, &state);
    let mut loaded = expect(loaded, "a saved state loads");
    assert_eq!(save(&loaded), state, "a loaded model saves the same state");
    assert_eq!(
        configuration(&loaded),
        configuration(model),
        "a loaded model has the same configuration"
    );

    expect(loaded.load(&state), "a saved state loads again");
    assert_eq!(save(&loaded), state, "in the same place");

    // The model that a resume has replaced loads the state of the next resume.
    let fresh = save(&power_on::<M>(parameters));
    expect(
        loaded.load(&fresh),
        "a used model loads the state after power-on",
    );
    assert_eq!(save(&loaded), fresh, "and nothing of the former is left");
    expect(loaded.load(&state), "a saved state loads once more");
    assert_eq!(save(&loaded), state, "and nothing is missing");
}

/// Checks that a save takes no more room than the state has, and leaves the rest alone.
pub fn check_room<M: Rigged>(model: &Whole<M>) {
    let state = save(model);
    assert!(
        state.len() <= model.state_size(),
        "a state of {} bytes is at most {}",
        state.len(),
        model.state_size()
    );
    let mut small = vec![0; state.len() - 1];
    assert_eq!(
        model.clone().save(&mut small),
        None,
        "a byte less is not enough"
    );

    let mut large = vec![0x5a; state.len() + 9];
    assert_eq!(
        model.clone().save(&mut large),
        Some(state.len()),
        "more is enough"
    );
    assert_eq!(large[..state.len()], state, "the state");
    assert_eq!(
        large[state.len()..],
        [0x5a; 9],
        "the bytes behind the state"
    );
}

/// Checks that a state that was cut or extended is refused.
pub fn check_lengths<M: Rigged>(parameters: &M::Parameters, model: &Whole<M>) {
    let mut state = save(model);
    let mut loaded = power_on::<M>(parameters);
    for length in 0..state.len() {
        assert!(
            loaded.load(&state[..length]).is_err(),
            "{length} bytes of a state of {} are refused",
            state.len()
        );
    }
    let good = state.clone();
    state.push(0);
    assert!(loaded.load(&state).is_err(), "a byte too many is refused");
    expect(
        loaded.load(&good),
        "a state loads after others were refused",
    );
}

/// Checks that a state with any byte changed is refused, or accepted without loss of a bit, and that
/// `survives` an accepted one. Returns how many states were accepted.
///
/// A refused state must not spoil the model for the next one.
pub fn check_hostile<M: Rigged>(
    parameters: &M::Parameters,
    model: &Whole<M>,
    changes: &[u8],
    mut survives: impl FnMut(Whole<M>),
) -> usize {
    let good = save(model);
    let mut used = power_on::<M>(parameters);
    let mut accepted = 0;
    for at in 0..good.len() {
        for change in changes {
            let mut state = good.clone();
            state[at] ^= change;
            match load::<M>(parameters, &state) {
                Ok(loaded) => {
                    assert_eq!(
                        save(&loaded),
                        state,
                        "byte {at} changed by {change:#04x}: accepted, so all of it is used"
                    );
                    assert!(
                        used.load(&state).is_ok(),
                        "byte {at} changed by {change:#04x}: accepted by a used model, too"
                    );
                    survives(loaded);
                    accepted += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty(), "a refusal has a text");
                    assert!(
                        used.load(&state).is_err(),
                        "byte {at} changed by {change:#04x}: refused by a used model, too"
                    );
                }
            }
        }
    }
    expect(used.load(&good), "a state loads after others were refused");
    assert_eq!(save(&used), good, "and nothing of the others is left");
    accepted
}

/// Checks that a load leaves nothing of the model that it replaces: `used`, which has `parameters`, equals
/// a model after power-on once both have loaded the state of `model`. The same holds after refused
/// attempts, and while messages are connected.
pub fn check_load_replaces<M: Rigged + PartialEq + Debug>(
    parameters: &M::Parameters,
    used: &Whole<M>,
    model: &Whole<M>,
) {
    let state = save(model);
    let fresh = expect(load::<M>(parameters, &state), "a saved state loads");

    let mut used = used.clone();
    used.set_msi(true);
    used.set_msix(true);
    expect(used.load(&state), "a used model loads a saved state");
    assert_eq!(used, fresh, "nothing of the former model is left");

    for at in 0..state.len() {
        let mut other = state.clone();
        other[at] ^= 0xff;
        let _ = used.load(&other);
    }
    expect(used.load(&state), "a state loads after others");
    assert_eq!(used, fresh, "nothing of the other states is left");
}

/// Checks that a look at BAR `bar`, of `size` bytes, shows what a read would, and changes nothing.
pub fn check_peek<M: Rigged + PartialEq + Debug>(model: &Whole<M>, bar: u32, size: u64) {
    for offset in 0..size {
        let (mut peeked, mut read) = ([0xa5], [0x5a]);
        let before = model.clone();
        expect(
            model.peek_bar(bar, offset, &mut peeked),
            "a look is allowed",
        );
        assert_eq!(*model, before, "a look at {offset:#x} changes nothing");
        let read_result = model.clone().read_bar(bar, offset, &mut read);
        expect(read_result, "a read is allowed");
        assert_eq!(peeked, read, "byte {offset:#x} of BAR {bar}");
    }
    assert!(
        model.peek_bar(bar, size, &mut [0]).is_err(),
        "a look behind the end of BAR {bar} is refused"
    );
    assert!(
        model.clone().write_bar(bar, size, &[0]).is_err(),
        "a write behind the end of BAR {bar} is refused"
    );
}

fn configuration<M: DeviceModel>(model: &Whole<M>) -> Vec<u8> {
    let mut configuration = [0; CONFIGURATION_MAX];
    let length = model.configuration(&mut configuration);
    configuration[..length].to_vec()
}

fn expect<T, E: Display>(result: Result<T, E>, expected: &str) -> T {
    result.unwrap_or_else(|error| panic!("{expected}: {error}"))
}
