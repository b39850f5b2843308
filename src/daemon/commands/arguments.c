/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arguments.c - from words to typed arguments, and what is said when they are wrong.
 *
 * Keeps true: a slot that is given holds a value of its type; a name or text that is handed on is a C string of the
 * length that was sent. Names are otherwise left to the recorder to check, which must look at every byte anyway; only
 * when it refuses one is it looked for here which it was. O(bytes of the words).
 */
#include "commands/command.h"

#include "cluster/joined.h"

static const char *const slot_names[SLOT_COUNT] = {
    [SLOT_SERVER] = "server", [SLOT_MODEL] = "model",     [SLOT_AGENT] = "agent",
    [SLOT_DATA] = "data",     [SLOT_ID] = "id",           [SLOT_STATUS] = "status",
    [SLOT_IDS] = "id",        [SLOT_NAMES] = "agent",     [SLOT_CONTROLLER] = "controller",
    [SLOT_AGENTS] = "agents", [SLOT_AFTER] = "after",     [SLOT_CURSOR] = "cursor",
    [SLOT_LIMIT] = "limit",   [SLOT_DETAILS] = "details", [SLOT_EPOCH] = "epoch",
    [SLOT_GRACE] = "grace",   [SLOT_LIST] = "list",       [SLOT_TAKEOVER] = "takeover",
};

static bool set_text(struct call *call, const char **to, const char *shown_name, struct slice text)
{
    if (!slice_is_text(text)) {
        reply_error(call->reply, ERROR_INVALID, "%s holds a NUL", shown_name);
        return false;
    }
    *to = text.text;
    return true;
}

static bool set_id(struct call *call, uint64_t *to, const char *shown_name, struct slice text)
{
    if (slice_to_number(text, to))
        return true;
    reply_error(call->reply, ERROR_INVALID, "%s wants a number from 0 to 18446744073709551615, got \"%.*s\"",
                shown_name, (int)(text.length < 32 ? text.length : 32), text.text);
    return false;
}

static bool set_status(struct call *call, struct slice text)
{
    static const presence_status statuses[] = {PRESENCE_UNKNOWN, PRESENCE_MISSING, PRESENCE_ALIVE};
    for (size_t i = 0; i < 3; i++)
        if (slice_is_word(text, presence_status_string(statuses[i]))) {
            call->arguments.status = statuses[i];
            return true;
        }
    reply_error(call->reply, ERROR_INVALID, "status wants alive, missing or unknown, got \"%.*s\"",
                (int)(text.length < 32 ? text.length : 32), text.text);
    return false;
}

static bool set_flag(struct call *call, bool *to, const char *shown_name, struct slice text)
{
    bool yes = slice_is_word(text, "1") || slice_is_word(text, "true");
    if (!yes && !slice_is_word(text, "0") && !slice_is_word(text, "false")) {
        reply_error(call->reply, ERROR_INVALID, "%s wants 0, 1, false or true", shown_name);
        return false;
    }
    *to = yes;
    return true;
}

/* "N": after that revision. "N.I": inside it, after its event I, which is after revision N - 1 but for I + 1 events. */
static bool set_after(struct call *call, struct slice text)
{
    struct arguments *arguments = &call->arguments;
    const char *dot = memchr(text.text, '.', text.length);
    struct slice revision = {text.text, dot ? (size_t)(dot - text.text) : text.length};
    uint64_t index = 0;
    bool good = slice_to_number(revision, &arguments->after_revision);
    if (good && dot) {
        struct slice rest = {dot + 1, text.length - revision.length - 1};
        good = slice_to_number(rest, &index) && index < UINT64_MAX && arguments->after_revision > 0;
        arguments->after_revision -= good;
        arguments->after_skip = good ? index + 1 : 0;
    }
    if (!good)
        reply_error(call->reply, ERROR_INVALID, "after wants a revision, or revision.index, got \"%.*s\"",
                    (int)(text.length < 48 ? text.length : 48), text.text);
    return good;
}

static bool set_limit(struct call *call, struct slice text)
{
    enum { MOST_ROWS = 10000 };
    if (slice_to_number(text, &call->arguments.limit) && call->arguments.limit >= 1 &&
        call->arguments.limit <= MOST_ROWS)
        return true;
    reply_error(call->reply, ERROR_INVALID, "limit wants a number from 1 to %d, got \"%.*s\"", MOST_ROWS,
                (int)(text.length < 32 ? text.length : 32), text.text);
    return false;
}

bool argument_set(struct call *call, enum slot slot, const char *shown_name, struct slice text)
{
    struct arguments *arguments = &call->arguments;
    arguments->given |= 1U << slot;
    switch (slot) {
    case SLOT_SERVER:
        return set_text(call, &arguments->server, shown_name, text);
    case SLOT_MODEL:
        return set_text(call, &arguments->model, shown_name, text);
    case SLOT_AGENT:
        return set_text(call, &arguments->agent, shown_name, text);
    case SLOT_DATA:
        return set_text(call, &arguments->data, shown_name, text);
    case SLOT_ID:
        return set_id(call, &arguments->id, shown_name, text);
    case SLOT_STATUS:
        return set_status(call, text);
    case SLOT_CONTROLLER:
        return set_flag(call, &arguments->controller, shown_name, text);
    case SLOT_AGENTS:
        return set_flag(call, &arguments->agents, shown_name, text);
    case SLOT_DETAILS:
        return set_flag(call, &arguments->details, shown_name, text);
    case SLOT_TAKEOVER:
        return set_flag(call, &arguments->takeover, shown_name, text);
    case SLOT_AFTER:
        return set_after(call, text);
    case SLOT_CURSOR:
        return set_text(call, &arguments->cursor, shown_name, text);
    case SLOT_LIMIT:
        return set_limit(call, text);
    case SLOT_EPOCH:
        return set_id(call, &arguments->epoch, shown_name, text);
    case SLOT_GRACE:
        return set_id(call, &arguments->grace_ms, shown_name, text);
    case SLOT_IDS:
    case SLOT_LIST:
    case SLOT_NAMES:
    case SLOT_COUNT:
        break;
    }
    return false; /* the rest of the words is set where they are */
}

static void say_syntax(struct call *call)
{
    reply_error(call->reply, ERROR_ERR, "wrong number of arguments for '%s': %s %s", call->command->name,
                call->command->name, call->command->syntax);
}

/* The words from `at` on, each of which must be a C string. */
static bool set_rest(struct call *call, const struct argument_spec *spec, size_t at)
{
    struct arguments *arguments = &call->arguments;
    arguments->given |= 1U << spec->slot;
    arguments->rest = call->words + at;
    arguments->rest_count = call->word_count - at;
    for (size_t i = 0; spec->slot == SLOT_NAMES && i < arguments->rest_count; i++)
        if (!slice_is_text(arguments->rest[i])) {
            reply_error(call->reply, ERROR_INVALID, "%s %zu holds a NUL", slot_names[spec->slot], i + 1);
            return false;
        }
    return true;
}

static const struct argument_spec *spec_of_keyword(const struct command *command, struct slice word)
{
    for (size_t i = 0; i < command->spec_count; i++)
        if (command->specs[i].keyword && slice_is_word(word, command->specs[i].keyword))
            return &command->specs[i];
    return NULL;
}

static bool is_flag(enum slot slot)
{
    return slot == SLOT_CONTROLLER || slot == SLOT_AGENTS || slot == SLOT_DETAILS || slot == SLOT_TAKEOVER;
}

static bool set_by_keyword(struct call *call, size_t *at)
{
    struct slice word = call->words[*at];
    const struct argument_spec *spec = spec_of_keyword(call->command, word);
    if (!spec) {
        reply_error(call->reply, ERROR_ERR, "unknown argument \"%.*s\": %s %s",
                    (int)(word.length < 32 ? word.length : 32), word.text, call->command->name, call->command->syntax);
        return false;
    }
    if (argument_given(&call->arguments, spec->slot)) {
        reply_error(call->reply, ERROR_ERR, "%s is given twice", spec->keyword);
        return false;
    }
    ++*at;
    if (is_flag(spec->slot))
        return argument_set(call, spec->slot, spec->keyword, slice_of("1"));
    if (*at == call->word_count) {
        reply_error(call->reply, ERROR_ERR, "%s wants a value", spec->keyword);
        return false;
    }
    return argument_set(call, spec->slot, spec->keyword, call->words[(*at)++]);
}

bool command_parse(struct call *call)
{
    const struct command *command = call->command;
    if (call->word_count < (size_t)command->least_words ||
        (command->most_words >= 0 && call->word_count > (size_t)command->most_words)) {
        say_syntax(call);
        return false;
    }
    call->arguments = (struct arguments){0};
    size_t at = 1;
    for (size_t i = 0; i < command->spec_count && !command->specs[i].keyword; i++) {
        const struct argument_spec *spec = &command->specs[i];
        if (spec->slot == SLOT_IDS || spec->slot == SLOT_NAMES || spec->slot == SLOT_LIST)
            return set_rest(call, spec, at);
        if (!argument_set(call, spec->slot, slot_names[spec->slot], call->words[at++]))
            return false;
    }
    while (command->spec_count > 0 && at < call->word_count)
        if (!set_by_keyword(call, &at))
            return false;
    return true;
}

/* RESP2 has no pushes: while a client watches, its replies could be taken for messages, and are few. */
static bool fits_subscription(struct call *call)
{
    const struct client *client = call->client;
    if (!client->feed || client->version >= 3 || call->command->flags & COMMAND_SUBSCRIBED)
        return true;
    reply_error(call->reply, ERROR_ERR,
                "Can't execute '%s': only PING, QUIT, RESET, PRESENCE.WATCH and PRESENCE.UNWATCH are allowed while "
                "watching in RESP2",
                call->command->name);
    return false;
}

bool command_prepare(struct call *call)
{
    return fits_subscription(call) && command_admit(call) && command_parse(call) && command_permit(call);
}

void command_run(struct call *call)
{
    if (command_prepare(call))
        command_execute(call);
}

/* --------------------------------------------------------------------------------------------- what was wrong -- */

/* The length of the UTF-8 character at `text`, or 0 where there is none. */
static size_t character_length(const unsigned char *text, size_t left)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = *text < 0x80                    ? 1
                    : *text >= 0xc2 && *text < 0xe0 ? 2
                    : (*text & 0xf0) == 0xe0        ? 3
                    : *text >= 0xf0 && *text < 0xf5 ? 4
                                                    : 0;
    if (length == 0 || length > left)
        return 0;
    unsigned value = length == 1 ? *text : *text & (0xffU >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3fU);
    }
    return value < least[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000) ? 0 : length;
}

const char *name_problem(struct slice name)
{
    if (name.length == 0)
        return "is empty";
    if (name.length > 1024)
        return "is longer than 1,024 bytes";
    const unsigned char *text = (const unsigned char *)name.text;
    for (size_t at = 0, length; at < name.length; at += length) {
        length = character_length(text + at, name.length - at);
        if (length == 0)
            return "is not UTF-8";
        if (text[at] < ' ' || text[at] == 0x7f || (text[at] == 0xc2 && text[at + 1] < 0xa0))
            return "holds a control character";
    }
    return NULL;
}

void command_failed(struct call *call, int code, const char *detail)
{
    const struct arguments *arguments = &call->arguments;
    const char *const names[] = {arguments->server, arguments->model, arguments->agent};
    const char *problem;
    if (code == PRESENCE_E_LIMIT)
        counter_add_shared(&call->client->node->counters[call->client->loop->index].limited, 1);
    for (size_t i = 0; code == PRESENCE_E_INVALID && i < 3; i++)
        if (names[i] && (problem = name_problem(slice_of(names[i])))) {
            reply_error(call->reply, ERROR_INVALID, "%s %s", slot_names[i], problem);
            return;
        }
    for (size_t i = 0; code == PRESENCE_E_INVALID && argument_given(arguments, SLOT_NAMES) && i < arguments->rest_count;
         i++)
        if ((problem = name_problem(arguments->rest[i]))) {
            reply_error(call->reply, ERROR_INVALID, "agent %zu %s", i + 1, problem);
            return;
        }
    char why[CLUSTER_WHY_BYTES] = "";
    if (code == PRESENCE_E_STALE)
        cluster_say_stale(call->client->node, arguments->server, why);
    reply_failure(call->reply, code, *why ? why : detail);
}

bool command_retries(struct call *call, int code)
{
    return code == PRESENCE_E_STALE && cluster_take_silent(call->client->node, call->arguments.server);
}
