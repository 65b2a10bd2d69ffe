/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Access to a user's memory that never outlasts the open device, for
 * rust/vfio/emulated/dma.rs.
 */
#ifndef _FERRY_DMA_H
#define _FERRY_DMA_H

#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct task_struct;
struct vfio_device;

/**
 * struct ferry_dma_gate - Whether a device may access memory
 * @lock: protects @worker, @epoch and @closed
 * @worker: the thread that is accessing memory, or NULL
 * @epoch: how often accesses had to end; one of an earlier epoch fails
 * @closed: no access begins any more
 * @access: held while memory is accessed
 * @pins: held while a page is pinned
 */
struct ferry_dma_gate {
	spinlock_t lock;
	struct task_struct *worker;
	unsigned int epoch;
	bool closed;
	struct mutex access;
	struct mutex pins;
};

void ferry_dma_gate_init(struct ferry_dma_gate *gate);
void ferry_dma_gate_open(struct ferry_dma_gate *gate);
void ferry_dma_gate_close(struct ferry_dma_gate *gate);
void ferry_dma_gate_end(struct ferry_dma_gate *gate);
void ferry_dma_gate_await_access(struct ferry_dma_gate *gate);
void ferry_dma_gate_await_pins(struct ferry_dma_gate *gate);
unsigned int ferry_dma_gate_epoch(struct ferry_dma_gate *gate);

int ferry_dma_rw(struct ferry_dma_gate *gate, unsigned int epoch,
		 struct vfio_device *vdev, dma_addr_t iova, void *data,
		 size_t len, bool write);

#endif /* _FERRY_DMA_H */
