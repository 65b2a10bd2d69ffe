/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Ranges and bitmaps that the VFIO core passes to a dirty log, for
 * rust/vfio/log/trampolines.rs.
 */
#ifndef _FERRY_DMA_LOG_H
#define _FERRY_DMA_LOG_H

#include <linux/types.h>

struct iova_bitmap;
struct rb_root_cached;

#ifdef CONFIG_IOMMUFD_DRIVER
bool ferry_next_range(struct rb_root_cached *ranges, unsigned long from,
		      unsigned long *first, unsigned long *last);
void ferry_iova_bitmap_set(struct iova_bitmap *bitmap, unsigned long iova,
			   size_t length);
#endif

#endif /* _FERRY_DMA_LOG_H */
