// SPDX-License-Identifier: GPL-2.0
/*
 * See file.h.
 */

#include <linux/backing-dev.h>
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/export.h>
#include <linux/fadvise.h>
#include <linux/filelock.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched.h>
#include <linux/splice.h>

#include "file.h"

/*
 * Looks @name up for the current task and takes a reference to the file. The
 * reference keeps the file system from being unmounted, and outlives the mount
 * namespace.
 */
int ferry_path_lookup(const char *name, struct path *path)
{
	return kern_path(name, LOOKUP_FOLLOW | LOOKUP_AUTOMOUNT, path);
}
EXPORT_SYMBOL_GPL(ferry_path_lookup);

/* The kind of the file, S_IF*, which never changes for an inode. */
umode_t ferry_path_kind(const struct path *path)
{
	return d_inode(path->dentry)->i_mode & S_IFMT;
}
EXPORT_SYMBOL_GPL(ferry_path_kind);

const struct cred *ferry_get_current_cred(void)
{
	return get_current_cred();
}
EXPORT_SYMBOL_GPL(ferry_get_current_cred);

/*
 * Opens @path with the credentials @cred: with the checks of an open() by name,
 * and without another lookup of the name.
 *
 * The node of a block device has only a number, which another device may get
 * when the device is removed. The node is unlinked then, and no longer opened.
 */
struct file *ferry_file_open(const struct path *path, const struct cred *cred,
			     int flags)
{
	const struct cred *old;
	struct file *file;

	if (S_ISBLK(ferry_path_kind(path)) && d_unlinked(path->dentry))
		return ERR_PTR(-ENXIO);

	old = override_creds(cred);
	file = file_open_root(path, "", flags, 0);
	revert_creds(old);
	return file;
}
EXPORT_SYMBOL_GPL(ferry_file_open);

/*
 * Opens the block device @path once more, as its only exclusive user: -EBUSY if
 * it has one already, such as a mounted file system. The locks of files are no
 * help for block devices, as each node of a device has locks of its own.
 *
 * Nothing is written through this file: udev looks a device over anew whenever a
 * file that could write to it is closed.
 */
struct file *ferry_bdev_claim(const struct path *path, const struct cred *cred)
{
	if (!S_ISBLK(ferry_path_kind(path)))
		return ERR_PTR(-ENOTBLK);

	return ferry_file_open(path, cred, O_RDONLY | O_EXCL | O_LARGEFILE);
}
EXPORT_SYMBOL_GPL(ferry_bdev_claim);

/*
 * Gives the claim up at once: the last fput() of a kernel thread comes later, and
 * the next user must not find the device claimed.
 */
void ferry_bdev_unclaim(struct file *file)
{
	bdev_fput(file);
}
EXPORT_SYMBOL_GPL(ferry_bdev_unclaim);

/* Size in bytes of a regular file or a block device. */
u64 ferry_file_size(struct file *file)
{
	return i_size_read(file->f_mapping->host);
}
EXPORT_SYMBOL_GPL(ferry_file_size);

/* Takes the write lock on all of the file, as F_OFD_SETLK does. */
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

/* Unlocks as the last fput() does. The owner of such a lock is the file itself. */
void ferry_file_unlock(struct file *file)
{
	locks_remove_posix(file, file);
}
EXPORT_SYMBOL_GPL(ferry_file_unlock);

/*
 * Drops this host's cache of a file that another host may have written. The page
 * cache of a file system with a disk of its own is right anyway (cluster file
 * systems keep it coherent), and a file system in memory has nothing else.
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

static void ferry_write_back_work(struct work_struct *work)
{
	struct ferry_write_back *back = container_of(work,
						     struct ferry_write_back,
						     work);

	/* All that is dirty now. Whoever syncs the file next is told of an error. */
	filemap_fdatawrite(back->file->f_mapping);
	filemap_fdatawait_keep_errors(back->file->f_mapping);
	smp_store_release(&back->busy, false);
}

void ferry_write_back_init(struct ferry_write_back *back, struct file *file)
{
	INIT_WORK(&back->work, ferry_write_back_work);
	back->file = get_file(file);
	back->busy = false;
}
EXPORT_SYMBOL_GPL(ferry_write_back_init);

/* Has dirty pages written soon. Nobody else asks meanwhile, and it is not busy. */
void ferry_write_back_begin(struct ferry_write_back *back)
{
	WRITE_ONCE(back->busy, true);
	/* It waits for the disk, so it may keep no other work waiting. */
	queue_work(system_dfl_long_wq, &back->work);
}
EXPORT_SYMBOL_GPL(ferry_write_back_begin);

/* Whether the write-back that was begun last has yet to end. */
bool ferry_write_back_is_busy(struct ferry_write_back *back)
{
	return smp_load_acquire(&back->busy);
}
EXPORT_SYMBOL_GPL(ferry_write_back_is_busy);

/* Nobody asks for a write-back any more. */
void ferry_write_back_end(struct ferry_write_back *back)
{
	cancel_work_sync(&back->work);
	fput(back->file);
}
EXPORT_SYMBOL_GPL(ferry_write_back_end);

/*
 * Begins to read @len bytes at @pos into the page cache. posix_fadvise() takes a
 * length of 0 for all of the file.
 */
void ferry_file_read_ahead(struct file *file, loff_t pos, loff_t len)
{
	if (len)
		vfs_fadvise(file, pos, len, POSIX_FADV_WILLNEED);
}
EXPORT_SYMBOL_GPL(ferry_file_read_ahead);

struct ferry_loan {
	int (*borrower)(void *context, const void *bytes, size_t len);
	void *context;
};

/*
 * Whether bytes of @page and the bytes of @next that follow them can be copied to
 * user space at once. Hardened usercopy takes a compound page for an object of
 * its own, and other pages for one allocation.
 */
static bool ferry_is_same_object(struct page *page, struct page *next)
{
	if (PageCompound(page) || PageCompound(next))
		return compound_head(page) == compound_head(next);
	return true;
}

/* Lends the bytes spliced into @pipe, a run of contiguous pages at a time. */
static int ferry_lend_pipe(struct pipe_inode_info *pipe, struct splice_desc *sd)
{
	struct ferry_loan *loan = sd->u.data;
	size_t done = 0;
	int ret = 0;

	/* Every page must have a page_address(). */
	BUILD_BUG_ON(IS_ENABLED(CONFIG_HIGHMEM));

	while (!pipe_is_empty(pipe)) {
		unsigned int end = pipe->tail;
		struct page *page = pipe_buf(pipe, end)->page;
		const void *bytes = NULL;
		size_t len = 0;

		do {
			struct pipe_buffer *buf = pipe_buf(pipe, end);
			const void *at = page_address(buf->page) + buf->offset;

			if (len && (at != bytes + len ||
				    !ferry_is_same_object(page, buf->page)))
				break;
			ret = pipe_buf_confirm(pipe, buf);
			if (ret)
				break;
			if (!len)
				bytes = at;
			len += buf->len;
			end++;
		} while (!pipe_empty(pipe->head, end));

		if (!len)
			break;
		ret = loan->borrower(loan->context, bytes, len);
		if (ret)
			break;

		done += len;
		for (; pipe->tail != end; pipe->tail++)
			pipe_buf_release(pipe, pipe_buf(pipe, pipe->tail));
		cond_resched();
	}

	/* The caller releases the buffers that are left in the pipe. */
	return done ?: ret;
}

/*
 * Lends @len bytes at @pos of the page cache to @borrower, one piece after the
 * other, until @borrower returns something else than zero. Returns the number of
 * bytes that were lent and taken, or an error if none were. A read has to find
 * out about the end of the file, and about file systems that cannot lend.
 */
ssize_t ferry_file_lend(struct file *file, loff_t pos, size_t len,
			int (*borrower)(void *context, const void *bytes,
					size_t len),
			void *context)
{
	struct ferry_loan loan = {
		.borrower = borrower,
		.context = context,
	};
	struct splice_desc sd = {
		.total_len = len,
		.pos = pos,
		.u.data = &loan,
	};
	int ret;

	ret = rw_verify_area(READ, file, &pos, len);
	if (ret)
		return ret;
	return splice_direct_to_actor(file, &sd, ferry_lend_pipe);
}
EXPORT_SYMBOL_GPL(ferry_file_lend);
