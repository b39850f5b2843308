/* SPDX-License-Identifier: Apache-2.0 */
/*
 * support.c - the clock, the memory, the dice and the comparisons that all tests share.
 *
 * Keeps true: the allocator never loses count, whatever the threads do, and aborts on a release whose size or
 * alignment differs from what was asked for; a content is a deep copy, so it may outlive view and recorder.
 * Called by every test program, from any thread. Costs: a content is O(n log n) of the slice that it copies.
 */
#include "support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void support_must(bool holds, const char *text, const char *file, int line)
{
    if (holds)
        return;
    fprintf(stderr, "%s:%d: this must hold: %s\n", file, line, text);
    abort();
}

/* ---------------------------------------------------------------------------------------------------- fake clock -- */

void fake_clock_set(struct fake_clock *clock, presence_time now_ns)
{
    atomic_store(&clock->now_ns, now_ns);
}

void fake_clock_advance(struct fake_clock *clock, presence_time by_ns)
{
    atomic_fetch_add(&clock->now_ns, by_ns);
}

presence_time fake_clock_now(const struct fake_clock *clock)
{
    return atomic_load(&clock->now_ns);
}

static presence_time read_fake_clock(void *context)
{
    return fake_clock_now(context);
}

presence_clock fake_clock_interface(struct fake_clock *clock)
{
    return (presence_clock){.now = read_fake_clock, .context = clock};
}

/* ------------------------------------------------------------------------------------------------ test allocator -- */

/* Stands right behind each block, where its size says; so a release with another size does not find it. */
struct trailer {
    uint64_t magic, size_bytes, alignment;
};

#define TRAILER_MAGIC UINT64_C(0x70726573656e6365)

/* Counts down, and tells whether this is the allocation to refuse. */
static bool refuses(struct test_allocator *allocator)
{
    int64_t left = atomic_load(&allocator->until_failure);
    while (left > 0 && !atomic_compare_exchange_weak(&allocator->until_failure, &left, left - 1))
        ;
    if (left == 1)
        return true;
    return left == 0 && atomic_load(&allocator->keep_failing);
}

static void *test_allocate(void *context, size_t size_bytes, size_t alignment)
{
    struct test_allocator *allocator = context;
    atomic_fetch_add(&allocator->calls, 1);
    if (refuses(allocator)) {
        atomic_fetch_add(&allocator->failures, 1);
        return NULL;
    }
    must(alignment != 0 && (alignment & (alignment - 1)) == 0);
    size_t least = alignment < sizeof(void *) ? sizeof(void *) : alignment;
    void *memory = NULL;
    if (posix_memalign(&memory, least, size_bytes + sizeof(struct trailer)) != 0)
        return NULL;
    struct trailer trailer = {TRAILER_MAGIC, size_bytes, alignment};
    memcpy((char *)memory + size_bytes, &trailer, sizeof trailer);
    atomic_fetch_add(&allocator->outstanding_bytes, size_bytes);
    atomic_fetch_add(&allocator->outstanding_blocks, 1);
    return memory;
}

static void test_release(void *context, void *memory, size_t size_bytes, size_t alignment)
{
    struct test_allocator *allocator = context;
    must(memory != NULL);
    struct trailer trailer;
    memcpy(&trailer, (char *)memory + size_bytes, sizeof trailer);
    must(trailer.magic == TRAILER_MAGIC);
    must(trailer.size_bytes == size_bytes);
    must(trailer.alignment == alignment);
    memset((char *)memory + size_bytes, 0, sizeof trailer);
    must(atomic_fetch_sub(&allocator->outstanding_bytes, size_bytes) >= size_bytes);
    must(atomic_fetch_sub(&allocator->outstanding_blocks, 1) >= 1);
    free(memory);
}

presence_allocator test_allocator_interface(struct test_allocator *allocator)
{
    return (presence_allocator){.allocate = test_allocate, .release = test_release, .context = allocator};
}

void test_allocator_fail_nth(struct test_allocator *allocator, uint64_t n, bool keep_failing)
{
    atomic_store(&allocator->keep_failing, false);
    atomic_store(&allocator->until_failure, (int64_t)n);
    atomic_store(&allocator->keep_failing, n != 0 && keep_failing);
}

bool test_allocator_is_empty(const struct test_allocator *allocator)
{
    uint64_t bytes = atomic_load(&allocator->outstanding_bytes);
    uint64_t blocks = atomic_load(&allocator->outstanding_blocks);
    if (bytes == 0 && blocks == 0)
        return true;
    fprintf(stderr, "leaked: %" PRIu64 " bytes in %" PRIu64 " blocks\n", bytes, blocks);
    return false;
}

void test_allocator_must_be_empty(const struct test_allocator *allocator)
{
    must(test_allocator_is_empty(allocator));
}

/* -------------------------------------------------------------------------------------------------------- random -- */

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void test_random_seed(struct test_random *random, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++)
        random->state[i] = splitmix(&seed);
}

static uint64_t rotate_left(uint64_t value, unsigned int by)
{
    return (value << by) | (value >> (64 - by));
}

uint64_t test_random_next(struct test_random *random)
{
    uint64_t *state = random->state;
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

uint64_t test_random_below(struct test_random *random, uint64_t bound)
{
    must(bound != 0);
    return test_random_next(random) % bound;
}

bool test_random_chance(struct test_random *random, uint64_t one_in)
{
    return test_random_below(random, one_in) == 0;
}

uint64_t test_random_fresh_seed(void)
{
    struct timespec now;
    must(clock_gettime(CLOCK_REALTIME, &now) == 0);
    uint64_t mixed = (uint64_t)now.tv_sec * UINT64_C(1000000007) + (uint64_t)now.tv_nsec + ((uint64_t)getpid() << 40);
    return splitmix(&mixed);
}

/* --------------------------------------------------------------------------------------------------------- names -- */

const char *test_name(char *buffer, const char *prefix, uint64_t number)
{
    int length = snprintf(buffer, TEST_NAME_BYTES, "%s-%" PRIu64, prefix, number);
    must(length > 0 && length < TEST_NAME_BYTES);
    return buffer;
}

presence_value test_value(const char *server, uint64_t id, const char *model, const char *agent)
{
    return (presence_value){.server = server,
                            .connection_id = id,
                            .model = model,
                            .agent = agent,
                            .user_data = "",
                            .status = PRESENCE_ALIVE};
}

/* ------------------------------------------------------------------------------------------------------- content -- */

static char *copy_text(const char *text)
{
    must(text != NULL);
    char *copy = strdup(text);
    must(copy != NULL);
    return copy;
}

static int compare_for_sort(const void *a, const void *b)
{
    return content_compare_keys(a, b);
}

struct content *content_of(const presence_connections *connections)
{
    struct content *content = calloc(1, sizeof *content);
    must(content != NULL);
    size_t room = 0;
    presence_cursor cursor = {{0}};
    presence_value value;
    while (presence_connections_next(connections, &cursor, &value)) {
        if (content->count == room) {
            room = room == 0 ? 16 : room * 2;
            content->values = realloc(content->values, room * sizeof *content->values);
            must(content->values != NULL);
        }
        value.model = copy_text(value.model);
        value.server = copy_text(value.server);
        value.agent = copy_text(value.agent);
        value.user_data = copy_text(value.user_data);
        content->values[content->count++] = value;
    }
    if (content->count > 1)
        qsort(content->values, content->count, sizeof *content->values, compare_for_sort);
    return content;
}

struct content *content_of_recorder(presence_recorder *recorder)
{
    presence_connections *view = presence_recorder_connections(recorder);
    if (view == NULL)
        return NULL;
    struct content *content = content_of(view);
    presence_connections_free(view);
    return content;
}

void content_free(struct content *content)
{
    if (content == NULL)
        return;
    for (size_t i = 0; i < content->count; i++) {
        free((void *)(uintptr_t)content->values[i].model);
        free((void *)(uintptr_t)content->values[i].server);
        free((void *)(uintptr_t)content->values[i].agent);
        free((void *)(uintptr_t)content->values[i].user_data);
    }
    free(content->values);
    free(content);
}

int content_compare_keys(const presence_value *a, const presence_value *b)
{
    int by_server = strcmp(a->server, b->server);
    if (by_server != 0)
        return by_server;
    return (a->connection_id > b->connection_id) - (a->connection_id < b->connection_id);
}

const presence_value *content_find(const struct content *content, const char *server, uint64_t id)
{
    presence_value key = test_value(server, id, "", "");
    if (content->count == 0)
        return NULL;
    return bsearch(&key, content->values, content->count, sizeof *content->values, compare_for_sort);
}

bool test_values_equal(const presence_value *a, const presence_value *b, bool compare_last_seen)
{
    return content_compare_keys(a, b) == 0 && strcmp(a->model, b->model) == 0 && strcmp(a->agent, b->agent) == 0 &&
           strcmp(a->user_data, b->user_data) == 0 && a->controller_agent == b->controller_agent &&
           a->status == b->status && (!compare_last_seen || a->last_seen == b->last_seen);
}

static void describe_value(char *text, size_t bytes, const presence_value *value)
{
    snprintf(text, bytes, "%.40s/%" PRIu64 " model %.40s agent %.40s data \"%.20s\"%s %s seen %" PRId64, value->server,
             value->connection_id, value->model, value->agent, value->user_data,
             value->controller_agent ? " controller" : "", presence_status_string(value->status), value->last_seen);
}

bool content_equal(const struct content *a, const struct content *b, bool compare_last_seen, char *difference)
{
    size_t shared = a->count < b->count ? a->count : b->count;
    for (size_t i = 0; i < shared; i++) {
        if (test_values_equal(&a->values[i], &b->values[i], compare_last_seen))
            continue;
        if (difference != NULL) {
            char left[CONTENT_DIFFERENCE_BYTES / 2 - 8], right[CONTENT_DIFFERENCE_BYTES / 2 - 8];
            describe_value(left, sizeof left, &a->values[i]);
            describe_value(right, sizeof right, &b->values[i]);
            snprintf(difference, CONTENT_DIFFERENCE_BYTES, "%s | %s", left, right);
        }
        return false;
    }
    if (a->count == b->count)
        return true;
    if (difference != NULL)
        snprintf(difference, CONTENT_DIFFERENCE_BYTES, "%zu values | %zu values", a->count, b->count);
    return false;
}
