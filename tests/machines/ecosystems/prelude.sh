# What the scenarios of all ecosystems share. Each has a file with its own functions: version, prepare, ask, truth, made.
as_one() { setpriv --reuid one --regid one --clear-groups env HOME=/home/one "$@"; }
prepare() { :; }
# Puts a script before a program that makes a cache. It counts its runs.
counted() {
    mv "$1" "$1.real"
    printf '#!/bin/sh\necho run >> /srv/runs\nexec %s.real "$@"\n' "$1" > "$1"
    chmod 755 "$1"
}
runs() { cat /srv/runs 2>/dev/null | wc -l; }
# How many different files there were, so far, at a path that the program itself writes.
seen() {
    stat --format='%n %i %y' "$@" >> /srv/seen 2>/dev/null || true
    sort -u /srv/seen | wc -l
}
# Overwrites a file with another of the same size, and puts its mtime back.
swap() { # swap FILE [OTHER]
    touch --reference="$1" /srv/time
    size=$(stat --format=%s "$1")
    head --bytes="$size" "${2:-/dev/zero}" > /srv/other
    truncate --size="$size" /srv/other
    cat /srv/other > "$1"
    touch --reference=/srv/time "$1"
}
# Does something to a directory, and puts its mtime back.
unseen() { # unseen DIRECTORY COMMAND ...
    directory=$1
    shift
    touch --reference="$directory" /srv/time
    "$@"
    touch --reference=/srv/time "$directory"
}
# Makes the package “own” of a file as it is now.
pack() { # pack FILE
    tree=$(mktemp -d)
    mkdir -p "$tree/DEBIAN" "$tree/${1%/*}"
    find "$tree" -type d -exec chmod 755 {} +
    cp --preserve=timestamps "$1" "$tree/$1"
    printf 'Package: own\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a plug-in\n' \
        > "$tree/DEBIAN/control"
    dpkg-deb -Znone --root-owner-group --build "$tree" /srv/own.deb > /dev/null
}
# Moves a plug-in into the package “own”, and installs that.
own() { # own FILE
    pack "$1"
    rm "$1"
    dpkg --install --force-overwrite /srv/own.deb
}
# Runs a command, through `modstamp run` if there is one.
run() {
    if command -v modstamp > /dev/null; then
        modstamp run --profile "$profile" -- "$@"
    else
        "$@"
    fi
}
