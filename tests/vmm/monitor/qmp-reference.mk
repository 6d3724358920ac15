# SPDX-License-Identifier: Apache-2.0
# docs/qmp-reference.md from the schema tables; a test checks that the committed one is current.

docs-reference:
	+@$(SUBMAKE) V=test build/test/tests/vmm/monitor/qmp/test_qmp_reference
	build/test/tests/vmm/monitor/qmp/test_qmp_reference --write

.PHONY: docs-reference
