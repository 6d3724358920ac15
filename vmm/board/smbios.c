/* SPDX-License-Identifier: Apache-2.0 */
/* The entry point, and where the tables are put. DSP0134 §5.2. */
#include "vmm/board/smbios_int.h"

#include <string.h>

#define ANCHOR_32_SIZE 31
#define ANCHOR_64_SIZE 24
#define ANCHOR_INNER 16 /* of the 32-bit one: the intermediate anchor, with a checksum of its own */
#define STRUCTURES_32_MAX 0xffff
#define TABLES_ALIGN 16

static void anchor_put(uint8_t *anchor, unsigned at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        anchor[at + i] = (uint8_t)(value >> (8 * i));
    }
}

static GBytes *anchor_32(const SmbiosStructures *s)
{
    uint8_t a[ANCHOR_32_SIZE] = {0};
    memcpy(a, "_SM_", 4);
    anchor_put(a, 5, ANCHOR_32_SIZE, 1);
    anchor_put(a, 6, 2, 1); /* version 2.8 */
    anchor_put(a, 7, 8, 1);
    anchor_put(a, 8, s->max_size, 2);
    memcpy(a + ANCHOR_INNER, "_DMI_", 5);
    anchor_put(a, 22, s->bytes->len, 2);
    anchor_put(a, 28, s->count, 2);
    anchor_put(a, 30, 0x28, 1);
    return g_bytes_new(a, sizeof(a));
}

static GBytes *anchor_64(const SmbiosStructures *s)
{
    uint8_t a[ANCHOR_64_SIZE] = {0};
    memcpy(a, "_SM3_", 5);
    anchor_put(a, 6, ANCHOR_64_SIZE, 1);
    anchor_put(a, 7, 3, 1); /* version 3.0 */
    anchor_put(a, 10, 1, 1);
    anchor_put(a, 12, s->bytes->len, 4);
    return g_bytes_new(a, sizeof(a));
}

/* Handles of processors must not reach those of the next type. */
static bool smbios_check_machine(const SmbiosMachine *m, GError **error)
{
    const unsigned limit = 0x400;
    if (m->sockets > limit) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "SMBIOS describes up to %u sockets, -smp has %u; give cores= or threads=",
                    limit, m->sockets);
    }
    return m->sockets <= limit;
}

bool smbios_build(const SmbiosMachine *m, SmbiosTables *tables, GError **error)
{
    if (!smbios_check_machine(m, error)) {
        return false;
    }
    bool is_64 = m->entry == SMBIOS_ENTRY_64;
    SmbiosStructures s = {.bytes = g_byte_array_new()};
    smbios_put_structures(&s, m, is_64);
    if (!is_64 && (s.bytes->len > STRUCTURES_32_MAX || s.count > UINT16_MAX)) {
        if (m->entry == SMBIOS_ENTRY_32) {
            g_byte_array_unref(s.bytes);
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "-machine smbios-entry-point-type=32: the tables are too large for it; use "
                        "64");
            return false;
        }
        is_64 = true;
        g_byte_array_set_size(s.bytes, 0);
        s.count = s.max_size = 0;
        smbios_put_structures(&s, m, true);
    }
    tables->anchor = is_64 ? anchor_64(&s) : anchor_32(&s);
    tables->structures = g_byte_array_free_to_bytes(s.bytes);
    return true;
}

/* ---- direct boot ---- */

static void anchor_set_sum(uint8_t *anchor, unsigned start, unsigned size, unsigned at)
{
    uint8_t total = 0;
    for (unsigned i = 0; i < size; i++) {
        total = (uint8_t)(total + anchor[start + i]);
    }
    anchor[at] = (uint8_t)-total;
}

bool smbios_write(const SmbiosTables *tables, GuestRam *ram, uint64_t gpa, uint64_t size,
                  GError **error)
{
    gsize anchor_size, structures_size;
    const uint8_t *data = g_bytes_get_data(tables->anchor, &anchor_size);
    const uint8_t *structures = g_bytes_get_data(tables->structures, &structures_size);
    const uint64_t offset = (anchor_size + TABLES_ALIGN - 1) / TABLES_ALIGN * TABLES_ALIGN;
    if (structures_size > size - offset) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "the SMBIOS tables need %zu bytes, there is room for %u without firmware",
                    (size_t)structures_size, (unsigned)(size - offset));
        return false;
    }
    uint8_t anchor[ANCHOR_32_SIZE];
    memcpy(anchor, data, anchor_size);
    if (anchor_size == ANCHOR_32_SIZE) {
        anchor_put(anchor, 24, gpa + offset, 4);
        anchor_set_sum(anchor, ANCHOR_INNER, ANCHOR_32_SIZE - ANCHOR_INNER, 21);
        anchor_set_sum(anchor, 0, ANCHOR_32_SIZE, 4);
    } else {
        anchor_put(anchor, 16, gpa + offset, 8);
        anchor_set_sum(anchor, 0, ANCHOR_64_SIZE, 5);
    }
    /* A board without RAM there has a bug. */
    bool ok = guest_ram_write(ram, gpa, anchor, anchor_size) &&
              guest_ram_write(ram, gpa + offset, structures, structures_size);
    g_assert(ok);
    return true;
}
