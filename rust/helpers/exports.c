// SPDX-License-Identifier: GPL-2.0
/*
 * Exports the symbols of ferry.ko's Rust crates to the driver modules, as the
 * kernel's rust/exports.c does for the kernel crate.
 */

#include <linux/export.h>

#define EXPORT_SYMBOL_RUST_GPL(sym) extern int sym; EXPORT_SYMBOL_GPL(sym)

#include "exports_generated.h"
