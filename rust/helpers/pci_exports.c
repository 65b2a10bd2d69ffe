// SPDX-License-Identifier: GPL-2.0
/*
 * Exports the symbols of ferry_pci.ko's Rust crate to the variant drivers.
 */

#include <linux/export.h>
#include <linux/module.h>

#define EXPORT_SYMBOL_RUST_GPL(sym) extern int sym; EXPORT_SYMBOL_GPL(sym)

#include "pci_exports_generated.h"

MODULE_AUTHOR("The Ferry authors");
MODULE_DESCRIPTION("Framework for vfio-pci variant drivers whose devices live-migrate");
MODULE_LICENSE("GPL");
