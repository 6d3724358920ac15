# SPDX-License-Identifier: Apache-2.0
# The names of system calls, for the line that reports a violation: a signal handler cannot ask
# libseccomp.

$(B)/gen/syscall_names.h:
	@mkdir -p $(@D)
	@printf '#include <sys/syscall.h>\n' | $(CC) -E -dM - | \
	    sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$$/[\2] = "\1",/p' | sort -u >$@.new
	@mv $@.new $@

$(B)/vmm/sandbox/sandbox.o: $(B)/gen/syscall_names.h
