#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a shared library shows is what its public headers promise, no more and no less. Usage:
#   exports.sh SOURCE_ROOT SHARED_LIBRARY SONAME NEEDED_BESIDES HEADER...      NEEDED_BESIDES: a pattern
set -u
. "$(dirname "$0")/story.sh"

root=$1
library=$2
soname=$3
besides=$4
shift 4

# Every function that a public header declares: the name before the first parenthesis after PRESENCE_API.
(cd "$root/include/presence" && cat "$@") | grep -v '^#' | tr '\n' ' ' | grep -o 'PRESENCE_API [^(;]*(' |
    grep -o 'presence_[a-z0-9_]*($' | tr -d '(' | sort -u >"$scratch/declared"
nm -D --defined-only "$library" | awk '{ print $NF }' | sort -u >"$scratch/exported"

the_lists_are_not_empty() {
    [ "$(wc -l <"$scratch/declared")" -ge 10 ]
    [ "$(wc -l <"$scratch/exported")" -ge 10 ]
}

only_in() {
    comm "$@" >"$scratch/only"
    cat "$scratch/only"
    [ ! -s "$scratch/only" ]
}

the_soname_is() {
    readelf -d "$library" | tee /dev/stderr | grep -q "Library soname: \[$1\]"
}

# libc, what was said besides, and nothing else: what it needs is written in it.
needs_nothing_else() {
    readelf -d "$library" | grep '(NEEDED)'
    readelf -d "$library" | grep '(NEEDED)' | none -vE "\[($besides)\]|\[(libc|libpthread)\.so\.[0-9]+\]|\[ld-linux[^]]*\]"
}

# A library that a user embeds neither runs code from writable pages nor moves its symbols after it was loaded.
no_text_relocations_nor_executable_stack() {
    readelf -d "$library" | none TEXTREL
    readelf -lW "$library" | grep GNU_STACK | none RWE
}

story "headers declare functions, and the library exports some" the_lists_are_not_empty
story "every exported name starts with presence_" only_in -13 <(printf '') <(grep -v '^presence_' "$scratch/exported")
story "every exported name is declared in a public header" only_in -13 "$scratch/declared" "$scratch/exported"
story "every declared function is exported" only_in -23 "$scratch/declared" "$scratch/exported"
story "the soname is $soname" the_soname_is "$soname"
story "the library needs libc${besides:+, $besides} and nothing else" needs_nothing_else
story "no text relocation, no executable stack" no_text_relocations_nor_executable_stack
end_of_stories
