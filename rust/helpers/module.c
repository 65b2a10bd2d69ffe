// SPDX-License-Identifier: GPL-2.0

#include <linux/module.h>

MODULE_AUTHOR("The Ferry authors");
MODULE_DESCRIPTION("Framework for VFIO vendor drivers whose devices live-migrate");
MODULE_LICENSE("GPL");
