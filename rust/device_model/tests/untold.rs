// SPDX-License-Identifier: GPL-2.0

//! Losses of data are told to the guest, each once.

use device_model::Untold;

#[test]
fn nothing_is_told_of_no_loss() {
    let mut untold = Untold::<i32>::default();
    assert_eq!(untold.keep(Ok(())), Ok(()));
    assert_eq!(untold.tell(Ok(())), Ok(()));
}

#[test]
fn a_loss_is_kept_until_the_guest_knows() {
    let mut untold = Untold::default();
    assert_eq!(untold.keep(Err(5)), Err(5));
    assert_eq!(untold.keep(Ok(())), Err(5), "a second stop");
    assert_eq!(untold.keep(Err(28)), Err(5), "the first loss");
    assert_eq!(untold.tell(Ok(())), Err(5));
    assert_eq!(untold.tell(Ok(())), Ok(()), "once");
    assert_eq!(untold.keep(Ok(())), Ok(()), "a stop that works");
}

#[test]
fn a_flush_that_fails_tells_what_was_kept_as_well() {
    let mut untold = Untold::default();
    assert_eq!(untold.keep(Err(5)), Err(5));
    assert_eq!(untold.tell(Err(28)), Err(28));
    assert_eq!(untold.tell(Ok(())), Ok(()));
    assert_eq!(untold.keep(Ok(())), Ok(()));
}
