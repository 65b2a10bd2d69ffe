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
 */

#include <linux/export.h>
#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/sched/signal.h>
#include <linux/vfio.h>

#include "dma.h"

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

void ferry_dma_gate_init(struct ferry_dma_gate *gate)
{
	spin_lock_init(&gate->lock);
	mutex_init(&gate->access);
	mutex_init(&gate->pins);
	gate->worker = NULL;
	gate->epoch = 0;
	gate->closed = true;
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_init);

void ferry_dma_gate_open(struct ferry_dma_gate *gate)
{
	gate->closed = false;
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_open);

/* Makes every access fail from here on, also one that is under way. */
void ferry_dma_gate_close(struct ferry_dma_gate *gate)
{
	spin_lock(&gate->lock);
	gate->closed = true;
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
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_await_access);

/* The epoch that accesses belong to which begin now. */
unsigned int ferry_dma_gate_epoch(struct ferry_dma_gate *gate)
{
	return READ_ONCE(gate->epoch);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_epoch);

/* Waits until no page is pinned that was pinned before. */
void ferry_dma_gate_await_pins(struct ferry_dma_gate *gate)
{
	mutex_lock(&gate->pins);
	mutex_unlock(&gate->pins);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_await_pins);

/* Accesses one page, in whatever address space it is. */
static int rw_page(struct ferry_dma_gate *gate, struct vfio_device *vdev,
		   dma_addr_t iova, void *data, size_t len, bool write)
{
	size_t offset = offset_in_page(iova);
	struct page *page;
	int ret;

	mutex_lock(&gate->pins);
	ret = vfio_pin_pages(vdev, iova - offset, 1,
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

static bool has_ioas(struct vfio_device *vdev)
{
#if IS_ENABLED(CONFIG_IOMMUFD)
	return vdev->iommufd_access;
#else
	return false;
#endif
}

static bool has_ended(struct ferry_dma_gate *gate, unsigned int epoch)
{
	lockdep_assert_held(&gate->lock);

	return gate->closed || gate->epoch != epoch;
}

/* vfio_dma_rw(), or -EINTR once the gate is closed or the epoch has ended. */
int ferry_dma_rw(struct ferry_dma_gate *gate, unsigned int epoch,
		 struct vfio_device *vdev, dma_addr_t iova, void *data,
		 size_t len, bool write)
{
	int ret;

	mutex_lock(&gate->access);
	spin_lock(&gate->lock);
	if (has_ended(gate, epoch)) {
		spin_unlock(&gate->lock);
		ret = -EINTR;
		goto out;
	}
	gate->worker = current;
	spin_unlock(&gate->lock);

	ret = vfio_dma_rw(vdev, iova, data, len, write);
	if (ret == -EFAULT && !has_ioas(vdev) && !fatal_signal_pending(current))
		ret = rw_elsewhere(gate, vdev, iova, data, len, write);

	spin_lock(&gate->lock);
	gate->worker = NULL;
	/* The close or the reset ended the access, whatever the error says. */
	if (ret && has_ended(gate, epoch))
		ret = -EINTR;
	spin_unlock(&gate->lock);
out:
	mutex_unlock(&gate->access);
	return ret;
}
EXPORT_SYMBOL_GPL(ferry_dma_rw);
