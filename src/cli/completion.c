/* SPDX-License-Identifier: Apache-2.0 */
/*
 * completion.c - completion scripts for bash, zsh and fish, made from the tables of verbs and options: what a shell
 * offers cannot drift from what the command takes.
 */
#include "cli.h"

#include <string.h>

static void print_verbs(const char *between)
{
    for (const struct verb *verb = verbs; verb->name; verb++)
        printf("%s%s", verb == verbs ? "" : between, verb->name);
}

/* The option's name, without the word of its value. */
static void print_option(const char *words)
{
    printf("%.*s", (int)strcspn(words, " "), words);
}

static void bash(void)
{
    puts("# presence(1) for bash\n_presence() {\n"
         "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}");
    puts("    case $before in\n"
         "    --unix|--token-file|--ca|--cert|--key|import) COMPREPLY=($(compgen -f -- \"$word\")); "
         "return;;\n    --status) COMPREPLY=($(compgen -W 'alive missing unknown' -- \"$word\")); return;;\n"
         "    completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$word\")); return;;\n"
         "    --url|--model|--server|--agent|--after|--count|--interval) return;;\n    esac");
    fputs("    if [[ $word == -* ]]; then\n        COMPREPLY=($(compgen -W '", stdout);
    for (size_t i = 0; option_words[i]; i++) {
        print_option(option_words[i]);
        putchar(' ');
    }
    fputs("' -- \"$word\"))\n    else\n        COMPREPLY=($(compgen -W '", stdout);
    print_verbs(" ");
    puts("' -- \"$word\"))\n    fi\n}\ncomplete -F _presence presence");
}

static void zsh(void)
{
    puts("#compdef presence\n# presence(1) for zsh\n_presence() {\n    local -a verbs\n    verbs=(");
    for (const struct verb *verb = verbs; verb->name; verb++)
        printf("        '%s:%s'\n", verb->name, verb->summary);
    fputs("    )\n    _arguments -s", stdout);
    for (size_t i = 0; option_words[i]; i++) {
        const char *value = strchr(option_words[i], ' ');
        fputs(" \\\n        '", stdout);
        print_option(option_words[i]);
        if (value && (strcmp(value + 1, "FILE") == 0 || strcmp(value + 1, "PATH") == 0))
            printf("[]:%s:_files", value + 1);
        else if (value && strcmp(value + 1, "STATUS") == 0)
            printf("[]:status:(alive missing unknown)");
        else if (value)
            printf("[]:%s:", value + 1);
        putchar('\'');
    }
    puts(" \\\n        '1:verb:{_describe verb verbs}' '*:argument:_files'\n}\n"
         "if [ \"$funcstack[1]\" = _presence ]; then _presence \"$@\"; else compdef _presence presence; fi");
}

static void fish(void)
{
    puts("# presence(1) for fish\ncomplete -c presence -f");
    for (const struct verb *verb = verbs; verb->name; verb++)
        printf("complete -c presence -n __fish_use_subcommand -a %s -d '%s'\n", verb->name, verb->summary);
    for (size_t i = 0; option_words[i]; i++) {
        const char *value = strchr(option_words[i], ' ');
        printf("complete -c presence -l %.*s%s\n", (int)strcspn(option_words[i] + 2, " "), option_words[i] + 2,
               !value                                                             ? ""
               : strcmp(value + 1, "FILE") == 0 || strcmp(value + 1, "PATH") == 0 ? " -r -F"
               : strcmp(value + 1, "STATUS") == 0                                 ? " -x -a 'alive missing unknown'"
                                                                                  : " -x");
    }
    puts("complete -c presence -n '__fish_seen_subcommand_from import' -F\n"
         "complete -c presence -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'");
}

int run_completion(struct cli *cli)
{
    const char *shell = cli->words[0];
    if (strcmp(shell, "bash") == 0)
        bash();
    else if (strcmp(shell, "zsh") == 0)
        zsh();
    else if (strcmp(shell, "fish") == 0)
        fish();
    else
        fail_usage("there are completions for bash, zsh and fish, not for \"%.64s\"", shell);
    return ANSWER_YES;
}
