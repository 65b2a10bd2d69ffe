/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory cgroups, see rust/kernel_ext/memcg.rs.
 */
#ifndef _FERRY_MEMCG_H
#define _FERRY_MEMCG_H

struct mem_cgroup;

struct mem_cgroup *ferry_get_current_memcg(void);
void ferry_put_memcg(struct mem_cgroup *memcg);
struct mem_cgroup *ferry_set_active_memcg(struct mem_cgroup *memcg);
void ferry_cond_resched(void);

#endif /* _FERRY_MEMCG_H */
