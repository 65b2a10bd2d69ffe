/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Named C functions for what Rust cannot call: inline functions and macros.
 */
#ifndef _FERRY_HELPERS_H
#define _FERRY_HELPERS_H

#include <linux/ratelimit.h>

void ferry_ratelimit_state_init(struct ratelimit_state *rs);

struct vfio_device;

/* Whether somebody has @vdev open, even if only its character device. */
bool ferry_vfio_is_held(struct vfio_device *vdev);

/* An anonymous file whose private data is @stream, for rust/vfio/migration/file.rs. */
struct file *ferry_data_file(void *stream, int flags);

#endif /* _FERRY_HELPERS_H */
