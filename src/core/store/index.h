/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - a hash index from a 28-bit hash to 32-bit references, by linear hashing over a persistent vector.
 *
 * A bucket is one cache line: ten tags of two bytes, ten references, a link to an overflow bucket. The index grows and
 * shrinks by one bucket at a time, beside the inserts and removals, so there is never a rehash pause. It knows no keys:
 * a probe gives the references whose tag fits, and the caller compares. Copying a struct index is taking a snapshot.
 *
 * A tag is bits 12 to 27 of the hash. So it tells more than one byte would, where the index is small; and where it has
 * 2^12 buckets or more, it holds the bit by which a split decides, which then touches nothing but buckets.
 *
 * References with one hash may stand in it more than once; a reference is removed by (hash, reference).
 * Readers of a snapshot use the probe only. Cost of a probe: one cache miss, rarely two. About 10 bytes an entry.
 */
#ifndef INDEX_H
#define INDEX_H

#include "store/pv.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { INDEX_BUCKET_ENTRIES = 10, INDEX_PAGE_BITS = 5, INDEX_PAGE_BUCKETS = 1 << INDEX_PAGE_BITS };
enum { INDEX_HASH_BITS = 28, INDEX_TAG_SHIFT = 12, INDEX_ALL_SLOTS = (1 << INDEX_BUCKET_ENTRIES) - 1 };
#define INDEX_HASH_MASK (((uint32_t)1 << INDEX_HASH_BITS) - 1)

struct index_bucket {
    uint16_t tag[INDEX_BUCKET_ENTRIES]; /* 0: empty */
    uint32_t ref[INDEX_BUCKET_ENTRIES];
    uint32_t next; /* overflow bucket + 1; 0: none */
};

struct index {
    struct pv primary, overflow;
    uint64_t count;
    uint32_t buckets;       /* primary ones */
    uint32_t mask;          /* (largest power of two <= buckets) - 1 */
    uint32_t free_overflow; /* bucket + 1, linked through `next` */
    uint32_t used_overflow;
};

/* The hash of a reference, for splits of small indexes and for checks: its low 28 bits. */
typedef uint32_t index_hash_of(const void *context, uint32_t ref);

void index_init(struct index *index);
/* Of a hash only the low 28 bits count. Under a reserve; never fail. */
void index_insert(struct index *index, struct versions *versions, uint64_t hash, uint32_t ref, index_hash_of *hash_of,
                  const void *context);
/* False: not there, a broken promise of the caller. */
bool index_remove(struct index *index, struct versions *versions, uint64_t hash, uint32_t ref);
/* Gives back what it does not use. Only where there is no snapshot. O(its size). */
void index_compact(struct index *index, struct versions *versions);
/* NULL, or what is wrong. O(entries). */
const char *index_check(const struct index *index, const struct versions *versions, index_hash_of *hash_of,
                        const void *context);

static inline uint16_t index_tag(uint64_t hash)
{
    uint16_t tag = (uint16_t)(hash >> INDEX_TAG_SHIFT);
    return tag ? tag : 1;
}

static inline uint32_t index_place(const struct index *index, uint32_t hash)
{
    uint32_t wide = hash & (index->mask * 2 + 1);
    return wide < index->buckets ? wide : hash & index->mask;
}

static inline const struct index_bucket *index_bucket_at(const struct pv *pv, uint32_t bucket)
{
    const struct index_bucket *page = pv_page(pv, bucket >> INDEX_PAGE_BITS);
    return &page[bucket & (INDEX_PAGE_BUCKETS - 1)];
}

/* A bit for each slot whose tag equals `tag`. */
static inline uint32_t index_match(const struct index_bucket *bucket, uint16_t tag)
{
#ifdef __SSE2__
    __m128i wanted = _mm_set1_epi16((short)tag);
    __m128i first = _mm_loadu_si128((const __m128i *)(const void *)bucket->tag);
    __m128i last = _mm_loadu_si128((const __m128i *)(const void *)(bucket->tag + 2)); /* slots 2 to 9 */
    __m128i equal = _mm_packs_epi16(_mm_cmpeq_epi16(first, wanted), _mm_cmpeq_epi16(last, wanted));
    uint32_t bits = (uint32_t)_mm_movemask_epi8(equal);
    return (bits & 0xff) | (bits >> 6 & 0x300);
#else
    uint32_t bits = 0;
    for (unsigned i = 0; i < INDEX_BUCKET_ENTRIES; i++)
        bits |= (uint32_t)(bucket->tag[i] == tag) << i;
    return bits;
#endif
}

struct index_probe {
    const struct index *index;
    const struct index_bucket *bucket;
    uint32_t matches;
    uint16_t tag;
};

/* The bucket at which a hash's chain begins, to be asked for ahead; NULL: the index is empty. It stays so until the
 * index, or a snapshot, changes. */
static inline const struct index_bucket *index_home(const struct index *index, uint64_t hash)
{
    if (!index->buckets)
        return NULL;
    return index_bucket_at(&index->primary, index_place(index, (uint32_t)hash & INDEX_HASH_MASK));
}

static inline struct index_probe index_probe_at(const struct index *index, const struct index_bucket *home,
                                                uint64_t hash)
{
    struct index_probe probe = {.index = index, .bucket = home, .tag = index_tag(hash)};
    if (home)
        probe.matches = index_match(home, probe.tag);
    return probe;
}

static inline struct index_probe index_probe_start(const struct index *index, uint64_t hash)
{
    return index_probe_at(index, index_home(index, hash), hash);
}

/* True: *ref is the next candidate. */
static inline bool index_probe_next(struct index_probe *probe, uint32_t *ref)
{
    while (probe->bucket) {
        if (probe->matches) {
            unsigned slot = (unsigned)__builtin_ctz(probe->matches);
            probe->matches &= probe->matches - 1;
            *ref = probe->bucket->ref[slot];
            return true;
        }
        if (!probe->bucket->next)
            return false;
        probe->bucket = index_bucket_at(&probe->index->overflow, probe->bucket->next - 1);
        probe->matches = index_match(probe->bucket, probe->tag);
    }
    return false;
}

/* The first candidate, unseen: most often the right one. For hints. */
static inline bool index_guess(const struct index *index, uint64_t hash, uint32_t *ref)
{
    struct index_probe probe = index_probe_start(index, hash);
    return index_probe_next(&probe, ref);
}

static inline void index_prefetch(const struct index *index, uint64_t hash)
{
    memory_prefetch(index_home(index, hash)); /* asking for NULL does nothing */
}

/* The bucket that the next split takes apart: soon to be needed by whoever inserts. */
static inline void index_prefetch_split(const struct index *index)
{
    if (index->buckets)
        memory_prefetch(index_bucket_at(&index->primary, index->buckets & index->mask));
}

#endif
