#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The library as its users meet it: installed into a scratch prefix, found by pkg-config and by CMake, linked shared
# and static, and run. Usage: install.sh SOURCE_ROOT BUILD_FOLDER
set -u
. "$(dirname "$0")/story.sh"

root=$1
build=$2
dest=$scratch/dest

# Nothing of the machine's own may be found instead: only what was installed here.
install_it() {
    meson install -C "$build" --no-rebuild --quiet --destdir "$dest"
}

find_it() {
    pc=$(find "$dest" -name presence.pc)
    prefix=$(cd "$(dirname "$(find "$dest" -name presence.h)")/../.." && pwd)
    libdir=$(cd "$(dirname "$pc")/.." && pwd)
    export PKG_CONFIG_LIBDIR=$libdir/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dest
    unset PKG_CONFIG_PATH
    version=$(sed -n 's/^#define PRESENCE_VERSION "\(.*\)"/\1/p' "$root/include/presence/presence.h")
}

all_is_there() {
    local file
    for file in "$libdir/libpresence.so" "$libdir/libpresence.so.0" "$libdir/libpresence.so.$version" \
        "$libdir/libpresence.a" "$prefix/include/presence/presence.h" "$prefix/include/presence/replica.h" \
        "$libdir/cmake/presence/presence-config.cmake" "$libdir/cmake/presence/presence-config-version.cmake"; do
        [ -e "$file" ] || { echo "not installed: $file"; return 1; }
    done
    # The links stay inside the installation, and the archive holds its objects rather than their paths.
    [ "$(readlink "$libdir/libpresence.so.0")" = "libpresence.so.$version" ]
    [ "$(head -c 7 "$libdir/libpresence.a")" = '!<arch>' ]
}

# Only the library, its headers, the daemon and the command with what they need, their papers: no test, no example, no
# internal header.
nothing_else_is_there() {
    local library='/libpresence(-cluster)?\.(a|so(\.[0-9.]+)?)$|/include/presence/(presence|replica|cluster)\.h$|/presence(-cluster)?\.pc$|/cmake/presence/'
    local daemon='/bin/presenced?$|/systemd/system/presenced[a-z-]*\.(service|socket)$|/etc/presence/presenced\.conf$'
    local beside='/share/presence/grafana\.json$|/presence\.bash$|/_presence$|/presence\.fish$|/man/man[1378]/'
    find "$dest" -type f -o -type l | none -vE "$library|$daemon|$beside"
}

every_man_page_is_installed() {
    local page
    [ "$(find "$root/man" -name '*.[1-9]' | wc -l)" -gt 0 ]
    for page in $(find "$root/man" -name '*.[1-9]'); do
        [ -n "$(find "$prefix/share/man" -name "$(basename "$page")*" 2>/dev/null)" ] ||
            { echo "not installed: $(basename "$page")"; return 1; }
    done
}

# Every public function has a page of its name, if only one that points at its group's.
every_function_has_a_page() {
    nm -D --defined-only "$libdir/libpresence.so" | awk '{ print $NF }' | sort -u >"$scratch/functions"
    local function
    while read -r function; do
        [ -n "$(find "$prefix/share/man/man3" -name "$function.3*" 2>/dev/null)" ] || echo "no man page: $function"
    done <"$scratch/functions" >"$scratch/without"
    cat "$scratch/without"
    [ ! -s "$scratch/without" ]
}

pages_render() {
    local page
    for page in $(find "$prefix/share/man" -name '*.[1-9]'); do
        (cd "$prefix/share/man" && mandoc -T ascii -W error "$page") >"$scratch/page"
        [ -s "$scratch/page" ]
    done
}

the_versions_agree() {
    [ "$(pkg-config --modversion presence)" = "$version" ]
    grep -q "PACKAGE_VERSION \"$version\"" "$libdir/cmake/presence/presence-config-version.cmake"
}

# no path of the build may be left in what was installed
no_build_path_is_left() {
    cat "$libdir"/pkgconfig/* "$libdir"/cmake/presence/* | none -F -e "$build" -e "$root"
    readelf -d "$libdir/libpresence.so" | none -E 'RPATH|RUNPATH'
}

c_flags=(-std=c11 -Wall -Wextra -Werror)

shared_by_pkg_config() {
    gcc "${c_flags[@]}" $(pkg-config --cflags presence) "$root/tests/install/use.c" -o "$scratch/use-shared" \
        $(pkg-config --libs presence)
    readelf -d "$scratch/use-shared" | grep -q 'libpresence\.so\.0'
    LD_LIBRARY_PATH=$libdir "$scratch/use-shared" | grep -qxF "$version"
}

static_by_pkg_config() {
    gcc "${c_flags[@]}" $(pkg-config --cflags presence) "$root/tests/install/use.c" -o "$scratch/use-static" \
        -Wl,-Bstatic $(pkg-config --static --libs presence) -Wl,-Bdynamic
    readelf -d "$scratch/use-static" | none libpresence
    "$scratch/use-static" | grep -qxF "$version"
}

cxx_by_pkg_config() {
    g++ -std=c++11 -Wall -Wextra -pedantic -Werror $(pkg-config --cflags presence) "$root/tests/install/use.cc" \
        -o "$scratch/use-cxx" $(pkg-config --libs presence)
    LD_LIBRARY_PATH=$libdir "$scratch/use-cxx" | grep -qxF "$version"
}

# The examples as a reader takes them: a copy of the folder, make, pkg-config, and nothing else of this tree.
examples_by_make() {
    local kind=$1
    mkdir "$scratch/examples-$kind"
    cp "$root"/examples/*.[ch] "$root/examples/demo.sh" "$root/examples/Makefile" "$scratch/examples-$kind/"
    env -u MAKEFLAGS -u MAKELEVEL make -C "$scratch/examples-$kind" "STATIC=$([ "$kind" != static ] || echo 1)" \
        CFLAGS="-O1 -Wall -Wextra -Werror"
    LD_LIBRARY_PATH=$libdir "$scratch/examples-$kind/minimal"
    if [ "$kind" = static ]; then
        readelf -d "$scratch/examples-$kind/minimal" | none libpresence
    fi
}

demo_runs() {
    LD_LIBRARY_PATH=$libdir TMPDIR=$scratch bash "$scratch/examples-shared/demo.sh" "$scratch/examples-shared"
}

cmake_project() {
    cmake -S "$root/tests/install/cmake" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$prefix" \
        -DPRESENCE_WANTED="$1" -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF
    # What it found is what was installed here, not what the machine may have.
    grep '^presence_DIR:' "$scratch/cmake/CMakeCache.txt" | grep -F "$dest"
    cmake --build "$scratch/cmake"
    local kind
    for kind in shared static; do
        "$scratch/cmake/use_$kind" | grep -qxF "$version"
    done
    readelf -d "$scratch/cmake/use_shared" | grep -q 'libpresence\.so\.0'
    readelf -d "$scratch/cmake/use_static" | none libpresence
}

# Where libpresence-cluster was built: found by its own name, and it brings the library along.
cluster_by_pkg_config() {
    [ "$(pkg-config --modversion presence-cluster)" = "$version" ]
    [ "$(readlink "$libdir/libpresence-cluster.so.0")" = "libpresence-cluster.so.$version" ]
    gcc "${c_flags[@]}" $(pkg-config --cflags presence-cluster) "$root/tests/install/use_cluster.c" \
        -o "$scratch/use-cluster" $(pkg-config --libs presence-cluster)
    readelf -d "$scratch/use-cluster" | grep -q 'libpresence-cluster\.so\.0'
    LD_LIBRARY_PATH=$libdir "$scratch/use-cluster" | grep -qF "a node's name is"
    readelf -d "$libdir/libpresence-cluster.so" | none -E 'RPATH|RUNPATH'
}

cluster_static() {
    gcc "${c_flags[@]}" $(pkg-config --cflags presence-cluster) "$root/tests/install/use_cluster.c" \
        -o "$scratch/use-cluster-static" "$libdir/libpresence-cluster.a" "$libdir/libpresence.a" \
        -lnats -lprotobuf-c -pthread
    readelf -d "$scratch/use-cluster-static" | none libpresence
    "$scratch/use-cluster-static" | grep -qF "a node's name is"
}

cmake_refuses() {
    rm -rf "$scratch/cmake-refused"
    refused cmake -S "$root/tests/install/cmake" -B "$scratch/cmake-refused" -DCMAKE_PREFIX_PATH="$prefix" \
        -DPRESENCE_WANTED="$1" >"$scratch/refusal" 2>&1
    grep -q 'presence-config.cmake, version: ' "$scratch/refusal"
}

story "it installs into a scratch folder" install_it
if ! find_it; then
    echo "not ok $((told + 1)) - the installed files are found"
    exit 1
fi
story "library, headers, pkg-config and CMake files are there" all_is_there
story "nothing else is installed" nothing_else_is_there
story "every man page is installed" every_man_page_is_installed
story "every function has a man page" every_function_has_a_page
if have mandoc; then
    story "every installed man page renders" pages_render
else
    skip "every installed man page renders" "mandoc is not installed"
fi
story "header, pkg-config and CMake tell the same version" the_versions_agree
story "no path of the build is left in it" no_build_path_is_left
story "a C program, shared, by pkg-config" shared_by_pkg_config
story "a C program, static, by pkg-config" static_by_pkg_config
if have g++; then
    story "a C++ program, shared, by pkg-config" cxx_by_pkg_config
else
    skip "a C++ program, shared, by pkg-config" "g++ is not installed"
fi
if [ -e "$libdir/libpresence-cluster.so" ]; then
    story "a C program with libpresence-cluster, shared, by pkg-config" cluster_by_pkg_config
    story "a C program with libpresence-cluster, static" cluster_static
fi
story "the examples, shared, by make and pkg-config" examples_by_make shared
story "the examples, static, by make and pkg-config" examples_by_make static
story "the demo runs on the installed library" demo_runs
if have cmake; then
    story "a CMake project, shared and static" cmake_project "${version%.*}"
    story "CMake refuses a newer version than this" cmake_refuses 0.99
    story "CMake refuses another series" cmake_refuses 1.0
else
    skip "a CMake project, shared and static" "cmake is not installed"
fi
end_of_stories
