// SPDX-License-Identifier: GPL-2.0
/*
 * See dma.h.
 *
 * A user's page fault may take as long as the user likes: with userfaultfd it is
 * the user who ends it. The worker is a thread of a user, so it does not outlast
 * that process. But while it waits for a page, the last close of the device waits
 * for it, and so may a process that would have to end the fault: one that exits
 * may close the device before its userfaultfd. So a fault ends, as if the memory
 * was not there, when the device is closed.
 *
 * It also ends when software resets the device, which must not access memory after
 * that: accesses belong to an epoch, which a reset ends.
 *
 * Pages that a device accesses again and again, such as its queues, stay pinned: to
 * look them up costs more than to copy an entry of a queue. They are unpinned when
 * the user unmaps them, and when the device stops, as a container takes a pinned page
 * for one that is written.
 *
 * A container has two traps for who unpins for an unmap. It gives up, by a BUG(), if
 * it finds a page pinned after ten calls. So no page is pinned until the unmap is over,
 * which is when its thread returns to user space. And it calls with a lock that another
 * unmap takes with the lock held that unpinning takes. So another thread unpins, and
 * the first calls do not wait for it for ever. An IOAS lets nobody pin what is being
 * unmapped, and calls without a lock.
 */

#include <linux/completion.h>
#include <linux/export.h>
#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>

#include "dma.h"

/* How many calls for an unmap, of the ten, wait for a limited time, in jiffies. */
#define UNPIN_TRIES	5
#define UNPIN_TIME	(HZ / 10)

/* No page has an address like this. */
#define NO_PAGE ((dma_addr_t)1)

/*
 * Ends the worker's fault with the signal that ends it for a thread of a process
 * that is killed, as zap_other_threads() sends it: to the one thread. send_sig()
 * would kill the process.
 */
static void end_access(struct ferry_dma_gate *gate)
{
	struct task_struct *worker = gate->worker;
	unsigned long flags;

	lockdep_assert_held(&gate->lock);

	if (!worker)
		return;
	/* The thread is in ferry_dma_rw(), so it has its signal handlers. */
	spin_lock_irqsave(&worker->sighand->siglock, flags);
	sigaddset(&worker->pending.signal, SIGKILL);
	set_tsk_thread_flag(worker, TIF_SIGPENDING);
	spin_unlock_irqrestore(&worker->sighand->siglock, flags);
	wake_up_process(worker);
}

static void unpin_unmapped(struct work_struct *work);

void ferry_dma_gate_init(struct ferry_dma_gate *gate)
{
	spin_lock_init(&gate->lock);
	mutex_init(&gate->access);
	mutex_init(&gate->pins);
	for (int i = 0; i < FERRY_DMA_SETS; i++)
		for (int j = 0; j < FERRY_DMA_WAYS; j++)
			gate->pages[i][j].iova = NO_PAGE;
	INIT_LIST_HEAD(&gate->unmaps);
	INIT_WORK(&gate->unpinner, unpin_unmapped);
	gate->vdev = NULL;
	gate->worker = NULL;
	gate->epoch = 0;
	gate->closed = true;
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_init);

/* Makes every access fail from here on, also one that is under way. */
void ferry_dma_gate_close(struct ferry_dma_gate *gate)
{
	spin_lock(&gate->lock);
	WRITE_ONCE(gate->closed, true);
	end_access(gate);
	spin_unlock(&gate->lock);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_close);

/* Makes every access of this epoch fail from here on, also one that is under way. */
void ferry_dma_gate_end(struct ferry_dma_gate *gate)
{
	spin_lock(&gate->lock);
	WRITE_ONCE(gate->epoch, gate->epoch + 1);
	end_access(gate);
	spin_unlock(&gate->lock);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_end);

/* Waits until no access is under way that was under way before. */
void ferry_dma_gate_await_access(struct ferry_dma_gate *gate)
{
	mutex_lock(&gate->access);
	mutex_unlock(&gate->access);
	/* Pages that stay pinned are accessed with this lock alone. */
	mutex_lock(&gate->pins);
	mutex_unlock(&gate->pins);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_await_access);

/* The epoch that accesses belong to which begin now. */
unsigned int ferry_dma_gate_epoch(struct ferry_dma_gate *gate)
{
	return READ_ONCE(gate->epoch);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_epoch);

static bool has_ioas(struct vfio_device *vdev)
{
#if IS_ENABLED(CONFIG_IOMMUFD)
	return vdev->iommufd_access;
#else
	return false;
#endif
}

/**
 * struct ferry_dma_unmap - A call for an unmap that is under way
 * @work: called when the unmap is over, perhaps after the device is gone
 * @entry: in the gate's list
 * @task: the thread that unmaps
 * @iova: the first IOVA
 * @length: length in bytes
 * @seen: pages are being unpinned for it
 * @unpinned: the pages are unpinned
 */
struct ferry_dma_unmap {
	struct callback_head work;
	struct list_head entry;
	struct task_struct *task;
	u64 iova;
	u64 length;
	bool seen;
	struct completion unpinned;
};

/* Protects the lists of all gates. */
static DEFINE_SPINLOCK(unmaps_lock);

static void end_unmap(struct callback_head *work)
{
	struct ferry_dma_unmap *unmap =
		container_of(work, struct ferry_dma_unmap, work);

	spin_lock(&unmaps_lock);
	list_del(&unmap->entry);
	spin_unlock(&unmaps_lock);
	kfree(unmap);
	module_put(THIS_MODULE);
}

/*
 * Has nothing pinned in a range until the current thread returns to user space.
 * Returns how often it was called for the same unmap before.
 */
static int begin_unmap(struct ferry_dma_gate *gate,
		       struct ferry_dma_unmap *unmap, u64 iova, u64 length)
{
	struct ferry_dma_unmap *other;
	int calls = 0;

	*unmap = (struct ferry_dma_unmap){
		.task = current,
		.iova = iova,
		.length = length,
	};
	init_completion(&unmap->unpinned);
	init_task_work(&unmap->work, end_unmap);
	/* The device is open, so the module is in use. */
	__module_get(THIS_MODULE);

	spin_lock(&unmaps_lock);
	list_for_each_entry(other, &gate->unmaps, entry)
		calls += other->task == current && other->iova == iova;
	list_add(&unmap->entry, &gate->unmaps);
	spin_unlock(&unmaps_lock);
	return calls;
}

static bool is_unmapped(struct ferry_dma_gate *gate, u64 iova)
{
	struct ferry_dma_unmap *unmap;
	bool found = false;

	spin_lock(&unmaps_lock);
	list_for_each_entry(unmap, &gate->unmaps, entry)
		found |= iova - unmap->iova < unmap->length;
	spin_unlock(&unmaps_lock);
	return found;
}

static void forget_unmaps(struct ferry_dma_gate *gate)
{
	struct ferry_dma_unmap *unmap, *next;

	spin_lock(&unmaps_lock);
	list_for_each_entry_safe(unmap, next, &gate->unmaps, entry)
		list_del_init(&unmap->entry);
	spin_unlock(&unmaps_lock);
}

void ferry_dma_gate_open(struct ferry_dma_gate *gate, struct vfio_device *vdev)
{
	/* Unmaps of the last user concern other memory than this one's. */
	forget_unmaps(gate);
	gate->vdev = vdev;
	WRITE_ONCE(gate->closed, false);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_open);

static void forget_page(struct vfio_device *vdev, struct ferry_dma_page *kept)
{
	if (kept->page)
		vfio_unpin_pages(vdev, kept->iova, 1);
	*kept = (struct ferry_dma_page){ .iova = NO_PAGE };
}

/* Unpins what is being unmapped, also that of a page that is pinned for an access. */
static void unpin_unmapped(struct work_struct *work)
{
	struct ferry_dma_gate *gate =
		container_of(work, struct ferry_dma_gate, unpinner);
	struct ferry_dma_unmap *unmap;

	spin_lock(&unmaps_lock);
	list_for_each_entry(unmap, &gate->unmaps, entry)
		unmap->seen = true;
	spin_unlock(&unmaps_lock);

	mutex_lock(&gate->pins);
	for (int i = 0; i < FERRY_DMA_SETS; i++) {
		for (int j = 0; j < FERRY_DMA_WAYS; j++) {
			struct ferry_dma_page *kept = &gate->pages[i][j];

			if (is_unmapped(gate, kept->iova))
				forget_page(gate->vdev, kept);
		}
	}
	mutex_unlock(&gate->pins);

	spin_lock(&unmaps_lock);
	list_for_each_entry(unmap, &gate->unmaps, entry)
		if (unmap->seen)
			complete_all(&unmap->unpinned);
	spin_unlock(&unmaps_lock);
}

static void forget_pages(struct ferry_dma_gate *gate, struct vfio_device *vdev,
			 u64 iova, u64 length)
{
	mutex_lock(&gate->pins);
	for (int i = 0; i < FERRY_DMA_SETS; i++) {
		for (int j = 0; j < FERRY_DMA_WAYS; j++) {
			struct ferry_dma_page *kept = &gate->pages[i][j];

			if (kept->iova - iova < length)
				forget_page(vdev, kept);
		}
	}
	mutex_unlock(&gate->pins);
}

/*
 * Unpins what is pinned of a range that is being unmapped, and waits for a page of it
 * that is pinned for an access.
 */
void ferry_dma_gate_unmap(struct ferry_dma_gate *gate,
			  struct vfio_device *vdev, u64 iova, u64 length)
{
	struct ferry_dma_unmap *unmap;
	int calls;

	if (has_ioas(vdev)) {
		forget_pages(gate, vdev, iova, length);
		return;
	}

	unmap = kmalloc(sizeof(*unmap), GFP_KERNEL | __GFP_NOFAIL);
	calls = begin_unmap(gate, unmap, iova, length);
	queue_work(system_unbound_wq, &gate->unpinner);
	if (calls < UNPIN_TRIES)
		wait_for_completion_timeout(&unmap->unpinned, UNPIN_TIME);
	else
		wait_for_completion(&unmap->unpinned);
	/* A thread that ends unmaps nothing. */
	if (WARN_ON_ONCE(task_work_add(current, &unmap->work, TWA_RESUME)))
		end_unmap(&unmap->work);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_unmap);

/* Unpins all that stays pinned. */
void ferry_dma_gate_unpin(struct ferry_dma_gate *gate, struct vfio_device *vdev)
{
	forget_pages(gate, vdev, 0, U64_MAX);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_unpin);

/* The device is not open, nor will it be. */
void ferry_dma_gate_destroy(struct ferry_dma_gate *gate)
{
	flush_work(&gate->unpinner);
	forget_unmaps(gate);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_destroy);

/* Accesses one page, in whatever address space it is. */
static int rw_page(struct ferry_dma_gate *gate, struct vfio_device *vdev,
		   dma_addr_t iova, void *data, size_t len, bool write)
{
	size_t offset = offset_in_page(iova);
	struct page *page;
	int ret;

	mutex_lock(&gate->pins);
	ret = is_unmapped(gate, iova) ?
		      -EFAULT :
		      vfio_pin_pages(vdev, iova - offset, 1,
				     write ? IOMMU_WRITE : IOMMU_READ, &page);
	if (ret == 1) {
		if (write)
			memcpy_to_page(page, offset, data, len);
		else
			memcpy_from_page(data, page, offset, len);
		vfio_unpin_pages(vdev, iova - offset, 1);
		ret = 0;
	} else {
		ret = -EFAULT;
	}
	mutex_unlock(&gate->pins);
	return ret;
}

/*
 * vfio_dma_rw() of a container fails for a thread of another address space than
 * the memory's, as if the memory was not there. An IOAS has no such limit.
 */
static int rw_elsewhere(struct ferry_dma_gate *gate, struct vfio_device *vdev,
			dma_addr_t iova, void *data, size_t len, bool write)
{
	while (len) {
		size_t part = min_t(size_t, len,
				    PAGE_SIZE - offset_in_page(iova));
		int ret = rw_page(gate, vdev, iova, data, part, write);

		if (ret)
			return ret;
		iova += part;
		data += part;
		len -= part;
	}
	return 0;
}

static bool has_ended(struct ferry_dma_gate *gate, unsigned int epoch)
{
	return READ_ONCE(gate->closed) || READ_ONCE(gate->epoch) != epoch;
}

/*
 * Lets the current thread access memory. The access ends with the gate, or with the
 * epoch, and finish_access() has to follow.
 */
static int begin_access(struct ferry_dma_gate *gate, unsigned int epoch)
{
	int ret = 0;

	mutex_lock(&gate->access);
	spin_lock(&gate->lock);
	if (has_ended(gate, epoch))
		ret = -EINTR;
	else
		gate->worker = current;
	spin_unlock(&gate->lock);
	if (ret)
		mutex_unlock(&gate->access);
	return ret;
}

/* Returns what the access returns, which had the result @ret. */
static int finish_access(struct ferry_dma_gate *gate, unsigned int epoch,
			 int ret)
{
	spin_lock(&gate->lock);
	gate->worker = NULL;
	/* The close or the reset ended the access, whatever the error says. */
	if (ret && has_ended(gate, epoch))
		ret = -EINTR;
	spin_unlock(&gate->lock);
	mutex_unlock(&gate->access);
	return ret;
}

/* vfio_dma_rw(), or -EINTR once the gate is closed or the epoch has ended. */
int ferry_dma_rw(struct ferry_dma_gate *gate, unsigned int epoch,
		 struct vfio_device *vdev, dma_addr_t iova, void *data,
		 size_t len, bool write)
{
	int ret = begin_access(gate, epoch);

	if (ret)
		return ret;

	ret = vfio_dma_rw(vdev, iova, data, len, write);
	if (ret == -EFAULT && !has_ioas(vdev) && !fatal_signal_pending(current))
		ret = rw_elsewhere(gate, vdev, iova, data, len, write);

	return finish_access(gate, epoch, ret);
}
EXPORT_SYMBOL_GPL(ferry_dma_rw);

static struct ferry_dma_page *page_set(struct ferry_dma_gate *gate,
				       dma_addr_t iova)
{
	return gate->pages[hash_64(iova >> PAGE_SHIFT, FERRY_DMA_SET_BITS)];
}

/*
 * Accesses bytes of a page that stays pinned. Returns -EAGAIN if it is not known, and
 * -EFAULT if it cannot be pinned.
 */
static int rw_kept(struct ferry_dma_gate *gate, unsigned int epoch,
		   dma_addr_t iova, void *data, size_t len, bool write)
{
	size_t offset = offset_in_page(iova);
	struct ferry_dma_page *kept = page_set(gate, iova);
	int ret = -EAGAIN;

	mutex_lock(&gate->pins);
	if (has_ended(gate, epoch)) {
		ret = -EINTR;
		goto out;
	}
	for (int i = 0; i < FERRY_DMA_WAYS; i++, kept++) {
		if (kept->iova != iova - offset)
			continue;
		kept->used = true;
		ret = 0;
		if (!kept->page)
			ret = -EFAULT;
		else if (write)
			memcpy_to_page(kept->page, offset, data, len);
		else
			memcpy_from_page(data, kept->page, offset, len);
		break;
	}
out:
	mutex_unlock(&gate->pins);
	return ret;
}

/*
 * Returns a slot for another page: instead of one that was not accessed since there
 * was none the last time.
 */
static struct ferry_dma_page *free_slot(struct ferry_dma_page *set)
{
	for (int i = 0; i < FERRY_DMA_WAYS; i++)
		if (!set[i].used)
			return &set[i];
	for (int i = 0; i < FERRY_DMA_WAYS; i++)
		set[i].used = false;
	return NULL;
}

/*
 * Has a page stay pinned, if it can be pinned. It has to be writable, as a page is
 * pinned once for all accesses.
 */
static int keep_page(struct ferry_dma_gate *gate, unsigned int epoch,
		     struct vfio_device *vdev, dma_addr_t iova)
{
	int ret = begin_access(gate, epoch);
	struct ferry_dma_page *slot;
	struct page *page;

	if (ret)
		return ret;

	mutex_lock(&gate->pins);
	/* Whoever unmaps waits for all that is pinned: nothing is to be added. */
	slot = list_empty_careful(&gate->unmaps) ?
		       free_slot(page_set(gate, iova)) :
		       NULL;
	if (slot) {
		forget_page(vdev, slot);
		if (vfio_pin_pages(vdev, iova, 1, IOMMU_READ | IOMMU_WRITE,
				   &page) == 1)
			slot->page = page;
		/* That it cannot be pinned is known from now on, too. */
		slot->iova = iova;
	}
	mutex_unlock(&gate->pins);

	return finish_access(gate, epoch, 0);
}

/* ferry_dma_rw() of memory that is accessed again and again. */
int ferry_dma_rw_often(struct ferry_dma_gate *gate, unsigned int epoch,
		       struct vfio_device *vdev, dma_addr_t iova, void *data,
		       size_t len, bool write)
{
	while (len) {
		size_t offset = offset_in_page(iova);
		size_t part = min_t(size_t, len, PAGE_SIZE - offset);
		int ret = rw_kept(gate, epoch, iova, data, part, write);

		if (ret == -EAGAIN) {
			ret = keep_page(gate, epoch, vdev, iova - offset);
			if (!ret)
				ret = rw_kept(gate, epoch, iova, data, part,
					      write);
		}
		if (ret == -EAGAIN || ret == -EFAULT)
			ret = ferry_dma_rw(gate, epoch, vdev, iova, data, part,
					   write);
		if (ret)
			return ret;
		iova += part;
		data += part;
		len -= part;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(ferry_dma_rw_often);
