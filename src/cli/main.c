/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - the `presence` command: its verbs, its options, its help.
 *
 * Exit status: 0, the answer is yes, or there is none to give; 1, asked and the answer is no; 2, could not ask.
 */
#include "cli.h"

#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_URL "http://127.0.0.1:7791"

enum { MOST_TOKEN_BYTES = 4096 };

const struct verb verbs[] = {
    {"report", "", "the record as a report, by model", "model", 0, 0, run_report},
    {"status", "MODEL AGENT...", "whether agents are alive; exit status 1 if one is not", "", 2, -1, run_status},
    {"agents", "[MODEL]", "agents and their status", "model server", 0, 1, run_agents},
    {"models", "", "models and how many agents they have", "", 0, 0, run_models},
    {"servers", "", "servers and how their connections are", "model", 0, 0, run_servers},
    {"values", "", "connections", "model server agent status", 0, 0, run_values},
    {"count", "", "how many connections", "model server agent status", 0, 0, run_count},
    {"watch", "[MODEL [AGENT]]", "agents as they come and go", "model server agent after count", 0, 2, run_watch},
    {"events", "", "every change, as it happens", "model server agent after count", 0, 0, run_events},
    {"top", "", "servers and models, redrawn in place", "interval once", 0, 0, run_top},
    {"import", "FILE", "feed a log of connects and disconnects (-: standard input)", "", 1, 1, run_import},
    {"verify", "", "check every invariant of the record, and that all nodes of a cluster agree", "", 0, 0, run_verify},
    {"explain", "MODEL AGENT", "the status of an agent with all that it rests on, on every node", "", 2, 2,
     run_explain},
    {"forget", "SERVER", "drop a server that will not come back", "yes", 1, 1, run_forget},
    {"completion", "bash|zsh|fish", "a completion script for the shell", "", 1, 1, run_completion},
    {NULL, NULL, NULL, NULL, 0, 0, NULL},
};

const char *const option_words[] = {
    "--url URL",     "--unix PATH",     "--token-file FILE", "--ca FILE", "--cert FILE",        "--key FILE",
    "--json",        "--ndjson",        "--no-color",        "--quiet",   "--model MODEL",      "--server SERVER",
    "--agent AGENT", "--status STATUS", "--after REVISION",  "--count N", "--interval SECONDS", "--once",
    "--yes",         "--help",          "--version",         NULL,
};

static const char common_options[] = "url unix token-file ca cert key json ndjson no-color quiet help version";

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fputs("presence: ", stderr);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 does not see the va_start above */
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(COULD_NOT_ASK);
}

void fail_usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("presence: ", stderr);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 does not see the va_start above */
    vfprintf(stderr, format, arguments);
    fputs(" (presence --help)\n", stderr);
    va_end(arguments);
    exit(COULD_NOT_ASK);
}

static void print_help(void)
{
    puts("usage: presence VERB [OPTION...] [ARGUMENT...]\n\nAsks presenced which agents are connected.\n");
    for (const struct verb *verb = verbs; verb->name; verb++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", verb->name, verb->syntax);
        printf("  %-26s %s\n", left, verb->summary);
    }
    puts("\n  --url URL          where presenced is [" DEFAULT_URL ", or PRESENCE_URL]\n"
         "  --unix PATH        connect to this unix socket\n"
         "  --token-file FILE  a token, in a file [PRESENCE_TOKEN_FILE]\n"
         "  --ca FILE          trust servers with a certificate of these (PEM)\n"
         "  --cert, --key FILE a certificate of one's own\n"
         "  --json, --ndjson   for programs: one document, or one a line\n"
         "  --no-color         no colours, as NO_COLOR\n"
         "  --quiet            no progress\n"
         "  --model, --server, --agent, --status\n"
         "                     only these: values count watch events agents servers report\n"
         "  --after REVISION   changes after this one: watch events\n"
         "  --count N          end after so many events: watch events\n"
         "  --interval SECONDS --once   how often top draws, or once\n"
         "  --yes              do not ask back: forget\n\n"
         "Exit status: 0; 1: asked, and the answer is no; 2: could not ask. See presence(1).");
}

/* The first line of the file. */
static const char *read_token(const char *path)
{
    static char token[MOST_TOKEN_BYTES];
    FILE *file = fopen(path, "re");
    if (!file || !fgets(token, sizeof token, file))
        fail("cannot read a token from %s", path);
    fclose(file);
    token[strcspn(token, "\r\n")] = 0;
    return token;
}

static double positive(const char *option, const char *text)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !(number > 0) || number > 1e9)
        fail_usage("--%s wants a number above 0, got \"%s\"", option, text);
    return number;
}

static bool is_word_of(const char *word, const char *words)
{
    size_t length = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += length)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

enum option_code {
    FIRST_OPTION = 256, /* above every character */
    OPTION_URL = FIRST_OPTION,
    OPTION_UNIX,
    OPTION_TOKEN_FILE,
    OPTION_CA,
    OPTION_CERT,
    OPTION_KEY,
    OPTION_JSON,
    OPTION_NDJSON,
    OPTION_NO_COLOR,
    OPTION_QUIET,
    OPTION_MODEL,
    OPTION_SERVER,
    OPTION_AGENT,
    OPTION_STATUS,
    OPTION_AFTER,
    OPTION_COUNT,
    OPTION_INTERVAL,
    OPTION_ONCE,
    OPTION_YES,
    OPTION_HELP,
    OPTION_VERSION
};

static const struct option long_options[] = {
    {"url", required_argument, NULL, OPTION_URL},
    {"unix", required_argument, NULL, OPTION_UNIX},
    {"token-file", required_argument, NULL, OPTION_TOKEN_FILE},
    {"ca", required_argument, NULL, OPTION_CA},
    {"cert", required_argument, NULL, OPTION_CERT},
    {"key", required_argument, NULL, OPTION_KEY},
    {"json", no_argument, NULL, OPTION_JSON},
    {"ndjson", no_argument, NULL, OPTION_NDJSON},
    {"no-color", no_argument, NULL, OPTION_NO_COLOR},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"model", required_argument, NULL, OPTION_MODEL},
    {"server", required_argument, NULL, OPTION_SERVER},
    {"agent", required_argument, NULL, OPTION_AGENT},
    {"status", required_argument, NULL, OPTION_STATUS},
    {"after", required_argument, NULL, OPTION_AFTER},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"interval", required_argument, NULL, OPTION_INTERVAL},
    {"once", no_argument, NULL, OPTION_ONCE},
    {"yes", no_argument, NULL, OPTION_YES},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

static void take_option(struct cli *cli, int code, const char *name, const char *value)
{
    const char **texts[] = {
        [OPTION_URL - FIRST_OPTION] = &cli->url,       [OPTION_UNIX - FIRST_OPTION] = &cli->unix_socket,
        [OPTION_CA - FIRST_OPTION] = &cli->ca,         [OPTION_CERT - FIRST_OPTION] = &cli->certificate,
        [OPTION_KEY - FIRST_OPTION] = &cli->key,       [OPTION_MODEL - FIRST_OPTION] = &cli->model,
        [OPTION_SERVER - FIRST_OPTION] = &cli->server, [OPTION_AGENT - FIRST_OPTION] = &cli->agent,
        [OPTION_STATUS - FIRST_OPTION] = &cli->status, [OPTION_AFTER - FIRST_OPTION] = &cli->after};
    switch (code) {
    case OPTION_TOKEN_FILE:
        cli->token = read_token(value);
        break;
    case OPTION_JSON:
        cli->output = OUTPUT_JSON;
        break;
    case OPTION_NDJSON:
        cli->output = OUTPUT_NDJSON;
        break;
    case OPTION_NO_COLOR:
        cli->colour = false;
        break;
    case OPTION_QUIET:
        cli->quiet = true;
        break;
    case OPTION_COUNT:
        cli->count = (uint64_t)positive(name, value);
        break;
    case OPTION_INTERVAL:
        cli->interval_s = positive(name, value);
        break;
    case OPTION_ONCE:
        cli->once = true;
        break;
    case OPTION_YES:
        cli->yes = true;
        break;
    default:
        *texts[code - FIRST_OPTION] = value;
    }
}

static const struct verb *find_verb(const char *name)
{
    for (const struct verb *verb = verbs; verb->name; verb++)
        if (strcmp(verb->name, name) == 0)
            return verb;
    fail_usage("there is no verb \"%.64s\"", name);
}

/* Options may stand anywhere; which of them the verb takes is known only at the end. */
static const struct verb *parse(struct cli *cli, int argc, char **argv)
{
    bool given[OPTION_VERSION - FIRST_OPTION + 1] = {false};
    int code, index = 0;
    while ((code = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (code == '?')
            exit(COULD_NOT_ASK); /* getopt has said what is wrong */
        if (code == OPTION_HELP) {
            print_help();
            exit(ANSWER_YES);
        }
        if (code == OPTION_VERSION) {
            puts("presence " CLI_VERSION);
            exit(ANSWER_YES);
        }
        given[code - FIRST_OPTION] = true;
        take_option(cli, code, long_options[index].name, optarg);
    }
    if (optind == argc)
        fail_usage("say what to do: report, status, agents, models, servers, values, count, watch, events, top...");
    const struct verb *verb = find_verb(argv[optind++]);
    for (const struct option *option = long_options; option->name; option++)
        if (given[option->val - FIRST_OPTION] && !is_word_of(option->name, common_options) &&
            !is_word_of(option->name, verb->options))
            fail_usage("%s does not take --%s", verb->name, option->name);
    cli->words = argv + optind;
    cli->word_count = argc - optind;
    if (cli->word_count < verb->least_words || (verb->most_words >= 0 && cli->word_count > verb->most_words))
        fail_usage("wrong number of arguments: presence %s %s", verb->name, verb->syntax);
    return verb;
}

int main(int argc, char **argv)
{
    const char *no_colour = getenv("NO_COLOR"), *url = getenv("PRESENCE_URL"), *token = getenv("PRESENCE_TOKEN_FILE");
    struct cli cli = {.url = url && *url ? url : DEFAULT_URL, .interval_s = 1};
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_DFL); /* `presence values | head` ends as others do */
    cli.colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour);
    const struct verb *verb = parse(&cli, argc, argv);
    if (!cli.token && token && *token)
        cli.token = read_token(token);
    http_start(&cli);
    int status = verb->run(&cli);
    http_stop();
    if (fflush(stdout) != 0 || ferror(stdout))
        fail("cannot write to standard output");
    return status;
}
