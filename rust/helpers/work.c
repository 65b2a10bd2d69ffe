// SPDX-License-Identifier: GPL-2.0
/*
 * See work.h.
 *
 * The worker is a thread of the process that uses the device, so that its time,
 * its memory and its I/O are charged to the process's cgroups, and so that it
 * stops, freezes and dies with the process.
 */

#include <linux/export.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/vhost_task.h>

#include "work.h"

/* Called by the thread, with the state that it is going to sleep in. */
static bool ferry_worker_run(void *data)
{
	struct ferry_worker *worker = data;

	if (!xchg(&worker->pending, false))
		return false;

	__set_current_state(TASK_RUNNING);
	worker->func(worker);
	cond_resched();
	return true;
}

/* Called by the thread, which ends as its process was killed. */
static void ferry_worker_killed(void *data)
{
	struct ferry_worker *worker = data;

	smp_store_release(&worker->dead, true);
}

void ferry_worker_init(struct ferry_worker *worker,
		       void (*func)(struct ferry_worker *worker))
{
	mutex_init(&worker->making);
	spin_lock_init(&worker->lock);
	worker->task = NULL;
	worker->dead = false;
	worker->pending = false;
	worker->func = func;
}
EXPORT_SYMBOL_GPL(ferry_worker_init);

static struct vhost_task *ferry_worker_take(struct ferry_worker *worker)
{
	struct vhost_task *task;

	lockdep_assert_held(&worker->making);

	spin_lock(&worker->lock);
	task = worker->task;
	worker->task = NULL;
	spin_unlock(&worker->lock);
	return task;
}

/*
 * Makes the thread in the current process, unless there is one that lives. Called
 * by a thread that holds no lock which the worker takes.
 */
int ferry_worker_make(struct ferry_worker *worker)
{
	struct vhost_task *task;
	int ret = 0;

	if (READ_ONCE(worker->task) && !smp_load_acquire(&worker->dead))
		return 0;

	if (mutex_lock_killable(&worker->making))
		return -EINTR;
	if (worker->task && !smp_load_acquire(&worker->dead))
		goto out;

	/* The thread that was killed has called everything that it ever calls. */
	task = ferry_worker_take(worker);
	if (task)
		vhost_task_stop(task);

	task = vhost_task_create(ferry_worker_run, ferry_worker_killed, worker,
				 "ferry");
	if (IS_ERR(task)) {
		ret = PTR_ERR(task);
		goto out;
	}

	/* The thread before may have left something undone. */
	worker->dead = false;
	worker->pending = true;
	vhost_task_start(task);
	spin_lock(&worker->lock);
	worker->task = task;
	spin_unlock(&worker->lock);
out:
	mutex_unlock(&worker->making);
	return ret;
}
EXPORT_SYMBOL_GPL(ferry_worker_make);

/* Has the work done soon, once more if it is being done now. */
void ferry_worker_kick(struct ferry_worker *worker)
{
	/* Paired with set_current_state() of vhost_task_fn(). */
	smp_store_mb(worker->pending, true);

	spin_lock(&worker->lock);
	if (worker->task)
		vhost_task_wake(worker->task);
	spin_unlock(&worker->lock);
}
EXPORT_SYMBOL_GPL(ferry_worker_kick);

/* Ends the thread, if there is one, and waits for it. Nobody makes another meanwhile. */
void ferry_worker_stop(struct ferry_worker *worker)
{
	struct vhost_task *task;

	mutex_lock(&worker->making);
	task = ferry_worker_take(worker);
	if (task)
		vhost_task_stop(task);
	worker->dead = false;
	worker->pending = false;
	mutex_unlock(&worker->making);
}
EXPORT_SYMBOL_GPL(ferry_worker_stop);

/* Whether the thread has to freeze, stop or end before it goes on. */
bool ferry_worker_is_interrupted(void)
{
	return signal_pending(current);
}
EXPORT_SYMBOL_GPL(ferry_worker_is_interrupted);
