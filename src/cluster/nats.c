/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nats.c - NATS as a step's transport: queues on the way out, subscriptions on the way in, and one link after another.
 *
 * What the step sends is queued here, and the owner's thread gives it to libnats a little at a time: whatever libnats
 * has taken leaves in that order, and beats are to overtake bulk. What was queued when a connection is lost is dropped:
 * the step says everything anew that still matters.
 *
 * Keeps true: libnats is called by the owner's thread alone (but for connecting, see link.c), and with no lock held;
 * what waits is bounded. Cost: a message is copied once on its way to libnats.
 */
#include "cluster/nats.h"

#include "cluster/ears.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    NAME_BYTES = 128,
    SUBJECT_BYTES = 512,
    FEED_BYTES = 256 * 1024,    /* given to libnats at once: a beat waits behind no more than this */
    FEED_TLS_BYTES = 64 * 1024, /* the same with TLS, where libnats waits until all of it is written */
    FIRST_WAIT_MS = 50,         /* before the next attempt to connect; doubled up to a quarter of the lease */
    STUCK_MS = 60000,           /* an attempt that takes longer is left to itself... */
    MOST_ABANDONED = 10,        /* ...but no more than this many of them in the life of a transport */
    QUIET_MS = 10000,           /* the same complaint of the server is not told more often */
};

#define MS UINT64_C(1000000)
#define NEVER UINT64_MAX

struct parcel { /* a message on its way out */
    struct parcel *next;
    uint64_t order;
    const char *subject; /* the transport's, or what follows the bytes */
    size_t length;
    bool beat;
    unsigned char bytes[];
};

struct lane {
    struct parcel *first, **end;
};

struct nats_transport {
    struct nats_config config;
    char cluster[NAME_BYTES], node[NAME_BYTES];
    char *kept[9]; /* copies of the configuration's strings */
    char beat[SUBJECT_BYTES], stream[SUBJECT_BYTES], state[SUBJECT_BYTES];
    int wake;

    pthread_mutex_t lock; /* of what follows */
    struct link *link;    /* changed by the owner, under the lock */
    struct lane beats, bulk;
    bool up, last_words;
    size_t waiting; /* bytes in the lanes, and what libnats had at the last look */
    size_t in_libnats;
    uint64_t order;
    struct nats_counters counters;
    char trouble[LINK_TROUBLE_BYTES];

    /* the owner's own */
    bool stopped;
    uint64_t now; /* of the last read */
    uint64_t retry_at, begun_at, wait_ms;
    unsigned abandoned;
    char complaint[LINK_TROUBLE_BYTES];
    uint64_t complain_again;
    struct ears ears;
    uint64_t beats_out, beats_back, unheard_since;
};

static void say(struct nats_transport *transport, enum step_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void say(struct nats_transport *transport, enum step_level level, const char *event, const char *format, ...)
{
    if (!transport->config.log)
        return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 does not see the va_start above */
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    transport->config.log(transport->config.owner, level, event, text);
}

/* -------------------------------------------------------------------------------------------- making and freeing -- */

static bool name_is_good(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t length = name ? strlen(name) : 0;
    return length > 0 && length < NAME_BYTES && strspn(name, allowed) == length;
}

static int say_invalid(presence_error *error, int code, const char *text)
{
    if (error) {
        error->code = code;
        snprintf(error->message, sizeof error->message, "%s", text);
    }
    return code;
}

static bool keep(struct nats_transport *transport, size_t at, const char **string)
{
    if (!*string)
        return true;
    *string = transport->kept[at] = strdup(*string);
    return *string != NULL;
}

static int keep_config(struct nats_transport *transport, const struct nats_config *config, presence_error *error)
{
    if (!name_is_good(config->cluster))
        return say_invalid(error, PRESENCE_E_INVALID, "a cluster's name is 1 to 127 of A-Z a-z 0-9 - and _");
    if (!name_is_good(config->node))
        return say_invalid(error, PRESENCE_E_INVALID, "a node's name is 1 to 127 of A-Z a-z 0-9 - and _");
    if (!config->link.urls || !config->link.urls[0])
        return say_invalid(error, PRESENCE_E_INVALID, "no URL of a NATS server is given");
    if (!config->link.tls_certificate != !config->link.tls_key)
        return say_invalid(error, PRESENCE_E_INVALID, "a TLS certificate and its key go together: one is missing");
    transport->config = *config;
    struct link_config *link = &transport->config.link;
    snprintf(transport->cluster, sizeof transport->cluster, "%s", config->cluster);
    snprintf(transport->node, sizeof transport->node, "%s", config->node);
    char name[SUBJECT_BYTES];
    snprintf(name, sizeof name, "presence %s %s", transport->cluster, transport->node);
    link->name = name;
    if (!keep(transport, 0, &link->urls) || !keep(transport, 1, &link->user) || !keep(transport, 2, &link->password) ||
        !keep(transport, 3, &link->token) || !keep(transport, 4, &link->credentials_file) ||
        !keep(transport, 5, &link->tls_ca) || !keep(transport, 6, &link->tls_certificate) ||
        !keep(transport, 7, &link->tls_key) || !keep(transport, 8, &link->name))
        return say_invalid(error, PRESENCE_E_NO_MEMORY, presence_strerror(PRESENCE_E_NO_MEMORY));
    if (link->timeout_ms == 0)
        link->timeout_ms = config->lease_ms / 2 < 500 ? 500 : config->lease_ms / 2;
    snprintf(transport->beat, SUBJECT_BYTES, "presence.%s.beat.%s", transport->cluster, transport->node);
    snprintf(transport->stream, SUBJECT_BYTES, "presence.%s.stream.%s", transport->cluster, transport->node);
    snprintf(transport->state, SUBJECT_BYTES, "presence.%s.state.%s", transport->cluster, transport->node);
    return link_check(link, error);
}

struct nats_transport *nats_transport_new(const struct nats_config *config, int wake, presence_error *error)
{
    struct nats_transport *transport = calloc(1, sizeof *transport);
    if (!transport) {
        say_invalid(error, PRESENCE_E_NO_MEMORY, presence_strerror(PRESENCE_E_NO_MEMORY));
        return NULL;
    }
    pthread_mutex_init(&transport->lock, NULL);
    transport->wake = wake;
    transport->beats.end = &transport->beats.first;
    transport->bulk.end = &transport->bulk.first;
    transport->wait_ms = FIRST_WAIT_MS;
    ears_init(&transport->ears, transport->cluster, transport->node);
    snprintf(transport->trouble, sizeof transport->trouble, "not connected yet");
    if (keep_config(transport, config, error) == PRESENCE_OK)
        return transport;
    nats_transport_free(transport);
    return NULL;
}

static void forget_lane(struct nats_transport *transport, struct lane *lane)
{
    while (lane->first) {
        struct parcel *next = lane->first->next;
        transport->counters.dropped++;
        transport->counters.dropped_bytes += lane->first->length;
        free(lane->first);
        lane->first = next;
    }
    lane->end = &lane->first;
}

/* The link is given up, whatever its state. */
static void drop_link(struct nats_transport *transport)
{
    ears_close(&transport->ears);
    pthread_mutex_lock(&transport->lock);
    struct link *link = transport->link;
    transport->link = NULL;
    transport->up = false;
    forget_lane(transport, &transport->beats);
    forget_lane(transport, &transport->bulk);
    transport->waiting = transport->in_libnats = 0;
    pthread_mutex_unlock(&transport->lock);
    link_end(link);
}

void nats_transport_free(struct nats_transport *transport)
{
    if (!transport)
        return;
    drop_link(transport);
    ears_free(&transport->ears);
    for (size_t i = 0; i < sizeof transport->kept / sizeof transport->kept[0]; i++)
        free(transport->kept[i]);
    pthread_mutex_destroy(&transport->lock);
    free(transport);
}

/* ---------------------------------------------------------------------------------------------- the step's table -- */

static void queue(struct nats_transport *transport, bool beat, const char *subject, const char *own_subject,
                  const void *bytes, size_t length)
{
    size_t extra = own_subject ? strlen(own_subject) + 1 : 0;
    struct parcel *parcel = malloc(sizeof *parcel + length + extra);
    if (parcel) {
        *parcel = (struct parcel){.subject = subject, .length = length, .beat = beat};
        memcpy(parcel->bytes, bytes, length);
        if (own_subject)
            parcel->subject = memcpy(parcel->bytes + length, own_subject, extra);
    }
    pthread_mutex_lock(&transport->lock);
    if (parcel && transport->up && transport->waiting + length <= NATS_MOST_WAITING) {
        struct lane *lane = beat ? &transport->beats : &transport->bulk;
        parcel->order = transport->order++;
        *lane->end = parcel;
        lane->end = &parcel->next;
        transport->waiting += length;
        parcel = NULL;
    } else {
        transport->counters.dropped++;
        transport->counters.dropped_bytes += length;
    }
    pthread_mutex_unlock(&transport->lock);
    free(parcel);
}

static void broadcast(void *context, enum step_lane lane, const void *bytes, size_t length)
{
    struct nats_transport *transport = context;
    const char *subject = lane == STEP_BEAT     ? transport->beat
                          : lane == STEP_STREAM ? transport->stream
                                                : transport->state;
    queue(transport, lane == STEP_BEAT, subject, NULL, bytes, length);
}

static void send_to(void *context, const char *node, const void *bytes, size_t length)
{
    struct nats_transport *transport = context;
    char subject[SUBJECT_BYTES];
    if (!name_is_good(node)) /* it came from outside, and is to be a token of a subject */
        return;
    snprintf(subject, sizeof subject, "presence.%s.to.%s.%s", transport->cluster, node, transport->node);
    queue(transport, false, NULL, subject, bytes, length);
}

static void listen_to(void *context, const char *node, bool wanted)
{
    struct nats_transport *transport = context;
    if (!name_is_good(node))
        return;
    ears_want_state(&transport->ears, node, wanted);
}

size_t nats_transport_waiting(struct nats_transport *transport)
{
    pthread_mutex_lock(&transport->lock);
    size_t bytes = transport->last_words ? 0 : transport->waiting;
    pthread_mutex_unlock(&transport->lock);
    return bytes;
}

static size_t waiting(void *context)
{
    return nats_transport_waiting(context);
}

void nats_transport_output(struct nats_transport *transport, struct step_output *output)
{
    output->context = transport;
    output->broadcast = broadcast;
    output->send = send_to;
    output->listen = listen_to;
    output->waiting = waiting;
}

void *nats_transport_owner(const struct nats_transport *transport)
{
    return transport->config.owner;
}

/* -------------------------------------------------------------------------------------------- connecting, losing -- */

static uint64_t random_below(uint64_t limit)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random || limit == 0)
        return 0;
    return random % limit;
}

static void set_trouble(struct nats_transport *transport, const char *text)
{
    pthread_mutex_lock(&transport->lock);
    snprintf(transport->trouble, sizeof transport->trouble, "%s", text);
    pthread_mutex_unlock(&transport->lock);
}

/* The next attempt after a while, of which half is random: nodes that lost the same server do not all come back at
 * once, but within a lease of each other, or those that are first would take the last for gone. */
static void try_later(struct nats_transport *transport, uint64_t now)
{
    uint64_t longest = transport->config.lease_ms / 4;
    uint64_t wait_ms = transport->wait_ms < longest ? transport->wait_ms : longest;
    transport->retry_at = now + (wait_ms / 2 + random_below(wait_ms / 2 + 1)) * MS;
    transport->wait_ms = wait_ms * 2;
}

static void count_failure(struct nats_transport *transport)
{
    pthread_mutex_lock(&transport->lock);
    transport->counters.failures++;
    pthread_mutex_unlock(&transport->lock);
}

static void begin(struct nats_transport *transport, uint64_t now)
{
    presence_error error = {0};
    struct link *link = link_begin(&transport->config.link, transport->wake, &error);
    if (!link) {
        set_trouble(transport, error.message);
        count_failure(transport);
        say(transport, STEP_WARNING, "nats", "%s", error.message);
        try_later(transport, now);
        return;
    }
    pthread_mutex_lock(&transport->lock);
    transport->link = link;
    pthread_mutex_unlock(&transport->lock);
    transport->begun_at = now;
}

static void lose(struct nats_transport *transport, uint64_t now, bool was_up, const char *why)
{
    char trouble[LINK_TROUBLE_BYTES] = "";
    link_trouble(transport->link, trouble);
    if (why)
        snprintf(trouble, sizeof trouble, "%s", why);
    set_trouble(transport, trouble);
    pthread_mutex_lock(&transport->lock);
    transport->counters.losses += was_up;
    transport->counters.failures += !was_up;
    pthread_mutex_unlock(&transport->lock);
    say(transport, STEP_WARNING, "nats", was_up ? "connection lost: %s" : "cannot connect: %s", trouble);
    drop_link(transport);
    try_later(transport, now);
}

static void adopt(struct nats_transport *transport, uint64_t now)
{
    if (!ears_open(&transport->ears, link_connection(transport->link))) {
        lose(transport, now, false, "cannot subscribe");
        return;
    }
    transport->beats_out = transport->beats_back = transport->unheard_since = 0;
    transport->wait_ms = FIRST_WAIT_MS;
    pthread_mutex_lock(&transport->lock);
    transport->up = true;
    transport->trouble[0] = '\0';
    transport->counters.connects++;
    pthread_mutex_unlock(&transport->lock);
    char server[SUBJECT_BYTES] = "", *secret;
    natsConnection_GetConnectedUrl(link_connection(transport->link), server, sizeof server);
    secret = strrchr(server, '@');
    say(transport, STEP_INFO, "nats", "connected to %s", secret ? secret + 1 : server);
}

/* What the server refused, say. */
static void hear_complaint(struct nats_transport *transport)
{
    char trouble[LINK_TROUBLE_BYTES];
    if (!link_trouble(transport->link, trouble))
        return;
    pthread_mutex_lock(&transport->lock);
    transport->counters.complaints++;
    pthread_mutex_unlock(&transport->lock);
    if (transport->now < transport->complain_again && strcmp(trouble, transport->complaint) == 0)
        return; /* a right that lacks is told at each beat */
    memcpy(transport->complaint, trouble, sizeof transport->complaint);
    transport->complain_again = transport->now + QUIET_MS * MS;
    say(transport, STEP_WARNING, "nats", "%s", trouble);
}

static void look_after_link(struct nats_transport *transport, uint64_t now)
{
    if (!transport->link) {
        if (!transport->stopped && now >= transport->retry_at)
            begin(transport, now);
        return;
    }
    switch (link_state(transport->link)) {
    case LINK_CONNECTING:
        if (now - transport->begun_at > STUCK_MS * MS && transport->abandoned < MOST_ABANDONED) {
            transport->abandoned++;
            lose(transport, now, false, "no answer");
        }
        return;
    case LINK_DOWN:
        lose(transport, now, transport->up, NULL);
        return;
    case LINK_UP:
        if (!transport->up)
            adopt(transport, now);
        else
            hear_complaint(transport);
        if (transport->unheard_since != 0 && transport->up &&
            now - transport->unheard_since > 3 * MS * transport->config.lease_ms)
            lose(transport, now, true, "own beats do not come back");
        return;
    }
}

void nats_transport_stop(struct nats_transport *transport)
{
    transport->stopped = true;
    drop_link(transport);
}

/* ----------------------------------------------------------------------------------------------------- receiving -- */

uint64_t nats_transport_poll(struct nats_transport *transport, uint64_t now, struct pollfd *poll)
{
    *poll = (struct pollfd){.fd = -1};
    if (!transport->link)
        return transport->stopped ? NEVER : transport->retry_at;
    if (!transport->up)
        return now + 1000 * MS; /* its thread wakes us */
    if (transport->ears.more || link_state(transport->link) == LINK_DOWN)
        return now;
    poll->fd = link_socket(transport->link);
    poll->events = (short)(POLLIN | (link_wants_to_write(transport->link) ? POLLOUT : 0));
    return now + transport->config.lease_ms * MS;
}

void nats_transport_read(struct nats_transport *transport, uint64_t now, bool readable, bool *up)
{
    ears_forget_messages(&transport->ears);
    transport->now = now;
    if (transport->link && transport->up && readable)
        link_read(transport->link);
    if (transport->link && transport->up)
        ears_gather(&transport->ears);
    look_after_link(transport, now);
    *up = transport->up;
}

static void heard_own_beat(struct nats_transport *transport)
{
    transport->beats_back++;
    transport->unheard_since = transport->beats_back >= transport->beats_out ? 0 : transport->now;
}

/* Whether the message is for the step. */
static bool is_wanted(struct nats_transport *transport, natsMsg *message)
{
    const char *subject = natsMsg_GetSubject(message), *from = strrchr(subject, '.');
    size_t length = (size_t)natsMsg_GetDataLength(message), prefix = strlen(transport->beat) - strlen(transport->node);
    bool honest = from && ears_is_from(natsMsg_GetData(message), length, from + 1);
    pthread_mutex_lock(&transport->lock);
    transport->counters.received++;
    transport->counters.received_bytes += length;
    transport->counters.forged += !honest;
    pthread_mutex_unlock(&transport->lock);
    if (honest && strcmp(subject, transport->beat) == 0)
        heard_own_beat(transport);
    else if (honest && strncmp(subject, transport->beat, prefix) == 0)
        ears_know(&transport->ears, from + 1);
    return honest && strcmp(subject, transport->stream) != 0;
}

const void *nats_transport_next(struct nats_transport *transport, size_t *length)
{
    natsMsg *message;
    while ((message = ears_next(&transport->ears)))
        if (is_wanted(transport, message)) {
            *length = (size_t)natsMsg_GetDataLength(message);
            return natsMsg_GetData(message);
        }
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------- sending -- */

/* The parcel whose turn it is: the oldest, but beats alone while libnats has its fill. */
static struct parcel *take_parcel(struct nats_transport *transport, bool has_fill)
{
    pthread_mutex_lock(&transport->lock);
    const struct parcel *beat = transport->beats.first, *bulk = transport->bulk.first;
    struct lane *lane = NULL;
    if (beat && (!bulk || beat->order < bulk->order || (has_fill && !transport->last_words)))
        lane = &transport->beats;
    else if (bulk && !has_fill)
        lane = &transport->bulk;
    struct parcel *parcel = lane ? lane->first : NULL;
    if (parcel) {
        lane->first = parcel->next;
        if (!lane->first)
            lane->end = &lane->first;
    }
    pthread_mutex_unlock(&transport->lock);
    return parcel;
}

static void publish(struct nats_transport *transport, struct parcel *parcel)
{
    natsStatus status =
        natsConnection_Publish(link_connection(transport->link), parcel->subject, parcel->bytes, (int)parcel->length);
    if (status == NATS_OK && parcel->beat) {
        transport->beats_out++;
        if (transport->unheard_since == 0)
            transport->unheard_since = transport->now;
    }
    pthread_mutex_lock(&transport->lock);
    if (status == NATS_OK) {
        transport->counters.published++;
        transport->counters.published_bytes += parcel->length;
    } else {
        transport->counters.dropped++;
        transport->counters.dropped_bytes += parcel->length;
    }
    pthread_mutex_unlock(&transport->lock);
    if (status == NATS_MAX_PAYLOAD)
        say(transport, STEP_WARNING, "nats", "the NATS server's max_payload is below a message of %zu bytes",
            parcel->length);
    free(parcel);
}

/* What waits is what is queued here and what libnats has. */
static void count_waiting(struct nats_transport *transport, size_t given)
{
    size_t in_libnats = transport->link && transport->up ? link_waiting(transport->link) : 0;
    pthread_mutex_lock(&transport->lock);
    transport->waiting = transport->waiting - given - transport->in_libnats + in_libnats;
    transport->in_libnats = in_libnats;
    pthread_mutex_unlock(&transport->lock);
}

void nats_transport_write(struct nats_transport *transport, uint64_t now)
{
    if (!transport->up || link_state(transport->link) != LINK_UP)
        return;
    transport->now = now;
    ears_follow(&transport->ears, link_connection(transport->link));
    size_t most = link_is_tls(transport->link) ? FEED_TLS_BYTES : FEED_BYTES, given = 0;
    size_t held = link_waiting(transport->link);
    struct parcel *parcel;
    while ((parcel = take_parcel(transport, held >= most))) {
        held += parcel->length;
        given += parcel->length;
        publish(transport, parcel);
    }
    if (link_wants_to_write(transport->link))
        link_write(transport->link);
    count_waiting(transport, given);
}

/* ------------------------------------------------------------------------------------------------------- the end -- */

void nats_transport_last_words(struct nats_transport *transport)
{
    pthread_mutex_lock(&transport->lock);
    transport->last_words = true;
    pthread_mutex_unlock(&transport->lock);
}

bool nats_transport_is_settled(struct nats_transport *transport)
{
    pthread_mutex_lock(&transport->lock);
    bool empty = !transport->beats.first && !transport->bulk.first && transport->waiting == 0;
    pthread_mutex_unlock(&transport->lock);
    return !transport->up || (empty && transport->beats_back >= transport->beats_out);
}

void nats_transport_interrupt(struct nats_transport *transport)
{
    pthread_mutex_lock(&transport->lock);
    if (transport->link)
        link_interrupt(transport->link);
    pthread_mutex_unlock(&transport->lock);
}

void nats_transport_counters(struct nats_transport *transport, struct nats_counters *out)
{
    pthread_mutex_lock(&transport->lock);
    *out = transport->counters;
    out->waiting = transport->waiting;
    out->up = transport->up;
    pthread_mutex_unlock(&transport->lock);
}

void nats_transport_trouble(struct nats_transport *transport, char trouble[LINK_TROUBLE_BYTES])
{
    pthread_mutex_lock(&transport->lock);
    memcpy(trouble, transport->trouble, LINK_TROUBLE_BYTES);
    pthread_mutex_unlock(&transport->lock);
}
