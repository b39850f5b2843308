/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_index.c - an index that grows and shrinks through the sizes at which splits change their ways, under views.
 *
 * From 2^12 buckets on, the tag that a bucket keeps of each hash says where an entry goes; but a tag of 1 stands for 0
 * too, so that its lowest bit, which decides up to 2^13 buckets, is not to be trusted. The first stories have hashes of
 * their own choice, with every bucket full of such tags; the last is a recorder's.
 */
#include "../support/story.h"
#include "store/index.h"

#include <stdio.h>

enum { TAG_0_OR_1 = 8192, MOST = 70000, STEP = 7000, VIEWS = MOST / 10000 };

struct setting {
    struct arena arena;
    struct versions versions;
    struct index index;
    uint64_t asked; /* how often the index asked for a hash */
    uint32_t gone;
};

/* References 0 to 8191: every value of the low 12 bits, with the tags 0 and 1; the others' hashes lie anywhere. */
static uint32_t hash_of(const void *context, uint32_t ref)
{
    ((struct setting *)(uintptr_t)context)->asked++;
    return ref < TAG_0_OR_1 ? ref : (uint32_t)(ref * 2654435761u) >> 4;
}

static void count_gone(void *context, struct version *version)
{
    (void)version;
    ((struct setting *)context)->gone++;
}

static void begin(struct setting *it)
{
    memset(it, 0, sizeof *it);
    arena_init(&it->arena, &memory_default, 0);
    versions_init(&it->versions, &it->arena, count_gone, it);
    index_init(&it->index);
}

static void insert(struct setting *it, uint32_t ref)
{
    assert_int_equal(arena_reserve(&it->arena), PRESENCE_OK);
    index_insert(&it->index, &it->versions, hash_of(it, ref), ref, hash_of, it);
}

static void removes(struct setting *it, uint32_t ref)
{
    assert_int_equal(arena_reserve(&it->arena), PRESENCE_OK);
    assert_true(index_remove(&it->index, &it->versions, hash_of(it, ref), ref));
}

static bool has(struct setting *it, const struct index *index, uint32_t ref)
{
    struct index_probe probe = index_probe_start(index, hash_of(it, ref));
    uint32_t candidate, found = 0;
    while (index_probe_next(&probe, &candidate))
        found += candidate == ref;
    assert_true(found <= 1);
    return found;
}

/* Exactly the references below `end` are in it. */
static void holds(struct setting *it, const struct index *index, uint32_t end)
{
    assert_int_equal(index->count, end);
    for (uint32_t ref = 0; ref < MOST; ref++)
        if (has(it, index, ref) != (ref < end))
            fail_msg("of %u references, %u is %s", end, ref, ref < end ? "not there" : "there");
}

static void is_whole(struct setting *it)
{
    const char *wrong = index_check(&it->index, &it->versions, hash_of, it);
    if (wrong)
        fail_msg("%s, at %u buckets", wrong, it->index.buckets);
}

static void the_tags_say_where_entries_go(void **state)
{
    (void)state;
    struct setting it;
    begin(&it);
    for (uint32_t ref = 0; ref < MOST; ref++) {
        insert(&it, ref);
        if (it.index.count % STEP == 0)
            is_whole(&it);
    }
    assert_true(it.index.buckets > 1 << 13);
    holds(&it, &it.index, MOST);
    for (uint32_t ref = MOST; ref-- > 0;) {
        removes(&it, ref);
        if (it.index.count % STEP == 0)
            is_whole(&it);
    }
    holds(&it, &it.index, 0);
    arena_free(&it.arena);
}

/* Beyond 2^13 buckets a split asks for no hash: it touches nothing but buckets. Before that, only of tags 1. */
static void a_split_of_a_large_index_asks_for_no_hash(void **state)
{
    (void)state;
    struct setting it;
    begin(&it);
    uint32_t ref = 0;
    while (it.index.buckets < 1 << 12)
        insert(&it, ref++);
    it.asked = 0;
    uint32_t first = ref;
    while (it.index.buckets < 1 << 13)
        insert(&it, ref++);
    uint64_t asked = it.asked - (ref - first);          /* without those that this story asks for */
    assert_in_range(asked, TAG_0_OR_1, TAG_0_OR_1 + 9); /* a few others have such tags by chance */
    it.asked = 0;
    for (first = ref; ref < MOST; ref++)
        insert(&it, ref);
    assert_int_equal(it.asked - (ref - first), 0);
    arena_free(&it.arena);
}

static void views_see_it_as_it_was(void **state)
{
    (void)state;
    struct setting it;
    begin(&it);
    struct index seen[VIEWS];
    struct version versions[VIEWS] = {{0}};
    size_t views = 0;
    for (uint32_t ref = 0; ref < MOST; ref++) {
        insert(&it, ref);
        if (it.index.count % 10000 == 0) {
            seen[views] = it.index;
            versions_add(&it.versions, &versions[views++]);
        }
    }
    is_whole(&it);
    for (uint32_t ref = MOST; ref-- > 0;) {
        removes(&it, ref);
        if (it.index.count % 10000 == 5000)
            is_whole(&it);
    }
    for (uint32_t ref = 0; ref < 30000; ref++) /* and up again, where it was before */
        insert(&it, ref);
    is_whole(&it);
    for (size_t i = 0; i < VIEWS; i++) {
        size_t view = (i * 5 + 2) % VIEWS; /* in no order */
        holds(&it, &seen[view], (uint32_t)(view + 1) * 10000);
        versions_release(&it.versions, &versions[view]);
        while (versions_drain(&it.versions, 1000)) {}
        assert_int_equal(it.gone, i + 1);
    }
    holds(&it, &it.index, 30000);
    assert_int_equal(it.versions.retained_bytes, 0);
    for (uint32_t ref = 0; ref < 30000; ref++)
        removes(&it, ref);
    is_whole(&it);
    index_compact(&it.index, &it.versions);
    is_whole(&it);
    arena_free(&it.arena);
}

/* ---------------------------------------------------------------------------------------------- a whole recorder -- */

enum { PEOPLE = 100000, LOOK = 25000 };

static void checks(struct world *world)
{
    presence_error error = {0};
    if (presence_recorder_check(world->recorder, &error))
        fail_msg("the record is broken: %s", error.message);
}

static void one_comes(struct world *world, uint64_t id)
{
    char agent[TEST_NAME_BYTES], model[TEST_NAME_BYTES];
    expect_code(PRESENCE_OK, presence_recorder_connect(world->recorder, id % 3 ? "machine-0" : "machine-1",
                                                       test_name(model, "model", id % 500),
                                                       test_name(agent, "agent", id), id, false, NULL));
}

static void a_record_grows_and_shrinks_under_views(void **state)
{
    struct world *world = *state;
    presence_connections *views[PEOPLE / LOOK];
    size_t held = 0;
    for (uint64_t id = 0; id < PEOPLE; id++) {
        one_comes(world, id);
        if ((id + 1) % LOOK == 0) {
            checks(world);
            views[held++] = presence_recorder_connections(world->recorder);
        }
    }
    for (uint64_t id = PEOPLE; id-- > 0;) {
        disconnects(world, id % 3 ? "machine-0" : "machine-1", id);
        if (id % LOOK == LOOK / 2)
            checks(world);
    }
    expect_counts(world, 0, 0);
    checks(world);
    for (size_t i = 0; i < held; i++) {
        uint64_t there = (i + 1) * LOOK;
        assert_int_equal(presence_connections_count(views[i]), there);
        for (uint64_t id = 0; id < PEOPLE; id += 97) {
            presence_value value;
            int code = presence_connections_find(views[i], id % 3 ? "machine-0" : "machine-1", id, &value);
            assert_int_equal(code, id < there ? PRESENCE_OK : PRESENCE_E_NOT_FOUND);
        }
        presence_connections_free(views[i]);
    }
    presence_recorder_trim(world->recorder);
    checks(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tags_say_where_entries_go),
        cmocka_unit_test(a_split_of_a_large_index_asks_for_no_hash),
        cmocka_unit_test(views_see_it_as_it_was),
        story(a_record_grows_and_shrinks_under_views),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
