/* SPDX-License-Identifier: Apache-2.0 */
/* -restore: which saved options stay, where their files are, and which files are none. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vmm/config.h"
#include "vmm/cmdline/restore_args.h"

#define SAVED "/saved"

/* The merged command line, its words separated by blanks; or the error. @saved: "NAME VALUE" or "NAME", separated
 * by '|'. */
static char *merged(const char *saved, const char *user, const char *now)
{
    g_autoptr(GPtrArray) options =
        g_ptr_array_new_with_free_func((GDestroyNotify)config_option_free);
    g_auto(GStrv) rows = g_strsplit(saved, "|", 0);
    for (unsigned i = 0; rows[i] != NULL; i++) {
        g_auto(GStrv) words = g_strsplit(rows[i], " ", 2);
        g_ptr_array_add(options, config_option_new(words[0], words[1]));
    }
    g_auto(GStrv) argv = g_strsplit(user, " ", 0);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) all =
        restore_args_merge((int)g_strv_length(argv), argv, options, SAVED, now, &error);
    return all != NULL ? g_strjoinv(" ", all) : g_strdup(error->message);
}

static void assert_merged(const char *saved, const char *user, const char *expected)
{
    g_autofree char *all = merged(saved, user, SAVED);
    assert_string_equal(all, expected);
}

static void saved_options_come_first(void **state)
{
    assert_merged("m 64|nographic", "skiff -restore s", "skiff -m 64 -nographic -restore s");
    assert_merged("m 64", "skiff -S --restore s -qmp stdio",
                  "skiff -m 64 -S --restore s -qmp stdio");
}

static void options_that_are_given_anew_replace_the_saved(void **state)
{
    assert_merged("serial a|serial b|m 64", "skiff -restore s -serial c",
                  "skiff -m 64 -restore s -serial c");
    assert_merged("chardev file,id=a,path=x|chardev null,id=b",
                  "skiff -restore s -chardev null,id=a",
                  "skiff -chardev null,id=b -restore s -chardev null,id=a");
    assert_merged("drive file=x,id=d|drive file=y", "skiff -restore s -drive file=z,id=d",
                  "skiff -drive file=y -restore s -drive file=z,id=d");
    assert_merged("blockdev {\"driver\":\"file\",\"node-name\":\"n\",\"filename\":\"x\"}",
                  "skiff -restore s -blockdev file,node-name=n,filename=y",
                  "skiff -restore s -blockdev file,node-name=n,filename=y");
    assert_merged("machine q35", "skiff -M q35,pflash0=x -restore s",
                  "skiff -M q35,pflash0=x -restore s");
    /* Not the same, or without an id. */
    assert_merged("netdev user,id=a", "skiff -restore s -netdev user,id=b",
                  "skiff -netdev user,id=a -restore s -netdev user,id=b");
    assert_merged("device e,id=a", "skiff -restore s -device e",
                  "skiff -device e,id=a -restore s -device e");
}

static bool wanted(const char *user)
{
    g_auto(GStrv) argv = g_strsplit(user, " ", 0);
    return restore_args_wanted((int)g_strv_length(argv), argv);
}

static void words_that_are_arguments_are_no_options(void **state)
{
    assert_merged("serial a|m 64", "skiff -append -serial -restore s",
                  "skiff -serial a -m 64 -append -serial -restore s");
    assert_merged("m 64", "skiff -name -restore -restore s",
                  "skiff -m 64 -name -restore -restore s");
    assert_merged("m 64", "skiff -restore -m", "skiff -m 64 -restore -m");
    assert_merged("hda a|hdb b", "skiff c -restore s", "skiff -hdb b c -restore s");
    assert_false(wanted("skiff -append -restore -name x"));
    assert_true(wanted("skiff -append x --restore x"));
}

static void a_command_needs_the_port_of_its_agent(void **state)
{
    assert_merged("m 64|exec-port", "skiff -restore s -exec x",
                  "skiff -m 64 -exec-port -restore s -exec x");
    assert_merged("m 64|exec-port", "skiff -restore s", "skiff -m 64 -exec-port -restore s");
    assert_merged("m 64|exec x", "skiff -restore s", "skiff -m 64 -exec-port -restore s");
    assert_merged("m 64", "skiff -restore s -exec x",
                  "-exec: the saved machine has no port for it: save one that was started with "
                  "-exec-port");
}

static void a_clone_has_consoles_of_its_own(void **state)
{
    assert_merged("serial file:x|serial pty|serial stdio|debugcon file:y", "skiff -clone s",
                  "skiff -serial null -serial null -serial stdio -debugcon null -clone s");
    assert_merged("serial unix:p,server=on|serial tcp:h:1|serial chardev:c|serial none|serial bad",
                  "skiff -clone s",
                  "skiff -serial null -serial tcp:h:1 -serial chardev:c -serial none -serial bad "
                  "-clone s");
    assert_merged("chardev socket,id=a,path=p,server=on,wait=off|chardev file,id=b,path=f,mux=on",
                  "skiff -clone s", "skiff -chardev null,id=a -chardev null,id=b,mux=on -clone s");
    assert_merged("chardev socket,id=a,path=p|chardev null,id=b|chardev stdio,id=c|chardev file",
                  "skiff -clone s",
                  "skiff -chardev socket,id=a,path=p -chardev null,id=b -chardev stdio,id=c "
                  "-chardev file -clone s");
    assert_merged("chardev {\"backend\":\"file\",\"id\":\"a\",\"path\":\"f\"}", "skiff -clone s",
                  "skiff -chardev null,id=a -clone s");
    assert_merged("serial file:x", "skiff -restore s", "skiff -serial file:x -restore s");
    assert_merged("serial file:x", "skiff -clone s -serial file:y",
                  "skiff -clone s -serial file:y");
}

/* Each clone would empty the file that the template, and other clones, write. */
static void a_clone_writes_no_log_of_the_template(void **state)
{
    assert_merged(
        "chardev socket,id=a,path=p,logfile=l,,1,logappend=on|chardev null,logfile=l,id=b",
        "skiff -clone s", "skiff -chardev socket,id=a,path=p -chardev null,id=b -clone s");
    assert_merged(
        "chardev stdio,id=a,logfile=l,logtimestamp=on,logappend,mux=on|chardev "
        "null,id=b,logfiles=x,a=logfile",
        "skiff -clone s",
        "skiff -chardev stdio,id=a,mux=on -chardev null,id=b,logfiles=x,a=logfile -clone s");
    assert_merged(
        "chardev {\"backend\":\"socket\",\"path\":\"p,q\",\"id\":\"a\",\"logfile\":\"l\"}",
        "skiff -clone s", "skiff -chardev backend=socket,path=p,,q,id=a -clone s");
    assert_merged("serial mon:stdio,logfile=l|serial tcp:h:1,logfile=l,reconnect=1|debugcon "
                  "null,logfile=l,logappend=on",
                  "skiff -clone s",
                  "skiff -serial mon:stdio -serial tcp:h:1,reconnect=1 -debugcon null -clone s");
    assert_merged("chardev stdio,id=a,logfile=l|serial null,logfile=l", "skiff -restore s",
                  "skiff -chardev stdio,id=a,logfile=l -serial null,logfile=l -restore s");
    assert_merged("chardev stdio,id=a,logfile=l", "skiff -clone s -chardev stdio,id=a,logfile=m",
                  "skiff -clone s -chardev stdio,id=a,logfile=m");
}

static void standard_streams_are_the_commands(void **state)
{
    assert_merged("exec-port|serial mon:stdio|chardev stdio,id=c", "skiff -restore s -exec x",
                  "skiff -exec-port -serial null -chardev null,id=c -restore s -exec x");
    assert_merged("exec-port|serial stdio", "skiff -restore s",
                  "skiff -exec-port -serial stdio -restore s");
}

static void a_clone_is_another_machine(void **state)
{
    assert_merged("device vmgenid,guid=00112233-4455-6677-8899-aabbccddeeff,id=g|device x,id=y",
                  "skiff -clone s",
                  "skiff -device driver=vmgenid,id=g,guid=auto -device x,id=y -clone s");
    assert_merged("device {\"driver\":\"vmgenid\"}", "skiff -clone s",
                  "skiff -device driver=vmgenid,guid=auto -clone s");
    assert_merged("device vmgenid,guid=x,id=g", "skiff -restore s",
                  "skiff -device vmgenid,guid=x,id=g -restore s");
    assert_merged("device vmgenid,guid=x,id=g", "skiff -clone s -device vmgenid,guid=y,id=g",
                  "skiff -clone s -device vmgenid,guid=y,id=g");
    assert_merged("device vhost-vsock-pci,guest-cid=3,id=a,,b", "skiff -clone s,cid=77",
                  "skiff -device driver=vhost-vsock-pci,id=a,,b,guest-cid=77 -clone s,cid=77");
    assert_merged("device vhost-vsock-pci,guest-cid=3", "skiff -clone s,mac=random",
                  "skiff -device vhost-vsock-pci,guest-cid=3 -clone s,mac=random");
    assert_merged("m 64", "skiff -clone s,cid=77",
                  "cid=77: the saved machine has no vhost-vsock-pci");
}

#define BINDS                                                                                      \
    " binds a port or path of the host, which only one machine can have: give -%s anew%s, with "   \
    "another one or without"

/* A clone refuses the saved option, and says @why after it; a restore keeps it. */
static void assert_only_restored(const char *name, const char *value, const char *why)
{
    g_autofree char *saved = g_strdup_printf("%s %s", name, value);
    g_autofree char *says = g_strdup_printf("the saved option -%s %s%s", name, value, why);
    g_autofree char *kept = g_strdup_printf("skiff -%s %s -restore s", name, value);
    assert_merged(saved, "skiff -clone s", says);
    assert_merged(saved, "skiff -restore s", kept);
}

static void assert_binds(const char *name, const char *value, const char *with)
{
    g_autofree char *why = g_strdup_printf(BINDS, name, with);
    assert_only_restored(name, value, why);
}

static void what_clones_cannot_share_is_refused_by_name(void **state)
{
    assert_binds("netdev", "user,id=n,hostfwd=tcp::1-:1", " with the same id");
    assert_binds("nic", "user,hostfwd=tcp::1-:1", "");
    assert_binds("netdev", "stream,id=n,server=on,addr.type=unix,addr.path=x", " with the same id");
    assert_binds("netdev", "dgram,id=n,local.type=inet,local.port=1", " with the same id");
    assert_binds("netdev", "socket,id=n,listen=:1", " with the same id");
    assert_merged("netdev user,id=n,hostfwd=tcp::1-:1", "skiff -clone s -netdev user,id=n",
                  "skiff -clone s -netdev user,id=n");
    assert_merged("netdev stream,id=n,server=off,addr.type=unix,addr.path=x", "skiff -clone s",
                  "skiff -netdev stream,id=n,server=off,addr.type=unix,addr.path=x -clone s");
}

#define OUTSIDE                                                                                    \
    " has its data in another process, which cannot make it private to a clone: give -%s anew%s"

static void assert_outside(const char *name, const char *value, const char *with)
{
    g_autofree char *why = g_strdup_printf(OUTSIDE, name, with);
    assert_only_restored(name, value, why);
}

static void data_of_other_processes_is_refused_by_name(void **state)
{
    static const char own[] =
        " with the same id, and its -chardev, with a back end of the clone's own";
    assert_outside("device", "vhost-user-blk-pci,id=d,chardev=c", own);
    assert_outside("device", "vhost-user-fs-pci,id=d,chardev=c,tag=t", own);
    assert_outside("virtiofs", "tag=t,path=/d", ", with a folder that the clone may have");
    assert_merged(
        "device vhost-user-blk-pci,id=d,chardev=c|virtiofs tag=t,path=/d",
        "skiff -clone s -device vhost-user-blk-pci,id=d,chardev=x -virtiofs tag=t,path=/e",
        "skiff -clone s -device vhost-user-blk-pci,id=d,chardev=x -virtiofs tag=t,path=/e");
}

/* What a hostile file may have. */
static void options_that_are_no_machines_are_refused(void **state)
{
    static const char *const process[] = {"qmp tcp::4444",
                                          "D /x",
                                          "pidfile /x",
                                          "sandbox off",
                                          "run-with user=root",
                                          "daemonize",
                                          "restore x",
                                          "loadstate x",
                                          "monitor pty",
                                          "gdb tcp::1",
                                          "notify unix:/x",
                                          "trace *",
                                          "timeout 1",
                                          "s",
                                          "mon chardev=x",
                                          "msg timestamp=on",
                                          "qmp-pretty pty",
                                          "clone x",
                                          "snapshot-at READY,file=x"};
    for (unsigned i = 0; i < G_N_ELEMENTS(process); i++) {
        g_autofree char *saved = g_strconcat("m 64|", process[i], NULL);
        g_autofree char *says = g_strdup_printf(
            "the saved option -%s is no machine's: the user gives it, and no file", process[i]);
        assert_merged(saved, "skiff -restore s", says);
    }
    assert_merged("nographic -daemonize", "skiff -restore s",
                  "the saved option -nographic -daemonize takes no argument");
    assert_merged("append|qmp stdio", "skiff -restore s",
                  "the saved option -append lacks its argument");
    assert_merged("device help", "skiff -restore s", "the saved option -device help asks for help");
    assert_merged("help", "skiff -restore s", "the saved option -help is none that this skiff has");
    assert_merged("-qmp stdio", "skiff -restore s",
                  "the saved option --qmp stdio is none that this skiff has");
    assert_merged("readconfig x", "skiff -restore s",
                  "the saved option -readconfig x is none that this skiff has");
}

#define RUNS "runs a program of the host: give the option yourself, with the same id"

static void programs_are_not_run_for_a_file(void **state)
{
    assert_merged("netdev tap,id=n,script=/x", "skiff -restore s",
                  "the saved option -netdev tap,id=n,script=/x " RUNS);
    assert_merged("netdev tap,id=n,downscript=x", "skiff -restore s",
                  "the saved option -netdev tap,id=n,downscript=x " RUNS);
    assert_merged(
        "netdev user,id=n,hostfwd=tcp::1-:1,guestfwd=tcp:10.0.2.9:1-cmd:x", "skiff -restore s",
        "the saved option -netdev user,id=n,hostfwd=tcp::1-:1,guestfwd=tcp:10.0.2.9:1-cmd:x " RUNS);
    assert_merged("nic tap,helper=x", "skiff -restore s",
                  "the saved option -nic tap,helper=x " RUNS);
    assert_merged(
        "netdev {\"type\":\"tap\",\"id\":\"n\",\"script\":\"x\"}", "skiff -restore s",
        "the saved option -netdev {\"type\":\"tap\",\"id\":\"n\",\"script\":\"x\"} " RUNS);
    assert_merged("netdev tap,id=n,script=no,downscript=no", "skiff -restore s",
                  "skiff -netdev tap,id=n,script=no,downscript=no -restore s");
    assert_merged("netdev tap,id=n,script=/x", "skiff -restore s -netdev tap,id=n,script=/y",
                  "skiff -restore s -netdev tap,id=n,script=/y");
}

static void assert_located(const char *name, const char *value, const char *expected)
{
    g_autofree char *located = restore_args_locate(name, value, SAVED);
    assert_string_equal(located, expected);
}

static void relative_paths_are_those_of_the_saved_directory(void **state)
{
    assert_located("kernel", "a/b", "/saved/a/b");
    assert_located("kernel", "/a/b", "/a/b");
    assert_located("append", "file=x", "file=x");
    assert_located("drive", "file=a,,b.img,id=x", "file=/saved/a,,b.img,id=x");
    assert_located("drive", "id=x,file=/a", "id=x,file=/a");
    assert_located("drive", "file=nbd:unix:/s", "file=nbd:unix:/s");
    assert_located("drive", "file=file:a", "file=/saved/a");
    assert_located("blockdev", "driver=qcow2,node-name=n,file.driver=file,file.filename=x",
                   "driver=qcow2,node-name=n,file.driver=file,file.filename=/saved/x");
    assert_located(
        "blockdev", "{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"x\"}}",
        "{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": \"/saved/x\"}}");
    assert_located("blockdev", "{\"driver\":", "{\"driver\":");
    assert_located("device", "virtio-net-pci,romfile=r,id=x",
                   "virtio-net-pci,romfile=/saved/r,id=x");
    assert_located("device", "virtio-net-pci,romfile=", "virtio-net-pci,romfile=");
    assert_located("virtiofs", "tag=t,path=d", "tag=t,path=/saved/d");
    assert_located("fw_cfg", "opt/x,file=a:b", "opt/x,file=/saved/a:b");
    assert_located("smbios", "type=11,path=f", "type=11,path=/saved/f");
    assert_located("object", "tls-creds-x509,id=t,dir=d", "tls-creds-x509,id=t,dir=/saved/d");
    assert_located("hda", "a", "/saved/a");
    assert_located("hda", "nbd://h/x", "nbd://h/x");
    assert_located("hda", "nbd+unix:///x?socket=s", "nbd+unix:///x?socket=/saved/s");
    assert_located("hda", "nbd+unix:///x?socket=/s", "nbd+unix:///x?socket=/s");
    assert_located("hda", "nbd+unix:///x?socket=%2Fs", "nbd+unix:///x?socket=%2Fs");
    assert_located("hda", "nbd+tcp://h/x?socket=s", "nbd+tcp://h/x?socket=s");
    assert_located("drive", "file=nbd:unix:s:exportname=x", "file=nbd:unix:/saved/s:exportname=x");
    assert_located("drive", "file=json:{\"driver\":\"raw\",,\"file\":{\"filename\":\"x\"}}",
                   "file=json:{\"driver\": \"raw\",, \"file\": {\"filename\": \"/saved/x\"}}");
}

/* file= of a node is the name of another node. */
static void names_of_nodes_are_no_paths(void **state)
{
    assert_located("blockdev", "qcow2,node-name=n,file=f0", "qcow2,node-name=n,file=f0");
    assert_located("blockdev", "{\"driver\": \"raw\", \"file\": \"f0\"}",
                   "{\"driver\": \"raw\", \"file\": \"f0\"}");
    assert_located("drive", "driver=qcow2,file.driver=raw,file.file=f0,id=d",
                   "driver=qcow2,file.driver=raw,file.file=f0,id=d");
    assert_located("machine", "q35,memory-backend=m", "q35,memory-backend=m");
}

static void paths_of_chardevs_are_those_of_the_saved_directory(void **state)
{
    assert_located("chardev", "file,id=d,path=rel.log", "file,id=d,path=/saved/rel.log");
    assert_located("chardev", "socket,id=d,path=a:b,logfile=l,,1",
                   "socket,id=d,path=/saved/a:b,logfile=/saved/l,,1");
    assert_located("chardev", "socket,id=d,path=/s,logfile=/l", "socket,id=d,path=/s,logfile=/l");
    assert_located("chardev", "socket,id=d,path=name,abstract=on",
                   "socket,id=d,path=name,abstract=on");
    assert_located("chardev", "socket,id=d,path=s,abstract=off",
                   "socket,id=d,path=/saved/s,abstract=off");
    assert_located("chardev", "{\"backend\": \"file\", \"path\": \"x\"}",
                   "{\"backend\": \"file\", \"path\": \"/saved/x\"}");
    assert_located("serial", "file:a,,b", "file:/saved/a,,b");
    assert_located("serial", "file:/a", "file:/a");
    assert_located("serial", "mon:unix:s,server=on,logfile=l",
                   "mon:unix:/saved/s,server=on,logfile=/saved/l");
    assert_located("serial", "unix:name,abstract=on", "unix:name,abstract=on");
    assert_located("serial", "mon:stdio,logfile=l", "mon:stdio,logfile=/saved/l");
    assert_located("serial", "tcp:h:1,logfile=l", "tcp:h:1,logfile=/saved/l");
    assert_located("serial", "chardev:c", "chardev:c");
    assert_located("serial", "file:", "file:");
    assert_located("serial", "null", "null");
    assert_located("debugcon", "file:d", "file:/saved/d");
}

static void paths_of_networks_are_those_of_the_saved_directory(void **state)
{
    assert_located("netdev", "stream,id=n,addr.type=unix,addr.path=s",
                   "stream,id=n,addr.type=unix,addr.path=/saved/s");
    assert_located("netdev", "dgram,id=n,local.path=a,local.abstract=on,remote.path=b",
                   "dgram,id=n,local.path=a,local.abstract=on,remote.path=/saved/b");
    assert_located(
        "netdev", "{\"type\": \"stream\", \"addr\": {\"type\": \"unix\", \"path\": \"s\"}}",
        "{\"type\": \"stream\", \"addr\": {\"type\": \"unix\", \"path\": \"/saved/s\"}}");
    assert_located("netdev", "{\"addr\": {\"path\": \"s\", \"abstract\": true}}",
                   "{\"addr\": {\"path\": \"s\", \"abstract\": true}}");
    assert_located("nic", "user,tftp=t,bootfile=b", "user,tftp=/saved/t,bootfile=b");
    assert_located("netdev", "user,id=n,guestfwd=tcp:10.0.2.9:1-unix:s,,t",
                   "user,id=n,guestfwd=tcp:10.0.2.9:1-unix:/saved/s,,t");
    assert_located("netdev", "user,id=n,guestfwd=tcp:10.0.2.9:1-cmd:s",
                   "user,id=n,guestfwd=tcp:10.0.2.9:1-cmd:s");
}

static void all_modules_are_those_of_the_saved_directory(void **state)
{
    assert_located("initrd", "a x y,b,,c z,/d e", "/saved/a x y,/saved/b,,c z,/d e");
    assert_located("initrd", "a", "/saved/a");
    assert_located("initrd", "a,,", "/saved/a,,");
    assert_located("initrd", "a,,b", "/saved/a,,b");
    g_autofree char *comma = restore_args_locate("initrd", "a", "/x,y");
    assert_string_equal(comma, "/x,,y/a");
    g_autofree char *plain = restore_args_locate("kernel", "a:b", "/x,y");
    assert_string_equal(plain, "/x,y/a:b");
}

static void files_stay_where_they_are_in_the_same_directory(void **state)
{
    g_autofree char *there = merged("kernel k|nographic", "skiff -restore s", SAVED);
    assert_string_equal(there, "skiff -kernel k -nographic -restore s");
    g_autofree char *elsewhere = merged("kernel k|nographic", "skiff -restore s", "/now");
    assert_string_equal(elsewhere, "skiff -kernel /saved/k -nographic -restore s");
}

static void assert_refused(const char *user, const char *says)
{
    g_auto(GStrv) argv = g_strsplit(user, " ", 0);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) all = restore_args_expand((int)g_strv_length(argv), argv, &error);
    assert_null(all);
    if (strstr(error->message, says) == NULL) {
        fail_msg("%s: '%s' does not say '%s'", user, error->message, says);
    }
}

static void what_is_no_state_is_refused(void **state)
{
    assert_refused("skiff -restore", "needs an argument");
    assert_refused("skiff -restore a -restore b", "one state");
    assert_refused("skiff -restore a -loadstate b", "one state");
    assert_refused("skiff -restore a -loadstate", "-loadstate: needs an argument");
    assert_refused("skiff -clone", "-clone: needs an argument");
    assert_refused("skiff -clone a -restore b", "one state");
    assert_refused("skiff -clone a -loadstate b", "one state");
    assert_refused("skiff -clone /no/such,,x", "-clone '/no/such,x': No such file");
    assert_refused("skiff -clone /no/such,cid=2", "cid: a guest's is 3 or more");
    assert_refused("skiff -clone /no/such,cid=4294967295", "cid=4294967295");
    assert_refused("skiff -clone /no/such,mac=52:54:00:12:34:56", "expects one of same, random");
    assert_refused("skiff -clone mac=random", "option 'file' is missing");
    assert_refused("skiff -clone /no/such,x=y", "no option 'x'");
    assert_refused("skiff -clone file=", "needs the name of a file");
    assert_refused("skiff -restore /no/such", "-restore '/no/such': No such file");
    assert_refused("skiff -restore /dev/null", "-restore '/dev/null': ");
    assert_refused("skiff -restore /dev/zero",
                   "-restore '/dev/zero': state stream: this is no saved state");
    assert_refused("skiff -restore /", "-restore '/': ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_options_come_first),
        cmocka_unit_test(options_that_are_given_anew_replace_the_saved),
        cmocka_unit_test(words_that_are_arguments_are_no_options),
        cmocka_unit_test(a_command_needs_the_port_of_its_agent),
        cmocka_unit_test(a_clone_has_consoles_of_its_own),
        cmocka_unit_test(a_clone_writes_no_log_of_the_template),
        cmocka_unit_test(standard_streams_are_the_commands),
        cmocka_unit_test(a_clone_is_another_machine),
        cmocka_unit_test(what_clones_cannot_share_is_refused_by_name),
        cmocka_unit_test(data_of_other_processes_is_refused_by_name),
        cmocka_unit_test(options_that_are_no_machines_are_refused),
        cmocka_unit_test(programs_are_not_run_for_a_file),
        cmocka_unit_test(relative_paths_are_those_of_the_saved_directory),
        cmocka_unit_test(names_of_nodes_are_no_paths),
        cmocka_unit_test(paths_of_chardevs_are_those_of_the_saved_directory),
        cmocka_unit_test(paths_of_networks_are_those_of_the_saved_directory),
        cmocka_unit_test(all_modules_are_those_of_the_saved_directory),
        cmocka_unit_test(files_stay_where_they_are_in_the_same_directory),
        cmocka_unit_test(what_is_no_state_is_refused),
    };
    return cmocka_run_group_tests_name("vmm/cmdline/restore_args", tests, NULL, NULL);
}
