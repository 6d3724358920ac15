/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firmware configuration device, as QEMU's docs/specs/fw_cfg.rst describes it: a set of items,
 * each a string of bytes, which firmware and guests select by a key and read.
 *
 *   0x510  write of 2 bytes: selects an item and its first byte
 *   0x511  read of 1 byte: the item's next byte; zero beyond its end
 *   0x514  8 bytes, big-endian: the address of a DMA descriptor; reads "QEMU CFG"
 *
 * Items with a name are files. The file directory (key 0x19) lists them by name; their keys are
 * 0x20 and up in that order.
 *
 * The board and other devices add items in main before the guest runs. DeviceEnv.fw_cfg is the
 * device.
 */
#ifndef SKIFF_HW_FIRMWARE_FW_CFG_H
#define SKIFF_HW_FIRMWARE_FW_CFG_H

#include "hw/core/device.h"

#define FW_CFG_FILE_NAME_MAX 55
#define FW_CFG_FILES_MAX 512
/* The most bytes that one dispatch of a DMA access moves. The rest follows in further dispatches of
 * the pended access, between which the BQL is free. */
#define FW_CFG_DMA_CHUNK (256u << 10)

/* Keys of the items without a name. Numbers are little-endian. */
typedef enum FwCfgKey {
    FW_CFG_SIGNATURE = 0x00,       /* "QEMU" */
    FW_CFG_ID = 0x01,              /* 4 bytes: features */
    FW_CFG_UUID = 0x02,            /* 16 bytes, in the order of the UUID's text */
    FW_CFG_RAM_SIZE = 0x03,        /* 8 bytes */
    FW_CFG_NOGRAPHIC = 0x04,       /* 2 bytes */
    FW_CFG_NB_CPUS = 0x05,         /* 2 bytes: processors present */
    FW_CFG_KERNEL_ADDR = 0x07,     /* 4 bytes, as are the other addresses and sizes */
    FW_CFG_KERNEL_SIZE = 0x08,     /* the kernel without its setup sectors */
    FW_CFG_INITRD_ADDR = 0x0a,     /* the initial RAM disk */
    FW_CFG_INITRD_SIZE = 0x0b,     /* */
    FW_CFG_NUMA = 0x0d,            /* 8 bytes each: nodes, the node of each APIC id, nodes' sizes */
    FW_CFG_BOOT_MENU = 0x0e,       /* 2 bytes */
    FW_CFG_MAX_CPUS = 0x0f,        /* 2 bytes: APIC ids are below it */
    FW_CFG_KERNEL_ENTRY = 0x10,    /* */
    FW_CFG_KERNEL_DATA = 0x11,     /* */
    FW_CFG_INITRD_DATA = 0x12,     /* */
    FW_CFG_CMDLINE_ADDR = 0x13,    /* the kernel's command line */
    FW_CFG_CMDLINE_SIZE = 0x14,    /* with the NUL */
    FW_CFG_CMDLINE_DATA = 0x15,    /* */
    FW_CFG_SETUP_ADDR = 0x16,      /* the kernel's setup sectors */
    FW_CFG_SETUP_SIZE = 0x17,      /* */
    FW_CFG_SETUP_DATA = 0x18,      /* */
    FW_CFG_FILE_DIR = 0x19,        /* */
    FW_CFG_FILE_FIRST = 0x20,      /* */
    FW_CFG_WRITE_CHANNEL = 0x4000, /* ignored */
    FW_CFG_ARCH_LOCAL = 0x8000,    /* keys with a meaning of the architecture */
    FW_CFG_IRQ0_OVERRIDE = 0x8002, /* 4 bytes: ISA IRQ 0 is GSI 2 */
} FwCfgKey;

/* Sets an item without a name; replaces an earlier value. Takes the reference of @data. @key is not
 * FW_CFG_FILE_DIR, and is below FW_CFG_FILE_FIRST apart from FW_CFG_ARCH_LOCAL. Not while the guest
 * runs. */
void fw_cfg_set(Device *fw_cfg, uint16_t key, GBytes *data) ANY_THREAD;
/* The same for a number of @size bytes. */
void fw_cfg_set_number(Device *fw_cfg, uint16_t key, uint64_t value, unsigned size) ANY_THREAD;
/* Adds a file. Takes the reference of @data. False + error if the name exists or is too long, or if
 * there are too many files. Before the guest runs for the first time: keys of files must not change
 * afterwards. */
bool fw_cfg_add_file(Device *fw_cfg, const char *name, GBytes *data, GError **error) RUNS_IN_MAIN;
/* Adds a file that the guest writes through DMA. The @size bytes (at most FW_CFG_DMA_CHUNK) at @data are accessed under the
 * BQL and must outlive the file. @written (may be NULL) is called under the BQL, in the vCPU's
 * thread, after a write of @size bytes at @offset. */
bool fw_cfg_add_writable(Device *fw_cfg, const char *name, uint8_t *data, uint32_t size,
                         void (*written)(void *opaque, uint32_t offset, uint32_t size),
                         void *opaque, GError **error) RUNS_IN_MAIN;
/* Removes a file, if it exists. Not while the guest runs. */
void fw_cfg_remove_file(Device *fw_cfg, const char *name) RUNS_IN_MAIN;
/* Replaces the data of an existing file. Takes the reference. A guest that has read the directory
 * uses the old size: the size may change only while the guest does not run. */
void fw_cfg_set_file(Device *fw_cfg, const char *name, GBytes *data) ANY_THREAD;
/* Before the first selection after a reset of one of the files that fw_cfg_mark_generated() named,
 * @generate is called under the BQL, in the vCPU's thread. It updates them by fw_cfg_set_file(). */
void fw_cfg_set_generator(Device *fw_cfg, void (*generate)(void *opaque), void *opaque)
    RUNS_IN_MAIN;
void fw_cfg_mark_generated(Device *fw_cfg, const char *name) RUNS_IN_MAIN;
/* The file's bytes as the guest would read them, or NULL if there is no such file. The caller owns
 * the reference. */
GBytes *fw_cfg_get_file(Device *fw_cfg, const char *name) RUNS_IN_MAIN;

#endif
