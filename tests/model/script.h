/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script.h - where a driver's choices come from: bytes that a fuzzer made, or dice. The same script, the same choices.
 */
#ifndef TESTS_MODEL_SCRIPT_H
#define TESTS_MODEL_SCRIPT_H

#include "support/support.h"

struct script {
    const uint8_t *bytes; /* NULL: dice */
    size_t length, at;
    struct test_random random;
};

static inline bool script_has_more(const struct script *script)
{
    return script->bytes == NULL || script->at < script->length;
}

/* 0..255. A script that has ended says 0. */
static inline unsigned script_byte(struct script *script)
{
    if (script->bytes == NULL) {
        return (unsigned)(test_random_next(&script->random) >> 56);
    }
    return script->at < script->length ? script->bytes[script->at++] : 0;
}

/* 0..bound-1, for bounds up to 65,536. */
static inline unsigned script_below(struct script *script, unsigned bound)
{
    unsigned first = script_byte(script);
    if (bound <= 256) {
        return first % bound;
    }
    return (first << 8 | script_byte(script)) % bound;
}

static inline bool script_chance(struct script *script, unsigned one_in)
{
    return script_below(script, one_in) == 0;
}
#endif
