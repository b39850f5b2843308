/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_say.c - our half of test_wire_python.py.
 *
 *   wire_say say KIND       writes the sample of that kind to standard output
 *   wire_say hear KIND      reads a message from standard input; ends with 0 if it is the sample of that kind
 */
#include "support/support.h"
#include "wire/samples.h"

#include <stdio.h>
#include <string.h>

static const struct wire_message *sample_named(const char *name)
{
    for (size_t i = 0; i < SAMPLES; i++)
        if (strcmp(samples[i].name, name) == 0)
            return &samples[i].message;
    return NULL;
}

static int say(struct wire_arena *arena, const struct wire_message *message)
{
    const void *bytes;
    size_t length;
    int error = wire_encode(arena, message, &bytes, &length);
    if (error) {
        fprintf(stderr, "wire_say: cannot be encoded: %s\n", wire_strerror(error));
        return 1;
    }
    return fwrite(bytes, 1, length, stdout) == length ? 0 : 1;
}

static int hear(struct wire_arena *arena, const struct wire_message *message)
{
    static unsigned char bytes[WIRE_MOST_BYTES];
    struct wire_message heard;
    size_t length = fread(bytes, 1, sizeof bytes, stdin);
    int error = wire_decode(arena, bytes, length, &heard);
    const char *difference = error ? wire_strerror(error) : difference_of(message, &heard, 1);
    if (difference)
        fprintf(stderr, "wire_say: %s\n", difference);
    return difference ? 1 : 0;
}

int main(int count, char **words)
{
    const struct wire_message *message = count == 3 ? sample_named(words[2]) : NULL;
    if (!message) {
        fprintf(stderr, "usage: wire_say say|hear KIND\n");
        return 2;
    }
    struct wire_arena *arena = wire_arena_new();
    must(arena != NULL);
    int status = strcmp(words[1], "say") == 0 ? say(arena, message) : hear(arena, message);
    wire_arena_free(arena);
    return status;
}
