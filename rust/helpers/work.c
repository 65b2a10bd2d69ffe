// SPDX-License-Identifier: GPL-2.0
/*
 * See work.h.
 */

#include <linux/module.h>
#include <linux/workqueue.h>

#include "work.h"

/*
 * A queue of our own, for a work item may take as long as its user likes: it
 * waits for the user's memory, and for the files that the user's disks are in. On
 * the system's queues, which bound the items that run at once, the users of some
 * hundred devices could hold up all other work. With WQ_SYSFS the administrator
 * chooses the processors of the queue. With WQ_FREEZABLE no device executes a
 * command while the system is suspended: a command that was executed after a
 * hibernation image was taken would be executed once more by the image. The
 * price: a suspend waits for the command that is under way, and fails if that
 * command waits for a page that a frozen process would have to serve.
 */
static struct workqueue_struct *ferry_wq;

void ferry_work_init(struct work_struct *work, work_func_t func)
{
	INIT_WORK(work, func);
}
EXPORT_SYMBOL_GPL(ferry_work_init);

/* Runs on an idle processor, not on the one that the guest is running on. */
bool ferry_work_queue(struct work_struct *work)
{
	return queue_work(ferry_wq, work);
}
EXPORT_SYMBOL_GPL(ferry_work_queue);

static int __init ferry_work_module_init(void)
{
	ferry_wq = alloc_workqueue("ferry", WQ_UNBOUND | WQ_SYSFS | WQ_FREEZABLE,
				   WQ_MAX_ACTIVE);
	return ferry_wq ? 0 : -ENOMEM;
}
module_init(ferry_work_module_init);

static void __exit ferry_work_module_exit(void)
{
	destroy_workqueue(ferry_wq);
}
module_exit(ferry_work_module_exit);
