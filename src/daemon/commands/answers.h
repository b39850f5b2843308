/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answers.h - answers to STATUS of many agents, kept for as long as nothing changes.
 *
 * Who shows a model's agents asks for the same ones again and again, and on a record at rest the answer stays the same:
 * a status hangs on nothing but the revision. So the statuses that were last told to a question are kept with the
 * revision at which they were true, and told again while that is the record's revision. A question is the words as they
 * came; it is kept when it is asked a second time at one revision, so that a record that never rests pays for a look.
 *
 * Each loop has its own: MOST_ANSWERS of at most MOST_ANSWER_BYTES of text, and 9 bytes for each word of these. On that
 * loop's thread; made and freed while none runs.
 */
#ifndef DAEMON_COMMANDS_ANSWERS_H
#define DAEMON_COMMANDS_ANSWERS_H

#include "commands/command.h"

/* So many loops' answers. NULL: out of memory. */
struct answers *answers_new(size_t loops);
void answers_free(struct answers *answers, size_t loops);

/* What is to be done with a question, between answer_find and answer_keep. */
struct answer_place {
    struct answer *answer; /* NULL: it is not to be kept */
    uint64_t revision;     /* before the recorder was asked */
};

/* The statuses of the call's agents, if they are known, one a byte; they last until the loop's next question. NULL: the
 * recorder is to be asked, and then the answer offered by answer_keep. O(length of the question). */
const uint8_t *answer_find(const struct call *call, struct answer_place *place);
void answer_keep(const struct call *call, const struct answer_place *place, const uint8_t *statuses);

#endif
