// SPDX-License-Identifier: GPL-2.0

//! Resets: nothing of a user is left, and no moment is a wrong one.

use std::thread;

use vfio_bindings::bindings::vfio;
use vfio_client::v1::State;
use vfio_drivers::random::Random;

use crate::case::cases;
use crate::case::Case;
use crate::check::same_bytes;
use crate::check::Outcome;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::v1::config::COMMAND;
use crate::v1::device::TestDevice;

const NEEDS: &[Requirement] = &[Requirement::V1, Requirement::E1000e];

pub const CASES: &[Case] = cases![
    NEEDS;
    card_a_reset_leaves_nothing_of_the_user,
    card_a_close_leaves_nothing_of_the_user,
    card_resets_transitions_and_accesses_at_once,
];

/// By PCI the card has a reset by power management at most, which need not clear a register.
fn card_a_reset_leaves_nothing_of_the_user(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    device.expect_fresh()?;
    let fresh = device.image()?;
    for state in State::VALID {
        device.fill(7)?;
        device.set(state)?;
        device.reset()?;
        device.expect_fresh()?;
        same_bytes(
            format_args!("image after a reset in {state}"),
            &device.image()?,
            &fresh,
        )?;
    }
    device.expect_works()
}

fn card_a_close_leaves_nothing_of_the_user(target: &Target) -> Outcome {
    let mut device = TestDevice::new(target)?;
    for state in State::VALID {
        device.fill(8)?;
        device.set(state)?;
        device = device.reopen()?;
        device.expect_fresh()?;
    }
    device.expect_works()
}

/// How often each thread does what it does.
const ROUNDS: usize = 12;

fn card_resets_transitions_and_accesses_at_once(target: &Target) -> Outcome {
    let device = TestDevice::new(target)?;
    let space = device.vfio().region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for seed in 1..=2 {
            let device = &device;
            threads.push(scope.spawn(move || -> Outcome {
                let mut random = Random::new(seed);
                for _ in 0..ROUNDS {
                    // A reset by another thread may come between: any state may be refused.
                    let state = State::VALID[random.below(State::VALID.len())];
                    let _ = device.migration.set_state(state);
                    let _ = device.migration.pending();
                    let _ = device.migration.state();
                }
                Ok(())
            }));
        }
        threads.push(scope.spawn(|| {
            for _ in 0..ROUNDS {
                device.vfio().reset()?;
            }
            Ok(())
        }));
        threads.push(scope.spawn(|| {
            for _ in 0..ROUNDS {
                // Without memory decoding, without bus mastering, with both.
                for command in [0u16, 2, 6] {
                    space.write(COMMAND, &command.to_le_bytes())?;
                }
            }
            Ok(())
        }));
        threads.push(scope.spawn(|| {
            for _ in 0..ROUNDS {
                // Refused while memory decoding is off.
                let _ = device.poke();
                let _ = device.migration.drain();
            }
            Ok(())
        }));
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(crate::check::Stop::failed("a thread panicked")))
        })
    })?;
    device.reset()?;
    device.expect_fresh()?;
    device.expect_works()
}
