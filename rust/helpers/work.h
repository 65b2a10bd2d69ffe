/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The thread that does what guests need not wait for, for
 * rust/vfio/emulated/work.rs.
 */
#ifndef _FERRY_WORK_H
#define _FERRY_WORK_H

#include <linux/atomic.h>
#include <linux/hrtimer.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

struct ferry_thread;

/**
 * struct ferry_worker - The worker of an open device
 * @turn: held by a thread that waits for work, or keeps the worker from it
 * @making: protects making and stopping the thread, and @orphan
 * @lock: protects @thread, with interrupts disabled
 * @thread: the thread, or NULL
 * @dead: @thread was killed, and calls @func no more
 * @pending: @func is to be called
 * @pauses: how many ask that @func is not called
 * @busy: @func is being called, or it is being decided whether it is
 * @under_way: something is under way that goes on while @func is not called
 * @timer: has @func called when a time is over
 * @due: that time is over
 * @idle: wakes those who wait for @busy and @under_way to be false
 * @func: does the work
 * @reaper: ends @orphan
 * @orphan: a thread that closed the device itself, or NULL
 */
struct ferry_worker {
	struct mutex turn;
	struct mutex making;
	spinlock_t lock;
	struct ferry_thread *thread;
	bool dead;
	bool pending;
	atomic_t pauses;
	bool busy;
	bool under_way;
	struct hrtimer timer;
	bool due;
	wait_queue_head_t idle;
	void (*func)(struct ferry_worker *worker);
	struct work_struct reaper;
	struct ferry_thread *orphan;
};

void ferry_worker_init(struct ferry_worker *worker,
		       void (*func)(struct ferry_worker *worker));
int ferry_worker_make(struct ferry_worker *worker);
void ferry_worker_kick(struct ferry_worker *worker);
int ferry_worker_take_turn(struct ferry_worker *worker);
void ferry_worker_end_turn(struct ferry_worker *worker);
void ferry_worker_pause(struct ferry_worker *worker);
void ferry_worker_set_under_way(struct ferry_worker *worker, bool under_way);
int ferry_worker_await(struct ferry_worker *worker);
void ferry_worker_resume(struct ferry_worker *worker);
void ferry_worker_stop(struct ferry_worker *worker);
void ferry_worker_destroy(struct ferry_worker *worker);
void ferry_worker_wake_in(struct ferry_worker *worker, u64 ns);
bool ferry_worker_is_due(struct ferry_worker *worker);
bool ferry_worker_is_interrupted(struct ferry_worker *worker);

#endif /* _FERRY_WORK_H */
