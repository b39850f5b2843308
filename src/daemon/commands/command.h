/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.h - the one table of commands. Every protocol turns what it read into a call of an entry of this table, and
 * gets one whole reply said to its own writer: one meaning, several spellings.
 *
 * A command's arguments are slots with types, so that `MODEL m` in RESP, `?model=m` and `/models/m/` in HTTP are
 * checked by the same code and seen by the command as `arguments.model`. How to add a command: an entry in the table of
 * its group's file, with its specs; that is all that RESP needs. For HTTP, a route that names the entry.
 */
#ifndef DAEMON_COMMANDS_COMMAND_H
#define DAEMON_COMMANDS_COMMAND_H

#include "base/slice.h"
#include "node/client.h"
#include "reply/reply.h"

enum slot {
    SLOT_SERVER, /* names: 1 to 1,024 bytes; the recorder checks the rest */
    SLOT_MODEL,
    SLOT_AGENT,
    SLOT_DATA,       /* user data */
    SLOT_ID,         /* a connection id */
    SLOT_STATUS,     /* alive, missing, unknown */
    SLOT_CONTROLLER, /* flags: without a value in RESP, 0 or 1 or false or true elsewhere */
    SLOT_AGENTS,
    SLOT_IDS,      /* the rest of the words, at least one: connection ids */
    SLOT_NAMES,    /* the rest of the words, at least one: names of agents */
    SLOT_AFTER,    /* a revision, or revision.index: where a watch begins */
    SLOT_CURSOR,   /* of the page before */
    SLOT_LIMIT,    /* rows of a page */
    SLOT_DETAILS,  /* a flag: rows are records, not names */
    SLOT_EPOCH,    /* of a server's life */
    SLOT_GRACE,    /* milliseconds */
    SLOT_TAKEOVER, /* a flag: the others that hold the server have lost it */
    SLOT_LIST,     /* the rest of the words, at least one: a server's list, or what becomes of it */
    SLOT_COUNT
};

/* One argument: positional, in the order of the specs; or after its keyword, in any order, behind those. */
struct argument_spec {
    enum slot slot;
    const char *keyword; /* NULL: positional and required. Else optional, at most once */
};

enum { MOST_SPECS = 8 };

struct arguments {
    uint32_t given;                            /* bits 1 << slot */
    const char *server, *model, *agent, *data; /* NUL-terminated, in the request's memory; NULL if not given */
    uint64_t id;
    presence_status status;
    bool controller, agents, details, takeover;
    uint64_t after_revision, after_skip; /* as in presence_watch_options */
    const char *cursor;
    uint64_t limit;
    uint64_t epoch, grace_ms;
    const struct slice *rest; /* of SLOT_IDS, SLOT_NAMES and SLOT_LIST; each followed by a NUL */
    size_t rest_count;
};

static inline bool argument_given(const struct arguments *arguments, enum slot slot)
{
    return arguments->given >> slot & 1;
}

struct call {
    struct client *client;
    const struct command *command;
    const struct slice *words; /* RESP only: all words, the name first, each followed by a NUL */
    size_t word_count;
    struct arguments arguments; /* of commands with specs */
    struct reply *reply;
};

/* What a command needs of its caller, for access control, CPU accounting and COMMAND. */
enum command_flags {
    COMMAND_WRITE = 1 << 0,      /* states connections of arguments.server: report:SERVER */
    COMMAND_READ = 1 << 1,       /* read, or model:MODEL within that model */
    COMMAND_ADMIN = 1 << 2,      /* admin; logged */
    COMMAND_OPEN = 1 << 3,       /* before AUTH too */
    COMMAND_CLIENT = 1 << 4,     /* needs a connection that lasts: not for single HTTP requests */
    COMMAND_JOIN = 1 << 5,       /* connects the client itself as an agent: join:MODEL[/AGENT] */
    COMMAND_SUBSCRIBED = 1 << 6, /* a RESP2 client that watches may run it too */
    COMMAND_BINDS = 1 << 7,      /* a write that decides itself who holds the server: sessions do not stop it */
    COMMAND_WAITS = 1 << 8,      /* for other nodes: always long */
};

struct run;

struct command {
    const char *name; /* in capitals; a container's subcommands are its own business */
    uint32_t flags;
    int least_words, most_words; /* of RESP, the name counted; most -1: any */
    const char *syntax, *summary;
    struct argument_spec specs[MOST_SPECS]; /* ended by keyword NULL and slot SLOT_COUNT, or full */
    size_t spec_count;                      /* 0: the command reads its words itself */
    void (*run)(struct call *call);
    /* Whether this call looks at so many connections that it is not to be run on a loop (command_is_long). A guess, in
     * O(1). NULL: it never does. */
    bool (*is_long)(const struct call *call);
    /* Runs of one command in a pipeline, see run.h. Both or none. */
    bool (*gather)(struct call *call, struct run *run);
    void (*finish)(struct run *run, struct client *client, struct reply *reply);
};

/* A group of commands: one file each. */
struct command_group {
    const struct command *commands;
    size_t count;
};

/* Once, before any look-up, by one thread. False: two entries have one name, or there are too many. */
bool commands_init(void);
/* By name, in any case. NULL: no such command. */
const struct command *command_find(struct slice name);
/* In the order of the table; NULL: there is no more. */
const struct command *command_at(size_t index);

/* Checks who asks and the number of words, parses the arguments, checks what they ask for, and runs the command; says
 * an error where that fails. */
void command_run(struct call *call);
/* The last step of command_run, for a call that was admitted, parsed and permitted. Writes are refused here where
 * somebody else holds the server (sessions/sessions.h). */
void command_execute(struct call *call);
/* For protocols that run long commands on another thread: command_run but for its last step, command_execute. False: an
 * error was said. */
bool command_prepare(struct call *call);
/* Whether a call that was prepared is to be executed as a job (worker/worker.h): it is long, or would wait for one that
 * is. */
bool command_is_long(const struct call *call);
/* The server that it writes to, for its job; NULL: none. */
const char *command_writes_to(const struct call *call);
/* Too many wait already. */
void command_say_too_long(struct call *call);
/* The first half: words into call->arguments. False: an error was said. */
bool command_parse(struct call *call);
/* Whether the client has said who it is, where that is needed. False: an error was said. */
bool command_admit(struct call *call);
/* Whether the client may run the command with these arguments, and, for one who sees one model only, arguments.model
 * filled in. False: an error was said. Administrative acts are logged here. command_run asks; nobody else needs to. */
bool command_permit(struct call *call);
/* Whether the client may be told of servers more than their names: to one who sees one model only they are others' too.
 * For a call that was permitted. */
bool command_sees_servers(const struct call *call);
/* Whether that principal (NULL: nobody) may hold what the client holds already: its session, its join, its watch. */
bool command_permits_client(const struct client *client, const struct principal *principal);
/* For runs (run.h), which pass command_run by: whether this call needs no such check beyond its first argument, the
 * server of a COMMAND_WRITE or the model of a COMMAND_READ. False: let command_run say why. */
bool command_permits_run(const struct call *call);
/* One argument from text that is followed by a NUL, whatever the protocol. False: an error was said. */
bool argument_set(struct call *call, enum slot slot, const char *shown_name, struct slice text);
/* A call of the recorder failed: says which argument is wrong, if it is one, else what the code means. */
void command_failed(struct call *call, int code, const char *detail);
/* A call of the recorder that writes to arguments.server failed. Whether it is to be made once more: the server's node
 * is gone from the cluster, and this one has claimed it. */
bool command_retries(struct call *call, int code);
/* What is wrong with a name, or NULL; for messages, once the recorder has refused it. */
const char *name_problem(struct slice name);

#endif
