/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_hiredis.c PRESENCED - hiredis, the C client of Redis, against a presenced of the test's own: commands, binary
 * arguments, pipelines, errors, and a watch in the form of a subscription. One thread; every wait has an end.
 */
#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_S = 30, LINE_BYTES = 4096, PIPELINE = 10000 };

static const char model[] = "2e15302a-bbdf-4077-8e65-116a5a0e0348";

struct daemon {
    const char *program;
    pid_t process;
    int port;
    FILE *log;
};

/* Reads the log until it says where the daemon listens, and that it has started. */
static void find_port(struct daemon *daemon)
{
    char line[LINE_BYTES];
    daemon->port = 0;
    while (fgets(line, sizeof line, daemon->log)) {
        const char *at = strstr(line, "protocol=resp address=127.0.0.1:");
        if (at)
            daemon->port = atoi(strrchr(at, ':') + 1);
        if (strstr(line, "event=started"))
            break;
    }
    assert_true(daemon->port > 0);
}

static int start_daemon(void **state)
{
    struct daemon *daemon = *state;
    int log[2];
    assert_int_equal(pipe(log), 0);
    daemon->process = fork();
    assert_true(daemon->process >= 0);
    if (daemon->process == 0) {
        dup2(log[1], STDERR_FILENO);
        close(log[0]);
        close(log[1]);
        alarm(4 * WAIT_S); /* should this test die, it does not live on */
        execl(daemon->program, daemon->program, "--resp", "127.0.0.1:0", "--http", "none", (char *)NULL);
        _exit(127);
    }
    close(log[1]);
    daemon->log = fdopen(log[0], "r");
    assert_non_null(daemon->log);
    alarm(WAIT_S);
    find_port(daemon);
    alarm(0);
    return 0;
}

static int stop_daemon(void **state)
{
    struct daemon *daemon = *state;
    int status = -1;
    assert_int_equal(kill(daemon->process, SIGTERM), 0);
    alarm(WAIT_S);
    assert_int_equal(waitpid(daemon->process, &status, 0), daemon->process);
    alarm(0);
    fclose(daemon->log);
    assert_int_equal(status, 0);
    return 0;
}

static redisContext *connected(void **state)
{
    const struct daemon *daemon = *state;
    const struct timeval patience = {WAIT_S, 0};
    redisContext *client = redisConnectWithTimeout("127.0.0.1", daemon->port, patience);
    assert_non_null(client);
    assert_int_equal(client->err, 0);
    assert_int_equal(redisSetTimeout(client, patience), REDIS_OK);
    return client;
}

/* Formats are hiredis's own: %b takes bytes and their number. */
static redisReply *ask(redisContext *client, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = redisvCommand(client, format, arguments);
    va_end(arguments);
    assert_non_null(reply);
    return reply;
}

static void expect_text(redisReply *reply, int type, const char *text)
{
    assert_int_equal(reply->type, type);
    assert_string_equal(reply->str, text);
    freeReplyObject(reply);
}

static void expect_integer(redisReply *reply, long long number)
{
    assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
    assert_int_equal(reply->integer, number);
    freeReplyObject(reply);
}

static void commands_are_answered(void **state)
{
    redisContext *client = connected(state);
    expect_text(ask(client, "PING"), REDIS_REPLY_STATUS, "PONG");
    expect_integer(ask(client, "PRESENCE.CONNECT %s %s %s %d DATA %s", "machine-0", model, "unit-a", 1, "a b"), 1);
    redisReply *reply = ask(client, "PRESENCE.STATUS %s unit-a unit-b", model);
    assert_int_equal(reply->elements, 2);
    assert_string_equal(reply->element[0]->str, "alive");
    assert_string_equal(reply->element[1]->str, "unknown");
    freeReplyObject(reply);
    expect_text(ask(client, "PRESENCE.COUNT STATUS sleeping"), REDIS_REPLY_ERROR,
                "INVALID status wants alive, missing or unknown, got \"sleeping\"");
    redisFree(client);
}

static void arguments_may_hold_any_byte(void **state)
{
    static const char bytes[] = {'a', 0, '\r', '\n', '\xff', 'b'};
    redisContext *client = connected(state);
    redisReply *reply = ask(client, "ECHO %b", bytes, sizeof bytes);
    assert_int_equal(reply->len, sizeof bytes);
    assert_memory_equal(reply->str, bytes, sizeof bytes);
    freeReplyObject(reply);
    reply = ask(client, "PRESENCE.CONNECT %b %s a 1", bytes, sizeof bytes, model);
    expect_text(reply, REDIS_REPLY_ERROR, "INVALID server holds a NUL");
    redisFree(client);
}

static void a_pipeline_is_answered_in_order(void **state)
{
    redisContext *client = connected(state);
    for (int i = 0; i < PIPELINE; i++) {
        assert_int_equal(redisAppendCommand(client, "PRESENCE.CONNECT machine-1 %s unit-%d %d", model, i, i), REDIS_OK);
        assert_int_equal(redisAppendCommand(client, "ECHO %d", i), REDIS_OK);
    }
    for (int i = 0; i < PIPELINE; i++) {
        void *reply;
        char number[16];
        snprintf(number, sizeof number, "%d", i);
        assert_int_equal(redisGetReply(client, &reply), REDIS_OK);
        expect_integer(reply, 1);
        assert_int_equal(redisGetReply(client, &reply), REDIS_OK);
        expect_text(reply, REDIS_REPLY_STRING, number);
    }
    redisFree(client);
}

/* The next message of the channel `presence` tells an event of this kind. */
static void expect_message(redisContext *client, const char *kind)
{
    void *message;
    assert_int_equal(redisGetReply(client, &message), REDIS_OK);
    const redisReply *reply = message;
    assert_int_equal(reply->elements, 3);
    assert_string_equal(reply->element[0]->str, "message");
    assert_string_equal(reply->element[1]->str, "presence");
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"kind\":\"%s\"", kind);
    assert_non_null(strstr(reply->element[2]->str, wanted));
    freeReplyObject(message);
}

static void a_watch_is_a_subscription(void **state)
{
    redisContext *client = connected(state), *writer = connected(state);
    redisReply *reply = ask(client, "PRESENCE.WATCH AGENT watched AGENTS");
    assert_int_equal(reply->elements, 3);
    assert_string_equal(reply->element[0]->str, "subscribe");
    freeReplyObject(reply);
    expect_message(client, "snapshot");
    expect_integer(ask(writer, "PRESENCE.CONNECT machine-2 %s watched 1", model), 1);
    expect_message(client, "agent");
    reply = ask(client, "PRESENCE.COUNT");
    assert_int_equal(reply->type, REDIS_REPLY_ERROR);
    freeReplyObject(reply);
    redisFree(client);
    redisFree(writer);
}

int main(int count, char **words)
{
    const struct CMUnitTest stories[] = {
        cmocka_unit_test_setup_teardown(commands_are_answered, start_daemon, stop_daemon),
        cmocka_unit_test_setup_teardown(arguments_may_hold_any_byte, start_daemon, stop_daemon),
        cmocka_unit_test_setup_teardown(a_pipeline_is_answered_in_order, start_daemon, stop_daemon),
        cmocka_unit_test_setup_teardown(a_watch_is_a_subscription, start_daemon, stop_daemon),
    };
    static struct daemon daemon;
    struct CMUnitTest told[sizeof stories / sizeof *stories];
    if (count != 2)
        return 2;
    daemon.program = words[1];
    memcpy(told, stories, sizeof stories);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        told[i].initial_state = &daemon;
    return cmocka_run_group_tests(told, NULL, NULL);
}
