// SPDX-License-Identifier: GPL-2.0
/*
 * See vfio.h.
 */

#include <linux/anon_inodes.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/vfio.h>

#include "vfio.h"

/* The registration itself holds one reference. */
bool ferry_vfio_is_held(struct vfio_device *vdev)
{
	return refcount_read(&vdev->refcount) > 1;
}
EXPORT_SYMBOL_GPL(ferry_vfio_is_held);

/* Rust, in rust/vfio/migration/file.rs. */
ssize_t ferry_data_read(struct file *file, char __user *buf, size_t count,
			loff_t *pos);
ssize_t ferry_data_write(struct file *file, const char __user *buf,
			 size_t count, loff_t *pos);
__poll_t ferry_data_poll(struct file *file, struct poll_table_struct *table);
long ferry_data_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
int ferry_data_release(struct inode *inode, struct file *file);

/* The owner keeps this module, which is all that a file without a device needs. */
static const struct file_operations ferry_data_fops = {
	.owner = THIS_MODULE,
	.read = ferry_data_read,
	.write = ferry_data_write,
	.poll = ferry_data_poll,
	.unlocked_ioctl = ferry_data_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = ferry_data_release,
};

struct file *ferry_data_file(void *stream, int flags)
{
	struct file *file;

	file = anon_inode_getfile("[vfio-migration]", &ferry_data_fops, stream,
				  flags);
	if (!IS_ERR(file))
		stream_open(file_inode(file), file);
	return file;
}
EXPORT_SYMBOL_GPL(ferry_data_file);
