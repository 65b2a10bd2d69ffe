/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Files that the kernel opens for a device, see rust/kernel_ext/file.rs.
 */
#ifndef _FERRY_FILE_H
#define _FERRY_FILE_H

#include <linux/fs.h>
#include <linux/path.h>
#include <linux/types.h>
#include <linux/workqueue.h>

struct cred;

int ferry_path_lookup(const char *name, struct path *path);
umode_t ferry_path_kind(const struct path *path);
const struct cred *ferry_get_current_cred(void);
struct file *ferry_file_open(const struct path *path, const struct cred *cred,
			     int flags);
struct file *ferry_bdev_claim(const struct path *path, const struct cred *cred);
void ferry_bdev_unclaim(struct file *file);
u64 ferry_file_size(struct file *file);
int ferry_file_lock(struct file *file);
void ferry_file_unlock(struct file *file);
int ferry_file_drop_cache(struct file *file);

/**
 * struct ferry_write_back - Writing a file back while nobody waits for it
 * @work: writes @file back
 * @file: the file
 * @busy: @work has been asked for, and has not ended
 */
struct ferry_write_back {
	struct work_struct work;
	struct file *file;
	bool busy;
};

void ferry_write_back_init(struct ferry_write_back *back, struct file *file);
void ferry_write_back_begin(struct ferry_write_back *back);
bool ferry_write_back_is_busy(struct ferry_write_back *back);
void ferry_write_back_end(struct ferry_write_back *back);

void ferry_file_read_ahead(struct file *file, loff_t pos, loff_t len);
ssize_t ferry_file_lend(struct file *file, loff_t pos, size_t len,
			int (*borrower)(void *context, const void *bytes,
					size_t len),
			void *context);

#endif /* _FERRY_FILE_H */
