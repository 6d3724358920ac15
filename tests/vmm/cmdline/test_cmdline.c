/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: the effect of each option's value, of a repeated option, and that every option
 * of QEMU is either supported or refused by its own name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "vmm/config.h"

#define MAX_WORDS 64

/* Splits @text at blanks. */
static CmdlineResult parse(VmConfig *config, const char *text, GError **error)
{
    g_auto(GStrv) words = g_strsplit(text, " ", MAX_WORDS);
    char *argv[MAX_WORDS + 1] = {(char *)(uintptr_t) "skiff"};
    int argc = 1;
    for (unsigned i = 0; words[i] != NULL; i++) {
        argv[argc++] = words[i];
    }
    vm_config_init(config);
    return cmdline_parse(config, argc, argv, error);
}

static void parse_well(VmConfig *config, const char *text)
{
    g_autoptr(GError) error = NULL;
    if (parse(config, text, &error) != CMDLINE_RUN) {
        fail_msg("%s: %s", text, error != NULL ? error->message : "printed help");
    }
}

static void expect_accepted(const char *text)
{
    VmConfig config;
    parse_well(&config, text);
    vm_config_clear(&config);
}

static void expect_refused(const char *text, const char *says)
{
    VmConfig config;
    g_autoptr(GError) error = NULL;
    if (parse(&config, text, &error) != CMDLINE_ERROR) {
        fail_msg("%s was accepted", text);
    }
    if (strstr(error->message, says) == NULL) {
        fail_msg("%s: '%s' does not contain '%s'", text, error->message, says);
    }
    vm_config_clear(&config);
}

/* ---- repeated options ---- */

static void of_a_repeated_option_the_last_value_counts(void **state)
{
    VmConfig c;
    parse_well(&c, "-kernel a -append x -name one -m 128 -kernel b -append y -name two -m 256 "
                   "-cpu max -cpu host -smp 2 -smp 4 -pidfile p -pidfile q -D l -D m "
                   "-gdb tcp::1 -s -bios f -bios g -initrd i -initrd j");
    assert_string_equal(c.machine.kernel, "b");
    assert_string_equal(c.machine.append, "y");
    assert_string_equal(c.machine.name, "two");
    assert_string_equal(c.machine.cpu, "host");
    assert_string_equal(c.machine.smp, "4");
    assert_string_equal(c.process.pidfile, "q");
    assert_string_equal(c.process.log_file, "m");
    assert_string_equal(c.control.gdb, "tcp::1234");
    assert_string_equal(c.machine.bios, "g");
    assert_string_equal(c.machine.initrd, "j");
    assert_int_equal(c.machine.ram_size, 256 << 20);
    vm_config_clear(&c);
}

static void repeated_properties_add_up(void **state)
{
    VmConfig c;
    parse_well(&c, "-run-with chroot=/a -run-with user=u -run-with chroot=/b "
                   "-sandbox off -sandbox on,spawn=deny -machine memory-backend=m -machine q35 "
                   "-rtc base=localtime -rtc clock=host");
    assert_string_equal(opt_dict_get(c.process.run_with, "chroot"), "/b");
    assert_string_equal(opt_dict_get(c.process.run_with, "user"), "u");
    assert_string_equal(opt_dict_get(c.process.sandbox, "enable"), "on");
    assert_string_equal(opt_dict_get(c.process.sandbox, "spawn"), "deny");
    assert_string_equal(c.machine.memory, "m");
    assert_string_equal(c.machine.rtc_base, "localtime");
    vm_config_clear(&c);
}

static void lists_keep_all(void **state)
{
    VmConfig c;
    parse_well(&c, "-serial null -serial none -device a -device b -qmp stdio -trace x");
    assert_int_equal(c.backends.serials->len, 2);
    assert_int_equal(c.machine.devices->len, 2);
    vm_config_clear(&c);
}

/* ---- accelerators ---- */

static void kvm_is_used_wherever_it_is_listed(void **state)
{
    expect_accepted("-accel kvm -accel hvf -accel tcg");
    expect_accepted("-accel tcg,thread=multi -accel kvm");
    expect_accepted("-machine accel=kvm:tcg");
    expect_accepted("-machine q35,accel=tcg:kvm");
    expect_accepted("-machine q35,accel=kvm -enable-kvm");
    expect_accepted("-accel tcg -enable-kvm");
    expect_accepted("-accel kvm,kernel-irqchip=on,dirty-ring-size=0");
    expect_accepted("-m 2");
}

static void without_kvm_an_accelerator_is_refused(void **state)
{
    expect_refused("-accel tcg", "no accelerator 'tcg'");
    expect_refused("-accel hvf -accel tcg", "no accelerator 'hvf'");
    expect_refused("-machine accel=tcg:whpx", "no accelerator 'tcg'");
    expect_refused("-accel kvm:nothing", "no accelerator 'nothing'");
    expect_refused("-machine accel=kvm:nothing", "no accelerator 'nothing'");
    expect_refused("-accel kvm,kernel-irqchip=split", "kernel-irqchip=split");
    expect_refused("-accel kvm,thread=multi", "no option 'thread'");
    expect_refused("-accel ,thread=multi", "-accel");
}

/* ---- fixed values ---- */

static void the_fixed_value_is_accepted(void **state)
{
    expect_accepted("-machine q35,usb=off,vmport=off,smm=off,hpet=off,dump-guest-core=off,"
                    "mem-merge=no,kernel_irqchip=on,acpi=on,graphics=off,pit=on,sata=false");
    expect_accepted("-overcommit mem-lock=off,cpu-pm=off -no-hpet -no-fd-bootchk -no-user-config");
    expect_accepted("-rtc base=utc,clock=host,driftfix=none -vnc none -display none -vga none "
                    "-net none -nic none -parallel none -nodefaults");
    expect_accepted("-name guest=vm,debug-threads=on -m 1G,slots=0,maxmem=1G");
    expect_accepted("-mon chardev=c,mode=control,id=m");
}

static void any_other_value_is_refused_by_name(void **state)
{
    expect_refused("-machine q35,dump-guest-core=on", "dump-guest-core=on: skiff has no");
    expect_refused("-machine q35,hpet=on", "hpet=on: skiff has no HPET");
    expect_refused("-machine q35,usb=off,usb=on", "usb=on: skiff has no USB");
    expect_refused("-machine q35,smm=maybe", "smm=maybe");
    expect_refused("-overcommit mem-lock=on", "mem-lock=on");
    expect_refused("-overcommit cpu-pm=on", "cpu-pm=on");
    expect_refused("-rtc driftfix=slew", "driftfix=slew");
    expect_refused("-rtc clock=vm", "clock=vm");
    expect_refused("-name process=x", "process=x");
    expect_refused("-name x,debug-threads=off", "debug-threads=off");
    expect_refused("-m 1G,slots=2,maxmem=2G", "no memory hotplug");
    expect_refused("-vnc :1", "no display ':1'");
}

/* ---- -rtc ---- */

static void the_clock_starts_at_the_given_base(void **state)
{
    static const char *const bases[] = {"utc", "localtime", "2006-06-17T16:01:21", "2006-06-17",
                                        "2024-02-29"};
    for (unsigned i = 0; i < G_N_ELEMENTS(bases); i++) {
        g_autofree char *text = g_strdup_printf("-rtc base=%s", bases[i]);
        VmConfig c;
        parse_well(&c, text);
        assert_string_equal(c.machine.rtc_base, bases[i]);
        vm_config_clear(&c);
    }
}

static void a_base_that_is_no_date_is_refused(void **state)
{
    static const char *const bases[] = {
        "",           "now", "2006-02-30", "2006-06", "2006-06-17T25:00:00", "2006-06-17T16:01",
        "2006-06-17x"};
    for (unsigned i = 0; i < G_N_ELEMENTS(bases); i++) {
        g_autofree char *text = g_strdup_printf("-rtc base=%s", bases[i]);
        expect_refused(text, "must be utc, localtime, or a date");
    }
}

/* ---- disks ---- */

static void expect_disk(const VmConfig *c, unsigned at, const char *file, const char *index)
{
    const OptDict *d = c->backends.drives->pdata[at];
    assert_string_equal(opt_dict_get(d, "file"), file);
    assert_string_equal(opt_dict_get(d, "index"), index);
}

static void a_disk_may_be_a_bare_file_name(void **state)
{
    VmConfig c;
    parse_well(&c, "-hdb b,x=y disk.img -hdd d");
    assert_int_equal(c.backends.drives->len, 3);
    expect_disk(&c, 0, "b,x=y", "1");
    expect_disk(&c, 1, "disk.img", "0");
    expect_disk(&c, 2, "d", "3");
    vm_config_clear(&c);
    expect_refused("-hda", "needs an argument");
}

/* ---- -echr ---- */

static void the_escape_key_is_a_character_code(void **state)
{
    static const struct {
        const char *text;
        uint8_t code;
    } good[] = {{"-echr 1", 1}, {"-echr 0x14", 0x14}, {"-echr 024", 024}, {"-echr 255", 255}};
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        VmConfig c;
        parse_well(&c, good[i].text);
        assert_true(c.backends.escape_set);
        assert_int_equal(c.backends.escape, good[i].code);
        vm_config_clear(&c);
    }
    expect_refused("-echr 256", "from 0 to 255");
    expect_refused("-echr a", "from 0 to 255");
    expect_refused("-echr 1x", "from 0 to 255");
    expect_refused("-echr -1", "from 0 to 255");
}

/* ---- -smbios ---- */

static void smbios_sets_the_uuid_too(void **state)
{
    VmConfig c;
    parse_well(&c,
               "-smbios type=1,serial=a,,b,uuid=01234567-89ab-cdef-0123-456789abcdef "
               "-machine smbios-entry-point-type=64 -smbios type=11,value=x,value=y -machine q35");
    assert_string_equal(c.machine.uuid, "01234567-89ab-cdef-0123-456789abcdef");
    assert_int_equal(c.machine.smbios->len, 2);
    assert_string_equal(opt_dict_get(c.machine.smbios->pdata[0], "serial"), "a,b");
    assert_int_equal(c.machine.smbios_entry, 2);
    vm_config_clear(&c);
    expect_refused("-smbios type=1,uuid=1", "-smbios type=1,uuid=1: is no UUID");
    expect_refused("-smbios type=77", "-smbios type=77");
    expect_refused("-machine smbios-entry-point-type=16", "smbios-entry-point-type");
}

/* ---- -fw_cfg ---- */

static void fw_cfg_takes_a_file_or_a_string(void **state)
{
    VmConfig c;
    parse_well(&c, "-fw_cfg opt/a,string=x -fw_cfg name=opt/b,file=y");
    assert_int_equal(c.machine.fw_cfg->len, 2);
    assert_string_equal(opt_dict_get(c.machine.fw_cfg->pdata[0], "name"), "opt/a");
    assert_string_equal(opt_dict_get(c.machine.fw_cfg->pdata[1], "file"), "y");
    vm_config_clear(&c);
    expect_refused("-fw_cfg string=x", "name");
    expect_refused("-fw_cfg opt/a", "-fw_cfg: name=opt/a: needs either file= or string=");
    expect_refused("-fw_cfg opt/a,file=x,string=y", "either");
    expect_refused("-fw_cfg opt/a,gen_id=x", "gen_id=x");
    expect_refused("-fw_cfg opt/a,strin=x", "string");
    expect_refused("-fw_cfg opt/0123456789012345678901234567890123456789012345678901234,string=x",
                   "1 to 55 characters");
}

/* ---- QEMU's options ---- */

/* All of QEMU 7.2 and 10.0. */
static const char qemu_options[] =
    "h help version machine M cpu accel smp numa add-fd set global boot m mem-path mem-prealloc k "
    "audio-help audio audiodev device name uuid fda fdb hda hdb hdc hdd cdrom blockdev drive "
    "mtdblock sd snapshot fsdev virtfs iscsi usb usbdevice display nographic spice portrait rotate "
    "vga full-screen vnc win2k-hack no-fd-bootchk no-acpi no-hpet acpitable smbios netdev nic net "
    "chardev tpmdev bios pflash kernel append initrd dtb shim compat fw_cfg serial parallel "
    "monitor "
    "qmp qmp-pretty mon debugcon pidfile singlestep one-insn-per-tb preconfig S overcommit gdb s d "
    "D dfilter seed L enable-kvm xen-domid xen-attach xen-domid-restrict no-reboot no-shutdown "
    "action loadvm daemonize option-rom rtc icount watchdog-action echr incoming only-migratable "
    "nodefaults chroot runas run-with sandbox readconfig no-user-config trace plugin "
    "async-teardown msg dump-vmstate enable-sync-profile object g prom-env semihosting "
    "semihosting-config old-param qtest qtest-log perfmap jitdump tb-size enable-fips watchdog";

static void every_option_of_QEMU_is_known_by_name(void **state)
{
    g_auto(GStrv) names = g_strsplit(qemu_options, " ", 0);
    for (unsigned i = 0; names[i] != NULL; i++) {
        VmConfig config;
        g_autofree char *option = g_strconcat("-", names[i], NULL);
        char *argv[] = {(char *)(uintptr_t) "skiff", option};
        g_autoptr(GError) error = NULL;
        if (strcmp(names[i], "h") == 0 || strcmp(names[i], "help") == 0 ||
            strcmp(names[i], "version") == 0) {
            continue; /* these print */
        }
        vm_config_init(&config);
        if (cmdline_parse(&config, 2, argv, &error) == CMDLINE_ERROR &&
            strstr(error->message, option) == NULL) {
            fail_msg("%s: '%s' does not name it", option, error->message);
        }
        if (error != NULL && strstr(error->message, "unknown option") != NULL) {
            fail_msg("%s is unknown", option);
        }
        vm_config_clear(&config);
    }
}

static void an_option_that_QEMU_lacks_too_is_unknown(void **state)
{
    expect_refused("-no-such", "unknown option -no-such");
    expect_refused("--krenel x", "did you mean -kernel?");
}

static void late_timer_ticks_may_be_dropped(void **state)
{
    (void)state;
    VmConfig c;
    parse_well(&c, "-global kvm-pit.lost_tick_policy=discard");
    assert_true(c.machine.discard_late_ticks);
    vm_config_clear(&c);
    parse_well(&c, "-global driver=kvm-pit,property=lost_tick_policy,value=discard "
                   "-global kvm-pit.lost_tick_policy=delay");
    assert_false(c.machine.discard_late_ticks);
    vm_config_clear(&c);
    expect_refused("-global kvm-pit.lost_tick_policy=slew", "delay or discard");
    expect_refused("-global virtio-blk-pci.num-queues=4", "no such global property");
}

static void boot_options_are_merged_and_checked(void **state)
{
    VmConfig c;
    parse_well(&c,
               "-boot dc -boot once=n,menu=on,splash-time=500 -boot strict=on,reboot-timeout=-1");
    assert_string_equal(c.machine.boot.order, "dc");
    assert_string_equal(c.machine.boot.once, "n");
    assert_true(c.machine.boot.menu && c.machine.boot.strict);
    assert_int_equal(c.machine.boot.splash_time_ms, 500);
    assert_int_equal(c.machine.boot.reboot_timeout_ms, -1);
    vm_config_clear(&c);
    parse_well(&c, "-boot order=c -boot menu=off");
    assert_string_equal(c.machine.boot.order, "c");
    assert_int_equal(c.machine.boot.splash_time_ms, -1);
    assert_int_equal(c.machine.boot.reboot_timeout_ms, BOOT_TIMEOUT_UNSET);
    vm_config_clear(&c);
    expect_refused("-boot cc", "Boot device 'c' was given twice");
    expect_refused("-boot once=q", "Invalid boot device 'q'");
    expect_refused("-boot e", "Invalid boot device for PC: 'e'");
    expect_refused("-boot abcd", "Too many boot devices for PC");
    expect_refused("-boot c,splash=x", "no display");
    expect_refused("-boot c,reboot-timeout=65536", "reboot-timeout=65536");
    expect_refused("-boot c,splash-time=65536", "splash-time");
    expect_refused("-boot c,no-such=1", "no-such");
}

static void the_machine_may_lack_a_pit(void **state)
{
    (void)state;
    VmConfig c;
    parse_well(&c, "-machine pit=off -machine q35");
    assert_true(c.machine.no_pit);
    vm_config_clear(&c);
    parse_well(&c, "-machine pit=off -machine pit=auto");
    assert_false(c.machine.no_pit);
    vm_config_clear(&c);
    expect_refused("-machine pit=maybe", "pit=maybe");
}

static void a_watchdog_has_an_action(void **state)
{
    (void)state;
    VmConfig c;
    parse_well(&c, "-action reboot=shutdown");
    assert_int_equal(c.life.watchdog, WATCHDOG_RESET);
    vm_config_clear(&c);
    parse_well(&c, "-action watchdog=pause,panic=none -action watchdog=inject-nmi");
    assert_int_equal(c.life.watchdog, WATCHDOG_INJECT_NMI);
    assert_int_equal(c.life.panic, PANIC_NONE);
    vm_config_clear(&c);
    parse_well(&c, "-action watchdog=pause -action reboot=reset -watchdog-action poweroff");
    assert_int_equal(c.life.watchdog, WATCHDOG_POWEROFF);
    vm_config_clear(&c);
    expect_refused("-watchdog-action dance", "watchdog=dance");
    expect_refused("-watchdog i6300esb", "nearest is -device i6300esb");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_a_repeated_option_the_last_value_counts),
        cmocka_unit_test(repeated_properties_add_up),
        cmocka_unit_test(lists_keep_all),
        cmocka_unit_test(kvm_is_used_wherever_it_is_listed),
        cmocka_unit_test(without_kvm_an_accelerator_is_refused),
        cmocka_unit_test(the_fixed_value_is_accepted),
        cmocka_unit_test(any_other_value_is_refused_by_name),
        cmocka_unit_test(the_clock_starts_at_the_given_base),
        cmocka_unit_test(a_base_that_is_no_date_is_refused),
        cmocka_unit_test(late_timer_ticks_may_be_dropped),
        cmocka_unit_test(a_watchdog_has_an_action),
        cmocka_unit_test(the_machine_may_lack_a_pit),
        cmocka_unit_test(a_disk_may_be_a_bare_file_name),
        cmocka_unit_test(the_escape_key_is_a_character_code),
        cmocka_unit_test(smbios_sets_the_uuid_too),
        cmocka_unit_test(fw_cfg_takes_a_file_or_a_string),
        cmocka_unit_test(every_option_of_QEMU_is_known_by_name),
        cmocka_unit_test(an_option_that_QEMU_lacks_too_is_unknown),
        cmocka_unit_test(boot_options_are_merged_and_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
