/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's crash note, for dumps of guest memory. */
#ifndef SKIFF_HW_FIRMWARE_VMCOREINFO_H
#define SKIFF_HW_FIRMWARE_VMCOREINFO_H

#include "hw/core/device.h"

#define VMCOREINFO_TYPE "vmcoreinfo"
#define VMCOREINFO_SIZE_MAX (1u << 20)

/* Where the guest's kernel has put an ELF note of at most VMCOREINFO_SIZE_MAX bytes. The values are
 * the guest's: the range may not be RAM. False: the guest has given none. @dev is of this type. */
bool vmcoreinfo_get(const Device *dev, uint64_t *gpa, uint32_t *size) BQL_HELD;

#endif
