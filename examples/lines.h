/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lines.h - lines of text over a socket, bounded in length and in time. It knows nothing of presence.
 */
#ifndef EXAMPLES_LINES_H
#define EXAMPLES_LINES_H

#include <stdbool.h>
#include <stddef.h>

#define LINE_BYTES_MAX 4096 /* longest line taken, its newline included: two names of 1,024 bytes fit well */

struct line_reader {
    int fd; /* not owned */
    size_t begin, end;
    char bytes[LINE_BYTES_MAX];
};

enum line_result {
    LINE_OK,
    LINE_END,       /* the peer closed, or was killed: its kernel closed for it */
    LINE_TOO_LONG,  /* no newline within LINE_BYTES_MAX bytes */
    LINE_TIMED_OUT, /* no whole line within the time given */
    LINE_INVALID,   /* the line holds a NUL byte */
    LINE_FAILED     /* errno tells */
};

void line_reader_init(struct line_reader *reader, int fd);

/* Waits at most `timeout_ms` for one whole line. LINE_OK: *line is the line without its newline (nor a carriage return
 * before that), valid until the next call. Bytes behind the last newline of a peer that closed are dropped. */
enum line_result line_read(struct line_reader *reader, int timeout_ms, char **line);

/* Sends it all. False if the peer is gone, or did not take it within the socket's send timeout. Raises no SIGPIPE. */
bool lines_write(int fd, const char *text, size_t length_bytes);

#endif
