/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_session.c - one client of the API server, from its first line to its last.
 *
 * The client sends lines of words parted by single spaces, and gets an answer to each, in order:
 *
 *   LOGIN model agent [controller]   OK id; from now on the agent is alive, for as long as the socket is open
 *   PING                             PONG; a sign of life
 *   REPORT                           the report, as many lines as it takes
 *   STATUS model agent               one line of evidence: status, reason, since, last seen
 *   LINK server down                 OK server down, N became missing
 *   LINK server up                   OK server up, N listed
 *   QUIT                             the server closes, so that a script can read to the end
 *   anything else                    ERR what is wrong
 *
 * LINK is there to play with: it cuts and restores the news of that server, not its sockets.
 *
 * Keeps true: an agent that logged in is logged out exactly once, whatever ends its session: QUIT, a closed socket, a
 * killed process, silence for longer than idle_ms, a line too long, or the server's own stop. Runs on the client's own
 * thread; sessions share only what api_presence.h guards. Holds one struct session for each client.
 */
#include "api_session.h"

#include "lines.h"
#include "report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 4

struct session {
    const struct api *api;
    struct api_server *server;
    int fd;
    struct api_login *login; /* NULL until it logged in */
    struct line_reader reader;
};

struct command {
    const char *name;
    int words_min, words_max; /* its own name included */
    /* False ends the session. */
    bool (*run)(struct session *session, char **words, int count);
};

/* ---------------------------------------------------------------------------------------------------- answers -- */

__attribute__((format(printf, 2, 3))) static bool answer(struct session *session, const char *format, ...)
{
    char text[LINE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    if (length < 0)
        return false;
    size_t used = (size_t)length < sizeof text - 1 ? (size_t)length : sizeof text - 2;
    text[used++] = '\n';
    return lines_write(session->fd, text, used);
}

static bool answer_error(struct session *session, int code, const presence_error *error)
{
    bool told = error->code == code && error->message[0] != '\0';
    return answer(session, "ERR %s", told ? error->message : presence_strerror(code));
}

/* --------------------------------------------------------------------------------------------------- commands -- */

static bool run_login(struct session *session, char **words, int count)
{
    if (session->login != NULL)
        return answer(session, "ERR already logged in as connection %llu", (unsigned long long)session->login->id);
    if (count == 4 && strcmp(words[3], "controller") != 0)
        return answer(session, "ERR expected \"controller\" or nothing after the agent");
    presence_error error = {0};
    int code = api_login(session->server, words[1], words[2], count == 4, &session->login, &error);
    if (code != PRESENCE_OK)
        return answer_error(session, code, &error);
    return answer(session, "OK %llu", (unsigned long long)session->login->id);
}

static bool run_ping(struct session *session, char **words, int count)
{
    (void)words;
    (void)count;
    if (session->login == NULL)
        return answer(session, "ERR log in first");
    int code = api_active(session->login);
    if (code != PRESENCE_OK)
        return answer(session, "ERR %s", presence_strerror(code));
    return answer(session, "PONG");
}

/* The view is taken at once, and printed and sent at the client's leisure: no login waits for it. */
static bool run_report(struct session *session, char **words, int count)
{
    (void)words;
    (void)count;
    char *text = NULL;
    size_t length = 0;
    int code = PRESENCE_E_NO_MEMORY;
    presence_connections *view = presence_recorder_connections(session->api->recorder);
    FILE *out = open_memstream(&text, &length);
    if (view != NULL && out != NULL)
        code = report_connections(out, view);
    if (out != NULL && fclose(out) != 0)
        code = PRESENCE_E_NO_MEMORY;
    presence_connections_free(view);
    bool going = code == PRESENCE_OK ? lines_write(session->fd, text, length)
                                     : answer(session, "ERR %s", presence_strerror(code));
    free(text);
    return going;
}

static bool run_status(struct session *session, char **words, int count)
{
    (void)count;
    presence_evidence evidence;
    int code = presence_recorder_agent_evidence(session->api->recorder, words[1], words[2], &evidence);
    if (code != PRESENCE_OK)
        return answer(session, "ERR %s", presence_strerror(code));
    char text[512];
    FILE *out = fmemopen(text, sizeof text, "w");
    if (out == NULL)
        return answer(session, "ERR %s", presence_strerror(PRESENCE_E_NO_MEMORY));
    report_evidence(out, &evidence);
    fclose(out);
    text[strcspn(text, "\n")] = '\0';
    return answer(session, "%s", text);
}

static struct api_server *find_server(const struct api *api, const char *name)
{
    for (size_t i = 0; i < api->server_count; i++)
        if (strcmp(api->servers[i].name, name) == 0)
            return &api->servers[i];
    return NULL;
}

static bool run_link(struct session *session, char **words, int count)
{
    (void)count;
    struct api_server *server = find_server(session->api, words[1]);
    bool down = strcmp(words[2], "down") == 0;
    if (server == NULL)
        return answer(session, "ERR no server \"%s\" here", words[1]);
    if (!down && strcmp(words[2], "up") != 0)
        return answer(session, "ERR a link goes \"down\" or \"up\", not \"%s\"", words[2]);
    presence_error error = {0};
    size_t connections = 0;
    int code = down ? api_link_down(server, &connections) : api_link_up(server, &connections, &error);
    if (code != PRESENCE_OK)
        return answer_error(session, code, &error);
    return answer(session, "OK %s %s, %zu %s", server->name, words[2], connections, down ? "became missing" : "listed");
}

static bool run_quit(struct session *session, char **words, int count)
{
    (void)session;
    (void)words;
    (void)count;
    return false;
}

static const struct command COMMANDS[] = {
    {"LOGIN", 3, 4, run_login},   {"PING", 1, 1, run_ping}, {"REPORT", 1, 1, run_report},
    {"STATUS", 3, 3, run_status}, {"LINK", 3, 3, run_link}, {"QUIT", 1, 1, run_quit},
};

/* --------------------------------------------------------------------------------------------------- the loop -- */

/* How many words there are, or WORDS_MAX + 1 if more than WORDS_MAX. Writes into the line. */
static int split(char *line, char **words)
{
    int count = 0;
    char *rest = line;
    for (char *word = strsep(&rest, " "); word != NULL; word = strsep(&rest, " ")) {
        if (count == WORDS_MAX)
            return WORDS_MAX + 1;
        words[count++] = word;
    }
    return count;
}

static bool run_line(struct session *session, char *line)
{
    char *words[WORDS_MAX];
    int count = split(line, words);
    for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
        const struct command *command = &COMMANDS[i];
        if (strcmp(words[0], command->name) != 0)
            continue;
        if (count < command->words_min || count > command->words_max)
            return answer(session, "ERR %s: wrong number of words", command->name);
        return command->run(session, words, count);
    }
    return answer(session, "ERR expected LOGIN, PING, REPORT, STATUS, LINK or QUIT");
}

/* One line, or the lack of it. False ends the session. */
static bool serve(struct session *session)
{
    char *line = NULL;
    switch (line_read(&session->reader, session->api->idle_ms, &line)) {
    case LINE_OK:
        return run_line(session, line);
    case LINE_INVALID:
        return answer(session, "ERR a line must not hold a NUL");
    case LINE_TOO_LONG:
        answer(session, "ERR a line must not be longer than %d bytes", LINE_BYTES_MAX);
        return false;
    case LINE_TIMED_OUT:
        answer(session, "ERR silent for %d ms", session->api->idle_ms);
        return false;
    case LINE_END:
    case LINE_FAILED:
        return false;
    }
    return false;
}

void api_session_run(const struct api *api, struct api_server *server, int fd)
{
    struct session session = {.api = api, .server = server, .fd = fd};
    line_reader_init(&session.reader, fd);
    while (serve(&session))
        continue;
    if (session.login != NULL)
        api_logout(session.login);
}
