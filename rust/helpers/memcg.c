// SPDX-License-Identifier: GPL-2.0
/*
 * See memcg.h.
 */

#include <linux/export.h>
#include <linux/memcontrol.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>

#include "memcg.h"

/* Takes a reference to the group to which the current process's memory is charged. */
struct mem_cgroup *ferry_get_current_memcg(void)
{
	return get_mem_cgroup_from_mm(current->mm);
}
EXPORT_SYMBOL_GPL(ferry_get_current_memcg);

void ferry_put_memcg(struct mem_cgroup *memcg)
{
	mem_cgroup_put(memcg);
}
EXPORT_SYMBOL_GPL(ferry_put_memcg);

struct mem_cgroup *ferry_set_active_memcg(struct mem_cgroup *memcg)
{
	return set_active_memcg(memcg);
}
EXPORT_SYMBOL_GPL(ferry_set_active_memcg);

void ferry_cond_resched(void)
{
	cond_resched();
}
EXPORT_SYMBOL_GPL(ferry_cond_resched);
