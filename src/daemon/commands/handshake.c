/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake.c - what Redis client libraries send by themselves: HELLO, AUTH, PING, ECHO, QUIT, SELECT, CLIENT, RESET.
 *
 * They change the client alone, and answer as Redis 7 does where a library looks. O(words). The client's own thread.
 */
#include "access/principal.h"
#include "commands/groups.h"
#include "sessions/sessions.h"
#include "watches/feed.h"

#include <stdio.h>

/* Proves who the client is; the old proof is given up only once the new one is good, for all that the client holds.
 * What one may not do is not kept by saying that one is another. False: an error was said. */
static bool authenticate(struct call *call, struct slice user, struct slice token)
{
    struct client *client = call->client;
    const struct principal *principal = NULL;
    switch (principal_authenticate(client->node->access, client->peer, user, token, &principal)) {
    case AUTHENTICATION_GOOD:
        if (!command_permits_client(client, principal)) {
            reply_error(call->reply, ERROR_NOPERM,
                        "this connection holds a session, a join or a watch that \"%.64s\" may not: RESET first",
                        principal_name(principal));
            principal_release(principal);
            return false;
        }
        principal_release(client->principal);
        client->principal = principal;
        return true;
    case AUTHENTICATION_NOT_IN_USE:
        reply_error(call->reply, ERROR_ERR, "AUTH called without any tokens configured: this server lets everybody in");
        return false;
    case AUTHENTICATION_SLOWED:
        reply_error(call->reply, ERROR_BUSY, "too many bad tokens from your address: wait a second");
        return false;
    case AUTHENTICATION_BAD:
        break;
    }
    reply_error(call->reply, ERROR_WRONGPASS, "invalid username-password pair or user is disabled.");
    return false;
}

/* A name that a client gives itself: printable ASCII without blanks, since it is shown in lists split by blanks. */
static bool take_name(struct call *call, const char *what, struct slice name, char *to)
{
    bool good = name.length < CLIENT_NAME_BYTES;
    for (size_t i = 0; good && i < name.length; i++)
        good = name.text[i] > ' ' && name.text[i] < 0x7f;
    if (!good) {
        reply_error(call->reply, ERROR_INVALID, "%s wants at most %d printable characters without blanks", what,
                    CLIENT_NAME_BYTES - 1);
        return false;
    }
    memcpy(to, name.text, name.length);
    to[name.length] = 0;
    return true;
}

static void say_hello(struct call *call)
{
    struct reply *reply = call->reply;
    reply_map(reply, 7);
    reply_key(reply, "server");
    reply_string(reply, "presenced");
    reply_key(reply, "version");
    reply_string(reply, presence_version());
    reply_key(reply, "proto");
    reply_integer(reply, call->client->version);
    reply_key(reply, "id");
    reply_integer(reply, (int64_t)call->client->id);
    reply_key(reply, "mode");
    reply_string(reply, "standalone");
    reply_key(reply, "role");
    reply_string(reply, "master");
    reply_key(reply, "modules");
    reply_array(reply, 0);
}

/* HELLO [protover [AUTH username password] [SETNAME name]]: all or nothing. */
static void run_hello(struct call *call)
{
    struct client *client = call->client;
    uint64_t version = (uint64_t)client->version;
    char name[CLIENT_NAME_BYTES];
    bool named = false;
    size_t proof = 0;
    if (call->word_count > 1 && (!slice_to_number(call->words[1], &version) || version < 2 || version > 3)) {
        reply_error(call->reply, ERROR_NOPROTO, "unsupported protocol version, 2 and 3 are spoken");
        return;
    }
    for (size_t i = 2; i < call->word_count;) {
        if (slice_is_word(call->words[i], "AUTH") && i + 2 < call->word_count) {
            proof = i + 1;
            i += 3;
            continue;
        }
        if (!slice_is_word(call->words[i], "SETNAME") || i + 1 >= call->word_count) {
            reply_error(call->reply, ERROR_ERR, "syntax error in HELLO: HELLO %s", call->command->syntax);
            return;
        }
        if (!take_name(call, "SETNAME", call->words[i + 1], name))
            return;
        named = true;
        i += 2;
    }
    if (proof && !authenticate(call, call->words[proof], call->words[proof + 1]))
        return;
    if (!proof && !principal_of(client->node->access, client->principal)) {
        reply_error(call->reply, ERROR_NOAUTH,
                    "HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
                    "<user> <pass> option can be used to authenticate the client and select the RESP protocol version "
                    "at the same time");
        return;
    }
    if (named)
        memcpy(client->name, name, sizeof name);
    client->version = (int)version;
    call->reply->writer->version(call->reply, client->version);
    say_hello(call);
}

static void run_auth(struct call *call)
{
    struct slice user = call->word_count == 3 ? call->words[1] : (struct slice){"", 0};
    if (authenticate(call, user, call->words[call->word_count - 1]))
        reply_word(call->reply, "OK");
}

static void run_ping(struct call *call)
{
    if (call->client->feed && call->client->version < 3) { /* as Redis answers one who has subscribed */
        reply_array(call->reply, 2);
        reply_string(call->reply, "pong");
        reply_text(call->reply, call->word_count == 2 ? call->words[1] : slice_of(""));
        return;
    }
    if (call->word_count == 2)
        reply_text(call->reply, call->words[1]);
    else
        reply_word(call->reply, "PONG");
}

static void run_echo(struct call *call)
{
    reply_text(call->reply, call->words[1]);
}

static void run_quit(struct call *call)
{
    call->client->closing = call->client->said_quit = true;
    sessions_client_gone(call->client); /* now, and not when its socket is closed at last */
    reply_word(call->reply, "OK");
}

static void run_select(struct call *call)
{
    uint64_t number;
    if (!slice_to_number(call->words[1], &number))
        reply_error(call->reply, ERROR_ERR, "invalid DB index");
    else if (number != 0)
        reply_error(call->reply, ERROR_ERR, "DB index is out of range: there is only 0");
    else
        reply_word(call->reply, "OK");
}

static void run_reset(struct call *call)
{
    struct client *client = call->client;
    client->said_quit = true; /* it gives up its session on purpose */
    sessions_client_gone(client);
    client->said_quit = false;
    feed_close(client);
    client->name[0] = 0;
    client->version = 2;
    principal_release(client->principal);
    client->principal = NULL;
    call->reply->writer->version(call->reply, client->version);
    reply_word(call->reply, "RESET");
}

static void set_info(struct call *call)
{
    struct client *client = call->client;
    bool library = slice_is_word(call->words[2], "LIB-NAME");
    if (!library && !slice_is_word(call->words[2], "LIB-VER"))
        reply_error(call->reply, ERROR_ERR, "CLIENT SETINFO wants LIB-NAME or LIB-VER");
    else if (take_name(call, library ? "LIB-NAME" : "LIB-VER", call->words[3],
                       library ? client->library : client->library_version))
        reply_word(call->reply, "OK");
}

static void say_info(struct call *call)
{
    const struct client *client = call->client;
    char line[512];
    int length = snprintf(line, sizeof line, "id=%llu addr=%s name=%s resp=%d lib-name=%s lib-ver=%s loop=%zu\n",
                          (unsigned long long)client->id, client->peer, client->name, client->version, client->library,
                          client->library_version, client->loop->index);
    reply_text(call->reply, (struct slice){line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1});
}

static void run_client(struct call *call)
{
    struct client *client = call->client;
    struct slice what = call->words[1];
    if (slice_is_word(what, "SETNAME") && call->word_count == 3) {
        if (take_name(call, "the name", call->words[2], client->name))
            reply_word(call->reply, "OK");
    } else if (slice_is_word(what, "GETNAME") && call->word_count == 2) {
        if (*client->name)
            reply_string(call->reply, client->name);
        else
            reply_null(call->reply);
    } else if (slice_is_word(what, "ID") && call->word_count == 2) {
        reply_integer(call->reply, (int64_t)client->id);
    } else if (slice_is_word(what, "INFO") && call->word_count == 2) {
        say_info(call);
    } else if (slice_is_word(what, "SETINFO") && call->word_count == 4) {
        set_info(call);
    } else {
        reply_error(call->reply, ERROR_ERR, "unknown subcommand or wrong number of arguments for CLIENT: CLIENT %s",
                    call->command->syntax);
    }
}

static const struct command commands[] = {
    {.name = "HELLO",
     .flags = COMMAND_OPEN | COMMAND_CLIENT,
     .least_words = 1,
     .most_words = 7,
     .syntax = "[2|3 [AUTH user token] [SETNAME name]]",
     .summary = "Chooses the protocol.",
     .run = run_hello},
    {.name = "AUTH",
     .flags = COMMAND_OPEN | COMMAND_CLIENT,
     .least_words = 2,
     .most_words = 3,
     .syntax = "[user] token",
     .summary = "Says who the client is.",
     .run = run_auth},
    {.name = "PING",
     .flags = COMMAND_CLIENT | COMMAND_SUBSCRIBED,
     .least_words = 1,
     .most_words = 2,
     .syntax = "[message]",
     .summary = "PONG, or the message.",
     .run = run_ping},
    {.name = "ECHO",
     .flags = COMMAND_CLIENT,
     .least_words = 2,
     .most_words = 2,
     .syntax = "message",
     .summary = "The message.",
     .run = run_echo},
    {.name = "QUIT",
     .flags = COMMAND_OPEN | COMMAND_CLIENT | COMMAND_SUBSCRIBED,
     .least_words = 1,
     .most_words = -1,
     .syntax = "",
     .summary = "Closes the client's connection once all replies are sent.",
     .run = run_quit},
    {.name = "SELECT",
     .flags = COMMAND_CLIENT,
     .least_words = 2,
     .most_words = 2,
     .syntax = "0",
     .summary = "OK for 0: there is only one record.",
     .run = run_select},
    {.name = "RESET",
     .flags = COMMAND_OPEN | COMMAND_CLIENT | COMMAND_SUBSCRIBED,
     .least_words = 1,
     .most_words = 1,
     .syntax = "",
     .summary = "Makes the client as new as when it connected.",
     .run = run_reset},
    {.name = "CLIENT",
     .flags = COMMAND_CLIENT,
     .least_words = 2,
     .most_words = 4,
     .syntax = "SETNAME name | GETNAME | ID | INFO | SETINFO LIB-NAME|LIB-VER value",
     .summary = "The client's own name and number.",
     .run = run_client},
};

const struct command_group group_handshake = {commands, sizeof commands / sizeof *commands};
