/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine/guest_memory.h"

#include <inttypes.h>
#include <string.h>

/* ---- physical ---- */

/* The host address of @gpa; limits *@size to the bytes that are contiguous there. NULL: neither RAM
 * nor ROM. */
static uint8_t *guest_physical_map(const GuestRam *ram, uint64_t gpa, size_t *size)
{
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        if (gpa >= b->gpa && gpa - b->gpa < b->size) {
            *size = MIN(*size, b->size - (gpa - b->gpa));
            return b->host + (gpa - b->gpa);
        }
    }
    return NULL;
}

static bool guest_physical_covers(const GuestRam *ram, uint64_t gpa, size_t size, GError **error)
{
    for (size_t done = 0; done < size;) {
        size_t n = size - done;
        if (gpa + done < gpa || guest_physical_map(ram, gpa + done, &n) == NULL) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAULT,
                        "there is no RAM at physical address %#" PRIx64, gpa + done);
            return false;
        }
        done += n;
    }
    return true;
}

/* One of the two buffers is NULL. */
static void guest_physical_copy(const GuestRam *ram, uint64_t gpa, uint8_t *to, const uint8_t *from,
                                size_t size)
{
    for (size_t done = 0; done < size;) {
        size_t n = size - done;
        uint8_t *host = guest_physical_map(ram, gpa + done, &n);
        if (to != NULL) {
            memcpy(to + done, host, n);
        } else {
            memcpy(host, from + done, n);
            guest_ram_mark(ram, gpa + done, n);
        }
        done += n;
    }
}

bool guest_physical_read(const GuestRam *ram, uint64_t gpa, void *buf, size_t size, GError **error)
{
    if (!guest_physical_covers(ram, gpa, size, error)) {
        return false;
    }
    guest_physical_copy(ram, gpa, buf, NULL, size);
    return true;
}

bool guest_physical_write(const GuestRam *ram, uint64_t gpa, const void *buf, size_t size,
                          GError **error)
{
    if (!guest_physical_covers(ram, gpa, size, error)) {
        return false;
    }
    guest_physical_copy(ram, gpa, NULL, buf, size);
    return true;
}

/* ---- virtual ---- */

/* The physical address of @gva; limits *@size to the bytes that are contiguous there. */
static bool guest_paging_look_up(const ArchPaging *paging, const GuestRam *ram, uint64_t gva,
                                 uint64_t *gpa, size_t *size, GError **error)
{
    ArchTranslation t;
    if (!arch_translate(paging, ram, gva, &t, error)) {
        return false;
    }
    *gpa = t.gpa;
    *size = MIN(*size, t.page_size - (gva & (t.page_size - 1)));
    if (!guest_physical_covers(ram, t.gpa, *size, error)) {
        g_prefix_error(error, "address %#" PRIx64 ": ", gva);
        return false;
    }
    return true;
}

/* Translates the pages twice: the second pass checks again, since the guest may change its tables
 * in between. */
static bool guest_paging_access(const ArchPaging *paging, const GuestRam *ram, uint64_t gva,
                                uint8_t *to, const uint8_t *from, size_t size, GError **error)
{
    for (unsigned copying = 0; copying <= 1; copying++) {
        for (size_t done = 0; done < size;) {
            uint64_t gpa;
            size_t n = size - done;
            if (!guest_paging_look_up(paging, ram, gva + done, &gpa, &n, error)) {
                return false;
            }
            if (copying) {
                guest_physical_copy(ram, gpa, to != NULL ? to + done : NULL,
                                    from != NULL ? from + done : NULL, n);
            }
            done += n;
        }
    }
    return true;
}

bool guest_paging_read(const ArchPaging *paging, const GuestRam *ram, uint64_t gva, void *buf,
                       size_t size, GError **error)
{
    return guest_paging_access(paging, ram, gva, buf, NULL, size, error);
}

bool guest_paging_write(const ArchPaging *paging, const GuestRam *ram, uint64_t gva,
                        const void *buf, size_t size, GError **error)
{
    return guest_paging_access(paging, ram, gva, NULL, buf, size, error);
}

/* ---- by a vCPU's page tables ---- */

static void guest_get_paging_in_vcpu(Vcpu *v, void *opaque)
{
    enter_vcpu();
    arch_vcpu_get_paging(vcpu_fd(v), opaque);
}

void guest_co_get_paging(VmMachine *m, unsigned cpu, ArchPaging *paging)
{
    vcpus_co_call(m->vcpus, cpu, guest_get_paging_in_vcpu, paging);
}

bool guest_co_translate(VmMachine *m, unsigned cpu, uint64_t gva, uint64_t *gpa, GError **error)
{
    ArchPaging paging;
    ArchTranslation t;
    guest_co_get_paging(m, cpu, &paging);
    if (!arch_translate(&paging, &m->ram, gva, &t, error)) {
        return false;
    }
    *gpa = t.gpa;
    return true;
}

bool guest_co_read_virtual(VmMachine *m, unsigned cpu, uint64_t gva, void *buf, size_t size,
                           GError **error)
{
    ArchPaging paging;
    guest_co_get_paging(m, cpu, &paging);
    return guest_paging_read(&paging, &m->ram, gva, buf, size, error);
}

bool guest_co_write_virtual(VmMachine *m, unsigned cpu, uint64_t gva, const void *buf, size_t size,
                            GError **error)
{
    ArchPaging paging;
    guest_co_get_paging(m, cpu, &paging);
    return guest_paging_write(&paging, &m->ram, gva, buf, size, error);
}
