/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_names.c - what the recorder takes as a name or as data, against a slow checker that shares no code with it.
 *
 * The first byte says which of the four strings the rest of the input is: server, model, agent or user data. Then: the
 * recorder accepts it exactly if the checker does; what it accepted is read back byte for byte; what it refused left
 * nothing behind. Linked with libFuzzer, or with replay.c. Cost: microseconds.
 */
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { MOST_NAME_BYTES = 1024, MOST_DATA_BYTES = 65535 };

/* The length of the UTF-8 sequence that starts here and its code point, by the Unicode standard's table of well-formed
 * byte sequences, or 0. */
static size_t decode(const uint8_t *at, size_t left, uint32_t *point)
{
    static const struct {
        uint8_t first_low, first_high, second_low, second_high;
        size_t length;
    } table[] = {{0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
                 {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
                 {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t row = 0; row < sizeof table / sizeof table[0]; row++) {
        size_t length = table[row].length;
        if (at[0] < table[row].first_low || at[0] > table[row].first_high) {
            continue;
        }
        if (length > left || (length > 1 && (at[1] < table[row].second_low || at[1] > table[row].second_high))) {
            return 0;
        }
        *point = length == 1 ? at[0] : at[0] & (0xffu >> (length + 1));
        for (size_t next = 1; next < length; next++) {
            if (at[next] < 0x80 || at[next] > 0xbf) {
                return 0;
            }
            *point = *point << 6 | (at[next] & 0x3fu);
        }
        return length;
    }
    return 0;
}

static bool is_good(const char *text, bool is_name)
{
    size_t length = strlen(text);
    if (is_name ? length < 1 || length > MOST_NAME_BYTES : length > MOST_DATA_BYTES) {
        return false;
    }
    for (size_t at = 0; at < length;) {
        uint32_t point = 0;
        size_t taken = decode((const uint8_t *)text + at, length - at, &point);
        if (taken == 0 || (is_name && (point < 0x20 || (point >= 0x7f && point <= 0x9f)))) {
            return false;
        }
        at += taken;
    }
    return true;
}

static void check_read_back(presence_recorder *recorder, const presence_value *stated)
{
    presence_connections *view = presence_recorder_connections(recorder);
    presence_value value;
    must(view != NULL);
    must(presence_connections_find(view, stated->server, stated->connection_id, &value) == PRESENCE_OK);
    must(strcmp(value.server, stated->server) == 0 && strcmp(value.model, stated->model) == 0);
    must(strcmp(value.agent, stated->agent) == 0 && strcmp(value.user_data, stated->user_data) == 0);
    presence_connections_free(view);
}

static void check_text(presence_recorder *recorder, const char *text, unsigned which)
{
    presence_value value = {.server = which == 0 ? text : "machine-0",
                            .model = which == 1 ? text : "model",
                            .agent = which == 2 ? text : "unit-a",
                            .user_data = which == 3 ? text : "",
                            .connection_id = 7};
    bool good = is_good(text, which != 3);
    presence_error error = {0};
    int code = presence_recorder_connect_handle(recorder, &value, NULL, NULL, &error);
    must(code == (good ? PRESENCE_OK : PRESENCE_E_INVALID));
    if (good) {
        check_read_back(recorder, &value);
        must(presence_recorder_disconnect(recorder, value.server, 7) == PRESENCE_OK);
    } else {
        must(error.code == PRESENCE_E_INVALID && error.message[0] != '\0');
        must(memchr(error.message, '\0', sizeof error.message) != NULL);
        must(is_good(error.message, true)); /* a message can be shown: no control characters, no half characters */
        must(presence_recorder_revision(recorder) == 0);
    }
    must(presence_recorder_check(recorder, &error) == PRESENCE_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    if (length == 0) {
        return 0;
    }
    char *text = malloc(length);
    presence_recorder *recorder = presence_recorder_new(NULL);
    must(text != NULL && recorder != NULL);
    memcpy(text, bytes + 1, length - 1);
    text[length - 1] = '\0';
    presence_recorder_enable(recorder);
    check_text(recorder, text, bytes[0] % 4);
    presence_recorder_free(recorder);
    free(text);
    return 0;
}
