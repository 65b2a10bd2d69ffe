// SPDX-License-Identifier: GPL-2.0
/*
 * See work.h.
 *
 * The worker is a thread of the process that uses the device, so that its time,
 * its memory and its I/O are charged to the process's cgroups, and so that it
 * stops, freezes and dies with the process.
 */

#include <linux/export.h>
#include <linux/hrtimer.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/vhost_task.h>
#include <linux/slab.h>
#include <linux/task_work.h>

#include "work.h"

/**
 * struct ferry_thread - A thread of a worker, which may outlive its device
 * @task: the thread
 * @current_task: the same, as the thread itself sees it
 * @worker: the worker, or NULL once the thread has closed the device. Changed by
 *	the thread itself, or before it starts.
 */
struct ferry_thread {
	struct vhost_task *task;
	struct task_struct *current_task;
	struct ferry_worker *worker;
};

/* Called by the thread, with the state that it is going to sleep in. */
static bool ferry_worker_run(void *data)
{
	struct ferry_thread *thread = data;
	struct ferry_worker *worker = thread->worker;
	bool called;

	WRITE_ONCE(thread->current_task, current);
	if (!worker)
		return false;

	/* Paired with ferry_worker_pause(): either sees the other. */
	smp_store_mb(worker->busy, true);
	/* What is under way has to end before a pause begins. */
	called = (!atomic_read(&worker->pauses) || worker->under_way) &&
		 xchg(&worker->pending, false);
	if (called) {
		__set_current_state(TASK_RUNNING);
		worker->func(worker);
	}
	/* The worker outlasts the thread, also if that has closed the device. */
	smp_store_release(&worker->busy, false);
	if (wq_has_sleeper(&worker->idle))
		wake_up_all(&worker->idle);
	if (!called)
		return false;

	/*
	 * The last fput() of a user's thread comes when the thread returns to user
	 * space. This one never does: it has the files closed by get_signal().
	 */
	if (task_work_pending(current))
		set_thread_flag(TIF_NOTIFY_SIGNAL);
	cond_resched();
	return true;
}

/* Called by the thread, which ends as its process was killed. */
static void ferry_worker_killed(void *data)
{
	struct ferry_thread *thread = data;

	if (!thread->worker)
		return;
	smp_store_release(&thread->worker->dead, true);
	/* Somebody may be waiting for what was under way. */
	wake_up_all(&thread->worker->idle);
}

/* Waits until the thread has ended. It is not the current one. */
static void ferry_thread_end(struct ferry_thread *thread)
{
	vhost_task_stop(thread->task);
	kfree(thread);
}

static void ferry_worker_reap(struct work_struct *work)
{
	struct ferry_worker *worker = container_of(work, struct ferry_worker,
						   reaper);

	ferry_thread_end(worker->orphan);
}

static enum hrtimer_restart ferry_worker_ring(struct hrtimer *timer)
{
	struct ferry_worker *worker = container_of(timer, struct ferry_worker,
						   timer);

	/* The kick has a barrier: whoever is woken sees it. */
	WRITE_ONCE(worker->due, true);
	ferry_worker_kick(worker);
	return HRTIMER_NORESTART;
}

void ferry_worker_init(struct ferry_worker *worker,
		       void (*func)(struct ferry_worker *worker))
{
	mutex_init(&worker->turn);
	mutex_init(&worker->making);
	spin_lock_init(&worker->lock);
	worker->thread = NULL;
	worker->dead = false;
	worker->pending = false;
	atomic_set(&worker->pauses, 0);
	worker->busy = false;
	worker->under_way = false;
	hrtimer_setup(&worker->timer, ferry_worker_ring, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL);
	worker->due = false;
	init_waitqueue_head(&worker->idle);
	worker->func = func;
	INIT_WORK(&worker->reaper, ferry_worker_reap);
	worker->orphan = NULL;
}
EXPORT_SYMBOL_GPL(ferry_worker_init);

static struct ferry_thread *ferry_worker_take(struct ferry_worker *worker)
{
	struct ferry_thread *thread;

	lockdep_assert_held(&worker->making);

	spin_lock_irq(&worker->lock);
	thread = worker->thread;
	worker->thread = NULL;
	spin_unlock_irq(&worker->lock);
	return thread;
}

/*
 * Makes the thread in the current process, unless there is one that lives. Called
 * by a thread that holds no lock which the worker takes.
 */
int ferry_worker_make(struct ferry_worker *worker)
{
	struct ferry_thread *thread;
	struct vhost_task *task;
	int ret = 0;

	if (READ_ONCE(worker->thread) && !smp_load_acquire(&worker->dead))
		return 0;

	if (mutex_lock_killable(&worker->making))
		return -EINTR;
	if (worker->thread && !smp_load_acquire(&worker->dead))
		goto out;

	/* The thread that was killed has called everything that it ever calls. */
	thread = ferry_worker_take(worker);
	if (thread)
		ferry_thread_end(thread);

	thread = kzalloc(sizeof(*thread), GFP_KERNEL_ACCOUNT);
	if (!thread) {
		ret = -ENOMEM;
		goto out;
	}
	thread->worker = worker;
	task = vhost_task_create(ferry_worker_run, ferry_worker_killed, thread,
				 "ferry");
	if (IS_ERR(task)) {
		kfree(thread);
		ret = PTR_ERR(task);
		goto out;
	}
	thread->task = task;

	/* The thread before may have left something undone. */
	worker->dead = false;
	worker->pending = true;
	/* Before it starts, so that no kick misses it. A wake up of it is no harm. */
	spin_lock_irq(&worker->lock);
	worker->thread = thread;
	spin_unlock_irq(&worker->lock);
	vhost_task_start(task);
out:
	mutex_unlock(&worker->making);
	return ret;
}
EXPORT_SYMBOL_GPL(ferry_worker_make);

/* Has the work done soon, once more if it is being done now. In any context. */
void ferry_worker_kick(struct ferry_worker *worker)
{
	unsigned long flags;

	/* Paired with set_current_state() of vhost_task_fn(). */
	smp_store_mb(worker->pending, true);

	spin_lock_irqsave(&worker->lock, flags);
	if (worker->thread)
		vhost_task_wake(worker->thread->task);
	spin_unlock_irqrestore(&worker->lock, flags);
}
EXPORT_SYMBOL_GPL(ferry_worker_kick);

/* Waits until no other thread has the turn, unless the current process is killed. */
int ferry_worker_take_turn(struct ferry_worker *worker)
{
	return mutex_lock_killable(&worker->turn) ? -EINTR : 0;
}
EXPORT_SYMBOL_GPL(ferry_worker_take_turn);

void ferry_worker_end_turn(struct ferry_worker *worker)
{
	mutex_unlock(&worker->turn);
}
EXPORT_SYMBOL_GPL(ferry_worker_end_turn);

/*
 * Has no work begun until ferry_worker_resume(). What is under way ends: the
 * function is called for that alone.
 */
void ferry_worker_pause(struct ferry_worker *worker)
{
	atomic_inc(&worker->pauses);
	/* Paired with ferry_worker_run() and ferry_worker_set_under_way(). */
	smp_mb__after_atomic();
	if (READ_ONCE(worker->under_way))
		ferry_worker_kick(worker);
}
EXPORT_SYMBOL_GPL(ferry_worker_pause);

/*
 * Says whether something is under way that goes on while the function is not
 * called. The function does, and ferry_worker_is_interrupted() follows.
 */
void ferry_worker_set_under_way(struct ferry_worker *worker, bool under_way)
{
	/* Paired with ferry_worker_pause(): either sees the other. */
	smp_store_mb(worker->under_way, under_way);
}
EXPORT_SYMBOL_GPL(ferry_worker_set_under_way);

static bool ferry_worker_is_idle(struct ferry_worker *worker)
{
	return !smp_load_acquire(&worker->busy) && !READ_ONCE(worker->under_way);
}

/* Waits until no work is under way, unless the current process is killed. */
int ferry_worker_await(struct ferry_worker *worker)
{
	int ret;

	while (!ferry_worker_is_idle(worker)) {
		ret = wait_event_killable(worker->idle,
					  ferry_worker_is_idle(worker) ||
					  smp_load_acquire(&worker->dead));
		if (ret)
			return -EINTR;
		if (!smp_load_acquire(&worker->dead))
			continue;
		/* Its process was killed: a thread of this one goes on. */
		ret = ferry_worker_make(worker);
		if (ret)
			return ret;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(ferry_worker_await);

void ferry_worker_resume(struct ferry_worker *worker)
{
	if (atomic_dec_and_test(&worker->pauses))
		ferry_worker_kick(worker);
}
EXPORT_SYMBOL_GPL(ferry_worker_resume);

/*
 * Ends the thread, if there is one, and waits for it. Nobody makes another meanwhile.
 *
 * The thread itself may close the device: when it drops the last user of another
 * process's address space, which mapped the window of a device that is closed
 * otherwise. It calls nothing any more then, and somebody else waits for its end.
 */
void ferry_worker_stop(struct ferry_worker *worker)
{
	struct ferry_thread *thread;

	mutex_lock(&worker->making);
	thread = ferry_worker_take(worker);
	if (thread && READ_ONCE(thread->current_task) == current) {
		/* A device that was opened again before has another thread. */
		flush_work(&worker->reaper);
		thread->worker = NULL;
		worker->orphan = thread;
		schedule_work(&worker->reaper);
	} else if (thread) {
		ferry_thread_end(thread);
	}
	hrtimer_cancel(&worker->timer);
	worker->due = false;
	worker->dead = false;
	worker->pending = false;
	worker->under_way = false;
	mutex_unlock(&worker->making);
}
EXPORT_SYMBOL_GPL(ferry_worker_stop);

/* Waits for what is left of threads. The device is not open, nor will it be. */
void ferry_worker_destroy(struct ferry_worker *worker)
{
	flush_work(&worker->reaper);
}
EXPORT_SYMBOL_GPL(ferry_worker_destroy);

/*
 * Has the function called when @ns nanoseconds are over, unless such a time is
 * under way. The function calls this.
 */
void ferry_worker_wake_in(struct ferry_worker *worker, u64 ns)
{
	if (!hrtimer_is_queued(&worker->timer))
		hrtimer_start(&worker->timer, ns_to_ktime(ns), HRTIMER_MODE_REL);
}
EXPORT_SYMBOL_GPL(ferry_worker_wake_in);

/* Whether a time of ferry_worker_wake_in() is over, once for each. */
bool ferry_worker_is_due(struct ferry_worker *worker)
{
	return READ_ONCE(worker->due) && xchg(&worker->due, false);
}
EXPORT_SYMBOL_GPL(ferry_worker_is_due);

/* Whether the thread has to freeze, pause, stop or end before it goes on. */
bool ferry_worker_is_interrupted(struct ferry_worker *worker)
{
	return signal_pending(current) || atomic_read(&worker->pauses);
}
EXPORT_SYMBOL_GPL(ferry_worker_is_interrupted);
