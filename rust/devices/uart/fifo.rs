// SPDX-License-Identifier: GPL-2.0

//! The FIFO that sits behind the receiver buffer and the transmitter holding register.

/// Characters that a FIFO of the 16550A holds.
pub(crate) const DEPTH: usize = 16;

/// A FIFO that keeps its content in order from the first slot on.
///
/// Two FIFOs with the same content are the same value, so the saved bytes do not depend on the history
/// of a FIFO.
///
/// # Invariants
///
/// `length` is at most [`DEPTH`], and slots from `length` on have their default value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fifo<T> {
    slots: [T; DEPTH],
    length: usize,
}

impl<T: Copy + Default> Fifo<T> {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The characters held, the oldest first.
    pub(crate) fn content(&self) -> &[T] {
        &self.slots[..self.length]
    }

    /// All slots: the characters held, the oldest first, then default values.
    pub(crate) fn slots(&self) -> &[T; DEPTH] {
        &self.slots
    }

    /// The oldest character.
    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.slots[..self.length].first_mut()
    }

    /// Appends a character, and returns whether there was room for it.
    pub(crate) fn push(&mut self, character: T) -> bool {
        match self.slots.get_mut(self.length) {
            Some(slot) => {
                *slot = character;
                self.length += 1;
                true
            }
            None => false,
        }
    }

    /// Takes the oldest character.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let oldest = *self.content().first()?;

        self.slots.copy_within(1..self.length, 0);
        self.length -= 1;
        self.slots[self.length] = T::default();
        Some(oldest)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
