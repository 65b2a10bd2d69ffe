/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The workqueue on which devices do what their guests need not wait for, for
 * rust/vfio/emulated/work.rs.
 */
#ifndef _FERRY_WORK_H
#define _FERRY_WORK_H

#include <linux/workqueue.h>

void ferry_work_init(struct work_struct *work, work_func_t func);
bool ferry_work_queue(struct work_struct *work);

#endif /* _FERRY_WORK_H */
