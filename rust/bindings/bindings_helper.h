/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The input of bindgen. Types that the kernel crate has come from
 * kernel::bindings; see rust/bindings/bindgen_parameters for the allowlist.
 */

#include <linux/crc32.h>
#include <linux/mdev.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>
#include <uapi/linux/falloc.h>

#include <trace/events/ferry.h>

#include "../helpers/dma.h"
#include "../helpers/dma_log.h"
#include "../helpers/direct.h"
#include "../helpers/file.h"
#include "../helpers/pci.h"
#include "../helpers/ratelimit.h"
#include "../helpers/sched.h"
#include "../helpers/shared_pages.h"
#include "../helpers/vfio.h"
#include "../helpers/work.h"

/* `bindgen` gets confused at certain things. */
const u32 RUST_CONST_HELPER_VFIO_DEVICE_GET_INFO = VFIO_DEVICE_GET_INFO;
const u32 RUST_CONST_HELPER_VFIO_DEVICE_GET_IRQ_INFO = VFIO_DEVICE_GET_IRQ_INFO;
const u32 RUST_CONST_HELPER_VFIO_DEVICE_SET_IRQS = VFIO_DEVICE_SET_IRQS;
const u32 RUST_CONST_HELPER_VFIO_DEVICE_RESET = VFIO_DEVICE_RESET;
const u32 RUST_CONST_HELPER_VFIO_DEVICE_PCI_HOT_RESET = VFIO_DEVICE_PCI_HOT_RESET;
const u32 RUST_CONST_HELPER_VFIO_DEVICE_IOEVENTFD = VFIO_DEVICE_IOEVENTFD;
const u32 RUST_CONST_HELPER_VFIO_MIG_GET_PRECOPY_INFO = VFIO_MIG_GET_PRECOPY_INFO;
