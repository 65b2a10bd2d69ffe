/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Access to a user's memory that never outlasts the open device, for
 * rust/vfio/emulated/dma.rs.
 */
#ifndef _FERRY_DMA_H
#define _FERRY_DMA_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>

struct page;
struct task_struct;
struct vfio_device;

#define FERRY_DMA_SET_BITS	3
#define FERRY_DMA_SETS		(1 << FERRY_DMA_SET_BITS)
#define FERRY_DMA_WAYS		8

/**
 * struct ferry_dma_page - A page that stays pinned, as it is accessed again and again
 * @iova: where it is mapped; odd if there is none
 * @page: the page, or NULL if it cannot be pinned
 * @used: it was accessed since a page had no slot
 */
struct ferry_dma_page {
	dma_addr_t iova;
	struct page *page;
	bool used;
};

/**
 * struct ferry_dma_gate - Whether a device may access memory
 * @lock: protects @worker, @epoch and @closed
 * @worker: the thread that is accessing memory, or NULL
 * @epoch: how often accesses had to end; one of an earlier epoch fails
 * @closed: no access begins any more
 * @access: held while memory is accessed, but for pages that stay pinned
 * @pins: held while a page is pinned for an access; protects @pages
 * @pages: pages that stay pinned, in sets by a hash of their IOVA
 * @unmaps: unmaps that are under way in a container
 * @unpinner: unpins what they unmap
 * @vdev: the device, which is open while a page is pinned
 */
struct ferry_dma_gate {
	spinlock_t lock;
	struct task_struct *worker;
	unsigned int epoch;
	bool closed;
	struct mutex access;
	struct mutex pins;
	struct ferry_dma_page pages[FERRY_DMA_SETS][FERRY_DMA_WAYS];
	struct list_head unmaps;
	struct work_struct unpinner;
	struct vfio_device *vdev;
};

void ferry_dma_gate_init(struct ferry_dma_gate *gate);
void ferry_dma_gate_open(struct ferry_dma_gate *gate, struct vfio_device *vdev);
void ferry_dma_gate_close(struct ferry_dma_gate *gate);
void ferry_dma_gate_end(struct ferry_dma_gate *gate);
void ferry_dma_gate_await_access(struct ferry_dma_gate *gate);
void ferry_dma_gate_destroy(struct ferry_dma_gate *gate);
void ferry_dma_gate_unmap(struct ferry_dma_gate *gate,
			  struct vfio_device *vdev, u64 iova, u64 length);
void ferry_dma_gate_unpin(struct ferry_dma_gate *gate, struct vfio_device *vdev);
unsigned int ferry_dma_gate_epoch(struct ferry_dma_gate *gate);

int ferry_dma_rw(struct ferry_dma_gate *gate, unsigned int epoch,
		 struct vfio_device *vdev, dma_addr_t iova, void *data,
		 size_t len, bool write);
int ferry_dma_rw_often(struct ferry_dma_gate *gate, unsigned int epoch,
		       struct vfio_device *vdev, dma_addr_t iova, void *data,
		       size_t len, bool write);

#endif /* _FERRY_DMA_H */
