/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_framing.c - any bytes as what an HTTP client sends, whole and in pieces: evhttp is given the same, the same is
 * refused, and what evhttp is given is plain: read once more, it comes out unchanged, with as many requests.
 *
 * Linked with libFuzzer, or with replay.c. The first byte chooses how the rest is cut. Cost: some microseconds.
 */
#include "http/framing.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { MOST_HEAD_BYTES = 512, MOST_BODY_BYTES = 1000 };

/* Takes the input in pieces of at most `piece` bytes, each in memory of its own size. */
static struct framing take(const char *bytes, size_t length, size_t piece, size_t most_head_bytes, struct bytes *out)
{
    struct framing framing = {.most_head_bytes = most_head_bytes, .most_body_bytes = MOST_BODY_BYTES};
    *out = (struct bytes){0};
    for (size_t at = 0, part; at < length; at += part) {
        part = length - at < piece ? length - at : piece;
        char *copy = malloc(part);
        if (!copy)
            abort();
        memcpy(copy, bytes + at, part);
        if (framing_skip(&framing, part))
            bytes_append(out, copy, part);
        else
            framing_take(&framing, copy, part, out);
        free(copy);
    }
    framing_free(&framing);
    return framing;
}

static void must_be_same(const struct framing *a, const struct bytes *a_out, const struct framing *b,
                         const struct bytes *b_out)
{
    if (a->requests == b->requests && a_out->length == b_out->length &&
        (a_out->length == 0 || memcmp(a_out->data, b_out->data, a_out->length) == 0))
        return;
    fprintf(stderr, "%llu requests:\n%.*s\n%llu requests:\n%.*s\n", (unsigned long long)a->requests, (int)a_out->length,
            a_out->length ? a_out->data : "", (unsigned long long)b->requests, (int)b_out->length,
            b_out->length ? b_out->data : "");
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct bytes whole_out, cut_out, again_out;
    if (length == 0)
        return 0;
    const char *input = (const char *)bytes + 1;
    struct framing whole = take(input, length - 1, length, MOST_HEAD_BYTES, &whole_out);
    struct framing cut = take(input, length - 1, (size_t)bytes[0] % 64 + 1, MOST_HEAD_BYTES, &cut_out);
    must_be_same(&whole, &whole_out, &cut, &cut_out);
    if (whole.problem != cut.problem)
        abort();
    /* A blank behind each colon makes a head longer than it came. */
    struct framing again = take(whole_out.data ? whole_out.data : "", whole_out.length, whole_out.length + 1,
                                (size_t)2 * MOST_HEAD_BYTES, &again_out);
    must_be_same(&whole, &whole_out, &again, &again_out);
    if (again.problem)
        abort();
    bytes_free(&whole_out);
    bytes_free(&cut_out);
    bytes_free(&again_out);
    return 0;
}
