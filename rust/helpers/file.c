// SPDX-License-Identifier: GPL-2.0
/*
 * See file.h.
 */

#include <linux/backing-dev.h>
#include <linux/cred.h>
#include <linux/export.h>
#include <linux/filelock.h>
#include <linux/fs_struct.h>
#include <linux/pagemap.h>

#include "file.h"

/*
 * Takes a reference to the current task's root directory. A task that is
 * exiting may have none any more.
 */
int ferry_get_current_root(struct path *root)
{
	if (!current->fs)
		return -ENOENT;

	get_fs_root(current->fs, root);
	return 0;
}
EXPORT_SYMBOL_GPL(ferry_get_current_root);

const struct cred *ferry_get_current_cred(void)
{
	return get_current_cred();
}
EXPORT_SYMBOL_GPL(ferry_get_current_cred);

/* Opens a file as somebody else would. */
struct file *ferry_file_open(const struct path *root, const struct cred *cred,
			     const char *name, int flags)
{
	const struct cred *old = override_creds(cred);
	struct file *file = file_open_root(root, name, flags, 0);

	revert_creds(old);
	return file;
}
EXPORT_SYMBOL_GPL(ferry_file_open);

/* Size in bytes of a regular file or a block device. */
u64 ferry_file_size(struct file *file)
{
	return i_size_read(file->f_mapping->host);
}
EXPORT_SYMBOL_GPL(ferry_file_size);

/* Takes the write lock on all of the file that F_OFD_SETLK would. */
int ferry_file_lock(struct file *file)
{
	struct file_lock *lock = locks_alloc_lock();
	int ret;

	if (!lock)
		return -ENOLCK;

	lock->c.flc_file = file;
	lock->c.flc_owner = file;
	lock->c.flc_pid = current->tgid;
	lock->c.flc_flags = FL_POSIX | FL_OFDLCK;
	lock->c.flc_type = F_WRLCK;
	lock->fl_start = 0;
	lock->fl_end = OFFSET_MAX;

	ret = vfs_lock_file(file, F_SETLK, lock, NULL);
	locks_free_lock(lock);
	/* Without CONFIG_FILE_LOCKING. */
	return ret == FILE_LOCK_DEFERRED ? -ENOLCK : ret;
}
EXPORT_SYMBOL_GPL(ferry_file_lock);

/* As the last fput() does. The owner of such a lock is the file itself. */
void ferry_file_unlock(struct file *file)
{
	locks_remove_posix(file, file);
}
EXPORT_SYMBOL_GPL(ferry_file_unlock);

/*
 * Forgets what this host has cached of a file that another host may have
 * written. The page cache is right anyway for a file system that has a disk of
 * its own (those of clusters keep it coherent), and it is all there is of one
 * in memory.
 */
int ferry_file_drop_cache(struct file *file)
{
	struct address_space *mapping = file->f_mapping;
	struct inode *inode = file_inode(file);
	int ret;

	if (!mapping_can_writeback(mapping))
		return 0;
	if (S_ISREG(inode->i_mode) &&
	    inode->i_sb->s_type->fs_flags & FS_REQUIRES_DEV)
		return 0;

	ret = filemap_write_and_wait(mapping);
	return ret ?: invalidate_inode_pages2(mapping);
}
EXPORT_SYMBOL_GPL(ferry_file_drop_cache);
