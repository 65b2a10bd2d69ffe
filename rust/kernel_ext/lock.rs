// SPDX-License-Identifier: GPL-2.0

//! Locks in code that is copied into more than one module.

/// Makes a lock as `new_mutex!` and `new_spinlock!` do: `new_lock!(Mutex, c"name", value)`.
///
/// Generic functions, and functions small enough to be inlined, are copied into each driver's module,
/// together with their string literals. The class of a lock is a static, which exists once, in the module
/// of the crate. Lockdep compares the name of a class by address, so the name is a static as well.
#[macro_export]
macro_rules! new_lock {
    ($lock:ident, $name:literal, $value:expr $(,)?) => {{
        static NAME: &::core::ffi::CStr = $name;

        $lock::new($value, NAME, ::kernel::static_lock_class!())
    }};
    ($lock:ident, $name:literal $(,)?) => {{
        static NAME: &::core::ffi::CStr = $name;

        $lock::new(NAME, ::kernel::static_lock_class!())
    }};
}
