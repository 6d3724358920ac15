/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine/machine.h"

#include <string.h>

void machine_init(VmMachine *m, const MachineConfig *config, Backends *backends)
{
    *m = (VmMachine){.config = config, .backends = backends};
    m->kvm.fd = m->kvm.vm_fd = -1;
    m->devices = g_ptr_array_new();
    m->mmio = address_space_new("memory");
    m->pio = address_space_new("I/O");
}

/* Whether one of @list (OptDict) has type=@type. */
static bool machine_has_type(const GPtrArray *list, const char *type)
{
    for (unsigned i = 0; i < list->len; i++) {
        if (g_strcmp0(opt_dict_get(list->pdata[i], "type"), type) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether a device from the command line needs RAM that other processes can map. */
static bool machine_wants_shared_ram(const VmMachine *m)
{
    for (unsigned i = 0; i < m->config->devices->len; i++) {
        const char *driver = opt_dict_get(m->config->devices->pdata[i], "driver");
        const DeviceType *type = driver != NULL ? device_type_find(driver) : NULL;
        if (type != NULL && type->shares_ram) {
            return true;
        }
    }
    const BackendsConfig *backends = &m->backends->config->backends;
    return backends->virtiofs->len > 0 || machine_has_type(backends->netdevs, "vhost-user") ||
           machine_has_type(backends->nics, "vhost-user");
}

bool machine_choose_memory(VmMachine *m, GError **error)
{
    const char *id = m->config->memory;
    if (id == NULL) {
        m->memory = machine_wants_shared_ram(m)
                        ? memory_backend_new_memfd("pc.ram", m->config->ram_size, error)
                        : memory_backend_new_ram("pc.ram", m->config->ram_size, error);
        return m->memory != NULL;
    }
    MemoryBackend *memory = backends_find_memory(m->backends, id);
    if (memory == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "-machine memory-backend=%s: there is no -object with that id", id);
        return false;
    }
    if (m->config->ram_size_set && memory->size != m->config->ram_size) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-m says %" PRIu64 " MiB, memory backend '%s' has %" PRIu64
                    " MiB; make them equal, or leave -m off",
                    m->config->ram_size >> 20, id, memory->size >> 20);
        return false;
    }
    m->memory = memory;
    return true;
}

void machine_fill_env(VmMachine *m, AioContext *main_ctx)
{
    kvm_fill_machine_ops(&m->ops);
    m->hw = (Machine){.ops = &m->ops, .opaque = &m->kvm};
    m->env = (DeviceEnv){
        .machine = &m->hw,
        .ram = &m->ram,
        .mmio = m->mmio,
        .pio = m->pio,
        .main_ctx = main_ctx,
        .default_iothread = backends_default_home(m->backends),
    };
}

/* ---- objects that devices use ---- */

/* Whether a list of iothreads (iothread-vq-mapping) has @id. */
static bool machine_list_uses(const OptDict *list, const char *id)
{
    for (unsigned i = 0; list != NULL && i < opt_dict_count(list); i++) {
        g_autofree char *key = g_strdup_printf("%u.iothread", i);
        if (g_strcmp0(opt_dict_get(list, key), id) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether @dev was configured with object @id: devices refer to one by these properties. */
static bool machine_device_uses(const Device *dev, const char *id)
{
    for (const OptSpec *p = dev->type->properties; p != NULL && p->name != NULL; p++) {
        if (p->type == OPT_STRING &&
            (strcmp(p->name, "iothread") == 0 || strcmp(p->name, "rng") == 0)) {
            const char *const *value = (const void *)((const char *)dev + p->offset);
            if (g_strcmp0(*value, id) == 0) {
                return true;
            }
        }
        if (p->type == OPT_DICT && strcmp(p->name, "iothread-vq-mapping") == 0) {
            const OptDict *const *list = (const void *)((const char *)dev + p->offset);
            if (machine_list_uses(*list, id)) {
                return true;
            }
        }
    }
    return false;
}

static RUNS_IN_MAIN bool machine_uses_object(const VmMachine *m, const char *id)
{
    for (unsigned i = 0; i < m->devices->len; i++) {
        if (machine_device_uses(m->devices->pdata[i], id)) {
            return true;
        }
    }
    const MemoryBackend *memory = backends_find_memory(m->backends, id);
    return memory != NULL && memory == m->memory;
}

bool machine_co_del_object(VmMachine *m, const char *id, GError **error)
{
    return machine_uses_object(m, id) ? backends_object_in_use(id, error)
                                      : backends_co_del_object(m->backends, id, error);
}
