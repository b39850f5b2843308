#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# test_man.sh [SOURCE] - the man pages tell of every public function, as it is declared, and their examples compile.
#
# Given the public headers, then links.txt names each of their functions once and nothing else, the page that it names
# has the function in its NAME and, with the very same arguments, in its SYNOPSIS, and every constant of the headers is
# told of on some page. Then mandoc finds nothing to warn of, and each block of code compiles in a function that
# declares what it takes for granted. Needs mandoc and a C compiler ($CC, or else cc).
set -euo pipefail

SOURCE=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
readonly SOURCE
readonly MAN=$SOURCE/man
WORK=$(mktemp -d)
readonly WORK
trap 'rm -rf "$WORK"' EXIT
problems=0

problem() {
    echo "test_man: $*" >&2
    problems=$((problems + 1))
}

# Every declaration of the headers on one line: "name(arguments)", blanks made one.
declarations() {
    cat "$SOURCE"/include/presence/*.h | tr -s '\n\t ' ' ' | grep -o 'PRESENCE_API [^;{]*;' |
        sed -E 's/^PRESENCE_API .*[ *](presence_[a-z_]+)\((.*)\);$/\1(\2)/'
}

# The prototypes of a page's SYNOPSIS, in the same form.
prototypes() {
    sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESCRIPTION/p' "$1" | awk '
        /^\.Fo / { name = $2; arguments = "" }
        /^\.Fa / { sub(/^\.Fa "?/, ""); sub(/"$/, ""); arguments = arguments (arguments == "" ? "" : ", ") $0 }
        /^\.Fc/ { print name "(" arguments ")" }
        /^\.Fn / { print $2 "(" $3 ")" }'
}

names_of() { sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([a-z_]*\).*/\1/p' "$1"; }

declarations | sort >"$WORK/declared"
[[ $(wc -l <"$WORK/declared") -gt 50 ]] || problem "the headers could not be read"
for page in "$MAN"/man3/*.3; do prototypes "$page"; done | sort >"$WORK/told"
diff "$WORK/declared" "$WORK/told" >"$WORK/difference" ||
    problem "headers (<) and pages (>) differ:"$'\n'"$(cat "$WORK/difference")"

for page in "$MAN"/man3/*.3; do
    names_of "$page" | sed "s/\$/.3 ${page##*/}/"
done | sort >"$WORK/pages"
grep -v '^#' "$MAN/links.txt" | sort >"$WORK/links"
diff "$WORK/links" "$WORK/pages" >"$WORK/difference" ||
    problem "links.txt (<) and the NAME sections (>) differ:"$'\n'"$(cat "$WORK/difference")"

# Every constant of an enumeration is somewhere in the pages.
grep -ohE '\bPRESENCE_(E|REASON|EVENT|CHANGE)_[A-Z_]+\b' "$SOURCE"/include/presence/*.h | sort -u |
    while read -r constant; do
        grep -q -w -e "$constant" "$MAN"/man3/*.3 || echo "$constant"
    done >"$WORK/untold"
[[ ! -s $WORK/untold ]] || problem "no page tells of: $(tr '\n' ' ' <"$WORK/untold")"

for page in "$MAN"/man3/*.3 "$MAN"/man7/*.7; do
    mandoc -Tlint -W warning "$page" >"$WORK/lint" 2>&1 || problem "$(cat "$WORK/lint")"
done

# The code blocks: what they take for granted is declared around them. A block with a main is a program of its own.
cat >"$WORK/around.h" <<'END'
#include <poll.h>
#include <presence/presence.h>
#include <presence/cluster.h>
#include <presence/replica.h>
#include <stdio.h>
extern presence_recorder *recorder;
extern const char *model, *agent;
extern uint64_t id, peer_number;
extern presence_handle handles[];
extern size_t count;
extern presence_claim claim;
extern presence_change change;
void send_change(const presence_change *);
void send_whole_state(presence_recorder *, const char *);
void ask_again(const char *);
void describe_all(presence_recorder *);
END
blocks=0
for page in "$MAN"/man3/*.3 "$MAN"/man7/*.7; do
    awk -v base="$WORK/${page##*/}" '
        /^\.Bd -literal/ { n++; file = base "-" n ".body"; inside = 1; next }
        /^\.Ed/ { inside = 0 }
        inside { gsub(/\\e/, "\\"); print > file }' "$page"
done
for body in "$WORK"/*.body; do
    blocks=$((blocks + 1))
    if grep -q 'int main(' "$body"; then
        cp "$body" "$body.c"
    else
        {
            printf '#include "around.h"\nint block(void);\nint block(void)\n{\n'
            cat "$body"
            printf 'return 0;\n}\n'
        } >"$body.c"
    fi
    "${CC:-cc}" -std=gnu17 -Wall -Wextra -Werror -fsyntax-only -I"$SOURCE/include" -I"$WORK" "$body.c" ||
        problem "a block of code does not compile: ${body##*/}"
done
((blocks >= 8)) || problem "only $blocks blocks of code were found"

((problems == 0)) || exit 1
echo "test_man: ok, $(wc -l <"$WORK/declared") functions, $blocks blocks of code"
