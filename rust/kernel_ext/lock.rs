// SPDX-License-Identifier: GPL-2.0

//! Locks in code that more than one module has a copy of.

/// Makes a lock as `new_mutex!` and `new_spinlock!` do: `new_lock!(Mutex, c"name", value)`.
///
/// What is generic, and what is small enough to be inlined, is copied into each driver's module,
/// literals and all. The class of a lock is not: there is one, in the module of the crate. Lockdep
/// wants a class to have one name, by its address, so that this is a variable here.
#[macro_export]
macro_rules! new_lock {
    ($lock:ident, $name:literal, $value:expr $(,)?) => {{
        static NAME: &::core::ffi::CStr = $name;

        $lock::new($value, NAME, ::kernel::static_lock_class!())
    }};
}
