/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Access to a user's memory that never outlasts the user, for
 * rust/vfio/emulated/dma.rs.
 */
#ifndef _FERRY_DMA_H
#define _FERRY_DMA_H

#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>

struct task_struct;
struct vfio_device;

/**
 * struct ferry_dma_gate - Whether a device may access memory
 * @lock: protects the other fields
 * @worker: the thread that is accessing memory, or NULL
 * @accesses: number of accesses that have begun
 * @seen: @accesses when @watch last ran
 * @owner: a thread of the process that opened the device; NULL while it is closed
 * @closed: no access begins any more
 * @watch: ends an access that takes long if the process is being killed
 */
struct ferry_dma_gate {
	spinlock_t lock;
	struct task_struct *worker;
	unsigned long accesses;
	unsigned long seen;
	struct task_struct *owner;
	bool closed;
	struct delayed_work watch;
};

void ferry_dma_gate_init(struct ferry_dma_gate *gate);
void ferry_dma_gate_open(struct ferry_dma_gate *gate);
void ferry_dma_gate_close(struct ferry_dma_gate *gate);
void ferry_dma_gate_release(struct ferry_dma_gate *gate);

void ferry_dma_begin(void);
void ferry_dma_end(void);
int ferry_dma_rw(struct ferry_dma_gate *gate, struct vfio_device *vdev,
		 dma_addr_t iova, void *data, size_t len, bool write);

#endif /* _FERRY_DMA_H */
