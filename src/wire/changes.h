/* SPDX-License-Identifier: Apache-2.0 */
/*
 * changes.h - messages of changes straight between bytes and plain structs, without the generated code's in between:
 * they are what a busy cluster sends, and there is one element in them for each thing that happens.
 *
 * The format is cluster.proto's, as for all others, and the bytes are the same that the generated code would write.
 * Reading understands what our nodes write, and leaves everything else to the generated code: a message of a newer node
 * that says more, one laid out in another order, one that is malformed. So it need not tell errors, and what it reads
 * is what the generated code would have read; the fuzzer compares the two.
 */
#ifndef WIRE_CHANGES_H
#define WIRE_CHANGES_H

#include "arena.h"

/* Whether these bytes are changes as ours are written: then *message is filled. Else the arena may have given some of
 * what the message may take, and *message is as it was. */
bool wire_read_changes(struct wire_arena *arena, const uint8_t *bytes, size_t length, struct wire_message *message);

/* As wire_encode, for a message of changes. */
int wire_write_changes(struct wire_arena *arena, const struct wire_message *message, const void **bytes,
                       size_t *length);

#endif
