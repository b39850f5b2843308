/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answers.c - see answers.h.
 *
 * Keeps true: an answer is told only while the record's revision is the one before and after the recorder was asked
 * for it, so it is what the recorder would say now. Whoever asks was permitted before (command_permit). That the
 * recorder is enabled is told by the revision too, for disabling it is a change; but a model's answer comes from a
 * view, which may be that of a record just disabled, so there it is asked. Words are compared with where they lie and
 * with what lies between them, so that a question that was written otherwise is another one.
 *
 * A look costs the recorder's lock and a hash of three words; an answer that is told, a comparison of the question.
 */
#include "commands/answers.h"

#include "reply/resp.h"

#include <stdlib.h>

enum { MOST_ANSWERS = 8, MOST_ANSWER_BYTES = 64 * 1024, MOST_AGENTS = 4096, LEAST_AGENTS = 8 };

/* Where a word lies in its question. */
struct place {
    uint32_t start, length;
};

/* One block of memory behind it: the places, the text, the statuses. */
struct answer {
    uint64_t revision; /* at which `asked` was last asked for, and at which what is kept was true */
    uint64_t asked;    /* hash of the question */
    size_t word_count; /* 0: nothing is kept */
    size_t text_bytes, capacity;
    struct place *places;
};

/* A reply about a model. */
struct model_answer {
    uint64_t revision;
    int version;                   /* of RESP */
    size_t name_bytes, text_bytes; /* the name with its NUL */
    size_t capacity;
    char *name; /* the text lies behind it. NULL: nothing is kept */
};

struct answers {
    struct answer answers[MOST_ANSWERS];
    struct model_answer models[MOST_ANSWERS];
};

struct answers *answers_new(size_t loops)
{
    return calloc(loops, sizeof(struct answers));
}

void answers_free(struct answers *answers, size_t loops)
{
    for (size_t i = 0; answers && i < loops; i++)
        for (size_t j = 0; j < MOST_ANSWERS; j++) {
            free(answers[i].answers[j].places);
            free(answers[i].models[j].name);
        }
    free(answers);
}

/* The question of a call: all its words but the command's name. */
static const struct slice *question_of(const struct call *call, size_t *word_count, size_t *text_bytes)
{
    const struct slice *words = call->words + 1, *last = call->words + call->word_count - 1;
    *word_count = call->word_count - 1;
    *text_bytes = (size_t)(last->text + last->length - words->text);
    return words;
}

static char *text_of(const struct answer *answer)
{
    return (char *)(answer->places + answer->word_count);
}

static uint8_t *statuses_of(const struct answer *answer)
{
    return (uint8_t *)text_of(answer) + answer->text_bytes;
}

static uint64_t hash_word(uint64_t hash, struct slice word)
{
    for (size_t i = 0; i < word.length; i++)
        hash = (hash ^ (unsigned char)word.text[i]) * 0x100000001b3ULL;
    return hash;
}

/* Of the model, the first agent and the last, and how many: all of it is compared where it matters. */
static uint64_t hash_question(const struct slice *words, size_t word_count)
{
    return hash_word(hash_word(hash_word(0xcbf29ce484222325ULL ^ word_count, words[0]), words[1]),
                     words[word_count - 1]);
}

static bool is_question(const struct answer *answer, const struct slice *words, size_t word_count, size_t text_bytes)
{
    const char *text = words[0].text;
    if (answer->word_count != word_count || answer->text_bytes != text_bytes)
        return false;
    for (size_t i = 0; i < word_count; i++)
        if (answer->places[i].start != (size_t)(words[i].text - text) || answer->places[i].length != words[i].length)
            return false;
    return memcmp(text_of(answer), text, text_bytes) == 0;
}

const uint8_t *answer_find(const struct call *call, struct answer_place *place)
{
    const struct client *client = call->client;
    size_t word_count, text_bytes;
    *place = (struct answer_place){0};
    if (!client->node->answers || !call->words || client->on_worker || call->word_count < 2 + LEAST_AGENTS ||
        call->word_count > 2 + MOST_AGENTS)
        return NULL;
    const struct slice *words = question_of(call, &word_count, &text_bytes);
    if (text_bytes > MOST_ANSWER_BYTES)
        return NULL;
    uint64_t hash = hash_question(words, word_count);
    struct answer *answer = &client->node->answers[client->loop->index].answers[(hash ^ hash >> 32) % MOST_ANSWERS];
    uint64_t revision = presence_recorder_revision(client->node->recorder);
    if (answer->revision == revision && answer->asked == hash) {
        if (is_question(answer, words, word_count, text_bytes))
            return statuses_of(answer);
        *place = (struct answer_place){answer, revision};
    } else {
        answer->revision = revision;
        answer->asked = hash;
        answer->word_count = 0;
    }
    return NULL;
}

void answer_keep(const struct call *call, const struct answer_place *place, const uint8_t *statuses)
{
    struct answer *answer = place->answer;
    size_t word_count, text_bytes;
    if (!answer || presence_recorder_revision(call->client->node->recorder) != place->revision)
        return;
    const struct slice *words = question_of(call, &word_count, &text_bytes);
    size_t bytes = word_count * sizeof *answer->places + text_bytes + word_count;
    if (bytes > answer->capacity) {
        free(answer->places);
        answer->word_count = 0;
        answer->places = malloc(bytes);
        answer->capacity = answer->places ? bytes : 0;
        if (!answer->places)
            return;
    }
    answer->word_count = word_count;
    answer->text_bytes = text_bytes;
    for (size_t i = 0; i < word_count; i++)
        answer->places[i] = (struct place){(uint32_t)(words[i].text - words[0].text), (uint32_t)words[i].length};
    memcpy(text_of(answer), words[0].text, text_bytes);
    memcpy(statuses_of(answer), statuses, word_count - 1);
}

/* ------------------------------------------------------------------------------------------------- of a model -- */

/* Where the reply about the call's model is kept. NULL: it is not. */
static struct model_answer *place_of_model(const struct call *call)
{
    const struct client *client = call->client;
    if (!client->node->answers || client->kind != CLIENT_RESP || client->on_worker)
        return NULL;
    uint64_t hash = hash_word(0xcbf29ce484222325ULL + (unsigned)client->version, slice_of(call->arguments.model));
    return &client->node->answers[client->loop->index].models[(hash ^ hash >> 32) % MOST_ANSWERS];
}

static struct resp_reply *resp_of(const struct call *call)
{
    return (struct resp_reply *)(void *)call->reply;
}

size_t answer_begins(const struct call *call)
{
    return place_of_model(call) ? resp_of(call)->out->length : 0;
}

bool answer_say_model(const struct call *call)
{
    const struct model_answer *answer = place_of_model(call);
    if (!presence_recorder_is_enabled(call->client->node->recorder))
        return false;
    if (!answer || !answer->name || answer->version != resp_of(call)->version ||
        strcmp(answer->name, call->arguments.model) != 0 ||
        answer->revision != presence_recorder_revision(call->client->node->recorder))
        return false;
    bytes_append(resp_of(call)->out, answer->name + answer->name_bytes, answer->text_bytes);
    return true;
}

void answer_keep_model(const struct call *call, uint64_t revision, size_t from)
{
    struct model_answer *answer = place_of_model(call);
    if (!answer || resp_of(call)->out->failed)
        return;
    const size_t name_bytes = strlen(call->arguments.model) + 1, text_bytes = resp_of(call)->out->length - from;
    if (text_bytes > MOST_ANSWER_BYTES)
        return;
    if (name_bytes + text_bytes > answer->capacity) {
        free(answer->name);
        answer->name = malloc(name_bytes + text_bytes);
        answer->capacity = answer->name ? name_bytes + text_bytes : 0;
    }
    if (!answer->name)
        return;
    answer->revision = revision;
    answer->version = resp_of(call)->version;
    answer->name_bytes = name_bytes;
    answer->text_bytes = text_bytes;
    memcpy(answer->name, call->arguments.model, name_bytes);
    memcpy(answer->name + name_bytes, resp_of(call)->out->data + from, text_bytes);
}
