// SPDX-License-Identifier: GPL-2.0
/*
 * See dma_log.h.
 */

#include "dma_log.h"

#ifdef CONFIG_IOMMUFD_DRIVER

#include <linux/export.h>
#include <linux/interval_tree.h>
#include <linux/iova_bitmap.h>
#include <linux/module.h>

/* Finds the first range that has an address at or after @from. */
bool ferry_next_range(struct rb_root_cached *ranges, unsigned long from,
		      unsigned long *first, unsigned long *last)
{
	struct interval_tree_node *node;

	node = interval_tree_iter_first(ranges, from, ULONG_MAX);
	if (!node)
		return false;
	*first = node->start;
	*last = node->last;
	return true;
}
EXPORT_SYMBOL_GPL(ferry_next_range);

void ferry_iova_bitmap_set(struct iova_bitmap *bitmap, unsigned long iova,
			   size_t length)
{
	iova_bitmap_set(bitmap, iova, length);
}
EXPORT_SYMBOL_GPL(ferry_iova_bitmap_set);

MODULE_IMPORT_NS("IOMMUFD");

#endif
