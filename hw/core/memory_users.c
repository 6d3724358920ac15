/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/memory_users.h"

struct MemoryQuiet {
    unsigned users;
};

static MemoryQuiet memory_now;
static const char *memory_newest; /* for the message */

void memory_user_begin(const char *name)
{
    memory_now.users++;
    memory_newest = name;
}

void memory_user_end(const char *name)
{
    if (memory_now.users == 0) {
        bug_abort("%s ends its use of guest memory, which nobody uses", name);
    }
    memory_now.users--;
}

unsigned memory_users(void)
{
    return memory_now.users;
}

const MemoryQuiet *memory_quiet(void)
{
    if (memory_now.users != 0) {
        bug_abort("the VM counts as stopped while %s accesses guest memory", memory_newest);
    }
    return &memory_now;
}
