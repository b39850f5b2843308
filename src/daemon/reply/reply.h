/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.h - how a command says its answer, once, for every protocol.
 *
 * A command calls these in the order of the reply's shape; a writer turns them into RESP2 or RESP3 (reply/resp.h), or
 * JSON (reply/json.h). Exactly one whole reply is said for each command: a scalar, an error, or a container with
 * exactly as many items as it announced; containers end by themselves. An error is only ever the whole reply.
 *
 *   said                  RESP2            RESP3             JSON
 *   reply_map(n)          array of 2n      map               object
 *   reply_array(n)        array            array             array
 *   reply_tuple(n)        array            array             object, by the names that reply_field gives
 *   reply_push(n)         array            push              (a watch's own writer)
 *   reply_integer         integer          integer           number
 *   reply_id              bulk string      bulk string       string: 64 bits do not fit JavaScript
 *   reply_text            bulk string      bulk string       string
 *   reply_word            simple string    simple string     string: OK, alive, PONG; a constant of ours
 *   reply_statuses        array of simple strings           array of strings
 *   reply_boolean         integer 0 or 1   boolean           true, false
 *   reply_time            integer, ms      integer, ms       RFC 3339 in UTC; the time 0 is null in all three
 *   reply_null            null bulk        null              null
 *   reply_error           -WORD text       -WORD text        RFC 9457 problem document, the status from the word
 *
 * Keys of a map are said by reply_key, and those of a tuple by reply_field, each before its value. Memory that runs out
 * is the writer's business: it marks itself failed, and the client is hung up on.
 * Costs O(what is said); one thread at a time.
 */
#ifndef DAEMON_REPLY_REPLY_H
#define DAEMON_REPLY_REPLY_H

#include "base/slice.h"

#include <presence/presence.h>

/* The words with which an error begins. */
enum error_word {
    ERROR_ERR,       /* a command that we do not know, a wrong number of arguments, a protocol error */
    ERROR_NOAUTH,    /* AUTH first */
    ERROR_WRONGPASS, /* AUTH with a token that is not known: the word that Redis clients look for */
    ERROR_NOPROTO,   /* HELLO with a version that we do not speak: likewise */
    ERROR_NOPERM,    /* the token's roles do not allow it */
    ERROR_DISABLED,
    ERROR_INVALID,
    ERROR_MISMATCH,
    ERROR_DUPLICATE,
    ERROR_STALE,
    ERROR_LAGGED,
    ERROR_BUSY /* a limit is reached, or memory is out: later, or less of it */
};

/* "ERR", "NOAUTH"... */
const char *error_word_text(enum error_word word);
/* The word for a PRESENCE_E_ code. */
enum error_word error_word_of(int code);

struct reply;

struct reply_writer {
    void (*map)(struct reply *reply, size_t pairs);
    void (*array)(struct reply *reply, size_t items);
    void (*tuple)(struct reply *reply, size_t items);
    void (*push)(struct reply *reply, size_t items);
    void (*key)(struct reply *reply, struct slice key); /* followed by a NUL */
    void (*field)(struct reply *reply, const char *key);
    void (*integer)(struct reply *reply, int64_t number);
    void (*id)(struct reply *reply, uint64_t number);
    void (*text)(struct reply *reply, struct slice text);
    void (*word)(struct reply *reply, struct slice word); /* followed by a NUL */
    void (*statuses)(struct reply *reply, const uint8_t *statuses, size_t count);
    void (*boolean)(struct reply *reply, bool value);
    void (*time)(struct reply *reply, presence_time time);
    void (*null)(struct reply *reply);
    void (*error)(struct reply *reply, enum error_word word, const char *text);
    void (*version)(struct reply *reply, int version); /* HELLO: RESP 2 or 3 from here on */
};

/* The head of every writer's own struct. */
struct reply {
    const struct reply_writer *writer;
};

static inline void reply_map(struct reply *reply, size_t pairs)
{
    reply->writer->map(reply, pairs);
}
static inline void reply_array(struct reply *reply, size_t items)
{
    reply->writer->array(reply, items);
}
static inline void reply_tuple(struct reply *reply, size_t items)
{
    reply->writer->tuple(reply, items);
}
static inline void reply_field(struct reply *reply, const char *key)
{
    reply->writer->field(reply, key);
}
static inline void reply_push(struct reply *reply, size_t items)
{
    reply->writer->push(reply, items);
}
/* Keys are constants of ours, so that the compiler knows their lengths. */
static inline void reply_key(struct reply *reply, const char *key)
{
    reply->writer->key(reply, slice_of(key));
}
static inline void reply_integer(struct reply *reply, int64_t number)
{
    reply->writer->integer(reply, number);
}
static inline void reply_id(struct reply *reply, uint64_t number)
{
    reply->writer->id(reply, number);
}
static inline void reply_text(struct reply *reply, struct slice text)
{
    reply->writer->text(reply, text);
}
static inline void reply_string(struct reply *reply, const char *text)
{
    reply->writer->text(reply, slice_of(text));
}
static inline void reply_word(struct reply *reply, const char *word)
{
    reply->writer->word(reply, slice_of(word));
}
/* An array of agents' statuses, each a presence_status in a byte. */
static inline void reply_statuses(struct reply *reply, const uint8_t *statuses, size_t count)
{
    reply->writer->statuses(reply, statuses, count);
}
static inline void reply_boolean(struct reply *reply, bool value)
{
    reply->writer->boolean(reply, value);
}
static inline void reply_time(struct reply *reply, presence_time time)
{
    reply->writer->time(reply, time);
}
static inline void reply_null(struct reply *reply)
{
    reply->writer->null(reply);
}

/* The most bytes that a text takes in any protocol, its quotes and its head counted; a control character is six bytes
 * of JSON. For pages that are bounded in bytes. */
size_t reply_text_bytes(const char *text);
/* The same of a map that tells this connection. */
size_t reply_value_bytes(const presence_value *value);

/* The REPLY_VALUE_MEMBERS members of a map that tell a connection, in the one order in which they are told: model,
 * server, agent, connection_id, controller_agent, status, user_data, last_seen. */
void reply_value(struct reply *reply, const presence_value *value);
enum { REPLY_VALUE_MEMBERS = 8 };

/* The four members of a map that tell how an agent is, and why: status, reason, since, last_seen. */
void reply_judgement(struct reply *reply, presence_status status, presence_reason reason, presence_time since,
                     presence_time last_seen);
/* The five members of a map that tell an agent's evidence: status, reason, since, last_seen, connections. */
void reply_evidence(struct reply *reply, const presence_evidence *evidence);

/* The text says what was wrong, with which argument. At most 400 bytes of it are kept; bytes that could break a line,
 * a terminal or JSON are shown as '?'. */
__attribute__((format(printf, 3, 4))) void reply_error(struct reply *reply, enum error_word word, const char *format,
                                                       ...);
/* The answer to a failed call of the recorder; `detail` may be NULL or empty. */
void reply_failure(struct reply *reply, int code, const char *detail);

#endif
