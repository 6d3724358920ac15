/* SPDX-License-Identifier: Apache-2.0 */
/* The structures, field by field in the order of DSP0134 §7. Handles are QEMU's. */
#include "vmm/board/smbios_int.h"

#include <string.h>

#define DEFAULT_MANUFACTURER "QEMU"
#define DEFAULT_PRODUCT "Standard PC (Q35 + ICH9, 2009)"
#define DEFAULT_VERSION "pc-q35-10.0"
#define NO_HANDLE 0xfffe
#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define DIMM_MAX (UINT64_C(2) << 40)

enum { /* of the first structure of each type */
       HANDLE_BIOS = 0x0000,
       HANDLE_SYSTEM = 0x0100,
       HANDLE_BOARD = 0x0200,
       HANDLE_CHASSIS = 0x0300,
       HANDLE_PROCESSOR = 0x0400,
       HANDLE_PORT = 0x0800,
       HANDLE_OEM = 0x0e00,
       HANDLE_ARRAY = 0x1000,
       HANDLE_DIMM = 0x1100,
       HANDLE_RANGE = 0x1300,
       HANDLE_BOOT = 0x2000,
       HANDLE_END = 0x7f00,
};

/* A structure under construction. */
typedef struct Structure {
    SmbiosStructures *out;
    guint start;
    GByteArray *strings;
    unsigned string_count;
} Structure;

/* ---- fields ---- */

static void put(Structure *s, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        const uint8_t byte = (uint8_t)(value >> (8 * i));
        g_byte_array_append(s->out->bytes, &byte, 1);
    }
}

/* A field with the number of a string; 0 for one that is NULL or empty. */
static void put_string(Structure *s, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        put(s, 0, 1);
        return;
    }
    g_byte_array_append(s->strings, (const uint8_t *)text, (guint)strlen(text) + 1);
    put(s, ++s->string_count, 1);
}

static void put_string_or(Structure *s, const char *text, const char *standard)
{
    put_string(s, text != NULL ? text : standard);
}

static Structure begin(SmbiosStructures *out, uint8_t type, uint16_t handle)
{
    Structure s = {.out = out, .start = out->bytes->len, .strings = g_byte_array_new()};
    put(&s, type, 1);
    put(&s, 0, 1); /* length: end() */
    put(&s, handle, 2);
    return s;
}

static void end(Structure *s)
{
    static const uint8_t nul[2];
    GByteArray *bytes = s->out->bytes;
    bytes->data[s->start + 1] = (uint8_t)(bytes->len - s->start);
    g_byte_array_append(bytes, s->strings->data, s->strings->len);
    g_byte_array_append(bytes, nul, s->string_count == 0 ? 2 : 1);
    g_byte_array_unref(s->strings);
    s->out->count++;
    s->out->max_size = MAX(s->out->max_size, bytes->len - s->start);
}

/* ---- structures ---- */

/* Firmware adds its own. */
static void put_bios(SmbiosStructures *out, const SmbiosMachine *m)
{
    const SmbiosOptions *o = m->options;
    if (m->has_firmware && !o->has_type[0]) {
        return;
    }
    Structure s = begin(out, 0, HANDLE_BIOS);
    put_string_or(&s, o->bios.vendor, m->has_firmware ? NULL : "skiff");
    put_string_or(&s, o->bios.version, m->has_firmware ? NULL : SKIFF_VERSION);
    put(&s, 0xe800, 2); /* segment */
    put_string_or(&s, o->bios.date, m->has_firmware ? NULL : "01/01/2026");
    put(&s, 0, 1); /* ROM size */
    put(&s, 8, 8); /* characteristics: not stated */
    put(&s, 0, 1);
    put(&s, 4u | (o->bios.uefi ? 8 : 0) | (o->bios.vm ? 0x10 : 0), 1);
    put(&s, o->release_major, 1);
    put(&s, o->release_minor, 1);
    put(&s, 0xffff, 2); /* no embedded controller */
    end(&s);
}

/* The first three fields are little-endian. §7.2.1. */
static void put_uuid(Structure *s, const char *text)
{
    static const uint8_t order[] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    uint8_t uuid[16] = {0};
    for (unsigned i = 0; text != NULL && i < sizeof(uuid); i++) {
        text += *text == '-';
        uuid[i] = (uint8_t)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        text += 2;
    }
    for (unsigned i = 0; i < sizeof(uuid); i++) {
        put(s, uuid[order[i]], 1);
    }
}

static void put_system(SmbiosStructures *out, const SmbiosMachine *m)
{
    const SmbiosOptions *o = m->options;
    Structure s = begin(out, 1, HANDLE_SYSTEM);
    put_string_or(&s, o->system.manufacturer, DEFAULT_MANUFACTURER);
    put_string_or(&s, o->system.product, DEFAULT_PRODUCT);
    put_string_or(&s, o->system.version, DEFAULT_VERSION);
    put_string(&s, o->system.serial);
    put_uuid(&s, m->uuid);
    put(&s, 6, 1); /* woken by the power switch */
    put_string(&s, o->system.sku);
    put_string(&s, o->system.family);
    end(&s);
}

static void put_board(SmbiosStructures *out, const SmbiosMachine *m)
{
    const SmbiosOptions *o = m->options;
    if (!o->has_type[2]) {
        return;
    }
    Structure s = begin(out, 2, HANDLE_BOARD);
    put_string_or(&s, o->board.manufacturer, DEFAULT_MANUFACTURER);
    put_string_or(&s, o->board.product, DEFAULT_PRODUCT);
    put_string_or(&s, o->board.version, DEFAULT_VERSION);
    put_string(&s, o->board.serial);
    put_string(&s, o->board.asset);
    put(&s, 1, 1); /* hosting board */
    put_string(&s, o->board.location);
    put(&s, HANDLE_CHASSIS, 2);
    put(&s, 10, 1); /* motherboard */
    put(&s, 0, 1);
    end(&s);
}

static void put_chassis(SmbiosStructures *out, const SmbiosMachine *m)
{
    const SmbiosOptions *o = m->options;
    Structure s = begin(out, 3, HANDLE_CHASSIS);
    put_string_or(&s, o->chassis.manufacturer, DEFAULT_MANUFACTURER);
    put(&s, 1, 1); /* other */
    put_string_or(&s, o->chassis.version, DEFAULT_VERSION);
    put_string(&s, o->chassis.serial);
    put_string(&s, o->chassis.asset);
    put(&s, 3, 1); /* boot-up, power supply and thermal state: safe */
    put(&s, 3, 1);
    put(&s, 3, 1);
    put(&s, 2, 1); /* security: unknown */
    put(&s, 0, 4);
    put(&s, 0, 4); /* height, cords, contained elements */
    put_string(&s, o->chassis.sku);
    end(&s);
}

static void put_processor(SmbiosStructures *out, const SmbiosMachine *m, unsigned index, bool is_64)
{
    const SmbiosOptions *o = m->options;
    const char *prefix = o->processor.socket_prefix;
    g_autofree char *socket = g_strdup_printf("%s%2x", prefix != NULL ? prefix : "CPU", index);
    const uint64_t id = m->cpuid_version | (uint64_t)m->cpuid_features << 32;
    Structure s = begin(out, 4, (uint16_t)(HANDLE_PROCESSOR + index));
    put_string(&s, socket);
    put(&s, 3, 1);                              /* central processor */
    put(&s, MIN(o->processor.family, 0xfe), 1); /* 0xfe: in the second field */
    put_string_or(&s, o->processor.manufacturer, DEFAULT_MANUFACTURER);
    put(&s, o->processor.id != 0 ? o->processor.id : id, 8);
    put_string_or(&s, o->processor.version, DEFAULT_VERSION);
    put(&s, 0, 1); /* voltage */
    put(&s, 0, 2); /* external clock */
    put(&s, o->processor.max_speed, 2);
    put(&s, o->processor.current_speed, 2);
    put(&s, 0x41, 1);   /* populated, enabled */
    put(&s, 1, 1);      /* upgrade: other */
    put(&s, 0xffff, 2); /* no caches */
    put(&s, 0xffff, 2);
    put(&s, 0xffff, 2);
    put_string(&s, o->processor.serial);
    put_string(&s, o->processor.asset);
    put_string(&s, o->processor.part);
    put(&s, MIN(m->cores_per_socket, 0xff), 1); /* cores, enabled cores, threads */
    put(&s, MIN(m->cores_per_socket, 0xff), 1);
    put(&s, MIN(m->threads_per_socket, 0xff), 1);
    put(&s, 2, 2); /* characteristics: unknown */
    put(&s, o->processor.family, 2);
    if (is_64) {
        put(&s, m->cores_per_socket, 2);
        put(&s, m->cores_per_socket, 2);
        put(&s, m->threads_per_socket, 2);
    }
    end(&s);
}

static void put_ports(SmbiosStructures *out, const SmbiosMachine *m)
{
    for (unsigned i = 0; i < m->options->ports->len; i++) {
        const SmbiosPort *port = m->options->ports->pdata[i];
        Structure s = begin(out, 8, (uint16_t)(HANDLE_PORT + i));
        put_string(&s, port->internal_reference);
        put(&s, 0, 1); /* no internal connector */
        put_string(&s, port->external_reference);
        put(&s, port->connector_type, 1);
        put(&s, port->port_type, 1);
        end(&s);
    }
}

static void put_oem_strings(SmbiosStructures *out, const SmbiosMachine *m)
{
    const GPtrArray *strings = m->options->oem_strings;
    if (strings->len == 0) {
        return;
    }
    Structure s = begin(out, 11, HANDLE_OEM);
    put(&s, strings->len, 1);
    s.string_count = strings->len;
    for (unsigned i = 0; i < strings->len; i++) {
        const char *text = strings->pdata[i];
        /* An empty string would end the set. */
        text = text[0] != '\0' ? text : " ";
        g_byte_array_append(s.strings, (const uint8_t *)text, (guint)strlen(text) + 1);
    }
    end(&s);
}

/* ---- memory ---- */

static void put_memory_array(SmbiosStructures *out, uint64_t ram_size, unsigned dimms)
{
    const bool extended = ram_size / KIB >= 0x80000000;
    Structure s = begin(out, 16, HANDLE_ARRAY);
    put(&s, 1, 1); /* location: other */
    put(&s, 3, 1); /* system memory */
    put(&s, 6, 1); /* multi-bit ECC */
    put(&s, extended ? 0x80000000 : ram_size / KIB, 4);
    put(&s, NO_HANDLE, 2);
    put(&s, dimms, 2);
    put(&s, extended ? ram_size : 0, 8);
    end(&s);
}

static void put_dimm(SmbiosStructures *out, const SmbiosOptions *o, unsigned index, uint64_t size)
{
    const char *prefix = o->memory.locator_prefix;
    g_autofree char *locator = g_strdup_printf("%s %u", prefix != NULL ? prefix : "DIMM", index);
    const uint64_t mib = (size + MIB - 1) / MIB;
    Structure s = begin(out, 17, (uint16_t)(HANDLE_DIMM + index));
    put(&s, HANDLE_ARRAY, 2);
    put(&s, NO_HANDLE, 2);
    put(&s, 0xffff, 2); /* widths: unknown */
    put(&s, 0xffff, 2);
    put(&s, MIN(mib, 0x7fff), 2);
    put(&s, 9, 1); /* DIMM */
    put(&s, 0, 1);
    put_string(&s, locator);
    put_string(&s, o->memory.bank);
    put(&s, 7, 1); /* RAM */
    put(&s, 2, 2); /* detail: other */
    put(&s, o->memory.speed, 2);
    put_string_or(&s, o->memory.manufacturer, DEFAULT_MANUFACTURER);
    put_string(&s, o->memory.serial);
    put_string(&s, o->memory.asset);
    put_string(&s, o->memory.part);
    put(&s, 0, 1);                       /* attributes */
    put(&s, mib >= 0x7fff ? mib : 0, 4); /* extended size */
    put(&s, o->memory.speed, 2);
    put(&s, 0, 2); /* voltages */
    put(&s, 0, 2);
    put(&s, 0, 2);
    end(&s);
}

static void put_range(SmbiosStructures *out, unsigned index, uint64_t gpa, uint64_t size)
{
    const uint64_t last = gpa + size - 1;
    const bool extended = last / KIB >= UINT32_MAX;
    Structure s = begin(out, 19, (uint16_t)(HANDLE_RANGE + index));
    put(&s, extended ? UINT32_MAX : gpa / KIB, 4);
    put(&s, extended ? UINT32_MAX : last / KIB, 4);
    put(&s, HANDLE_ARRAY, 2);
    put(&s, 1, 1); /* partition width */
    put(&s, extended ? gpa : 0, 8);
    put(&s, extended ? last : 0, 8);
    end(&s);
}

static void put_memory(SmbiosStructures *out, const SmbiosMachine *m)
{
    uint64_t below = guest_ram_below_4g(m->ram), above = guest_ram_above_4g(m->ram);
    uint64_t left = below + above;
    unsigned dimms = (unsigned)((left + DIMM_MAX - 1) / DIMM_MAX);
    if (!m->options->has_file[16]) {
        put_memory_array(out, left, dimms);
    }
    for (unsigned i = 0; i < dimms && !m->options->has_file[17]; i++) {
        put_dimm(out, m->options, i, MIN(left, DIMM_MAX));
        left -= MIN(left, DIMM_MAX);
    }
    if (!m->options->has_file[19]) {
        put_range(out, 0, 0, below);
        if (above != 0) {
            put_range(out, 1, UINT64_C(1) << 32, above);
        }
    }
}

/* ---- all ---- */

static void put_files(SmbiosStructures *out, const SmbiosOptions *o)
{
    for (unsigned i = 0; i < o->files->len; i++) {
        const SmbiosFile *file = o->files->pdata[i];
        gsize size;
        const uint8_t *data = g_bytes_get_data(file->bytes, &size);
        g_byte_array_append(out->bytes, data, (guint)size);
        out->count++;
        out->max_size = MAX(out->max_size, (unsigned)size);
    }
}

static void put_boot_and_end(SmbiosStructures *out, const SmbiosOptions *o)
{
    if (!o->has_file[32]) {
        Structure boot = begin(out, 32, HANDLE_BOOT);
        put(&boot, 0, 6); /* reserved */
        put(&boot, 0, 1); /* no errors */
        end(&boot);
    }
    Structure last = begin(out, SMBIOS_TYPE_END, HANDLE_END);
    end(&last);
}

/* A structure that the user gives as a file replaces all of its type. */
void smbios_put_structures(SmbiosStructures *out, const SmbiosMachine *m, bool is_64)
{
    static const struct {
        uint8_t type;
        void (*put)(SmbiosStructures *out, const SmbiosMachine *m);
    } single[] = {{0, put_bios}, {1, put_system}, {2, put_board}, {3, put_chassis}};
    const SmbiosOptions *o = m->options;
    put_files(out, o);
    for (unsigned i = 0; i < G_N_ELEMENTS(single); i++) {
        if (!o->has_file[single[i].type]) {
            single[i].put(out, m);
        }
    }
    for (unsigned i = 0; i < m->sockets && !o->has_file[4]; i++) {
        put_processor(out, m, i, is_64);
    }
    put_ports(out, m);
    put_oem_strings(out, m);
    put_memory(out, m);
    put_boot_and_end(out, o);
}
