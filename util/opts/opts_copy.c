/* SPDX-License-Identifier: Apache-2.0 */
/* Options of one struct for another one. */
#include <string.h>
#include "util/opts/opts.h"

void opts_copy(const OptSpec *specs, void *to, const void *from)
{
    static const size_t sizes[] = {[OPT_BOOL] = sizeof(bool),
                                   [OPT_U8] = 1,
                                   [OPT_U16] = 2,
                                   [OPT_U32] = 4,
                                   [OPT_U64] = 8,
                                   [OPT_SIZE] = 8,
                                   [OPT_ENUM] = sizeof(int)};
    for (const OptSpec *spec = specs; spec && spec->type != OPT_END; spec++) {
        void *field = (char *)to + spec->offset;
        const void *value = (const char *)from + spec->offset;
        if (spec->type == OPT_STRING) {
            *(char **)field = g_strdup(*(char *const *)value);
        } else if (spec->type == OPT_DICT) {
            OptDict *dict = *(OptDict *const *)value;
            *(OptDict **)field = dict ? opt_dict_copy(dict) : NULL;
        } else if (spec->type == OPT_STRLIST) {
            GPtrArray *list = *(GPtrArray *const *)value;
            *(GPtrArray **)field = list ? g_ptr_array_ref(list) : NULL;
        } else {
            memcpy(field, value, sizes[spec->type]);
        }
    }
}
