// SPDX-License-Identifier: GPL-2.0
/*
 * See pci.h.
 *
 * The core changes memory decoding and the power state with memory_lock held for
 * writing. It is taken for each access, not for a sequence of them: a sequence
 * may wait for the user's memory, a fault in which may take memory_lock.
 */

#include <linux/export.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/unaligned.h>
#include <linux/vfio_pci_core.h>

#include "pci.h"

struct pci_dev *ferry_pci_dev(struct device *dev)
{
	return to_pci_dev(dev);
}
EXPORT_SYMBOL_GPL(ferry_pci_dev);

u64 ferry_pci_bar_len(struct pci_dev *pdev, unsigned int bar)
{
	return bar < PCI_STD_NUM_BARS ? pci_resource_len(pdev, bar) : 0;
}
EXPORT_SYMBOL_GPL(ferry_pci_bar_len);

u32 ferry_pci_read_config(struct pci_dev *pdev, u16 offset)
{
	u32 value;

	pci_read_config_dword(pdev, offset, &value);
	return value;
}
EXPORT_SYMBOL_GPL(ferry_pci_read_config);

static bool is_asleep(struct vfio_pci_core_device *vdev)
{
	return vdev->pdev->current_state >= PCI_D3hot || vdev->pm_runtime_engaged;
}

int ferry_pci_registers_begin(struct vfio_pci_core_device *vdev)
{
	struct pci_dev *pdev = vdev->pdev;
	int ret;
	u16 cmd;

	ret = pm_runtime_resume_and_get(&pdev->dev);
	if (ret)
		return ret;

	/* The usual case: each access of a trapped register comes here. */
	down_read(&vdev->memory_lock);
	ret = !is_asleep(vdev) && __vfio_pci_memory_enabled(vdev);
	up_read(&vdev->memory_lock);
	if (ret)
		return 0;

	down_write(&vdev->memory_lock);
	if (is_asleep(vdev)) {
		up_write(&vdev->memory_lock);
		pm_runtime_put(&pdev->dev);
		return -EBUSY;
	}
	pci_read_config_word(pdev, PCI_COMMAND, &cmd);
	if (!(cmd & PCI_COMMAND_MEMORY)) {
		pci_write_config_word(pdev, PCI_COMMAND, cmd | PCI_COMMAND_MEMORY);
		ret = 1;
	}
	up_write(&vdev->memory_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(ferry_pci_registers_begin);

void ferry_pci_registers_end(struct vfio_pci_core_device *vdev, bool enabled)
{
	struct pci_dev *pdev = vdev->pdev;
	u16 cmd;

	if (enabled) {
		down_write(&vdev->memory_lock);
		/* The user may have enabled it meanwhile, and may have gone to D3hot then. */
		cmd = get_unaligned_le16(&vdev->vconfig[PCI_COMMAND]);
		if (!(cmd & PCI_COMMAND_MEMORY)) {
			pci_read_config_word(pdev, PCI_COMMAND, &cmd);
			pci_write_config_word(pdev, PCI_COMMAND,
					      cmd & ~PCI_COMMAND_MEMORY);
		}
		up_write(&vdev->memory_lock);
	}
	pm_runtime_put(&pdev->dev);
}
EXPORT_SYMBOL_GPL(ferry_pci_registers_end);

/* The register's address, or NULL if the function does not decode it. */
static void __iomem *address(struct vfio_pci_core_device *vdev, unsigned int bar,
			     u32 offset, bool enabled)
{
	void __iomem *map;
	u16 cmd;

	if (bar >= PCI_STD_NUM_BARS || offset % 4 || is_asleep(vdev) ||
	    !(pci_resource_flags(vdev->pdev, bar) & IORESOURCE_MEM) ||
	    (u64)offset + 4 > pci_resource_len(vdev->pdev, bar))
		return NULL;

	map = vdev->barmap[bar];
	if (IS_ERR_OR_NULL((__force void *)map))
		return NULL;

	if (__vfio_pci_memory_enabled(vdev))
		return map + offset;
	if (!enabled)
		return NULL;

	/*
	 * The user may have disabled decoding after it was enabled here. A function that
	 * is gone reads as all ones, and so does its register.
	 */
	pci_read_config_word(vdev->pdev, PCI_COMMAND, &cmd);
	return cmd & PCI_COMMAND_MEMORY ? map + offset : NULL;
}

bool ferry_pci_read32(struct vfio_pci_core_device *vdev, unsigned int bar,
		      u32 offset, u32 *value, bool enabled)
{
	void __iomem *at;

	down_read(&vdev->memory_lock);
	at = address(vdev, bar, offset, enabled);
	if (at)
		*value = ioread32(at);
	up_read(&vdev->memory_lock);
	return at;
}
EXPORT_SYMBOL_GPL(ferry_pci_read32);

bool ferry_pci_write32(struct vfio_pci_core_device *vdev, unsigned int bar,
		       u32 offset, u32 value, bool enabled)
{
	void __iomem *at;

	down_read(&vdev->memory_lock);
	at = address(vdev, bar, offset, enabled);
	if (at)
		iowrite32(value, at);
	up_read(&vdev->memory_lock);
	return at;
}
EXPORT_SYMBOL_GPL(ferry_pci_write32);

bool ferry_pci_is_decoded(struct vfio_pci_core_device *vdev, unsigned int bar)
{
	bool decoded;

	if (bar >= PCI_STD_NUM_BARS)
		return false;

	down_read(&vdev->memory_lock);
	decoded = !is_asleep(vdev) &&
		  (!(pci_resource_flags(vdev->pdev, bar) & IORESOURCE_MEM) ||
		   __vfio_pci_memory_enabled(vdev));
	up_read(&vdev->memory_lock);
	return decoded;
}
EXPORT_SYMBOL_GPL(ferry_pci_is_decoded);

bool ferry_pci_is_bus_master(struct vfio_pci_core_device *vdev)
{
	u16 cmd;

	/*
	 * The core keeps memory, I/O and INTx of the user's command register in vconfig.
	 * The bus master bit is in the function alone.
	 */
	down_read(&vdev->memory_lock);
	pci_read_config_word(vdev->pdev, PCI_COMMAND, &cmd);
	up_read(&vdev->memory_lock);
	return !PCI_POSSIBLE_ERROR(cmd) && cmd & PCI_COMMAND_MASTER;
}
EXPORT_SYMBOL_GPL(ferry_pci_is_bus_master);

u32 ferry_pci_serial_number(struct pci_dev *pdev)
{
	u16 capability = pci_find_ext_capability(pdev, PCI_EXT_CAP_ID_DSN);

	return capability ? capability + 4 : 0;
}
EXPORT_SYMBOL_GPL(ferry_pci_serial_number);

bool ferry_pci_has_container(struct vfio_pci_core_device *vdev)
{
#if IS_ENABLED(CONFIG_IOMMUFD)
	return !vdev->vdev.iommufd_device;
#else
	return true;
#endif
}
EXPORT_SYMBOL_GPL(ferry_pci_has_container);

static int count_device(struct device *dev, void *count)
{
	++*(unsigned int *)count;
	return 0;
}

bool ferry_pci_has_own_container(struct vfio_pci_core_device *vdev)
{
	struct iommu_group *group;
	unsigned int count = 0;

	if (!ferry_pci_has_container(vdev))
		return false;

	group = iommu_group_get(&vdev->pdev->dev);
	if (!group)
		return false;

	iommu_group_for_each_dev(group, &count, count_device);
	iommu_group_put(group);
	return count == 1;
}
EXPORT_SYMBOL_GPL(ferry_pci_has_own_container);
