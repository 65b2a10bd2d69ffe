/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A real PCI function as a variant driver of vfio-pci uses it.
 */
#ifndef _FERRY_PCI_H
#define _FERRY_PCI_H

#include <linux/types.h>

struct device;
struct pci_dev;
struct vfio_pci_core_device;

/* The function of @dev, the device that a pci_driver is bound to. */
struct pci_dev *ferry_pci_dev(struct device *dev);

/* Size of BAR @bar in bytes, 0 if the function does not have it. */
u64 ferry_pci_bar_len(struct pci_dev *pdev, unsigned int bar);

/* The double word at @offset of configuration space; all ones if it is not there. */
u32 ferry_pci_read_config(struct pci_dev *pdev, u16 offset);

/*
 * Resumes the function and enables its memory decoding. Returns whether it has
 * enabled that, which ferry_pci_registers_end() takes back, or -EBUSY if the
 * user has put the function to sleep. The device must be open.
 */
int ferry_pci_registers_begin(struct vfio_pci_core_device *vdev);
void ferry_pci_registers_end(struct vfio_pci_core_device *vdev, bool enabled);

/*
 * Access the 32-bit register at @offset of the memory BAR @bar. Return whether the
 * function decodes memory, without which nothing is done. @enabled is what
 * ferry_pci_registers_begin() has returned.
 */
bool ferry_pci_read32(struct vfio_pci_core_device *vdev, unsigned int bar,
		      u32 offset, u32 *value, bool enabled);
bool ferry_pci_write32(struct vfio_pci_core_device *vdev, unsigned int bar,
		       u32 offset, u32 value, bool enabled);

/*
 * Whether the user's accesses of BAR @bar reach registers: memory decoding is on in
 * the user's command register, or the BAR is one of I/O.
 */
bool ferry_pci_is_decoded(struct vfio_pci_core_device *vdev, unsigned int bar);

/*
 * Whether the user's command register has the bus master bit. Reads configuration
 * space; false if the function does not answer.
 */
bool ferry_pci_is_bus_master(struct vfio_pci_core_device *vdev);

/*
 * Where the serial number of the Device Serial Number capability begins, 0 if the
 * function does not have one.
 */
u32 ferry_pci_serial_number(struct pci_dev *pdev);

/* Whether the function reaches memory through a container of a group. The device must be open. */
bool ferry_pci_has_container(struct vfio_pci_core_device *vdev);

/*
 * Whether the function reaches memory through a container of a group, and has the
 * group for itself: vfio_pin_pages() then says which pages the group may write to.
 * The device must be open.
 */
bool ferry_pci_has_own_container(struct vfio_pci_core_device *vdev);

#endif /* _FERRY_PCI_H */
