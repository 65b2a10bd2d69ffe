// SPDX-License-Identifier: GPL-2.0

//! The states of protocol v2, and the arcs between them.
//!
//! The states are those of the engine, and two more in which the device runs but initiates no DMA (P2P). The
//! kernel takes a change apart into arcs; an arc does the same list of steps as a change in protocol v1.

use crate::{
    engine::{
        Engine,
        LastChunk, //
    },
    port::Port,
    refusal::Refusal,
};
use vfio_uapi::{
    v1::State,
    v2::MigState, //
};

/// Returns the state of the engine in which the device is in `state`.
pub const fn engine_state(state: MigState) -> State {
    match state {
        MigState::Error => State::Error,
        MigState::Stop => State::Stop,
        MigState::Running | MigState::RunningP2p => State::Running,
        MigState::StopCopy => State::StopCopy,
        MigState::Resuming => State::Resuming,
        MigState::PreCopy | MigState::PreCopyP2p => State::PreCopy,
    }
}

/// Returns the state of protocol v2 that the device of `engine` is in.
pub fn state<B: AsMut<[u8]> + AsRef<[u8]>>(engine: &Engine<B>) -> MigState {
    match (engine.state(), engine.is_p2p()) {
        (State::Error, _) => MigState::Error,
        (State::Stop, _) => MigState::Stop,
        (State::Running, false) => MigState::Running,
        (State::Running, true) => MigState::RunningP2p,
        (State::StopCopy, _) => MigState::StopCopy,
        (State::Resuming, _) => MigState::Resuming,
        (State::PreCopy, false) => MigState::PreCopy,
        (State::PreCopy, true) => MigState::PreCopyP2p,
    }
}

/// Does the arc from the present state to `to`, which the kernel's state machine has found.
///
/// # Errors
///
/// Why a step of it fails; the device is in the state that it was in, or in ERROR.
pub fn arc<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
    engine: &mut Engine<B>,
    port: &mut P,
    to: MigState,
) -> Result<(), Refusal> {
    let from = engine.state();

    steps(engine, port, to).inspect_err(|refusal| port.on_refusal(from, refusal))
}

fn steps<P: Port, B: AsMut<[u8]> + AsRef<[u8]>>(
    engine: &mut Engine<B>,
    port: &mut P,
    to: MigState,
) -> Result<(), Refusal> {
    engine.refuse_in_error()?;

    // P2P before the device runs, and left only when it has stopped or runs anyway: in between nothing
    // must be initiated.
    let was_p2p = engine.is_p2p();
    if to.is_p2p() {
        engine.set_p2p(port, true)?;
    }
    engine
        .transition(port, engine_state(to), LastChunk::Taken)
        .inspect_err(|_| {
            // The device is stopped or broken, so that it initiates nothing should this fail.
            let _ = engine.set_p2p(port, was_p2p && engine.state() != State::Error);
        })?;
    if !to.is_p2p() {
        let left = engine.set_p2p(port, false);
        // A stopped device initiates nothing in P2P or not, and leaves P2P when it runs at the latest.
        if engine.state().is_running() || engine.state() == State::Error {
            left?;
        }
    }
    Ok(())
}
