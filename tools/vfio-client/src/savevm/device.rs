// SPDX-License-Identifier: GPL-2.0

//! The content of a VFIO device's section, `hw/vfio/migration.c`.

use std::io::Read;

use super::input::expect_word;
use super::input::Input;
use super::refuse;
use super::Result;

/// Words in the section of a VFIO device, `VFIO_MIG_FLAG_*`.
pub mod flag {
    pub const END_OF_STATE: u64 = 0xffff_ffff_ef10_0001;
    pub const DEV_SETUP_STATE: u64 = 0xffff_ffff_ef10_0003;
    pub const DEV_DATA_STATE: u64 = 0xffff_ffff_ef10_0004;
}

/// Reads the start of a device's section, which carries no state.
pub fn setup<R: Read>(input: &mut Input<R>) -> Result<()> {
    let what = "the beginning of a device's state";
    expect_word(input, flag::DEV_SETUP_STATE, what)?;
    expect_word(input, flag::END_OF_STATE, what)
}

/// Appends data to `bytes`, as long as it is not more than `left`.
pub fn data<R: Read>(input: &mut Input<R>, bytes: &mut Vec<u8>, left: &mut usize) -> Result<()> {
    loop {
        let at = input.offset;
        match input.u64("a word of a device's state")? {
            flag::END_OF_STATE => return Ok(()),
            flag::DEV_DATA_STATE => {
                let at = input.offset;
                let length = input.u64("the length of a device's data")?;
                let rest = usize::try_from(length)
                    .ok()
                    .and_then(|length| left.checked_sub(length));
                let Some(rest) = rest else {
                    let why = format!("{length} bytes of state, no more than {left} are wanted");
                    return refuse(at, why);
                };
                *left = rest;
                input.append(length, bytes, "a device's data")?;
            }
            word => return refuse(at, format!("a word {word:#x} in a device's state")),
        }
    }
}
