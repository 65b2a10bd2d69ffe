// SPDX-License-Identifier: GPL-2.0
/*
 * See dma.h.
 *
 * A user's page fault may take as long as the user likes: with userfaultfd it is
 * the user who ends it. While a device waits for one, whoever accesses the device
 * waits as well, in a way that no signal ends, and so does its last close. If it
 * is the user itself who would have to end the fault, that is for ever: a process
 * that is killed keeps its files until all its threads are gone, and one that
 * exits may close the device before its userfaultfd. So a fault ends, as if the
 * memory was not there, when the device is closed, and soon after the user is
 * killed. What ends it is the signal that ends it for a thread of the user.
 */

#include <linux/export.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/vfio.h>

#include "dma.h"

/* An access that takes longer is ended if the user is dead. */
#define WATCH_INTERVAL HZ

static void end_access(struct ferry_dma_gate *gate)
{
	lockdep_assert_held(&gate->lock);

	if (gate->worker)
		send_sig(SIGKILL, gate->worker, 1);
}

/*
 * Whatever the threads of the process wait for, which may be a lock of the core's.
 * The device may have been passed on to somebody who lives, for whom it works on.
 *
 * It runs on the system's queue: it ends what may fill up our own.
 */
static void ferry_dma_watch(struct work_struct *work)
{
	struct ferry_dma_gate *gate =
		container_of(to_delayed_work(work), struct ferry_dma_gate, watch);

	spin_lock(&gate->lock);
	if (gate->worker) {
		if (gate->seen == gate->accesses &&
		    READ_ONCE(gate->owner->signal->flags) & SIGNAL_GROUP_EXIT)
			end_access(gate);
		gate->seen = gate->accesses;
		queue_delayed_work(system_dfl_wq, &gate->watch, WATCH_INTERVAL);
	}
	spin_unlock(&gate->lock);
}

void ferry_dma_gate_init(struct ferry_dma_gate *gate)
{
	spin_lock_init(&gate->lock);
	gate->worker = NULL;
	gate->accesses = 0;
	gate->seen = 0;
	gate->owner = NULL;
	gate->closed = true;
	INIT_DELAYED_WORK(&gate->watch, ferry_dma_watch);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_init);

/* The current process is opening the device. */
void ferry_dma_gate_open(struct ferry_dma_gate *gate)
{
	gate->owner = get_task_struct(current->group_leader);
	gate->closed = false;
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_open);

/* From here on each access fails, also the one that is under way. */
void ferry_dma_gate_close(struct ferry_dma_gate *gate)
{
	spin_lock(&gate->lock);
	gate->closed = true;
	end_access(gate);
	spin_unlock(&gate->lock);
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_close);

/* The device is closed: there is no access under way, nor will there be one. */
void ferry_dma_gate_release(struct ferry_dma_gate *gate)
{
	gate->closed = true;
	cancel_delayed_work_sync(&gate->watch);
	put_task_struct(gate->owner);
	gate->owner = NULL;
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_release);

/* Around all accesses of a kernel thread: its signals are those from here. */
void ferry_dma_begin(void)
{
	allow_kernel_signal(SIGKILL);
}
EXPORT_SYMBOL_GPL(ferry_dma_begin);

/* Also forgets the signal. */
void ferry_dma_end(void)
{
	disallow_signal(SIGKILL);
}
EXPORT_SYMBOL_GPL(ferry_dma_end);

/* vfio_dma_rw(), or -EINTR once the gate is closed. */
int ferry_dma_rw(struct ferry_dma_gate *gate, struct vfio_device *vdev,
		 dma_addr_t iova, void *data, size_t len, bool write)
{
	int ret;

	spin_lock(&gate->lock);
	if (gate->closed) {
		spin_unlock(&gate->lock);
		return -EINTR;
	}
	gate->worker = current;
	gate->accesses++;
	spin_unlock(&gate->lock);

	if (!delayed_work_pending(&gate->watch))
		queue_delayed_work(system_dfl_wq, &gate->watch, WATCH_INTERVAL);
	ret = vfio_dma_rw(vdev, iova, data, len, write);

	spin_lock(&gate->lock);
	gate->worker = NULL;
	/* What ended the access was the close, whatever it looks like. */
	if (ret && gate->closed)
		ret = -EINTR;
	spin_unlock(&gate->lock);
	return ret;
}
EXPORT_SYMBOL_GPL(ferry_dma_rw);
