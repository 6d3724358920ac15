/* SPDX-License-Identifier: Apache-2.0 */
/* docs/qmp-reference.md, from the schema tables. */
#ifndef SKIFF_TESTS_SUPPORT_QMP_REFERENCE_H
#define SKIFF_TESTS_SUPPORT_QMP_REFERENCE_H

/* The whole file's text, the caller's to free. */
char *qmp_reference_text(void);

#endif
