/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside.h - what the parts of the step function share: the node, its peers, and what it knows of each server.
 *
 * A server is OURS (this node states it), THEIRS (some run of some node does, or did), or NOBODY'S (heard of, or
 * stated here before a claim was possible). What it holds is in the recorder alone; here is only what is under way.
 *
 *   part           what it does
 *   step.c         making, the loop of what is due, receiving and sending
 *   known.c        the tables of peers and servers
 *   beat.c         beats, who is heard, deafness, leases (rules A to F)
 *   ours.c         claims, sending what is stated here, answering who missed something
 *   transfer.c     sending whole states in chunks
 *   follow.c       applying what others state, finding and repairing gaps
 *   intake.c       receiving whole states
 *   orphans.c      servers whose node is silent: memories, tombstones
 *   active.c       telling and taking activity
 *   tell.c         freshness, peers, counters, questions of operators
 */
#ifndef CLUSTER_INSIDE_H
#define CLUSTER_INSIDE_H

#include "cluster/step.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define NEVER UINT64_MAX

enum {
    PEER_BUCKETS = 256,    /* by name and run */
    ECHOES = 64,           /* own beats under way that are remembered */
    STATEMENTS_MOST = 512, /* read at once */
    STATEMENTS_BUSY = 64,  /* so many at once, and more will have come in a moment */
    JOINING_TAG = 1        /* of a newcomer's question what is remembered, and of its answer */
};

enum role { NOBODYS, OURS, THEIRS };
enum repair { REPAIR_NONE, REPAIR_CHANGES, REPAIR_STATE };

/* One run of a node. */
struct peer {
    struct peer *next;  /* all peers, as they became known */
    struct peer *chain; /* of its bucket */
    char node[STEP_NODE_BYTES];
    uint64_t run;
    uint64_t heard;    /* when its last beat came */
    uint64_t sequence; /* of that beat */
    uint64_t interval, lease;
    uint64_t memory;     /* its memory of orphans, as of its last beat */
    unsigned differs;    /* beats in a row in which it differed from ours */
    uint64_t telling;    /* what it remembers, in messages of which the last has not come; 0: it is not */
    bool tells_less;     /* of one server at least, than is remembered here */
    uint32_t parts_seen; /* of the beat that is coming in */
    size_t stands_seen;  /* in them, of servers that it states as far as we know */
    size_t servers;      /* stated by it, as far as we know */
    uint64_t asked_at;   /* what it remembers, while we join */
    size_t intakes;      /* states being received from it: we listen while there are any */
    bool joining, left, silent, asked;
};

struct held { /* a message that came too early */
    struct held *next;
    size_t length;
    unsigned char bytes[];
};

struct intake;
struct fill;
struct transfer;
struct marks;
struct batch;

struct server {
    char *name;
    struct server *next, *previous; /* all servers, as they became known */
    enum role role;
    struct peer *holder; /* THEIRS: who states it; NULL: a run that is gone */
    /* what its holder last told of itself */
    struct wire_stand told; /* without strings */
    uint64_t told_sequence, told_at;
    uint64_t behind;            /* the number that we lacked at the beat before */
    uint64_t needed;            /* at least this number was stated, as changes show that are ahead of what is here */
    presence_claim heard_claim; /* the largest heard of */
    uint64_t rumoured;          /* OURS: since when heard_claim is larger, in memories only; 0: it is not */
    uint64_t epoch;             /* step_claim's, where wants_epoch */
    bool is_told;               /* false: nothing yet, under this claim */
    bool last_word;             /* what `told` holds its holder said at its goodbye */
    bool stated_unclaimed;      /* here, and to be claimed */
    bool wanted;                /* by step_claim: a session holds it here */
    bool early;                 /* so before this node was ready: a larger claim may only not have been heard of */
    bool wants_epoch;           /* with an epoch */
    bool lapsed, vouched;       /* vouched: all that the claim began with is here: changes can follow */
    uint64_t orphaned;          /* when its holder stopped stating it; 0: it has not. By server_orphan */
    uint64_t claimed_at;        /* THEIRS: when its claim was taken here */
    uint64_t lapsed_at, forgotten_at;
    presence_time active_mark; /* OURS: the latest last_seen that was told */
    /* OURS */
    uint64_t sent, settle; /* numbers that went out; when the claim's settle time is over */
    uint64_t mark; /* the recorder's, of before the claim; of the first, if it was taken again before complete */
    bool retaken;  /* it was: what was not stated since the mark goes when the settle time is over */
    struct batch *batch;
    struct transfer *transfer, *difference; /* of its whole state; of what came since a number */
    struct marks *marks;                    /* which numbers are known to be how old */
    /* THEIRS: a repair under way */
    enum repair repair;
    unsigned tries;
    struct peer *source; /* who was asked */
    uint64_t asked_at, asked_number;
    uint64_t sought_number, sought_sum; /* of what is fetched, as a memory told it; 0: none did */
    struct intake *intake;
    struct fill *fill;           /* the state that comes is recorded piece by piece */
    bool applying;               /* a whole state is being recorded, or pieces of one: what else comes has to wait */
    bool gathers;                /* it could not be, and is gathered before it is recorded */
    bool inherits;               /* what its claim inherited was asked for already */
    bool mistrusted;             /* what is here is not what its number says: only a whole state will do */
    presence_claim awaited;      /* a larger claim, to be taken when what is recorded in pieces is gone; or none */
    struct peer *awaited_holder; /* who states it; NULL: a memory does */
    struct held *held, **held_end;
    size_t held_bytes;
    uint64_t told_in;   /* which telling of what is remembered had it last */
    uint64_t corrected; /* when a claim was last put right: not more often than each interval */
};

struct question {
    struct question *next;
    uint64_t tag, until;
    void (*told)(void *context, const struct wire_message *answer);
    void *context;
};

struct step {
    struct step_config config;
    struct step_output output;
    presence_recorder *recorder;
    presence_statement_reader *statements;
    struct wire_arena *in, *again, *out; /* messages that came, that were held, that go out */
    struct step_counters counters;
    uint64_t random, run, now, last_run;
    bool link, left;
    /* beats */
    uint64_t next_beat, sequence;
    struct echo {
        uint64_t sequence, nonce, sent;
    } echoes[ECHOES];
    uint64_t echoed;          /* when the latest own beat that came back was sent; 0: none did */
    uint64_t calm;            /* since when hearing can be trusted: leases count from here at the earliest */
    uint64_t doubt_since;     /* deaf, or most are silent, since then; 0: not */
    uint64_t judge_due;       /* when to look at all peers again; 0: at once */
    uint64_t silent_since;    /* when most fell silent */
    uint64_t started, linked; /* began; first had a link */
    bool deaf, most_silent, ready;
    uint64_t beat_soon; /* a beat out of turn is due; 0: none */
    /* what is known */
    struct peer *peers, *peer_buckets[PEER_BUCKETS];
    size_t peer_count;
    void *server_tree;
    struct server *servers, *last_server;
    size_t server_count;
    size_t pending; /* servers stated unclaimed */
    size_t orphans; /* servers that are orphaned */
    size_t transfers;
    uint64_t told_memory; /* when ours was last told to all */
    uint64_t tell_memory; /* when to tell it, if that is still needed then; 0: not */
    uint64_t tellings;    /* that were heard */
    uint64_t next_sweep;  /* of what goes by time: settle, repairs, orphans */
    uint64_t next_bury;
    bool remembers_nothing; /* no server's node is silent, for sure: see orphans_may_have_come */
    bool statements_lagged;
    bool rests;               /* the last read found many statements, if not all that it could take */
    presence_statement *read; /* STATEMENTS_MOST */
    struct batch *batches;    /* open */
    struct active *active;
    struct question *questions;
    uint64_t logged[8]; /* when a kind of trouble was last said */
};

/* ------------------------------------------------------------------------------------------------- step.c and known */

static inline bool rule(const struct step *step, enum step_rule one)
{
    return !(step->config.broken >> one & 1);
}
/* Z: of what its claim inherited others hold something, and here is nothing. */
static inline bool lacks_inherited(const struct step *step, const struct wire_stand *told,
                                   const presence_server_description *known)
{
    return !told->complete && told->inherited > 0 && known->inherited == 0 && rule(step, STEP_RULE_INHERITED);
}
uint64_t step_random(struct step *step);
/* Copies a node's name, which is known to fit, into an array of STEP_NODE_BYTES. */
static inline void copy_node(char *to, const char *node)
{
    memcpy(to, node, strlen(node) + 1);
}
void step_say(struct step *step, enum step_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same, at most once each ten seconds for one kind (0 to 7). */
bool step_may_say(struct step *step, unsigned kind);
/* Send to all, or to one node. A message that cannot be encoded for want of memory is as good as lost. */
void step_broadcast(struct step *step, enum step_lane lane, struct wire_message *message);
void step_send(struct step *step, const char *node, struct wire_message *message);
bool step_may_send_bulk(struct step *step);

struct peer *peer_find(struct step *step, const char *node, uint64_t run);
struct peer *peer_find_or_add(struct step *step, const char *node, uint64_t run); /* NULL: at the limit */
void peer_forget(struct step *step, struct peer *peer);
struct server *server_find(struct step *step, const char *name);
struct server *server_find_or_add(struct step *step, const char *name); /* NULL: at the limit, or a bad name */
void server_forget(struct step *step, struct server *server);
void server_set_role(struct step *step, struct server *server, enum role role, struct peer *holder);
/* Its holder stopped stating it then; 0: it states it. */
void server_orphan(struct step *step, struct server *server, uint64_t when);
bool server_describe(struct step *step, const struct server *server, presence_server_description *description);
/* Its holder is heard of, and says that it states the server. */
bool server_holder_lives(const struct server *server);
void describe_stand(const char *name, const presence_server_description *description, struct wire_stand *stand);
bool claim_is_none(const presence_claim *claim);

/* ------------------------------------------------------------------------------------------------------------ beats */

void beat_receive(struct step *step, const struct wire_message *message);
uint64_t beat_run(struct step *step);   /* sends what is due; when the next is */
uint64_t beat_judge(struct step *step); /* who is deaf, silent, lapsed; when to look again */
void beat_send(struct step *step, bool leaving);
uint64_t beat_since(const struct step *step, uint64_t when);        /* then, or since when hearing can be trusted */
bool beat_heard_ourselves(const struct step *step, uint64_t until); /* lately enough to judge silence until then */
void beat_hasten(struct step *step, uint64_t within);               /* the next one soon */

/* ------------------------------------------------------------------------------------------------------------- ours */

bool ours_pump(struct step *step); /* sends what was stated since; true: there may be more */
void ours_scan(struct step *step); /* looks at every server of the recorder, after a lag */
int ours_claim(struct step *step, struct server *server);
void ours_claim_pending(struct step *step);
/* Whether connections of it are recorded here that nobody claims, read of as statements or not yet. */
bool ours_is_unclaimed(struct step *step, const struct server *server);
void ours_wait_for_claim(struct step *step, struct server *server); /* it is claimed as soon as this node is ready */
/* A larger claim than ours, by a node that is heard (holder) or in somebody's memory (NULL). */
void ours_met_larger(struct step *step, struct server *server, const presence_claim *claim, struct peer *holder);
void ours_judge_rumour(struct step *step, struct server *server); /* of a larger claim; in each sweep */
void ours_answer_changes(struct step *step, const struct wire_message *message);
void ours_complete(struct step *step, struct server *server);
void batches_flush(struct step *step);
void batch_free(struct server *server);

/* --------------------------------------------------------------------------------------------------------- transfer */

void transfer_ask(struct step *step, struct server *server, const struct wire_ask *ask);
bool transfer_run(struct step *step); /* sends some chunks; true: there are more to send */
void transfer_drop(struct step *step, struct server *server);
/* What is stated from now on was stated after this revision, which the recorder had before it was at that number. */
void transfer_note(struct server *server, const presence_server_description *known, uint64_t revision);
void transfer_forget(struct server *server); /* those notes */

/* ----------------------------------------------------------------------------------------------------------- follow */

/* What the holder says of the server, in a beat. */
void follow_told(struct step *step, struct server *server, struct peer *holder, const struct wire_stand *stand,
                 uint64_t sequence);
void follow_check(struct step *step, struct server *server, bool from_beat);
void follow_changes(struct step *step, struct peer *peer, const struct wire_message *message, const void *bytes,
                    size_t length);
/* Takes a claim of another node; false: the recorder refused it, or it has to wait for a job. */
bool follow_claim(struct step *step, struct server *server, const presence_claim *claim, struct peer *holder);
bool follow_awaited(struct step *step, struct server *server); /* takes the one that waited, if one did */
void follow_ask(struct step *step, struct server *server, enum repair repair, struct peer *source);
void follow_retry(struct step *step, struct server *server); /* a repair that does not come on */
void follow_end_repair(struct step *step, struct server *server);
void follow_lapse(struct step *step, struct server *server);
void follow_release(struct step *step, struct server *server); /* what was held, after a repair */
void held_drop(struct server *server);

/* ----------------------------------------------------------------------------------------------------------- intake */

void intake_chunk(struct step *step, struct peer *peer, const struct wire_chunk *chunk, bool difference);
void intake_drop(struct step *step, struct server *server);
void intake_forget(struct server *server);        /* drops it for good, with its server */
bool intake_is_open(const struct server *server); /* for further chunks */
bool intake_waits(const struct server *server);   /* all are here, and wait to be recorded */
/* Which chunks are missing, into ranges (at most `most`); how many. */
size_t intake_missing(const struct server *server, struct wire_range *ranges, size_t most, uint64_t *transfer);
bool intake_came_on(struct server *server); /* since the last call */
bool intake_is_difference(const struct server *server);
/* Whether what came since will do for what is here. */
bool intake_may_differ(const struct step *step, const struct server *server, const presence_server_description *known);
/* What is here under the server's claim is all that stays. */
void intake_drop_inherited(struct step *step, struct server *server);

/* ---------------------------------------------------------------------------------------------------------- orphans */

uint64_t orphans_memory(struct step *step);
/* To be called where a server may have become one whose node is silent. */
static inline void orphans_may_have_come(struct step *step)
{
    step->remembers_nothing = false;
}
void orphans_compare(struct step *step, struct peer *peer);
uint64_t orphans_run(struct step *step); /* tells what is due; when to call again */
void orphans_tell(struct step *step, const char *node, uint64_t tag, const char *server); /* NULL node: all */
/* Asks everybody what they remember of a server. */
void orphans_ask(struct step *step, const struct server *server);
void orphans_known(struct step *step, struct peer *peer, const struct wire_known *known);
void orphans_forget(struct step *step, const struct wire_forget *forget);
void orphans_by_age(struct step *step);
void orphans_settle(struct step *step, struct server *server); /* in each sweep */

/* --------------------------------------------------------------------------------------------------- activity, tell */

uint64_t active_run(struct step *step); /* when to call again */
void active_receive(struct step *step, const struct wire_activity *activity);
void active_free(struct step *step);
void tell_ask(struct step *step, const struct wire_message *message);
void tell_answer(struct step *step, const struct wire_message *message, uint64_t tag);
uint64_t tell_run(struct step *step);
void tell_free(struct step *step);

#endif
