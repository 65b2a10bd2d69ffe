// SPDX-License-Identifier: GPL-2.0
/*
 * See sched.h.
 */

#include <linux/export.h>
#include <linux/sched.h>

#include "sched.h"

void ferry_cond_resched(void)
{
	cond_resched();
}
EXPORT_SYMBOL_GPL(ferry_cond_resched);
