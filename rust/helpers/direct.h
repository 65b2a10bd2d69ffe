/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests on a file past the page cache, see rust/kernel_ext/file/direct.rs.
 */
#ifndef _FERRY_DIRECT_H
#define _FERRY_DIRECT_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

struct ferry_direct_request;
struct file;

/**
 * struct ferry_direct - The requests on a file that go past the page cache
 * @file: the file, opened with O_DIRECT
 * @notify: called when a request is done that nobody waits for, in any context,
 *	with @lock held
 * @context: argument of @notify
 * @lock: protects @done and @under_way
 * @done: requests that are done and not taken
 * @under_way: number of requests that are not done
 * @wait: wakes those who wait for a request
 */
struct ferry_direct {
	struct file *file;
	void (*notify)(void *context);
	void *context;
	spinlock_t lock;
	struct list_head done;
	unsigned int under_way;
	wait_queue_head_t wait;
};

void ferry_direct_init(struct ferry_direct *direct, struct file *file,
		       void (*notify)(void *context), void *context);
void ferry_direct_await_all(struct ferry_direct *direct);
void ferry_direct_end(struct ferry_direct *direct);
struct ferry_direct_request *ferry_direct_take(struct ferry_direct *direct);
bool ferry_direct_await(struct ferry_direct *direct);

struct ferry_direct_request *ferry_direct_alloc(struct ferry_direct *direct);
void ferry_direct_free(struct ferry_direct_request *request);
void *ferry_direct_buffer(const struct ferry_direct_request *request);
long ferry_direct_result(const struct ferry_direct_request *request);
int ferry_direct_reserve(struct ferry_direct_request *request, size_t len);
void ferry_direct_read(struct ferry_direct_request *request, loff_t pos,
		       size_t len, bool waited);
void ferry_direct_write(struct ferry_direct_request *request, loff_t pos,
			size_t len, bool durable, bool waited);
void ferry_direct_flush(struct ferry_direct_request *request);
bool ferry_direct_wait_for(struct ferry_direct_request *request, bool killable);

#endif /* _FERRY_DIRECT_H */
