/* SPDX-License-Identifier: Apache-2.0 */
/*
 * samples.h - one message of each kind that says something in every field, as decoding gives it; and whether two
 * messages say the same. test_wire_python.py says the same messages in its own words.
 */
#ifndef TESTS_WIRE_SAMPLES_H
#define TESTS_WIRE_SAMPLES_H

#include "wire/wire.h"

enum { SAMPLES = 12 };

/* Named by its kind: "beat", "changes", "activity", "ask", "chunk", "known", "forget", "evidence". Static storage. */
struct sample {
    const char *name;
    struct wire_message message;
};
extern const struct sample samples[SAMPLES];

/* What differs, in static storage; NULL: nothing does. Times of activity may differ by less than `tolerance`. */
const char *difference_of(const struct wire_message *a, const struct wire_message *b, presence_time tolerance);

#endif
