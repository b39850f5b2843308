/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - the cluster's messages, between bytes and plain structs. The format is cluster.proto; its codec is
 * generated (protobuf-c), and nobody outside this folder sees it.
 *
 * A message that is decoded lies in an arena with everything that it points to, until the arena is reset. Decoding is
 * safe on any bytes, and costs memory at most some forty times their length. Strings are never NULL; they are as they
 * came (whether they are good names the recorder says). Counts and indexes are checked: an index of a model that is not
 * there, a change without a kind, a reason out of range make the whole message malformed.
 *
 * Threads: none of its own; an arena or a buffer belongs to one thread at a time. Errors: negative, see wire_strerror.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <presence/replica.h>

enum {
    WIRE_VERSION = 1,
    WIRE_MOST_BYTES = 512 * 1024, /* longer messages are neither sent nor read; NATS allows 1 MiB by default */
    WIRE_BATCH_BYTES = 16 * 1024, /* about where changes and chunks are cut */
    WIRE_MOST_PARTS = 65535,      /* of one beat */
    WIRE_MOST_EVIDENCE = 256,     /* connections in one answer about an agent */
};

enum wire_error {
    WIRE_OK = 0,
    WIRE_E_MALFORMED = -1, /* not the format, or it contradicts itself */
    WIRE_E_VERSION = -2,   /* of a version above ours */
    WIRE_E_UNKNOWN = -3,   /* a body or a question that this version does not know: to be ignored */
    WIRE_E_TOO_LONG = -4,
    WIRE_E_NO_MEMORY = -5,
};
const char *wire_strerror(int error);

enum wire_kind {
    WIRE_BEAT = 10,
    WIRE_CHANGES,
    WIRE_ACTIVITY,
    WIRE_ASK,
    WIRE_CHUNK,
    WIRE_KNOWN,
    WIRE_FORGET,
    WIRE_EVIDENCE,
    WIRE_DIFFERENCE, /* a chunk, of what came since a number */
};

struct wire_stand {
    const char *server;
    presence_claim claim;
    uint64_t number, floor, connections, alive;
    presence_digest digest;
    bool complete, forgotten, lapsed;
    const char *holder;
    uint64_t inherited;
};

struct wire_beat {
    uint64_t sequence, nonce;
    uint32_t interval_ms, lease_ms;
    bool joining, leaving;
    uint32_t part, parts; /* part < parts; parts is at least 1 */
    struct wire_stand *stands;
    size_t count;
    uint64_t memory;
};

/* Numbers are first, first + 1, ..., from 1: each change's number is set by decoding, and not looked at by encoding. A
 * CONNECT's value has model, agent, data, id, controller_agent, and last_seen (= time: that is what is sent), and is
 * alive; a DISCONNECT's has its id. Their server is the message's. What a kind does not need is neither sent nor read.
 */
struct wire_changes {
    const char *server;
    presence_claim claim;
    uint64_t first;
    presence_change *changes;
    size_t count;
};

struct wire_activity {
    const char *server;
    presence_claim claim;
    uint64_t number;
    const uint64_t *ids;       /* ascending, none twice */
    const presence_time *seen; /* to the millisecond: they come less than one early */
    size_t count;
};

enum wire_question { WIRE_ASK_CHANGES = 1, WIRE_ASK_STATE, WIRE_ASK_KNOWN, WIRE_ASK_STANDS, WIRE_ASK_AGENT };

struct wire_range {
    uint64_t first, last; /* first <= last */
};

struct wire_ask {
    enum wire_question question;
    const char *server;
    presence_claim claim;
    uint64_t after, transfer, tag;
    bool difference;
    struct wire_range *missing;
    size_t missing_count;
    const char *model, *agent;
};

/* Values have status ALIVE or MISSING, and the message's server. */
struct wire_chunk {
    const char *server;
    presence_claim claim;
    uint64_t number, floor;
    presence_reason floor_reason;
    presence_time floor_time;
    uint64_t transfer, index, connections;
    bool last;
    presence_value *values;
    size_t count;
    /* of a CHUNK only */
    presence_value *inherited;
    size_t inherited_count;
    /* of a DIFFERENCE only */
    uint64_t since;
    const uint64_t *gone; /* ascending, none twice */
    size_t gone_count;
    presence_digest digest;
};

struct wire_known {
    uint64_t tag;
    bool more;
    struct wire_stand *stands;
    size_t count;
};

struct wire_forget {
    const char *server;
    presence_claim claim;
    uint64_t number;
};

struct wire_connection {
    const char *server, *holder;
    uint64_t id;
    bool controller, missing, stale;
    presence_time last_seen;
};

struct wire_evidence {
    uint64_t tag, total;
    const char *model, *agent;
    presence_status status;
    presence_reason reason;
    presence_time since, last_seen;
    bool stale;
    struct wire_connection *connections;
    size_t count;
};

struct wire_message {
    const char *node;
    uint64_t run;
    enum wire_kind kind;
    union {
        struct wire_beat beat;
        struct wire_changes changes;
        struct wire_activity activity;
        struct wire_ask ask;
        struct wire_chunk chunk;
        struct wire_known known;
        struct wire_forget forget;
        struct wire_evidence evidence;
    };
};

/* Memory for messages one after the other: grows to the largest, kept until freed. */
struct wire_arena;
struct wire_arena *wire_arena_new(void); /* NULL: out of memory */
/* The same from this memory; the hook is copied. */
struct wire_arena *wire_arena_new_from(const presence_allocator *memory);
void wire_arena_free(struct wire_arena *arena);
void wire_arena_reset(struct wire_arena *arena);

/* *message lies in the arena until it is reset. MALFORMED, VERSION, UNKNOWN, TOO_LONG, NO_MEMORY. */
int wire_decode(struct wire_arena *arena, const void *bytes, size_t length, struct wire_message *message);
/* The same by the generated code alone, which reads all that can be read: for comparing. */
int wire_decode_generally(struct wire_arena *arena, const void *bytes, size_t length, struct wire_message *message);

/* The encoded message: *bytes lies in the arena until it is reset. NULL strings read as "". TOO_LONG, NO_MEMORY; and
 * MALFORMED for what decoding would refuse. Models of changes and chunks are listed once; O(count) where neighbours
 * share their model, and with a search among those of the message (at most 64) otherwise. */
int wire_encode(struct wire_arena *arena, const struct wire_message *message, const void **bytes, size_t *length);

/* About how many bytes these take encoded, for cutting batches: never less than half of it. A chunk lists the model of
 * several values once. */
size_t wire_change_bytes(const presence_change *change);
size_t wire_value_bytes(const presence_value *value, bool model_was_before);

#endif
