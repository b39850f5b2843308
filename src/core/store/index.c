/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.c - linear hashing: insert, remove, split one bucket, merge one bucket.
 *
 * Keeps true: an entry stands in the chain of index_place(hash); a chain's overflow buckets are never empty; buckets
 * before `buckets` have pages. The load is held near 70 % of the primary slots. Under the recorder's mutex.
 * A split moves some seven entries. From 2^12 buckets on their tags say where each goes; before, whoever knows the keys
 * is asked for the hash of each.
 */
#include "store/index.h"

#include <assert.h>

_Static_assert(sizeof(struct index_bucket) == 64, "a bucket is one cache line");

enum {
    INDEX_PAGE_BYTES = INDEX_PAGE_BUCKETS * 64,
    INDEX_LOAD_TENTHS = 70,  /* entries per ten buckets at which one is split */
    INDEX_LONGEST_SPLIT = 4, /* overflow buckets; a longer chain is left alone, so a split is bounded by the reserve */
    INDEX_MOST_CARRIED = (INDEX_LONGEST_SPLIT + 1) * INDEX_BUCKET_ENTRIES
};

void index_init(struct index *index)
{
    memset(index, 0, sizeof *index);
    pv_init(&index->primary, INDEX_PAGE_BYTES);
    pv_init(&index->overflow, INDEX_PAGE_BYTES);
}

static struct index_bucket *edit_bucket(struct pv *pv, struct versions *versions, uint32_t bucket)
{
    struct index_bucket *page = pv_edit_page(pv, versions, bucket >> INDEX_PAGE_BITS);
    return &page[bucket & (INDEX_PAGE_BUCKETS - 1)];
}

/* The same, of a bucket that was just looked at: `at` is the number of an overflow bucket + 1, or 0 for the primary. */
static inline struct index_bucket *edit_seen(struct index *index, struct versions *versions, uint32_t primary,
                                             uint32_t at, const struct index_bucket *seen)
{
    if (versions_owns_all(versions))
        return (struct index_bucket *)(uintptr_t)seen;
    return at ? edit_bucket(&index->overflow, versions, at - 1) : edit_bucket(&index->primary, versions, primary);
}

static uint32_t take_overflow(struct index *index, struct versions *versions)
{
    if (!index->free_overflow) {
        uint32_t page = pv_extend(&index->overflow, versions);
        struct index_bucket *buckets = pv_fill(&index->overflow, versions, page, true);
        for (uint32_t i = 0; i < INDEX_PAGE_BUCKETS; i++)
            buckets[i].next = i + 1 < INDEX_PAGE_BUCKETS ? page * INDEX_PAGE_BUCKETS + i + 2 : 0;
        index->free_overflow = page * INDEX_PAGE_BUCKETS + 1;
    }
    uint32_t taken = index->free_overflow - 1;
    struct index_bucket *bucket = edit_bucket(&index->overflow, versions, taken);
    index->free_overflow = bucket->next;
    index->used_overflow++;
    memset(bucket, 0, sizeof *bucket);
    return taken;
}

static void give_overflow(struct index *index, struct versions *versions, uint32_t given)
{
    struct index_bucket *bucket = edit_bucket(&index->overflow, versions, given);
    memset(bucket, 0, sizeof *bucket);
    bucket->next = index->free_overflow;
    index->free_overflow = given + 1;
    index->used_overflow--;
}

/* Puts an entry into the first hole of a chain. */
static void place(struct index *index, struct versions *versions, uint32_t primary, uint16_t tag, uint32_t ref)
{
    const struct index_bucket *bucket = index_bucket_at(&index->primary, primary);
    uint32_t holes = index_match(bucket, 0), at = 0; /* at: overflow bucket + 1; 0: the primary */
    while (!holes && bucket->next) {
        at = bucket->next;
        bucket = index_bucket_at(&index->overflow, at - 1);
        holes = index_match(bucket, 0);
    }
    struct index_bucket *edit = edit_seen(index, versions, primary, at, bucket);
    if (__builtin_expect(!holes, 0)) {
        uint32_t fresh = take_overflow(index, versions);
        /* taking may have copied the page that `edit` stands on */
        edit = at ? edit_bucket(&index->overflow, versions, at - 1) : edit_bucket(&index->primary, versions, primary);
        edit->next = fresh + 1;
        edit = edit_bucket(&index->overflow, versions, fresh);
        holes = 1;
    }
    unsigned slot = (unsigned)__builtin_ctz(holes);
    edit->tag[slot] = tag;
    edit->ref[slot] = ref;
}

static uint32_t chain_length(const struct index *index, uint32_t primary)
{
    uint32_t length = 0;
    for (const struct index_bucket *b = index_bucket_at(&index->primary, primary); b->next; length++)
        b = index_bucket_at(&index->overflow, b->next - 1);
    return length;
}

struct carried {
    uint32_t ref;
    uint16_t tag;
};

/* Adds a chain's entries to an array of INDEX_MOST_CARRIED or more, empties it, and gives its overflow back. */
static size_t unload(struct index *index, struct versions *versions, uint32_t primary, struct carried *out,
                     size_t count)
{
    struct index_bucket *bucket = edit_bucket(&index->primary, versions, primary);
    uint32_t next = bucket->next;
    for (unsigned i = 0; i < INDEX_BUCKET_ENTRIES; i++)
        if (bucket->tag[i])
            out[count++] = (struct carried){bucket->ref[i], bucket->tag[i]};
    memset(bucket, 0, sizeof *bucket);
    while (next) {
        uint32_t at = next - 1;
        const struct index_bucket *over = index_bucket_at(&index->overflow, at);
        for (unsigned i = 0; i < INDEX_BUCKET_ENTRIES; i++)
            if (over->tag[i])
                out[count++] = (struct carried){over->ref[i], over->tag[i]};
        next = over->next;
        give_overflow(index, versions, at);
    }
    return count;
}

static void add_bucket(struct index *index, struct versions *versions)
{
    uint32_t bucket = index->buckets;
    if ((bucket & (INDEX_PAGE_BUCKETS - 1)) == 0)
        pv_fill(&index->primary, versions, pv_extend(&index->primary, versions), true);
    index->buckets++;
    if (index->buckets > index->mask * 2 + 1)
        index->mask = index->mask * 2 + 1;
}

/* Fills an empty chain. */
static void load(struct index *index, struct versions *versions, uint32_t primary, const struct carried *entries,
                 size_t count)
{
    struct index_bucket *bucket = edit_bucket(&index->primary, versions, primary);
    uint32_t at = 0; /* overflow bucket + 1; 0: the primary */
    for (size_t i = 0; i < count; i++) {
        unsigned slot = (unsigned)(i % INDEX_BUCKET_ENTRIES);
        if (i > 0 && slot == 0) {
            uint32_t fresh = take_overflow(index, versions);
            /* taking may have copied the page that `bucket` stands on */
            bucket =
                at ? edit_bucket(&index->overflow, versions, at - 1) : edit_bucket(&index->primary, versions, primary);
            bucket->next = at = fresh + 1;
            bucket = edit_bucket(&index->overflow, versions, fresh);
        }
        bucket->tag[slot] = entries[i].tag;
        bucket->ref[slot] = entries[i].ref;
    }
}

/* Does the tag hold the bit by which a split into bucket `fresh` decides? Where the tag stands for two hashes, not. */
static bool tag_decides(uint16_t tag, uint32_t bit)
{
    return bit >= (uint32_t)1 << INDEX_TAG_SHIFT && !(tag == 1 && bit == (uint32_t)1 << INDEX_TAG_SHIFT);
}

static void split_one(struct index *index, struct versions *versions, index_hash_of *hash_of, const void *context)
{
    uint32_t fresh = index->buckets;
    uint32_t old = fresh & index->mask; /* mask is for the buckets before; fresh shares its low bits with old */
    uint32_t bit = fresh - old;
    if (index->buckets >= (uint32_t)1 << INDEX_HASH_BITS || chain_length(index, old) > INDEX_LONGEST_SPLIT)
        return;
    struct carried all[INDEX_MOST_CARRIED], moved[INDEX_MOST_CARRIED];
    size_t count = unload(index, versions, old, all, 0), stays = 0, moves = 0;
    add_bucket(index, versions);
    for (size_t i = 0; i < count; i++) {
        uint32_t hash =
            tag_decides(all[i].tag, bit) ? (uint32_t)all[i].tag << INDEX_TAG_SHIFT : hash_of(context, all[i].ref);
        if (hash & bit)
            moved[moves++] = all[i];
        else
            all[stays++] = all[i];
    }
    load(index, versions, old, all, stays);
    load(index, versions, fresh, moved, moves);
}

static void merge_one(struct index *index, struct versions *versions)
{
    uint32_t last = index->buckets - 1;
    uint32_t mask = last <= index->mask && index->mask > 0 ? index->mask >> 1 : index->mask;
    uint32_t buddy = last & mask;
    if (chain_length(index, last) + chain_length(index, buddy) > INDEX_LONGEST_SPLIT)
        return;
    struct carried moved[2 * INDEX_MOST_CARRIED];
    size_t count = unload(index, versions, last, moved, 0);
    count = unload(index, versions, buddy, moved, count);
    if ((last & (INDEX_PAGE_BUCKETS - 1)) == 0)
        pv_shrink(&index->primary, versions);
    index->buckets--;
    index->mask = mask;
    load(index, versions, buddy, moved, count);
}

void index_insert(struct index *index, struct versions *versions, uint64_t hash, uint32_t ref, index_hash_of *hash_of,
                  const void *context)
{
    if (index->buckets == 0)
        add_bucket(index, versions);
    place(index, versions, index_place(index, (uint32_t)hash & INDEX_HASH_MASK), index_tag(hash), ref);
    index->count++;
    if (index->count * 10 > (uint64_t)index->buckets * INDEX_LOAD_TENTHS)
        split_one(index, versions, hash_of, context);
}

bool index_remove(struct index *index, struct versions *versions, uint64_t hash, uint32_t ref)
{
    uint16_t tag = index_tag(hash);
    if (index->buckets == 0)
        return false;
    uint32_t primary = index_place(index, (uint32_t)hash & INDEX_HASH_MASK), at = 0, before = 0;
    const struct index_bucket *bucket = index_bucket_at(&index->primary, primary);
    for (;;) {
        for (uint32_t matches = index_match(bucket, tag); matches; matches &= matches - 1) {
            unsigned slot = (unsigned)__builtin_ctz(matches);
            if (bucket->ref[slot] != ref)
                continue;
            struct index_bucket *edit = edit_seen(index, versions, primary, at, bucket);
            edit->tag[slot] = 0;
            edit->ref[slot] = 0;
            if (at && index_match(edit, 0) == INDEX_ALL_SLOTS) { /* an empty overflow bucket leaves its chain */
                uint32_t next = edit->next;
                struct index_bucket *previous = before ? edit_bucket(&index->overflow, versions, before - 1)
                                                       : edit_bucket(&index->primary, versions, primary);
                previous->next = next;
                give_overflow(index, versions, at - 1);
            }
            index->count--;
            if (index->buckets > 1 && index->count * 20 < (uint64_t)index->buckets * INDEX_LOAD_TENTHS)
                merge_one(index, versions);
            return true;
        }
        if (!bucket->next)
            return false;
        before = at;
        at = bucket->next;
        bucket = index_bucket_at(&index->overflow, at - 1);
    }
}

void index_compact(struct index *index, struct versions *versions)
{
    pv_truncate(&index->primary, versions, index->primary.pages);
    if (index->used_overflow)
        return;
    for (uint32_t page = index->overflow.pages; page-- > 0;)
        pv_shrink(&index->overflow, versions);
    pv_truncate(&index->overflow, versions, 0);
    index->free_overflow = 0;
}

/* ------------------------------------------------------------------------------------------------------- check -- */

const char *index_check(const struct index *index, const struct versions *versions, index_hash_of *hash_of,
                        const void *context)
{
    const char *wrong = pv_check(&index->primary, versions);
    wrong = wrong ? wrong : pv_check(&index->overflow, versions);
    if (wrong)
        return wrong;
    if (index->buckets && (index->mask >= index->buckets || index->mask * 2 + 1 < index->buckets))
        return "an index's mask does not fit its buckets";
    uint64_t found = 0;
    for (uint32_t primary = 0; primary < index->buckets; primary++) {
        const struct index_bucket *bucket = index_bucket_at(&index->primary, primary);
        for (bool first = true; bucket; first = false) {
            uint32_t here = 0;
            for (unsigned i = 0; i < INDEX_BUCKET_ENTRIES; i++) {
                if (!bucket->tag[i])
                    continue;
                here++;
                uint32_t hash = hash_of(context, bucket->ref[i]);
                if (index_place(index, hash) != primary)
                    return "an index entry stands in another bucket than its hash says";
                if (bucket->tag[i] != index_tag(hash))
                    return "an index entry has another tag than its hash says";
            }
            if (!first && here == 0)
                return "an index chain has an empty overflow bucket";
            found += here;
            bucket = bucket->next ? index_bucket_at(&index->overflow, bucket->next - 1) : NULL;
        }
    }
    return found == index->count ? NULL : "an index holds another number of entries than it counts";
}
