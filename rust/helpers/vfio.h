/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What Rust cannot call of the VFIO core, and the file operations of data files.
 */
#ifndef _FERRY_VFIO_H
#define _FERRY_VFIO_H

#include <linux/types.h>

struct file;
struct vfio_device;

/* Whether a user has @vdev open, even if only its character device. */
bool ferry_vfio_is_held(struct vfio_device *vdev);

/* An anonymous file whose private data is @stream, for rust/vfio/migration/file.rs. */
struct file *ferry_data_file(void *stream, int flags);

#endif /* _FERRY_VFIO_H */
