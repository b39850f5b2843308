/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport alone, at a NATS server of the test's own which is stopped and continued: what waits is bounded, beats
 * overtake what waits, and last words keep their order.
 */
#include "cluster/nats.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { BULK_BYTES = 16 * 1024 };

/* -------------------------------------------------------------------------------------------- a server, two ends -- */

static const char *nats_server;
static pid_t server;
static char url[64];

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int one = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(one, (struct sockaddr *)&address, sizeof address), 0);
    getsockname(one, (struct sockaddr *)&address, &length);
    close(one);
    return ntohs(address.sin_port);
}

static int start_server(void **state)
{
    (void)state;
    char port[8];
    snprintf(port, sizeof port, "%u", free_port());
    snprintf(url, sizeof url, "nats://127.0.0.1:%s", port);
    server = fork();
    if (server == 0) {
        execl(nats_server, nats_server, "-a", "127.0.0.1", "-p", port, "-l", "/dev/null", (char *)NULL);
        _exit(127);
    }
    return server < 0;
}

static int end_server(void **state)
{
    (void)state;
    kill(server, SIGKILL);
    return waitpid(server, NULL, 0) != server;
}

static void freeze_server(void)
{
    siginfo_t info;
    kill(server, SIGSTOP);
    waitid(P_PID, (id_t)server, &info, WSTOPPED);
}

struct end {
    struct nats_transport *transport;
    struct step_output output;
    int wake;
    bool up;
    size_t bulk, beats, bulk_before_beat; /* received */
};

static struct end *make_end(const char *node)
{
    struct end *end = calloc(1, sizeof *end);
    presence_error error = {0};
    end->wake = eventfd(0, EFD_NONBLOCK);
    struct nats_config config = {.cluster = "test", .node = node, .link = {.urls = url}, .lease_ms = 60000};
    end->transport = nats_transport_new(&config, end->wake, &error);
    if (!end->transport)
        fail_msg("%s", error.message);
    nats_transport_output(end->transport, &end->output);
    return end;
}

static void free_end(struct end *end)
{
    nats_transport_free(end->transport);
    close(end->wake);
    free(end);
}

static void turn(struct end *end)
{
    struct pollfd descriptor;
    nats_transport_poll(end->transport, now_ns(), &descriptor);
    bool readable = poll(&descriptor, 1, 1) > 0;
    nats_transport_read(end->transport, now_ns(), readable, &end->up);
    size_t length;
    while (nats_transport_next(end->transport, &length)) {
        if (length > BULK_BYTES / 2) {
            end->bulk++;
        } else {
            end->beats++;
            end->bulk_before_beat = end->bulk;
        }
    }
    nats_transport_write(end->transport, now_ns());
}

/* From node a: a beat is short, bulk is long. */
static void say(struct end *end, enum step_lane lane)
{
    static unsigned char bytes[BULK_BYTES] = "\x12\x01"
                                             "a\xa2\x06";
    size_t length = lane == STEP_BEAT ? 20 : BULK_BYTES, body = length - 8;
    bytes[5] = (unsigned char)(0x80 | (body & 0x7f));
    bytes[6] = (unsigned char)(0x80 | (body >> 7 & 0x7f));
    bytes[7] = (unsigned char)(body >> 14);
    end->output.broadcast(end->output.context, lane, bytes, length);
}

static size_t waits(struct end *end)
{
    return end->output.waiting(end->output.context);
}

static struct nats_counters counters_of(struct end *end)
{
    struct nats_counters counters;
    nats_transport_counters(end->transport, &counters);
    return counters;
}

#define TURN_UNTIL(condition)                                 \
    for (uint64_t began = now_ns(); !(condition);) {          \
        turn(a);                                              \
        turn(b);                                              \
        if (now_ns() - began > UINT64_C(30000000000))         \
            fail_msg("after 30 s still not: %s", #condition); \
    }

static struct end *a, *b;

/* Both are connected, and b listens to what a states. */
static void meet(void)
{
    a = make_end("a");
    b = make_end("b");
    TURN_UNTIL(a->up && b->up);
    say(a, STEP_BEAT);
    TURN_UNTIL(b->beats == 1 && a->beats == 1);
    say(a, STEP_STREAM);
    for (size_t tries = 0; tries < 3000 && b->bulk == 0; tries++) { /* until b's subscription has arrived */
        if (tries % 10 == 9)
            say(a, STEP_STREAM);
        turn(a);
        turn(b);
    }
    assert_true(b->bulk > 0);
    TURN_UNTIL(waits(a) == 0);
    for (int i = 0; i < 50; i++) /* what is still under way */
        turn(b);
    a->bulk = b->bulk = a->beats = b->beats = 0;
}

static void part(void)
{
    free_end(a);
    free_end(b);
}

/* ------------------------------------------------------------------------------------------------------- stories -- */

static void nothing_waits_for_a_connection_that_is_not_there(void **state)
{
    (void)state;
    a = make_end("a");
    say(a, STEP_STREAM);
    assert_int_equal(waits(a), 0);
    assert_int_equal(counters_of(a).dropped, 1);
    free_end(a);
}

static void what_waits_is_bounded(void **state)
{
    (void)state;
    meet();
    freeze_server();
    size_t count = 2 * (size_t)NATS_MOST_WAITING / BULK_BYTES;
    for (size_t i = 0; i < count; i++) {
        say(a, STEP_STREAM);
        if (i % 16 == 0)
            turn(a);
        assert_true(waits(a) <= NATS_MOST_WAITING + BULK_BYTES);
    }
    size_t dropped = counters_of(a).dropped;
    assert_true(dropped > count / 4);
    assert_int_equal(counters_of(a).dropped_bytes, dropped * BULK_BYTES);
    kill(server, SIGCONT);
    TURN_UNTIL(b->bulk == count - dropped && waits(a) == 0);
    part();
}

static void a_beat_overtakes_what_waits(void **state)
{
    (void)state;
    meet();
    freeze_server();
    for (size_t i = 0; i < 1000; i++) /* 16 MiB: more than sockets and the server take */
        say(a, STEP_STREAM);
    for (size_t i = 0; i < 20; i++)
        turn(a);
    say(a, STEP_BEAT);
    turn(a);
    kill(server, SIGCONT);
    TURN_UNTIL(b->bulk == 1000 && b->beats == 1);
    assert_true(b->bulk_before_beat < 900);
    part();
}

static void last_words_keep_their_order(void **state)
{
    (void)state;
    meet();
    freeze_server();
    for (size_t i = 0; i < 1000; i++)
        say(a, STEP_STREAM);
    nats_transport_last_words(a->transport);
    assert_int_equal(waits(a), 0); /* whatever waits, it may say what it has to say */
    say(a, STEP_STREAM);
    say(a, STEP_BEAT);
    turn(a);
    assert_false(nats_transport_is_settled(a->transport));
    kill(server, SIGCONT);
    TURN_UNTIL(nats_transport_is_settled(a->transport) && b->beats == 1);
    assert_int_equal(b->bulk_before_beat, 1001);
    part();
}

static void states_are_heard_while_they_are_wanted(void **state)
{
    (void)state;
    meet();
    b->output.listen(b->output.context, "a", true);
    b->output.listen(b->output.context, "a", true);
    b->output.listen(b->output.context, "a", false);
    for (size_t tries = 0; tries < 3000 && b->bulk == 0; tries++) {
        if (tries % 10 == 0)
            say(a, STEP_STATE);
        turn(b);
        turn(a);
    }
    assert_true(b->bulk > 0);
    b->output.listen(b->output.context, "a", false);
    turn(b);
    usleep(100000);
    for (int i = 0; i < 50; i++)
        turn(b);
    size_t before = b->bulk;
    say(a, STEP_STATE);
    say(a, STEP_BEAT);
    TURN_UNTIL(b->beats == 1);
    assert_int_equal(b->bulk, before);
    part();
}

int main(int count, char **words)
{
    if (count != 2) {
        fprintf(stderr, "usage: test_nats NATS_SERVER\n");
        return 2;
    }
    nats_server = words[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_waits_for_a_connection_that_is_not_there),
        cmocka_unit_test(what_waits_is_bounded),
        cmocka_unit_test(a_beat_overtakes_what_waits),
        cmocka_unit_test(last_words_keep_their_order),
        cmocka_unit_test(states_are_heard_while_they_are_wanted),
    };
    return cmocka_run_group_tests(tests, start_server, end_server);
}
