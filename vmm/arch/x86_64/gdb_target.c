/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers for gdb, in one table from which the target description is generated. The names are
 * those of gdb's own 64-bit descriptions and of QEMU, since scripts (such as the kernel's lx-*
 * commands) use them.
 *
 * The description is always the 64-bit one, in every mode of the vCPU: gdb cannot change it while
 * connected.
 */
#include "vmm/arch/x86_64/gdb_registers_int.h"

#define X86_REGS(name_, type_, field, size_)                                                       \
    {                                                                                              \
        .name = name_, .type = type_, .size = size_, .offset = offsetof(X86State, regs.field),     \
        .changed = offsetof(X86State, regs_changed)                                                \
    }
#define X86_GENERAL(name) X86_REGS(#name, "int64", name, 8)
#define X86_SEGMENT(name_)                                                                         \
    {                                                                                              \
        .name = #name_, .type = "int32", .size = 4, .kind = X86_SELECTOR,                          \
        .offset = offsetof(X86State, sregs.name_), .changed = offsetof(X86State, sregs_changed)    \
    }
#define X86_SYSTEM(name_, type_, field)                                                            \
    {                                                                                              \
        .name = name_, .type = type_, .group = "system", .size = 8,                                \
        .offset = offsetof(X86State, sregs.field), .changed = offsetof(X86State, sregs_changed)    \
    }
#define X86_FPU(name_, type_, group_, field, size_, stored_)                                       \
    {                                                                                              \
        .name = name_, .type = type_, .group = group_, .size = size_, .stored = stored_,           \
        .offset = offsetof(X86State, fpu.field), .changed = offsetof(X86State, fpu_changed)        \
    }
#define X86_ST(n) X86_FPU("st" #n, "i387_ext", NULL, fpr[n], 10, 10)
#define X86_XMM(n) X86_FPU("xmm" #n, "vec128", NULL, xmm[n], 16, 16)
#define X86_SPECIAL(name_, kind_)                                                                  \
    {                                                                                              \
        .name = name_, .type = "int", .group = "float", .size = 4, .kind = kind_,                  \
        .changed = offsetof(X86State, fpu_changed)                                                 \
    }

static const X86Register x86_core[] = {
    X86_GENERAL(rax),
    X86_GENERAL(rbx),
    X86_GENERAL(rcx),
    X86_GENERAL(rdx),
    X86_GENERAL(rsi),
    X86_GENERAL(rdi),
    X86_REGS("rbp", "data_ptr", rbp, 8),
    X86_REGS("rsp", "data_ptr", rsp, 8),
    X86_GENERAL(r8),
    X86_GENERAL(r9),
    X86_GENERAL(r10),
    X86_GENERAL(r11),
    X86_GENERAL(r12),
    X86_GENERAL(r13),
    X86_GENERAL(r14),
    X86_GENERAL(r15),
    X86_REGS("rip", "code_ptr", rip, 8),
    X86_REGS("eflags", "i386_eflags", rflags, 4),
    X86_SEGMENT(cs),
    X86_SEGMENT(ss),
    X86_SEGMENT(ds),
    X86_SEGMENT(es),
    X86_SEGMENT(fs),
    X86_SEGMENT(gs),
    X86_ST(0),
    X86_ST(1),
    X86_ST(2),
    X86_ST(3),
    X86_ST(4),
    X86_ST(5),
    X86_ST(6),
    X86_ST(7),
    X86_FPU("fctrl", "int", "float", fcw, 4, 2),
    X86_FPU("fstat", "int", "float", fsw, 4, 2),
    X86_SPECIAL("ftag", X86_FTAG),
    X86_SPECIAL("fiseg", X86_FISEG),
    X86_FPU("fioff", "int", "float", last_ip, 4, 4),
    X86_SPECIAL("foseg", X86_FOSEG),
    X86_FPU("fooff", "int", "float", last_dp, 4, 4),
    X86_FPU("fop", "int", "float", last_opcode, 4, 2),
};

static const X86Register x86_sse[] = {
    X86_XMM(0),
    X86_XMM(1),
    X86_XMM(2),
    X86_XMM(3),
    X86_XMM(4),
    X86_XMM(5),
    X86_XMM(6),
    X86_XMM(7),
    X86_XMM(8),
    X86_XMM(9),
    X86_XMM(10),
    X86_XMM(11),
    X86_XMM(12),
    X86_XMM(13),
    X86_XMM(14),
    X86_XMM(15),
    X86_FPU("mxcsr", "i386_mxcsr", "vector", mxcsr, 4, 4),
};

static const X86Register x86_segments[] = {
    X86_SYSTEM("fs_base", "int64", fs.base),
    X86_SYSTEM("gs_base", "int64", gs.base),
};

static const X86Register x86_system[] = {
    {.name = "k_gs_base",
     .type = "int64",
     .group = "system",
     .size = 8,
     .offset = offsetof(X86State, kernel_gs_base),
     .changed = offsetof(X86State, kernel_gs_base_changed)},
    X86_SYSTEM("cr0", "x64_cr0", cr0),
    X86_SYSTEM("cr2", "int64", cr2),
    X86_SYSTEM("cr3", "int64", cr3),
    X86_SYSTEM("cr4", "x64_cr4", cr4),
    X86_SYSTEM("cr8", "int64", cr8),
    X86_SYSTEM("efer", "x64_efer", efer),
};

/* A field of a register: one bit, or several from `bit` on. */
typedef struct X86Flag {
    const char *name;
    unsigned bit, bits;
} X86Flag;

static const X86Flag x86_eflags_flags[] = {
    {"CF", 0, 1},    {"", 1, 1},     {"PF", 2, 1},  {"AF", 4, 1},  {"ZF", 6, 1},
    {"SF", 7, 1},    {"TF", 8, 1},   {"IF", 9, 1},  {"DF", 10, 1}, {"OF", 11, 1},
    {"IOPL", 12, 2}, {"NT", 14, 1},  {"RF", 16, 1}, {"VM", 17, 1}, {"AC", 18, 1},
    {"VIF", 19, 1},  {"VIP", 20, 1}, {"ID", 21, 1}, {0},
};
static const X86Flag x86_mxcsr_flags[] = {
    {"IE", 0, 1},  {"DE", 1, 1},  {"ZE", 2, 1},  {"OE", 3, 1},  {"UE", 4, 1},
    {"PE", 5, 1},  {"DAZ", 6, 1}, {"IM", 7, 1},  {"DM", 8, 1},  {"ZM", 9, 1},
    {"OM", 10, 1}, {"UM", 11, 1}, {"PM", 12, 1}, {"FZ", 15, 1}, {0},
};
static const X86Flag x86_cr0_flags[] = {
    {"PE", 0, 1},  {"MP", 1, 1},  {"EM", 2, 1},  {"TS", 3, 1},  {"ET", 4, 1},  {"NE", 5, 1},
    {"WP", 16, 1}, {"AM", 18, 1}, {"NW", 29, 1}, {"CD", 30, 1}, {"PG", 31, 1}, {0},
};
static const X86Flag x86_cr4_flags[] = {
    {"VME", 0, 1},         {"PVI", 1, 1},
    {"TSD", 2, 1},         {"DE", 3, 1},
    {"PSE", 4, 1},         {"PAE", 5, 1},
    {"MCE", 6, 1},         {"PGE", 7, 1},
    {"PCE", 8, 1},         {"OSFXSR", 9, 1},
    {"OSXMMEXCPT", 10, 1}, {"UMIP", 11, 1},
    {"LA57", 12, 1},       {"VMXE", 13, 1},
    {"SMXE", 14, 1},       {"FSGSBASE", 16, 1},
    {"PCIDE", 17, 1},      {"OSXSAVE", 18, 1},
    {"SMEP", 20, 1},       {"SMAP", 21, 1},
    {"PKE", 22, 1},        {0},
};
static const X86Flag x86_efer_flags[] = {
    {"SCE", 0, 1}, {"LME", 8, 1}, {"LMA", 10, 1}, {"NXE", 11, 1}, {"SVME", 12, 1}, {0},
};

static const struct X86FlagsType {
    const char *id;
    unsigned size;
    const X86Flag *flags;
} x86_core_types[] = {{"i386_eflags", 4, x86_eflags_flags}, {0}},
  x86_sse_types[] = {{"i386_mxcsr", 4, x86_mxcsr_flags}, {0}},
  x86_system_types[] = {{"x64_cr0", 8, x86_cr0_flags},
                        {"x64_cr4", 8, x86_cr4_flags},
                        {"x64_efer", 8, x86_efer_flags},
                        {0}};

static const char x86_vec128_type[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
    "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
    "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
    "<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
    "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>";

static const struct X86Feature {
    const char *name;
    const X86Register *registers;
    unsigned count;
    const struct X86FlagsType *flags;
    const char *types;
} x86_features[] = {
    {"org.gnu.gdb.i386.core", x86_core, G_N_ELEMENTS(x86_core), x86_core_types, ""},
    {"org.gnu.gdb.i386.sse", x86_sse, G_N_ELEMENTS(x86_sse), x86_sse_types, x86_vec128_type},
    {"org.gnu.gdb.i386.segments", x86_segments, G_N_ELEMENTS(x86_segments), NULL, ""},
    {"org.skiff.x86.system", x86_system, G_N_ELEMENTS(x86_system), x86_system_types, ""},
};

/* ---- the description ---- */

static void x86_put_flags_type(GString *s, const struct X86FlagsType *type)
{
    g_string_append_printf(s, "<flags id=\"%s\" size=\"%u\">", type->id, type->size);
    for (const X86Flag *f = type->flags; f->name != NULL; f++) {
        g_string_append_printf(s, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>", f->name, f->bit,
                               f->bit + f->bits - 1);
    }
    g_string_append(s, "</flags>\n");
}

static void x86_put_feature(GString *s, const struct X86Feature *feature)
{
    g_string_append_printf(s, "<feature name=\"%s\">\n%s", feature->name, feature->types);
    for (const struct X86FlagsType *t = feature->flags; t != NULL && t->id != NULL; t++) {
        x86_put_flags_type(s, t);
    }
    for (unsigned i = 0; i < feature->count; i++) {
        const X86Register *r = &feature->registers[i];
        g_string_append_printf(s, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"", r->name,
                               r->size * 8u, r->type);
        if (r->group != NULL) {
            g_string_append_printf(s, " group=\"%s\"", r->group);
        }
        g_string_append(s, "/>\n");
    }
    g_string_append(s, "</feature>\n");
}

const char *arch_gdb_target_xml(void)
{
    static char *xml;
    if (xml == NULL) {
        GString *s = g_string_new("<?xml version=\"1.0\"?>\n"
                                  "<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
                                  "<target><architecture>i386:x86-64</architecture>\n");
        for (unsigned i = 0; i < G_N_ELEMENTS(x86_features); i++) {
            x86_put_feature(s, &x86_features[i]);
        }
        g_string_append(s, "</target>\n");
        xml = g_string_free(s, false);
    }
    return xml;
}

const X86Register *x86_gdb_register(unsigned number)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(x86_features); i++) {
        if (number < x86_features[i].count) {
            return &x86_features[i].registers[number];
        }
        number -= x86_features[i].count;
    }
    return NULL;
}

unsigned arch_gdb_register_count(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(x86_features); i++) {
        count += x86_features[i].count;
    }
    return count;
}

size_t arch_gdb_register_size(unsigned number)
{
    return x86_gdb_register(number)->size;
}
