/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parser.h - commands out of bytes, without I/O and without copies.
 *
 * The caller holds the input in one piece, writable, and calls resp_parse on what is not yet used up. Words are told as
 * slices of that input, each followed by a NUL in place of the CR behind it. What was parsed of a command that is not
 * whole yet is remembered as offsets, so the input may move, and grow, between two calls; nothing is read twice.
 *
 * Both shapes that Redis clients send: arrays of bulk strings, and inline commands (a line of words split by blanks,
 * with "double" and 'single' quotes). An empty array or line is skipped.
 */
#ifndef DAEMON_RESP_PARSER_H
#define DAEMON_RESP_PARSER_H

#include "base/slice.h"

struct resp_limits {
    size_t request_bytes; /* a whole command, its protocol included */
    size_t words;
    size_t inline_bytes; /* a line: an inline command, or the head of an array or a bulk string */
};

struct resp_parser {
    const struct resp_limits *limits;
    struct slice *words; /* while parsing: text is an offset, see parser.c; told: pointers */
    size_t word_capacity, word_count;
    size_t position;    /* of what is parsed already, from the beginning of the command */
    size_t words_left;  /* of the array; valid if in_array */
    size_t bulk_length; /* valid if in_bulk */
    bool in_array, in_bulk;
};

enum resp_outcome {
    RESP_COMMAND,    /* parser->words[0 .. word_count-1]; *used bytes of the input belong to it */
    RESP_UNFINISHED, /* everything before *used may go; keep the rest, and call again when there is more behind it */
    RESP_BROKEN,     /* a protocol error: *error says which; hang up */
    RESP_NO_MEMORY
};

void resp_parser_init(struct resp_parser *parser, const struct resp_limits *limits);
void resp_parser_free(struct resp_parser *parser);

/* Parses one command at the beginning of input[0 .. length-1]. O(bytes looked at). After RESP_COMMAND the next call is
 * about the bytes after *used. Words live until then, and as long as the input stays where it is. */
enum resp_outcome resp_parse(struct resp_parser *parser, char *input, size_t length, size_t *used, const char **error);

#endif
