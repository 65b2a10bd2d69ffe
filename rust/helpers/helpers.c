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

MODULE_AUTHOR("The Ferry authors");
MODULE_DESCRIPTION("Framework for VFIO vendor drivers whose devices live-migrate");
MODULE_LICENSE("GPL");
