/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step.h - one node of a cluster, as a function: what happened goes in, what is to be sent comes out.
 *
 * No socket, no thread and no clock in here: `now` is monotonic nanoseconds, given with each call, and never goes back.
 * What is sent leaves through a table of functions; NATS (nats.h) is one of those tables, the simulator of the tests
 * is another. The recorder is the node's record: what is stated locally is read from it, and what others state is
 * written to it. Its own clock gives the times that are shown.
 *
 * The rules that a node keeps are in docs/design/cluster.md, each with a letter; the code names the letter where it
 * keeps the rule.
 *
 * Threads: one at a time; the recorder beneath may be used by others meanwhile. Nothing here waits.
 * Cost: a message is O(what it carries); step_run is O(changes to send + servers whose time has come), but the beats,
 * O(servers of this node) each interval, and the search for what was active, O(its connections) each activity interval,
 * in pieces.
 */
#ifndef CLUSTER_STEP_H
#define CLUSTER_STEP_H

#include <presence/replica.h>

struct step;

enum step_lane {
    STEP_BEAT,   /* to all nodes, the sender too; overtakes what waits in the others */
    STEP_STREAM, /* to all nodes but the sender, in order */
    STEP_STATE,  /* to the nodes that listen to the sender's states */
};

/* Work that may take longer than a beat; see output.apply. */
struct step_job {
    struct step_job *next; /* for whoever keeps it */
};

enum step_level { STEP_DEBUG, STEP_INFO, STEP_WARNING };

/* Where to a node speaks. The functions must not call the step; bytes belong to the step and must be copied if kept.
 * Anything may be lost, doubled, late or out of order. */
struct step_output {
    void *context;
    void (*broadcast)(void *context, enum step_lane lane, const void *bytes, size_t length);
    void (*send)(void *context, const char *node, const void *bytes, size_t length);
    /* From now on (or no longer) STEP_STATE messages of that node are wanted. */
    void (*listen)(void *context, const char *node, bool wanted);
    /* Bytes that were handed over and have not left yet: bulk waits while it is more than STEP_MOST_WAITING. */
    size_t (*waiting)(void *context);
    /* Another node's claim of a server that this one stated: who states it here has lost it. May be NULL. */
    void (*superseded)(void *context, const char *server, const presence_claim *by, const char *node);
    /* `event` is a short constant name, `text` the rest of the line. May be NULL. */
    void (*log)(void *context, enum step_level level, const char *event, const char *text);
    /* A whole state, or a piece of one, is here and wants to be recorded, which may take longer than a beat: run the
     * job on another thread, after those that were given before, and hand it back to step_applied. NULL: it is run at
     * once. */
    void (*apply)(void *context, struct step_job *job);
    /* A node of our name runs already (F): the process should end. May be NULL. */
    void (*double_name)(void *context);
};

enum { STEP_MOST_WAITING = 1024 * 1024, STEP_NODE_BYTES = 128 };

/* All times in milliseconds. step_config_default fills in what is usual. */
struct step_config {
    const char *node;        /* its name: 1 to 127 of A-Z a-z 0-9 - _; no other node of the cluster has it */
    uint64_t seed;           /* random: run, nonces and claims come from it */
    uint32_t interval;       /* between beats: 500 */
    uint32_t lease;          /* without a beat a node's servers are missing after it: 3,000; at least 3 intervals */
    uint32_t settle;         /* after a new claim, until what was not restated is dropped: 30,000 */
    uint32_t hold;           /* most of the cluster silent at once: stale, and missing only after it: 30,000 */
    uint32_t activity;       /* between tellings of what was active: 20,000; 0: never */
    uint32_t tombstone;      /* how long a forgotten server is fenced: 3,600,000 */
    uint32_t forget_after;   /* a silent node's servers are forgotten after it; 0: never */
    size_t buffer_bytes;     /* changes kept for one server while a gap is repaired: 16 MiB */
    size_t most_state_bytes; /* of one state while it is received: 4 GiB */
    size_t most_peers;       /* 1,024 */
    size_t most_servers;     /* of others, all together: 1,000,000 */
    uint64_t most_changes;   /* a gap of more is answered by the state, or what came since: 1,000,000 */
    size_t chunk_values;     /* in one message of a state that is sent, at most: 1,024, which is the most */
    /* Rules switched off, to see that the tests find it: a bit for each of enum step_rule. 0 but in tests. */
    uint64_t broken;
};
void step_config_default(struct step_config *config);

/* The rules that a mutation test may break. */
enum step_rule {
    STEP_RULE_LEASE,     /* silent nodes' servers lapse */
    STEP_RULE_DEAF,      /* who does not hear itself judges nobody */
    STEP_RULE_MASS,      /* most of the cluster silent: hold */
    STEP_RULE_GAP,       /* a gap is repaired */
    STEP_RULE_DIGEST,    /* the same number with another digest: whole state anew */
    STEP_RULE_YIELD,     /* a larger living claim is yielded to */
    STEP_RULE_RETAKE,    /* the memory of a larger dead claim: a larger turn */
    STEP_RULE_RESTORE,   /* restored only once number and digest agree */
    STEP_RULE_ORPHANS,   /* memories of silent nodes' servers are compared */
    STEP_RULE_COMPLETE,  /* a new life is complete after the settle time */
    STEP_RULE_BUFFER,    /* changes that come during a repair are kept for after it */
    STEP_RULE_CHUNKS,    /* missing chunks are asked for again */
    STEP_RULE_LATE_BEAT, /* a beat older than one heard is ignored */
    STEP_RULE_DRAIN,     /* a stopping node states drained */
    STEP_RULE_OWN_ECHO,  /* only a fresh echo of one's own beat counts as hearing */
    STEP_RULE_SETTLE,    /* a claim taken again keeps the settle time of the first */
    STEP_RULE_HEIRS,     /* a claim whose node is silent is complete after the settle time, too */
    STEP_RULE_BEGINNING, /* changes wait for what their claim began with */
    STEP_RULE_RECORDED,  /* a recorded state counts for its own claim only */
    STEP_RULE_CALM,      /* hearing again gives every lease a fresh start */
    STEP_RULE_FELLOWS,   /* who was found silent within the lease counts among the silent */
    STEP_RULE_PIECES,    /* a state that is recorded as it comes shows when all of it is here */
    STEP_RULE_READY,     /* ready only once all that was heard of is here */
    STEP_RULE_TURN,      /* a claim of the same life takes a turn above the known */
    STEP_RULE_WHOLE,     /* a list is told as a number without changes */
    STEP_RULE_LARGER,    /* a larger claim is taken at once */
    STEP_RULE_FENCE,     /* a tombstone stays */
    STEP_RULE_ACTIVITY,  /* what was active is told */
    STEP_RULE_SERVE,     /* anybody serves the state of a server whose node is silent */
    STEP_RULE_ABANDON,   /* what was recorded of a state whose transfer broke off goes */
    STEP_RULE_SINCE,     /* what came since is told and taken where it is no more than the whole */
    STEP_RULE_INHERITED, /* a state tells what is inherited, too */
    STEP_RULE_ASIDE,     /* what was recorded in pieces goes by a job before a larger claim is taken */
    STEP_RULE_HUSH,      /* what is remembered is told once, not by each */
};

/* INVALID by returning NULL with *error filled; or out of memory. The recorder must outlive it. A recorder without
 * options.history_bytes costs a whole state for each change: give it some. */
struct step *step_new(const struct step_config *config, presence_recorder *recorder, const struct step_output *output,
                      uint64_t now, presence_error *error);
void step_free(struct step *step);

/* For output.apply. Runs once, on any thread, beside the step; uses the recorder alone. */
void step_job_run(struct step_job *job);
/* The job has run, and is freed. */
void step_applied(struct step *step, uint64_t now, struct step_job *job);
/* Instead of step_applied, where there is no step any more. */
void step_job_free(struct step_job *job);

/* A message came. What is malformed, of another version, or not for us is counted and dropped. */
void step_receive(struct step *step, uint64_t now, const void *bytes, size_t length);
/* Does what is due: beats, leases, repairs, changes of the recorder. Returns when to call again at the latest; call
 * sooner when step_descriptor is readable. */
uint64_t step_run(struct step *step, uint64_t now);
/* Readable when the recorder has changes to send. */
int step_descriptor(const struct step *step);
/* After step_run: it sent many of them, and has read almost all. Who leaves the descriptor alone for a moment sends
 * what comes meanwhile in one message, not in several. */
bool step_rests(const struct step *step);
/* The transport has a connection, or has lost it. It begins without. */
void step_link(struct step *step, uint64_t now, bool up);

/* Claims a server for this node, for as long as it runs or until another takes it: a session was bound, or agents
 * connect here. With an epoch: a newer one begins a new life, the known one goes on in its life, an older one is STALE.
 * Without: the life that is known goes on. What is stated locally of a server that nobody claims is claimed by
 * itself. LIMIT, NO_MEMORY, DISABLED. */
int step_claim(struct step *step, uint64_t now, const char *server, bool has_epoch, uint64_t epoch);
/* An operator drops a server whose node is silent. NOT_FOUND; STALE: it is not silent, or ours. */
int step_forget(struct step *step, uint64_t now, const char *server);
/* States every server of ours as drained, says goodbye, and is silent from then on. */
void step_leave(struct step *step, uint64_t now);

/* ------------------------------------------------------------------------------------------------------- freshness */

enum step_doubt { STEP_FRESH, STEP_JOINING, STEP_DEAF, STEP_SILENT };

struct step_freshness {
    enum step_doubt doubt;      /* STEP_FRESH, or why the answer may be wrong */
    uint64_t since;             /* monotonic: stale since then; 0 if fresh */
    char node[STEP_NODE_BYTES]; /* who states the server, "" if nobody is known to */
};
/* Of this node's view as a whole (server NULL): stale while it is joining or deaf or most others are silent; or of one
 * server. */
void step_freshness(const struct step *step, uint64_t now, const char *server, struct step_freshness *out);
/* Whether that of the whole view, and of each server, is fresh; false may also be said where it is. O(peers). */
bool step_all_fresh(const struct step *step);
bool step_ready(const struct step *step);

struct step_peer {
    char node[STEP_NODE_BYTES];
    uint64_t run, heard; /* monotonic: its last beat */
    size_t servers;
    bool silent, joining;
};
/* Fills at most `most`; returns how many there are. */
size_t step_peers(const struct step *step, struct step_peer *peers, size_t most);

struct step_counters {
    uint64_t beats_sent, beats_heard, changes_sent, changes_applied, activity_sent, activity_applied;
    uint64_t states_sent, states_taken, chunks_sent, chunks_taken, gaps, asks;
    uint64_t differences_sent, differences_taken; /* of the states */
    uint64_t malformed, foreign_version, refused, digest_differences, yielded, lapses, restores;
    uint64_t bytes_sent, bytes_received;
};
void step_counters(const struct step *step, struct step_counters *out);

/* Asks all nodes that are heard; answers arrive by `told` from step_receive until `until`, then once with node NULL.
 * STANDS: of every server, each node's claim, number and digest. AGENT: each node's evidence. */
struct wire_message;
int step_ask(struct step *step, uint64_t now, uint64_t until, const char *model, const char *agent,
             void (*told)(void *context, const struct wire_message *answer), void *context);

#endif
