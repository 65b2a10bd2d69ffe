/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Named C functions for what Rust cannot call: inline functions and macros.
 */
#ifndef _FERRY_HELPERS_H
#define _FERRY_HELPERS_H

#include <linux/ratelimit.h>
#include <linux/workqueue.h>

void ferry_ratelimit_state_init(struct ratelimit_state *rs);

/* An anonymous file whose private data is @stream, for rust/vfio/migration.rs. */
struct file *ferry_data_file(void *stream, int flags);

void ferry_work_init(struct work_struct *work, work_func_t func);
bool ferry_work_queue(struct work_struct *work);

#endif /* _FERRY_HELPERS_H */
