/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rate limits, for rust/kernel_ext/ratelimit.rs.
 */
#ifndef _FERRY_RATELIMIT_H
#define _FERRY_RATELIMIT_H

#include <linux/ratelimit.h>

void ferry_ratelimit_state_init(struct ratelimit_state *rs);

#endif /* _FERRY_RATELIMIT_H */
