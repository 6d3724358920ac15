/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/hmp/hmp_complete.h"

#include <string.h>
#include "block/graph.h"
#include "util/trace.h"
#include "hw/chardev/chardev_set.h"

/* ---- names ---- */

void hmp_names_commands(Vm *vm, GPtrArray *names)
{
    for (const HmpCommand *const *table = hmp_command_tables; *table != NULL; table++) {
        for (const HmpCommand *c = *table; c->name != NULL; c++) {
            g_ptr_array_add(names, g_strndup(c->name, strcspn(c->name, " ")));
        }
    }
}

void hmp_names_devices(Vm *vm, GPtrArray *names)
{
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        const Device *dev = vm->machine.devices->pdata[i];
        if (dev->id != NULL) {
            g_ptr_array_add(names, g_strdup(dev->id));
        }
    }
}

void hmp_names_device_types(Vm *vm, GPtrArray *names)
{
    for (const DeviceType *const *type = device_type_all(); *type != NULL; type++) {
        if ((*type)->user_creatable) {
            g_ptr_array_add(names, g_strdup((*type)->name));
        }
    }
}

void hmp_names_disks(Vm *vm, GPtrArray *names)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        g_ptr_array_add(names, g_strdup(block_node_name(block_node_below_jobs(blk_root(list[i])))));
        g_ptr_array_add(names, g_strdup(blk_name(list[i])));
    }
}

static void hmp_name_chardev(const ChardevInfo *info, void *opaque)
{
    g_ptr_array_add(opaque, g_strdup(info->id));
}

void hmp_names_chardevs(Vm *vm, GPtrArray *names)
{
    chardev_foreach(hmp_name_chardev, names);
}

void hmp_names_objects(Vm *vm, GPtrArray *names)
{
    for (unsigned i = 1; i < vm->backends.iothreads->len; i++) { /* index 0 is the default one */
        g_ptr_array_add(names, g_strdup(iothread_id(vm->backends.iothreads->pdata[i])));
    }
    for (unsigned i = 0; i < vm->backends.memory_backends->len; i++) {
        const MemoryBackend *m = vm->backends.memory_backends->pdata[i];
        g_ptr_array_add(names, g_strdup(m->id));
    }
}

static void hmp_name_trace_event(const TraceEvent *event, void *opaque)
{
    g_ptr_array_add(opaque, g_strdup(event->name));
}

void hmp_names_trace_events(Vm *vm, GPtrArray *names)
{
    trace_foreach(hmp_name_trace_event, names);
}

/* ---- the words of a line ---- */

/* Keeps in @words only those that begin with @prefix, each once. */
static void hmp_keep_matching(GPtrArray *words, const char *prefix)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; i < words->len;) {
        char *word = words->pdata[i];
        if (g_str_has_prefix(word, prefix) && !g_hash_table_contains(seen, word)) {
            g_hash_table_add(seen, word);
            i++;
        } else {
            g_ptr_array_remove_index_fast(words, i);
        }
    }
}

/* Adds the next word of each command that begins with the words @before. */
static void hmp_complete_command(char *const *before, GPtrArray *words)
{
    unsigned count = g_strv_length((char **)(uintptr_t)before);
    for (const HmpCommand *const *table = hmp_command_tables; *table != NULL; table++) {
        for (const HmpCommand *c = *table; c->name != NULL; c++) {
            g_auto(GStrv) parts = g_strsplit(c->name, " ", -1);
            unsigned same = 0;
            while (same < count && parts[same] != NULL && strcmp(parts[same], before[same]) == 0) {
                same++;
            }
            if (same == count && parts[same] != NULL) {
                g_ptr_array_add(words, g_strdup(parts[same]));
            }
        }
    }
}

static RUNS_IN_MAIN void hmp_complete_argument(Vm *vm, const HmpCommand *c, const char *arguments,
                                               GPtrArray *words)
{
    g_auto(GStrv) given = g_strsplit_set(arguments, " \t", -1);
    unsigned index = 0;
    for (char **word = given; *word != NULL; word++) {
        index += (*word)[0] != '\0' && (*word)[0] != '-' && (*word)[0] != '/';
    }
    for (const HmpParam *p = c->params; p != NULL && p->name != NULL; p++) {
        if (p->kind == HMP_ARG_FLAG || p->kind == HMP_ARG_FORMAT || index-- > 0) {
            continue;
        }
        if (p->complete != NULL) {
            p->complete(vm, words);
        } else if (p->kind == HMP_ARG_SWITCH) {
            g_ptr_array_add(words, g_strdup("on"));
            g_ptr_array_add(words, g_strdup("off"));
        }
        return;
    }
}

size_t hmp_complete(Vm *vm, const char *text, GPtrArray *words)
{
    const char *last = text + strlen(text);
    while (last > text && last[-1] != ' ' && last[-1] != '\t') {
        last--;
    }
    g_autofree char *line = g_strstrip(g_strndup(text, (size_t)(last - text)));
    g_autoptr(GPtrArray) before = g_ptr_array_new();
    g_auto(GStrv) parts = g_strsplit_set(line, " \t", -1);
    for (char **part = parts; *part != NULL; part++) {
        if ((*part)[0] != '\0') {
            g_ptr_array_add(before, *part);
        }
    }
    g_ptr_array_add(before, NULL);
    hmp_complete_command((char *const *)before->pdata, words);
    const char *arguments;
    const HmpCommand *c = hmp_command_find(line, &arguments);
    if (words->len == 0 && c != NULL) {
        hmp_complete_argument(vm, c, arguments, words);
    }
    hmp_keep_matching(words, last);
    return (size_t)(last - text);
}
