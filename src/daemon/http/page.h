/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.h - the files that are built in: the dashboard out of web/, and the description of the HTTP interface. What is
 * generated at build time by scripts/embed fills the table.
 */
#ifndef DAEMON_HTTP_PAGE_H
#define DAEMON_HTTP_PAGE_H

#include <stddef.h>

struct page {
    const char *path, *type, *tag; /* the tag is a hash of the content, quoted, for ETag */
    const unsigned char *data;
    size_t length;
};

extern const struct page pages[];
extern const size_t page_count;

#endif
