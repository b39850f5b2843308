/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster_node.c - nodes of a cluster, driven by lines on the standard input: what test_cluster.py tells its stories
 * with. One process may be one node or several.
 *
 *   join NODE key=value...      urls= cluster= user= password= token= creds= ca= cert= key= interval= lease=
 *                               settle= hold= activity= forget_after=
 *   NODE COMMAND [argument...]  see the table at the end
 *
 * Each line is answered by one line of JSON, on the standard output.
 */
#include <nats/nats.h>
#include <presence/cluster.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_NODES = 8, MOST_WORDS = 64, EVENTS_BYTES = 65536 };

struct node {
    char name[PRESENCE_NODE_BYTES];
    presence_recorder *recorder;
    presence_cluster *cluster;
    pthread_mutex_t lock;
    char events[EVENTS_BYTES]; /* JSON, without the brackets */
    size_t length;
};

static struct node nodes[MOST_NODES];

static void add_event(struct node *node, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_event(struct node *node, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&node->lock);
    if (node->length < EVENTS_BYTES - 2048) {
        if (node->length > 0)
            node->events[node->length++] = ',';
        int length = vsnprintf(node->events + node->length, 2048, format, arguments);
        node->length += length < 2048 ? (size_t)length : 2047;
    }
    pthread_mutex_unlock(&node->lock);
    va_end(arguments);
}

/* Enough of JSON for what is said here. */
static const char *quoted(const char *text)
{
    static __thread char buffer[2][1024];
    static __thread unsigned turn;
    char *out = buffer[turn++ % 2], *at = out;
    *at++ = '"';
    for (; *text && at < out + 1000; text++) {
        if (*text == '"' || *text == '\\')
            *at++ = '\\';
        *at++ = (unsigned char)*text < 32 ? ' ' : *text;
    }
    *at++ = '"';
    *at = '\0';
    return out;
}

/* ----------------------------------------------------------------------------------------------------- callbacks -- */

static void on_superseded(void *context, const char *server, const presence_claim *by, const char *node)
{
    (void)by;
    add_event(context, "{\"superseded\": %s, \"node\": %s}", quoted(server), quoted(node));
}

static void on_log(void *context, presence_cluster_level level, const char *event, const char *text)
{
    struct node *node = context;
    if (getenv("CLUSTER_NODE_LOG"))
        fprintf(stderr, "%s: %s: %s\n", node->name, event, text);
    if (level == PRESENCE_CLUSTER_WARNING)
        add_event(node, "{\"warning\": %s, \"text\": %s}", quoted(event), quoted(text));
}

static void on_refused(void *context, const presence_error *why)
{
    add_event(context, "{\"refused\": %s}", quoted(why->message));
}

/* ------------------------------------------------------------------------------------------------------ commands -- */

static void answer_code(int code)
{
    printf("{\"code\": %s}\n", quoted(code == PRESENCE_OK ? "OK" : presence_error_name(code) + strlen("PRESENCE_E_")));
}

static void answer_error(int code, const presence_error *error)
{
    if (code == PRESENCE_OK)
        answer_code(code);
    else
        printf("{\"code\": %s, \"message\": %s}\n", quoted(presence_error_name(code) + strlen("PRESENCE_E_")),
               quoted(error->message));
}

static void do_connect(struct node *node, char **words)
{
    answer_code(presence_recorder_connect(node->recorder, words[0], words[1], words[2], strtoull(words[3], NULL, 10),
                                          false, ""));
}

/* fill SERVER COUNT BYTES: agents with that much user data, one by one */
static void do_fill(struct node *node, char **words)
{
    size_t count = strtoull(words[1], NULL, 10), bytes = strtoull(words[2], NULL, 10);
    char *data = calloc(1, bytes + 1), agent[32];
    memset(data, 'x', bytes);
    int code = PRESENCE_OK;
    for (size_t i = 1; i <= count && code == PRESENCE_OK; i++) {
        snprintf(agent, sizeof agent, "full-%zu", i);
        code = presence_recorder_connect(node->recorder, words[0], "m", agent, i, false, data);
    }
    free(data);
    answer_code(code);
}

static void do_disconnect(struct node *node, char **words)
{
    answer_code(presence_recorder_disconnect(node->recorder, words[0], strtoull(words[1], NULL, 10)));
}

static void do_activity(struct node *node, char **words)
{
    answer_code(presence_recorder_activity(node->recorder, words[0], strtoull(words[1], NULL, 10)));
}

static void do_down(struct node *node, char **words)
{
    answer_code(presence_recorder_server_down(node->recorder, words[0]));
}

/* update SERVER COUNT: agents agent-0... of the model m */
static void do_update(struct node *node, char **words)
{
    size_t count = strtoull(words[1], NULL, 10);
    presence_value *values = calloc(count + 1, sizeof *values);
    char(*names)[32] = calloc(count + 1, sizeof *names);
    presence_error error = {0};
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "agent-%zu", i);
        values[i] = (presence_value){
            .model = "m", .server = words[0], .agent = names[i], .user_data = "", .connection_id = i + 1};
    }
    answer_error(presence_recorder_update_server(node->recorder, words[0], values, count, &error), &error);
    free(values);
    free(names);
}

static void do_status(struct node *node, char **words)
{
    presence_evidence evidence;
    int code = presence_recorder_agent_evidence(node->recorder, words[0], words[1], &evidence);
    if (code != PRESENCE_OK)
        answer_code(code);
    else
        printf("{\"status\": \"%s\", \"reason\": \"%s\", \"since\": %lld}\n", presence_status_string(evidence.status),
               presence_reason_string(evidence.reason), (long long)evidence.since);
}

static void do_counts(struct node *node, char **words)
{
    presence_counts counts = {0};
    presence_recorder_server_counts(node->recorder, words[0], &counts);
    printf("{\"connections\": %zu, \"alive\": %zu, \"missing\": %zu}\n", counts.connections, counts.alive,
           counts.missing);
}

static void do_freshness(struct node *node, char **words)
{
    presence_freshness freshness;
    presence_cluster_freshness(node->cluster, words[0], &freshness);
    printf("{\"doubt\": \"%s\", \"since\": %lld, \"node\": %s}\n", presence_doubt_string(freshness.doubt),
           (long long)freshness.since, quoted(freshness.node));
}

static void do_wait(struct node *node, char **words)
{
    presence_error error = {0};
    answer_error(presence_cluster_wait(node->cluster, (uint32_t)strtoul(words[0], NULL, 10), &error), &error);
}

static void do_claim(struct node *node, char **words)
{
    answer_code(
        presence_cluster_claim(node->cluster, words[0], words[1] != NULL, words[1] ? strtoull(words[1], NULL, 10) : 0));
}

static void do_forget(struct node *node, char **words)
{
    answer_code(presence_cluster_forget(node->cluster, words[0]));
}

static void do_peers(struct node *node, char **words)
{
    (void)words;
    presence_peer peers[16];
    size_t count = presence_cluster_peers(node->cluster, peers, 16);
    printf("[");
    for (size_t i = 0; i < count && i < 16; i++)
        printf("%s{\"node\": \"%s\", \"servers\": %zu, \"silent\": %s, \"joining\": %s, \"heard\": %lld}",
               i ? ", " : "", peers[i].node, peers[i].servers, peers[i].silent ? "true" : "false",
               peers[i].joining ? "true" : "false", (long long)peers[i].heard);
    printf("]\n");
}

static void do_stats(struct node *node, char **words)
{
    (void)words;
    presence_cluster_counters counters = {.struct_bytes = sizeof counters};
    presence_cluster_stats(node->cluster, &counters);
    printf("{\"connected\": %s, \"connects\": %llu, \"losses\": %llu, \"failures\": %llu, \"complaints\": %llu, "
           "\"forged\": %llu, \"dropped\": %llu, \"waiting\": %llu, \"beats_sent\": %llu, \"beats_heard\": %llu, "
           "\"changes_applied\": %llu, \"states_taken\": %llu, \"lapses\": %llu, \"differences\": %llu, "
           "\"malformed\": %llu, \"newer\": %llu, \"bytes_sent\": %llu, \"bytes_received\": %llu}\n",
           counters.connected ? "true" : "false", (unsigned long long)counters.connects,
           (unsigned long long)counters.losses, (unsigned long long)counters.failures,
           (unsigned long long)counters.complaints, (unsigned long long)counters.messages_forged,
           (unsigned long long)counters.messages_dropped, (unsigned long long)counters.waiting_bytes,
           (unsigned long long)counters.beats_sent, (unsigned long long)counters.beats_heard,
           (unsigned long long)counters.changes_applied, (unsigned long long)counters.states_taken,
           (unsigned long long)counters.lapses, (unsigned long long)counters.digest_differences,
           (unsigned long long)counters.messages_malformed, (unsigned long long)counters.messages_of_newer_version,
           (unsigned long long)counters.bytes_sent, (unsigned long long)counters.bytes_received);
}

static void print_stand(void *context, const presence_stand *stand)
{
    unsigned *count = context;
    printf("%s{\"server\": %s, \"node\": \"%s\", \"holder\": \"%s\", \"number\": %llu, \"connections\": %llu, "
           "\"alive\": %llu, \"lapsed\": %s, \"forgotten\": %s, \"agreement\": \"%s\"}",
           (*count)++ ? ", " : "", quoted(stand->server), stand->node, stand->holder, (unsigned long long)stand->number,
           (unsigned long long)stand->connections, (unsigned long long)stand->alive, stand->lapsed ? "true" : "false",
           stand->forgotten ? "true" : "false", presence_agreement_string(stand->agreement));
}

static void do_verify(struct node *node, char **words)
{
    unsigned count = 0;
    size_t answered = 0, asked = 0;
    printf("{\"rows\": [");
    int code = presence_cluster_verify(node->cluster, (uint32_t)strtoul(words[0], NULL, 10), print_stand, &count,
                                       &answered, &asked);
    printf("], \"code\": %d, \"answered\": %zu, \"asked\": %zu}\n", code, answered, asked);
}

static void print_testimony(void *context, const presence_testimony *testimony)
{
    unsigned *count = context;
    printf("%s{\"node\": \"%s\", \"status\": \"%s\", \"reason\": \"%s\", \"stale\": %s, \"total\": %zu, "
           "\"connections\": [",
           (*count)++ ? ", " : "", testimony->node, presence_status_string(testimony->status),
           presence_reason_string(testimony->reason), testimony->stale ? "true" : "false", testimony->total);
    for (size_t i = 0; i < testimony->count; i++)
        printf("%s{\"server\": %s, \"holder\": %s, \"id\": %llu, \"missing\": %s}", i ? ", " : "",
               quoted(testimony->connections[i].server), quoted(testimony->connections[i].holder),
               (unsigned long long)testimony->connections[i].connection_id,
               testimony->connections[i].missing ? "true" : "false");
    printf("]}");
}

static void do_explain(struct node *node, char **words)
{
    unsigned count = 0;
    size_t answered = 0, asked = 0;
    printf("{\"rows\": [");
    int code = presence_cluster_explain(node->cluster, words[0], words[1], (uint32_t)strtoul(words[2], NULL, 10),
                                        print_testimony, &count, &answered, &asked);
    printf("], \"code\": %d, \"answered\": %zu, \"asked\": %zu}\n", code, answered, asked);
}

/* What several threads of a program may do at once. */
struct storm {
    struct node *node;
    const char *server;
    unsigned thread;
    uint64_t until;
};

static uint64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void count_stand(void *context, const presence_stand *stand)
{
    (void)stand;
    ++*(unsigned *)context;
}

static void *storm(void *argument)
{
    const struct storm *mine = argument;
    presence_cluster *cluster = mine->node->cluster;
    unsigned rows = 0;
    for (uint64_t i = 0; monotonic_ms() < mine->until; i++) {
        uint64_t id = 1000 * mine->thread + i % 100 + 1;
        char agent[32];
        presence_freshness freshness;
        presence_peer peers[4];
        presence_cluster_counters counters = {.struct_bytes = sizeof counters};
        snprintf(agent, sizeof agent, "storm-%llu", (unsigned long long)id);
        presence_recorder_connect(mine->node->recorder, mine->server, "m", agent, id, false, "");
        if (i % 3 == 0)
            presence_recorder_disconnect(mine->node->recorder, mine->server, id);
        presence_cluster_freshness(cluster, mine->server, &freshness);
        presence_cluster_peers(cluster, peers, 4);
        presence_cluster_stats(cluster, &counters);
        if (i % 50 == 0)
            presence_cluster_claim(cluster, mine->server, false, 0);
        if (i % 100 == 0)
            presence_cluster_verify(cluster, 50, count_stand, &rows, NULL, NULL);
    }
    return NULL;
}

/* storm SERVER MS: four threads at once */
static void do_storm(struct node *node, char **words)
{
    pthread_t threads[4];
    struct storm storms[4];
    for (unsigned i = 0; i < 4; i++) {
        storms[i] = (struct storm){node, words[0], i, monotonic_ms() + strtoull(words[1], NULL, 10)};
        pthread_create(&threads[i], NULL, storm, &storms[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    answer_code(PRESENCE_OK);
}

static void do_events(struct node *node, char **words)
{
    (void)words;
    pthread_mutex_lock(&node->lock);
    printf("[%.*s]\n", (int)node->length, node->events);
    node->length = 0;
    pthread_mutex_unlock(&node->lock);
}

static void do_check(struct node *node, char **words)
{
    (void)words;
    presence_error error = {0};
    answer_error(presence_recorder_check(node->recorder, &error), &error);
}

/* corrupt SERVER AGENT: a change that its origin never made, under the number that the origin's next one will have */
static void do_corrupt(struct node *node, char **words)
{
    presence_server_description known;
    int code = presence_replica_describe(node->recorder, words[0], &known);
    if (code == PRESENCE_OK) {
        presence_change change = {.number = known.number + 1, .kind = PRESENCE_CHANGE_CONNECT, .time = 1};
        change.value = (presence_value){
            .model = "m", .server = words[0], .agent = words[1], .user_data = "", .connection_id = 7777};
        code = presence_replica_apply(node->recorder, words[0], &known.claim, &change, NULL, NULL);
    }
    answer_code(code);
}

static void do_disable(struct node *node, char **words)
{
    (void)words;
    presence_recorder_disable(node->recorder);
    answer_code(PRESENCE_OK);
}

static void do_leave(struct node *node, char **words)
{
    (void)words;
    presence_cluster_leave(node->cluster);
    presence_recorder_free(node->recorder);
    node->cluster = NULL;
    node->recorder = NULL;
    node->name[0] = '\0';
    answer_code(PRESENCE_OK);
}

/* --------------------------------------------------------------------------------------------------------- lines -- */

static uint32_t milliseconds(const char *value)
{
    return (uint32_t)strtoul(value, NULL, 10);
}

static void set_option(presence_cluster_config *config, char *word)
{
    char *value = strchr(word, '=');
    if (!value)
        return;
    *value++ = '\0';
    const struct {
        const char *name, **text;
        uint32_t *number;
    } options[] = {{"urls", &config->urls, NULL},
                   {"cluster", &config->cluster, NULL},
                   {"user", &config->user, NULL},
                   {"password", &config->password, NULL},
                   {"token", &config->token, NULL},
                   {"creds", &config->credentials_file, NULL},
                   {"ca", &config->tls_ca, NULL},
                   {"cert", &config->tls_certificate, NULL},
                   {"key", &config->tls_key, NULL},
                   {"interval", NULL, &config->interval_ms},
                   {"lease", NULL, &config->lease_ms},
                   {"settle", NULL, &config->settle_ms},
                   {"hold", NULL, &config->hold_ms},
                   {"activity", NULL, &config->activity_ms},
                   {"forget_after", NULL, &config->forget_after_ms}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strcmp(word, options[i].name) != 0)
            continue;
        if (options[i].text)
            *options[i].text = value;
        else
            *options[i].number = milliseconds(value);
    }
}

static void do_join(const char *name, char **words)
{
    struct node *node = nodes;
    while (node->name[0])
        node++;
    snprintf(node->name, sizeof node->name, "%s", name);
    presence_options options;
    presence_options_init(&options);
    options.history_bytes = 64 << 20;
    node->recorder = presence_recorder_new_with(&options, NULL);
    presence_recorder_enable(node->recorder);
    presence_cluster_config config;
    presence_cluster_config_init(&config);
    config.node = name;
    config.context = node;
    config.superseded = on_superseded;
    config.log = on_log;
    config.refused = on_refused;
    for (; *words; words++)
        set_option(&config, *words);
    presence_error error = {0};
    node->length = 0;
    node->cluster = presence_cluster_join(node->recorder, &config, &error);
    if (!node->cluster) {
        presence_recorder_free(node->recorder);
        node->name[0] = '\0';
    }
    answer_error(node->cluster ? PRESENCE_OK : error.code, &error);
}

static const struct {
    const char *name;
    int arguments;
    void (*run)(struct node *node, char **words);
} commands[] = {
    {"connect", 4, do_connect}, {"disconnect", 2, do_disconnect}, {"activity", 2, do_activity},
    {"down", 1, do_down},       {"update", 2, do_update},         {"status", 2, do_status},
    {"counts", 1, do_counts},   {"peers", 0, do_peers},           {"freshness", 0, do_freshness},
    {"wait", 1, do_wait},       {"claim", 1, do_claim},           {"forget", 1, do_forget},
    {"stats", 0, do_stats},     {"verify", 1, do_verify},         {"explain", 3, do_explain},
    {"events", 0, do_events},   {"check", 0, do_check},           {"disable", 0, do_disable},
    {"fill", 3, do_fill},       {"storm", 2, do_storm},           {"leave", 0, do_leave},
    {"corrupt", 2, do_corrupt},
};

static struct node *find_node(const char *name)
{
    for (size_t i = 0; i < MOST_NODES; i++)
        if (strcmp(nodes[i].name, name) == 0)
            return &nodes[i];
    return NULL;
}

static void do_line(char **words, int count)
{
    if (count >= 2 && strcmp(words[0], "join") == 0) {
        do_join(words[1], words + 2);
        return;
    }
    struct node *node = count >= 2 ? find_node(words[0]) : NULL;
    for (size_t i = 0; node && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(words[1], commands[i].name) == 0 && count - 2 >= commands[i].arguments) {
            commands[i].run(node, words + 2);
            return;
        }
    printf("{\"unknown\": %s}\n", quoted(count > 0 ? words[0] : ""));
}

int main(void)
{
    char line[8192];
    for (size_t i = 0; i < MOST_NODES; i++)
        pthread_mutex_init(&nodes[i].lock, NULL);
    while (fgets(line, sizeof line, stdin)) {
        char *words[MOST_WORDS + 3] = {0}, *rest = line, *word;
        int count = 0;
        while (count < MOST_WORDS && (word = strsep(&rest, " \n")) != NULL)
            if (word[0])
                words[count++] = word;
        do_line(words, count);
        fflush(stdout);
    }
    for (size_t i = 0; i < MOST_NODES; i++)
        if (nodes[i].cluster) {
            presence_cluster_leave(nodes[i].cluster);
            presence_recorder_free(nodes[i].recorder);
        }
    nats_CloseAndWait(5000); /* its threads may still hold what was closed, and the leak sanitizer looks at the end */
    return 0;
}
