#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The public headers compile by themselves, in any order, in every dialect that a user may have, with the warnings on
# that a careful user has on. Usage: headers.sh SOURCE_ROOT
set -u
. "$(dirname "$0")/story.sh"

root=$1
warnings=(-Wall -Wextra -pedantic -pedantic-errors -Werror -Wconversion -Wshadow -Wundef)

# compiles COMPILER LANGUAGE STANDARD FILE
compiles() {
    "$1" -x "$2" -std="$3" "${warnings[@]}" -I"$root/include" -c "$4" -o "$scratch/out.o"
}

# Each header alone and first, then both in the other order, twice.
printf '#include <presence/presence.h>\nextern int unused;\n' >"$scratch/presence.txt"
printf '#include <presence/replica.h>\nextern int unused;\n' >"$scratch/replica.txt"
printf '#include <presence/cluster.h>\nextern int unused;\n' >"$scratch/cluster.txt"
printf '#include <presence/replica.h>\n#include <presence/presence.h>\n#include <presence/replica.h>\nextern int unused;\n' \
    >"$scratch/both.txt"

every_header() {
    local header
    for header in presence replica cluster both; do
        compiles "$1" "$2" "$3" "$scratch/$header.txt"
    done
}

for compiler in gcc clang; do
    have "$compiler" || continue
    for standard in c11 c17 c2x; do
        story "headers with $compiler as $standard" every_header "$compiler" c "$standard"
        story "a C program with $compiler as $standard" \
            compiles "$compiler" c "$standard" "$root/tests/install/use.c"
    done
done
found_cxx=no
for compiler in g++ clang++; do
    have "$compiler" || continue
    found_cxx=yes
    for standard in c++11 c++17 c++20; do
        story "headers with $compiler as $standard" every_header "$compiler" c++ "$standard"
        story "a C++ program with $compiler as $standard" \
            compiles "$compiler" c++ "$standard" "$root/tests/install/use.cc"
    done
done
[ "$found_cxx" = yes ] || skip "headers in C++" "no C++ compiler is installed"
end_of_stories
