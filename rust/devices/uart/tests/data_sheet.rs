// SPDX-License-Identifier: GPL-2.0

//! The data sheet of the 16550A, statement by statement.

use uart::DeviceModel;

use crate::bench::Serial;
use crate::serial_reg::*;

/// Characters that are told apart.
const TEXT: &[u8; 20] = b"abcdefghijklmnopqrst";

#[test]
fn master_reset_values() {
    let mut serial = Serial::new();

    serial.expect(IER, 0, "IER after reset");
    serial.expect(IIR, IIR_NO_INT, "IIR after reset, without FIFOs");
    serial.expect(LCR, 0, "LCR after reset");
    serial.expect(MCR, 0, "MCR after reset");
    serial.expect(LSR, LSR_THRE | LSR_TEMT, "LSR after reset");
    serial.expect(MSR, 0, "MSR after reset, with a plug on inactive outputs");
    serial.expect(SCR, 0, "SCR after reset");
    serial.expect(RX, 0, "an empty receiver buffer");
    serial.expect_interrupt(false, "after reset");
}

#[test]
fn ier_and_mcr_have_only_their_bits() {
    let mut serial = Serial::new();

    serial.write(IER, 0xff);
    serial.expect(IER, 0x0f, "IER bits 4 to 7 are always 0");
    serial.write(MCR, 0xff);
    serial.expect(MCR, 0x1f, "MCR bits 5 to 7 are always 0");
}

#[test]
fn lcr_and_scr_keep_every_value() {
    let mut serial = Serial::new();

    for value in 0..=u8::MAX {
        serial.write(LCR, value);
        serial.expect(LCR, value, "LCR");
        serial.write(SCR, value);
        serial.expect(SCR, value, "SCR");
    }
}

#[test]
fn lsr_and_msr_cannot_be_written() {
    let mut serial = Serial::new();

    serial.write(LSR, 0);
    serial.expect(LSR, LSR_THRE | LSR_TEMT, "LSR after writing 0");
    serial.write(MSR, 0xff);
    serial.expect(MSR, 0, "MSR after writing ones");
}

#[test]
fn dlab_puts_the_divisor_on_the_first_two_addresses() {
    let mut serial = Serial::new();

    serial.write(IER, IER_MSI);
    serial.write(LCR, LCR_DLAB | LCR_WLEN8);
    serial.write(DLL, 0x34);
    serial.write(DLM, 0x12);
    serial.expect(DLL, 0x34, "DLL");
    serial.expect(DLM, 0x12, "DLM");

    serial.write(LCR, LCR_WLEN8);
    serial.expect(IER, IER_MSI, "IER after the divisor was written");
    serial.expect_bits(LSR, LSR_DR, 0, "DLL must not be transmitted");

    serial.write(LCR, LCR_DLAB | LCR_WLEN8);
    serial.expect(DLL, 0x34, "DLL is kept");
    serial.expect(DLM, 0x12, "DLM is kept");
}

#[test]
fn dlab_leaves_the_other_addresses_alone() {
    let mut serial = Serial::new();

    serial.write(LCR, LCR_DLAB);
    serial.write(FCR, FCR_ENABLE_FIFO);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_NO_INT, "FCR works behind DLAB");
    serial.write(MCR, MCR_RTS);
    serial.expect_bits(MSR, MSR_CTS, MSR_CTS, "MCR works behind DLAB");
}

#[test]
fn a_sent_character_is_received_through_the_plug() {
    let mut serial = Serial::new();

    serial.write(LCR, LCR_WLEN8);
    serial.write(TX, 0xa5);
    serial.expect(LSR, LSR_DR | LSR_THRE | LSR_TEMT, "LSR with a character");
    serial.expect(RX, 0xa5, "the character");
    serial.expect(LSR, LSR_THRE | LSR_TEMT, "LSR after reading it");
}

#[test]
fn all_eight_bits_cross_at_every_word_length() {
    for length in [LCR_WLEN5, LCR_WLEN6, LCR_WLEN7, LCR_WLEN8] {
        let mut serial = Serial::new();
        serial.write(LCR, length);
        serial.write(TX, 0xff);
        serial.expect(LCR, length, "the word length");
        serial.expect(RX, 0xff, "all ones at this word length");
    }
}

#[test]
fn fifos_show_in_iir_and_hold_16_characters() {
    let mut serial = Serial::with_fifos();

    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_NO_INT, "IIR with FIFOs");
    serial.send(&TEXT[..FIFO_DEPTH]);
    serial.expect_bits(LSR, LSR_OE, 0, "16 characters fit");
    assert_eq!(
        serial.drain(),
        &TEXT[..FIFO_DEPTH],
        "16 characters in order"
    );
}

#[test]
fn each_trigger_level_reports_at_its_count() {
    for (trigger, level) in [
        (FCR_TRIGGER_1, 1),
        (FCR_TRIGGER_4, 4),
        (FCR_TRIGGER_8, 8),
        (FCR_TRIGGER_14, 14),
    ] {
        let mut serial = Serial::with_fifos();
        serial.write(FCR, FCR_ENABLE_FIFO | trigger);
        serial.write(IER, IER_RDI);

        for count in 1..=FIFO_DEPTH {
            serial.write(TX, TEXT[count - 1]);
            let expected = if count < level {
                IIR_RX_TIMEOUT
            } else {
                IIR_RDI
            };
            serial.expect(
                IIR,
                IIR_FIFO_ENABLED | expected,
                &format!("{count} characters at a trigger level of {level}"),
            );
        }
        for count in (1..=FIFO_DEPTH).rev() {
            serial.expect_interrupt(true, "characters wait");
            let expected = if count < level {
                IIR_RX_TIMEOUT
            } else {
                IIR_RDI
            };
            serial.expect(
                IIR,
                IIR_FIFO_ENABLED | expected,
                &format!("{count} characters left at a trigger level of {level}"),
            );
            serial.read(RX);
        }
        serial.expect_interrupt(false, "all characters read");
    }
}

#[test]
fn without_fifos_data_is_reported_without_timeout() {
    let mut serial = Serial::new();

    serial.write(IER, IER_RDI);
    serial.write(TX, 1);
    serial.expect(IIR, IIR_RDI, "a character in the receiver buffer");
    serial.read(RX);
    serial.expect(IIR, IIR_NO_INT, "an empty receiver buffer");
}

#[test]
fn trigger_bits_count_only_with_the_enable_bit() {
    let mut serial = Serial::with_fifos();

    serial.write(FCR, FCR_TRIGGER_14 | FCR_CLEAR_RCVR | FCR_CLEAR_XMIT);
    serial.expect(IIR, IIR_NO_INT, "FIFOs are off");
    serial.write(LCR, LCR_WLEN8);
    serial.write(TX, b'x');
    serial.write(FCR, FCR_CLEAR_RCVR);
    serial.expect(RX, b'x', "clearing needs the enable bit");
}

#[test]
fn switching_the_mode_empties_both_sides() {
    let mut serial = Serial::with_fifos();

    // 16 characters in the receiver, one in the shift register, three in the transmitter.
    serial.send(TEXT);
    serial.write(FCR, 0);
    // The shift register is no part of the FIFO: its character arrives.
    assert_eq!(serial.drain(), &TEXT[16..17], "what is left in 16450 mode");

    serial.send(&TEXT[..3]);
    serial.write(FCR, FCR_ENABLE_FIFO);
    assert_eq!(serial.drain(), &TEXT[1..2], "what is left in 16550A mode");
}

#[test]
fn clear_rcvr_empties_the_receiver_only_and_clears_itself() {
    let mut serial = Serial::with_fifos();

    serial.send(TEXT);
    serial.write(FCR, FCR_ENABLE_FIFO | FCR_CLEAR_RCVR);
    assert_eq!(
        serial.drain(),
        &TEXT[16..],
        "what waited in the transmitter arrives"
    );
    serial.send(&TEXT[..4]);
    assert_eq!(serial.drain(), &TEXT[..4], "the bit does not stay set");
}

#[test]
fn clear_xmit_empties_the_transmitter_only_and_clears_itself() {
    let mut serial = Serial::with_fifos();

    serial.send(TEXT);
    serial.expect_bits(LSR, LSR_THRE | LSR_TEMT, 0, "the transmitter holds some");
    serial.write(FCR, FCR_ENABLE_FIFO | FCR_CLEAR_XMIT);
    serial.expect_bits(
        LSR,
        LSR_THRE | LSR_TEMT,
        LSR_THRE,
        "the shift register is not cleared",
    );
    assert_eq!(
        serial.drain(),
        &TEXT[..17],
        "what was received, and what was in the shift register"
    );
    serial.send(&TEXT[..4]);
    assert_eq!(serial.drain(), &TEXT[..4], "the bit does not stay set");
}

#[test]
fn clear_xmit_reports_the_empty_transmitter() {
    let mut serial = Serial::with_fifos();

    serial.write(IER, IER_THRI);
    serial.send(TEXT);
    serial.expect_interrupt(false, "the transmitter holds characters");
    serial.write(FCR, FCR_ENABLE_FIFO | FCR_CLEAR_XMIT);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_THRI, "emptied by clearing");

    serial.write(FCR, FCR_ENABLE_FIFO | FCR_CLEAR_XMIT);
    serial.expect_interrupt(false, "clearing an empty transmitter is nothing new");
}

#[test]
fn rewriting_fcr_keeps_the_characters() {
    let mut serial = Serial::with_fifos();

    serial.send(&TEXT[..5]);
    serial.write(FCR, FCR_ENABLE_FIFO | FCR_TRIGGER_8 | FCR_DMA_SELECT);
    assert_eq!(serial.drain(), &TEXT[..5], "after a new trigger level");
}

#[test]
fn interrupts_are_reported_by_priority() {
    let mut serial = Serial::with_fifos();

    serial.write(IER, IER_ALL_INTR);
    // Modem status by the change of MCR, overrun and data by the loop-back of 17 characters.
    serial.write(MCR, MCR_LOOP | MCR_RTS);
    serial.send(&TEXT[..FIFO_DEPTH + 1]);

    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_RLSI, "first: line status");
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_RLSI, "IIR does not clear it");
    serial.read(LSR);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_RDI, "second: received data");
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_RDI, "IIR does not clear it");
    serial.drain();
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_THRI, "third: transmitter");
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_MSI, "fourth: modem status");
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_MSI, "IIR does not clear it");
    serial.expect_interrupt(true, "until MSR is read");
    serial.read(MSR);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_NO_INT, "none is left");
    serial.expect_interrupt(false, "none is left");
}

#[test]
fn each_source_needs_its_enable_bit() {
    for (bit, expected) in [
        (IER_RLSI, IIR_RLSI),
        (IER_RDI, IIR_RDI),
        (IER_THRI, IIR_THRI),
        (IER_MSI, IIR_MSI),
    ] {
        let mut serial = Serial::with_fifos();
        serial.write(MCR, MCR_LOOP | MCR_RTS);
        serial.send(&TEXT[..FIFO_DEPTH + 1]);
        serial.expect_interrupt(false, "all sources active, none enabled");
        serial.expect(IIR, IIR_FIFO_ENABLED | IIR_NO_INT, "none enabled");

        serial.write(IER, bit);
        serial.expect_interrupt(true, "one source enabled");
        serial.expect(IIR, IIR_FIFO_ENABLED | expected, "the enabled source");
    }
}

#[test]
fn thre_is_reported_when_enabled_while_empty() {
    let mut serial = Serial::with_fifos();

    serial.write(IER, IER_THRI);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_THRI, "enabled while empty");
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_NO_INT, "reading IIR cleared it");

    serial.write(IER, IER_THRI | IER_MSI);
    serial.expect_interrupt(false, "it was enabled before");
    serial.write(IER, 0);
    serial.write(IER, IER_THRI);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_THRI, "enabled again");
}

#[test]
fn thre_is_reported_after_each_emptying() {
    for fifos in [0, FCR_ENABLE_FIFO] {
        let mut serial = Serial::new();
        let id = if fifos == 0 { 0 } else { IIR_FIFO_ENABLED };
        serial.write(FCR, fifos);
        serial.write(IER, IER_THRI);
        serial.expect(IIR, id | IIR_THRI, "enabled while empty");

        for character in 1..=3 {
            serial.write(TX, character);
            serial.read(RX);
            serial.expect(IIR, id | IIR_THRI, "emptied");
            serial.expect(IIR, id | IIR_NO_INT, "reading IIR cleared it");
        }
    }
}

#[test]
fn reading_iir_clears_thre_only_when_it_reports_it() {
    let mut serial = Serial::with_fifos();

    serial.write(IER, IER_THRI | IER_RDI);
    serial.write(TX, b'x');
    serial.expect(
        IIR,
        IIR_FIFO_ENABLED | IIR_RDI,
        "received data hides the transmitter",
    );
    serial.read(RX);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_THRI, "it is still to be told");
}

#[test]
fn writing_thr_clears_thre() {
    let mut serial = Serial::with_fifos();

    // With a full receiver and shift register, a written character stays in the transmitter.
    serial.send(&TEXT[..17]);
    serial.write(IER, IER_THRI);
    serial.expect_interrupt(true, "the transmitter is empty");
    serial.write(TX, TEXT[17]);
    serial.expect_interrupt(false, "the transmitter holds a character");

    serial.read(RX);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_THRI, "it has left");
}

#[test]
fn thre_is_not_reported_while_the_transmitter_holds_characters() {
    let mut serial = Serial::with_fifos();

    serial.send(TEXT);
    serial.write(IER, IER_THRI);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_NO_INT, "three wait");
    serial.read(RX);
    serial.read(RX);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_NO_INT, "one waits");
    serial.read(RX);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_THRI, "none waits");
}

#[test]
fn lsr_tells_holding_register_from_shift_register() {
    let mut serial = Serial::new();
    serial.write(LCR, LCR_WLEN8);

    serial.write(TX, 1);
    serial.expect_bits(LSR, LSR_THRE | LSR_TEMT, LSR_THRE | LSR_TEMT, "received");
    serial.write(TX, 2);
    serial.expect_bits(LSR, LSR_THRE | LSR_TEMT, LSR_THRE, "in the shift register");
    serial.write(TX, 3);
    serial.expect_bits(LSR, LSR_THRE | LSR_TEMT, 0, "in the holding register, too");
    serial.write(TX, 4);
    assert_eq!(
        serial.drain(),
        [1, 2, 4],
        "a written holding register is overwritten"
    );
}

#[test]
fn a_full_transmitter_fifo_loses_what_is_written() {
    let mut serial = Serial::with_fifos();
    let characters: Vec<u8> = (0..40).collect();

    serial.send(&characters);
    // 16 in the receiver, one in the shift register, 16 in the transmitter.
    assert_eq!(serial.drain(), &characters[..33], "what found room");
}

#[test]
fn the_plug_never_overruns() {
    for fifos in [0, FCR_ENABLE_FIFO] {
        let mut serial = Serial::new();
        serial.write(FCR, fifos);
        serial.write(IER, IER_RLSI);
        serial.send(TEXT);
        serial.expect_interrupt(false, "the wire waits for room");
        serial.expect_bits(LSR, LSR_OE, 0, "the wire waits for room");
    }
}

#[test]
fn loop_back_overruns_a_full_fifo_and_keeps_its_content() {
    let mut serial = Serial::with_fifos();

    serial.write(MCR, MCR_LOOP);
    serial.send(&TEXT[..FIFO_DEPTH]);
    serial.expect_bits(LSR, LSR_OE, 0, "16 characters fit");
    serial.send(&TEXT[FIFO_DEPTH..]);
    serial.expect_bits(LSR, LSR_OE, LSR_OE, "overrun");
    serial.expect_bits(LSR, LSR_OE, 0, "cleared by reading LSR");
    assert_eq!(serial.drain(), &TEXT[..FIFO_DEPTH], "the FIFO's content");
}

#[test]
fn loop_back_overruns_the_receiver_buffer_and_replaces_it() {
    let mut serial = Serial::new();

    serial.write(LCR, LCR_WLEN8);
    serial.write(MCR, MCR_LOOP);
    serial.send(&TEXT[..2]);
    serial.expect(
        LSR,
        LSR_DR | LSR_OE | LSR_THRE | LSR_TEMT,
        "the second character overran the first",
    );
    assert_eq!(serial.drain(), &TEXT[1..2], "the second character");
}

#[test]
fn overrun_asserts_the_line_status_interrupt_until_lsr_is_read() {
    let mut serial = Serial::with_fifos();

    serial.write(MCR, MCR_LOOP);
    serial.write(IER, IER_RLSI);
    serial.send(&TEXT[..FIFO_DEPTH]);
    serial.expect_interrupt(false, "no error yet");
    serial.write(TX, b'x');
    serial.expect_interrupt(true, "overrun");
    serial.drain();
    serial.expect_interrupt(true, "reading characters does not clear it");
    serial.read(LSR);
    serial.expect_interrupt(false, "LSR was read");
}

#[test]
fn entering_loop_back_takes_what_waits_in_the_transmitter() {
    let mut serial = Serial::with_fifos();

    serial.send(TEXT);
    serial.write(MCR, MCR_LOOP);
    serial.expect_bits(
        LSR,
        LSR_OE | LSR_THRE | LSR_TEMT,
        LSR_OE | LSR_THRE | LSR_TEMT,
        "the chip's own loop does not wait",
    );
    assert_eq!(serial.drain(), &TEXT[..FIFO_DEPTH], "what was received");
}

#[test]
fn a_break_is_a_zero_character_with_its_error() {
    let mut serial = Serial::with_fifos();

    serial.write(IER, IER_RLSI);
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_RLSI, "break");
    serial.expect(
        LSR,
        LSR_DR | LSR_BI | LSR_FE | LSR_THRE | LSR_TEMT | LSR_FIFOE,
        "break",
    );
    serial.expect(
        LSR,
        LSR_DR | LSR_THRE | LSR_TEMT,
        "reading LSR cleared the error, the character is there",
    );
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.write(LCR, LCR_WLEN8);
    assert_eq!(serial.drain(), [0], "one break is one character");
}

#[test]
fn a_break_fails_odd_parity_only() {
    for (parity, expected) in [
        (0, 0),
        (LCR_PARITY, LSR_PE),
        (LCR_PARITY | LCR_EPAR, 0),
        (LCR_EPAR, 0),
    ] {
        let mut serial = Serial::new();
        serial.write(LCR, LCR_WLEN8 | parity | LCR_SBC);
        serial.expect_bits(LSR, LSR_PE, expected, "parity of a break");
        serial.expect_bits(LSR, LSR_PE, 0, "cleared by reading LSR");
    }
}

#[test]
fn an_error_shows_when_its_character_is_next() {
    let mut serial = Serial::with_fifos();

    serial.send(&TEXT[..2]);
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.write(LCR, LCR_WLEN8);
    serial.send(&TEXT[2..3]);
    serial.write(IER, IER_RLSI);

    let errors = LSR_BRK_ERROR_BITS | LSR_FIFOE;
    serial.expect_bits(LSR, errors, LSR_FIFOE, "an error is in the FIFO");
    serial.expect_bits(LSR, errors, LSR_FIFOE, "reading LSR does not reach it");
    serial.expect(RX, TEXT[0], "first character");
    serial.expect_interrupt(false, "the error is not next");
    serial.expect(RX, TEXT[1], "second character");
    serial.expect_interrupt(true, "the break is next");
    serial.expect_bits(LSR, errors, LSR_BI | LSR_FE | LSR_FIFOE, "the break");
    serial.expect_bits(LSR, errors, 0, "no error is left");
    serial.expect(RX, 0, "the break's character");
    serial.expect(RX, TEXT[2], "the character after it");
}

#[test]
fn an_error_that_was_shown_stays_until_lsr_is_read() {
    let mut serial = Serial::with_fifos();

    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.write(LCR, LCR_WLEN8);
    serial.read(RX);
    serial.expect(
        LSR,
        LSR_BI | LSR_FE | LSR_FIFOE | LSR_THRE | LSR_TEMT,
        "the character was read before LSR",
    );
    serial.expect(LSR, LSR_THRE | LSR_TEMT, "LSR was read");
}

#[test]
fn fifoe_is_always_0_without_fifos() {
    let mut serial = Serial::new();

    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.expect_bits(LSR, LSR_BI | LSR_FIFOE, LSR_BI, "break in 16450 mode");
}

#[test]
fn clearing_the_receiver_takes_the_errors_of_its_characters() {
    // Behind another character, next to be read, and next with another one behind it.
    for (before, after) in [(1, 0), (0, 0), (0, 1), (2, 2)] {
        for fcr in [FCR_ENABLE_FIFO | FCR_CLEAR_RCVR, 0] {
            let mut serial = Serial::with_fifos();
            serial.write(IER, IER_RLSI);
            serial.send(&TEXT[..before]);
            serial.write(LCR, LCR_WLEN8 | LCR_PARITY | LCR_SBC);
            serial.write(LCR, LCR_WLEN8);
            serial.send(&TEXT[..after]);
            let pending = before == 0;
            serial.expect_interrupt(pending, "the break is next to be read, or not");
            serial.write(FCR, fcr);
            serial.expect_interrupt(false, "there is no character with an error");
            serial.expect(
                LSR,
                LSR_THRE | LSR_TEMT,
                "no character, and no error of one",
            );
            serial.expect(LSR, LSR_THRE | LSR_TEMT, "and none afterwards");
        }
    }

    // Without FIFOs the receiver is cleared by switching them on.
    let mut serial = Serial::new();
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.write(FCR, FCR_ENABLE_FIFO);
    serial.expect(LSR, LSR_THRE | LSR_TEMT, "the break was cleared away");
}

#[test]
fn clearing_the_receiver_leaves_an_overrun() {
    for fcr in [FCR_ENABLE_FIFO | FCR_CLEAR_RCVR, 0] {
        let mut serial = Serial::with_fifos();
        serial.write(MCR, MCR_LOOP);
        serial.write(IER, IER_RLSI);
        serial.send(&TEXT[..FIFO_DEPTH + 1]);
        serial.write(FCR, fcr);
        serial.expect_interrupt(true, "a character was lost, whatever became of the others");
        serial.relocate();
        serial.expect(LSR, LSR_OE | LSR_THRE | LSR_TEMT, "the overrun");
        serial.expect(LSR, LSR_THRE | LSR_TEMT, "LSR was read");
        serial.expect_interrupt(false, "LSR was read");
    }
}

#[test]
fn clearing_the_transmitter_leaves_errors_of_received_characters() {
    let mut serial = Serial::with_fifos();
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.write(LCR, LCR_WLEN8);
    serial.write(FCR, FCR_ENABLE_FIFO | FCR_CLEAR_XMIT);
    serial.write(FCR, FCR_ENABLE_FIFO | FCR_TRIGGER_8);
    serial.expect_bits(
        LSR,
        LSR_BI | LSR_FIFOE | LSR_DR,
        LSR_BI | LSR_FIFOE | LSR_DR,
        "the break is still there",
    );
}

#[test]
fn an_error_of_an_overrun_character_stays_until_lsr_is_read() {
    // A 16450 has no error bits with the character: they are set when it comes, and cleared by reading
    // LSR alone.
    let mut serial = Serial::new();
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.write(MCR, MCR_LOOP);
    serial.send(&TEXT[..1]);
    serial.expect_bits(
        LSR,
        LSR_OE | LSR_BI | LSR_FE | LSR_DR,
        LSR_OE | LSR_BI | LSR_FE | LSR_DR,
        "the break was overrun",
    );
    serial.expect(LSR, LSR_DR | LSR_THRE | LSR_TEMT, "LSR was read");
    serial.expect(RX, TEXT[0], "the character that overran it");
}

#[test]
fn a_cause_that_came_while_it_was_masked_interrupts_when_it_is_enabled() {
    let mut serial = Serial::with_fifos();
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.write(LCR, LCR_WLEN8);
    serial.write(MCR, MCR_RTS);
    serial.relocate();
    for (source, identification, reading) in [
        (IER_RLSI, IIR_RLSI, LSR),
        (IER_RDI, IIR_RDI, RX),
        (IER_MSI, IIR_MSI, MSR),
    ] {
        serial.expect_interrupt(false, "masked");
        serial.write(IER, source);
        serial.expect(IIR, IIR_FIFO_ENABLED | identification, "enabled");
        serial.write(IER, 0);
        serial.expect_interrupt(false, "masked again");
        serial.write(IER, source);
        serial.expect(IIR, IIR_FIFO_ENABLED | identification, "it is still due");
        serial.read(reading);
        serial.expect_interrupt(false, "its register was read");
        serial.write(IER, 0);
    }
}

#[test]
fn masking_thre_forgets_it_and_unmasking_tells_it_once_while_empty() {
    let mut serial = Serial::with_fifos();
    serial.write(IER, IER_THRI);
    serial.write(IER, 0);
    serial.expect_interrupt(false, "masked");
    serial.write(IER, IER_THRI);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_THRI, "told again");
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_NO_INT, "once");
    serial.write(IER, IER_THRI | IER_RDI);
    serial.expect_interrupt(false, "it was enabled before");

    // It holds characters, which a masked interrupt does not tell of when they have left.
    serial.write(IER, 0);
    serial.send(TEXT);
    serial.write(IER, IER_THRI);
    serial.expect_interrupt(false, "the transmitter holds characters");
    serial.write(IER, 0);
    serial.drain();
    serial.expect_interrupt(false, "masked");
    serial.relocate();
    serial.write(IER, IER_THRI);
    serial.expect(IIR, IIR_FIFO_ENABLED | IIR_THRI, "it is empty");
}

#[test]
fn deltas_of_entering_and_leaving_loop_back_stay_until_msr_is_read() {
    let mut serial = Serial::new();
    serial.write(MCR, MCR_DTR);
    serial.read(MSR);
    // DCD is DTR at the plug, and OUT2 within the chip; RI is OUT1 there.
    serial.write(MCR, MCR_LOOP | MCR_DTR | MCR_OUT1);
    serial.write(MCR, MCR_DTR);
    serial.relocate();
    serial.expect(
        MSR,
        MSR_DDCD | MSR_TERI | MSR_DSR | MSR_DCD,
        "what changed, though it is as before",
    );
    serial.expect(MSR, MSR_DSR | MSR_DCD, "MSR was read");
}

#[test]
fn a_break_takes_the_line_but_not_the_transmitter() {
    let mut serial = Serial::with_fifos();

    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.send(TEXT);
    serial.expect_bits(
        LSR,
        LSR_THRE | LSR_TEMT,
        LSR_THRE | LSR_TEMT,
        "the transmitter works on",
    );
    serial.write(LCR, LCR_WLEN8);
    serial.send(b"!");
    assert_eq!(
        serial.drain(),
        [0, b'!'],
        "a break, and what was sent after it"
    );
}

#[test]
fn loop_back_takes_the_break_off_the_line() {
    let mut serial = Serial::with_fifos();

    serial.write(MCR, MCR_LOOP);
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.send(&TEXT[..2]);
    assert_eq!(serial.drain(), &TEXT[..2], "SBC acts on the pin only");
    serial.write(MCR, 0);
    serial.expect_bits(LSR, LSR_BI, LSR_BI, "the pin is on the line again");
}

#[test]
fn the_plug_wires_the_modem_lines() {
    for (outputs, expected) in [
        (MCR_RTS, MSR_CTS),
        (MCR_DTR, MSR_DSR | MSR_DCD),
        (MCR_OUT1, 0),
        (MCR_OUT2, 0),
        (MCR_RTS | MCR_DTR, MSR_CTS | MSR_DSR | MSR_DCD),
    ] {
        let mut serial = Serial::new();
        serial.write(MCR, outputs);
        serial.expect_bits(MSR, MSR_STATUS_BITS, expected, "the plug");
    }
}

#[test]
fn loop_back_wires_the_modem_lines() {
    for (outputs, expected) in [
        (MCR_RTS, MSR_CTS),
        (MCR_DTR, MSR_DSR),
        (MCR_OUT1, MSR_RI),
        (MCR_OUT2, MSR_DCD),
        (0, 0),
    ] {
        let mut serial = Serial::new();
        serial.write(MCR, MCR_LOOP | outputs);
        serial.expect_bits(MSR, MSR_STATUS_BITS, expected, "the chip's loop-back");
    }
}

#[test]
fn modem_deltas_follow_changes_and_clear_on_read() {
    let mut serial = Serial::new();

    serial.write(MCR, MCR_RTS | MCR_DTR);
    serial.expect(
        MSR,
        MSR_CTS | MSR_DSR | MSR_DCD | MSR_DCTS | MSR_DDSR | MSR_DDCD,
        "all three became active",
    );
    serial.expect(
        MSR,
        MSR_CTS | MSR_DSR | MSR_DCD,
        "reading clears the deltas",
    );

    serial.write(MCR, MCR_DTR);
    serial.expect(MSR, MSR_DSR | MSR_DCD | MSR_DCTS, "CTS became inactive");

    serial.write(MCR, MCR_DTR | MCR_RTS);
    serial.write(MCR, MCR_DTR);
    serial.expect(
        MSR,
        MSR_DSR | MSR_DCD | MSR_DCTS,
        "a change back is a change",
    );
}

#[test]
fn teri_is_the_trailing_edge_of_the_ring_indicator() {
    let mut serial = Serial::new();

    serial.write(MCR, MCR_LOOP | MCR_OUT1);
    serial.expect(MSR, MSR_RI, "the leading edge is no delta");
    serial.write(MCR, MCR_LOOP);
    serial.expect(MSR, MSR_TERI, "the trailing edge");

    serial.write(MCR, MCR_LOOP | MCR_OUT1);
    serial.write(MCR, 0);
    serial.expect(MSR, MSR_TERI, "leaving the loop-back ends the ring");
}

#[test]
fn modem_status_interrupt_lasts_until_msr_is_read() {
    let mut serial = Serial::new();

    serial.write(IER, IER_MSI);
    serial.expect_interrupt(false, "nothing changed");
    serial.write(MCR, MCR_RTS);
    serial.expect_interrupt(true, "CTS changed");
    serial.expect(IIR, IIR_MSI, "CTS changed");
    serial.expect_bits(MSR, MSR_ANY_DELTA, MSR_DCTS, "CTS changed");
    serial.expect_interrupt(false, "MSR was read");
}

#[test]
fn out2_does_not_gate_the_interrupt() {
    let mut serial = Serial::new();

    serial.write(IER, IER_THRI);
    serial.write(MCR, 0);
    serial.expect_interrupt(true, "a PCI card has no gate behind OUT2");
}

#[test]
fn peeking_changes_nothing() {
    let mut serial = Serial::with_fifos();

    serial.write(IER, IER_ALL_INTR);
    serial.write(MCR, MCR_RTS);
    serial.write(LCR, LCR_WLEN8 | LCR_SBC);
    serial.write(LCR, LCR_WLEN8);
    serial.send(TEXT);

    let before = serial.card.clone();
    let mut peeked = [0; REGISTERS as usize];
    serial
        .card
        .peek_bar(0, 0, &mut peeked)
        .expect("eight registers can be peeked at");
    assert_eq!(serial.card, before, "the card after peeking");

    let mut read = [0; REGISTERS as usize];
    serial
        .card
        .read_bar(0, 0, &mut read)
        .expect("eight registers can be read");
    assert_eq!(peeked, read, "peeking gives what reading does");
    assert_ne!(serial.card, before, "reading has effects");
}
