/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copies from and to pages that a user may be writing, for
 * rust/kernel_ext/shared_pages.rs.
 */
#ifndef _FERRY_SHARED_PAGES_H
#define _FERRY_SHARED_PAGES_H

#include <linux/types.h>

struct page;

void ferry_page_copy_in(struct page *page, size_t offset, const void *from,
			size_t len);
void ferry_page_copy_out(struct page *page, size_t offset, void *to,
			 size_t len);
void ferry_page_clear(struct page *page);
size_t ferry_page_copy_from_user(struct page *page, size_t offset,
				 const void __user *from, size_t len);
size_t ferry_page_copy_to_user(struct page *page, size_t offset,
			       void __user *to, size_t len);

#endif /* _FERRY_SHARED_PAGES_H */
