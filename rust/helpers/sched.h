/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The scheduler, for rust/kernel_ext/sched.rs.
 */
#ifndef _FERRY_SCHED_H
#define _FERRY_SCHED_H

void ferry_cond_resched(void);

#endif /* _FERRY_SCHED_H */
