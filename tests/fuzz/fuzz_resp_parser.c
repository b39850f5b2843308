/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_resp_parser.c - any bytes as a client's input, whole and in pieces: the same commands come out, or the same
 * protocol error; words lie within the input and are followed by a NUL; no byte is used twice.
 *
 * Linked with libFuzzer, or with replay.c. The first byte chooses how the rest is cut. Cost: some microseconds.
 */
#include "resp/parser.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static const struct resp_limits limits = {.request_bytes = 512, .words = 12, .inline_bytes = 64};

/* What came out of an input: commands as text, one after the other, and how it ended. */
struct story {
    char *text;
    size_t length;
    enum resp_outcome outcome;
    const char *error;
};

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void tell(struct story *story, const void *text, size_t length)
{
    story->text = realloc(story->text, story->length + length + 1);
    must(story->text != NULL);
    memcpy(story->text + story->length, text, length);
    story->length += length;
}

static void tell_command(struct story *story, const struct resp_parser *parser, const char *input, size_t used)
{
    must(parser->word_count > 0 && parser->word_count <= limits.words);
    for (size_t i = 0; i < parser->word_count; i++) {
        struct slice word = parser->words[i];
        must(word.text >= input && word.text + word.length < input + used);
        must(word.text[word.length] == 0);
        char head[32];
        int count = snprintf(head, sizeof head, "%zu:", word.length);
        tell(story, head, (size_t)count);
        tell(story, word.text, word.length);
    }
    tell(story, "\n", 1);
}

/* Takes the input in pieces of at most `piece` bytes, the kept beginning moved to new memory before each. */
static struct story parse(const char *bytes, size_t length, size_t piece)
{
    struct story story = {.outcome = RESP_UNFINISHED};
    struct resp_parser parser;
    char *kept = NULL;
    size_t kept_length = 0;
    resp_parser_init(&parser, &limits);
    for (size_t at = 0; at < length && story.outcome == RESP_UNFINISHED;) {
        size_t more = length - at < piece ? length - at : piece;
        char *input = malloc(kept_length + more); /* exactly, so that a sanitizer sees a read behind it */
        must(input != NULL);
        if (kept_length > 0)
            memcpy(input, kept, kept_length);
        memcpy(input + kept_length, bytes + at, more);
        free(kept);
        kept = input;
        kept_length += more;
        at += more;
        size_t begin = 0;
        do {
            size_t used = 0;
            story.error = "";
            story.outcome = resp_parse(&parser, input + begin, kept_length - begin, &used, &story.error);
            must(used <= kept_length - begin);
            must(story.outcome != RESP_COMMAND || used > 0);
            if (story.outcome == RESP_COMMAND)
                tell_command(&story, &parser, input + begin, used);
            begin += used;
        } while (story.outcome == RESP_COMMAND);
        kept_length -= begin;
        memmove(kept, kept + begin, kept_length);
        /* What waits is bounded, whatever the input announced. */
        must(story.outcome != RESP_UNFINISHED || kept_length <= limits.request_bytes + limits.inline_bytes);
    }
    free(kept);
    resp_parser_free(&parser);
    return story;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const size_t pieces[] = {1, 2, 3, 5, 7, 16, 33, 100};
    if (length < 2)
        return 0;
    const char *input = (const char *)bytes + 1;
    struct story whole = parse(input, length - 1, length - 1);
    struct story cut = parse(input, length - 1, pieces[bytes[0] % 8]);
    must(whole.outcome == cut.outcome && whole.length == cut.length);
    must(whole.length == 0 || memcmp(whole.text, cut.text, whole.length) == 0);
    must(whole.outcome != RESP_BROKEN || strcmp(whole.error, cut.error) == 0);
    free(whole.text);
    free(cut.text);
    return 0;
}
