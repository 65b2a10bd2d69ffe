// SPDX-License-Identifier: GPL-2.0
/*
 * See ratelimit.h.
 */

#include <linux/export.h>

#include "ratelimit.h"

/* The kernel's own message about suppressed lines names no device. */
void ferry_ratelimit_state_init(struct ratelimit_state *rs)
{
	ratelimit_default_init(rs);
	ratelimit_set_flags(rs, RATELIMIT_MSG_ON_RELEASE);
}
EXPORT_SYMBOL_GPL(ferry_ratelimit_state_init);
