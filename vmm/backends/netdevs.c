/* SPDX-License-Identifier: Apache-2.0 */
/* Network back ends: -netdev, netdev_add, and -nic, which also implies a NIC. */
#include <string.h>
#include "hw/net/net.h"
#include "vmm/backends/backends.h"

/* The parts of -nic that are the NIC's. */
static const char *const netdevs_nic_keys[] = {"model", "mac", "macaddr"};

bool backends_co_add_netdev(const OptDict *opts, GError **error)
{
    const char *id = opt_dict_get(opts, "id");
    return (id == NULL || opt_id_check(id, error)) && net_co_add(opts, error);
}

/* The back end of the -nic at @index. Owned by the caller; no option of the user's has such an id. */
static char *netdevs_nic_id(const OptDict *nic, unsigned index)
{
    const char *id = opt_dict_get(nic, "id");
    return id != NULL ? g_strdup(id) : g_strdup_printf("#nic%u", index);
}

static bool netdevs_check_model(const OptDict *nic, GError **error)
{
    static const char *const models[] = {"virtio", "virtio-net", "virtio-net-pci"};
    const char *model = opt_dict_get(nic, "model");
    for (unsigned i = 0; model != NULL && i < G_N_ELEMENTS(models); i++) {
        if (strcmp(model, models[i]) == 0) {
            return true;
        }
    }
    if (model == NULL) {
        return true;
    }
    g_autofree char *shown = opt_excerpt(model);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                "skiff has no NIC model '%s'; nearest is virtio-net-pci", shown);
    return false;
}

static coroutine_fn RUNS_IN_MAIN bool netdevs_co_add_nic(const OptDict *nic, unsigned index,
                                                         GError **error)
{
    const char *id = opt_dict_get(nic, "id");
    if (!netdevs_check_model(nic, error) || (id != NULL && !opt_id_check(id, error))) {
        return false;
    }
    g_autoptr(OptDict) opts = opt_dict_copy(nic);
    for (unsigned i = 0; i < G_N_ELEMENTS(netdevs_nic_keys); i++) {
        opt_dict_remove(opts, netdevs_nic_keys[i]);
    }
    g_autofree char *own = netdevs_nic_id(nic, index);
    opt_dict_set(opts, "id", own);
    return net_co_add(opts, error);
}

bool backends_co_make_netdevs(Backends *b, GError **error)
{
    const BackendsConfig *config = &b->config->backends;
    for (unsigned i = 0; i < config->netdevs->len; i++) {
        if (!backends_co_add_netdev(config->netdevs->pdata[i], error)) {
            g_prefix_error(error, "-netdev ");
            return false;
        }
    }
    for (unsigned i = 0; i < config->nics->len; i++) {
        if (!netdevs_co_add_nic(config->nics->pdata[i], i, error)) {
            g_prefix_error(error, "-nic ");
            return false;
        }
    }
    return true;
}

void backends_add_implied_nics(const Backends *b, GPtrArray *rows)
{
    const GPtrArray *nics = b->config->backends.nics;
    for (unsigned i = 0; i < nics->len; i++) {
        const OptDict *nic = nics->pdata[i];
        g_autofree char *netdev = netdevs_nic_id(nic, i);
        const char *mac = opt_dict_get(nic, "mac");
        OptDict *row = opt_dict_new();
        mac = mac != NULL ? mac : opt_dict_get(nic, "macaddr");
        opt_dict_set(row, "driver", "virtio-net-pci");
        opt_dict_set(row, "netdev", netdev);
        if (mac != NULL) {
            opt_dict_set(row, "mac", mac);
        }
        g_ptr_array_add(rows, row);
    }
}
