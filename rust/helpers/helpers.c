// SPDX-License-Identifier: GPL-2.0
/*
 * See helpers.h.
 */

#include <linux/module.h>

#include "helpers.h"

void ferry_ratelimit_state_init(struct ratelimit_state *rs)
{
	ratelimit_default_init(rs);
}
EXPORT_SYMBOL_GPL(ferry_ratelimit_state_init);

void ferry_work_init(struct work_struct *work, work_func_t func)
{
	INIT_WORK(work, func);
}
EXPORT_SYMBOL_GPL(ferry_work_init);

/* On whichever processor is idle, not the one that the guest is running on. */
bool ferry_work_queue(struct work_struct *work)
{
	return queue_work(system_dfl_wq, work);
}
EXPORT_SYMBOL_GPL(ferry_work_queue);

MODULE_AUTHOR("The Ferry authors");
MODULE_DESCRIPTION("Framework for VFIO vendor drivers whose devices live-migrate");
MODULE_LICENSE("GPL");
