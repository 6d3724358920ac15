/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minimal_vm IMAGE: the least a C program can do to run a firmware image in a VM with an interrupt
 * controller, a PIT, 512 MiB of RAM and one vCPU, until the guest writes to port 0xf4. What skiff
 * takes to start is compared with this. Its status is (value << 1) | 1, as isa-debug-exit gives;
 * what the guest writes to port 0xe9 goes to standard output. RAM is registered before the chips,
 * as vmm/kvm/kvm.c does, and why is said there.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RAM_SIZE (UINT64_C(512) << 20)
#define ROM_END (UINT64_C(4) << 30)
#define TSS_GPA 0xfffbd000u /* three pages that only real mode on old Intel processors uses */
#define EXIT_PORT 0xf4
#define DEBUGCON_PORT 0xe9

static int check(int ret, const char *what)
{
    if (ret < 0) {
        err(2, "%s", what);
    }
    return ret;
}

static void *map(size_t size, int flags, int fd)
{
    void *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | flags, fd, 0);
    if (host == MAP_FAILED) {
        err(2, "mmap");
    }
    return host;
}

static void add_memory(int vm, uint32_t slot, uint64_t gpa, uint64_t size, void *host)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .guest_phys_addr = gpa,
        .memory_size = size,
        .userspace_addr = (uintptr_t)host,
    };
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

static void load_image(int vm, const char *path)
{
    struct stat st;
    int fd = check(open(path, O_RDONLY | O_CLOEXEC), path);
    check(fstat(fd, &st), path);
    uint64_t size = (uint64_t)st.st_size;
    add_memory(vm, 1, ROM_END - size, size, map(size, 0, fd));
    close(fd);
}

static int make_vm(int kvm, const char *image)
{
    struct kvm_pit_config pit = {0};
    int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    add_memory(vm, 0, 0, RAM_SIZE, map(RAM_SIZE, MAP_ANONYMOUS | MAP_NORESERVE, -1));
    load_image(vm, image);
    check(ioctl(vm, KVM_SET_TSS_ADDR, TSS_GPA), "KVM_SET_TSS_ADDR");
    check(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    check(ioctl(vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
    return vm;
}

/* Returns what the guest wrote to the exit port. */
static uint8_t run(int vcpu, struct kvm_run *state)
{
    for (;;) {
        check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        uint8_t *data = (uint8_t *)state + state->io.data_offset;
        if (state->exit_reason == KVM_EXIT_IO && state->io.port == EXIT_PORT) {
            return *data;
        }
        if (state->exit_reason == KVM_EXIT_IO && state->io.port == DEBUGCON_PORT) {
            check((int)write(STDOUT_FILENO, data, 1), "standard output");
        }
        if (state->exit_reason != KVM_EXIT_IO && state->exit_reason != KVM_EXIT_MMIO) {
            errx(2, "unexpected exit %u", state->exit_reason);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        errx(2, "usage: minimal_vm IMAGE");
    }
    int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    int vm = make_vm(kvm, argv[1]);
    int vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    int size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_run *state = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (state == MAP_FAILED) {
        err(2, "mmap of a vCPU");
    }
    return (run(vcpu, state) << 1) | 1;
}
