/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answers.h - answers to STATUS of many agents, and to STATUSES of a model, kept for as long as nothing changes.
 *
 * Who shows a model's agents asks for the same ones again and again, and on a record at rest the answer stays the same:
 * a status hangs on nothing but the revision. So the statuses that were last told to a question are kept with the
 * revision at which they were true, and told again while that is the record's revision. A question is the words as they
 * came; it is kept when it is asked a second time at one revision, so that a record that never rests pays for a look.
 *
 * The question for all of a model's agents is its name alone, so what is kept of it is the whole reply, as it was sent.
 *
 * Each loop has its own: MOST_ANSWERS of at most MOST_ANSWER_BYTES of text, and 9 bytes for each word of these; and as
 * many replies of as many bytes. On that loop's thread; made and freed while none runs.
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

/* Says the reply to STATUSES of the call's model as it was said before, if it is still true; O(length of the reply).
 * False: the recorder is to be asked, and what was said then is offered by answer_keep_model: all that the reply's
 * buffer holds from `from` on, which is true at that revision. */
bool answer_say_model(const struct call *call);
void answer_keep_model(const struct call *call, uint64_t revision, size_t from);
/* How much the buffer of the call's reply holds by now. */
size_t answer_begins(const struct call *call);

#endif
