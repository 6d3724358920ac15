/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least a VMM can do, for comparison: a VM with interrupt controllers, PIT, 512 MiB of RAM, a
 * ROM and one vCPU, run until the guest writes to port 0xf4. No threads, no devices, no error
 * handling beyond a status.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_SIZE (512u << 20)
#define EXIT_PORT 0xf4

static void *map_anonymous(size_t size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int set_memory(int vm, uint32_t slot, uint32_t flags, uint64_t gpa, void *host, size_t size)
{
    struct kvm_userspace_memory_region region = {.slot = slot,
                                                 .flags = flags,
                                                 .guest_phys_addr = gpa,
                                                 .memory_size = size,
                                                 .userspace_addr = (uintptr_t)host};
    return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

int main(int argc, char **argv)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    uint64_t identity_map = 0xfeffc000;
    ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    ioctl(vm, KVM_SET_TSS_ADDR, 0xfeffd000);
    ioctl(vm, KVM_CREATE_IRQCHIP);
    struct kvm_pit_config pit = {0};
    ioctl(vm, KVM_CREATE_PIT2, &pit);

    int file = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
    off_t size = lseek(file, 0, SEEK_END);
    uint8_t *rom = size > 0 ? map_anonymous((size_t)size) : MAP_FAILED;
    if (rom == MAP_FAILED || pread(file, rom, (size_t)size, 0) != size ||
        set_memory(vm, 0, 0, 0, map_anonymous(RAM_SIZE), RAM_SIZE) != 0 ||
        set_memory(vm, 1, KVM_MEM_READONLY, 0x100000000 - (uint64_t)size, rom, (size_t)size) != 0) {
        return 2;
    }
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    while (ioctl(vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_IO) {
        if (run->io.port == EXIT_PORT) {
            return ((uint8_t *)run)[run->io.data_offset] << 1 | 1;
        }
    }
    return 2;
}
