/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: a lean q35. Sections: construction, tables, reset. Its devices are in
 * board_devices.c. Addresses and interrupts are in layout.h; the DSDT (dsdt.asl) has the same
 * values.
 */
#include <string.h>
#include <sys/mman.h>
#include "hw/firmware/vmgenid.h"
#include "hw/platform/lpc.h"
#include "hw/platform/rtc.h"
#include "hw/platform/serial.h"
#include "vmm/board/board.h"
#include "vmm/board/x86_64/acpi.h"
#include "vmm/board/x86_64/board_boot.h"
#include "vmm/board/x86_64/board_devices.h"
#include "vmm/board/x86_64/board_files.h"
#include "vmm/board/x86_64/board_fw_cfg.h"
#include "vmm/board/x86_64/flash.h"
#include "vmm/board/x86_64/shadow.h"
#include "vmm/board/x86_64/pit_ports.h"
#include "vmm/arch/x86_64/arch_vcpu.h"
#include "vmm/arch/x86_64/arch_vm.h"
#include "vmm/arch/x86_64/boot_state.h"
#include "vmm/arch/x86_64/pit.h"
#include "vmm/boot/boot.h"
#include "vmm/arch/x86_64/layout.h"

#define BOARD_MAX_APIC_ID 254 /* the maximum of an MSI's 8-bit destination */

struct Board {
    SmpTopology smp;
    ArchCpus cpus;
    X86Layout layout;
    IrqGate gates[X86_GSI_COUNT];
    IrqGate *gate_pointers[X86_GSI_COUNT];
    BootRom rom;
    unsigned resets;
    /* board_note_devices(): what a vCPU that builds the ACPI tables needs of the list of devices, which
     * is main's */
    AcpiConfig acpi;
    const Device *host;
    Shadow shadow; /* used with firmware only */
    PitPorts pit;
    BootImage *image; /* NULL: boots from the ROM, or not at all */
    BoardFiles files;
    SmbiosTables smbios;
    BoardFwCfg fw_cfg;
};

/* ---- construction ---- */

static RUNS_IN_MAIN Device *board_find(const VmMachine *m, const char *type)
{
    enter_main();
    for (unsigned i = 0; i < m->devices->len; i++) {
        Device *dev = m->devices->pdata[i];
        if (strcmp(dev->type->name, type) == 0) {
            return dev;
        }
    }
    return NULL;
}

static bool board_choose_cpus(VmMachine *m, GError **error)
{
    Board *b = m->board;
    X86CpuModel model;
    if (!smp_parse(m->config->smp, m->kvm.max_vcpus, &b->smp, error)) {
        return false;
    }
    if (x86_apic_id(&b->smp, b->smp.cpus - 1) > BOARD_MAX_APIC_ID) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-smp %s: the last processor's APIC id would be %u; this machine has ids up to "
                    "%u: use fewer processors, or counts that are powers of two",
                    m->config->smp, x86_apic_id(&b->smp, b->smp.cpus - 1), BOARD_MAX_APIC_ID);
        return false;
    }
    return x86_cpu_model_parse(m->config->cpu, &model, error) &&
           x86_cpus_init(&b->cpus, &m->kvm, &model, &b->smp, error);
}

typedef struct BoardBoot {
    VmMachine *m;
    bool has_firmware;
    BootState *state;
    GError *error;
} BoardBoot;

static int board_open_boot_files(void *opaque)
{
    enter_worker();
    BoardBoot *boot = opaque;
    const MachineConfig *config = boot->m->config;
    Board *b = boot->m->board;
    BootRequest request = {
        .kernel = config->kernel, .initrd = config->initrd, .cmdline = config->append};
    if (!board_files_read(&b->files, config, &boot->error) ||
        (config->bios != NULL && !boot_rom_open(&b->rom, config->bios, &boot->error))) {
        return -1;
    }
    if (!boot->has_firmware) {
        b->image = boot_open(&request, &boot->error);
        return b->image != NULL ? 0 : -1;
    }
    uint64_t low_ram = MIN(boot->m->memory->size, X86_LOW_RAM_MAX);
    bool ok = config->kernel == NULL ||
              boot_read_blobs(&request, low_ram, &b->files.kernel, &boot->error);
    return ok ? 0 : -1;
}

/* Runs file I/O in a worker. */
static coroutine_fn RUNS_IN_MAIN bool board_co_run(BoardBoot *boot, int (*fn)(void *opaque),
                                                   GError **error)
{
    if (co_run_in_worker(fn, boot) == 0) {
        return true;
    }
    g_propagate_error(error, boot->error);
    return false;
}

static coroutine_fn RUNS_IN_MAIN bool board_co_open_boot_files(VmMachine *m, GError **error)
{
    BoardBoot boot = {.m = m, .has_firmware = m->config->bios != NULL || x86_flash_is_given(m)};
    m->env.has_firmware = boot.has_firmware;
    return board_check_boot_options(m, error) && board_co_run(&boot, board_open_boot_files, error);
}

static void board_pam_changed(void *opaque)
{
    VmMachine *m = opaque;
    assert_bql();
    shadow_update(&m->board->shadow);
}

static void board_smm_wanted(void *opaque)
{
    VmMachine *m = opaque;
    assert_bql();
    machine_request(&m->hw, VM_REQUEST_NO_SMM, 0);
}

/* A kernel that boots directly finds RAM below 1 MiB; firmware finds what a PC has there. */
static RUNS_IN_MAIN bool board_prepare_for_firmware(VmMachine *m, GError **error)
{
    Board *b = m->board;
    Device *host = board_find(m, "q35-host");
    if (b->image != NULL) {
        return true;
    }
    pci_host_listen(host, (PciHostListener){.pam_changed = board_pam_changed,
                                            .smm_wanted = board_smm_wanted,
                                            .opaque = m});
    return shadow_init(&b->shadow, &m->kvm, &m->ram, m->mmio, host, error);
}

static bool board_add_ram(VmMachine *m, GError **error)
{
    static const char *const names[] = {"ram-below-4g", "ram-above-4g"};
    Board *b = m->board;
    if (!x86_layout_compute(m->memory->size, x86_cpuid_phys_bits(b->cpus.cpuid), &b->layout,
                            error)) {
        return false;
    }
    if (b->image == NULL) {
        x86_layout_open_mmio64(&b->layout, x86_cpuid_phys_bits(b->cpus.cpuid));
    }
    /* Few pages of the first 2 MiB are written, by skiff (tables, a firmware's shadow) or a guest:
     * a huge page would have to be cleared for them. */
    madvise(m->memory->host, MIN(m->memory->size, 2 * X86_MIB), MADV_NOHUGEPAGE);
    for (unsigned i = 0; i < b->layout.ram_count; i++) {
        const X86RamRange *range = &b->layout.ram[i];
        RamBlock block = {
            .gpa = range->gpa,
            .size = range->size,
            .host = m->memory->host + range->offset,
            .fd = m->memory->fd,
            .fd_offset = range->offset,
            .name = names[i],
        };
        guest_ram_add(&m->ram, &block);
    }
    if (b->rom.host != NULL) {
        boot_rom_map(&b->rom, &m->ram);
    }
    return true;
}

static RUNS_IN_MAIN void board_add_interrupts(VmMachine *m)
{
    Board *b = m->board;
    IrqGate *pci[8] = {0};
    for (unsigned gsi = 0; gsi < X86_GSI_COUNT; gsi++) {
        irq_gate_init(&b->gates[gsi], &m->hw, gsi);
        b->gate_pointers[gsi] = &b->gates[gsi];
    }
    memcpy(pci, &b->gate_pointers[X86_GSI_PCI_BASE], sizeof(pci));
    m->env.gates = b->gate_pointers;
    m->env.gate_count = X86_GSI_COUNT;
    m->env.cpu_count = b->smp.cpus;
    m->pci = pci_bus_new(&m->env, &b->layout.windows, pci);
    m->env.pci_bus = m->pci;
}

bool board_co_add_cpus(VmMachine *m, void (*event)(void *opaque, int event), void *opaque,
                       GError **error)
{
    VcpuSetConfig config = {
        .kvm = &m->kvm,
        .cpus = &m->board->cpus,
        .count = m->board->smp.cpus,
        .mmio = m->mmio,
        .pio = m->pio,
        .event = event,
        .opaque = opaque,
    };
    m->vcpus = vcpus_co_new(&config, error);
    return m->vcpus != NULL;
}

/* ---- tables for firmware and guests ---- */

static RUNS_IN_MAIN bool board_has_com(const VmMachine *m, unsigned index)
{
    enter_main();
    for (unsigned i = 0; i < m->devices->len; i++) {
        if (serial_is_com(m->devices->pdata[i], index)) {
            return true;
        }
    }
    return false;
}

/* Devices that the DSDT shows are never plugged later. */
static RUNS_IN_MAIN void board_note_devices(VmMachine *m)
{
    Board *b = m->board;
    b->host = board_find(m, "q35-host");
    b->acpi = (AcpiConfig){
        .cpu_count = b->smp.cpus,
        .windows = b->layout.windows,
        .last_bus = (uint8_t)pci_bus_bridges(m->pci),
        .has_com1 = board_has_com(m, 0),
        .has_com2 = board_has_com(m, 1),
        .has_pvpanic = board_find(m, "pvpanic") != NULL,
        .has_vmgenid = board_find(m, VMGENID_TYPE) != NULL,
    };
}

/* With ECAM where firmware has put it. @apic_ids has room for all processors. */
static AcpiConfig board_acpi_config(const Board *b, uint32_t *apic_ids)
{
    AcpiConfig config = b->acpi;
    for (unsigned i = 0; i < b->smp.cpus; i++) {
        apic_ids[i] = x86_apic_id(&b->smp, i);
    }
    config.apic_ids = apic_ids;
    pci_host_ecam_base(b->host, &config.windows.ecam_base);
    return config;
}

static bool board_write_acpi(VmMachine *m, uint64_t *rsdp_gpa, GError **error)
{
    g_autofree uint32_t *apic_ids = g_new(uint32_t, m->board->smp.cpus);
    AcpiConfig config = board_acpi_config(m->board, apic_ids);
    return x86_acpi_write(&config, &m->ram, rsdp_gpa, error);
}

static void board_build_acpi_files(void *opaque, AcpiFiles *files)
{
    const VmMachine *m = opaque;
    g_autofree uint32_t *apic_ids = g_new(uint32_t, m->board->smp.cpus);
    AcpiConfig config = board_acpi_config(m->board, apic_ids);
    x86_acpi_build_files(&config, files);
}

static bool board_build_smbios(VmMachine *m, GError **error)
{
    Board *b = m->board;
    SmbiosMachine machine = {
        .options = b->files.smbios,
        .uuid = m->config->uuid,
        .sockets = b->smp.sockets,
        .cores_per_socket = b->smp.cores,
        .threads_per_socket = b->smp.cores * b->smp.threads,
        .ram = &m->ram,
        .entry = (SmbiosEntry)m->config->smbios_entry,
        .has_firmware = b->image == NULL,
    };
    x86_cpuid_signature(b->cpus.cpuid, &machine.cpuid_version, &machine.cpuid_features);
    return smbios_build(&machine, &b->smbios, error);
}

static RUNS_IN_MAIN bool board_add_fw_cfg(VmMachine *m, GError **error)
{
    Board *b = m->board;
    m->env.fw_cfg = board_find(m, "fw_cfg_io");
    b->fw_cfg = (BoardFwCfg){
        .fw_cfg = m->env.fw_cfg,
        .config = m->config,
        .ram = &m->ram,
        .smbios = &b->smbios,
        .files = &b->files,
        .apic_id_limit = x86_apic_id(&b->smp, b->smp.cpus - 1) + 1,
        .build_acpi = board_build_acpi_files,
        .opaque = m,
    };
    return board_fw_cfg_add(&b->fw_cfg, error) && board_boot_add(m, m->env.fw_cfg, error);
}

/* ---- the whole ---- */

static void board_pit_failed(void *opaque)
{
    VmMachine *m = opaque;
    enter_main();
    m->hw.request(m->hw.request_opaque, VCPU_EVENT_FAILED, 0);
}

bool board_co_build(VmMachine *m, GError **error)
{
    m->board = g_new0(Board, 1);
    if (!board_choose_cpus(m, error) || !board_co_open_boot_files(m, error) ||
        !x86_flash_co_add(m, &m->board->rom, error) || !board_add_ram(m, error) ||
        !kvm_create_vm(&m->kvm, &m->ram, error) || !arch_vm_init(&m->kvm, error) ||
        (!m->config->no_pit && !x86_pit_check(&m->kvm, error)) ||
        (m->config->discard_late_ticks && !arch_vm_discard_late_ticks(&m->kvm, error))) {
        return false;
    }
    kvm_attach_ram_log(&m->kvm, &m->ram);
    board_add_interrupts(m);
    if (!m->config->no_pit) {
        pit_ports_init(&m->board->pit, &m->kvm, m->pio, m->env.main_ctx, board_pit_failed, m);
    }
    if (!x86_board_co_add_devices(m, error)) {
        return false;
    }
    rtc_set_memory_size(board_find(m, "mc146818rtc"), guest_ram_below_4g(&m->ram),
                        guest_ram_above_4g(&m->ram));
    return board_build_smbios(m, error) && board_add_fw_cfg(m, error) &&
           board_prepare_for_firmware(m, error);
}

/* ---- reset ---- */

void board_press_power_button(VmMachine *m)
{
    lpc_press_power_button(board_find(m, "ich9-lpc"));
}

void board_raise_gpe(VmMachine *m, unsigned gpe)
{
    lpc_raise_gpe(board_find(m, "ich9-lpc"), gpe);
}

/* Loads tables and kernel into RAM. In a worker, since it reads whole files. */
static int board_load(void *opaque)
{
    enter_worker();
    BoardBoot *boot = opaque;
    VmMachine *m = boot->m;
    BootTables tables = {0};
    bool ok =
        board_write_acpi(m, &tables.rsdp_gpa, &boot->error) &&
        smbios_write(&m->board->smbios, &m->ram, X86_SMBIOS_BASE, X86_SMBIOS_SIZE, &boot->error) &&
        boot_load(m->board->image, &m->ram, &tables, boot->state, &boot->error);
    return ok ? 0 : -1;
}

void board_device_added(VmMachine *m)
{
    if (m->board->image != NULL) { /* no firmware does it */
        bql_lock();
        pci_bus_assign_resources(m->pci);
        bql_unlock();
    }
}

/* Does the firmware's work. */
static coroutine_fn RUNS_IN_MAIN bool board_co_boot_directly(VmMachine *m, BootState *state,
                                                             GError **error)
{
    Device *vmgenid = board_find(m, VMGENID_TYPE);
    bql_lock();
    pci_bus_assign_resources(m->pci);
    if (vmgenid != NULL) {
        vmgenid_place(vmgenid, X86_VMGENID_PAGE);
    }
    bql_unlock();
    BoardBoot boot = {.m = m, .state = state};
    return board_co_run(&boot, board_load, error);
}

bool board_co_reset(VmMachine *m, GError **error)
{
    BootState state;
    bool direct = m->board->image != NULL;
    board_note_devices(m);
    board_fw_cfg_update(&m->board->fw_cfg);
    board_boot_update(m, board_find(m, "mc146818rtc"), m->env.fw_cfg, m->board->smp.cpus,
                      m->board->resets == 0);
    if (direct && !board_co_boot_directly(m, &state, error)) {
        return false;
    }
    if (!direct) {
        shadow_set_rom(&m->board->shadow, m->board->rom.content, m->board->rom.size);
    }
    m->board->resets++;
    return arch_vm_reset(&m->kvm, error) &&
           (!direct || !state.bios_timer ||
            x86_vm_start_bios_timer(&m->kvm, !m->config->no_pit, error)) &&
           vcpus_co_reset(m->vcpus, direct ? &state : NULL, error);
}
