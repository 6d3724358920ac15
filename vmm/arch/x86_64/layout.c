/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "vmm/arch/x86_64/layout.h"
#include "util/opts/opts.h"

#define MMIO64_MAX (256 * X86_GIB)

static void layout_add_ram(X86Layout *layout, uint64_t gpa, uint64_t end, uint64_t offset)
{
    g_assert(layout->ram_count < X86_MAX_RAM_RANGES);
    layout->ram[layout->ram_count++] =
        (X86RamRange){.gpa = gpa, .size = end - gpa, .offset = offset};
}

static uint64_t layout_gpa_limit(unsigned phys_bits)
{
    uint64_t limit = phys_bits < 64 ? UINT64_C(1) << phys_bits : UINT64_MAX;
    return MIN(limit, X86_GPA_LIMIT);
}

static bool layout_check(uint64_t ram_size, uint64_t limit, GError **error)
{
    if (ram_size % X86_PAGE_SIZE != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-m: %" PRIu64 " bytes is not a multiple of 4 KiB", ram_size);
        return false;
    }
    if (ram_size < X86_RAM_MIN) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-m: %" PRIu64 " KiB is too little; the machine needs 2M or more",
                    ram_size / X86_KIB);
        return false;
    }
    uint64_t above = ram_size > X86_LOW_RAM_MAX ? ram_size - X86_LOW_RAM_MAX : 0;
    if (above > 0 && (limit <= X86_4GIB || above > limit - X86_4GIB)) {
        uint64_t most = X86_LOW_RAM_MAX + (limit > X86_4GIB ? limit - X86_4GIB : 0);
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-m: %" PRIu64 " MiB does not fit the guest's physical addresses; "
                    "at most %" PRIu64 "M does",
                    ram_size / X86_MIB, most / X86_MIB);
        return false;
    }
    return true;
}

/* Above all RAM, 1 GiB-aligned so that huge BARs can be aligned in it. */
static void layout_place_mmio64(PciWindows *windows, uint64_t ram_end, uint64_t limit)
{
    uint64_t base = (MAX(ram_end, X86_4GIB) + X86_GIB - 1) & ~(X86_GIB - 1);
    if (base < limit) {
        windows->mmio64_base = base;
        windows->mmio64_size = MIN(limit - base, MMIO64_MAX);
    }
}

bool x86_layout_compute(uint64_t ram_size, unsigned phys_bits, X86Layout *layout, GError **error)
{
    uint64_t limit = layout_gpa_limit(phys_bits);
    if (!layout_check(ram_size, limit, error)) {
        return false;
    }
    uint64_t low = MIN(ram_size, X86_LOW_RAM_MAX);
    uint64_t high = ram_size - low;
    *layout = (X86Layout){
        .windows =
            {
                .mmio32_base = X86_MMIO32_BASE,
                .mmio32_size = X86_MMIO32_SIZE,
                .ecam_base = X86_ECAM_BASE,
            },
    };
    layout_add_ram(layout, 0, low, 0);
    if (high > 0) {
        layout_add_ram(layout, X86_4GIB, X86_4GIB + high, low);
    }
    layout_place_mmio64(&layout->windows, high > 0 ? X86_4GIB + high : low, limit);
    return true;
}

void x86_layout_open_mmio64(X86Layout *layout, unsigned phys_bits)
{
    PciWindows *w = &layout->windows;
    uint64_t end = UINT64_C(1) << MIN(phys_bits, 52);
    if (w->mmio64_size != 0 && end > w->mmio64_base) {
        w->mmio64_size = end - w->mmio64_base;
    }
}
