// SPDX-License-Identifier: GPL-2.0
/*
 * See shared_pages.h.
 *
 * A user has these pages mapped and may store to them during any of these
 * copies. In Rust a copy that races with a store is undefined behaviour,
 * whoever the other party is; here it yields arbitrary bytes and nothing else,
 * by the kernel's memory model and as for copy_from_user(). The compiler sees
 * neither side of a call, so that it cannot read a byte twice in the caller.
 */

#include <linux/compiler.h>
#include <linux/export.h>
#include <linux/highmem.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "shared_pages.h"

/* Copies @len bytes to @offset of @page, which they do not go past. */
void ferry_page_copy_in(struct page *page, size_t offset, const void *from,
			size_t len)
{
	void *address = kmap_local_page(page);

	data_race(memcpy(address + offset, from, len));
	kunmap_local(address);
}
EXPORT_SYMBOL_GPL(ferry_page_copy_in);

/* Copies @len bytes from @offset of @page, which they do not go past. */
void ferry_page_copy_out(struct page *page, size_t offset, void *to, size_t len)
{
	void *address = kmap_local_page(page);

	data_race(memcpy(to, address + offset, len));
	kunmap_local(address);
}
EXPORT_SYMBOL_GPL(ferry_page_copy_out);

void ferry_page_clear(struct page *page)
{
	void *address = kmap_local_page(page);

	data_race(memset(address, 0, PAGE_SIZE));
	kunmap_local(address);
}
EXPORT_SYMBOL_GPL(ferry_page_clear);

/* Returns how many bytes could not be copied. */
size_t ferry_page_copy_from_user(struct page *page, size_t offset,
				 const void __user *from, size_t len)
{
	void *address = kmap_local_page(page);
	size_t missing = copy_from_user(address + offset, from, len);

	kunmap_local(address);
	return missing;
}
EXPORT_SYMBOL_GPL(ferry_page_copy_from_user);

/* Returns how many bytes could not be copied. */
size_t ferry_page_copy_to_user(struct page *page, size_t offset,
			       void __user *to, size_t len)
{
	void *address = kmap_local_page(page);
	size_t missing = copy_to_user(to, address + offset, len);

	kunmap_local(address);
	return missing;
}
EXPORT_SYMBOL_GPL(ferry_page_copy_to_user);
