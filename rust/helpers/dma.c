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

/* An access that takes longer is ended if the user is being killed. */
#define WATCH_INTERVAL HZ

static void end_access(struct ferry_dma_gate *gate)
{
	lockdep_assert_held(&gate->lock);

	if (gate->worker)
		send_sig(SIGKILL, gate->worker, 1);
}

/*
 * Ends the access under way if its owner is being killed, whatever lock the
 * owner's threads wait for. A device that was passed on to another process works
 * on: its next access begins anew.
 *
 * Runs on the system's queue, since it ends works that may fill up our own.
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

/* Opens the gate for the current process, which is opening the device. */
void ferry_dma_gate_open(struct ferry_dma_gate *gate)
{
	gate->owner = get_task_struct(current->group_leader);
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

/* Forgets the owner. No access may be under way or begin: the device is closed. */
void ferry_dma_gate_release(struct ferry_dma_gate *gate)
{
	gate->closed = true;
	cancel_delayed_work_sync(&gate->watch);
	put_task_struct(gate->owner);
	gate->owner = NULL;
}
EXPORT_SYMBOL_GPL(ferry_dma_gate_release);

/* Lets a kernel thread take the signal that ends an access. */
void ferry_dma_begin(void)
{
	allow_kernel_signal(SIGKILL);
}
EXPORT_SYMBOL_GPL(ferry_dma_begin);

/* Stops taking the signal, and forgets a pending one. */
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
	/* The close ended the access, whatever the error says. */
	if (ret && gate->closed)
		ret = -EINTR;
	spin_unlock(&gate->lock);
	return ret;
}
EXPORT_SYMBOL_GPL(ferry_dma_rw);
