// SPDX-License-Identifier: GPL-2.0
/*
 * See direct.h.
 *
 * Data goes by way of buffers of the kernel, not straight to the guest's pages: so
 * the guest may unmap its memory and reset its device while the disk is slow, and
 * no page of the guest is reported as written that a device only read.
 */

#include <linux/bvec.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ioprio.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "direct.h"

/**
 * struct ferry_direct_request - A request, and the buffer of its data
 * @iocb: how the file is accessed
 * @work: flushes the file
 * @direct: whose request it is
 * @node: in @direct->done
 * @buffer: memory of the kernel, or NULL
 * @size: bytes of @buffer
 * @pages: the pages of @buffer
 * @waited: somebody waits for this request, which is not for ferry_direct_take()
 * @started_write: the file system must not be frozen until the request is done
 * @is_done: the request is not under way
 * @result: bytes transferred, or an error
 */
struct ferry_direct_request {
	struct kiocb iocb;
	struct work_struct work;
	struct ferry_direct *direct;
	struct list_head node;
	void *buffer;
	size_t size;
	struct bio_vec *pages;
	bool waited;
	bool started_write;
	bool is_done;
	long result;
};

void ferry_direct_init(struct ferry_direct *direct, struct file *file,
		       void (*notify)(void *context), void *context)
{
	direct->file = get_file(file);
	direct->notify = notify;
	direct->context = context;
	spin_lock_init(&direct->lock);
	INIT_LIST_HEAD(&direct->done);
	direct->under_way = 0;
	init_waitqueue_head(&direct->wait);
}
EXPORT_SYMBOL_GPL(ferry_direct_init);

/* Waits until no request is under way, whatever happens to the process. */
void ferry_direct_await_all(struct ferry_direct *direct)
{
	spin_lock_irq(&direct->lock);
	wait_event_lock_irq(direct->wait, !direct->under_way, direct->lock);
	spin_unlock_irq(&direct->lock);
}
EXPORT_SYMBOL_GPL(ferry_direct_await_all);

/* Nobody begins a request any more; the disk may still access their buffers. */
void ferry_direct_end(struct ferry_direct *direct)
{
	ferry_direct_await_all(direct);
	fput(direct->file);
}
EXPORT_SYMBOL_GPL(ferry_direct_end);

/* Returns a request that is done, in the order in which they were, or NULL. */
struct ferry_direct_request *ferry_direct_take(struct ferry_direct *direct)
{
	struct ferry_direct_request *request;

	spin_lock_irq(&direct->lock);
	request = list_first_entry_or_null(&direct->done,
					   struct ferry_direct_request, node);
	if (request)
		list_del_init(&request->node);
	spin_unlock_irq(&direct->lock);
	return request;
}
EXPORT_SYMBOL_GPL(ferry_direct_take);

static bool ferry_direct_is_due(struct ferry_direct *direct)
{
	bool due;

	spin_lock_irq(&direct->lock);
	due = !list_empty(&direct->done) || !direct->under_way;
	spin_unlock_irq(&direct->lock);
	return due;
}

/*
 * Waits until a request is done that nobody else waits for. Returns whether one is:
 * none is if none was under way, or if the current process is killed.
 */
bool ferry_direct_await(struct ferry_direct *direct)
{
	if (wait_event_killable(direct->wait, ferry_direct_is_due(direct)))
		return false;
	return !list_empty_careful(&direct->done);
}
EXPORT_SYMBOL_GPL(ferry_direct_await);

struct ferry_direct_request *ferry_direct_alloc(struct ferry_direct *direct)
{
	struct ferry_direct_request *request;

	request = kzalloc(sizeof(*request), GFP_KERNEL_ACCOUNT);
	if (!request)
		return NULL;

	request->direct = direct;
	INIT_LIST_HEAD(&request->node);
	request->is_done = true;
	return request;
}
EXPORT_SYMBOL_GPL(ferry_direct_alloc);

/* @request is not under way, and nobody takes it any more. */
void ferry_direct_free(struct ferry_direct_request *request)
{
	kfree(request->pages);
	vfree(request->buffer);
	kfree(request);
}
EXPORT_SYMBOL_GPL(ferry_direct_free);

/* The buffer, of as many bytes as were reserved. */
void *ferry_direct_buffer(const struct ferry_direct_request *request)
{
	return request->buffer;
}
EXPORT_SYMBOL_GPL(ferry_direct_buffer);

/* The bytes that a request which is done transferred, or its error. */
long ferry_direct_result(const struct ferry_direct_request *request)
{
	return request->result;
}
EXPORT_SYMBOL_GPL(ferry_direct_result);

/* Makes the buffer have room for @len bytes. @request is not under way. */
int ferry_direct_reserve(struct ferry_direct_request *request, size_t len)
{
	struct bio_vec *pages;
	size_t size, i;
	void *buffer;

	if (len <= request->size)
		return 0;
	if (len > INT_MAX / 2)
		return -EINVAL;

	size = max_t(size_t, roundup_pow_of_two(len), PAGE_SIZE);
	pages = kcalloc(size / PAGE_SIZE, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return -ENOMEM;
	buffer = __vmalloc(size, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!buffer) {
		kfree(pages);
		return -ENOMEM;
	}
	for (i = 0; i < size / PAGE_SIZE; i++)
		bvec_set_page(&pages[i], vmalloc_to_page(buffer + i * PAGE_SIZE),
			      PAGE_SIZE, 0);

	kfree(request->pages);
	vfree(request->buffer);
	request->pages = pages;
	request->buffer = buffer;
	request->size = size;
	return 0;
}
EXPORT_SYMBOL_GPL(ferry_direct_reserve);

static void ferry_direct_begin(struct ferry_direct_request *request,
			       bool waited)
{
	struct ferry_direct *direct = request->direct;

	request->waited = waited;
	request->started_write = false;
	request->is_done = false;

	spin_lock_irq(&direct->lock);
	direct->under_way++;
	spin_unlock_irq(&direct->lock);
}

/* Called in any context. @request may be gone when it returns. */
static void ferry_direct_done(struct ferry_direct_request *request, long result)
{
	struct ferry_direct *direct = request->direct;
	unsigned long flags;

	request->result = result;
	spin_lock_irqsave(&direct->lock, flags);
	if (!request->waited) {
		list_add_tail(&request->node, &direct->done);
		direct->notify(direct->context);
	}
	/* Who waits for the request may use it anew from here on. */
	smp_store_release(&request->is_done, true);
	direct->under_way--;
	/* Under the lock, as ferry_direct_end() may be followed by the end of all. */
	wake_up_all(&direct->wait);
	spin_unlock_irqrestore(&direct->lock, flags);
}

static void ferry_direct_complete(struct kiocb *iocb, long result)
{
	struct ferry_direct_request *request =
		container_of(iocb, struct ferry_direct_request, iocb);

	if (request->started_write)
		kiocb_end_write(iocb);
	ferry_direct_done(request, result);
}

static void ferry_direct_submit(struct ferry_direct_request *request,
				unsigned int direction, loff_t pos, size_t len,
				int flags)
{
	struct file *file = request->direct->file;
	struct kiocb *iocb = &request->iocb;
	struct iov_iter iter;
	ssize_t ret;

	memset(iocb, 0, sizeof(*iocb));
	iocb->ki_filp = file;
	iocb->ki_pos = pos;
	iocb->ki_flags = file->f_iocb_flags | flags;
	iocb->ki_ioprio = get_current_ioprio();
	iocb->ki_complete = ferry_direct_complete;
	iov_iter_bvec(&iter, direction, request->pages,
		      DIV_ROUND_UP(len, PAGE_SIZE), len);

	if (direction == ITER_SOURCE) {
		if (S_ISREG(file_inode(file)->i_mode)) {
			kiocb_start_write(iocb);
			request->started_write = true;
		}
		ret = file->f_op->write_iter(iocb, &iter);
	} else {
		ret = file->f_op->read_iter(iocb, &iter);
	}
	if (ret != -EIOCBQUEUED)
		ferry_direct_complete(iocb, ret);
}

/*
 * Begins to read @len bytes, for which the buffer has room, from @pos on. If
 * @waited, ferry_direct_wait_for() follows, otherwise ferry_direct_take().
 */
void ferry_direct_read(struct ferry_direct_request *request, loff_t pos,
		       size_t len, bool waited)
{
	ferry_direct_begin(request, waited);
	ferry_direct_submit(request, ITER_DEST, pos, len, 0);
}
EXPORT_SYMBOL_GPL(ferry_direct_read);

/* As ferry_direct_read(). If @durable, done means that the disk has the bytes. */
void ferry_direct_write(struct ferry_direct_request *request, loff_t pos,
			size_t len, bool durable, bool waited)
{
	ferry_direct_begin(request, waited);
	ferry_direct_submit(request, ITER_SOURCE, pos, len,
			    IOCB_WRITE | (durable ? IOCB_DSYNC : 0));
}
EXPORT_SYMBOL_GPL(ferry_direct_write);

static void ferry_direct_flush_work(struct work_struct *work)
{
	struct ferry_direct_request *request =
		container_of(work, struct ferry_direct_request, work);

	ferry_direct_done(request, vfs_fsync(request->direct->file, 1));
}

/* Begins to have the disk keep what was written. ferry_direct_take() follows. */
void ferry_direct_flush(struct ferry_direct_request *request)
{
	ferry_direct_begin(request, false);
	INIT_WORK(&request->work, ferry_direct_flush_work);
	/* It waits for the disk, so it may keep no other work waiting. */
	queue_work(system_dfl_long_wq, &request->work);
}
EXPORT_SYMBOL_GPL(ferry_direct_flush);

/*
 * Waits until @request is not under way any more. Returns whether that is so: if
 * @killable, it still may be when the current process is killed. A write is not to
 * be given up: it could follow a later one of the same bytes.
 */
bool ferry_direct_wait_for(struct ferry_direct_request *request, bool killable)
{
	if (killable)
		return !wait_event_killable(request->direct->wait,
					    smp_load_acquire(&request->is_done));

	wait_event(request->direct->wait, smp_load_acquire(&request->is_done));
	return true;
}
EXPORT_SYMBOL_GPL(ferry_direct_wait_for);
