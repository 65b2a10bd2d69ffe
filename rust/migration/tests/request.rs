// SPDX-License-Identifier: GPL-2.0

//! Requests for a state of protocol v2 that take several arcs, where one arc fails.

use crate::common::Faults;
use crate::common::Rig;
use crate::v2::good_stream;
use crate::v2::is_p2p;
use crate::v2::rig_in;
use crate::v2::runs;
use crate::v2::saves;
use crate::v2::STATES;
use migration::v2::request::Path;
use migration::Refusal;
use vfio_uapi::v2::MigState;
use vfio_uapi::v2::MigState::*;
use vfio_uapi::Errno;

/// The next state on the way, from the comment of `vfio_mig_get_next_state()`.
fn next_of(from: MigState, to: MigState) -> Option<MigState> {
    let next = match (from, to) {
        (Error, _) | (_, Error) | (StopCopy, PreCopy | PreCopyP2p) => return None,
        (from, to) if from == to => to,
        (Stop, StopCopy | Resuming) => to,
        (Stop, _) => RunningP2p,
        (Running, PreCopy) => PreCopy,
        (Running, _) => RunningP2p,
        (PreCopy, PreCopyP2p | StopCopy) => PreCopyP2p,
        (PreCopy, _) => Running,
        (PreCopyP2p, PreCopy | StopCopy) => to,
        (PreCopyP2p, _) => RunningP2p,
        (StopCopy | Resuming, _) => Stop,
        (RunningP2p, Running | PreCopy) => Running,
        (RunningP2p, PreCopyP2p) => PreCopyP2p,
        (RunningP2p, _) => Stop,
    };
    Some(next)
}

/// Why a request fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Why {
    NoWay,
    NoFile,
    Device(Errno),
}

/// The kernel, which passes requests on.
#[derive(Default)]
struct Kernel {
    /// There is no memory for a data file.
    no_file: bool,
    /// The arcs that were done.
    arcs: Vec<(MigState, MigState)>,
    prepared: Option<(MigState, MigState)>,
    /// Whether a session is open.
    session: bool,
    /// The state in which the request began, the one that it has left the device in, and why.
    gave_up: Option<(MigState, MigState, Why)>,
}

impl Path for Kernel {
    type Error = Why;

    fn next(&mut self, from: MigState, to: MigState) -> Result<MigState, Why> {
        next_of(from, to).ok_or(Why::NoWay)
    }

    fn prepare(&mut self, from: MigState, to: MigState) -> Result<(), Why> {
        if self.no_file && from.begins_session(to) {
            return Err(Why::NoFile);
        }
        self.prepared = Some((from, to));
        Ok(())
    }

    fn done(&mut self, from: MigState, to: MigState) {
        assert_eq!(
            self.prepared.take(),
            Some((from, to)),
            "the arc that is done"
        );
        self.arcs.push((from, to));
        self.session = to == Resuming || saves(to);
    }

    fn failed(&mut self, _reached: MigState, refusal: Refusal) -> Why {
        self.prepared = None;
        Why::Device(refusal.errno)
    }

    fn gave_up(&mut self, from: MigState, reached: MigState, error: &Why) {
        assert!(self.gave_up.is_none(), "it is told once");
        self.gave_up = Some((from, reached, *error));
    }
}

fn request(rig: &mut Rig, kernel: &mut Kernel, to: MigState) -> Result<(), Why> {
    rig.with_port(|engine, _, port| migration::v2::request::request(engine, port, kernel, to))
}

#[test]
fn a_request_takes_the_arcs_of_the_kernel() {
    let stream = good_stream();
    for from in STATES {
        for to in STATES {
            let mut rig = rig_in(from, &stream);
            let mut kernel = Kernel::default();
            let result = request(&mut rig, &mut kernel, to);
            if next_of(from, to).is_none() {
                assert_eq!(result, Err(Why::NoWay), "{from} to {to}");
                assert_eq!(rig.mig_state(), from, "{from} to {to}");
                assert_eq!(kernel.arcs, [], "{from} to {to}");
                continue;
            }
            assert_eq!(result, Ok(()), "{from} to {to}");
            assert_eq!(rig.mig_state(), to, "{from} to {to}");
            assert_eq!(kernel.gave_up, None, "{from} to {to}");
            let mut at = from;
            for (before, after) in kernel.arcs {
                assert_eq!(
                    (before, Some(after)),
                    (at, next_of(at, to)),
                    "{from} to {to}"
                );
                at = after;
            }
            assert_eq!(at, to, "{from} to {to}");
        }
    }
}

#[test]
fn a_stop_that_fails_leaves_the_device_as_it_was() {
    for (from, to) in [
        (Running, Stop),
        (Running, StopCopy),
        (Running, Resuming),
        (PreCopy, StopCopy),
        (PreCopyP2p, StopCopy),
        (RunningP2p, Stop),
    ] {
        let mut rig = rig_in(from, &[]);
        rig.unit.faults.stop = true;
        let mut kernel = Kernel::default();
        let result = request(&mut rig, &mut kernel, to);
        let expected = Why::Device(crate::common::FAIL_STOP);
        assert_eq!(result, Err(expected), "{from} to {to}");
        assert_eq!(rig.mig_state(), from, "{from} to {to}");
        assert_eq!(rig.unit.p2p, is_p2p(from), "{from} to {to}");
        assert!(rig.unit.running, "{from} to {to}");
        // A single arc needs no more than its own refusal.
        let told = kernel.gave_up.map(|(from, reached, _)| (from, reached));
        let moved = is_p2p(from).then_some(()).is_none();
        assert_eq!(told, moved.then_some((from, from)), "{from} to {to}");
        rig.unit.faults = Faults::default();
        assert_eq!(request(&mut rig, &mut kernel, to), Ok(()), "a second try");
    }
}

/// Returns the state in which a failed request has to leave the device: `from` if no session has begun or ended
/// on the way to `reached` and the device can go back; running if it ran and its session has ended.
fn expected(from: MigState, reached: MigState, session: bool, faults: Faults) -> MigState {
    let home = match (session, from) {
        (false, _) => from,
        (true, Running | PreCopy) if !saves(reached) => Running,
        _ => return reached,
    };
    let mut at = reached;
    while at != home {
        let next = next_of(at, home).expect("a way back");
        if runs(next) && !runs(at) && faults.start || runs(at) && !runs(next) && faults.stop {
            return at;
        }
        at = next;
    }
    home
}

#[test]
fn whatever_fails_on_the_way_the_device_goes_back_or_stays() {
    let stream = good_stream();
    let mut seen = 0;
    for (from, to) in STATES
        .into_iter()
        .flat_map(|from| STATES.map(|to| (from, to)))
        .filter(|(from, to)| next_of(*from, *to).is_some())
    {
        for bits in 0..32 {
            let faults = Faults {
                stop: bits & 1 != 0,
                start: bits & 2 != 0,
                save: bits & 4 != 0,
                track: bits & 8 != 0,
                ..Faults::default()
            };
            let mut kernel = Kernel {
                no_file: bits & 16 != 0,
                ..Kernel::default()
            };
            let what = format!(
                "{from} to {to} with {faults:?}, no file: {}",
                kernel.no_file
            );
            let mut rig = rig_in(from, &stream);
            rig.unit.faults = faults;

            // The state that the request reaches.
            let mut reached = from;
            let mut session = false;
            let mut breaks = false;
            while reached != to {
                let next = next_of(reached, to).expect("a way");
                let stops = runs(reached) && !runs(next);
                let begins = next == Resuming || saves(next) && !saves(reached);
                let ends = reached == Resuming || saves(reached) && !saves(next);
                let tracks = saves(next) && !saves(reached) && faults.track;
                let captures = next == StopCopy && faults.save;
                let starts = !runs(reached) && runs(next) && faults.start;
                if begins && kernel.no_file {
                    break;
                }
                if stops && faults.stop || tracks || captures || starts {
                    breaks = stops && !faults.stop && (tracks || captures) && faults.start;
                    break;
                }
                session |= begins || ends;
                reached = next;
            }

            let result = request(&mut rig, &mut kernel, to);
            assert_eq!(result.is_ok(), reached == to, "{what}: {result:?}");
            let moved = reached != from;
            let expected = match (&result, breaks) {
                (Ok(()), _) => to,
                (Err(_), true) => Error,
                (Err(_), false) => expected(from, reached, session, faults),
            };
            assert_eq!(rig.mig_state(), expected, "{what}");
            assert_eq!(rig.unit.p2p, is_p2p(expected), "{what}: P2P");
            let told = result
                .err()
                .filter(|_| moved)
                .map(|why| (from, expected, why));
            assert_eq!(kernel.gave_up, told, "{what}: what is told");
            seen += usize::from(told.is_some());
        }
    }
    assert!(seen > 300, "{seen} requests failed after an arc");
}
